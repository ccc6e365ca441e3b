//! The byte ring: where records are, and how putting and taking publish themselves.
//!
//! No locks and no system calls here: [`Producer`] and [`Consumer`] are made by whoever holds
//! the lock of that side. A ring on the heap behaves like one in shared memory.
//!
//! ```text
//! offset  size  field            written by            invariant
//!      0     8  capacity         both locks held       R1: a power of two, 4096 ..= max
//!      8     8  max_capacity     creator               constant
//!     16     8  born_capacity    creator               constant; R1
//!     24     4  flags            either lock held      only ever gains bits
//!    128    64  producer lock    the C library
//!    192     8  seen_head        producer              R2: <= head
//!    200    32  put[2]           producer              messages and bytes ever put
//!    256     8  tail             producer              R3: head <= tail <= head + capacity
//!    384    64  consumer lock    the C library
//!    448     8  seen_tail        consumer              R4: <= tail
//!    456    32  taken[2]         consumer              messages and bytes ever taken
//!    512     8  head             consumer
//!    640    12  not_empty        event: consumers sleep on it
//!    768    12  not_full         event: producers sleep on it
//!   4096   cap  ring             records, back to back; no record crosses the end
//! ```
//!
//! **Cursors** count bytes since the ring was made and only grow; the record at cursor `c` is
//! at `c & (capacity - 1)`. Records are multiples of 16 bytes, so the low bits of a cursor
//! word are free, and bit 0 tells which of the two counters beside it belongs to it. One
//! store of that word therefore publishes the records *and* the counts, and a kill before
//! or after it leaves either the old pair or the new one. Nothing has ever to be counted
//! again, and repair has nothing to do but to check R1 and R3.
//!
//! **The end of the ring.** A record that does not fit before the end is put at the
//! beginning, and a DONE record fills the gap. It is published by itself, so that an empty
//! ring takes a message of its full capacity wherever its cursors stand.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::copy::copy;
use crate::error::{Error, Result};
use crate::layout::{CachePadded, Offset, Region, Shared};
use crate::sync::{EventCell, MutexCell, crash::crash_point};

use super::record::{self, HEADER, State};

/// Messages and payload bytes that have ever passed one end.
#[repr(C)]
#[derive(Default)]
struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// What only the holder of one side's lock writes.
#[repr(C, align(128))]
pub(crate) struct Side {
    pub(crate) lock: MutexCell,
    /// The other side's cursor as last seen, so that its line is read only when this one
    /// makes the ring look full or empty.
    seen: AtomicU64,
    counts: [Count; 2],
}

/// The head of the queue's data.
#[repr(C)]
pub(crate) struct Header {
    capacity: AtomicU64,
    max_capacity: AtomicU64,
    born_capacity: AtomicU64,
    pub(crate) flags: AtomicU32,
    pub(crate) producer: Side,
    pub(super) tail: CachePadded<AtomicU64>,
    pub(crate) consumer: Side,
    head: CachePadded<AtomicU64>,
    pub(crate) not_empty: CachePadded<EventCell>,
    pub(crate) not_full: CachePadded<EventCell>,
}

// SAFETY: atomics, mutexes and events only.
unsafe impl Shared for Header {}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Header, producer) == 128);
    assert!(offset_of!(Side, seen) == 64 && offset_of!(Side, counts) == 72);
    assert!(offset_of!(Header, tail) == 256);
    assert!(offset_of!(Header, consumer) == 384);
    assert!(offset_of!(Header, head) == 512);
    assert!(offset_of!(Header, not_empty) == 640);
    assert!(offset_of!(Header, not_full) == 768);
    assert!(size_of::<Header>() <= RING as usize);
};

/// Where the ring begins, from the head of the queue's data.
pub(crate) const RING: u64 = 4096;
/// The smallest ring.
pub(crate) const MIN_CAPACITY: u64 = 4096;

/// A batch publishes whenever it has done this many bytes: both sides then work at the same
/// time on the parts of a large one, and the parts stay within a core's cache.
const DUE: u64 = 64 << 10;

const CURSOR: u64 = !(record::ALIGN - 1);

/// A ring's header and its bytes, bounds-checked once.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    /// Mapped for as long as the ring's maker says (see [`Region::resolve`]).
    pub(crate) header: &'static Header,
    bytes: NonNull<u8>,
    max: u64,
}

// SAFETY: the bytes are reached only through a `Producer` or a `Consumer`, whose makers
// promise to be alone.
unsafe impl Send for Ring {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ring {}

impl Ring {
    /// Writes the header of an empty ring. Only while the region is private.
    pub(crate) fn init(region: &Region, at: u64, capacity: u64, max: u64) -> Result<()> {
        let header = region.resolve::<Header>(Offset::new(at))?;
        header.producer.lock.init()?;
        header.consumer.lock.init()?;
        header.capacity.store(capacity, Ordering::Relaxed);
        header.max_capacity.store(max, Ordering::Relaxed);
        header.born_capacity.store(capacity, Ordering::Relaxed);
        Ok(())
    }

