//! Writing a message in place.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, Timeout};

use super::commit::Delivery;
use super::core::Queue;
use super::cursors::Producer;
use super::locked::{ConsumersLock, ProducersLock, PutGuard, PutSide};
use super::mark::{Mark, MessageState};
use super::record::HEADER;

/// Room in the message store is freed without a wake-up: a process that waits for it looks this often.
const STORE_NS: u64 = 2_000_000;

/// Room in a queue for one message, to be written in place and then committed.
///
/// It is a `[u8]` of as many bytes as were asked for. What they hold at first is what
/// earlier messages left there. Dropping it discards it. Its place among the messages is
/// where it is committed: no process waits for it before, however long it takes, and nothing is
/// left of it if its process dies.
///
/// After a `fork` it remains the parent's: the child's copy can do nothing but be dropped.
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

/// Where a message that is written or read in place is, and whose, without the queue.
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

    /// The payload's place in that of a request, which has `head` bytes before it.
    pub(super) fn payload_after(self, head: usize) -> Option<Self> {
        Some(Self {
            number: self.number | REQUEST,
            // SAFETY: the place has these bytes.
            span: (head <= self.len).then(|| unsafe { self.span.add(head) })?,
            len: self.len - head,
            ..self
        })
    }

    /// The request's place, in its queue.
    pub(super) fn with_head(self, head: usize) -> Self {
        Self {
            number: self.number & !REQUEST,
            // A C program may have changed the place: what is done with it checks the rest of it, and
            // does not use the address.
            span: self.span,
            len: self.len.saturating_add(head),
            ..self
        }
    }
}

/// What puts a message into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutBy {
    Others,
    Relay,
}

// SAFETY: the span is this value's alone until it is committed or discarded, and both may be
// done by any thread.
unsafe impl Send for Reservation<'_> {}
// SAFETY: shared, it is only read.
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
        // SAFETY: `reserve` found room for this many bytes, mapped for as long as the queue.
        // No other process touches them before the commit.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_ref() }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_mut() }
    }
}

impl Reservation<'_> {
    /// Makes all of it a message, which others can take when this returns.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`. It is discarded then.
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

    /// Gives it back. No other process sees that it was there.
    pub fn discard(self) {}
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // It fails if the queue was overwritten; there is nothing to give back then.
        let _ = self.queue.discard(&self.place);
    }
}

impl Queue {
    /// Reserves room for a message of `len` bytes, to be written in place, waiting for room
    /// until `timeout`. Several processes may write theirs at the same time. The commit does
    /// not have to wait: a reservation counts as a message where those are bounded.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn reserve(&self, len: usize, timeout: Timeout) -> Result<Reservation<'_>> {
        let place = self.reserve_place(len, timeout)?;
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

    /// A reservation in this queue, for `by`; `None` for others if the queue has a relay.
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
                PutBy::Others if side.takes_puts()? => {}
                PutBy::Others => return Ok(None),
            }
            let mut end = side.producer()?;
            let has_record = end.may_reserve()?;
            if has_record && let Some(place) = side.place_reservation(&end, len)? {
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

    /// Waits for a while in which something in the message store may have been freed.
    #[cold]
    fn wait_for_store(&self, by: PutBy, deadline: Deadline) -> Result<()> {
        if self.is_due() {
            self.redeliver(self.lock::<ConsumersLock>(deadline)?)?;
        }
        if self.discard_dead(deadline)? {
            return Ok(());
        }
        if deadline == Deadline::Now {
            return Err(Error::Timeout);
        }
        let not_full = &self.ring.header.not_full;
        let ended = || self.has_ended() || by == PutBy::Others && self.is_relayed();
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

    /// The same under the producers' lock.
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

    /// An error if it was committed or discarded before.
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

    /// Frees what processes reserved that are dead. True if that was anything.
    pub(super) fn discard_dead(&self, deadline: Deadline) -> Result<bool> {
        if self.ring.set_aside() == 0 {
            return Ok(false);
        }
        let guard = self.lock::<ProducersLock>(deadline)?;
        let side = guard.side();
        let (mut liveness, mut freed) = (self.liveness(), false);
        for found in side.everything()? {
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
    /// Killed on the way, it leaves a dead process's reservation.
    fn place_reservation(self, end: &Producer<'_>, len: usize) -> Result<Option<MessagePlace>> {
        let (owner, store) = (self.segment.owner(), &self.ring.store);
        let number = end.next_serial();
        let mark = Mark::new(MessageState::Writing, 0, owner);
        let Some(block) = self.allocate(len, number, mark)? else {
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
