//! `shoal_barrier`: shims over [`Barrier`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::options::{self, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Result, Status};
use crate::primitives::Barrier;

/// A meeting point for a fixed number of processes or threads.
pub struct BarrierHandle {
    _opaque: [u8; 0],
}

opaque!(BarrierHandle, Named<Barrier>, b"shl.barr", "barrier handle");

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn barrier<'a>(b: *mut BarrierHandle) -> Result<&'a Barrier> {
    // SAFETY: the same contract.
    unsafe { handle::get(b) }.map(|named| &named.object)
}

/// Opens or creates a barrier.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a barrier under a name
/// of its own, which `shoal_barrier_name` tells.
/// `options`: NULL opens what exists. `count` is the number of parties of a new one, from 1 to 512.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_barrier_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut BarrierHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, 0) }?.for_name(name);
        let object = Barrier::with_options(name, given.count, &given.options)?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of a barrier. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `b` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_free(b: *mut BarrierHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(b) });
}

/// The name to open it by in another process. NULL if `b` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_name(b: *mut BarrierHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(b) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a barrier. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Barrier::unlink(args::text("name", name)?) })
}

/// Waits until all parties are there. `*index`: how many came before the caller.
///
/// Blocking, threads, fork: waits at most `timeout_ns`, and breaks the barrier then. Safe everywhere.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken: the time of one was up, or one died);
/// SHOAL_ERR_INTERRUPTED (the caller has not come); SHOAL_ERR_TIMEOUT (nor had it when those of the
/// round before had not yet left); SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_wait(
    b: *mut BarrierHandle,
    timeout_ns: i64,
    index: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let index = unsafe { Out::new("index", index) }?;
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        index.set(barrier.wait(args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// The first part of a wait, for those who wait piecewise, or do something before all go on.
/// `*last`: all are there, and the caller is to call `shoal_barrier_release`; otherwise
/// `shoal_barrier_sleep`. `*place` is for those.
///
/// Blocking, threads, fork: waits only while a full round has not ended, at most `timeout_ns`.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT;
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_arrive(
    b: *mut BarrierHandle,
    timeout_ns: i64,
    place: *mut u32,
    index: *mut u32,
    last: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let place = unsafe { Out::new("place", place) }?;
        // SAFETY: the caller's contract.
        let index = unsafe { Out::new("index", index) }?;
        // SAFETY: the caller's contract.
        let last = unsafe { Out::new("last", last) }?;
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        let arrived = barrier.arrive(args::timeout(timeout_ns))?;
        place.set(arrived.place);
        index.set(arrived.index);
        last.set(arrived.last);
        Ok(())
    })
}

/// For the last to come: lets all go on.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_POISONED (the barrier was broken meanwhile); SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_release(b: *mut BarrierHandle, place: u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        barrier.release(place)
    })
}

/// Sleeps until the barrier opens or breaks; the place is given up then.
///
/// Blocking, threads, fork: waits at most `timeout_ns`, and may be called again after that.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and
/// SHOAL_ERR_CLOSED (the caller still has its place); SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_sleep(
    b: *mut BarrierHandle,
    place: u32,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        barrier.sleep(place, args::timeout(timeout_ns))
    })
}

/// Gives up waiting, which breaks the barrier, unless all came meanwhile.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_give_up(b: *mut BarrierHandle, place: u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        barrier.give_up(place)
    })
}

/// Breaks the barrier, for those who wait and those who come.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_abort(b: *mut BarrierHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        barrier.abort()
    })
}

/// Makes a broken barrier whole. Those who wait are told that it is broken.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_reset(b: *mut BarrierHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        barrier.reset()
    })
}

/// Whether the barrier is broken.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_is_broken(b: *mut BarrierHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        out.set(barrier.is_broken());
        Ok(())
    })
}

/// How many wait. The dead do not count: the kernel is asked about each.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_waiting(b: *mut BarrierHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        out.set(barrier.waiting()? as u64);
        Ok(())
    })
}

/// How many meet here.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_parties(b: *mut BarrierHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let barrier = unsafe { barrier(b) }?;
        out.set(barrier.parties());
        Ok(())
    })
}
