//! The head of a queue's data: its layout, and the meaning of the counts next to a cursor.
//!
//! ```text
//! offset  size  field            written by            invariant
//!      0     8  capacity         both locks held       R1: a power of two, 4096 ..= max
//!      8     8  max_capacity     creator               constant
//!     16     8  initial_capacity creator               constant; R1
//!     24     8  max_items        creator               constant; 0 for no bound
//!     32     4  flags            either lock held      CLOSED and POISONED are never removed; RELAYED
//!                                                    changes under the producers' lock
//!     36     4  max_attempts     creator               constant; 0 for no bound
//!    128    64  producer lock    see `sync::lock`
//!    192     8  seen_head        producer              R2: <= head
//!    200    32  put[2]           producer              messages and bytes ever put
//!    232     8  seen_taken       producer              <= messages ever taken
//!    240     8  writing          producer              derived: reservations that are being written
//!    248     8  serial           producer              reservations ever made
//!    256     8  tail             producer              R3: head <= tail <= head + capacity
//!    384    64  consumer lock    see `sync::lock`
//!    448     8  seen_tail        consumer              R4: <= tail
//!    456    32  taken[2]         consumer              messages and bytes ever taken
//!    512     8  head             consumer
//!    520     8  due              consumer              when to check the store for redelivery; 0: never
//!    528    12  finished         event: processes that wait for all acks sleep on it
//!    540     4  first            consumer              derived: the first message due in the store, or 0
//!    544    12  unsignalled      event: threads of descriptors sleep on it (see `readiness`)
//!    556    12  to_signal        event: likewise
//!    568     8  fifo             signal lock held      inode of the queue's FIFO, 0 until it has one
//!    576     8  watched          thread of a descriptor when such a thread last checked the FIFO
//!    640    12  not_empty        event: consumers sleep on it
//!    652     4  descriptors      signal lock held      AWAITED and SIGNALLED (see `readiness`)
//!    704    64  signal lock      see `sync::lock`
//!    768    12  not_full         event: producers sleep on it
//!    896    12  parked_producers event: see `admission`
//!   1024    12  parked_consumers event: likewise
//!   1152   704  store            see `store`
//!   1920   128  relay            see `relay::state`
//!   4096   cap  ring             records, back to back; no record crosses the end
//!  + max        store            a heap of messages that lie outside the ring
//! ```
//!
//! **Cursors** count bytes since the ring was made and only grow; the record at cursor `c` is at `c &
//! (capacity - 1)`. Records are multiples of 16 bytes, so the low bits of a cursor word are free, and bit 0
//! says which of the two counters next to the word belongs to it. One store of that word therefore publishes
//! the records *and* the counts, and a kill before or after it leaves either the old pair or the new one.
//! These counts are never rebuilt: the repair of the ring is a check of R1 and R3.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::layout::{CachePadded, Shared};
use crate::relay::RelayState;
use crate::sync::{EventCell, LockCell, crash::crash_point};

use super::record;
use super::store::MessageStoreState;

/// Bits of the queue's flags.
pub(super) const CLOSED: u32 = 1;
pub(super) const POISONED: u32 = 2;
/// What others put becomes a request to a relay.
pub(super) const RELAYED: u32 = 4;

/// Messages, and bytes of payload.
pub(super) type Passed = (u64, u64);

