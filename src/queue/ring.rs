//! The byte ring: where records are, and how it grows and shrinks.
//!
//! No locks and no system calls here (see `locked` for the locks), except for a check of the memory when the
//! capacity has changed: a ring on the heap behaves like one in shared memory.
//!
//! **The end of the ring.** A record that does not fit before the end is put at the beginning, and a DONE
//! record fills the gap. Both are published together, and only if there is room for both: a put that finds
//! no room leaves the ring as it was. A record that does not fit together with the gap waits until the ring
//! is empty, or until smaller messages, which are put meanwhile, have moved the tail to where it fits. In an
//! empty ring the gap is published by itself, and the producer moves the head over it: so an empty ring takes
//! a message of its full capacity wherever its cursors stand.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache;
use crate::error::{Error, Result};
use crate::layout::{Offset, Region, SharedRef};
use crate::sync::crash::crash_point;
use crate::sync::memory;

use super::header::{CURSOR, MIN_CAPACITY, QueueHeader, RING};
use super::record::{self, HEADER, RecordState};
use super::store::MessageStore;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// A ring's header and its bytes, whose bounds were checked once.
pub(crate) struct Ring {
    pub(crate) header: SharedRef<QueueHeader>,
    pub(super) bytes: NonNull<u8>,
    max: u64,
    /// One bit for each capacity that the ring may have.
    sizes: u64,
    /// The capacity that this handle last found under a lock. That many bytes have memory.
    found: AtomicU64,
    /// The capacity at creation, to which the ring shrinks. This many of its bytes always have memory.
    initial: u64,
    /// The most messages that the ring holds.
    items: u64,
    pub(super) store: MessageStore,
}

// SAFETY: the bytes are reached only through a `Producer` or a `Consumer`. Their constructors require the
// side's lock, so there is one of each at a time.
unsafe impl Send for Ring {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ring {}

impl Ring {
    /// Writes the header of an empty ring. Only while the region is private.
    ///
    /// `items` is the most messages that the ring may hold, 0 for as many as fit. `attempts` is how often a
    /// message is delivered at most, 0 for no bound.
    pub(crate) fn init(
        region: &Region,
        at: u64,
        capacity: u64,
        max: u64,
        items: u64,
        attempts: u8,
    ) -> Result<()> {
        let header = region.resolve::<QueueHeader>(Offset::new(at))?;
        header.capacity.store(capacity, Ordering::Relaxed);
        header.max_capacity.store(max, Ordering::Relaxed);
        header.initial_capacity.store(capacity, Ordering::Relaxed);
        header.max_items.store(items, Ordering::Relaxed);
        header
            .max_attempts
            .store(attempts.into(), Ordering::Relaxed);
        Ok(())
    }

    /// The ring whose header is at `at`.
    pub(crate) fn attach(region: &Region, at: u64) -> Result<Self> {
        let header = region.keep::<QueueHeader>(Offset::new(at))?;
        let max = header.max_capacity.load(Ordering::Relaxed);
        if !max.is_power_of_two() || max < MIN_CAPACITY {
            return Err(Error::corrupt(
                "R1: the ring's largest capacity is impossible",
            ));
        }
        let bytes = region.span(at + RING, usize::try_from(max).unwrap_or(usize::MAX))?;
        let store = MessageStore::new(
            *region,
            at + RING + max,
            max,
            header.part(|it| &it.store.arena),
        )?;
        let items = match header.max_items.load(Ordering::Relaxed) {
            0 => u64::MAX,
            items => items,
        };
        let mut ring = Self {
            header,
            bytes,
            max,
            sizes: max | (max - MIN_CAPACITY),
            found: AtomicU64::new(0),
            initial: MIN_CAPACITY,
            items,
            store,
        };
        ring.initial = ring.plausible(header.initial_capacity.load(Ordering::Relaxed))?;
        ring.found = AtomicU64::new(ring.initial);
        ring.check().map(|()| ring)
    }

    pub(crate) fn max_capacity(&self) -> u64 {
        self.max
    }

    /// The most messages the ring holds at a time, without those in the store; `u64::MAX` for as many as fit.
    #[inline]
    pub(crate) fn max_items(&self) -> u64 {
        self.items
    }

    /// Whether the bound on messages admits one more.
    #[inline]
    pub(crate) fn takes_one_more(&self) -> bool {
        self.items == u64::MAX || self.header.counts().0.saturating_add(self.writing()) < self.items
    }

