//! A map in this process: the locks of its shards, and the work under them.
//!
//! Lock order: one shard, then the arena. Several shards are locked in the order of their numbers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entry::{self, Pair, Value};
use super::hash::{Hash, Hasher, SHARDS};
use super::header::{self, MapHeader, Shard};
use super::holds::{HOLDS, Hold, HoldKind};
use super::key_handoff::KeyHandoff;
use super::optimistic::ReadConflict;
use super::readers::{self, MapMemory};
use super::store::{Lookup, Store};
use crate::error::{Error, Result};
use crate::heap::{Arena, Extent, Extents, GuardedHeap, Heap, Memory, ObjectGuard, Parts, Purpose};
use crate::layout::{Owner, SharedRef};
use crate::relay::RelayState;
use crate::segment::Segment;
use crate::sync::crash::crash_point;
use crate::sync::{EventCell, RobustMutex, WaitPolicy, Waits, publish_fence};
use crate::sys::clock::Deadline;

/// An attached map, without the public interface.
pub(super) struct Core {
    pub(super) hasher: Hasher,
    header: SharedRef<MapHeader>,
    // An array: indexing it with a hash's shard needs no bounds check. A compact map uses the first ones.
    shards: SharedRef<[Shard; SHARDS]>,
    // Of the shards that the map has.
    locks: Box<[RobustMutex]>,
    /// Of each shard, how often this handle has pinned an entry by each hold. Changed under the shard's lock.
    pins: Box<[[AtomicU64; HOLDS]]>,
    /// What this handle has learned from its waits for a key or a change.
    pub(super) waiting: WaitPolicy,
    // Last: it owns the segment, which everything above points into.
    guarded: GuardedHeap<MapMemory>,
}

/// A shard whose lock is held.
pub(super) struct LockedShard<'a> {
    pub(super) store: Store<'a>,
    guard: ObjectGuard<'a>,
}

impl Core {
    pub(super) fn attach(segment: Segment) -> Result<Self> {
        let region = segment.region();
        let header = header::header(&region)?;
        let shards = header::shards(&region)?;
        let count = header::count_shards(&header)?;
        header::commit_shards(&segment, count)?;
        let locks = shards[..count].iter().map(|shard| {
            // SAFETY: initialised before the segment was published; the segment is in the last
            // field and so outlives the handle.
            unsafe { RobustMutex::attach(&shard.lock, segment.peers()) }
        });
        let locks = locks.collect();
        let pins = (0..count).map(|_| Default::default()).collect();
        let parts = Parts {
            lock: header.part(|it| &it.lock),
            arena: header.part(|it| &it.arena),
            poisoned: header.part(|it| &it.poisoned),
            blocks: header.part(|it| &it.blocks),
            base: header::HEAP,
            behind: readers::SIZE,
        };
        Ok(Self {
            hasher: Hasher::new(header.seed.load(Ordering::Relaxed), count),
            header,
            shards,
            locks,
            pins,
            waiting: WaitPolicy::default(),
            guarded: GuardedHeap::attach(
                "map",
                parts,
                MapMemory::new(segment, header.part(|it| &it.reader_pages))?,
            )?,
        })
    }

    #[inline]
    pub(super) fn heap(&self) -> &Heap {
        &self.guarded.heap
    }

    /// The segment and its optimistic readers.
    #[inline]
    pub(super) fn memory(&self) -> &MapMemory {
        &self.guarded.memory
    }

    pub(super) fn segment(&self) -> &Segment {
        self.memory().segment()
    }

    /// How many shards the map has.
    #[inline]
    pub(super) fn shard_count(&self) -> usize {
        self.locks.len()
    }

    /// How often this handle has pinned an entry by a hold of the shard, under its lock. Not shared: only the handle
    /// that takes a hold ends it.
    pub(super) fn pins(&self, shard: &LockedShard<'_>, hold: usize) -> &AtomicU64 {
        &self.pins[shard.store.index][hold]
    }