    /// The ring whose header is at `at`.
    pub(crate) fn attach(region: &Region, at: u64) -> Result<Self> {
        let header = region.resolve::<Header>(Offset::new(at))?;
        let max = header.max_capacity.load(Ordering::Relaxed);
        if !max.is_power_of_two() {
            return Err(Error::corrupt(
                "R1: the ring's largest capacity is impossible",
            ));
        }
        let bytes = region.span(at + RING, usize::try_from(max).unwrap_or(usize::MAX))?;
        let ring = Self { header, bytes, max };
        ring.check().map(|()| ring)
    }

    pub(crate) fn max_capacity(&self) -> u64 {
        self.max
    }

    /// The capacity, which is R1 or corrupt.
    #[inline]
    pub(crate) fn capacity(&self) -> Result<u64> {
        self.plausible(self.header.capacity.load(Ordering::Relaxed))
    }

    /// The capacity the ring was made with, and shrinks to.
    pub(crate) fn born_capacity(&self) -> Result<u64> {
        self.plausible(self.header.born_capacity.load(Ordering::Relaxed))
    }

    #[inline]
    fn plausible(&self, capacity: u64) -> Result<u64> {
        if capacity.is_power_of_two() && capacity >= MIN_CAPACITY && capacity <= self.max {
            Ok(capacity)
        } else {
            Err(Error::corrupt("R1: the ring's capacity is impossible"))
        }
    }

    /// Checks R1 and R3. True at any moment, but exact only for who holds both locks.
    pub(crate) fn check(&self) -> Result<()> {
        let capacity = self.capacity()?;
        // The head first: it can then only be behind the tail that is read after it.
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        let tail = self.header.tail.load(Ordering::Acquire) & CURSOR;
        let used = tail.wrapping_sub(head);
        if used <= capacity.saturating_mul(2) && used.is_multiple_of(record::ALIGN) {
            Ok(())
        } else {
            Err(Error::corrupt(
                "R3: the ring's cursors are further apart than its capacity",
            ))
        }
    }

    /// Bytes of the ring in use, records and padding.
    #[inline]
    pub(crate) fn used(&self) -> u64 {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        // SYNC: observe(tail)
        (self.header.tail.load(Ordering::Acquire) & CURSOR).wrapping_sub(head)
    }

    /// Whether there is something to take. If so its first bytes are on their way already: they
    /// are on another core, as far as the cursor was, and the lock is yet to be taken.
    #[inline]
    pub(crate) fn is_occupied(&self) -> bool {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        if self.header.tail.load(Ordering::Acquire) & CURSOR == head {
            return false;
        }
        let offset = head & self.header.capacity.load(Ordering::Relaxed).wrapping_sub(1);
        prefetch(self.bytes.as_ptr().wrapping_add(offset as usize));
        true
    }

    /// Messages and payload bytes in the ring.
    pub(crate) fn counts(&self) -> (u64, u64) {
        // What was taken first: what was put can only have grown since.
        let taken = read_counts(&self.header.head, &self.header.consumer.counts);
        let put = read_counts(&self.header.tail, &self.header.producer.counts);
        (put.0.wrapping_sub(taken.0), put.1.wrapping_sub(taken.1))
    }

    /// # Safety
    /// The caller holds the producers' lock for as long as the end is used.
    #[inline]
    pub(crate) unsafe fn producer(self) -> Result<Producer> {
        let word = self.header.tail.load(Ordering::Relaxed);
        let seen = self.header.producer.seen.load(Ordering::Relaxed);
        let end = End::new(word, seen, &self.header.producer.counts);
        Ok(Producer {
            ring: self,
            capacity: self.capacity()?,
            end,
        })
    }

    /// # Safety
    /// The caller holds the consumers' lock for as long as the end is used.
    #[inline]
    pub(crate) unsafe fn consumer(self) -> Result<Consumer> {
        let word = self.header.head.load(Ordering::Relaxed);
        let seen = self.header.consumer.seen.load(Ordering::Relaxed);
        let end = End::new(word, seen, &self.header.consumer.counts);
        let consumer = Consumer {
            ring: self,
            capacity: self.capacity()?,
            end,
        };
        consumer.check_distance()?;
        Ok(consumer)
    }

