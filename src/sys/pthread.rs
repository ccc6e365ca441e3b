//! The robust, process-shared mutex of the C library.
//!
//! Robust means that the kernel tells the next locker when the owner died holding it, by
//! whatever cause, within microseconds and without any timer.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::error::{Error, Result};

use super::clock;

unsafe extern "C" {
    // glibc 2.30; not in the `libc` crate. A deadline on the monotonic clock.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> libc::c_int;
}

/// Bytes a mutex takes. Part of the layout stamp, since C libraries differ.
pub(crate) const SIZE: usize = size_of::<libc::pthread_mutex_t>();

/// What an attempt to lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Locked.
    Held,
    /// Locked; the previous owner died holding it.
    OwnerDied,
    /// Somebody else holds it.
    Busy,
    /// Somebody gave up on repairing what it guards.
    NotRecoverable,
    /// The calling thread holds it already.
    Deadlock,
}

#[inline]
fn attempt(rc: libc::c_int) -> Result<Attempt> {
    match rc {
        0 => Ok(Attempt::Held),
        _ => not_held(rc),
    }
}

#[cold]
fn not_held(rc: libc::c_int) -> Result<Attempt> {
    Ok(match rc {
        libc::EOWNERDEAD => Attempt::OwnerDied,
        libc::EBUSY | libc::ETIMEDOUT => Attempt::Busy,
        libc::ENOTRECOVERABLE => Attempt::NotRecoverable,
        libc::EDEADLK => Attempt::Deadlock,
        errno => {
            return Err(Error::Os {
                call: "pthread_mutex_lock",
                errno,
            });
        }
    })
}

/// # Safety
/// `mutex` points to [`SIZE`] writable bytes, aligned to 8, that nobody uses as a mutex yet.
pub(crate) unsafe fn init(mutex: *mut libc::pthread_mutex_t) -> Result<()> {
    let check = |rc: libc::c_int| match rc {
        0 => Ok(()),
        errno => Err(Error::Os {
            call: "pthread_mutex_init",
            errno,
        }),
    };
    let mut attr = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let attr = attr.as_mut_ptr();
    // SAFETY: `attr` is a place for an attribute object; it is initialised first, used while
    // it lives, and destroyed last. `mutex` is the caller's.
    unsafe {
        check(libc::pthread_mutexattr_init(attr))?;
        check(libc::pthread_mutexattr_setpshared(
            attr,
            libc::PTHREAD_PROCESS_SHARED,
        ))?;
        check(libc::pthread_mutexattr_setrobust(
            attr,
            libc::PTHREAD_MUTEX_ROBUST,
        ))?;
        check(libc::pthread_mutexattr_settype(
            attr,
            libc::PTHREAD_MUTEX_ERRORCHECK,
        ))?;
        check(libc::pthread_mutex_init(mutex, attr))?;
        libc::pthread_mutexattr_destroy(attr);
    }
    Ok(())
}

/// # Safety
/// `mutex` was initialised by [`init`], maybe by another process, and stays mapped.
#[inline]
pub(crate) unsafe fn try_lock(mutex: *mut libc::pthread_mutex_t) -> Result<Attempt> {
    // SAFETY: the caller's contract.
    attempt(unsafe { libc::pthread_mutex_trylock(mutex) })
}

/// Waits until `until_ns` of [`clock::now_ns`]; `Busy` when that has passed.
///
/// # Safety
/// As for [`try_lock`].
pub(crate) unsafe fn lock_until(
    mutex: *mut libc::pthread_mutex_t,
    until_ns: u64,
) -> Result<Attempt> {
    let until = clock::timespec(until_ns);
    // SAFETY: the caller's contract; `until` is a valid timespec.
    attempt(unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &until) })
}

/// Declares the guarded state repaired. Without it, unlocking makes the mutex useless.
///
/// # Safety
/// As for [`try_lock`]; the calling thread holds the mutex after [`Attempt::OwnerDied`].
pub(crate) unsafe fn consistent(mutex: *mut libc::pthread_mutex_t) {
    // SAFETY: the caller's contract. It fails only for a mutex not in that state.
    unsafe { libc::pthread_mutex_consistent(mutex) };
}

/// Whether the mutex looks taken, without touching its cache line for writing.
///
/// A hint for spinning only. Both glibc and musl keep the owner's thread id in the word
/// that [`init`] leaves zero, at these offsets; a wrong answer costs a try, nothing else.
///
/// # Safety
/// As for [`try_lock`].
#[inline]
pub(crate) unsafe fn looks_taken(mutex: *mut libc::pthread_mutex_t) -> bool {
    const OWNER: usize = if cfg!(target_env = "musl") { 4 } else { 0 };
    // SAFETY: the word lies inside the mutex and is aligned; it is read atomically.
    let word = unsafe { AtomicI32::from_ptr(mutex.byte_add(OWNER).cast::<i32>()) };
    // Bit 30 says that the owner died: such a mutex is there for the taking.
    let owner = word.load(Ordering::Relaxed);
    owner != 0 && owner & 0x4000_0000 == 0
}
