//! Writing a message in place.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, IntoTimeout, Timeout};

use super::commit::Delivery;
use super::core::Queue;
use super::cursors::Producer;
use super::locked::{ConsumersLock, ProducersLock, PutGuard, PutSide};
use super::mark::{Mark, MessageState};
use super::record::HEADER;

/// Freeing a place in the message store wakes no process: a process that waits for one checks this often.
const STORE_NS: u64 = 2_000_000;

/// Memory in a queue for one message, to be written in place and then committed.
///
/// A `[u8]` of the requested length, whose bytes are at first those of earlier messages. Dropping it discards
/// it. The commit determines its place among the messages: before that no process waits for it, however long
/// the writing takes, and nothing is left of it if its process dies.
///
/// After a `fork`, the reservation remains the parent's. The child can only drop its copy.
///
/// ```
/// use shoal::{Queue, Timeout};
///
/// let queue = Queue::anonymous()?;
/// let mut room = queue.reserve(1 << 20, Timeout::Infinite)?;
/// room[..5].copy_from_slice(b"hello");
/// room.commit_first(5)?;
/// assert_eq!(queue.get_vec(Timeout::Infinite)?, b"hello");
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Reservation<'a> {
    queue: &'a Queue,
    place: MessagePlace,
}

/// The place and the owner of a message that is written or read in place, without a reference to its queue.
#[derive(Clone, Copy)]
pub(crate) struct MessagePlace {
    pub(crate) block: u32,
    pub(crate) number: u64,
    pub(crate) span: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) owner: Owner,
}

/// The bit of a place's number that says that it is in the relay's companion queue.
const REQUEST: u64 = 1 << 63;

impl MessagePlace {
    /// Whether it is a request's payload, in the relay's companion queue.
    pub(super) fn is_request(&self) -> bool {
        self.number & REQUEST != 0
    }

    /// The payload's place within that of a request, behind `head` bytes.
    pub(super) fn payload_after(self, head: usize) -> Option<Self> {
        Some(Self {
            number: self.number | REQUEST,
            // SAFETY: `head <= len`, the bytes of the place.
            span: (head <= self.len).then(|| unsafe { self.span.add(head) })?,
            len: self.len - head,
            ..self
        })
    }

    /// The request's place, in its queue.
    pub(super) fn with_head(self, head: usize) -> Self {
        Self {
            number: self.number & !REQUEST,
            // Not moved back: a C program may have changed the place. What uses it checks the other fields
            // and does not read the address.
            span: self.span,
            len: self.len.saturating_add(head),
            ..self
        }
    }
}

/// What puts a message into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutBy {
    /// A program's call. It becomes a request if the queue has a relay.
    Others,
    /// The relay, which delivers a message.
    Relay,
    /// The removal of a relay, for a request whose call has returned. The queue may be closed since.
    Removal,
}

// SAFETY: only this value reaches the span until it is committed or discarded, and any thread may do either.
unsafe impl Send for Reservation<'_> {}
// SAFETY: a shared reference only reads it.
unsafe impl Sync for Reservation<'_> {}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("queue", &self.queue.name())
            .field("len", &self.place.len)
            .finish()
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `reserve` allocated this many bytes, which are mapped for as long as the queue is open. No
        // other process touches them before the commit.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_ref() }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` is the only access in this process.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_mut() }
    }
}

impl Reservation<'_> {
    /// Makes all of its bytes a message, which others can take when this returns.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`. After an error, the reservation is discarded.
    pub fn commit(self) -> Result<()> {
        let len = self.place.len;
        self.commit_first(len)
    }

    /// Makes its first `used` bytes a message and gives the rest back.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit); `TooLarge` for more than was reserved.
    pub fn commit_first(self, used: usize) -> Result<()> {
        self.queue.commit(&self.place, used)?;
        let _committed = ManuallyDrop::new(self);
        Ok(())
    }

    /// Gives the room back. No other process sees that it was reserved.
    pub fn discard(self) {}
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // Fails in a forked child, where it is the parent's, and if the queue is poisoned.
        let _ = self.queue.discard(&self.place);
    }
}

