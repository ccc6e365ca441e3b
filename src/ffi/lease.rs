//! Leases: messages that are worked on, and acked or given back.

use std::time::Duration;

use super::args::{self, Out};
use super::queue::{QueueHandle, queue, tell};
use super::reserve::{Loan, lent};
use super::status::{guard, guard_shielded};
use super::{handle, handle::Named};
use crate::Timeout;
use crate::error::{Error, Result, Status};
use crate::queue::Queue;

/// Takes the first message to work on it. Once this process is dead, by whatever cause, another
/// consumer gets the message: within a tenth of a second and mostly much sooner, as soon as
/// somebody takes or waits.
///
/// `visible_ns`: for how long it is yours. If it is neither acked nor extended by then, another
/// consumer gets it although you live. SHOAL_FOREVER: until you die.
/// `*out`: the message, to be read where it is. `attempts` says how often it was delivered.
/// `timeout_ns`: how long to wait for a message; SHOAL_FOREVER, SHOAL_NOWAIT.
/// What was reserved is read where it was written; what was put is copied once, out of the
/// ring, so that no lease holds up the others.
/// Blocking, threads, fork: as `shoal_queue_get`; any thread may ack. In a forked child the
/// parent's loans cannot be used.
/// Ownership: `*out` is yours until `shoal_queue_ack` or `shoal_queue_nack`, and until the
/// handle is freed, which gives it back.
///
/// Errors: as `shoal_queue_get`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE:
/// there is no room for more leases, and the message stays.
///
/// ```c
/// shoal_loan job;
/// while (shoal_queue_lease(q, SHOAL_FOREVER, &job, SHOAL_FOREVER) == SHOAL_OK)
///     if (work(job.data, job.len))
///         (void)shoal_queue_ack(q, &job);
///     else
///         (void)shoal_queue_nack(q, &job, 1000000000);
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_lease(
    q: *mut QueueHandle,
    visible_ns: i64,
    out: *mut Loan,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, Loan::NONE) }?;
        let visible = match args::timeout(visible_ns) {
            Timeout::Infinite => None,
            Timeout::Val(visible) => Some(visible),
        };
        // SAFETY: the caller's contract.
        let held = unsafe { queue(q) }?.lease_place(visible, args::timeout(timeout_ns))?;
        out.set(held.into());
        Ok(())
    })
}

/// The work is done: the message is gone.
///
/// Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
/// leased.
/// Ownership: the loan is spent.
///
/// Errors: SHOAL_ERR_EXPIRED (its time was over: another consumer gets it, or has it; the loan
/// is spent); SHOAL_ERR_INVALID (spent, another's, NULL); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_ack(q: *mut QueueHandle, loan: *mut Loan) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, loan) = unsafe { (queue(q)?, lent(loan)?) };
        loan.let_go(|held| queue.ack(held))
    })
}

/// Gives the message back, to be delivered again after `delay_ns`, before all that was put
/// after it.
///
/// Blocking, threads, fork: as `shoal_queue_ack`.
/// Ownership: the loan is spent.
///
/// Errors: as `shoal_queue_ack`; SHOAL_ERR_INVALID for a negative delay.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_nack(
    q: *mut QueueHandle,
    loan: *mut Loan,
    delay_ns: i64,
) -> Status {
    guard(|| {
        let delay = span("delay_ns", delay_ns)?;
        // SAFETY: the caller's contract.
        let (queue, loan) = unsafe { (queue(q)?, lent(loan)?) };
        loan.let_go(|held| queue.nack(held, delay))
    })
}

/// Moves the end of a lease to `visible_ns` from now, or sets one.
///
/// Blocking, threads, fork: as `shoal_queue_ack`.
/// Ownership: the loan stays yours, whatever this returns.
///
/// Errors: as `shoal_queue_ack`; SHOAL_ERR_INVALID for a negative time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_extend(
    q: *mut QueueHandle,
    loan: *mut Loan,
    visible_ns: i64,
) -> Status {
    guard(|| {
        let visible = span("visible_ns", visible_ns)?;
        // SAFETY: the caller's contract.
        let (queue, loan) = unsafe { (queue(q)?, lent(loan)?) };
        queue.extend(&loan.held()?, visible)
    })
}

/// How many messages are leased. What a dead process had leased counts for a tenth of a second at
/// most, and is then to be delivered again.
///
/// Blocking, threads, fork: does not wait for messages; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_leased(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, |queue| queue.leased() as u64) })
}

/// How many messages were put and are not finished: neither taken by a get nor acked. Exact.
///
/// Blocking, threads, fork: waits for the lock only; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_unfinished(q: *mut QueueHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, queue) = unsafe { (Out::new("out", out)?, queue(q)?) };
        out.set(queue.unfinished()?);
        Ok(())
    })
}

/// Waits until every message that was ever put is finished.
///
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits. Safe everywhere.
///
/// Errors: SHOAL_ERR_TIMEOUT (SHOAL_NOWAIT too); SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID;
/// SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_join(q: *mut QueueHandle, timeout_ns: i64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { queue(q)?.join(args::timeout(timeout_ns)) })
}

/// How often a message is delivered before it is a dead letter; 0 for any number of times.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_max_attempts(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, |queue| queue.max_attempts().map_or(0, u64::from)) })
}

/// Opens the queue of the dead letters: the messages that were delivered `max_attempts` times
/// and not acked. It is a queue like any other, called as this one with `.dead` behind it. It
/// lives as long as this one does, and longer if it is open itself.
///
/// Blocking, threads, fork: as `shoal_queue_open`.
/// Ownership: `*out` is yours until `shoal_queue_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_NOT_FOUND (there is no bound on deliveries); as `shoal_queue_open`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_dead_letters(
    q: *mut QueueHandle,
    out: *mut *mut QueueHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let queue = unsafe { queue(q) }?;
        let letters = queue.dead_letters().ok_or_else(|| Error::NotFound {
            what: "dead-letter queue",
            name: format!("{}.dead", queue.name()),
        })?;
        let letters = Queue::open(letters.name())?;
        out.set(handle::new(Named::new(letters, Queue::name)));
        Ok(())
    })
}

pub(super) fn span(what: &'static str, ns: i64) -> Result<Duration> {
    let ns = u64::try_from(ns).map_err(|_| Error::invalid(what, format!("{ns} is negative")))?;
    Ok(Duration::from_nanos(ns))
}
