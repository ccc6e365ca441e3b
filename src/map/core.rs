//! A map's shared memory in this process: its header, its shards and their locks.
//!
//! ```text
//! offset  size  field     written by            invariant
//!      0     8  seed      creator               constant
//!      8     8  blocks     creator               constant; the sizes of all else follow
//!     16     4  poisoned  whoever gives up      H1: never goes back to 0
//!     20    12  changed   event: those sleep on it who wait for any change
//!     32     4  readers   see `readers`
//!     64    64  lock      arena's owner
//!    128   544  arena     arena's owner         see arena.rs
//!    672  1536  turns     each its shard's owner  see `turns`
//!   4096        shards    each its lock's owner
//!  45056        heap      see `heap`
//!               readers   see `readers`
//!
//! shard (640 bytes)
//!      0    64  lock
//!     64   560  store     see `store`
//!    624    12  changed   event: those sleep on it who wait for a key, changed or unlocked
//! ```
//! Lock order: one shard, then the arena; whoever needs several shards takes them in the
//! order of their numbers. Poison is checked on the way into a shard.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::entry::{self, Pair, Value};
use super::hash::{Hash, Hasher, SHARDS};
use super::holds::{Held, Kind};
use super::peek::Torn;
use super::readers::{self, Memory, Readers};
use super::store::{Lookup, Store, StoreState};
use super::turns::Turn;
use crate::error::{Error, Result};
use crate::heap::{Arena, ArenaState, Extent, Extents, Heap, LARGEST_SLOT, PAGE, Purpose};
use crate::layout::{Offset, Owner, Region, Shared, SharedRef};
use crate::segment::Segment;
use crate::sync::{Acquired, EventCell, Guard, LockCell, RobustMutex, WaitPolicy, publish_fence};
use crate::sys::clock::Deadline;
use crate::sys::process;

#[repr(C)]
struct Header {
    seed: AtomicU64,
    blocks: AtomicU64,
    poisoned: AtomicU32,
    changed: EventCell,
    reader_pages: AtomicU32,
    _unused: [AtomicU32; 7],
    lock: LockCell,
    arena: ArenaState,
    turns: [Turn; SHARDS],
}

const _: () = assert!(std::mem::offset_of!(Header, changed) == 20);
const _: () = assert!(std::mem::offset_of!(Header, lock) == 64);
const _: () = assert!(std::mem::offset_of!(Header, arena) == 128);
const _: () = assert!(std::mem::offset_of!(Header, turns) == 672);
const _: () = assert!(size_of::<Header>() <= PAGE as usize);

// SAFETY: `repr(C)`, atomics and shared structures only.
unsafe impl Shared for Header {}

/// One shard: what a `get` needs of it, lock and table, is in its first two cache lines.
#[repr(C, align(128))]
struct Shard {
    lock: LockCell,
    store: StoreState,
    changed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(Shard, store) == 64);
const _: () = assert!(std::mem::offset_of!(Shard, changed) == 624);
const _: () = assert!(size_of::<Shard>() == 640);
const SHARD: u64 = size_of::<Shard>() as u64;

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for Shard {}
// SAFETY: as for each of them.
unsafe impl Shared for [Shard; SHARDS] {}

const HEADER: u64 = Segment::DATA;
const SHARD_TABLE: u64 = HEADER + PAGE;
const HEAP: u64 = SHARD_TABLE + SHARDS as u64 * SHARD;
const _: () = assert!(HEAP.is_multiple_of(PAGE) && Segment::DATA.is_multiple_of(PAGE));
// What `Heap::slot` wants behind the heap.
const _: () = assert!(readers::SIZE >= LARGEST_SLOT);

/// Bytes of data to commit at birth: all but the heap, for which the arena commits.
pub(super) const BIRTH: u64 = HEAP - Segment::DATA;

/// Bytes of a segment whose heap has `blocks` blocks.
pub(super) fn segment_size(blocks: u32) -> u64 {
    readers_at(blocks) + readers::SIZE
}

fn readers_at(blocks: u32) -> u64 {
    HEAP + Heap::size(blocks)
}

/// Fills a private segment: `blocks` blocks of heap, `reserve` of them with memory, for entries
/// that say when they were inserted if it is `ordered`.
pub(super) fn init(segment: &Segment, blocks: u32, reserve: u32, ordered: bool) -> Result<()> {
    let region = segment.region();
    let header = header(&region)?;
    let [seed] = process::random();
    header.seed.store(seed, Ordering::Relaxed);
    header.blocks.store(blocks as u64, Ordering::Relaxed);
    for shard in shards(&region)?.iter() {
        shard.store.ordered.store(ordered.into(), Ordering::Relaxed);
    }
    Arena {
        state: &header.arena,
        heap: &Heap::new(region, HEAP, blocks)?,
        backing: segment,
        keeps: false,
    }
    .reserve(reserve)
}

