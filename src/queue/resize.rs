//! Free space of the ring: waiting for it, growing the ring in place, and shrinking it again.

use crate::error::{Error, Result};
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, now_ns};

use super::admission::weight;
use super::auto_grow::{PART, STREAM_CAPACITY};
use super::core::Queue;
use super::header;
use super::locked::{BothSides, ConsumersLock};
use super::reservation::PutBy;

/// A ring of less than [`SMALL_RING`] bytes grows at once until it holds this many messages of the size
/// being put.
const SMALL_RING_MESSAGES: u64 = 8;
const SMALL_RING: u64 = 4 << 20;

impl Queue {
    /// Waits until there may be room for `need` bytes, or makes room by growing the ring. The wait also ends
    /// when nothing can be put by `by` any more.
    #[cold]
    pub(super) fn make_room(&self, need: u64, by: PutBy, deadline: Deadline) -> Result<()> {
        let capacity = self.ring.capacity()?;
        let fits = || self.ring.has_room(need);
        let room = || fits() && self.ring.takes_one_more();
        // Other producers may have taken all room until the deadline; growing is the last try.
        let late = deadline != Deadline::Now && deadline.passed();
        // A ring that holds only a few of such messages makes both ends wait for each other.
        let cramped = need > capacity / SMALL_RING_MESSAGES && capacity < SMALL_RING;
        // Where only the number of messages is at its bound, more bytes do not help.
        let may_grow = capacity < self.ring.max_capacity() && !fits();
        let grows_at_once = cramped && may_grow;
        if deadline != Deadline::Now
            && !grows_at_once
            && !late
            && self.producers.spin_until(deadline, room)?
        {
            return Ok(());
        }
        if !grows_at_once && self.ring.starts_done() {
            self.skip_padding(deadline)?;
            if room() {
                return Ok(());
            }
        }
        if may_grow {
            match self.grow(capacity, need, deadline) {
                // Goes on like a queue that cannot grow, if the message fits.
                Err(Error::NoSpace { .. }) if need <= capacity && deadline != Deadline::Now => {}
                done => return done,
            }
        }
        if need > capacity / 2 {
            self.skip_padding(deadline)?;
        }
        if late {
            return Err(Error::Timeout);
        }
        if room() {
            return Ok(());
        }
        // Reservations of dead processes take room as well.
        if self.discard_dead(deadline)? {
            return Ok(());
        }
        if deadline == Deadline::Now {
            return Err(Error::Timeout);
        }
        let changed = || self.ring.capacity() != Ok(capacity);
        let ready = || room() || self.has_ended_for(by) || changed() || self.ring.starts_done();
        self.consumers.unpark();
        let not_full = &self.ring.header.not_full;
        self.sleep(not_full, &self.producers, deadline, ready, |_| {
            self.discard_dead(deadline).map(drop)
        })
    }

    /// Doubles the ring, unless another process was faster.
    fn grow(&self, seen: u64, need: u64, deadline: Deadline) -> Result<()> {
        self.lock_both(deadline)?.grow(seen, need)
    }

    /// Called when a consumer's quantum has ended: doubles the ring if messages stream through it. Errors are
    /// ignored, since growing is optional: the next get meets those that matter.
    #[cold]
    pub(super) fn auto_grow(&self) {
        let Ok(capacity) = self.ring.capacity() else {
            return;
        };
        let header = self.ring.header;
        let is_streaming = self
            .throughput
            .is_streaming(now_ns(), weight(header.taken()));
        // In a dialogue, however fast, there is at most one message at a time, and pauses do not pay.
        let is_stream = is_streaming && (header.counts().0 > 1 || self.backoff.is_pausing());
        let may_grow = capacity < STREAM_CAPACITY.min(self.ring.max_capacity());
        if may_grow
            && is_stream
            && capacity <= self.segment.available() / PART
            && let Some(locked) = self.spin_both()
        {
            let _ = locked.grow(capacity, 0);
        }
    }

