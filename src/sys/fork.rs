//! Forking, and hooks that run in both processes of every `fork`.

use std::cell::{Cell, UnsafeCell};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::cancel::Shield;
use super::once::Once;
use crate::error::{Error, Result};

/// Registers the three handlers permanently, once. If that fails, the caller gets the error, and the next caller
/// tries again: no caller continues without the handlers.
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

/// Forks take it for writing, and so wait for readers.
static FORKS: RwLock<()> = RwLock::new(());

thread_local! {
    /// How many times the calling thread holds off forks.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, the other threads of this process do not fork. Belongs to its thread; several are
/// dropped in reverse order.
pub(crate) struct ForksHeldOff {
    /// `None` if the thread already has one: taking the lock twice could deadlock with a waiting fork.
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
/// For descriptors that must not be copied into an unrelated child. The calling thread must not fork
/// meanwhile, so its signals are blocked. This does not stop processes that are made without the handlers of
/// `fork`, as by `vfork` and `posix_spawn`: those execute a program, which closes the copies.
pub(crate) fn hold_off() -> Result<ForksHeldOff> {
    static ONCE: Once = Once::new();
    at_fork(&ONCE, begin, end, end)?;
    let is_first = DEPTH.get() == 0;
    let lock = is_first.then(|| FORKS.read().unwrap_or_else(PoisonError::into_inner));
    DEPTH.set(DEPTH.get() + 1);
    Ok(ForksHeldOff { lock })
}

/// Whether the calling thread already holds off forks, with its signals blocked.
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
    // SAFETY: see `ForkLock`: this thread has the lock.
    unsafe { *FORK_LOCK.0.get() = Some(guard) };
}

unsafe extern "C" fn end() {
    // SAFETY: see `ForkLock`: this thread has the lock until the guard is dropped here.
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
/// Only the calling thread exists in the child. It must not use anything that another thread may have locked
/// or half changed.
pub(crate) unsafe fn fork() -> Result<Side> {
    // SAFETY: the caller's contract.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os("fork")),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Flushes the C library's streams.
pub(crate) fn flush() {
    let _shield = Shield::new();
    // SAFETY: a null stream stands for all of them.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Makes `pid`, or with 0 this process, the leader of a group of its own. Fails only if the other side of the
/// fork was first.
pub(crate) fn lead_group(pid: libc::pid_t) {
    // SAFETY: integers only.
    unsafe { libc::setpgid(pid, pid) };
}

/// Makes the kernel kill this process when the thread that forked it ends, or now if `parent` has ended.
pub(crate) fn die_with(parent: u32) {
    // SAFETY: integers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The parent may have ended before the line above took effect.
        if libc::getppid().cast_unsigned() != parent {
            libc::raise(libc::SIGKILL);
        }
    }
}
