//! `shoal_condition`: shims over [`Condition`].

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::lock::{LockHandle, lock, told};
use super::options::{self, SyncOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Error, Result, Status};
use crate::primitives::Condition;

/// Waiting for a change of something that a `shoal_lock` guards.
pub struct ConditionHandle {
    _opaque: [u8; 0],
}

opaque!(
    ConditionHandle,
    Named<Condition>,
    b"shl.cond",
    "condition handle"
);

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn condition<'a>(c: *mut ConditionHandle) -> Result<&'a Condition> {
    // SAFETY: the same contract.
    unsafe { handle::get(c) }.map(|named| &named.object)
}

/// Opens or creates a condition.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a condition under a name
/// of its own, which `shoal_condition_name` tells.
/// `options`: NULL opens what exists. The lock is named with each wait.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_condition_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut ConditionHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::sync(options, 0) }?.for_name(name);
        let object = Condition::with_options(name, &given.options)?;
        out.set(handle::new(Named::new(object, |object| object.name())));
        Ok(())
    })
}

/// Lets go of a condition. The last handle of all processes removes it, unless it is persistent.
/// What this handle held is held by the dead from then on.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `c` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_free(c: *mut ConditionHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(c) });
}

/// The name to open it by in another process. NULL if `c` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_name(c: *mut ConditionHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(c) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a condition. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Condition::unlink(args::text("name", name)?) })
}

/// Lets go of `l`, which the caller has, waits until notified, and takes it again: a recursive
/// one as often as before. **The lock is held again whatever the status**, but for
/// SHOAL_ERR_INVALID and SHOAL_ERR_EXHAUSTED, which change nothing, and for SHOAL_ERR_CLOSED if it
/// was the waits through the lock's handle that were ended. SHOAL_ERR_OWNER_DIED is about the lock,
/// as for `shoal_lock_lock`; look at what you wait for then.
///
/// Blocking, threads, fork: waits at most `timeout_ns` to be notified, and then for the lock.
/// Safe everywhere; all waiters of a condition use the same lock.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_OWNER_DIED; SHOAL_ERR_CLOSED (see
/// `shoal_end_waits`); SHOAL_ERR_INVALID (also: the lock is not held); SHOAL_ERR_EXHAUSTED (a thousand
/// wait already); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_wait(
    c: *mut ConditionHandle,
    l: *mut LockHandle,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        // SAFETY: the caller's contract.
        let wake = condition.wait(unsafe { lock(l) }?, args::timeout(timeout_ns))?;
        told(wake.taken)?;
        match wake.notified {
            true => Ok(()),
            false => Err(Error::Timeout),
        }
    })
}

/// Wakes at most `count` of those who wait, the longest waiting first. The dead are passed over.
/// Call it with the lock held, or a change may slip between a waiter's look and its wait.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_notify(c: *mut ConditionHandle, count: u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        condition.notify(count)
    })
}

/// Wakes all who wait.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_notify_all(c: *mut ConditionHandle) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        condition.notify_all()
    })
}

/// How many wait and have not been notified. The dead do not count: the kernel is asked about each.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_waiting(c: *mut ConditionHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        out.set(condition.waiting()? as u64);
        Ok(())
    })
}

/// The first part of a wait, for those who wait piecewise, such as bindings that look after
/// signals: takes a place, with the lock held. Then unlock, `shoal_condition_sleep`, lock, and
/// `shoal_condition_leave`.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_EXHAUSTED; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_enlist(
    c: *mut ConditionHandle,
    place: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let place = unsafe { Out::new("place", place) }?;
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        place.set(condition.enlist()?);
        Ok(())
    })
}

/// Sleeps until the place was notified. May be called again after a timeout.
///
/// Blocking, threads, fork: waits at most `timeout_ns`. Safe everywhere.
///
/// Errors: SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and SHOAL_ERR_CLOSED (the place is still to be
/// left); SHOAL_ERR_INVALID (also: not this process's place); SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_sleep(
    c: *mut ConditionHandle,
    place: u32,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        condition.sleep(place, args::timeout(timeout_ns))
    })
}

/// Gives up the place, with the lock held again. `*notified`: whether it was notified.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (also: not this process's place); SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_leave(
    c: *mut ConditionHandle,
    place: u32,
    notified: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let notified = unsafe { Out::new("notified", notified) }?;
        // SAFETY: the caller's contract.
        let condition = unsafe { condition(c) }?;
        notified.set(condition.leave(place)?);
        Ok(())
    })
}
