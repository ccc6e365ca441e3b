//! The map as programs see it.

use std::mem::MaybeUninit;

use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::relay::Cached;
use crate::segment::{
    Companion, Kind, Options, Section, Segment, Spec, debug_by_name, plain_open, shared_object,
};
use crate::sys::clock::Deadline;

use super::core::Core;
use super::entry::{Entry, MAX_KEY, Pair, Value, fits};
use super::hash::SHARDS;
use super::header;
use super::optimistic::ReadConflict;
use super::store::Lookup;
use crate::heap::{self, BLOCK, Heap};

/// A named hash map from bytes to bytes that any number of processes read and write.
///
/// Every call is atomic for its key, and all processes see its effect when it returns. Any process
/// may be killed at any instruction: what it was doing has then happened completely or not at all,
/// and nothing else is lost.
///
/// A handle is [`Send`] and [`Sync`]; threads may use it like processes. The map has 64 parts, or 4 if it is
/// [compact](Options::compact). A call waits while another process works on the same part, which takes well
/// under a microsecond unless values are large. Handles survive `fork`: the child's copy is a participant of
/// its own. Dropping the last handle of all processes removes the map, unless it was created
/// [persistent](Options::persistent).
///
/// Keys are up to 64 KiB, values up to [`max_value`](Self::max_value); both may be empty.
/// Memory is taken as the map grows, up to `max_capacity`, and given back as it shrinks.
///
/// ```
/// use shoal::Map;
///
/// let map = Map::anonymous()?;
/// let same = Map::open(map.name())?; // in another process, usually
///
/// map.set(b"answer", b"42")?;
/// assert_eq!(same.get_vec(b"answer")?, Some(b"42".to_vec()));
/// assert_eq!(same.add(b"visits", 1)?, 1);
/// assert_eq!(map.len()?, 2);
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// A map can have a [relay](crate::MapRelay): then changes go to the relay, and the map holds what the relay
/// delivers. Changes can end with `RelayBehind`, and with `Unsupported` where the relay refuses them.
///
/// # Limits
/// Waiting processes are not served in the order of their arrival. A process that is *stopped*
/// (not killed) inside a call blocks the processes that need the same part of the map.
pub struct Map {
    /// Its relay's companions, opened when this handle first needs them.
    pub(super) requests: Cached<Queue>,
    pub(super) answers: Cached<Map>,
    pub(super) core: Core,
    max_value: u64,
}

/// Every shard needs two blocks, and room to grow.
const SMALLEST_MAX_CAPACITY: u64 = 1 << 20;

/// How often to read without the lock before taking it.
const TRIES: u32 = 3;
/// A value of this many bytes or more is copied outside the lock: some ten microseconds of work.
pub(super) const LARGE: usize = 256 << 10;
/// A number that changes with every incompatible change of the layout or the hash.
pub(super) const LAYOUT: u64 = 0x4d41_5000_0000_0008;

plain_open!(Map, "map");
shared_object!(Map, "map", |it| it.core.segment());
debug_by_name!(Map);

