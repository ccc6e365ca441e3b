//! Forking, and hooks that run in both processes of every `fork`.

use std::cell::{Cell, UnsafeCell};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::cancel::Shield;
use super::once::Once;
use crate::error::{Error, Result};

/// Registers the three handlers for good, if `once` says that they are not. A failure is the
/// caller's error, and the next caller tries again: no caller goes on without the handlers.
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

/// Forks wait for readers, and the other way round.
static FORKS: RwLock<()> = RwLock::new(());

thread_local! {
    /// How often the calling thread holds off forks.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The other threads of this process do not fork while this lives. Belongs to its thread; of several, the
/// last one made goes first.
pub(crate) struct ForksHeldOff {
    /// None within another one: a thread that took the lock twice could wait for a fork that waits for
    /// the first.
    lock: Option<RwLockReadGuard<'static, ()>>,
}

impl Drop for ForksHeldOff {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        debug_assert!(self.lock.is_none() || DEPTH.get() == 0);
    }
}

/// Keeps the other threads of this process from forking, for as long as the result lives.
///
/// For descriptors that must not be copied into a child that has nothing to do with them.
/// The calling thread must not fork meanwhile, so its signals are blocked. It does not keep
/// off a thread that makes processes without the handlers of `fork`, as `vfork` and
/// `posix_spawn` do: what these make executes a program, which closes the copies.
pub(crate) fn hold_off() -> Result<ForksHeldOff> {
    static ONCE: Once = Once::new();
    at_fork(&ONCE, begin, end, end)?;
    let is_first = DEPTH.get() == 0;
    let lock = is_first.then(|| FORKS.read().unwrap_or_else(PoisonError::into_inner));
    DEPTH.set(DEPTH.get() + 1);
    Ok(ForksHeldOff { lock })
}

/// Whether the calling thread does so already, with its signals blocked.
pub(crate) fn is_held_off() -> bool {
    DEPTH.get() > 0
}

/// The lock, from before a fork to after it, in both processes.
struct ForkLock(UnsafeCell<Option<RwLockWriteGuard<'static, ()>>>);

// SAFETY: touched only between the handlers of one fork, by the thread that forks, while it
// holds the lock.
unsafe impl Sync for ForkLock {}

static FORK_LOCK: ForkLock = ForkLock(UnsafeCell::new(None));

unsafe extern "C" fn begin() {
    let guard = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: see `ForkLock`: the lock is ours.
    unsafe { *FORK_LOCK.0.get() = Some(guard) };
}

unsafe extern "C" fn end() {
    // SAFETY: see `ForkLock`: the lock is ours until the guard is dropped here.
    unsafe { drop((*FORK_LOCK.0.get()).take()) };
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
    let _shield = Shield::new();
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