    /// Gives back the memory by which the ring has grown. Called when nothing came for a while: a ring that
    /// shrank between two messages of a stream would have to grow again.
    ///
    /// A kill after the capacity was stored leaves committed pages that are unused until the ring grows over
    /// them or shrinks again. So does a failure.
    #[cold]
    pub(super) fn shrink(&self) {
        let (Ok(capacity), initial) = (self.ring.capacity(), self.ring.initial_capacity()) else {
            return;
        };
        if capacity <= initial && self.ring.header.store.arena.is_empty() {
            return;
        }
        // The store's memory needs both locks as well: a process that has either may read the block map's
        // entry of a place that was given back.
        let Some(locked) = self.spin_both() else {
            return;
        };
        let _ = locked.trim();
        if let Ok(Some(old)) = locked.shrink_ring() {
            let _ = self
                .segment
                .decommit(self.at + header::RING + initial, old - initial);
        }
    }

    /// Moves the head over padding, where no consumer comes to do that, so that a message as large as the
    /// ring finds it empty.
    ///
    /// A message that was given back is older than those in the ring, and is taken without moving over
    /// padding: a caller that waits for the padding to go must not find such a message instead. A kill before
    /// the head is stored leaves the padding as it was.
    pub(super) fn skip_padding(&self, deadline: Deadline) -> Result<()> {
        let guard = self.lock::<ConsumersLock>(deadline)?;
        let mut end = guard.side().consumer()?;
        let looked = end.peek_ring();
        end.publish();
        looked.map(drop)
    }
}

impl BothSides<'_> {
    /// Doubles the ring, unless it is no longer as large as `seen`.
    fn grow(&self, seen: u64, need: u64) -> Result<()> {
        let capacity = self.ring.capacity()?;
        if capacity != seen {
            return Ok(());
        }
        let roomy = need.saturating_mul(SMALL_RING_MESSAGES).min(SMALL_RING);
        let wanted = need
            .saturating_add(self.ring.header.used())
            .saturating_add(self.ring.set_aside())
            .max(capacity * 2)
            .max(roomy);
        let max = self.ring.max_capacity();
        let wanted = wanted
            .checked_next_power_of_two()
            .map_or(max, |it| it.min(max));
        let new = wanted.saturating_sub(capacity);
        let committed = self
            .segment
            .commit_more(self.at + header::RING, wanted, new);
        committed.map_err(|err| {
            // Returns the pages that were committed for a part of it.
            let beyond = self.at + header::RING + capacity;
            let _ = self
                .segment
                .decommit(beyond, wanted.saturating_sub(capacity));
            err.with_available(|| self.segment.available())
        })?;
        crash_point!();
        self.grow_ring(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use crate::queue::Queue;
    use crate::segment::{self, Options};
    use crate::sys::clock::Timeout;

    #[test]
    fn looking_for_padding_touches_no_memory_that_may_be_gone() {
        let options = Options::create().capacity(4096).max_capacity(1 << 20);
        let queue = Queue::with_options(None, &options).unwrap();
        let committed = || segment::stat(queue.name()).unwrap().committed;
        let before = committed();
        // The view of a process that read the capacity just before the ring shrank.
        let header = queue.ring.header;
        header.capacity.store(1 << 20, Ordering::Relaxed);
        header.head.store(1 << 19, Ordering::Relaxed);
        header.tail.store((1 << 19) + 4096, Ordering::Relaxed);
        assert!(queue.ring.starts_done(), "the counts know of no message");
        header.producer.counts[0]
            .messages
            .store(1, Ordering::Relaxed);
        assert!(!queue.ring.starts_done());
        assert!(queue.ring.is_occupied());
        assert_eq!(committed(), before);
    }

    #[test]
    fn a_place_that_was_given_back_with_its_memory_is_not_looked_at() {
        let options = Options::create().capacity(4096).max_capacity(1 << 20);
        let queue = Queue::with_options(None, &options).unwrap();
        let place = |_| queue.reserve_place(100, Timeout::Infinite).unwrap();
        let places: Vec<_> = (0..300).map(place).collect();
        for place in &places {
            queue.discard(place).unwrap();
        }
        queue.shrink();
        let committed = || segment::stat(queue.name()).unwrap().committed;
        let before = committed();
        for place in &places {
            assert!(queue.discard(place).is_err());
            assert!(queue.commit(place, 1).is_err());
        }
        assert_eq!(committed(), before);
    }
}
