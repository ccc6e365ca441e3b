//! `shoal_event`: shims over [`Event`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::options::{self, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Result, Status};
use crate::primitives::Event;

/// Something that has happened or not, which processes wait for.
pub struct EventHandle {
    _opaque: [u8; 0],
}

opaque!(EventHandle, Named<Event>, b"shl.evnt", "event handle");

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn event<'a>(e: *mut EventHandle) -> Result<&'a Event> {
    // SAFETY: the same contract.
    unsafe { handle::get(e) }.map(|named| &named.object)
}

/// Opens or creates an event.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates an event under a name
/// of its own, which `shoal_event_name` tells.
/// `options`: NULL opens what exists. A new event is not set.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_event_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut EventHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, 0) }?.for_name(name);
        let object = Event::with_options(name, &given.options)?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of an event. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `e` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_free(e: *mut EventHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(e) });
}

/// The name to open it by in another process. NULL if `e` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_name(e: *mut EventHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(e) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of an event. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Event::unlink(args::text("name", name)?) })
}

/// Sets the event and wakes all who wait for it.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_set(e: *mut EventHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let event = unsafe { event(e) }?;
        event.set();
        Ok(())
    })
}

/// The event is no longer set.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_clear(e: *mut EventHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let event = unsafe { event(e) }?;
        event.clear();
        Ok(())
    })
}

/// Whether the event is set.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_is_set(e: *mut EventHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let event = unsafe { event(e) }?;
        out.set(event.is_set());
        Ok(())
    })
}

/// Waits until the event is set, or was since the call began.
///
/// Blocking, threads, fork: waits at most `timeout_ns`. Safe everywhere.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_wait(e: *mut EventHandle, timeout_ns: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let event = unsafe { event(e) }?;
        event.wait(args::timeout(timeout_ns))
    })
}
