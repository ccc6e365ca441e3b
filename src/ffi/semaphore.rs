//! `shoal_semaphore`: shims over [`Semaphore`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::options::{self, SHOAL_BOUNDED, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Result, Status};
use crate::primitives::Semaphore;

/// A number of permits that processes take and release; those of the dead return.
pub struct SemaphoreHandle {
    _opaque: [u8; 0],
}

opaque!(
    SemaphoreHandle,
    Named<Semaphore>,
    b"shl.sema",
    "semaphore handle"
);

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn semaphore<'a>(s: *mut SemaphoreHandle) -> Result<&'a Semaphore> {
    // SAFETY: the same contract.
    unsafe { handle::get(s) }.map(|named| &named.object)
}

/// Opens or creates a semaphore.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a semaphore under a name
/// of its own, which `shoal_semaphore_name` tells.
/// `options`: NULL opens what exists. `count` is the number of permits of a new one; with SHOAL_BOUNDED there are never more.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_semaphore_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut SemaphoreHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, SHOAL_BOUNDED) }?.for_name(name);
        let object = if given.has(SHOAL_BOUNDED) {
            Semaphore::bounded(name, given.count, &given.options)
        } else {
            Semaphore::with_options(name, given.count, &given.options)
        }?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of a semaphore. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `s` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_free(s: *mut SemaphoreHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(s) });
}

/// The name to open it by in another process. NULL if `s` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_name(s: *mut SemaphoreHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(s) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a semaphore. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Semaphore::unlink(args::text("name", name)?) })
}

/// Takes a permit. It returns by itself when this process ends, but for `shoal_semaphore_keep`.
///
/// Blocking, threads, fork: waits while there is none, at most `timeout_ns`. Safe everywhere.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_acquire(
    s: *mut SemaphoreHandle,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let semaphore = unsafe { semaphore(s) }?;
        semaphore.acquire(args::timeout(timeout_ns))
    })
}

/// Releases permits: this process's own first, then those of others; if nobody has any, new ones.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (it is bounded and was released more often than acquired);
/// SHOAL_ERR_TOO_LARGE (more than 2^31 - 1); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_release(s: *mut SemaphoreHandle, count: u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let semaphore = unsafe { semaphore(s) }?;
        semaphore.release(count)
    })
}

/// Leaves the permits that this process holds taken after its end, or that of the handle: they are
/// nobody's from now on, until somebody releases them. What it acquires later returns as ever.
/// To be called at the end of a process that ends well, where permits count items.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_keep(s: *mut SemaphoreHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let semaphore = unsafe { semaphore(s) }?;
        semaphore.keep()
    })
}

/// How many permits this process holds: acquired through this handle, and neither released nor
/// kept.
///
/// Blocking, threads, fork: never waits; safe everywhere. A forked child begins with none.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_held(s: *mut SemaphoreHandle, out: *mut u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let semaphore = unsafe { semaphore(s) }?;
        out.set(semaphore.held()?);
        Ok(())
    })
}

/// How many permits can be had now, those of the dead among them: the kernel is asked about each
/// holder.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_value(s: *mut SemaphoreHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let semaphore = unsafe { semaphore(s) }?;
        out.set(semaphore.available()?);
        Ok(())
    })
}
