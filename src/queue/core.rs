//! The handle of a queue: how it is opened, and its properties.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{CachePadded, Offset, Owner};
use crate::relay::Cached;
use crate::segment::{
    Companion, Kind, Options, QueueTotals, Section, Segment, Spec, plain_open, shared_object,
};
use crate::sync::RobustMutex;

use super::admission::Admission;
use super::auto_grow::Throughput;
use super::backoff::Backoff;
use super::bounds::{INITIAL, capacities, check_dead_name, dead_name};
use super::descriptor::Descriptor;
use super::header::{self, QueueHeader};
use super::record;
use super::ring::Ring;

/// A named queue of messages that any number of processes put into and take from.
///
/// Messages are bytes of any length, first in first out. A message is visible to every process when
/// [`put`](Self::put) returns. Any process may be killed at any instruction: a message that was being put is
/// then either there or was never sent, and every other message stays. A message that was taken is lost with
/// the process that took it.
///
/// A handle is [`Send`] and [`Sync`]; threads may share it or open one each. Handles survive `fork`: the
/// child's copy is a participant of its own. An open handle keeps no file descriptor, unless the program
/// asked [for one](Self::fd). Dropping the last handle of all processes removes the queue with what is in it,
/// unless it was created [persistent](Options::persistent).
///
/// The ring starts small and doubles in place when it is full and no consumer makes room, up to
/// `max_capacity`; from there on producers wait. It also doubles, up to 8 MiB, while messages stream through
/// it: the two ends then do not take memory from each other's caches. Once a consumer has waited a while for
/// an empty queue, the ring shrinks to its first size, and its memory goes back to the system. Give both
/// capacities the same value for a queue that never grows.
///
/// ```
/// use shoal::{Queue, Timeout};
///
/// let queue = Queue::anonymous()?;
/// let same = Queue::open(queue.name())?; // in another process, usually
///
/// queue.put(b"hello", Timeout::Infinite)?;
/// assert_eq!(same.get_vec(Timeout::Infinite)?, b"hello");
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// A queue can have a [relay](crate::QueueRelay): then what is put goes to the relay, and the queue holds
/// what the relay delivers. A put that finds no room there ends with `RelayBehind` instead of `Timeout`.
///
/// # Limits
/// Where many processes want the same end, each has it for about half a millisecond; no order of
/// arrival is promised within that. A process that is *stopped* (not killed) inside a call delays
/// the others until it goes on. Where the ring cannot grow, a message of more than half of it may have to
/// wait until the ring is empty; smaller ones that fit are put meanwhile.
pub struct Queue {
    pub(super) ring: Ring,
    // What each end writes has separate cache lines, since threads may put and take through one handle. A
    // round trip between two such threads takes 290 ns, and 350 ns if they share a line.
    pub(super) producers: CachePadded<Admission>,
    pub(super) consumers: CachePadded<Admission>,
    pub(super) backoff: CachePadded<Backoff>,
    pub(super) throughput: Throughput,
    /// The lock of the message store.
    pub(super) store_lock: RobustMutex,
    pub(super) signal_lock: RobustMutex,
    /// How many messages this process has leased through this handle.
    pub(super) lease_count: Arc<CachePadded<LeaseCount>>,
    pub(super) descriptor: Descriptor,
    // Dropped after the ring and the locks, which point into it.
    pub(super) segment: Arc<Segment>,
    /// The queue's offset in the segment.
    pub(super) at: u64,
    /// Which of the segment's queues it is, counted from 0.
    pub(super) way: u32,
    /// Its relay's companions, opened when this handle first needs them.
    pub(super) requests: Cached<Queue>,
    pub(super) settled: Cached<Queue>,
    // Dropped last: a process that finds a queue has to find its dead letters too.
    pub(super) dead_letters: Option<Box<Queue>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name())
            .field("len", &self.len())
            .finish()
    }
}

/// A number that changes with every incompatible change of the ring or its records.
pub(super) const LAYOUT: u64 = 0x5155_4555_4500_000b;

/// How many messages a process has leased through a handle; a forked child starts at 0. Changed under the
/// consumers' lock.
#[derive(Default)]
pub(super) struct LeaseCount(AtomicU64);

impl LeaseCount {
    const COUNT: u64 = u32::MAX as u64;

    /// The process, in the upper half of the word. A child has another slot than its parent, but perhaps with
    /// the same generation.
    #[inline]
    fn process(me: Owner) -> u64 {
        (u64::from(me.generation) << 10 | u64::from(me.slot)) << 32
    }

