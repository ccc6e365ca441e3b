//! Forking, and hooks that run in both processes of every `fork`.

use super::once::Once;
use crate::error::{Error, Result};

/// Registers the three handlers for good, if `once` says that they are not. A failure is the
/// caller's error, and the next caller tries again: nobody goes on without the handlers.
///
/// `prepare` runs in the parent before the fork, `parent` and `child` after it in the thread
/// that forked. `child` may make system calls but must not allocate or take a lock that
/// `prepare` does not hold: other threads may have held it at the moment of the fork.
pub(crate) fn at_fork(
    once: &Once,
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> Result<()> {
    once.run(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded while
        // a handle exists, and need no argument.
        match unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
            0 => Ok(()),
            errno => Err(Error::Os {
                call: "pthread_atfork",
                errno,
            }),
        }
    })
}

/// Which of the two processes after a fork this is.
pub(crate) enum Side {
    Child,
    /// With the child's pid.
    Parent(libc::pid_t),
}

/// Copies this process.
///
/// # Safety
///
/// Only the calling thread exists in the child. It touches nothing that another thread may
/// have locked or left half-changed.
pub(crate) unsafe fn fork() -> Result<Side> {
    // SAFETY: the caller's contract.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os("fork")),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Writes out what C's streams hold.
pub(crate) fn flush() {
    // SAFETY: a null stream stands for all of them.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Makes `pid`, or with 0 this process, the leader of a group of its own. Fails only where
/// the other side of the fork was first.
pub(crate) fn lead_group(pid: libc::pid_t) {
    // SAFETY: integers only.
    unsafe { libc::setpgid(pid, pid) };
}

/// Dies when the thread that forked this process does, or now if `parent` is gone.
pub(crate) fn die_with(parent: u32) {
    // SAFETY: integers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It may have died before the line above took effect.
        if libc::getppid().cast_unsigned() != parent {
            libc::raise(libc::SIGKILL);
        }
    }
}