fn header(region: &Region) -> Result<SharedRef<Header>> {
    region.keep(Offset::new(HEADER))
}

fn shards(region: &Region) -> Result<SharedRef<[Shard; SHARDS]>> {
    region.keep(Offset::new(SHARD_TABLE))
}

/// An attached map, without the public face.
pub(super) struct Core {
    pub(super) hasher: Hasher,
    pub(super) heap: Heap,
    header: SharedRef<Header>,
    // Arrays: looking up a shard that a hash names checks nothing.
    shards: SharedRef<[Shard; SHARDS]>,
    locks: Box<[RobustMutex; SHARDS]>,
    arena_lock: RobustMutex,
    /// What this handle learned of waits for a key or a change.
    pub(super) waiting: WaitPolicy,
    pub(super) readers: Readers,
    // Last: everything above points into it.
    pub(super) segment: Segment,
}

/// A shard whose lock is held.
pub(super) struct Locked<'a> {
    pub(super) store: Store<'a>,
    /// What to poison if a panic ends it; none if one was under way before.
    poisons: Option<&'a Core>,
    _guard: Guard<'a>,
}

impl Core {
    pub(super) fn attach(segment: Segment) -> Result<Self> {
        let region = segment.region();
        let header = header(&region)?;
        let blocks = header.blocks.load(Ordering::Relaxed);
        let blocks = u32::try_from(blocks)
            .ok()
            .filter(|blocks| *blocks > 1 && segment_size(*blocks) == region.len() as u64)
            .ok_or_else(|| Error::corrupt("the map's sizes do not fit its segment"))?;
        let attach = |cell| {
            // SAFETY: initialised before the segment was published; the segment is the last
            // field and so outlives the handle.
            unsafe { RobustMutex::attach(cell, segment.peers()) }
        };
        let shards = shards(&region)?;
        let locks = shards.iter().map(|shard| attach(&shard.lock));
        let locks = locks.collect::<Vec<_>>();
        Ok(Self {
            hasher: Hasher::new(header.seed.load(Ordering::Relaxed)),
            heap: Heap::new(region, HEAP, blocks)?,
            header,
            shards,
            locks: locks
                .try_into()
                .map_err(|_| Error::corrupt("a map has another number of shards"))?,
            arena_lock: attach(&header.lock),
            waiting: WaitPolicy::default(),
            readers: Readers::new(
                region,
                readers_at(blocks),
                header.part(|it| &it.reader_pages),
            )?,
            segment,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.segment.name()
    }

    /// Whether the map keeps the order of insertion.
    pub(super) fn is_ordered(&self) -> bool {
        self.store(0).is_ordered()
    }

    /// Who this process is, for what it holds.
    pub(super) fn owner(&self) -> Owner {
        self.segment.owner()
    }

    /// Whether `owner` has the map open, by the kernel's word.
    pub(super) fn is_attached(&self, owner: Owner) -> Result<bool> {
        self.segment.is_attached(owner)
    }

    /// On which those sleep who wait for a change in a shard.
    pub(super) fn changed_in(&self, index: usize) -> &EventCell {
        &self.shards[index].changed
    }

    /// Which process is next to lock a key of a shard whose lock the caller holds.
    pub(super) fn turn_in(&self, index: usize) -> &Turn {
        &self.header.turns[index % SHARDS]
    }

    /// On which those sleep who wait for any change.
    pub(super) fn changed(&self) -> &EventCell {
        &self.header.changed
    }

    pub(super) fn end_waits(&self) {
        let shards = self.shards.iter().map(|shard| &shard.changed);
        let events = shards.chain([&self.header.changed]);
        self.waiting.waits.end(events);
    }

    /// The version of a key's shard, and how many entries expire there, in shared memory.
    pub(super) fn watched(&self, hash: Hash) -> (&AtomicU64, &AtomicU32) {
        let shard = &self.shards[hash.shard as usize % SHARDS];
        (&shard.store.version, &shard.store.mortal)
    }

    /// A number that has grown with every change of the map.
    pub(super) fn version(&self) -> u64 {
        let versions = self.shards.iter().map(|shard| &shard.store.version);
        versions.fold(0, |sum, version| {
            sum.wrapping_add(version.load(Ordering::Acquire))
        })
    }

    /// Locks the shard that `hash` names.
    #[inline(always)]
    pub(super) fn lock_for(&self, hash: Hash) -> Result<Locked<'_>> {
        let index = hash.shard as usize % SHARDS;
        Store::prefetch(&self.shards[index].store, &self.heap, hash.tag);
        self.lock(index)
    }

    /// Locks a shard, and repairs it if its last owner died in it.
    ///
    /// Inlined by force with what is done under it: moved through memory, the results of these
    /// took a quarter of the time of a set.
    #[inline(always)]
    pub(super) fn lock(&self, index: usize) -> Result<Locked<'_>> {
        let (guard, repair) = match self.locks[index].lock(Deadline::Never)? {
            Acquired::Held(guard) => (guard, false),
            Acquired::Recovered(guard) => (guard, true),
        };
        let store = self.store(index);
        if repair {
            self.repair_shard(index, &guard)?;
        }
        self.check_poison()?;
        Ok(Locked {
            store,
            poisons: (!thread::panicking()).then_some(self),
            _guard: guard,
        })
    }

