//! Barrier
//!
//! A point at which a fixed number of processes or threads wait for each other. It breaks when one of them
//! stops waiting or dies: then all that wait and all that arrive get SHOAL_ERR_POISONED, until it is reset.
//!
//! Killed: A process that is killed after it has arrived, and before all have, breaks the barrier for the
//! others.
//!
//! ```c
//! shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE, .count = 3};
//! shoal_barrier *start;
//! if (shoal_barrier_open("start", &options, &start, NULL) == SHOAL_OK &&
//!     shoal_barrier_wait(start, SHOAL_FOREVER, NULL) == SHOAL_OK)
//!     puts("all three are here");
//! ```

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::options::{self, SyncOptions, sized};
use super::status::guard;
use crate::error::Status;
use crate::primitives::Barrier;

/// A barrier.
pub struct BarrierHandle {
    _opaque: [u8; 0],
}

opaque!(BarrierHandle, named Barrier, b"shl.barr");

/// Statistics of a barrier.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BarrierStats {
    /// `sizeof(shoal_barrier_stats)`.
    pub size: usize,
    /// How many wait for each other.
    pub parties: u64,
    /// How many wait. Dead processes do not count.
    pub waiting: u64,
    /// Whether it is broken.
    pub broken: bool,
}

sized!(BarrierStats, "shoal_barrier_stats.size", 32);

/// Opens or creates a barrier; see "Opening". `count` of the options is the number of parties of a new
/// one, from 1 to 512.
///
/// Errors: SHOAL_ERR_TOO_LARGE (`count`).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut BarrierHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        let given = unsafe { options::counted(options, 0, name) }?;
        Barrier::with_options(name, given.count, &given.options)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_free(b: *mut BarrierHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(b) }
}

/// Fills in statistics; see "Statistics". Asks the kernel about each waiting process.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_stat(
    b: *mut BarrierHandle,
    out: *mut BarrierStats,
) -> Status {
    let stats = |barrier: &Barrier| {
        Ok(BarrierStats {
            size: size_of::<BarrierStats>(),
            parties: barrier.parties(),
            waiting: barrier.waiting()? as u64,
            broken: barrier.is_broken(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(b, out, stats) }
}

/// Waits until all parties have arrived. A caller that times out before that breaks the barrier.
///
/// `*index`: how many arrived before the caller.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_INTERRUPTED (the caller does not count as
/// arrived); SHOAL_ERR_TIMEOUT (the same: the waiters of the previous round had not left in time).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_wait(
    b: *mut BarrierHandle,
    timeout_ns: i64,
    index: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (index, barrier) = unsafe { (Out::optional("index", index)?, object(b)?) };
        index.set(barrier.wait(args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// Breaks the barrier: waits at it, and later arrivals, fail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_abort(b: *mut BarrierHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, Barrier::abort) }
}

/// Makes a broken barrier usable again. Threads that wait at it get SHOAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_reset(b: *mut BarrierHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, Barrier::reset) }
}