impl Queue {
    /// Reserves room for a message of `len` bytes, to be written in place, waiting for room until `timeout`.
    /// Several processes may write at the same time. The commit never waits: a reservation counts towards
    /// `max_items`.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn reserve(&self, len: usize, timeout: impl IntoTimeout) -> Result<Reservation<'_>> {
        let place = self.reserve_place(len, timeout.into_timeout())?;
        Ok(Reservation { queue: self, place })
    }

    pub(crate) fn reserve_place(&self, len: usize, timeout: Timeout) -> Result<MessagePlace> {
        self.room_for(len)?;
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(place) = self.reserve_here(len, PutBy::Others, deadline)? {
                return Ok(place);
            }
            if let Some(place) = self.reserve_request(len, deadline)? {
                return Ok(place);
            }
        }
    }

    /// A reservation in this queue, for `by`. `None` if the queue has a relay and `by` is another process.
    pub(super) fn reserve_here(
        &self,
        len: usize,
        by: PutBy,
        deadline: Deadline,
    ) -> Result<Option<MessagePlace>> {
        self.producers.check_quantum(deadline)?;
        loop {
            let guard = self.enter::<ProducersLock>(deadline)?;
            let side = guard.side();
            match by {
                PutBy::Relay => side.check_open()?,
                PutBy::Removal => guard.check_usable()?,
                PutBy::Others if side.takes_puts()? => {}
                PutBy::Others => return Ok(None),
            }
            let mut end = side.producer()?;
            let has_record = end.may_reserve()?;
            if has_record && let Some(place) = side.place_reservation(&end, len, deadline)? {
                return Ok(Some(place));
            }
            drop(guard);
            if has_record {
                self.wait_for_store(by, deadline)?;
            } else {
                self.make_room(HEADER, by, deadline)?;
            }
        }
    }

    /// Whether a wait for room has become useless.
    pub(super) fn has_ended_for(&self, by: PutBy) -> bool {
        match by {
            PutBy::Others => self.has_ended() || self.is_relayed(),
            PutBy::Relay => self.has_ended(),
            PutBy::Removal => self.is_poisoned(),
        }
    }

    /// Puts a message of `used` bytes, which `fill` writes, and the token of `delivery` behind it.
    pub(super) fn put_by(
        &self,
        by: PutBy,
        used: usize,
        delivery: Delivery,
        deadline: Deadline,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        self.room_for(used)?;
        let len = used + delivery.token as usize;
        // `None` only for `Others`.
        let place = self.reserve_here(len, by, deadline)?.ok_or(Error::Closed)?;
        // SAFETY: reserved just now, for this call alone.
        fill(unsafe { std::slice::from_raw_parts_mut(place.span.as_ptr(), len) });
        self.commit_here(&place, used, delivery).inspect_err(|_| {
            let _ = self.discard(&place);
        })
    }

    /// Waits a moment for room in the message store.
    #[cold]
    fn wait_for_store(&self, by: PutBy, deadline: Deadline) -> Result<()> {
        if self.is_due() {
            self.redeliver(self.lock::<ConsumersLock>(deadline)?, deadline)?;
        }
        if self.discard_dead(deadline)? {
            return Ok(());
        }
        if deadline == Deadline::Now {
            return Err(Error::Timeout);
        }
        let not_full = &self.ring.header.not_full;
        let ended = || self.has_ended_for(by);
        let waits = &self.producers.policy.waits;
        not_full.sleep(waits, STORE_NS, deadline, ended).map(drop)
    }

    pub(crate) fn commit(&self, place: &MessagePlace, used: usize) -> Result<()> {
        if place.is_request() {
            return self.commit_request(place, used);
        }
        self.commit_here(place, used, Delivery::NONE)
    }

    /// Makes a reservation in this queue a message.
    pub(super) fn commit_here(
        &self,
        place: &MessagePlace,
        used: usize,
        delivery: Delivery,
    ) -> Result<()> {
        let guard = self.lock::<ProducersLock>(Deadline::Never)?;
        self.commit_under(guard, place, used, delivery)
    }

    /// The same, with the producers' lock held.
    #[inline]
    pub(super) fn commit_under(
        &self,
        guard: PutGuard<'_>,
        place: &MessagePlace,
        used: usize,
        delivery: Delivery,
    ) -> Result<()> {
        self.check_owner(place.owner, "reservation")?;
        let mut end = guard.side().producer()?;
        end.commit((place.block, place.number, place.owner), used, delivery)?;
        drop(guard);
        self.producers.charge((1, used as u64));
        self.notify_consumers();
        Ok(())
    }

    /// Discards a reservation; an error if it was committed or discarded before.
    pub(crate) fn discard(&self, place: &MessagePlace) -> Result<()> {
        if place.is_request() {
            return self.discard_request(place);
        }
        self.check_owner(place.owner, "reservation")?;
        let guard = self.lock::<ProducersLock>(Deadline::Never)?;
        let side = guard.side();
        let is = self
            .ring
            .store
            .is_reserved(place.block, place.number, place.owner);
        if !is {
            let why = "it was committed or discarded before";
            return Err(Error::invalid("reservation", why));
        }
        side.free(place.block)?;
        side.producer()?.count_writing(-1);
        drop(guard);
        self.notify_producers();
        self.notify_end();
        Ok(())
    }

    /// Frees the reservations of dead processes. True if there were any.
    pub(super) fn discard_dead(&self, deadline: Deadline) -> Result<bool> {
        if self.ring.set_aside() == 0 {
            return Ok(false);
        }
        let guard = self.lock::<ProducersLock>(deadline)?;
        let side = guard.side();
        let (mut liveness, mut freed) = (self.liveness(), false);
        for found in side.everything(deadline)? {
            if found.mark.state == MessageState::Writing && !liveness.lives(found.mark.owner)? {
                side.free(found.block)?;
                side.producer()?.count_writing(-1);
                freed = true;
            }
        }
        Ok(freed)
    }
}

impl PutSide<'_> {
    /// Allocates a reservation. A kill at any step leaves at most a reservation of a dead process.
    fn place_reservation(
        self,
        end: &Producer<'_>,
        len: usize,
        deadline: Deadline,
    ) -> Result<Option<MessagePlace>> {
        let (owner, store) = (self.segment.owner(), &self.ring.store);
        let number = end.next_serial();
        let mark = Mark::new(MessageState::Writing, 0, owner);
        let Some(block) = self.allocate(len, number, mark, deadline)? else {
            return Ok(None);
        };
        crash_point!();
        end.count_writing(1);
        Ok(Some(MessagePlace {
            block,
            number,
            owner,
            span: store.span(block, len as u64)?,
            len,
        }))
    }
}