    /// Doubles the capacity until it is at least `wanted`. The pages of the larger ring are
    /// there already.
    ///
    /// With capacity C, records at cursors with bit C set have to move to the upper half of
    /// the doubled ring; the others stay. What is copied lies beyond the old ring, so until
    /// the one store that publishes the new capacity nothing has changed.
    ///
    /// # Safety
    /// The caller holds both locks.
    pub(crate) unsafe fn grow(&self, wanted: u64) -> Result<()> {
        while self.capacity()? < wanted {
            let old = self.capacity()?;
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
            self.header.capacity.store(old * 2, Ordering::Release);
            crash_point!();
        }
        Ok(())
    }

    /// Gives an empty ring its first capacity again and returns the one it had; `None` if it
    /// is not empty or has not grown. No record has to move, and one store does it.
    ///
    /// # Safety
    /// The caller holds both locks.
    pub(crate) unsafe fn shrink(&self) -> Result<Option<u64>> {
        let (capacity, born) = (self.capacity()?, self.born_capacity()?);
        if capacity <= born || self.used() != 0 {
            return Ok(None);
        }
        self.header.capacity.store(born, Ordering::Release);
        crash_point!();
        Ok(Some(capacity))
    }
}

/// Asks for the two cache lines at `at`, which may be any address.
#[inline]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes nothing but what is cached.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

fn read_counts(cursor: &AtomicU64, counts: &[Count; 2]) -> (u64, u64) {
    loop {
        let word = cursor.load(Ordering::Acquire);
        let count = &counts[(word & 1) as usize];
        let pair = (
            count.messages.load(Ordering::Acquire),
            count.bytes.load(Ordering::Acquire),
        );
        // A count is written again only two publications later.
        if cursor.load(Ordering::Acquire) == word {
            return pair;
        }
    }
}

/// One side's private view: what it has done since it last published.
struct End {
    /// The cursor word as published.
    word: u64,
    /// The cursor it has come to.
    pos: u64,
    /// The other side's cursor as last seen.
    seen: u64,
    messages: u64,
    bytes: u64,
}

impl End {
    #[inline]
    fn new(word: u64, seen: u64, counts: &[Count; 2]) -> Self {
        let count = &counts[(word & 1) as usize];
        Self {
            word,
            pos: word & CURSOR,
            seen,
            messages: count.messages.load(Ordering::Relaxed),
            bytes: count.bytes.load(Ordering::Relaxed),
        }
    }

    /// Moves on. A cursor that somebody wrote over may wrap.
    #[inline]
    fn skip(&mut self, bytes: u64) {
        self.pos = self.pos.wrapping_add(bytes);
    }

    #[inline]
    fn count(&mut self, bytes: u64) {
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Whether enough is done that the other side should not wait for the rest of the batch.
    #[inline]
    fn is_due(&self) -> bool {
        self.pos.wrapping_sub(self.word & CURSOR) >= DUE
    }

    /// Publishes cursor and counts with one store.
    #[inline]
    fn publish(&mut self, cursor: &AtomicU64, counts: &[Count; 2]) {
        let which = (self.word & 1) ^ 1;
        let count = &counts[which as usize];
        // SYNC: pairs with the second look in `read_counts`: whoever reads what is stored
        // below also sees that the cursor has left the word these counts belonged to.
        fence(Ordering::Release);
        count.messages.store(self.messages, Ordering::Relaxed);
        crash_point!();
        count.bytes.store(self.bytes, Ordering::Relaxed);
        crash_point!();
        self.word = self.pos | which;
        // SYNC: publish(tail), publish(head)
        cursor.store(self.word, Ordering::Release);
        crash_point!();
    }
}

/// The putting end, in the hands of the lock's holder.
pub(crate) struct Producer {
    ring: Ring,
    capacity: u64,
    end: End,
}

impl Producer {
    /// Writes a message behind what is there, to be seen once it is published: by
    /// [`Self::publish`] at the latest. False if there is no room for it now.
    #[inline]
    pub(crate) fn push(&mut self, payload: &[u8]) -> Result<bool> {
        let need = record::size(payload.len() as u64).unwrap_or(u64::MAX);
        let mut offset = self.end.pos & (self.capacity - 1);
        let to_end = self.capacity - offset;
        if need > to_end {
            if !self.has_room(to_end)? {
                return Ok(false);
            }
            self.write_header(offset, State::Done, to_end - HEADER);
            self.end.skip(to_end);
            self.publish();
            offset = 0;
        }
        if !self.has_room(need)? {
            return Ok(false);
        }
        self.write_header(offset, State::Ready, payload.len() as u64);
        // SAFETY: R3: `need` bytes from `offset` on are free and inside the ring, and the
        // holder of the producers' lock is the only one who writes to free bytes.
        unsafe {
            let to = self.ring.bytes.add((offset + HEADER) as usize);
            copy(NonNull::from(payload).cast(), to, payload.len());
        }
        crash_point!();
        self.end.skip(need);
        self.end.count(payload.len() as u64);
        if self.end.is_due() {
            self.publish();
        }
        Ok(true)
    }