/// What has ever passed one end.
#[repr(C)]
#[derive(Default)]
pub(super) struct Count {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What only the owner of the producers' lock writes.
#[repr(C, align(128))]
pub(crate) struct ProducerFields {
    pub(crate) lock: LockCell,
    /// The head as last seen. The cache line of the head itself is read only if the ring is full by this
    /// value.
    pub(super) seen: AtomicU64,
    pub(super) counts: [Count; 2],
    /// How many messages the consumers had taken, as last seen.
    pub(super) seen_taken: AtomicU64,
    /// Room in the ring is set aside for each of them.
    pub(super) writing: AtomicU64,
    pub(super) serial: AtomicU64,
}

/// What only the owner of the consumers' lock writes.
#[repr(C, align(128))]
pub(crate) struct ConsumerFields {
    pub(crate) lock: LockCell,
    /// The tail as last seen.
    pub(super) seen: AtomicU64,
    pub(super) counts: [Count; 2],
}

/// What a process reads after each put, to learn which processes to notify.
#[repr(C, align(128))]
pub(crate) struct Arrivals {
    pub(crate) not_empty: EventCell,
    pub(super) descriptors: AtomicU32,
    /// For what `readiness` changes.
    pub(super) signal_lock: LockCell,
}

/// The head of the queue's data.
#[repr(C)]
pub(crate) struct QueueHeader {
    pub(super) capacity: AtomicU64,
    pub(super) max_capacity: AtomicU64,
    pub(super) initial_capacity: AtomicU64,
    pub(super) max_items: AtomicU64,
    pub(crate) flags: AtomicU32,
    pub(super) max_attempts: AtomicU32,
    pub(crate) producer: ProducerFields,
    pub(super) tail: CachePadded<AtomicU64>,
    pub(crate) consumer: ConsumerFields,
    pub(super) head: AtomicU64,
    // Read by processes that wait for messages, which read the head as well, and rarely written.
    pub(super) due: AtomicU64,
    pub(super) finished: EventCell,
    pub(super) first: AtomicU32,
    pub(super) unsignalled: EventCell,
    pub(super) to_signal: EventCell,
    pub(super) fifo: AtomicU64,
    pub(super) watched: AtomicU64,
    pub(crate) arrivals: Arrivals,
    pub(crate) not_full: CachePadded<EventCell>,
    pub(super) parked_producers: CachePadded<EventCell>,
    pub(super) parked_consumers: CachePadded<EventCell>,
    pub(super) store: CachePadded<MessageStoreState>,
    pub(super) relay: CachePadded<RelayState>,
}

// SAFETY: `repr(C)`, and every field is made of atomics.
unsafe impl Shared for QueueHeader {}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(QueueHeader, producer) == 128);
    assert!(offset_of!(ProducerFields, seen) == 64 && offset_of!(ProducerFields, counts) == 72);
    assert!(offset_of!(ProducerFields, writing) == 112 && size_of::<ProducerFields>() == 128);
    assert!(offset_of!(ConsumerFields, seen) == 64 && offset_of!(ConsumerFields, counts) == 72);
    assert!(size_of::<ConsumerFields>() == 128);
    assert!(offset_of!(QueueHeader, tail) == 256);
    assert!(offset_of!(QueueHeader, consumer) == 384);
    assert!(offset_of!(QueueHeader, head) == 512 && offset_of!(QueueHeader, due) == 520);
    assert!(offset_of!(QueueHeader, finished) == 528 && offset_of!(QueueHeader, first) == 540);
    assert!(
        offset_of!(QueueHeader, unsignalled) == 544 && offset_of!(QueueHeader, to_signal) == 556
    );
    assert!(offset_of!(QueueHeader, fifo) == 568 && offset_of!(QueueHeader, watched) == 576);
    assert!(offset_of!(QueueHeader, arrivals) == 640);
    assert!(offset_of!(Arrivals, not_empty) == 0 && offset_of!(Arrivals, descriptors) == 12);
    assert!(offset_of!(Arrivals, signal_lock) == 64 && size_of::<Arrivals>() == 128);
    assert!(offset_of!(QueueHeader, not_full) == 768);
    assert!(offset_of!(QueueHeader, parked_producers) == 896);
    assert!(offset_of!(QueueHeader, parked_consumers) == 1024);
    assert!(offset_of!(QueueHeader, store) == 1152 && size_of::<MessageStoreState>() == 704);
    assert!(offset_of!(QueueHeader, max_attempts) == 36);
    assert!(offset_of!(QueueHeader, relay) == 1920);
    assert!(size_of::<QueueHeader>() <= RING as usize);
};

/// Changes a derived count, under its lock. After a kill, the next owner of that lock counts again.
pub(super) fn change(count: &AtomicU64, by: i64) {
    let sum = count.load(Ordering::Relaxed).saturating_add_signed(by);
    // SYNC: publish(count): a process that reads it without the lock sees what was done before, such as a commit.
    count.store(sum, Ordering::Release);
    crash_point!();
}

/// Where the ring begins, from the head of the queue's data.
pub(crate) const RING: u64 = 4096;
/// The smallest ring.
pub(crate) const MIN_CAPACITY: u64 = 4096;

/// The bits of a cursor's word that are the cursor.
pub(super) const CURSOR: u64 = !(record::ALIGN - 1);

impl QueueHeader {
    #[inline]
    pub(super) fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    /// Whether nothing can be put any more.
    pub(super) fn has_ended(&self) -> bool {
        self.flags() & (CLOSED | POISONED) != 0
    }

    /// Bytes of the ring in use, records and padding.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        self.tail_and_used().1
    }

    /// The tail, and the bytes before it that are in use.
    #[inline]
    pub(super) fn tail_and_used(&self) -> (u64, u64) {
        let head = self.head.load(Ordering::Acquire) & CURSOR;
        // SYNC: observe(tail)
        let tail = self.tail.load(Ordering::Acquire) & CURSOR;
        (tail, tail.wrapping_sub(head))
    }

    /// What was ever put.
    pub(super) fn put(&self) -> Passed {
        read_counts(&self.tail, &self.producer.counts).1
    }

    /// The tail, and how many messages were ever put up to it.
    pub(super) fn end(&self) -> (u64, u64) {
        let (word, (messages, _)) = read_counts(&self.tail, &self.producer.counts);
        (word & CURSOR, messages)
    }

    /// What was ever taken.
    pub(super) fn taken(&self) -> Passed {
        read_counts(&self.head, &self.consumer.counts).1
    }

    /// Messages and payload bytes in the ring, or named by it.
    pub(super) fn counts(&self) -> Passed {
        // `taken` is read first: `put` only grows, so the difference is never negative.
        let taken = self.taken();
        let put = self.put();
        (put.0.wrapping_sub(taken.0), put.1.wrapping_sub(taken.1))
    }
}

/// The cursor's word, and the counts that belong to it.
fn read_counts(cursor: &AtomicU64, counts: &[Count; 2]) -> (u64, Passed) {
    // Repeats only if that side has published meanwhile. A cursor that does not change ends the loop, even if
    // its bytes are invalid.
    loop {
        let word = cursor.load(Ordering::Acquire);
        let count = &counts[(word & 1) as usize];
        let pair = (
            count.messages.load(Ordering::Acquire),
            count.bytes.load(Ordering::Acquire),
        );
        // A count is written again only two publications later.
        if cursor.load(Ordering::Acquire) == word {
            return (word, pair);
        }
    }
}