    /// Bytes of a segment's data, behind the header, for a ring that grows to `max`.
    pub(crate) fn size(max: u64) -> u64 {
        max.saturating_add(MessageStore::size(max))
    }

    /// Reservations that are being written.
    #[inline]
    fn writing(&self) -> u64 {
        // SYNC: observe(count)
        self.header.producer.writing.load(Ordering::Acquire)
    }

    /// Bytes that are kept free for the records of reservations, so that a commit never waits for room.
    #[inline]
    pub(super) fn set_aside(&self) -> u64 {
        self.writing().wrapping_mul(HEADER)
    }

    /// Whether the message store may still yield messages: some are WAITING for a time that comes or are being
    /// written, or more than the caller's own `mine` are leased.
    pub(super) fn may_come_back(&self, mine: u64) -> bool {
        let store = &self.header.store;
        // SYNC: observe(count): in this order. A message is counted in `waiting` before it is no longer counted in
        // `leased`, and before it is counted in `never`.
        let leased = store.leased.load(Ordering::Acquire);
        let never = store.never.load(Ordering::Acquire);
        leased > mine || store.waiting.load(Ordering::Acquire) > never.into() || self.writing() > 0
    }

    /// Whether a record of `need` bytes can be put: as `Producer::place_slow` decides.
    pub(super) fn has_room(&self, need: u64) -> bool {
        let Ok(capacity) = self.capacity() else {
            return false;
        };
        let (tail, used) = self.header.tail_and_used();
        let to_end = capacity - (tail & (capacity - 1));
        // An empty ring gets rid of the padding before the record is put.
        let padding = if need > to_end && used > 0 { to_end } else { 0 };
        let taken = used.saturating_add(self.set_aside());
        capacity.saturating_sub(taken) >= need.saturating_add(padding)
    }

    /// The capacity; `Corrupt` unless R1 holds.
    #[inline]
    pub(crate) fn capacity(&self) -> Result<u64> {
        self.plausible(self.header.capacity.load(Ordering::Relaxed))
    }

    /// The same, and all these bytes have memory. For the owner of either lock: with both free, the capacity may
    /// change, and the memory be given back.
    #[inline(always)]
    pub(super) fn capacity_in_use(&self) -> Result<u64> {
        let capacity = self.header.capacity.load(Ordering::Relaxed);
        match capacity == self.found.load(Ordering::Relaxed) {
            true => Ok(capacity),
            false => self.find_capacity(capacity),
        }
    }

    /// The capacity has changed: it is the initial one, or a process has committed memory for it before it wrote
    /// the word.
    #[cold]
    #[inline(never)]
    fn find_capacity(&self, capacity: u64) -> Result<u64> {
        let capacity = self.plausible(capacity)?;
        if capacity > self.initial {
            memory::ensure(self.bytes, capacity as usize)?;
        }
        self.found.store(capacity, Ordering::Relaxed);
        Ok(capacity)
    }

    /// The capacity at creation, to which the ring shrinks.
    pub(crate) fn initial_capacity(&self) -> u64 {
        self.initial
    }

    #[inline]
    fn plausible(&self, capacity: u64) -> Result<u64> {
        // A power of two that is among `sizes`.
        if capacity & capacity.wrapping_sub(1) == 0 && capacity & self.sizes != 0 {
            Ok(capacity)
        } else {
            Err(corrupt("R1: the ring's capacity is impossible"))
        }
    }

    /// Checks R1 and R3, which hold at any moment. The check is exact only under both locks.
    pub(crate) fn check(&self) -> Result<()> {
        let head = &self.header.head;
        loop {
            let capacity = self.capacity()?;
            // The head is read first: a tail that is read after it is never behind it.
            let at = head.load(Ordering::Acquire);
            let tail = self.header.tail.load(Ordering::Acquire);
            let used = (tail & CURSOR).wrapping_sub(at & CURSOR);
            if used <= capacity.saturating_mul(2) && used.is_multiple_of(record::ALIGN) {
                return Ok(());
            }
            // Between the loads, other processes may have filled the ring several times, or resized it.
            if head.load(Ordering::Acquire) == at && self.capacity()? == capacity {
                return Err(Error::corrupt(
                    "R3: the ring's cursors are further apart than its capacity",
                ));
            }
        }
    }