    #[inline]
    fn has_room(&mut self, need: u64) -> Result<bool> {
        let free = |end: &End| self.capacity.checked_sub(end.pos.wrapping_sub(end.seen));
        if free(&self.end).is_some_and(|free| free >= need) {
            return Ok(true);
        }
        // SYNC: observe(head): what the consumer has read may now be overwritten.
        self.end.seen = self.ring.header.head.load(Ordering::Acquire) & CURSOR;
        self.ring
            .header
            .producer
            .seen
            .store(self.end.seen, Ordering::Relaxed);
        match free(&self.end) {
            Some(free) => Ok(free >= need),
            None => Err(Error::corrupt("R3: the ring's cursors are too far apart")),
        }
    }

    #[inline]
    fn write_header(&self, offset: u64, state: State, len: u64) {
        // SAFETY: as in `push`; a record's offset is a multiple of 16 below the capacity.
        let header = unsafe {
            self.ring
                .bytes
                .add(offset as usize)
                .cast::<[AtomicU64; 2]>()
                .as_ref()
        };
        header[0].store(state as u64, Ordering::Relaxed);
        crash_point!();
        header[1].store(len, Ordering::Relaxed);
        crash_point!();
    }

    /// Makes everything pushed visible.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.end
            .publish(&self.ring.header.tail, &self.ring.header.producer.counts);
    }
}

/// The taking end, in the hands of the lock's holder.
pub(crate) struct Consumer {
    ring: Ring,
    capacity: u64,
    end: End,
}

/// A message in the ring, not yet taken.
pub(crate) struct Message {
    at: NonNull<u8>,
    len: usize,
    size: u64,
}

impl Message {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies the payload to `to`, which has room for [`Self::len`] bytes.
    ///
    /// # Safety
    /// The consumer this came from has not published past it.
    #[inline]
    pub(crate) unsafe fn copy_to(&self, to: NonNull<u8>) {
        // SAFETY: `peek` checked that the payload lies inside the ring; R3 keeps producers
        // away from it until the head moves on.
        unsafe { copy(self.at, to, self.len) };
    }
}

impl Consumer {
    /// R3 for what is left to read. Without it, cursors that somebody wrote over could lead
    /// round the ring for ever.
    #[inline]
    fn check_distance(&self) -> Result<()> {
        if self.end.seen.wrapping_sub(self.end.pos) <= self.capacity {
            Ok(())
        } else {
            Err(Error::corrupt("R3: the ring's cursors are too far apart"))
        }
    }

    /// The next message, if there is one.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Message>> {
        loop {
            if self.end.pos == self.end.seen {
                // SYNC: observe(tail): the records up to it are whole.
                self.end.seen = self.ring.header.tail.load(Ordering::Acquire) & CURSOR;
                self.ring
                    .header
                    .consumer
                    .seen
                    .store(self.end.seen, Ordering::Relaxed);
                if self.end.pos == self.end.seen {
                    return Ok(None);
                }
                self.check_distance()?;
            }
            let offset = self.end.pos & (self.capacity - 1);
            // SAFETY: R1 and the alignment of cursors: 16 bytes at `offset` are in the ring.
            let header = unsafe {
                self.ring
                    .bytes
                    .add(offset as usize)
                    .cast::<[AtomicU64; 2]>()
                    .as_ref()
            };
            let state = State::of(header[0].load(Ordering::Relaxed));
            let len = header[1].load(Ordering::Relaxed);
            let available = self
                .end
                .seen
                .wrapping_sub(self.end.pos)
                .min(self.capacity - offset);
            let size = record::size(len).filter(|&size| size <= available);
            match (state, size) {
                (Some(State::Ready), Some(size)) => {
                    // SAFETY: `size <= capacity - offset`.
                    let at = unsafe { self.ring.bytes.add((offset + HEADER) as usize) };
                    return Ok(Some(Message {
                        at,
                        len: len as usize,
                        size,
                    }));
                }
                (Some(State::Done), Some(size)) => self.end.skip(size),
                _ => return Err(Error::corrupt("a record's header is not one")),
            }
        }
    }

    /// Moves over the message, which was copied out and may be overwritten from now on.
    #[inline]
    pub(crate) fn advance(&mut self, message: &Message) {
        self.end.skip(message.size);
        self.end.count(message.len as u64);
        if self.end.is_due() {
            self.publish();
        }
    }

    /// Frees everything that was moved over, and says whether that was anything.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        let moved = self.end.pos != self.end.word & CURSOR;
        if moved {
            self.end
                .publish(&self.ring.header.head, &self.ring.header.consumer.counts);
        }
        moved
    }

    /// Whether there is more behind what was moved over, as far as is known without asking.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.end.pos != self.end.seen
    }
}
