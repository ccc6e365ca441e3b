//! Leases: messages that a process works on, and then acks or gives back.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::Nap;
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, IntoTimeout, Timeout, now_ns};

use super::core::Queue;
use super::cursors::{Consumer, Message};
use super::locked::{ConsumersLock, TakeSide};
use super::mark::{Mark, MessageState};
use super::reservation::MessagePlace;
use super::store::NEVER;

/// A message that this process works on: a `[u8]` in shared memory that no other consumer gets.
///
/// [`ack`](Self::ack) it when the work is done. If the process dies instead, from any cause, another consumer
/// gets the message. The same happens when the lease is dropped without an ack, or given back with
/// [`nack`](Self::nack). No message is lost, but one whose worker died just before the ack is worked on
/// twice.
///
/// After a `fork`, the lease remains the parent's. The child can only drop its copy.
///
/// ```
/// use shoal::{Queue, Timeout};
///
/// let jobs = Queue::anonymous()?;
/// jobs.put(b"resize 17.png", Timeout::Infinite)?;
///
/// let job = jobs.lease(Timeout::Infinite)?;
/// assert_eq!((&job[..], job.attempts()), (&b"resize 17.png"[..], 1));
/// drop(job); // as if it had failed
///
/// let job = jobs.lease(Timeout::Infinite)?;
/// assert_eq!(job.attempts(), 2);
/// job.ack()?;
/// assert_eq!(jobs.unfinished()?, 0);
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Lease<'a> {
    queue: &'a Queue,
    held: LeasedMessage,
}

/// A message that this process has leased, without a reference to its queue.
#[derive(Clone, Copy)]
pub(crate) struct LeasedMessage {
    pub(crate) place: MessagePlace,
    pub(crate) attempts: u8,
}

impl LeasedMessage {
    /// # Safety
    /// The message is leased by this process, and the queue is open.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: `lease_block` checked the span; a leased message is not written to, and stays in place
        // until its owner acks it or gives it back, even after its deadline.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_ref() }
    }
}

// SAFETY: the message is only read, and may be acked by any thread.
unsafe impl Send for Lease<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for Lease<'_> {}

impl std::fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("queue", &self.queue.name())
            .field("len", &self.held.place.len)
            .field("attempts", &self.attempts())
            .finish()
    }
}

impl Deref for Lease<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: this is the lease, and it borrows the queue.
        unsafe { self.held.bytes() }
    }
}

impl Lease<'_> {
    /// How often the message was delivered, this time included; 255 for more.
    pub fn attempts(&self) -> u32 {
        self.held.attempts.into()
    }

    /// Ends the lease and removes the message: the work is done.
    ///
    /// # Errors
    /// `Expired` if the deadline passed and another consumer gets or has the message. If no process has
    /// checked the queue since the deadline, the call succeeds. `Invalid` in a forked child; `Poisoned`,
    /// `Corrupt`. For a message that a [relay](crate::QueueRelay) delivered: `RelayBehind` or `NoSpace` if
    /// there is no room for its settlement; the message is then given back.
    pub fn ack(self) -> Result<()> {
        let acked = self.queue.ack(&self.held);
        if matches!(acked, Ok(()) | Err(Error::Expired)) {
            let _ended = ManuallyDrop::new(self);
        }
        acked
    }

    /// Gives the message back, to be delivered again after `delay`; or moves it to the
    /// [dead letters](Queue::dead_letters), without the delay, if this was its last delivery. With
    /// `Duration::MAX` it is never delivered again. It still counts as unfinished, but a closed queue does not
    /// wait for it.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub fn nack(self, delay: Duration) -> Result<()> {
        let lease = ManuallyDrop::new(self);
        lease.queue.nack(&lease.held, delay)
    }

    /// Moves the deadline to `visible` from now, or sets one.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub fn extend(&self, visible: Duration) -> Result<()> {
        self.queue.extend(&self.held, visible)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Fails in a forked child: the lease is the parent's.
        let _ = self.queue.nack(&self.held, Duration::ZERO);
    }
}

