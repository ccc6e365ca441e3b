//! `shoal_message`: messages that are written and read where they are.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::args::{self, Out};
use super::handle::object;
use super::queue::QueueHandle;
use super::status::guard;
use crate::error::{Error, Result, Status};
use crate::layout::Owner;
use crate::queue::{LeasedMessage, MessagePlace, Queue};
use crate::sys::clock::Timeout;

/// A message in place: reserved for writing by `shoal_queue_reserve` and `shoal_pipe_reserve`, or leased
/// for reading by `shoal_queue_lease` and `shoal_pipe_lease`.
///
/// It is yours until a call ends it (commit or discard; ack or nack), which sets `data` to NULL and `len`
/// to 0, or until the handle is freed. Any thread may end it. When a process dies, what it had reserved is
/// discarded, and what it had leased goes to another consumer. A forked child cannot use its parent's
/// messages. Only the handle that got a message ends it.
///
/// A copy of this struct is worth nothing once the message is ended: calls with it fail. But from the 255th
/// delivery of a message on, a copy of its last lease ends its present one, if the same handle has that.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    /// Where it is.
    data: *mut c_void,
    /// Its bytes.
    len: usize,
    /// How often it was leased, this time included; 255 stands for more. 0 if it is reserved.
    attempts: u32,
    /// For the library only.
    block: u32,
    /// For the library only.
    number: u64,
    /// For the library only.
    owner: u64,
}

impl Message {
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
            owner: place.owner.to_word(),
        }
    }

    pub(super) fn reserved(place: MessagePlace) -> Self {
        Self::new(place, 0)
    }

    pub(super) fn leased(held: LeasedMessage) -> Self {
        Self::new(held.place, held.attempts)
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
            .ok_or_else(|| Error::invalid("message", "it has ended already"))?;
        Ok(MessagePlace {
            block: self.block,
            number: self.number,
            owner: Owner::from_word(self.owner),
            span,
            len: self.len,
        })
    }

    /// Ends a lease by `how`, and clears the struct if that succeeds or the lease had expired.
    pub(super) fn end(&mut self, how: impl FnOnce(&LeasedMessage) -> Result<()>) -> Result<()> {
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

/// # Safety
/// `message` is NULL or points to one that no other thread uses meanwhile.
pub(super) unsafe fn in_place<'a>(message: *mut Message) -> Result<&'a mut Message> {
    args::checked("message", message)?;
    // SAFETY: the caller's contract; neither NULL nor misaligned.
    Ok(unsafe { &mut *message })
}

/// Reserves room for a message, to be written where it will be read: this saves one copy of a large message.
/// Several processes may write reserved messages at the same time.
///
/// `len`: the most bytes that the message may have; `data` holds what earlier messages left there. The
/// message gets its place in the queue when it is committed. A reservation counts against `max_items`.
///
/// Errors: as `shoal_queue_put`.
///
/// ```c
/// shoal_message frame;
/// if (shoal_queue_reserve(q, frame_size, SHOAL_FOREVER, &frame) == SHOAL_OK) {
///     size_t used = grab_frame(frame.data, frame.len);
///     if (shoal_queue_commit(q, &frame, used) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_reserve(
    q: *mut QueueHandle,
    len: usize,
    timeout_ns: i64,
    out: *mut Message,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, Message::NONE) }?;
        // SAFETY: the caller's contract.
        let place = unsafe { object(q) }?.reserve_place(len, args::timeout(timeout_ns))?;
        out.set(Message::reserved(place));
        Ok(())
    })
}

/// Puts the first `used` bytes of a reserved message at the end of the queue. The rest is freed.
///
/// Errors: SHOAL_ERR_TOO_LARGE (more than was reserved; it stays reserved).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_commit(
    q: *mut QueueHandle,
    message: *mut Message,
    used: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, message) = unsafe { (object(q)?, in_place(message)?) };
        message.commit(queue, used)
    })
}

/// Discards a reserved message. No other process sees that it was there.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_discard(q: *mut QueueHandle, message: *mut Message) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, message) = unsafe { (object(q)?, in_place(message)?) };
        message.discard(queue)
    })
}

/// Takes the first message to work on it. If this process dies, another consumer gets the message:
/// within a tenth of a second, and mostly at once.
///
/// `visible_ns`: for how long it is yours. If it is neither acked nor extended by then, another consumer
/// gets it although this process lives. SHOAL_FOREVER: as long as this process lives.
/// A message that was reserved is read where it was written; one that was put is copied once.
///
/// Errors: SHOAL_ERR_CLOSED (the queue is closed and nothing is left); SHOAL_ERR_EXHAUSTED or
/// SHOAL_ERR_NO_SPACE (there is no room for more leases; the message stays).
///
/// ```c
/// shoal_message job;
/// while (shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_FOREVER, &job) == SHOAL_OK)
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
    timeout_ns: i64,
    out: *mut Message,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, Message::NONE) }?;
        let visible = match args::timeout(visible_ns) {
            Timeout::Infinite => None,
            Timeout::Val(visible) => Some(visible),
        };
        // SAFETY: the caller's contract.
        let held = unsafe { object(q) }?.lease_place(visible, args::timeout(timeout_ns))?;
        out.set(Message::leased(held));
        Ok(())
    })
}

/// Removes a leased message: the work is done.
///
/// Errors: SHOAL_ERR_EXPIRED (the lease's time has expired, and another consumer gets the message or has it;
/// the lease has ended nevertheless). As long as no process has checked the queue's leases since then, the
/// call succeeds.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_ack(q: *mut QueueHandle, message: *mut Message) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, message) = unsafe { (object(q)?, in_place(message)?) };
        message.end(|held| queue.ack(held))
    })
}

/// Returns a leased message, to be delivered again after `delay_ns`, before all that was put after it.
/// SHOAL_FOREVER: it is never delivered again, but still counts as unfinished; a closed queue does not wait
/// for it. A message that was delivered `max_attempts` times goes to the dead letters at once, whatever the
/// delay is.
///
/// Errors: as `shoal_queue_ack`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_nack(
    q: *mut QueueHandle,
    message: *mut Message,
    delay_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, message) = unsafe { (object(q)?, in_place(message)?) };
        message.end(|held| queue.nack(held, args::duration(delay_ns)))
    })
}

/// Makes a lease end `visible_ns` from now instead.
///
/// Errors: SHOAL_ERR_EXPIRED (its time was over, as for `shoal_queue_ack`; the lease is still to be ended).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_extend(
    q: *mut QueueHandle,
    message: *mut Message,
    visible_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (queue, message) = unsafe { (object(q)?, in_place(message)?) };
        queue.extend(&message.held()?, args::duration(visible_ns))
    })
}
