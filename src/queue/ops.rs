//! The queue as programs see it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::layout::CachePadded;
use crate::segment::{self, Kind, Options, Section, Segment, Spec};
use crate::sync::{Acquired, RobustMutex};
use crate::sys::clock::Deadline;

use crate::Timeout;

use super::bounds::{BORN, capacities, check_dead_name, dead_name};
use super::ends::{Consumer, Message, Producer};
use super::entrance::Entrance;
use super::header::{self, Header, Passed};
use super::lease::Mine;
use super::pace::Pace;
use super::readiness::Readiness;
use super::record;
use super::ring::Ring;
use super::stream::Stream;

/// A named queue of messages that any number of processes put into and take from.
///
/// Messages are bytes of any length, first in first out. A message is there for everybody
/// the moment [`put`](Self::put) returns. Any process may be killed at any instruction: a
/// message that was being put is then either there or was never sent, and everything else
/// stays. A message that was just taken goes with the process that took it.
///
/// A handle is [`Send`] and [`Sync`]; calls from several threads are as good as from several
/// processes. Handles survive `fork`: the child's copy is a participant of its own. Every
/// open handle keeps no file descriptor, unless it was asked [for one](Self::fd).
/// Dropping the last handle of all processes removes the queue with what is in it, unless it
/// was created [persistent](Options::persistent).
///
/// The ring starts small and doubles in place when it is full and nobody makes room, up to
/// `max_capacity`; from there on producers wait. It also doubles, up to 8 MiB, while messages
/// stream through it: the two ends then do not take memory from each other's caches. When a
/// consumer has waited a while for an empty queue, the ring is as small as it began and the memory
/// is the system's again. Give both capacities the same value for a queue that never grows.
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
/// # Limits
/// Waiting processes take turns of about half a millisecond; no order of arrival is promised
/// within that. A process that is *stopped* (not killed) inside a call holds the others up
/// until it goes on.
pub struct Queue {
    pub(super) ring: Ring,
    // What either end writes has lines of its own: threads may put and take through one handle. NB:
    // there and back between two such threads 350 ns without that and 290 so, and 3.6 and 3.8
    // million leases a second of 64 B while another thread puts.
    pub(super) producers: CachePadded<Entrance>,
    pub(super) consumers: CachePadded<Entrance>,
    pub(super) pace: CachePadded<Pace>,
    pub(super) stream: Stream,
    /// The lock of the shelf.
    pub(super) shelf: RobustMutex,
    /// What this process has leased through this handle.
    pub(super) mine: Arc<CachePadded<Mine>>,
    pub(super) readiness: Readiness,
    // Not before this: the ring and the locks point into it.
    pub(super) segment: Arc<Segment>,
    /// Where in it the queue is.
    pub(super) at: u64,
    /// Which of the segment's queues it is, counted from 0.
    pub(super) way: u32,
    // After it, so that whoever finds a queue finds its dead letters.
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

/// Changes with every incompatible change of the ring or its records.
const LAYOUT: u64 = 0x5155_4555_4500_0007;

impl Queue {
    /// Opens the queue `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt` for a file that
    /// is no queue of ours; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::open())
    }

