//! Condition
//!
//! Waiting for a change of something that a `shoal_lock` guards. All threads that wait for a condition use
//! the same lock.
//!
//! Killed: A process that is killed while it waits does not count any more, and a notification that it had
//! received goes to another one that was waiting then. A process that is killed while it notifies may have
//! woken only some of the waiters that it was to wake. If it had the lock, `*owner_died` reports this to the
//! next process that takes the lock.
//!
//! ```c
//! bool died = false;
//! if (shoal_lock_lock(lock, SHOAL_FOREVER, NULL) == SHOAL_OK) {
//!     while (!*ready && !died)
//!         if (shoal_condition_wait(changed, lock, SHOAL_FOREVER, &died) != SHOAL_OK)
//!             break;
//!     shoal_lock_unlock(lock);
//! }
//! ```

use std::ffi::c_char;

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::lock::{LockHandle, acquired};
use super::options::{self, SyncOptions, sized};
use super::status::guard;
use crate::error::{Error, Status};
use crate::primitives::Condition;

/// A condition.
pub struct ConditionHandle {
    _opaque: [u8; 0],
}

opaque!(ConditionHandle, named Condition, b"shl.cond");

/// As `count` of `shoal_condition_notify`: all that wait.
pub const SHOAL_ALL: u32 = 0xffff_ffff;

/// Statistics of a condition.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ConditionStats {
    /// `sizeof(shoal_condition_stats)`.
    pub size: usize,
    /// How many wait and have not been notified. Dead processes do not count.
    pub waiting: u64,
}

sized!(ConditionStats, "shoal_condition_stats.size", 16);

/// Opens or creates a condition; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_open(
    name: *const c_char,
    options: *const SyncOptions,
    out: *mut *mut ConditionHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        Condition::with_options(name, &unsafe { options::sync(options, 0, name) }?.options)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_free(c: *mut ConditionHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(c) }
}

/// Fills in statistics; see "Statistics". Asks the kernel about each waiting process.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_stat(
    c: *mut ConditionHandle,
    out: *mut ConditionStats,
) -> Status {
    let stats = |condition: &Condition| {
        Ok(ConditionStats {
            size: size_of::<ConditionStats>(),
            waiting: condition.waiting()? as u64,
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(c, out, stats) }
}

/// Unlocks `lock`, which the caller has, waits until notified, and takes it again: a recursive lock as often
/// as before. The timeout limits the wait for a notification; the wait for the lock afterwards has no limit.
///
/// The lock is held again whatever the status, except: SHOAL_ERR_INVALID and SHOAL_ERR_EXHAUSTED change
/// nothing; after SHOAL_ERR_CLOSED it is not held if the waits through the lock's handle were ended.
/// `*owner_died`: see "Locks"; also set after a timeout.
///
/// Errors: SHOAL_ERR_INVALID (the lock is not held); SHOAL_ERR_EXHAUSTED (1024 wait already).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_wait(
    c: *mut ConditionHandle,
    lock: *mut LockHandle,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let owner_died = unsafe { Out::optional("owner_died", owner_died) }?;
        // SAFETY: the caller's contract.
        let (condition, lock) = unsafe { (object(c)?, object(lock)?) };
        let wake = condition.wait(lock, args::timeout(timeout_ns))?;
        acquired(wake.taken, &owner_died)?;
        match wake.notified {
            true => Ok(()),
            false => Err(Error::Timeout),
        }
    })
}

/// Wakes at most `count` of those that wait, the longest waiting first; SHOAL_ALL wakes all. Dead
/// processes are skipped. Call it with the lock held: otherwise a process may check before the change, and
/// wait after the notification.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_notify(c: *mut ConditionHandle, count: u32) -> Status {
    let notify = |condition: &Condition| match count {
        SHOAL_ALL => condition.notify_all(),
        count => condition.notify(count),
    };
    // SAFETY: the caller's contract.
    unsafe { handle::with(c, notify) }
}
