//! One side waiting for the other: taking, sleeping, waking and closing.
//!
//! # Which process is woken, and when
//! The wake-up policy decides the speed of a queue on a machine where a wake-up costs as much
//! as hundreds of messages (see `sync::event`). Four rules:
//!
//! 1. A process that finds nothing to do spins before it sleeps, for as long as that has paid lately
//!    (see `sync::policy`): with both sides running, the next message is only a cache line away.
//! 2. Sleeping producers are woken once the ring has drained to half, so that they have
//!    something to do when they arrive. A single one at its limit would otherwise be woken
//!    for every message.
//! 3. A process that was woken wakes the next one if there is work left for it.
//! 4. A process that is woken [`FUTILE_WAKES`] times only to find that others were faster, or that sees them
//!    do a whole quantum while it spins, is parked (see `admission`), and admitted again when the other side
//!    has nothing to do.
//!
//! # What a kill leaves
//! The next owner of a dead process's lock repairs what that process left (see `repair`) and wakes every
//! waiter, since the dead process may not have issued a wake-up.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::sync::{EndWaits, EventCell, Slept, Waits, crash::crash_point, publish_fence};
use crate::sys::clock::{Deadline, now_ns};

use super::admission::Admission;
use super::core::Queue;
use super::cursors::Consumer;
use super::header::{CLOSED, POISONED, Passed};
use super::locked::{ConsumersLock, ProducersLock, TakeGuard, TakeSide, ended};

/// A process is parked after it was woken this often only to find that others were faster.
const FUTILE_WAKES: u32 = 3;

/// A consumer makes the ring give memory back after a slice of its sleep has timed out that was at least this
/// long. A slice is 20 ms or longer, unless a check for redelivery is due earlier. Fresh pages are the largest
/// cost of a large message, and an answer may take some milliseconds: 10 MB to another process and back from
/// Python take 4.4 ms this way, and 18 ms if memory is given back after 2 ms.
const QUIET_NS: u64 = 8_000_000;

impl Queue {
    /// Calls `taken` under the lock until it has taken something, and waits in between. `taken` also returns
    /// how much that was. `nothing`: the caller has found that there is nothing now, so this waits first.
    #[inline]
    pub(super) fn take<T>(
        &self,
        deadline: Deadline,
        mut nothing: bool,
        mut taken: impl FnMut(TakeSide<'_>, &mut Consumer<'_>) -> Result<Option<(T, Passed)>>,
    ) -> Result<T> {
        let got_nothing = |err| self.got_nothing(err);
        let ended = self.consumers.check_quantum(deadline);
        if ended.map_err(got_nothing)? {
            self.auto_grow();
        }
        let mut waited = false;
        loop {
            if nothing {
                self.wait_for_more(deadline).map_err(got_nothing)?;
                waited = true;
            }
            let guard = self.enter::<ConsumersLock>(deadline);
            let guard = guard.map_err(got_nothing)?;
            nothing = !self.is_due();
            if !nothing {
                guard.check_usable()?;
                self.redeliver(guard, deadline)?;
            } else if let Some(value) = self.take_now(guard, waited, &mut taken)? {
                return Ok(value);
            }
        }
    }

    /// Calls `taken` once and publishes what it took; `None` if that is nothing.
    #[inline(always)]
    pub(super) fn take_now<T>(
        &self,
        guard: TakeGuard<'_>,
        waited: bool,
        taken: impl FnOnce(TakeSide<'_>, &mut Consumer<'_>) -> Result<Option<(T, Passed)>>,
    ) -> Result<Option<T>> {
        // Read before the ring: once a queue is closed, nothing more comes.
        let flags = self.ring.header.flags();
        if flags & POISONED != 0 {
            return Err(ended(flags));
        }
        let side = guard.side();
        let mut end = side.consumer()?;
        let (value, done) = match taken(side, &mut end) {
            Ok(Some(found)) => found,
            other => {
                let err = other.err();
                let freed = side.took_none(end, err.as_ref());
                let drained = flags & CLOSED != 0 && side.is_drained();
                drop(guard);
                return self.nothing_taken(freed, drained, err).map(|()| None);
            }
        };
        let more = side.publish(end);
        let joined = self.ring.header.finished.has_sleepers();
        drop(guard);
        self.consumers.charge(done);
        if waited {
            self.backoff.found(more || done.0 > 1);
        }
        self.notify_producers();
        if joined {
            self.notify_finished();
        }
        if more {
            self.ring.header.arrivals.not_empty.notify_one();
        }
        Ok(Some(value))
    }