    /// The header of the record at `offset` in the ring.
    #[inline(always)]
    pub(super) fn header_at(&self, offset: u64) -> &[AtomicU64; 2] {
        debug_assert!(offset.is_multiple_of(record::ALIGN) && offset + HEADER <= self.max);
        // SAFETY: R1 and the alignment of cursors: 16 bytes at `offset` are in the ring.
        unsafe {
            self.bytes
                .add(offset as usize)
                .cast::<[AtomicU64; 2]>()
                .as_ref()
        }
    }

    /// Whether the first record is padding. A hint: nothing is locked.
    ///
    /// Between two loads here, others may empty the ring, shrink it and return its memory. Reading a record
    /// there commits a page of `/dev/shm`, or raises SIGBUS where none is left. So only the part of the ring
    /// that always has memory is read. Beyond that part, padding is recognised only if the counts say that
    /// there is no message. If messages lie behind it, the consumer that takes the next one moves over both.
    pub(crate) fn starts_done(&self) -> bool {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        if self.header.tail.load(Ordering::Acquire) & CURSOR == head {
            return false;
        }
        let offset = head & self.capacity().unwrap_or(MIN_CAPACITY).wrapping_sub(1);
        if offset >= self.initial {
            return self.header.counts().0 == 0;
        }
        let word = self.header_at(offset)[0].load(Ordering::Acquire);
        RecordState::of(word) == Some(RecordState::Done)
    }

    /// Whether there is something to take. If it is in the ring, its first cache lines are prefetched:
    /// another core has them, and they arrive while the lock is taken.
    #[inline]
    pub(crate) fn is_occupied(&self) -> bool {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        if self.header.tail.load(Ordering::Acquire) & CURSOR == head {
            return self.header.first.load(Ordering::Relaxed) != 0;
        }
        let offset = head & self.header.capacity.load(Ordering::Relaxed).wrapping_sub(1);
        let at = self.bytes.as_ptr().wrapping_add(offset as usize);
        cache::fetch_to_read(at);
        cache::fetch_to_read(at.wrapping_add(LINE));
        true
    }

    /// Doubles the capacity until it is at least `wanted`. The caller has committed the pages of the larger
    /// ring.
    ///
    /// With capacity C, records at cursors with bit C set move to the upper half of the doubled ring; the
    /// others stay. The copies lie beyond the old ring, so nothing has changed until one store publishes the
    /// new capacity.
    ///
    /// # Safety
    /// Both locks are held.
    pub(crate) unsafe fn grow(&self, wanted: u64) -> Result<()> {
        loop {
            let old = self.capacity_in_use()?;
            if old >= wanted {
                return Ok(());
            }
            if old > self.max / 2 {
                return Err(Error::corrupt("R1: the ring was to outgrow its segment"));
            }
            let head = self.header.head.load(Ordering::Relaxed) & CURSOR;
            let tail = self.header.tail.load(Ordering::Relaxed) & CURSOR;
            if tail.wrapping_sub(head) > old {
                return Err(Error::corrupt("R3: the ring holds more than its capacity"));
            }
            // The occupied cursors meet at most one multiple of C; split them there.
            let seam = (head | (old - 1)).wrapping_add(1);
            for (from, to) in [(head, tail.min(seam)), (seam.min(tail), tail)] {
                if from & old != 0 && from < to {
                    let at = from & (old - 1);
                    let len = (to - from).min(old - at) as usize;
                    // SAFETY: R3: both spans lie inside the ring of 2C <= max bytes, and the
                    // upper one is beyond everything in use.
                    unsafe {
                        let src = self.bytes.add(at as usize);
                        src.copy_to_nonoverlapping(self.bytes.add((old + at) as usize), len);
                    }
                    crash_point!();
                }
            }
            self.found.store(old * 2, Ordering::Relaxed);
            self.header.capacity.store(old * 2, Ordering::Release);
            crash_point!();
        }
    }

    /// Gives an empty ring its initial capacity again and returns the previous one; `None` if the ring is not
    /// empty or has not grown. No record moves, and one store commits the change.
    ///
    /// # Safety
    /// Both locks are held.
    pub(crate) unsafe fn shrink(&self) -> Result<Option<u64>> {
        let (capacity, initial) = (self.capacity()?, self.initial);
        if capacity <= initial || self.header.used() != 0 || self.set_aside() > initial / 2 {
            return Ok(None);
        }
        self.header.capacity.store(initial, Ordering::Release);
        crash_point!();
        Ok(Some(capacity))
    }
}

/// The error of checks in every put and get. Out of line, so that those stay small.
#[cold]
#[inline(never)]
pub(super) fn corrupt(what: &'static str) -> Error {
    Error::corrupt(what)
}