    /// Reads the value of `key` with `read`, without a lock.
    #[inline(always)]
    pub(super) fn peek<T>(
        &self,
        hash: Hash,
        key: &[u8],
        read: &mut impl FnMut(Value) -> T,
    ) -> Result<Option<T>, Torn> {
        let store = self.store(hash.shard as usize % SHARDS);
        let glance = store.glance(hash.tag)?;
        let _reading = self.readers.enter(&self.segment).ok_or(Torn::Lock)?;
        if self.is_poisoned() {
            return Err(Torn::Lock);
        }
        store.peek(&glance, hash.tag, key, read)
    }

    #[inline]
    fn store(&self, index: usize) -> Store<'_> {
        Store {
            state: &self.shards[index].store,
            heap: &self.heap,
            extents: self,
            index,
        }
    }

    /// Looks for `key` in its shard, and does `work` under the shard's lock.
    #[inline]
    pub(super) fn look_up<'a, T>(
        &'a self,
        key: &[u8],
        work: impl FnOnce(&Locked<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        let hash = self.hasher.hash(key);
        let shard = self.lock_for(hash)?;
        let found = shard.store.find(hash.tag, key)?;
        work(&shard, &found)
    }

    /// The same for work that may change the shard. It is done again if there was no room, but for
    /// what the dead held.
    #[inline(always)]
    pub(super) fn change<'a, T>(
        &'a self,
        key: &[u8],
        mut work: impl FnMut(&Locked<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        let done = self.change_once(key, &mut work);
        self.or_again(done, move || self.change_once(key, &mut work))
    }

    /// What was done, or, if there was no room for it, what comes of doing it again once what the
    /// dead held is free. By who has no lock of the map.
    #[inline(always)]
    pub(super) fn or_again<T>(
        &self,
        done: Result<T>,
        again: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match done {
            Err(full @ Error::NoSpace { .. }) => self.do_again(full, again),
            done => done,
        }
    }

    #[cold]
    fn do_again<T>(&self, full: Error, again: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.let_go_of_the_dead()? {
            true => again(),
            false => Err(full),
        }
    }

    #[inline(always)]
    fn change_once<'a, T>(
        &'a self,
        key: &[u8],
        work: &mut impl FnMut(&Locked<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        let hash = self.hasher.hash(key);
        let _told = Telling(self, hash.shard as usize);
        let shard = self.lock_for(hash)?;
        if shard.store.has_mortals() {
            shard.store.sweep_some()?;
        }
        let found = shard.store.find(hash.tag, key)?;
        work(&shard, &found)
    }

    /// Holds `what` in `shard`, having ended what the dead hold; `None` if there are as many holds
    /// as there can be.
    pub(super) fn hold(
        &self,
        shard: &Locked<'_>,
        kind: Kind,
        what: u64,
        owner: Owner,
    ) -> Result<Option<Held>> {
        let holds = shard.store.holds();
        self.let_go_in(shard, owner)?;
        if let Some(held) = holds.take(kind, what, owner) {
            return Ok(Some(held));
        }
        // Locks of the dead wait for somebody to hear of the death, but not for ever.
        for held in holds.all() {
            if !self.is_attached(held.owner)? {
                holds.end(&held);
            }
        }
        Ok(holds.take(kind, what, owner))
    }

    /// Ends what the dead hold of a shard's entries, and says whether that was anything.
    fn let_go_in(&self, shard: &Locked<'_>, owner: Owner) -> Result<bool> {
        let (store, mut any) = (&shard.store, false);
        if store.holds().any() {
            for held in store.holds().all().filter(Held::is_entry) {
                if held.owner != owner && !self.is_attached(held.owner)? {
                    store.let_go(&held)?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// The same for all shards. By who has none of their locks.
    fn let_go_of_the_dead(&self) -> Result<bool> {
        let (owner, mut any) = (self.owner(), false);
        for index in 0..SHARDS {
            if self.store(index).holds().any() {
                any |= self.let_go_in(&self.lock(index)?, owner)?;
            }
        }
        Ok(any)
    }

    /// Writes an entry to a place that this process holds.
    pub(super) fn write_entry(&self, place: u64, pair: &Pair<'_>) -> Result<()> {
        entry::write(&self.heap, (place, pair.size()), 0, pair)
    }

    /// Wakes those who wait for a change in a shard, once its lock is released.
    #[inline]
    pub(super) fn tell(&self, index: usize) {
        publish_fence();
        for changed in [&self.shards[index].changed, &self.header.changed] {
            if changed.has_sleepers() {
                changed.notify_all();
            }
        }
    }

    #[cold]
    fn repair_shard(&self, index: usize, guard: &Guard<'_>) -> Result<()> {
        self.repair(guard, || self.store(index).repair())?;
        self.tell(index);
        Ok(())
    }

    /// Repairs what `guard` protects after its last owner died, or poisons the map. Either
    /// way the lock itself is good again: poison is what keeps everybody out.
    #[cold]
    fn repair(&self, guard: &Guard<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let repaired = self.check_poison().and_then(|()| {
            let worked = work();
            worked.inspect_err(|_| self.poison())
        });
        guard.mark_consistent();
        repaired
    }

    /// The error of a map that was given up.
    #[inline]
    pub(super) fn check_poison(&self) -> Result<()> {
        match self.is_poisoned() {
            true => Err(poisoned()),
            false => Ok(()),
        }
    }

    #[inline]
    fn is_poisoned(&self) -> bool {
        self.header.poisoned.load(Ordering::Relaxed) != 0
    }

    fn poison(&self) {
        self.header.poisoned.store(1, Ordering::Relaxed);
    }

    /// Runs `work` on the arena under its lock; rebuilds it first if its last owner died.
    fn with_arena<T>(&self, work: impl FnOnce(&Arena<'_>) -> Result<T>) -> Result<T> {
        let backing = Memory {
            segment: &self.segment,
            readers: &self.readers,
        };
        let arena = Arena {
            state: &self.header.arena,
            heap: &self.heap,
            backing: &backing,
            keeps: false,
        };
        let _guard = match self.arena_lock.lock(Deadline::Never)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => {
                self.repair(&guard, || arena.rebuild())?;
                guard
            }
        };
        self.check_poison()?;
        work(&arena)
    }

    /// Checks every invariant of the map, all of it locked.
    pub(super) fn verify(&self) -> Result<()> {
        let shards = (0..SHARDS)
            .map(|index| self.lock(index))
            .collect::<Result<Vec<_>>>()?;
        let mut owned = vec![Vec::new(); SHARDS];
        for extent in self.with_arena(|arena| arena.verify())? {
            match owned.get_mut(extent.owner as usize) {
                Some(extents) => extents.push(extent),
                None => return Err(Error::corrupt("an extent belongs to no shard")),
            }
        }
        for (shard, extents) in shards.iter().zip(owned) {
            shard.store.verify(extents)?;
        }
        Ok(())
    }
}

#[cold]
fn poisoned() -> Error {
    Error::Poisoned {
        what: "a map that a process died in could not be repaired".into(),
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // A panic between two steps left them half done, and this process is alive, so
        // nobody would repair them.
        if let Some(core) = self.poisons
            && thread::panicking()
        {
            core.poison();
        }
    }
}

/// Wakes those who wait for a change in a shard when it is dropped: later than the lock, which was
/// taken later.
struct Telling<'a>(&'a Core, usize);

impl Drop for Telling<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

impl Extents for Core {
    fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        self.with_arena(|arena| arena.allocate(blocks, owner, purpose))
    }

    fn free(&self, head: u32) -> Result<()> {
        self.with_arena(|arena| arena.free(head))
    }

    fn owned_by(&self, owner: u8) -> Result<Vec<Extent>> {
        self.with_arena(|arena| arena.owned_by(owner))
    }
}
