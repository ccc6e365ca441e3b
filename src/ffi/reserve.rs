//! `shoal_loan`: messages that are written in place.

use std::ffi::c_void;

use super::args::{self, Out};
use super::queue::{QueueHandle, queue};
use super::status::guard;
use crate::error::{Error, Result, Status};
use crate::layout::Owner;

/// A span in a queue that is yours for a while. Filled in by `shoal_queue_reserve`.
///
/// `data`, `len`: where to write, and how many bytes there are. They hold what earlier
/// messages left there. NULL and 0 once it was committed or discarded.
/// `at`, `owner`: the library's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Loan {
    data: *mut c_void,
    len: usize,
    at: u64,
    owner: u64,
}

impl Loan {
    const NONE: Self = Self {
        data: std::ptr::null_mut(),
        len: 0,
        at: 0,
        owner: 0,
    };

    fn owner(&self) -> Owner {
        Owner {
            slot: self.owner as u16,
            sitting: (self.owner >> 32) as u32,
        }
    }
}

/// # Safety
/// `loan` is NULL or points to a loan that nobody else uses meanwhile.
unsafe fn lent<'a>(loan: *mut Loan) -> Result<&'a mut Loan> {
    args::checked("loan", loan)?;
    // SAFETY: the caller's contract; neither NULL nor misaligned.
    let loan = unsafe { &mut *loan };
    if loan.data.is_null() {
        return Err(Error::invalid("loan", "it was given back before"));
    }
    Ok(loan)
}

/// Reserves room for a message at the end of the queue, to be written in place: large
/// messages are copied once less. Several processes may write theirs at the same time.
///
/// `len`: the most bytes the message may have. `*out`: the span to write to.
/// `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
/// The message has its place in the queue from now on. Consumers that have taken everything
/// before it wait for it, until its process commits, discards or is dead. The queue does not
/// grow meanwhile. So write it without delay, and do not wait for room in the same queue
/// meanwhile: nobody can make any by taking what stands behind it.
/// Blocking, threads, fork: as `shoal_queue_put`; any thread may commit. In a forked child
/// the parent's loans cannot be used.
/// Ownership: `*out` is yours until `shoal_queue_commit` or `shoal_queue_discard`, and until
/// the handle is freed.
///
/// Errors: as `shoal_queue_put`; SHOAL_ERR_UNSUPPORTED for a queue with `max_items`.
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
        out.set(Loan {
            data: place.span.as_ptr().cast(),
            len,
            at: place.at,
            owner: u64::from(place.owner.slot) | u64::from(place.owner.sitting) << 32,
        });
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
        let loan = unsafe { lent(loan) }?;
        // SAFETY: the caller's contract.
        unsafe { queue(q) }?.commit(loan.at, loan.owner(), used)?;
        *loan = Loan::NONE;
        Ok(())
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
        let loan = unsafe { lent(loan) }?;
        // SAFETY: the caller's contract.
        unsafe { queue(q) }?.discard(loan.at, loan.owner())?;
        *loan = Loan::NONE;
        Ok(())
    })
}
