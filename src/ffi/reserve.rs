//! `shoal_loan`: messages that are written in place.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::args::{self, Out};
use super::queue::{QueueHandle, queue};
use super::status::guard;
use crate::error::{Error, Result, Status};
use crate::layout::Owner;
use crate::queue::{LeasedMessage, MessagePlace, Queue};

/// A span in a queue that is yours for a while. Filled in by `shoal_queue_reserve` and
/// `shoal_pipe_reserve`, to be written, and by `shoal_queue_lease` and `shoal_pipe_lease`, to be
/// read.
///
/// `data`, `len`: the span. NULL and 0 once it was given back.
/// `attempts`: of a lease, how often the message was delivered, this time included; 255 for
/// more. 0 for a reservation.
/// `block`, `number`, `owner`: the library's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Loan {
    data: *mut c_void,
    len: usize,
    attempts: u32,
    block: u32,
    number: u64,
    owner: u64,
}

impl Loan {
    pub(super) const NONE: Self = Self {
        data: std::ptr::null_mut(),
        len: 0,
        attempts: 0,
        block: 0,
        number: 0,
        owner: 0,
    };

    fn new(place: MessagePlace, attempts: u8) -> Self {
        Self {
            data: place.span.as_ptr().cast(),
            len: place.len,
            attempts: attempts.into(),
            block: place.block,
            number: place.number,
            owner: u64::from(place.owner.slot) | u64::from(place.owner.generation) << 32,
        }
    }

    pub(super) fn of(reserved: MessagePlace) -> Self {
        Self::new(reserved, 0)
    }

    pub(super) fn commit(&mut self, queue: &Queue, used: usize) -> Result<()> {
        queue.commit(&self.place()?, used)?;
        *self = Self::NONE;
        Ok(())
    }

    pub(super) fn discard(&mut self, queue: &Queue) -> Result<()> {
        queue.discard(&self.place()?)?;
        *self = Self::NONE;
        Ok(())
    }

    /// A reservation.
    fn place(&self) -> Result<MessagePlace> {
        let span = NonNull::new(self.data.cast())
            .ok_or_else(|| Error::invalid("loan", "it was given back before"))?;
        Ok(MessagePlace {
            block: self.block,
            number: self.number,
            owner: Owner {
                slot: self.owner as u16,
                generation: (self.owner >> 32) as u32,
            },
            span,
            len: self.len,
        })
    }

    /// Ends a lease by `how`. It is spent then.
    pub(super) fn let_go(&mut self, how: impl FnOnce(&LeasedMessage) -> Result<()>) -> Result<()> {
        let ended = how(&self.held()?);
        if matches!(ended, Ok(()) | Err(Error::Expired)) {
            *self = Self::NONE;
        }
        ended
    }

    /// A lease.
    pub(super) fn held(&self) -> Result<LeasedMessage> {
        let place = self.place()?;
        let attempts = self.attempts.min(u8::MAX.into()) as u8;
        Ok(LeasedMessage { place, attempts })
    }
}

impl From<LeasedMessage> for Loan {
    fn from(held: LeasedMessage) -> Self {
        Self::new(held.place, held.attempts)
    }
}

/// # Safety
/// `loan` is NULL or points to a loan that nobody else uses meanwhile.
pub(super) unsafe fn lent<'a>(loan: *mut Loan) -> Result<&'a mut Loan> {
    args::checked("loan", loan)?;
    // SAFETY: the caller's contract; neither NULL nor misaligned.
    Ok(unsafe { &mut *loan })
}

/// Reserves room for a message, to be written in place: large messages are copied once less.
/// Several processes may write theirs at the same time.
///
/// `len`: the most bytes the message may have. `*out`: the span to write to.
/// `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
/// `data` holds at first what earlier messages left there. The message gets its place in the
/// queue when it is committed; nobody waits for it before. Where messages are bounded by
/// number, a reservation counts as one. That of a dead process is discarded.
/// Blocking, threads, fork: as `shoal_queue_put`; any thread may commit. In a forked child
/// the parent's loans cannot be used.
/// Ownership: `*out` is yours until `shoal_queue_commit` or `shoal_queue_discard`, and until
/// the handle is freed.
///
/// Errors: as `shoal_queue_put`.
///
/// ```c
/// shoal_loan loan;
/// if (shoal_queue_reserve(q, frame_size, &loan, SHOAL_FOREVER) == SHOAL_OK) {
///     size_t used = grab_frame(loan.data, loan.len);
///     if (shoal_queue_commit(q, &loan, used) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_reserve(
    q: *mut QueueHandle,
    len: usize,
    out: *mut Loan,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, Loan::NONE) }?;
        // SAFETY: the caller's contract.
        let place = unsafe { queue(q) }?.reserve_place(len, args::timeout(timeout_ns))?;
        out.set(Loan::of(place));
        Ok(())
    })
}

/// Makes the first `used` bytes of a loan a message, there for everybody when this returns.
///
/// `used`: at most what was reserved. The rest is given back.
/// Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
/// reserved.
/// Ownership: the loan is spent, unless this fails: then it is still yours.
///
/// Errors: SHOAL_ERR_TOO_LARGE (more than reserved); SHOAL_ERR_INVALID (spent, another's, NULL);
/// SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_commit(
    q: *mut QueueHandle,
    loan: *mut Loan,
    used: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, loan) = unsafe { (queue(q)?, lent(loan)?) };
        loan.commit(queue, used)
    })
}

/// Gives a loan back. Nobody sees that it was there.
///
/// Blocking, threads, fork: does not wait. Not in a forked child of the process that reserved.
/// Ownership: the loan is spent.
///
/// Errors: SHOAL_ERR_INVALID (spent, another's, NULL); SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_discard(q: *mut QueueHandle, loan: *mut Loan) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, loan) = unsafe { (queue(q)?, lent(loan)?) };
        loan.discard(queue)
    })
}
