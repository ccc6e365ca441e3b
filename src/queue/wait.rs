//! Locking, waiting, growing, shrinking and closing: everything that makes one end wait for the other.
//!
//! # Who wakes whom, and when
//! The wake-up policy decides the speed of a queue on a machine where a wake-up costs as much
//! as hundreds of messages (see `sync::event`). Three rules:
//!
//! 1. Whoever finds nothing to do looks [`SPINS`] times more before it sleeps: with both sides
//!    running, the next message is only a cache line away.
//! 2. Sleeping producers are woken once the ring has drained to half, so that they have
//!    something to do when they arrive. A single one at its limit would otherwise be woken
//!    for every message.
//! 3. Whoever was woken wakes the next one if there is work left for it.
//!
//! # What a kill leaves
//! Both sides publish with one store (see `ring`), so a dead owner's half-written record or
//! half-taken message is simply not there. The next owner checks that the cursors make sense
//! and wakes everybody, since the dead may have owed somebody a wake.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::sync::{Acquired, Guard, RobustMutex, crash::crash_point, publish_fence};
use crate::sys::clock::Deadline;

use super::ends::Consumer;
use super::header;
use super::ops::Queue;
use super::record;

/// Looks at the other side's cursor before the core is given away for the first time: some
/// microseconds, in which a peer that is running does many messages.
const SPINS: u32 = 300;

/// A ring grows at once, up to a size, until it holds this many messages of those put.
const ROOMY: u64 = 8;
const ROOMY_UP_TO: u64 = 4 << 20;

/// Bits of the ring's flags.
const CLOSED: u32 = 1;
const POISONED: u32 = 2;