    /// Nothing was taken, because of `err` or because there is nothing but padding. `freed`: some padding was
    /// freed. `drained`: the queue was closed before, and nothing is left of it. The lock is released.
    #[cold]
    fn nothing_taken(&self, freed: bool, drained: bool, err: Option<Error>) -> Result<()> {
        if let Some(err) = err {
            return Err(err);
        }
        if freed {
            // Padding is room as well.
            self.notify_producers();
        }
        match drained {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    #[cold]
    fn wait_for_more(&self, deadline: Deadline) -> Result<()> {
        if self.is_relayed() {
            // For `QueueRelay::last_wanted`; a hint.
            let wanted = &self.ring.header.relay.revision;
            wanted.store(now_ns(), Ordering::Relaxed);
        }
        // Other consumers may have taken every message until the deadline.
        if deadline.passed() {
            return Err(Error::Timeout);
        }
        if self.consumers.policy.spins() {
            self.backoff.pause();
        }
        self.wait_for_message(deadline)
    }

    pub(super) fn wait_for_message(&self, deadline: Deadline) -> Result<()> {
        let ready = || self.ring.is_occupied() || self.is_over() || self.is_due();
        if self.consumers.spin_until(deadline, ready)? {
            return Ok(());
        }
        self.producers.unpark();
        let not_empty = &self.ring.header.arrivals.not_empty;
        self.sleep(not_empty, &self.consumers, deadline, ready, |slept_ns| {
            if slept_ns >= QUIET_NS {
                self.shrink();
            }
            self.discard_dead(deadline).map(drop)
        })
    }

    /// Sleeps on `event` until `ready`, or until it is worth trying again. Calls `idle` with the slice's
    /// nanoseconds after each slice that timed out.
    #[cold]
    pub(super) fn sleep(
        &self,
        event: &EventCell,
        admission: &Admission,
        deadline: Deadline,
        ready: impl Fn() -> bool,
        idle: impl Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let (mut nap, mut futile) = (admission.policy.nap(), 0);
        loop {
            let due = self.due();
            let nap_ns = self.until_due(nap.ns());
            let slept = admission.policy.sleep(event, nap_ns, deadline, &ready)?;
            nap.ended(slept);
            match slept {
                Slept::Woken if !ready() => {
                    // If the time of the next redelivery has changed, the wake-up had a purpose.
                    futile += u32::from(due == self.due());
                    if futile == FUTILE_WAKES {
                        return admission.park(deadline).map(drop);
                    }
                }
                Slept::Woken | Slept::Ready => return Ok(()),
                Slept::TimedOut => idle(nap_ns)?,
            }
        }
    }

    /// Something was put and the lock released.
    #[inline]
    pub(super) fn notify_consumers(&self) {
        self.notify_consumer();
        self.wake_producers();
    }

    /// A part of a batch was put: a sleeping consumer wakes up while the rest is copied. Not inlined, which would
    /// make each message of the batch slower.
    #[inline(never)]
    pub(super) fn notify_of_part(&self) {
        self.notify_consumer();
    }

    #[inline]
    fn notify_consumer(&self) {
        publish_fence();
        if self.is_signal_awaited() {
            self.signal_put();
        }
        self.ring.header.arrivals.not_empty.notify_one();
    }

    /// Something was taken, and the lock released unless that was a part of a batch.
    #[inline]
    pub(super) fn notify_producers(&self) {
        publish_fence();
        self.wake_producers();
    }

    /// A message was finished: consumers of a closed queue may be waiting for that.
    #[inline]
    pub(super) fn notify_end(&self) {
        if self.is_closed() {
            self.wake_all_waiters();
        }
    }

    #[inline]
    fn wake_producers(&self) {
        if self.ring.header.not_full.has_sleepers() {
            self.wake_producer();
        }
    }

    /// Rule 2: only when there is something to do for a while.
    #[cold]
    fn wake_producer(&self) {
        let has_room = self.ring.header.used() <= self.capacity() / 2;
        // Padding alone may be more than half of the ring, and no consumer comes to move over it.
        if (has_room || self.ring.starts_done()) && self.takes_a_few_more() {
            self.ring.header.not_full.notify_one();
        }
    }

    /// Rule 2 for a bound on messages, of which an eighth has to be free.
    fn takes_a_few_more(&self) -> bool {
        let items = self.ring.max_items();
        items == u64::MAX || (self.len() as u64) <= items - (items / 8).max(1)
    }

    /// Closes the queue for all processes: nothing can be put any more; what is there can be taken, and then
    /// every `get` reports `Closed`. Messages that other processes work on, and those that are to be delivered
    /// again after a delay, are waited for. Wakes all waiting calls. Closing it again has no effect.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn close(&self) -> Result<()> {
        let guard = self.lock::<ProducersLock>(Deadline::Never)?;
        self.ring.header.flags.fetch_or(CLOSED, Ordering::SeqCst);
        crash_point!();
        drop(guard);
        self.wake_all_waiters();
        Ok(())
    }

    /// Whether [`close`](Self::close) was called, by any process.
    pub fn is_closed(&self) -> bool {
        self.ring.header.flags() & CLOSED != 0
    }

    pub(super) fn poison(&self) {
        self.ring.header.flags.fetch_or(POISONED, Ordering::SeqCst);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.ring.header.flags() & POISONED != 0
    }

    /// Whether nothing can come to an empty queue any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_poisoned() || self.is_closed() && !self.may_come_back()
    }