    fn shards(&self) -> &[Shard] {
        &self.shards[..self.shard_count()]
    }

    /// Bytes of extents in use.
    pub(super) fn used(&self) -> u64 {
        self.guarded.used()
    }

    /// Whether the map keeps the order of insertion.
    pub(super) fn is_ordered(&self) -> bool {
        self.store(0).is_ordered()
    }

    /// This process, as the owner of what it holds.
    pub(super) fn owner(&self) -> Owner {
        self.segment().owner()
    }

    /// Whether `owner` still has the map open; asks the kernel.
    pub(super) fn is_attached(&self, owner: Owner) -> Result<bool> {
        self.segment().is_attached(owner)
    }

    /// The event on which processes wait for a change in a shard.
    pub(super) fn changed_in(&self, index: usize) -> &EventCell {
        &self.shards[index].changed
    }

    /// Which waiter is next to lock a key of a shard. The caller has the shard's lock.
    pub(super) fn handoff_in(&self, index: usize) -> &KeyHandoff {
        &self.header.handoffs[index % SHARDS]
    }

    /// The event on which processes wait for any change.
    pub(super) fn changed(&self) -> &EventCell {
        &self.header.changed
    }

    pub(super) fn end_waits(&self) {
        let shards = self.shards().iter().map(|shard| &shard.changed);
        let events = shards.chain([&self.header.changed]);
        self.waiting.waits.end(events);
    }