    /// Opens the queue `name`, or creates it with the defaults.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and `NoSpace`.
    pub fn create(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::create())
    }

    /// Creates a queue under a name nobody else has; [`name`](Self::name) tells which.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn anonymous() -> Result<Self> {
        Self::with_options(None, &Options::create())
    }

    /// Opens or creates a queue as `options` say. Without a name it is always created.
    ///
    /// Capacities are rounded up to a power of two of at least 4096 bytes. The defaults are
    /// 64 KiB to start with, and 16 GiB to grow to, of address space: less where the process has little of
    /// that, its files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Where memory
    /// ends before, a put says so at once. They count for the ring, in which a
    /// message takes its length and 16 to 31 bytes more; messages that are written or read in
    /// place have as much again beside it. `max_items` bounds the messages as well, whatever
    /// their size: a put waits while there are as many. `max_attempts` bounds how often each is
    /// delivered, and makes a second queue for what was [delivered in
    /// vain](Self::dead_letters).
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// for a `max_capacity` below `capacity`; `TooLarge` for one beyond 2^45.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let (capacity, max) = capacities(options, BORN)?;
        if let Some(name) = name
            && options.max_attempts > 0
        {
            check_dead_name(name)?;
        }
        let spec = Spec {
            kind: Kind::Queue,
            layout: LAYOUT,
            size: Segment::DATA + Self::size(max),
            commit: Self::born_size(capacity),
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
            )
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
        let (producers, consumers, shelf) = unsafe {
            (
                RobustMutex::attach(&header.producer.lock, segment.peers()),
                RobustMutex::attach(&header.consumer.lock, segment.peers()),
                RobustMutex::attach(&header.shelf.lock, segment.peers()),
            )
        };
        Ok(Self {
            ring,
            producers: CachePadded::new(Entrance::new(
                producers,
                &header.put_gate,
                &header.not_full,
                header,
                Header::put,
            )),
            consumers: CachePadded::new(Entrance::new(
                consumers,
                &header.take_gate,
                &header.not_empty,
                header,
                Header::taken,
            )),
            pace: CachePadded::default(),
            stream: Stream::default(),
            shelf,
            mine: Arc::default(),
            readiness: Readiness::new(),
            segment,
            at,
            way,
            dead_letters: None,
        })
    }

    /// Another view of this handle's seat, which lives as long as the handle at most: for a thread of
    /// the library's own. What is leased through either counts for both.
    pub(super) fn twin(&self) -> Result<Self> {
        let mut twin = Self::attach(Arc::clone(&self.segment), self.at, self.way)?;
        twin.mine = Arc::clone(&self.mine);
        if let Some(dead) = &self.dead_letters {
            twin.dead_letters = Some(Box::new(dead.twin()?));
        }
        Ok(twin)
    }

    /// Bytes of a segment for a queue whose ring grows to `max`.
    pub(crate) fn size(max: u64) -> u64 {
        header::RING + Ring::size(max)
    }

    /// How many of them have to be committed for a ring of `capacity`.
    pub(crate) fn born_size(capacity: u64) -> u64 {
        header::RING + capacity
    }

    /// The name to open this queue by.
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Whether this handle created it.
    pub(crate) fn is_new(&self) -> bool {
        self.segment.is_new()
    }

    /// Puts one message at the end, waiting for room until `timeout`.
    ///
    /// # Errors
    /// `Full` (timeout zero) or `Timeout`; `TooLarge` at once for a message that can never
    /// fit; `Closed`; `NoSpace` when the ring had to grow for it and `/dev/shm` is full;
    /// `Interrupted` when a signal handler ran while waiting; `Poisoned`, `Corrupt`. After an
    /// error nothing was put.
    pub fn put(&self, data: &[u8], timeout: Timeout) -> Result<()> {
        self.room_for(data.len())?;
        let mut full = false;
        if let Some(guard) = self.producers.enter_now() {
            if self.put_locked(Acquired::Held(guard), data)? {
                return Ok(());
            }
            full = true;
        }
        self.put_slow(data, full, timeout)
    }

    /// There was no room, or somebody was in the way.
    #[cold]
    fn put_slow(&self, data: &[u8], mut full: bool, timeout: Timeout) -> Result<()> {
        let need = self.room_for(data.len())?;
        let deadline = Deadline::after(timeout);
        self.producers.make_way(deadline)?;
        loop {
            if full {
                self.make_room(need, deadline)?;
            }
            if self.put_locked(self.producers.enter(deadline)?, data)? {
                return Ok(());
            }
            full = true;
        }
    }

    /// False if there is no room now.
    #[inline(always)]
    fn put_locked(&self, acquired: Acquired<'_>, data: &[u8]) -> Result<bool> {
        let guard = self.may_put(acquired)?;
        // SAFETY: the producers' lock is held until after the last use.
        let mut end = unsafe { Producer::new(&self.ring) }?;
        let put = end.push(data)?;
        if put {
            end.publish();
        }
        drop(guard);
        if put {
            self.producers.count((1, data.len() as u64));
            self.told_consumers();
        }
        Ok(put)
    }

    /// Puts messages in order, as many as there is room for before `timeout`, and returns how
    /// many that were. Takes the lock once for all that fit together.
    ///
    /// The messages are not one unit: others' may come between those for which it had to
    /// wait, and after a kill a first part of them may be there.
    ///
    /// # Errors
    /// As for [`put`](Self::put), and only if not one message was put.
    pub fn put_many(&self, items: &[impl AsRef<[u8]>], timeout: Timeout) -> Result<usize> {
        let deadline = Deadline::after(timeout);
        let mut done = 0;
        while let Some(next) = items.get(done) {
            match self.put_some(&items[done..], next.as_ref(), deadline) {
                Ok(put) => done += put,
                Err(err) if done == 0 => return Err(err),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Puts what fits now; waits if that is nothing.
    fn put_some(
        &self,
        items: &[impl AsRef<[u8]>],
        first: &[u8],
        deadline: Deadline,
    ) -> Result<usize> {
        let need = self.room_for(first.len())?;
        self.producers.make_way(deadline)?;
        let guard = self.enter_producers(deadline)?;
        // SAFETY: the producers' lock is held until after the last use.
        let mut end = unsafe { Producer::new(&self.ring) }?;
        let mut put = 0;
        while let Some(item) = items.get(put) {
            if !end.push(item.as_ref())? {
                break;
            }
            if end.publish_part() {
                self.tell_consumer();
            }
            put += 1;
        }
        if put > 0 {
            end.publish();
        }
        drop(guard);
        if put > 0 {
            let lens = items[..put].iter().map(|item| item.as_ref().len() as u64);
            self.producers.count((put as u64, lens.sum()));
            self.told_consumers();
        } else {
            self.make_room(need, deadline)?;
        }
        Ok(put)
    }

    /// Takes the first message into `buf` and returns its length, waiting until `timeout`.
    ///
    /// # Errors
    /// `Empty` (timeout zero) or `Timeout`; `BufferTooSmall` with the length needed, and the
    /// message stays; `Closed` once a closed queue is drained; `Interrupted` when a signal
    /// handler ran while waiting; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn get(&self, buf: &mut [u8], timeout: Timeout) -> Result<usize> {
        self.get_into(room(buf), timeout)
    }

    /// [`get`](Self::get) into memory that need not be initialised.
    pub(crate) fn get_into(&self, buf: &mut Room, timeout: Timeout) -> Result<usize> {
        let mut nothing = false;
        if let Some(guard) = self.consumers.enter_now()
            && !self.is_due()
        {
            if let Some(len) = self.take_now(guard, false, |end| self.copy(end, buf))? {
                return Ok(len);
            }
            nothing = true;
        }
        self.get_slow(buf, nothing, timeout)
    }

    /// There was nothing, or somebody was in the way.
    #[cold]
    fn get_slow(&self, buf: &mut Room, nothing: bool, timeout: Timeout) -> Result<usize> {
        let deadline = Deadline::after(timeout);
        self.take(deadline, nothing, |end| self.copy(end, buf))
    }

    /// Copies the first message to `buf` and moves over it.
    #[inline(always)]
    fn copy(&self, end: &mut Consumer<'_>, buf: &mut Room) -> Result<Option<(usize, Passed)>> {
        let Some(message) = end.peek()? else {
            return Ok(None);
        };
        let (needed, capacity) = (message.len(), buf.len());
        let Some(to) = buf.get_mut(..needed) else {
            return Err(Error::BufferTooSmall { needed, capacity });
        };
        // SAFETY: `to` has the message's length; nothing is published before `take_now` does.
        unsafe { message.copy_to(NonNull::from(to).cast()) };
        self.pass(end, message)?;
        Ok(Some((needed, (1, needed as u64))))
    }

    /// Takes the first message, waiting until `timeout`.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_vec(&self, timeout: Timeout) -> Result<Vec<u8>> {
        self.take(Deadline::after(timeout), false, |end| {
            let mut data = Vec::new();
            let taken = self.append(end, &mut data)?;
            Ok(taken.map(|len| (data, (1, len as u64))))
        })
    }

    /// How many messages are in the queue, those included that were given back. Those that
    /// are leased are not. Exact whenever nobody is putting or taking.
    pub fn len(&self) -> usize {
        let waiting = self.ring.header.shelf.waiting.load(Ordering::Relaxed);
        self.ring.header.counts().0.saturating_add(waiting) as usize
    }

    /// Whether there is no message in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes of all messages in the queue that were never delivered.
    pub fn bytes(&self) -> u64 {
        self.ring.header.counts().1
    }

    /// Bytes of the ring as it is now.
    pub fn capacity(&self) -> u64 {
        self.ring.capacity().unwrap_or(0)
    }

    /// Bytes the ring may grow to.
    pub fn max_capacity(&self) -> u64 {
        self.ring.max_capacity()
    }

    /// The most messages the queue holds at a time, if there is a bound.
    pub fn max_items(&self) -> Option<u64> {
        let items = self.ring.max_items();
        (items != u64::MAX).then_some(items)
    }

    /// The longest message that can ever be put, in bytes.
    pub fn max_message(&self) -> u64 {
        self.ring.max_capacity() - record::HEADER
    }

    /// Removes the name of the queue `name`. Processes that have it open keep using it. Its
    /// dead letters, if there are any, are a queue of their own.
    ///
    /// # Errors
    /// `NotFound`, `WrongKind`, `Permission`, `Invalid` name.
    pub fn unlink(name: &str) -> Result<()> {
        segment::unlink_kind(name, Kind::Queue)
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

impl Queue {
    /// Moves over a message that was copied out. Under the consumers' lock.
    #[inline(always)]
    pub(super) fn pass(&self, end: &mut Consumer<'_>, message: Message) -> Result<()> {
        let Some(block) = message.block() else {
            end.advance(message);
            return Ok(());
        };
        self.about_to_take_message(end, &message);
        // Killed between the two steps it leaves a message that was taken, by its number.
        end.advance_now(message)?;
        self.free(block)
    }

    /// Appends the next message to `data` and moves over it.
    #[inline(always)]
    pub(super) fn append(
        &self,
        end: &mut Consumer<'_>,
        data: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let Some(message) = end.peek()? else {
            return Ok(None);
        };
        let old = data.len();
        data.reserve(message.len());
        // SAFETY: reserved above, so the spare part has room; the bytes are written before the
        // length says so; nothing is published meanwhile.
        unsafe {
            message.copy_to(NonNull::from(&mut data.spare_capacity_mut()[..]).cast());
            data.set_len(old + message.len());
        }
        self.pass(end, message)?;
        Ok(Some(message.len()))
    }
}
