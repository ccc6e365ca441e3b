//! `shoal_rwlock`: shims over [`RwLock`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::lock::told;
use super::options::{self, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Result, Status};
use crate::primitives::RwLock;

/// A lock that many hold for reading, or one for writing.
pub struct RwLockHandle {
    _opaque: [u8; 0],
}

opaque!(
    RwLockHandle,
    Named<RwLock>,
    b"shl.rwlk",
    "read-write lock handle"
);

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn rwlock<'a>(l: *mut RwLockHandle) -> Result<&'a RwLock> {
    // SAFETY: the same contract.
    unsafe { handle::get(l) }.map(|named| &named.object)
}

/// Opens or creates a read-write lock.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a read-write lock under a name
/// of its own, which `shoal_rwlock_name` tells.
/// `options`: NULL opens what exists. There are no others.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_rwlock_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut RwLockHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, 0) }?.for_name(name);
        let object = RwLock::with_options(name, &given.options)?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of a read-write lock. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `l` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_free(l: *mut RwLockHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(l) });
}

/// The name to open it by in another process. NULL if `l` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_name(l: *mut RwLockHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(l) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a read-write lock. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { RwLock::unlink(args::text("name", name)?) })
}

/// Takes the lock for reading.
///
/// SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK. A writer died with it, and no
/// other has written since: what the lock guards may be half changed.
///
/// Blocking, threads, fork: waits while somebody writes or waits to, at most
/// `timeout_ns`. Safe everywhere; it is the handle that holds, not the thread.
///
/// Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_read(l: *mut RwLockHandle, timeout_ns: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let rwlock = unsafe { rwlock(l) }?;
        told(rwlock.read(args::timeout(timeout_ns))?)
    })
}

/// Gives back one hold for reading.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (this handle has none); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_release_read(l: *mut RwLockHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let rwlock = unsafe { rwlock(l) }?;
        rwlock.release_read()
    })
}

/// Takes the lock for writing.
///
/// SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK. A writer died with it, and no
/// other has written since: what the lock guards may be half changed.
///
/// Blocking, threads, fork: waits while anybody else reads or writes, at most
/// `timeout_ns`. Safe everywhere; it is the handle that holds, not the thread.
///
/// Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_write(l: *mut RwLockHandle, timeout_ns: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let rwlock = unsafe { rwlock(l) }?;
        told(rwlock.write(args::timeout(timeout_ns))?)
    })
}

/// Gives back the hold for writing.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (this handle has none); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_release_write(l: *mut RwLockHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let rwlock = unsafe { rwlock(l) }?;
        rwlock.release_write()
    })
}

/// How often the lock is held for reading, and whether it is for writing. The dead hold nothing: the
/// kernel is asked about each holder.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_holders(
    l: *mut RwLockHandle,
    readers: *mut u64,
    writer: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let readers = unsafe { Out::new("readers", readers) }?;
        // SAFETY: the caller's contract.
        let writer = unsafe { Out::new("writer", writer) }?;
        // SAFETY: the caller's contract.
        let rwlock = unsafe { rwlock(l) }?;
        let (reads, writes) = rwlock.holders()?;
        readers.set(reads);
        writer.set(writes);
        Ok(())
    })
}