impl Queue {
    /// Takes the first message to work on, waiting until `timeout`. If this process dies, another consumer
    /// that takes or waits gets the message: within a tenth of a second, mostly much sooner.
    ///
    /// A message that was [reserved](Self::reserve) is read where it was written. One that was put is copied
    /// once, out of the ring, so that no lease blocks the ring.
    ///
    /// # Errors
    /// As for [`get`](Self::get); `Exhausted` if the queue has no room for more leases, `NoSpace` if
    /// `/dev/shm` has none. The message stays. Reservations leave 128 KiB for copies of messages that were
    /// put, perhaps not contiguous.
    pub fn lease(&self, timeout: impl IntoTimeout) -> Result<Lease<'_>> {
        let held = self.lease_place(None, timeout.into_timeout())?;
        Ok(Lease { queue: self, held })
    }

    /// [`lease`](Self::lease) with a deadline: if the lease is neither acked nor extended within `visible`,
    /// another consumer gets the message although this process is alive.
    ///
    /// # Errors
    /// As for [`lease`](Self::lease).
    pub fn lease_for(&self, visible: Duration, timeout: impl IntoTimeout) -> Result<Lease<'_>> {
        let held = self.lease_place(Some(visible), timeout.into_timeout())?;
        Ok(Lease { queue: self, held })
    }

    pub(crate) fn lease_place(
        &self,
        visible: Option<Duration>,
        timeout: Timeout,
    ) -> Result<LeasedMessage> {
        self.lease_first(visible, false, Deadline::after(timeout))
    }

    /// Leases the first message; if only `delivered` ones are wanted, it is one that a relay delivered with a
    /// token.
    #[inline(always)]
    pub(super) fn lease_first(
        &self,
        visible: Option<Duration>,
        delivered: bool,
        deadline: Deadline,
    ) -> Result<LeasedMessage> {
        loop {
            let leased = self.take(deadline, false, |side, end| {
                let Some(message) = end.peek()? else {
                    return Ok(None);
                };
                if delivered && !side.has_token(&message)? {
                    return Ok(None);
                }
                let until = visible.map_or(0, from_now);
                side.check_soon();
                if until != 0 {
                    side.check_by(until);
                }
                let len = message.len() as u64;
                let held = side.lease_message(end, message, until, deadline)?;
                Ok(Some((held, (1, len))))
            });
            match leased {
                // Reservations of dead processes may take the room.
                Err(Error::Exhausted { .. }) if self.discard_dead(deadline)? => {}
                leased => return leased,
            }
        }
    }

    #[cold]
    fn no_room(&self, len: usize) -> Error {
        Error::Exhausted {
            what: "bytes of leases and reservations in this queue",
            limit: self.ring.max_capacity().max(len as u64),
        }
    }

    pub(crate) fn ack(&self, held: &LeasedMessage) -> Result<()> {
        self.end_lease(held, |side| side.finish(held))
    }

    pub(crate) fn nack(&self, held: &LeasedMessage, delay: Duration) -> Result<()> {
        if !self.is_given_up(held.attempts) {
            return self.return_lease(held, delay);
        }
        if !self.keep_to_move(held)? {
            return self.return_lease(held, Duration::ZERO);
        }
        // This call moves the message, and not the next one on this queue: the other processes may all wait for
        // dead letters. If that fails, the message waits, and the next call returns the error.
        let _ = self.dead_letter(held);
        Ok(())
    }

    /// Removes the deadline of a lease whose message this process moves to the dead letters. False if the lease
    /// has ended, or if a relay delivered the message, which then moves it. After a kill the message is one that
    /// a dead process has leased.
    fn keep_to_move(&self, held: &LeasedMessage) -> Result<bool> {
        self.check_owner(held.place.owner, "lease")?;
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let (side, block) = (guard.side(), held.place.block);
        if side.check_lease(held).is_err() || side.is_delivered(block)? {
            return Ok(false);
        }
        self.ring.store.head(block)?.set_due(0);
        crash_point!();
        Ok(true)
    }

    /// Gives a leased message back, to be delivered again after `delay`.
    pub(super) fn return_lease(&self, held: &LeasedMessage, delay: Duration) -> Result<()> {
        self.end_lease(held, |side| side.give_back(held, delay))?;
        self.notify_consumers();
        Ok(())
    }

    /// Ends the lease by running `how` under the lock.
    fn end_lease(
        &self,
        held: &LeasedMessage,
        how: impl FnOnce(TakeSide<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_owner(held.place.owner, "lease")?;
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let side = guard.side();
        let ended = side.check_lease(held).and_then(|()| how(side));
        if matches!(ended, Err(Error::Expired)) {
            side.free(held.place.block)?;
        }
        if matches!(ended, Ok(()) | Err(Error::Expired)) {
            self.lease_count.add(held.place.owner, -1);
        }
        let joined = self.ring.header.finished.has_sleepers();
        drop(guard);
        self.notify_producers();
        if joined {
            self.notify_finished();
        }
        self.notify_end();
        ended
    }

    pub(crate) fn extend(&self, held: &LeasedMessage, visible: Duration) -> Result<()> {
        self.check_owner(held.place.owner, "lease")?;
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let side = guard.side();
        side.check_lease(held)?;
        let until = from_now(visible);
        self.ring.store.head(held.place.block)?.set_due(until);
        side.check_by(until);
        side.tell_extended(held.place.block, held.attempts, visible);
        Ok(())
    }

    /// How many messages are leased. The leases of a dead process count for a tenth of a second at most;
    /// their messages are then delivered again.
    pub fn leased(&self) -> usize {
        self.redeliver_if_due(Deadline::Now);
        self.count_leases()
    }

    fn count_leases(&self) -> usize {
        self.ring.header.store.leased.load(Ordering::Relaxed) as usize
    }

    /// How many messages were put and are not finished: neither taken by a `get` nor acked, nor moved to the
    /// [dead letters](Self::dead_letters). Exact.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn unfinished(&self) -> Result<u64> {
        self.unfinished_until(Deadline::Never)
    }

    fn unfinished_until(&self, deadline: Deadline) -> Result<u64> {
        let _guard = self.lock::<ConsumersLock>(deadline)?;
        Ok(self.count_unfinished())
    }

    /// Exact under the consumers' lock.
    fn count_unfinished(&self) -> u64 {
        (self.len() as u64).saturating_add(self.count_leases() as u64)
    }

    /// Waits until every message that was ever put is finished, or until `timeout`.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Poisoned`, `Corrupt`.
    pub fn join(&self, timeout: impl IntoTimeout) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let finished = &self.ring.header.finished;
        let waits = &self.consumers.policy.waits;
        let mut nap = Nap::FIRST;
        loop {
            // Where no consumer is left, no other call moves what was delivered too often to the dead
            // letters.
            if self.is_due() {
                self.redeliver(self.lock::<ConsumersLock>(deadline)?, deadline)?;
            }
            if self.unfinished_until(deadline)? == 0 {
                return Ok(());
            }
            // `unfinished_until` takes the lock, so a process that finishes the last message after that sees
            // the sleeper.
            let done = || self.unfinished_until(deadline) == Ok(0);
            let slice_ns = self.until_due(nap.ns());
            nap.ended(finished.sleep(waits, slice_ns, deadline, done)?);
        }
    }

    /// Messages were finished, and a process waits in [`join`](Self::join).
    #[cold]
    pub(super) fn notify_finished(&self) {
        if self.count_unfinished() == 0 {
            self.ring.header.finished.notify_all();
        }
    }

    /// The queue that gets messages which were delivered `max_attempts` times, if there is such a bound. Its
    /// name is this queue's with `.dead` appended, and remains when this queue is [unlinked](Self::unlink).
    ///
    /// If it refuses a message (it was closed, or has a smaller bound), the message stays here and is tried again
    /// ten times a second. The call that tries it, which takes from this queue or joins it, returns `Invalid`
    /// with the reason.
    pub fn dead_letters(&self) -> Option<&Queue> {
        self.dead_letters.as_deref()
    }

    /// How often a message is delivered before it is a dead letter.
    pub fn max_attempts(&self) -> Option<u8> {
        match self.ring.header.max_attempts.load(Ordering::Relaxed) {
            0 => None,
            attempts => Some(u8::try_from(attempts).unwrap_or(u8::MAX)),
        }
    }

    pub(super) fn check_owner(&self, owner: Owner, what: &'static str) -> Result<()> {
        if self.segment.owner() == owner {
            return Ok(());
        }
        let why = "it was got through another handle, or by the process of which this one is a fork; only that \
                   handle uses it";
        Err(Error::invalid(what, why))
    }

    /// Whether a message that was delivered this often is a dead letter.
    pub(super) fn is_given_up(&self, attempts: u8) -> bool {
        self.max_attempts().is_some_and(|max| attempts >= max)
    }

    /// Whether a closed queue may still yield messages: other processes lease or write some, or some wait.
    pub(super) fn may_come_back(&self) -> bool {
        let mine = self.lease_count.get(self.segment.owner());
        self.ring.may_come_back(mine)
    }
}

