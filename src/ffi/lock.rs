//! `shoal_lock`: shims over [`Lock`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::options::{self, SHOAL_RECURSIVE, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Error, Result, Status};
use crate::primitives::{Acquisition, Lock};

/// A lock between processes and threads; recursive if it was made with SHOAL_RECURSIVE.
pub struct LockHandle {
    _opaque: [u8; 0],
}

opaque!(LockHandle, Named<Lock>, b"shl.lock", "lock handle");

/// # Safety
/// As [`handle::get`].
#[inline]
pub(super) unsafe fn lock<'a>(l: *mut LockHandle) -> Result<&'a Lock> {
    // SAFETY: the same contract.
    unsafe { handle::get(l) }.map(|named| &named.object)
}

/// Opens or creates a lock.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a lock under a name
/// of its own, which `shoal_lock_name` tells.
/// `options`: NULL opens what exists. SHOAL_RECURSIVE makes a lock that its owner may take again; what exists stays what it is.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_lock_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut LockHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, SHOAL_RECURSIVE) }?.for_name(name);
        let object = if given.has(SHOAL_RECURSIVE) {
            Lock::recursive(name, &given.options)
        } else {
            Lock::with_options(name, &given.options)
        }?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of a lock. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `l` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_free(l: *mut LockHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(l) });
}

/// The name to open it by in another process. NULL if `l` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_name(l: *mut LockHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(l) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a lock. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Lock::unlink(args::text("name", name)?) })
}

/// The news about a lock's last owner, as C has it: a status, with the lock held.
pub(super) fn told(taken: Acquisition) -> Result<()> {
    match taken {
        Acquisition::Clean => Ok(()),
        Acquisition::OwnerDied => Err(Error::OwnerDied),
    }
}

/// Takes a lock.
///
/// SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK, and must unlock it. Its last
/// owner died, or freed its handle, while it held it: what the lock guards may be half changed.
/// It is told once; unlocking says that all is well again.
///
/// ```c
/// shoal_status got = shoal_lock_lock(l, SHOAL_FOREVER);
/// if (got == SHOAL_ERR_OWNER_DIED)
///     mend();
/// if (got == SHOAL_OK || got == SHOAL_ERR_OWNER_DIED) {
///     work();
///     shoal_lock_unlock(l);
/// }
/// ```
///
/// Blocking, threads, fork: waits while somebody who lives has the lock, at most `timeout_ns`.
/// Safe everywhere. The owner is this handle in this process, and of a recursive lock the
/// calling thread.
///
/// Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_TOO_LARGE (a recursive lock, 2^32 times).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_lock(l: *mut LockHandle, timeout_ns: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        told(lock.acquire(args::timeout(timeout_ns))?)
    })
}

/// Takes a lock if it is free within a microsecond, or recursive and the calling thread's, without
/// a system call. The lock of a dead owner counts as taken: `shoal_lock_lock` finds that out, with SHOAL_NOWAIT too.
///
/// Blocking, threads, fork: never waits, and never asks the kernel. As for `shoal_lock_lock`.
///
/// Errors: SHOAL_ERR_TIMEOUT (it is taken); SHOAL_ERR_INVALID; SHOAL_ERR_TOO_LARGE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_try(l: *mut LockHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        told(lock.spin_acquire()?.ok_or(Error::Timeout)?)
    })
}

/// Gives a lock back: a plain one whoever took it, a recursive one by one level.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (nobody holds it; it is recursive and not the calling thread's).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_unlock(l: *mut LockHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        lock.release()
    })
}

/// Whether anybody has the lock; a dead owner counts until the next one comes.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_is_held(l: *mut LockHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        out.set(lock.is_held());
        Ok(())
    })
}

/// How often the calling thread has taken the lock by this handle; 0 if it has not.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_depth(l: *mut LockHandle, out: *mut u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        out.set(lock.depth()?);
        Ok(())
    })
}

/// Whether the lock is recursive.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_is_recursive(l: *mut LockHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let lock = unsafe { lock(l) }?;
        out.set(lock.is_recursive());
        Ok(())
    })
}
