//! Lock
//!
//! A lock between processes and threads. Its owner is a handle in a process, and of a recursive lock also
//! the calling thread. There is no order of arrival: the first process that tries gets the lock. A waiter that
//! was passed over is served next, so none starves.
//!
//! Killed: If the process had the lock, the lock is free, and `*owner_died` reports this to the next process
//! that takes it.
//!
//! ```c
//! shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_lock *lock;
//! bool owner_died;
//! if (shoal_lock_open("ledger", &options, &lock, NULL) == SHOAL_OK &&
//!     shoal_lock_lock(lock, SHOAL_FOREVER, &owner_died) == SHOAL_OK) {
//!     if (owner_died)
//!         check_the_ledger();
//!     work_on_the_ledger();
//!     shoal_lock_unlock(lock);
//! }
//! ```

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::options::{self, SyncOptions, sized};
use super::status::guard;
use crate::error::{Result, Status};
use crate::primitives::{Acquisition, Lock};

/// A lock.
pub struct LockHandle {
    _opaque: [u8; 0],
}

opaque!(LockHandle, named Lock, b"shl.lock");

/// In `shoal_sync_options.flags`: a created lock is recursive.
pub const SHOAL_RECURSIVE: u64 = 8;

/// Statistics of a lock.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LockStats {
    /// `sizeof(shoal_lock_stats)`.
    pub size: usize,
    /// How often the calling thread has taken it by this handle.
    pub depth: u32,
    /// Whether it is taken. The lock of a dead owner counts as taken until the next owner takes it.
    pub held: bool,
    /// Whether it is recursive.
    pub recursive: bool,
}

sized!(LockStats, "shoal_lock_stats.size", 16);

/// Reports whether the last owner of the lock that was taken died with it.
pub(super) fn acquired(acquired: Acquisition, owner_died: &Out<bool>) -> Result<()> {
    owner_died.set(acquired == Acquisition::OwnerDied);
    Ok(())
}

/// Opens or creates a lock; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut LockHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, SHOAL_RECURSIVE, name) }?;
        match given.flag {
            true => Lock::recursive(name, &given.options),
            false => Lock::with_options(name, &given.options),
        }
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing". A lock that it has is treated as that of a dead owner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_free(l: *mut LockHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(l) }
}

/// Fills in statistics; see "Statistics".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_stat(l: *mut LockHandle, out: *mut LockStats) -> Status {
    let stats = |lock: &Lock| {
        Ok(LockStats {
            size: size_of::<LockStats>(),
            depth: lock.depth()?,
            held: lock.is_held(),
            recursive: lock.is_recursive(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(l, out, stats) }
}

/// Takes the lock.
///
/// `*owner_died`: see "Locks".
///
/// Errors: SHOAL_ERR_TOO_LARGE (a recursive lock, 2^32 times).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_lock(
    l: *mut LockHandle,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (owner_died, lock) = unsafe { (Out::optional("owner_died", owner_died)?, object(l)?) };
        acquired(lock.acquire(args::timeout(timeout_ns))?, &owner_died)
    })
}

/// Unlocks it: a plain lock from any thread of the process that took it, a recursive lock by one level.
///
/// Errors: SHOAL_ERR_INVALID (it is not taken; another handle or process has it; it is recursive and not the
/// calling thread's).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_unlock(l: *mut LockHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, Lock::release) }
}
