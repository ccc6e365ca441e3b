//! Event
//!
//! A flag that is set or not, and that processes wait for. A new event is not set.
//!
//! Killed: The event is set or clear, as before the call or as after it. If it is set, all that wait for it
//! return, within a tenth of a second if the process was killed before it woke them.
//!
//! ```c
//! shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_event *ready;
//! if (shoal_event_open("ready", &options, &ready, NULL) == SHOAL_OK &&
//!     shoal_event_wait(ready, 1000000000) == SHOAL_ERR_TIMEOUT)
//!     fputs("not ready within a second\n", stderr);
//! ```

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::options::{self, SyncOptions};
use super::status::guard;
use crate::error::Status;
use crate::primitives::Event;

/// An event.
pub struct EventHandle {
    _opaque: [u8; 0],
}

opaque!(EventHandle, named Event, b"shl.evnt");

/// Opens or creates an event; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut EventHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        Event::with_options(name, &unsafe { options::sync(options, 0, name) }?.options)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_free(e: *mut EventHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(e) }
}

/// Sets the event, and wakes all that wait for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_set(e: *mut EventHandle) -> Status {
    let set = |event: &Event| {
        event.set();
        Ok(())
    };
    // SAFETY: the caller's contract.
    unsafe { handle::with(e, set) }
}

/// Clears the event: it is no longer set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_clear(e: *mut EventHandle) -> Status {
    let clear = |event: &Event| {
        event.clear();
        Ok(())
    };
    // SAFETY: the caller's contract.
    unsafe { handle::with(e, clear) }
}

/// Whether the event is set.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_is_set(e: *mut EventHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, event) = unsafe { (Out::new("out", out)?, object(e)?) };
        out.set(event.is_set());
        Ok(())
    })
}

/// Waits until the event is set, or was since the call began.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_event_wait(e: *mut EventHandle, timeout_ns: i64) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(e, |event: &Event| event.wait(args::timeout(timeout_ns))) }
}
