//! A map's shared memory in this process: its header, its shards and their locks.
//!
//! ```text
//! offset  size  field     written by            invariant
//!      0     8  seed      creator               constant
//!      8     8  blocks     creator               constant; the sizes of all else follow
//!     16     4  poisoned  whoever gives up      H1: never goes back to 0
//!     64    64  lock      arena's owner
//!    128   544  arena     arena's owner         see arena.rs
//!   4096        shards    each its lock's owner
//!  36864        heap      see `heap`
//! ```
//! Lock order: one shard, then the arena; whoever needs several shards takes them in the
//! order of their numbers. Poison is checked on the way into a shard.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::hash::{Hash, Hasher, SHARDS};
use super::store::{Store, StoreState};
use crate::error::{Error, Result};
use crate::heap::{Arena, ArenaState, Extent, Extents, Heap, PAGE, Purpose};
use crate::layout::{Offset, Region, Shared};
use crate::segment::Segment;
use crate::sync::{Acquired, Guard, MutexCell, RobustMutex};
use crate::sys::clock::Deadline;
use crate::sys::process;

#[repr(C)]
struct Header {
    seed: AtomicU64,
    blocks: AtomicU64,
    poisoned: AtomicU32,
    _unused: [AtomicU32; 11],
    lock: MutexCell,
    arena: ArenaState,
}

const _: () = assert!(std::mem::offset_of!(Header, lock) == 64);
const _: () = assert!(std::mem::offset_of!(Header, arena) == 128);
const _: () = assert!(size_of::<Header>() <= PAGE as usize);

// SAFETY: `repr(C)`, atomics and shared structures only.
unsafe impl Shared for Header {}

/// One shard: what a `get` needs of it, lock and table, is in its first two cache lines.
#[repr(C, align(128))]
struct Shard {
    lock: MutexCell,
    store: StoreState,
}

const _: () = assert!(std::mem::offset_of!(Shard, store) == 64);
const _: () = assert!(size_of::<Shard>() == 512);
const SHARD: u64 = size_of::<Shard>() as u64;

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for Shard {}

const HEADER: u64 = Segment::DATA;
const SHARD_TABLE: u64 = HEADER + PAGE;
const HEAP: u64 = SHARD_TABLE + SHARDS as u64 * SHARD;
const _: () = assert!(HEAP.is_multiple_of(PAGE) && Segment::DATA.is_multiple_of(PAGE));

/// Bytes of data to commit at birth: all but the heap, and the block map's first page.
pub(super) const BIRTH: u64 = HEAP - Segment::DATA + PAGE;

/// Bytes of a segment whose heap has `blocks` blocks.
pub(super) fn segment_size(blocks: u32) -> u64 {
    HEAP + Heap::size(blocks)
}

/// Fills a private segment: `blocks` blocks of heap, `reserve` of them with memory.
pub(super) fn init(segment: &Segment, blocks: u32, reserve: u32) -> Result<()> {
    let region = segment.region();
    let header = header(&region)?;
    header.seed.store(process::random(), Ordering::Relaxed);
    header.blocks.store(blocks as u64, Ordering::Relaxed);
    header.lock.init()?;
    for index in 0..SHARDS {
        shard(&region, index)?.lock.init()?;
    }
    Arena {
        state: &header.arena,
        heap: &Heap::new(region, HEAP, blocks)?,
        backing: segment,
        keeps: false,
    }
    .reserve(reserve)
}

fn header(region: &Region) -> Result<&'static Header> {
    region.resolve(Offset::new(HEADER))
}

fn shard(region: &Region, index: usize) -> Result<&'static Shard> {
    region.resolve(Offset::new(SHARD_TABLE + index as u64 * SHARD))
}

/// An attached map, without the public face.
pub(super) struct Core {
    pub(super) hasher: Hasher,
    pub(super) heap: Heap,
    header: &'static Header,
    shards: Vec<(&'static Shard, RobustMutex)>,
    arena_lock: RobustMutex,
    // Last: everything above points into it.
    segment: Segment,
}

/// A shard whose lock is held.
pub(super) struct Locked<'a> {
    pub(super) store: Store<'a>,
    core: &'a Core,
    was_panicking: bool,
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
            unsafe { RobustMutex::attach(cell) }
        };
        let mut shards = Vec::with_capacity(SHARDS);
        for index in 0..SHARDS {
            let shard = shard(&region, index)?;
            shards.push((shard, attach(&shard.lock)?));
        }
        Ok(Self {
            hasher: Hasher::new(header.seed.load(Ordering::Relaxed)),
            heap: Heap::new(region, HEAP, blocks)?,
            header,
            shards,
            arena_lock: attach(&header.lock)?,
            segment,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.segment.name()
    }

    /// Locks the shard that `hash` names.
    #[inline]
    pub(super) fn lock_for(&self, hash: Hash) -> Result<Locked<'_>> {
        let index = hash.shard as usize % SHARDS;
        Store::prefetch(&self.shards[index].0.store, &self.heap, hash.tag);
        self.lock(index)
    }

    /// Locks a shard, and repairs it if its last owner died in it.
    #[inline]
    pub(super) fn lock(&self, index: usize) -> Result<Locked<'_>> {
        let (shard, lock) = &self.shards[index];
        let (guard, repair) = match lock.lock(Deadline::Never)? {
            Acquired::Held(guard) => (guard, false),
            Acquired::Recovered(guard) => (guard, true),
        };
        let store = Store {
            state: &shard.store,
            heap: &self.heap,
            extents: self,
            owner: index as u8,
        };
        if repair {
            self.repair(&guard, || store.repair())?;
        }
        self.check_poison()?;
        Ok(Locked {
            store,
            core: self,
            was_panicking: thread::panicking(),
            _guard: guard,
        })
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
    fn check_poison(&self) -> Result<()> {
        if self.header.poisoned.load(Ordering::Relaxed) != 0 {
            return Err(poisoned());
        }
        Ok(())
    }

    fn poison(&self) {
        self.header.poisoned.store(1, Ordering::Relaxed);
    }

    /// Runs `work` on the arena under its lock; rebuilds it first if its last owner died.
    fn with_arena<T>(&self, work: impl FnOnce(&Arena<'_>) -> Result<T>) -> Result<T> {
        let arena = Arena {
            state: &self.header.arena,
            heap: &self.heap,
            backing: &self.segment,
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
        if thread::panicking() && !self.was_panicking {
            self.core.poison();
        }
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
