//! Device masks: shims over [`crate::device`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::status::guard;
use crate::device::{self, EnvEdit};
use crate::error::{Error, Result, Status};

/// Runs a call that makes a text, and copies it out.
///
/// # Safety
/// As [`args::buffer`] and [`Out::new`].
unsafe fn text_to(
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
    text: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<()> {
    // SAFETY: the same contract.
    let len = unsafe { Out::new("len", len) }?;
    // SAFETY: the same contract.
    let buf = unsafe { args::buffer("buf", buf.cast(), capacity) }?;
    len.set_len(args::copy_text(&text()?, buf))
}

/// What the variable of a device family must be for a child that is to see some devices.
///
/// `family`: "cuda", "rocm", ...; `shoal_device_family_name` lists them.
/// `inherited`: the value the variable has now; NULL reads the environment of this process,
/// with all that counts for the family.
/// `logical`: the devices the child is to see, counted in what `inherited` shows: "0,2", or
/// unique ids; "" hides all.
/// `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
/// Blocking, threads, fork: never blocks. No other thread may change the environment while
/// it is read.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (`logical` is malformed, names what
/// `inherited` does not show, names a device twice or mixes kinds; or `inherited` makes no
/// sense); SHOAL_ERR_UNSUPPORTED (no value hides all of them); SHOAL_ERR_BUFFER_TOO_SMALL
/// (`*len` is the capacity needed, with the NUL).
///
/// ```c
/// char buf[64];
/// size_t len;
/// shoal_status status = shoal_device_resolve("cuda", "2,3", "1", buf, sizeof buf, &len);
/// assert(status == SHOAL_OK && strcmp(buf, "3") == 0);
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_resolve(
    family: *const c_char,
    inherited: *const c_char,
    logical: *const c_char,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let resolve = || {
        // SAFETY: the caller's contract.
        let family = unsafe { args::text("family", family) }?;
        // SAFETY: the caller's contract.
        let inherited = unsafe { args::text_or_null("inherited", inherited) }?;
        // SAFETY: the caller's contract.
        let logical = unsafe { args::text("logical", logical) }?;
        if inherited.is_some() {
            return Ok(device::resolve(family, inherited, logical)?.into_bytes());
        }
        let variable = device::family(family)?.variable();
        let edits = device::environment(family, logical, device::process_variable)?;
        let value = edits.into_iter().find_map(|edit| match edit {
            EnvEdit::Set(name, value) if name == variable => Some(value),
            _ => None,
        });
        Ok(value.unwrap_or_default().into_bytes())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { text_to(buf, capacity, len, resolve) })
}

/// All that must change in the environment of this process, or of a child of it, for it to see
/// some devices.
///
/// `family`, `logical`: as for `shoal_device_resolve`; what is inherited is the environment.
/// `buf`, `capacity`: where the changes go, one after the other, each ended by a NUL:
/// "NAME=value" sets a variable, "NAME" removes it. One more NUL ends the last. `*len`: the
/// length of it all without that last NUL.
/// Blocking, threads, fork: as `shoal_device_resolve`. Changes nothing by itself.
///
/// Errors: as `shoal_device_resolve`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_environment(
    family: *const c_char,
    logical: *const c_char,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let environment = || {
        // SAFETY: the caller's contract.
        let family = unsafe { args::text("family", family) }?;
        // SAFETY: the caller's contract.
        let logical = unsafe { args::text("logical", logical) }?;
        let edits = device::environment(family, logical, device::process_variable)?;
        let edits = edits.iter().map(|edit| match edit {
            EnvEdit::Set(name, value) => format!("{name}={value}\0"),
            EnvEdit::Unset(name) => format!("{name}\0"),
        });
        Ok(edits.collect::<String>().into_bytes())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { text_to(buf, capacity, len, environment) })
}

/// The environment variable that a family's runtime reads: "CUDA_VISIBLE_DEVICES" for "cuda".
///
/// `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the capacity
/// needed, with the NUL); SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_variable(
    family: *const c_char,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let variable = || {
        // SAFETY: the caller's contract.
        let family = unsafe { args::text("family", family) }?;
        Ok(device::family(family)?.variable().into())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { text_to(buf, capacity, len, variable) })
}

/// The name of a device family, to list them all: 0, 1, ... until SHOAL_ERR_NOT_FOUND.
///
/// `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_NOT_FOUND (there are no more); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
/// capacity needed, with the NUL); SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_family_name(
    index: usize,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let name = || {
        let family = device::families()
            .nth(index)
            .ok_or_else(|| Error::NotFound {
                what: "device family",
                name: index.to_string(),
            })?;
        Ok(family.name().into())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { text_to(buf, capacity, len, name) })
}

/// The devices of a family that the environment of this process shows: "0,1", unique ids,
/// "all" if nothing restricts them, "none" if all are hidden.
///
/// `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
/// Blocking, threads, fork: as `shoal_device_resolve`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (the variable makes no sense);
/// SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the capacity needed, with the NUL).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_visible(
    family: *const c_char,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let visible = || {
        // SAFETY: the caller's contract.
        let family = unsafe { args::text("family", family) }?;
        Ok(device::visible(family)?.to_string().into_bytes())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { text_to(buf, capacity, len, visible) })
}

/// Makes this process itself see only some devices, by changing its environment.
///
/// `mask`: counted in what it sees now, so two calls narrow twice; "" hides all.
/// `*too_late`: whether the family's runtime was loaded already; it reads the variable only
/// once, when it starts. NULL if you do not care.
/// Blocking, threads, fork: never blocks. No other thread may use the environment (getenv and
/// setenv included) meanwhile: call it first thing in main.
///
/// Errors: as `shoal_device_resolve`; nothing is changed then.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_set_visible(
    family: *const c_char,
    mask: *const c_char,
    too_late: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let too_late = unsafe { Out::optional("too_late", too_late) }?;
        // SAFETY: the caller's contract.
        let family = unsafe { args::text("family", family) }?;
        // SAFETY: the caller's contract.
        let mask = unsafe { args::text("mask", mask) }?;
        // SAFETY: the caller's contract: no other thread uses the environment.
        too_late.set(unsafe { device::set_visible(family, mask) }?);
        Ok(())
    })
}