impl TakeSide<'_> {
    /// Whether a relay delivered the message with a token.
    #[cold]
    fn has_token(self, message: &Message) -> Result<bool> {
        let Some(block) = message.block() else {
            return Ok(false);
        };
        Ok(self.ring.store.head(block)?.token() != 0)
    }

    /// Leases the next message and moves over it. After a kill before the head moves, the message is still in
    /// the ring, and the repair takes the lease back.
    fn lease_message(
        self,
        end: &mut Consumer<'_>,
        message: Message,
        until: u64,
        deadline: Deadline,
    ) -> Result<LeasedMessage> {
        let (owner, store) = (self.segment.owner(), &self.ring.store);
        let held = match message.block() {
            Some(block) => {
                let attempts = store.found(block)?.mark.attempts.saturating_add(1);
                self.lease_block(block, attempts, owner, until)?
            }
            None => {
                let (from, len) = message.payload();
                let copy = self.place_copy(from, len, end.next_number(), deadline)?;
                let block = copy.ok_or_else(|| self.no_room(len))?;
                self.lease_block(block, 1, owner, until)?
            }
        };
        let signals = self.about_to_take_message(end, &message);
        end.advance_now(message)?;
        drop(signals);
        Ok(held)
    }

    /// Ends a lease by an ack.
    fn finish(self, held: &LeasedMessage) -> Result<()> {
        self.settle(held.place.block, held.attempts)?;
        self.drop_leased(held.place.block)
    }

    /// Frees a leased message.
    pub(super) fn drop_leased(self, block: u32) -> Result<()> {
        self.free(block)?;
        self.count_leased(-1);
        Ok(())
    }

    /// Ends a lease by a nack.
    fn give_back(self, held: &LeasedMessage, delay: Duration) -> Result<()> {
        let MessagePlace { block, number, .. } = held.place;
        if self.return_to_relay(block, held.attempts, delay)? {
            return self.drop_leased(block);
        }
        let due = match delay {
            Duration::ZERO => 0,
            delay => from_now(delay),
        };
        self.ring.store.head(block)?.set_due(due);
        self.wait_again(block, held.attempts)?;
        if due == NEVER {
            self.count_never();
        }
        if due == 0 && !self.is_given_up(held.attempts) {
            self.insert_due(block, number)
        } else {
            self.check_by(due);
            Ok(())
        }
    }

    fn check_lease(self, held: &LeasedMessage) -> Result<()> {
        let is = |state| {
            let mark = Mark::new(state, held.attempts, held.place.owner);
            self.ring
                .store
                .is(held.place.block, held.place.number, mark)
        };
        if is(MessageState::Leased) {
            return Ok(());
        }
        if is(MessageState::Expired) {
            return Err(Error::Expired);
        }
        Err(Error::invalid("lease", "it was acked or given back before"))
    }
}

fn from_now(duration: Duration) -> u64 {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    now_ns().saturating_add(ns)
}
