//! Device
//!
//! Which devices, such as GPUs, this process and its children see. The runtime of each family of devices
//! reads that from environment variables. No other thread may change the environment while one of these
//! functions runs.
//!
//! Killed: Nothing: the environment is that of the process.
//!
//! ```c
//! char buf[64];
//! size_t len;
//! shoal_status status = shoal_device_resolve("cuda", "2,3", "1", buf, sizeof buf, &len);
//! assert(status == SHOAL_OK && strcmp(buf, "3") == 0);
//! ```

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use super::args::{self, Out};
use super::lease::{entries, line};
use super::status::{c_string, guard, guard_shielded, guard_text};
use crate::device::{self, EnvEdit};
use crate::error::Status;

/// What the variable of a device family must be for a child that is to see some devices.
///
/// `family`: "cuda", "rocm", ...; `shoal_device_family` lists them.
/// `inherited`: the value that the variable has now; NULL reads the environment of this process, with all
/// that counts for the family.
/// `logical`: the devices that the child is to see, counted in what `inherited` shows: "0,2", or unique
/// ids; "" hides all.
/// `buf`, `capacity`, `*len`: a text that ends with NUL, and its length without the NUL.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (`logical` is malformed, names what `inherited`
/// does not show, names a device twice or mixes kinds; `inherited` is malformed); SHOAL_ERR_UNSUPPORTED
/// (no value hides all of them); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
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
    guard(|| unsafe { args::text_to(buf, capacity, len, resolve) })
}

/// All that must change in the environment of this process, or of a child of it, for it to see some
/// devices. Changes nothing by itself.
///
/// `family`, `logical`: as for `shoal_device_resolve`; what is inherited is the environment.
/// `buf`, `capacity`: where the changes go, one after the other, each ended by a NUL: "NAME=value" sets a
/// variable, "NAME" removes it. One more NUL ends the last. `*len`: the length of it all without that NUL.
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
        Ok(entries(&edits).into_bytes())
    };
    // SAFETY: the caller's contract.
    guard(|| unsafe { args::text_to(buf, capacity, len, environment) })
}

/// The devices of a family that the environment of this process shows: "0,1", unique ids, "all" if nothing
/// restricts them, "none" if all are hidden.
///
/// `buf`, `capacity`, `*len`: as for `shoal_device_resolve`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (the variable is malformed);
/// SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
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
    guard(|| unsafe { args::text_to(buf, capacity, len, visible) })
}

/// The devices of this machine, whether or not the environment shows them: one line for each. Its fields are
/// separated by tabs; what is not known is "-", and more may follow in later versions:
///
/// 1. the unique id or bus address;
/// 2. the family;
/// 3. the place in the order of the family's runtime, from 0 on;
/// 4. the name;
/// 5. the memory, and 6. the part of it that no process uses, in bytes;
/// 7. the percentage of the last second, or of a shorter time, in which it was busy.
///
/// `family`: NULL is all. `buf`, `capacity`, `*len`: as for `shoal_device_resolve`.
/// It waits for a vendor's library, for at most 10 seconds or the time in SHOAL_NVML_TIMEOUT, in seconds.
///
/// Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (SHOAL_FAKE_DEVICES is malformed);
/// SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_discover(
    family: *const c_char,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let discover = || {
        // SAFETY: the caller's contract.
        let family = unsafe { args::text_or_null("family", family) }?;
        let found = device::discover(family)?.devices;
        let lines = found.iter().map(|it| line(it) + "\n");
        Ok(lines.collect::<String>().into_bytes())
    };
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { args::text_to(buf, capacity, len, discover) })
}

/// Makes this process itself see only some devices, by changing its environment. No other thread may use
/// the environment (getenv and setenv included) meanwhile: call it at the start of main.
///
/// `mask`: counted in what it sees now, so that a second call narrows further; "" hides all.
/// `*too_late`: whether the family's runtime was loaded already; it reads the variable once, when it starts.
///
/// Errors: as `shoal_device_resolve`; nothing is changed then.
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

/// The name of a device family, to list them all: 0, 1, ... until it is NULL. The string is constant.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_device_family(index: usize) -> *const c_char {
    let family = constants().get(index);
    family.map_or(std::ptr::null(), |(name, _)| name.as_ptr())
}

/// The environment variable that a family's runtime reads: "CUDA_VISIBLE_DEVICES" for "cuda". NULL if there
/// is no such family. The string is constant.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_device_variable(family: *const c_char) -> *const c_char {
    guard_text(|| {
        // SAFETY: the caller's contract.
        let family = device::family(unsafe { args::text("family", family) }?)?;
        let mut all = constants().iter();
        let found = all.find(|(name, _)| name.as_bytes() == family.name().as_bytes());
        Ok(found.map_or(std::ptr::null(), |(_, variable)| variable.as_ptr()))
    })
}

/// The name of each family and its variable, as C wants them.
fn constants() -> &'static [(CString, CString)] {
    static ALL: OnceLock<Vec<(CString, CString)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let text = |text: &str| c_string(text.to_owned());
        let both = |family: &device::Family| (text(family.name()), text(family.variable()));
        device::families().map(both).collect()
    })
}