impl Map {
    /// Opens or creates a map as `options` say. Without a name it is always created.
    ///
    /// `capacity` bytes are committed at once and kept for the map; the default is none. `max_capacity` is
    /// address space only, at least 1 MiB; by default it is 64 GiB, and less where the process has little
    /// address space, its files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Both count
    /// what is stored with its overhead: 16 bytes an entry and rounding, 9 to 15 bytes an entry for the
    /// tables, and at least 2 KiB for each part of the map in use.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// for a `max_capacity` below `capacity`; `TooLarge` for one beyond 2^39.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        Self::open_or_create(name, options, None)
    }

    /// The same. A map that is created becomes the `companion` of the map with this family.
    pub(super) fn open_or_create(
        name: Option<&str>,
        options: &Options,
        companion: Option<(Companion, u64)>,
    ) -> Result<Self> {
        let (capacity, max) = heap::capacities(options, SMALLEST_MAX_CAPACITY)?;
        let (reserve, blocks) = (capacity.div_ceil(BLOCK), Heap::blocks_for(max));
        let spec = Spec {
            kind: Kind::Map,
            layout: LAYOUT,
            size: header::segment_size(blocks as u32),
            commit: header::initial_commit(options.compact),
            section: Section::ALL,
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            let sizes = (blocks as u32, reserve as u32);
            header::init(segment, sizes, options.ordered, options.compact)?;
            match companion {
                Some((which, family)) => segment.make_companion(which, family),
                None => Ok(()),
            }
        })?;
        let core = Core::attach(segment)?;
        let max_value = (core.heap().capacity() / 2).min(u32::MAX as u64);
        Ok(Self {
            requests: Cached::default(),
            answers: Cached::default(),
            core,
            max_value,
        })
    }

    /// Bytes of data, overhead included, that the map may grow to.
    pub fn max_capacity(&self) -> u64 {
        self.core.heap().capacity()
    }

    /// The largest value, in bytes: half of [`max_capacity`](Self::max_capacity), and at
    /// most 4 GiB less one.
    pub fn max_value(&self) -> u64 {
        self.max_value
    }

    /// Whether the map is [ordered](Options::ordered).
    pub fn is_ordered(&self) -> bool {
        self.core.is_ordered()
    }

    /// Whether the map is [compact](Options::compact).
    pub fn is_compact(&self) -> bool {
        self.core.shard_count() < SHARDS
    }

    /// Sets the value of `key`, whether or not it had one.
    ///
    /// # Errors
    /// `TooLarge` for a key or a value that can never fit; `NoSpace` when `/dev/shm` or the
    /// map is full, and the old value is intact then; `Poisoned`, `Corrupt`.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(&Pair::new(key, value))
    }

    #[inline]
    pub(super) fn put(&self, pair: &Pair<'_>) -> Result<()> {
        self.check(pair.key, pair.value)?;
        let put = match pair.value.len() {
            LARGE.. => self.put_large(pair),
            _ => self.put_at_once(pair),
        };
        match put {
            Ok(None) => self.request_put(pair),
            put => put.map(drop),
        }
    }

    #[inline]
    pub(super) fn put_at_once(&self, pair: &Pair<'_>) -> Result<Option<()>> {
        self.core
            .change(pair.key, |shard, found| shard.store.write(found, pair))
    }

    /// Copies the value of `key` to the front of `buf` and returns its length; `None` if the
    /// map has no such key.
    ///
    /// Small values are read without a lock; a read waits only for writers of the same part of the map.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn get(&self, key: &[u8], buf: &mut [u8]) -> Result<Option<usize>> {
        self.get_into(key, room(buf))
    }

    /// [`get`](Self::get) into memory that need not be initialised.
    #[inline]
    pub(crate) fn get_into(&self, key: &[u8], buf: &mut Room) -> Result<Option<usize>> {
        match self.read(key, |value| value.copy_to(buf))? {
            Some(len) => fits(len, buf).map(Some),
            None => Ok(None),
        }
    }

    /// The value of `key`; `None` if the map has no such key.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn get_vec(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(key, Value::to_vec)
    }

    /// Whether the map has `key`.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.read(key, |_| ())?.is_some())
    }

    /// Reads the value of `key` with `read`, which may be called several times: only the result of its last
    /// call is used.
    #[inline]
    pub(super) fn read<T>(&self, key: &[u8], read: impl FnMut(Value) -> T) -> Result<Option<T>> {
        self.read_until(key, Deadline::Never, read)
    }

    /// The same until `deadline`: if it has to take the lock, it waits for it that long, or for a second if that
    /// is later.
    #[inline]
    pub(super) fn read_until<T>(
        &self,
        key: &[u8],
        deadline: Deadline,
        mut read: impl FnMut(Value) -> T,
    ) -> Result<Option<T>> {
        let hash = self.core.hasher.hash(key);
        match self.core.read_optimistic(hash, key, &mut read) {
            Ok(found) => Ok(found),
            Err(conflict) => self.read_again(conflict, key, deadline, read),
        }
    }

    /// The same after a conflict: tries again, and then reads under the lock.
    #[cold]
    fn read_again<T>(
        &self,
        mut conflict: ReadConflict,
        key: &[u8],
        deadline: Deadline,
        mut read: impl FnMut(Value) -> T,
    ) -> Result<Option<T>> {
        let hash = self.core.hasher.hash(key);
        for _ in 1..TRIES {
            if let ReadConflict::Lock = conflict {
                break;
            }
            std::hint::spin_loop();
            match self.core.read_optimistic(hash, key, &mut read) {
                Ok(found) => return Ok(found),
                Err(again) => conflict = again,
            }
        }
        self.read_held(key, deadline, read)
    }

    /// Sets the value of `key` if it has none. True if it did.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<bool> {
        self.compare_swap(key, None, Some(value))
    }

    /// Removes `key`. True if it was there.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn remove(&self, key: &[u8]) -> Result<bool> {
        let removed = self.core.change(key, |shard, found| {
            shard.store.remove(found)?;
            Ok(found.entry().is_some())
        })?;
        match removed {
            Some(removed) => Ok(removed),
            None => self.request_remove(key),
        }
    }

    /// Removes `key` and returns its value; `None` if it was not there.
    ///
    /// Of several callers exactly one gets the value. If the caller is killed inside the call, the
    /// value may be lost with it.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let taken = self.core.change(key, |shard, found| {
            let value = found.entry().map(|entry| entry.value().to_vec());
            shard.store.remove(found)?;
            Ok(value)
        })?;
        match taken {
            Some(taken) => Ok(taken),
            None => self.request_take(key, usize::MAX),
        }
    }

    /// Removes `key` and copies its value to the front of `buf`; returns its length, or `None`
    /// if it was not there. As [`take`](Self::take).
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed, and the key stays; `Poisoned`, `Corrupt`.
    pub fn take_into(&self, key: &[u8], buf: &mut [u8]) -> Result<Option<usize>> {
        self.take_to(key, room(buf))
    }

    /// [`take_into`](Self::take_into) memory that need not be initialised.
    pub(crate) fn take_to(&self, key: &[u8], buf: &mut Room) -> Result<Option<usize>> {
        let taken = self.core.change(key, |shard, found| {
            let copy = |entry: Entry<'_>| fits(entry.pointed().copy_to(buf), buf);
            let len = found.entry().map(copy).transpose()?;
            shard.store.remove(found)?;
            Ok(len)
        })?;
        if let Some(taken) = taken {
            return Ok(taken);
        }
        let value = self.request_take(key, buf.len())?;
        Ok(value.map(|value| {
            let copied = value.iter().map(|byte| MaybeUninit::new(*byte));
            buf.iter_mut().zip(copied).for_each(|(to, byte)| *to = byte);
            value.len()
        }))
    }

    /// Changes the value of `key` from `expected` to `new`; `None` stands for no value. True if it did, false
    /// if the value was not `expected`.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn compare_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let swapped = self.swap_if(key, new, |found| {
            found.entry().map(|entry| entry.value()) == expected
        })?;
        match swapped {
            Some(swapped) => Ok(swapped),
            None => self.request_swap(key, expected, new),
        }
    }

    /// Changes the value of `key` to `new`, or removes it, if `allowed`; `None` if the map has a relay.
    pub(super) fn swap_if(
        &self,
        key: &[u8],
        new: Option<&[u8]>,
        allowed: impl Fn(&Lookup<'_>) -> bool,
    ) -> Result<Option<bool>> {
        self.check(key, new.unwrap_or_default())?;
        self.core.change(key, |shard, found| {
            let done = allowed(found);
            match new {
                _ if !done => {}
                Some(value) => shard.store.write(found, &Pair::new(key, value))?,
                None => shard.store.remove(found)?,
            }
            Ok(done)
        })
    }

    /// How many keys the map has. Keys that have expired do not count. In a part of the map with keys that
    /// expire, this looks at every key.
    ///
    /// Exact if no process writes meanwhile; otherwise every key that is in the map throughout counts.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn len(&self) -> Result<usize> {
        let mut sum = 0u64;
        for index in 0..self.core.shard_count() {
            sum = sum.saturating_add(self.core.lock(index)?.store.count_live()?);
        }
        Ok(sum as usize)
    }

    /// How many keys have a time to live, including expired ones that no process has removed yet.
    pub fn expiring(&self) -> u64 {
        self.core.expiring()
    }

    /// Bytes of memory that entries and tables take, overhead included.
    pub fn used(&self) -> u64 {
        self.core.used()
    }

    /// Whether the map has no key; see [`len`](Self::len).
    ///
    /// # Errors
    /// As for [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes the map's name if it has no keys and no relay, and no other handle of any process has it open. False if
    /// it stays. For a process that [created](Self::created) it and does not need it after all. No process opens or
    /// uses the map between the check and the removal.
    ///
    /// # Errors
    /// `NotFound` if it has no name any more; as for [`len`](Self::len).
    pub fn unlink_if_unused(&self) -> Result<bool> {
        let segment = self.core.segment();
        segment.unlink_if_unused(|| self.is_empty())
    }

    /// Removes every key, one part of the map after the other, and gives the memory back, that of values which dead
    /// processes held or wrote included. A key that another process sets meanwhile may remain.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn clear(&self) -> Result<()> {
        for index in 0..self.core.shard_count() {
            let shard = self.core.lock(index)?;
            if self.core.is_relayed() {
                drop(shard);
                return self.request_clear();
            }
            let released = self.core.release_dead_holds_in(&shard);
            let cleared = released.and_then(|_| shard.store.clear());
            drop(shard);
            self.core.notify_changed(index);
            cleared?;
        }
        Ok(())
    }

    /// Checks every invariant of the map under all of its locks: that each key can be found, that
    /// no two entries overlap, that no memory is lost.
    ///
    /// # Errors
    /// `Corrupt` with the invariant that does not hold; `Poisoned`.
    pub fn verify(&self) -> Result<()> {
        self.core.verify()
    }

    /// The shard that `key` belongs to, for tests.
    #[cfg(feature = "crash-points")]
    #[doc(hidden)]
    pub fn shard_of(&self, key: &[u8]) -> u8 {
        self.core.hasher.hash(key).shard
    }

    #[inline]
    pub(super) fn check(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if key.len() > MAX_KEY {
            return Err(too_large("key", key.len(), MAX_KEY as u64));
        }
        if value.len() as u64 > self.max_value {
            return Err(too_large("value", value.len(), self.max_value));
        }
        Ok(())
    }
}

#[cold]
fn too_large(what: &'static str, size: usize, limit: u64) -> Error {
    Error::TooLarge {
        what,
        size: size as u64,
        limit,
    }
}