    /// Whether nothing can be put any more.
    pub(super) fn has_ended(&self) -> bool {
        self.ring.header.has_ended()
    }

    pub(super) fn wake_all_waiters(&self) {
        // SYNC: pairs with the fence in `Signals::cleared`: a take that does not see the end of the queue is seen
        // here, with `AWAITED`.
        publish_fence();
        if self.is_signal_awaited() && self.has_arrived() {
            self.signal_put();
        }
        self.ring.header.arrivals.not_empty.notify_all();
        self.ring.header.to_signal.notify_all();
        self.ring.header.not_full.notify_all();
        self.producers.unpark_all();
        self.consumers.unpark_all();
    }
}

impl EndWaits for Queue {
    fn end_waits(&self) {
        let header = self.ring.header;
        self.producers.end_waits(&[]);
        self.consumers.end_waits(&[&header.finished]);
        self.companions().for_each(EndWaits::end_waits);
        // A thread may wait for the descriptor.
        self.descriptor.keep_readable();
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        self.producers.each_waits(see);
        self.consumers.each_waits(see);
        see(self.store_lock.waits());
        see(self.signal_lock.waits());
        let others = self.companions().chain(self.dead_letters());
        others.for_each(|other| other.each_waits(see));
    }
}

impl TakeSide<'_> {
    /// Whether nothing is left of a closed queue in which the caller has found nothing to take.
    #[cold]
    fn is_drained(self) -> bool {
        // Leases end under this lock, but a commit does not take it. Asked in this order: a reservation that was
        // committed since the caller looked is still counted, or its message is there.
        !self.may_come_back() && !self.ring.is_occupied()
    }

    /// Frees the padding that `end` has moved over, unless `err` says that the ring makes no sense, and
    /// returns whether there was any. Nothing was taken.
    #[cold]
    fn took_none(self, mut end: Consumer<'_>, err: Option<&Error>) -> bool {
        let whole = matches!(err, None | Some(Error::BufferTooSmall { .. }));
        let freed = whole && end.publish();
        if err.is_none() {
            self.found_empty();
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Timeout;

    #[test]
    fn a_closed_queue_is_not_drained_by_a_commit_that_comes_while_a_consumer_looks() -> Result<()> {
        let queue = Queue::anonymous()?;
        let other = Queue::open(queue.name())?;
        let mut room = Some(other.reserve(4, Timeout::Infinite)?);
        queue.close()?;
        let looked: Result<()> = queue.take(Deadline::Now, false, |_, end| {
            assert!(end.peek()?.is_none());
            if let Some(room) = room.take() {
                room.commit()?;
            }
            Ok(None)
        });
        assert_eq!(looked, Err(Error::Timeout));
        assert_eq!(queue.get_vec(Timeout::Infinite)?.len(), 4);
        assert_eq!(queue.get_vec(Timeout::Infinite), Err(Error::Closed));
        Ok(())
    }
}