    /// Shows the threads that wait for a change or a key, or for one of the map's locks.
    pub(super) fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.waiting.waits);
        see(self.guarded.waits());
        self.locks.iter().for_each(|lock| see(lock.waits()));
    }

    /// The words of a key's shard that hold its version and its number of expiring entries.
    pub(super) fn watched(&self, hash: Hash) -> (&AtomicU64, &AtomicU32) {
        let shard = &self.shards[hash.shard as usize % SHARDS];
        (&shard.store.version, &shard.store.expiring)
    }

    /// A number that grows with every change of the map.
    pub(super) fn version(&self) -> u64 {
        let versions = self.shards().iter().map(|shard| &shard.store.version);
        versions.fold(0, |sum, version| {
            sum.wrapping_add(version.load(Ordering::Acquire))
        })
    }

    /// Locks the shard that `hash` names.
    #[inline(always)]
    pub(super) fn lock_for(&self, hash: Hash) -> Result<LockedShard<'_>> {
        self.lock_for_until(hash, Deadline::Never)
    }

    /// The same; waits for the lock until `deadline`, or for a second if that is later.
    #[inline(always)]
    pub(super) fn lock_for_until(&self, hash: Hash, deadline: Deadline) -> Result<LockedShard<'_>> {
        let index = hash.shard as usize % SHARDS;
        Store::prefetch(&self.shards[index].store, self.heap(), hash.tag);
        self.lock_until(index, deadline)
    }

    /// Locks a shard, and repairs it if its last owner died or panicked.
    ///
    /// `inline(always)`, as for the work under the lock: otherwise the results go through memory, which takes
    /// a quarter of the time of a set.
    #[inline(always)]
    pub(super) fn lock(&self, index: usize) -> Result<LockedShard<'_>> {
        self.lock_until(index, Deadline::Never)
    }

    #[inline(always)]
    fn lock_until(&self, index: usize, deadline: Deadline) -> Result<LockedShard<'_>> {
        let store = self.store(index);
        let guard = self.guarded.acquire(&self.locks[index], deadline, || {
            store.repair()?;
            self.notify_changed(index);
            Ok(())
        })?;
        Ok(LockedShard { store, guard })
    }

    /// Reads the value of `key` with `read`, without a lock.
    #[inline(always)]
    pub(super) fn read_optimistic<T>(
        &self,
        hash: Hash,
        key: &[u8],
        read: &mut impl FnMut(Value) -> T,
    ) -> Result<Option<T>, ReadConflict> {
        let store = self.store(hash.shard as usize % SHARDS);
        let probe = store.probe(hash.tag)?;
        let _reading = self.memory().enter().ok_or(ReadConflict::Lock)?;
        if self.guarded.is_poisoned() {
            return Err(ReadConflict::Lock);
        }
        store.read_optimistic(&probe, hash.tag, key, read)
    }

    /// How many keys have a time to live.
    pub(super) fn expiring(&self) -> u64 {
        (0..self.shard_count())
            .map(|index| self.store(index).expiring())
            .sum()
    }

    #[inline]
    fn store(&self, index: usize) -> Store<'_> {
        Store {
            state: &self.shards[index].store,
            heap: self.heap(),
            extents: self,
            index,
        }
    }

    /// Looks `key` up in its shard, and runs `work` under the shard's lock.
    #[inline]
    pub(super) fn look_up<'a, T>(
        &'a self,
        key: &[u8],
        work: impl FnOnce(&LockedShard<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        self.look_up_until(key, Deadline::Never, work)
    }

    /// The same; waits for the lock until `deadline`, or for a second if that is later.
    #[inline]
    pub(super) fn look_up_until<'a, T>(
        &'a self,
        key: &[u8],
        deadline: Deadline,
        work: impl FnOnce(&LockedShard<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        let hash = self.hasher.hash(key);
        let shard = self.lock_for_until(hash, deadline)?;
        let found = shard.store.find(hash.tag, key)?;
        work(&shard, &found)
    }

    /// The same for work that may change the shard, by any process but the relay. `None` if the map has a
    /// relay: the change must become a request. If there is no space, releases the holds of dead processes
    /// and runs `work` again.
    #[inline(always)]
    pub(super) fn change<'a, T>(
        &'a self,
        key: &[u8],
        mut work: impl FnMut(&LockedShard<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut unless_relayed =
            |shard: &LockedShard<'a>, found: &Lookup<'a>| work(shard, found).map(Some);
        let mut once = || self.change_once(key, true, &mut unless_relayed);
        let done = once();
        self.retry_if_full(done, once)
    }

    /// The same for work of the relay, which changes the map itself.
    pub(super) fn deliver<'a, T>(
        &'a self,
        key: &[u8],
        mut work: impl FnMut(&LockedShard<'a>, &Lookup<'a>) -> Result<T>,
    ) -> Result<T> {
        let mut work = |shard: &LockedShard<'a>, found: &Lookup<'a>| work(shard, found).map(Some);
        let mut once = || self.change_once(key, false, &mut work);
        let done = once();
        let done = self.retry_if_full(done, once)?;
        done.ok_or_else(|| Error::corrupt("the relay's own change became a request"))
    }

    /// Whether changes become requests to a relay. Exact under a shard's lock.
    #[inline]
    pub(super) fn is_relayed(&self) -> bool {
        self.header.relayed.load(Ordering::Relaxed) != 0
    }

    /// Sets or clears that mark. When this returns, no change that began before is under way.
    pub(super) fn mark_relayed(&self, relayed: bool) -> Result<()> {
        self.header.relayed.store(relayed.into(), Ordering::SeqCst);
        crash_point!();
        (0..self.shard_count()).try_for_each(|index| self.lock(index).map(drop))
    }

    /// The relay's part of the header.
    pub(super) fn relay_state(&self) -> &RelayState {
        &self.header.relay
    }

    /// Returns `done`. If that is `NoSpace`, releases the holds of dead processes and, if there were any,
    /// tries `again`. The caller has no lock of the map.
    #[inline(always)]
    pub(super) fn retry_if_full<T>(
        &self,
        done: Result<T>,
        again: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match done {
            Err(full @ Error::NoSpace { .. }) => self.retry(full, again),
            done => done,
        }
    }

    #[cold]
    fn retry<T>(&self, full: Error, again: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.release_dead_holds()? {
            true => again(),
            false => Err(full),
        }
    }

    #[inline(always)]
    fn change_once<'a, T>(
        &'a self,
        key: &[u8],
        by_others: bool,
        work: &mut impl FnMut(&LockedShard<'a>, &Lookup<'a>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let hash = self.hasher.hash(key);
        let _notify = NotifyChanged(self, hash.shard as usize);
        let shard = self.lock_for(hash)?;
        if by_others && self.is_relayed() {
            return Ok(None);
        }
        if shard.store.has_expiring() {
            shard.store.sweep_some()?;
        }
        let found = shard.store.find(hash.tag, key)?;
        work(&shard, &found)
    }

    /// Ends the holds of dead processes in `shard`, and then holds `what`; `None` if all holds of the
    /// shard are in use.
    pub(super) fn hold(
        &self,
        shard: &LockedShard<'_>,
        kind: HoldKind,
        what: u64,
        owner: Owner,
    ) -> Result<Option<Hold>> {
        let holds = shard.store.holds();
        self.release_dead_holds_in(shard)?;
        if let Some(held) = holds.take(kind, what, owner) {
            return Ok(Some(held));
        }
        // A dead process's key locks stay, so that the next owner learns of the death; but not if the shard
        // has no free hold.
        for held in holds.all() {
            if !self.is_attached(held.owner)? {
                holds.end(&held);
            }
        }
        Ok(holds.take(kind, what, owner))
    }

    /// Ends the holds of dead processes on a shard's entries. True if there were any.
    pub(super) fn release_dead_holds_in(&self, shard: &LockedShard<'_>) -> Result<bool> {
        let (store, mut any) = (&shard.store, false);
        if store.holds().any() {
            for held in store.holds().all().filter(Hold::is_entry) {
                if !self.is_attached(held.owner)? {
                    store.release(&held)?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// The same for all shards. The caller has none of their locks.
    fn release_dead_holds(&self) -> Result<bool> {
        let mut any = false;
        for index in 0..self.shard_count() {
            if self.store(index).holds().any() {
                any |= self.release_dead_holds_in(&self.lock(index)?)?;
            }
        }
        Ok(any)
    }

    /// Writes an entry to a place that this process holds.
    pub(super) fn write_entry(&self, place: u64, pair: &Pair<'_>) -> Result<()> {
        entry::write(self.heap(), (place, pair.size()), 0, pair)
    }

    /// Wakes the processes that wait for a change in a shard. Called after its lock is released.
    #[inline]
    pub(super) fn notify_changed(&self, index: usize) {
        publish_fence();
        for changed in [&self.shards[index].changed, &self.header.changed] {
            if changed.has_sleepers() {
                changed.notify_all();
            }
        }
    }

    /// The error of a map whose repair has failed.
    pub(super) fn check_poison(&self) -> Result<()> {
        self.guarded.check_poison()
    }

    /// Runs `work` on the arena under its lock.
    fn with_arena<T>(&self, work: impl FnOnce(&Arena<'_>) -> Result<T>) -> Result<T> {
        let _guard = self.guarded.lock(|| Ok(()))?;
        work(&self.guarded.arena())
    }

    /// Checks every invariant of the map, all of it locked.
    pub(super) fn verify(&self) -> Result<()> {
        let shards = (0..self.shard_count())
            .map(|index| self.lock(index))
            .collect::<Result<Vec<_>>>()?;
        let mut owned = vec![Vec::new(); shards.len()];
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

impl Drop for LockedShard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.guard.is_interrupted() {
            self.store.state.seq.block_readers();
        }
    }
}

/// Wakes the processes that wait for a change in a shard when it is dropped: after the shard's lock,
/// which is taken later.
struct NotifyChanged<'a>(&'a Core, usize);

impl Drop for NotifyChanged<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.notify_changed(self.1);
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
