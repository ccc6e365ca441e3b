//! Semaphore
//!
//! Permits that processes acquire and release. The permits of a dead process are released. There is no order of
//! arrival: the first process that tries gets a permit. A waiter that was passed over is served next, so none
//! starves.
//!
//! Killed: Permits that the process had acquired are released, except those that it keeps by
//! `shoal_semaphore_keep`.
//!
//! ```c
//! shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE, .count = 4};
//! shoal_semaphore *slots;
//! if (shoal_semaphore_open("slots", &options, &slots, NULL) == SHOAL_OK &&
//!     shoal_semaphore_acquire(slots, SHOAL_FOREVER) == SHOAL_OK) {
//!     work();
//!     shoal_semaphore_release(slots, 1);
//! }
//! ```

use std::ffi::c_char;

use super::args;
use super::handle::{self, opaque};
use super::options::{self, SyncOptions, sized};
use crate::error::Status;
use crate::primitives::Semaphore;

/// A semaphore.
pub struct SemaphoreHandle {
    _opaque: [u8; 0],
}

opaque!(SemaphoreHandle, named Semaphore, b"shl.sema");

/// In `shoal_sync_options.flags`: a created semaphore never has more permits than `count`.
pub const SHOAL_BOUNDED: u64 = 16;

/// Statistics of a semaphore.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SemaphoreStats {
    /// `sizeof(shoal_semaphore_stats)`.
    pub size: usize,
    /// Permits that can be acquired now, including those of dead processes.
    pub value: u64,
    /// Permits that this process has acquired through this handle and not released. A forked child
    /// begins with none.
    pub held: u64,
}

sized!(SemaphoreStats, "shoal_semaphore_stats.size", 24);

/// Opens or creates a semaphore; see "Opening".
///
/// Errors: SHOAL_ERR_TOO_LARGE (`count`).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut SemaphoreHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        let given = unsafe { options::counted(options, SHOAL_BOUNDED, name) }?;
        match given.flag {
            true => Semaphore::bounded(name, given.count, &given.options),
            false => Semaphore::with_options(name, given.count, &given.options),
        }
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing". Permits that it has acquired are released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_free(s: *mut SemaphoreHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(s) }
}

/// Fills in statistics; see "Statistics". Asks the kernel about each holder.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_stat(
    s: *mut SemaphoreHandle,
    out: *mut SemaphoreStats,
) -> Status {
    let stats = |semaphore: &Semaphore| {
        Ok(SemaphoreStats {
            size: size_of::<SemaphoreStats>(),
            value: semaphore.available()?,
            held: semaphore.held()?.into(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(s, out, stats) }
}

/// Acquires a permit, and waits for one if there is none.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_acquire(
    s: *mut SemaphoreHandle,
    timeout_ns: i64,
) -> Status {
    // SAFETY: the caller's contract.
    unsafe {
        handle::with(s, |semaphore: &Semaphore| {
            semaphore.acquire(args::timeout(timeout_ns))
        })
    }
}

/// Releases permits: this process's own first, then those of others; if no process has any, new ones.
///
/// Errors: SHOAL_ERR_INVALID (it is bounded, and all permits are released); SHOAL_ERR_TOO_LARGE (more than
/// 2^31 - 1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_release(s: *mut SemaphoreHandle, count: u32) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(s, |semaphore: &Semaphore| semaphore.release(count)) }
}
