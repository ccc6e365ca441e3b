//! Read-write lock
//!
//! A lock that many hold for reading, or one for writing. While a writer waits, new readers wait as well.
//!
//! Killed: What the process held is free. If it held the lock for writing, `*owner_died` reports this to the
//! next process that takes it.
//!
//! ```c
//! shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_rwlock *table;
//! if (shoal_rwlock_open("table", &options, &table, NULL) == SHOAL_OK &&
//!     shoal_rwlock_lock_read(table, SHOAL_FOREVER, NULL) == SHOAL_OK) {
//!     look_up();
//!     shoal_rwlock_unlock_read(table);
//! }
//! ```

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::lock::acquired;
use super::options::{self, SyncOptions, sized};
use super::status::guard;
use crate::error::Status;
use crate::primitives::RwLock;

/// A read-write lock.
pub struct RwLockHandle {
    _opaque: [u8; 0],
}

opaque!(RwLockHandle, named RwLock, b"shl.rwlk");

/// Statistics of a read-write lock. What dead processes held does not count.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RwLockStats {
    /// `sizeof(shoal_rwlock_stats)`.
    pub size: usize,
    /// How often it is held for reading.
    pub readers: u64,
    /// Whether it is held for writing.
    pub writer: bool,
}

sized!(RwLockStats, "shoal_rwlock_stats.size", 24);

/// Opens or creates a read-write lock; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut RwLockHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        RwLock::with_options(name, &unsafe { options::sync(options, 0, name) }?.options)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing". A lock that the handle holds is treated as that of a dead owner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_free(l: *mut RwLockHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(l) }
}

/// Fills in statistics; see "Statistics". Asks the kernel about each holder.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_stat(l: *mut RwLockHandle, out: *mut RwLockStats) -> Status {
    let stats = |rwlock: &RwLock| {
        let (readers, writer) = rwlock.holders()?;
        Ok(RwLockStats {
            size: size_of::<RwLockStats>(),
            readers,
            writer,
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(l, out, stats) }
}

/// Takes the lock for reading. The handle holds it, not the thread.
///
/// `*owner_died`: see "Locks". A writer died with the lock, and no other has written since.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_lock_read(
    l: *mut RwLockHandle,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let owner_died = unsafe { Out::optional("owner_died", owner_died) }?;
        // SAFETY: the caller's contract.
        let rwlock = unsafe { object(l) }?;
        acquired(rwlock.read(args::timeout(timeout_ns))?, &owner_died)
    })
}

/// Takes the lock for writing. The handle holds it, not the thread.
///
/// `*owner_died`: as for `shoal_rwlock_lock_read`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_lock_write(
    l: *mut RwLockHandle,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let owner_died = unsafe { Out::optional("owner_died", owner_died) }?;
        // SAFETY: the caller's contract.
        let rwlock = unsafe { object(l) }?;
        acquired(rwlock.write(args::timeout(timeout_ns))?, &owner_died)
    })
}

/// Unlocks once what was locked for reading.
///
/// Errors: SHOAL_ERR_INVALID (this handle has none).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_unlock_read(l: *mut RwLockHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, RwLock::release_read) }
}

/// Unlocks what was locked for writing. This declares the data consistent: no death of an earlier writer is
/// reported to the next readers and writers.
///
/// Errors: SHOAL_ERR_INVALID (this handle does not have it).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_rwlock_unlock_write(l: *mut RwLockHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, RwLock::release_write) }
}