impl Queue {
    /// Takes what `taken` finds at the taking end, waiting while it finds nothing.
    #[inline]
    pub(super) fn take<T>(
        &self,
        deadline: Deadline,
        mut taken: impl FnMut(&mut Consumer) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            let guard = self.lock_consumers(deadline)?;
            // Before looking: once a queue is closed, what is not there will never be.
            let closed = self.flags() & CLOSED != 0;
            // SAFETY: the consumers' lock is held until after the last use.
            let mut end = unsafe { Consumer::new(self.ring) }?;
            let found = taken(&mut end);
            let whole = matches!(found, Err(Error::BufferTooSmall { .. }) | Ok(_));
            let freed = whole && end.publish();
            let more = end.has_more();
            drop(guard);
            if let Some(value) = found? {
                self.told_producers();
                if more {
                    self.ring.header.not_empty.notify_one();
                }
                return Ok(value);
            }
            if freed {
                // Padding, which is room as well.
                self.told_producers();
            }
            if closed {
                return Err(Error::Closed);
            }
            if deadline == Deadline::Now {
                return Err(Error::Empty);
            }
            // Others may be faster every time.
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            let ready = || self.ring.is_occupied() || self.has_ended();
            let idle = || self.shrink();
            self.ring
                .header
                .not_empty
                .wait(SPINS, deadline, ready, idle)?;
        }
    }

    /// Waits until there may be room for `need` bytes, or makes some by growing.
    #[cold]
    pub(super) fn make_room(&self, need: u64, deadline: Deadline) -> Result<()> {
        let capacity = self.ring.capacity()?;
        let room = || capacity.saturating_sub(self.ring.header.used()) >= need;
        // Others may be faster every time; growth is worth a last try.
        let late = deadline != Deadline::Now && deadline.passed();
        // A ring that holds only a few of such messages makes both ends wait for each other.
        let cramped = need > capacity / ROOMY && capacity < ROOMY_UP_TO;
        if deadline != Deadline::Now && !cramped && !late {
            for _ in 0..SPINS {
                if room() {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        let may_grow = capacity < self.ring.max_capacity();
        if !(cramped && may_grow) && self.only_padding() {
            self.skip_padding(deadline)?;
            if room() {
                return Ok(());
            }
        }
        if may_grow {
            match self.grow(capacity, need, deadline) {
                // As good as a queue that may not grow, if the message fits in that.
                Err(Error::NoSpace { .. }) if need <= capacity && deadline != Deadline::Now => {}
                other => return other,
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
        if deadline == Deadline::Now {
            return Err(Error::Full);
        }
        let changed = || self.ring.capacity() != Ok(capacity);
        let ready = || room() || self.has_ended() || changed() || self.only_padding();
        self.ring
            .header
            .not_full
            .wait(SPINS, deadline, ready, || ())
    }

    /// Doubles the ring, unless somebody else was faster.
    fn grow(&self, seen: u64, need: u64, deadline: Deadline) -> Result<()> {
        // Lock order: producers, consumers.
        let _producers = self.lock_producers(deadline)?;
        let _consumers = self.lock_consumers(deadline)?;
        let capacity = self.ring.capacity()?;
        if capacity != seen {
            return Ok(());
        }
        let roomy = need.saturating_mul(ROOMY).min(ROOMY_UP_TO);
        let wanted = need
            .saturating_add(self.ring.header.used())
            .max(capacity * 2)
            .max(roomy);
        let max = self.ring.max_capacity();
        let wanted = wanted
            .checked_next_power_of_two()
            .map_or(max, |it| it.min(max));
        let committed = self.segment.commit(Segment::DATA + header::RING, wanted);
        if committed.is_err() {
            // What was there for a part of it is there for others, then.
            let beyond = Segment::DATA + header::RING + capacity;
            let _ = self
                .segment
                .decommit(beyond, wanted.saturating_sub(capacity));
        }
        committed?;
        crash_point!();
        // SAFETY: both locks are held.
        unsafe { self.ring.grow(wanted) }
    }

    /// Gives back what a burst made the ring grow by. Called when nothing came for a while: a
    /// ring that shrank between two messages of a stream would only have to grow again.
    ///
    /// Killed after the capacity was stored, it leaves pages that nobody uses until the ring
    /// grows over them or shrinks again. A failure means the same.
    #[cold]
    fn shrink(&self) {
        let (Ok(capacity), Ok(born)) = (self.ring.capacity(), self.ring.born_capacity()) else {
            return;
        };
        if capacity <= born {
            return;
        }
        // Whoever holds a lock is not idle.
        let Ok(_producers) = self.lock_producers(Deadline::Now) else {
            return;
        };
        let Ok(_consumers) = self.lock_consumers(Deadline::Now) else {
            return;
        };
        // SAFETY: both locks are held.
        if let Ok(Some(old)) = unsafe { self.ring.shrink() } {
            let _ = self
                .segment
                .decommit(Segment::DATA + header::RING + born, old - born);
        }
    }

    /// Whether there is nothing in the ring but padding. A consumer that looks at the length
    /// before it takes never moves over that.
    #[inline]
    fn only_padding(&self) -> bool {
        // Padding reaches to the end of the ring, as large as that was at the time. Asked
        // first, since the counts are on lines that both sides write to.
        let tail = self.ring.header.tail.load(Ordering::Relaxed);
        let at_end = tail & (header::MIN_CAPACITY - 1) < record::ALIGN;
        at_end && self.ring.header.used() != 0 && self.is_empty()
    }

    /// Moves the head over padding that no consumer is there to move over, so that a message
    /// as large as the ring finds an empty one.
    fn skip_padding(&self, deadline: Deadline) -> Result<()> {
        let _guard = self.lock_consumers(deadline)?;
        // SAFETY: the consumers' lock is held until after the last use.
        let mut end = unsafe { Consumer::new(self.ring) }?;
        let looked = end.peek();
        end.publish();
        looked.map(drop)
    }

    /// Something was put and the lock released.
    #[inline]
    pub(super) fn told_consumers(&self) {
        publish_fence();
        self.ring.header.not_empty.notify_one();
        self.wake_producers();
    }

    /// Something was taken and the lock released.
    #[inline]
    fn told_producers(&self) {
        publish_fence();
        self.wake_producers();
    }

    /// Rule 2: only when there is something to do for a while.
    #[inline]
    fn wake_producers(&self) {
        let not_full = &self.ring.header.not_full;
        // Padding alone is no reason to wait for a consumer, and may be more than half.
        if not_full.has_sleepers()
            && (self.ring.header.used() <= self.capacity() / 2 || self.only_padding())
        {
            not_full.notify_one();
        }
    }

    /// Closes the queue for all processes: nothing can be put any more; what is there can be
    /// taken, and then every `get` reports `Closed`. Wakes all who wait. Closing twice is
    /// no error.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn close(&self) -> Result<()> {
        let guard = match self.lock_producers(Deadline::Never) {
            Ok(guard) => guard,
            Err(Error::Closed) => return Ok(()),
            Err(err) => return Err(err),
        };
        self.ring.header.flags.fetch_or(CLOSED, Ordering::SeqCst);
        crash_point!();
        drop(guard);
        self.wake_everybody();
        Ok(())
    }

    /// Whether [`close`](Self::close) was called, by whatever process.
    pub fn is_closed(&self) -> bool {
        self.flags() & CLOSED != 0
    }

    /// Whether there is no more to wait for.
    fn has_ended(&self) -> bool {
        self.flags() & (CLOSED | POISONED) != 0
    }

    fn flags(&self) -> u32 {
        self.ring.header.flags.load(Ordering::Acquire)
    }

    fn wake_everybody(&self) {
        self.ring.header.not_empty.notify_all();
        self.ring.header.not_full.notify_all();
    }

    /// # Errors
    /// `Closed`: whoever wants to put must not.
    #[inline]
    pub(super) fn lock_producers(&self, deadline: Deadline) -> Result<Guard<'_>> {
        let guard = self.lock(&self.producers, deadline)?;
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(guard)
        }
    }

    #[inline]
    fn lock_consumers(&self, deadline: Deadline) -> Result<Guard<'_>> {
        self.lock(&self.consumers, deadline)
    }

    #[inline]
    fn lock<'a>(&self, mutex: &'a RobustMutex, deadline: Deadline) -> Result<Guard<'a>> {
        let guard = match mutex.lock(deadline)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => self.repair(guard)?,
        };
        if self.flags() & POISONED != 0 {
            return Err(Error::Poisoned {
                what: "the queue's cursors made no sense".into(),
            });
        }
        Ok(guard)
    }

    #[cold]
    fn repair<'a>(&self, guard: Guard<'a>) -> Result<Guard<'a>> {
        if self.ring.check().is_err() {
            self.ring.header.flags.fetch_or(POISONED, Ordering::SeqCst);
        }
        guard.mark_consistent();
        self.wake_everybody();
        Ok(guard)
    }
}