    #[inline]
    pub(super) fn get(&self, me: Owner) -> u64 {
        let packed = self.0.load(Ordering::Relaxed);
        match packed & !Self::COUNT == Self::process(me) {
            true => packed & Self::COUNT,
            false => 0,
        }
    }

    #[inline]
    pub(super) fn add(&self, me: Owner, change: i64) {
        let count = self.get(me).saturating_add_signed(change);
        let packed = Self::process(me) | count & Self::COUNT;
        self.0.store(packed, Ordering::Relaxed);
    }
}

plain_open!(Queue, "queue");
shared_object!(
    Queue,
    "queue",
    |it| &it.segment,
    /// What was leased or reserved stays so until the handle is dropped.
    ///
    /// For a thread that must end while it waits, where closing the queue for all processes would be too
    /// much.
    ///
    /// ```
    /// use shoal::{Error, Queue, Timeout};
    ///
    /// let queue = Queue::anonymous()?;
    /// std::thread::scope(|scope| {
    ///     let consumer = scope.spawn(|| queue.get_vec(Timeout::Infinite));
    ///     queue.end_waits();
    ///     assert_eq!(consumer.join().unwrap(), Err(Error::Detached));
    /// });
    /// # Ok::<(), shoal::Error>(())
    /// ```
);

impl Queue {
    /// Opens or creates a queue as `options` say. Without a name it is always created.
    ///
    /// Capacities are rounded up to a power of two of at least 4096 bytes. The defaults are 64 KiB to start
    /// with, and 16 GiB to grow to, of address space: less where the process has little of that, its files
    /// are limited (`ulimit -v` and `-f`) or it has thousands of objects. If memory runs out earlier, a put
    /// fails at once. The capacities are those of the ring, in which a message takes its length and 16 to 31
    /// bytes more; messages that are written or read in place have as much room again outside the ring.
    /// `max_items` also bounds the number of messages, whatever their size: a put waits while there are that
    /// many. `max_attempts` bounds how often each is delivered, and makes a second queue for the [dead
    /// letters](Self::dead_letters).
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// for a `max_capacity` below `capacity`; `TooLarge` for one beyond 2^45.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        Self::open_or_create(name, options, None)
    }

    /// The same. A queue that is created becomes the `companion` of the queue or map with this id.
    pub(crate) fn open_or_create(
        name: Option<&str>,
        options: &Options,
        companion: Option<(Companion, u64)>,
    ) -> Result<Self> {
        let (capacity, max) = capacities(options, INITIAL)?;
        if let Some(name) = name
            && options.max_attempts > 0
        {
            check_dead_name(name)?;
        }
        let spec = Spec {
            kind: Kind::Queue,
            layout: LAYOUT,
            size: Segment::DATA + Self::size(max),
            commit: Self::initial_size(capacity),
            section: Section::ALL,
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            Ring::init(
                &segment.region(),
                Segment::DATA,
                capacity,
                max,
                options.max_items,
                options.max_attempts,
            )?;
            if let Some((companion, id)) = companion {
                let header = segment
                    .region()
                    .keep::<QueueHeader>(Offset::new(Segment::DATA))?;
                header.relay.init_serial();
                segment.make_companion(companion, id)?;
            }
            Ok(())
        })?;
        let mut queue = Self::attach(Arc::new(segment), Segment::DATA, 0)?;
        if queue.max_attempts().is_some() {
            let dead = Options {
                create: true,
                persistent: queue.segment.is_persistent(),
                ..Options::default()
            };
            let name = dead_name(queue.name());
            let dead = Self::with_options(Some(&name), &dead)?;
            queue.dead_letters = Some(Box::new(dead));
        }
        Ok(queue)
    }

    /// The queue at `at` of a segment, where [`Ring::init`] has made one: number `way` of its queues.
    pub(crate) fn attach(segment: Arc<Segment>, at: u64, way: u32) -> Result<Self> {
        let ring = Ring::attach(&segment.region(), at)?;
        let header = ring.header;
        // SAFETY: the locks were initialised before the segment was published, and the
        // segment is dropped after the handles on them.
        let (producers, consumers, store_lock, signal_lock) = unsafe {
            (
                RobustMutex::attach(&header.producer.lock, segment.peers()),
                RobustMutex::attach(&header.consumer.lock, segment.peers()),
                RobustMutex::attach(&header.store.lock, segment.peers()),
                RobustMutex::attach(&header.arrivals.signal_lock, segment.peers()),
            )
        };
        Ok(Self {
            ring,
            producers: CachePadded::new(Admission::new(
                producers,
                header.part(|it| &*it.parked_producers),
                header.part(|it| &*it.not_full),
                header,
                QueueHeader::put,
            )),
            consumers: CachePadded::new(Admission::new(
                consumers,
                header.part(|it| &*it.parked_consumers),
                header.part(|it| &it.arrivals.not_empty),
                header,
                QueueHeader::taken,
            )),
            backoff: CachePadded::default(),
            throughput: Throughput::default(),
            store_lock,
            signal_lock,
            lease_count: Arc::default(),
            descriptor: Descriptor::new(),
            segment,
            at,
            way,
            requests: Cached::default(),
            settled: Cached::default(),
            dead_letters: None,
        })
    }

    /// Another handle on the same slot among the participants, for a thread of the library. It is dropped
    /// before this handle. What is leased through either counts for both.
    pub(super) fn second_handle(&self) -> Result<Self> {
        let mut second = Self::attach(Arc::clone(&self.segment), self.at, self.way)?;
        second.lease_count = Arc::clone(&self.lease_count);
        if let Some(dead) = &self.dead_letters {
            second.dead_letters = Some(Box::new(dead.second_handle()?));
        }
        Ok(second)
    }

    /// Bytes of a segment for a queue whose ring grows to `max`.
    pub(crate) fn size(max: u64) -> u64 {
        header::RING + Ring::size(max)
    }

    /// Bytes of that segment to commit for a ring of `capacity`.
    pub(crate) fn initial_size(capacity: u64) -> u64 {
        header::RING + capacity
    }

    /// How many messages are in the queue, with those that were given back and without those that are leased.
    /// Exact while no process puts or takes.
    pub fn len(&self) -> usize {
        self.ring
            .header
            .counts()
            .0
            .saturating_add(self.waiting() as u64) as usize
    }

    /// Whether there is no message in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the queue's name if it has no messages, leased ones included, no relay, and no other handle of any
    /// process has it open. False if it stays. For a process that [created](Self::created) it and does not need it
    /// after all. No process opens or uses the queue between the check and the removal.
    ///
    /// # Errors
    /// `NotFound` if it has no name any more.
    pub fn unlink_if_unused(&self) -> Result<bool> {
        let is_unused = || Ok(self.is_empty() && self.leased() == 0);
        self.segment.unlink_if_unused(is_unused)
    }

    /// Payload bytes of all messages in the queue that were never delivered.
    pub fn bytes(&self) -> u64 {
        self.ring.header.counts().1
    }

    /// How many messages were ever put, and their payload bytes; then how many were taken out of the ring,
    /// and their payload bytes. A message that is delivered again counts once.
    pub fn totals(&self) -> QueueTotals {
        let header = self.ring.header;
        // `taken` is read first: `put` only grows, so the difference is never negative.
        let (taken, taken_bytes) = header.taken();
        let (put, put_bytes) = header.put();
        QueueTotals {
            put,
            put_bytes,
            taken,
            taken_bytes,
        }
    }

    /// How many messages wait to be delivered again: they were given back, or their worker died. Messages that
    /// wait for a delay are among them.
    pub fn waiting(&self) -> usize {
        self.ring.header.store.waiting.load(Ordering::Relaxed) as usize
    }

    /// Bytes of the ring as it is now.
    pub fn capacity(&self) -> u64 {
        self.ring.capacity().unwrap_or(0)
    }

    /// Bytes the ring may grow to.
    pub fn max_capacity(&self) -> u64 {
        self.ring.max_capacity()
    }

    /// The most messages that were put and not taken, if there is a bound. With those that were given back, the
    /// queue may hold more.
    pub fn max_items(&self) -> Option<u64> {
        let items = self.ring.max_items();
        (items != u64::MAX).then_some(items)
    }

    /// The longest message that can ever be put, in bytes.
    pub fn max_message(&self) -> u64 {
        self.ring.max_capacity() - record::HEADER
    }

    /// The bytes a message of `len` takes in the ring.
    #[inline]
    pub(super) fn room_for(&self, len: usize) -> Result<u64> {
        match record::size(len as u64) {
            Some(need) if need <= self.ring.max_capacity() => Ok(need),
            _ => Err(Error::TooLarge {
                what: "message",
                size: len as u64,
                limit: self.max_message(),
            }),
        }
    }
}
