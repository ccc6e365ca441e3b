//! A map's header and shards in shared memory.
//!
//! ```text
//! offset  size  field     written by              invariant
//!      0     8  seed      creator                 constant
//!      8     8  blocks    creator                 constant; all sizes follow from it
//!     16     4  poisoned  owner of any lock       H1: 1 once a repair has failed, never 0 again
//!     20    12  changed   any process             waiters for any change sleep here
//!     32     4  readers   any process             see `readers`
//!     36     4  relayed   owner of all locks      1 while what others change becomes a request to a relay
//!     40     4  shards    creator                 constant: 64, or 4 in a compact map
//!     64    64  lock      any process             guards the arena
//!    128   544  arena     owner of `lock`         see `heap::arena`
//!    672  1536  handoffs  owners of the shards    see `key_handoff`
//!   2240   128  relay     any process             see `relay::state`
//!   4096        shards    see below; a compact map never touches those beyond its own
//!  45056        heap      see `heap`
//!               readers   see `readers`
//!
//! shard (640 bytes)
//!      0    64  lock      any process             guards the store
//!     64   560  store     owner of the lock       see `store`
//!    624    12  changed   any process             waiters for a key to change or to be unlocked
//!                                                 sleep here
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::hash::{FEW_SHARDS, SHARDS};
use super::key_handoff::KeyHandoff;
use super::readers;
use super::store::StoreState;
use crate::error::{Error, Result};
use crate::heap::{self, ArenaState, Heap, LARGEST_SLOT, PAGE};
use crate::layout::{Offset, Region, Shared, SharedRef};
use crate::relay::RelayState;
use crate::segment::Segment;
use crate::sync::{EventCell, LockCell};
use crate::sys::process;

#[repr(C)]
pub(super) struct MapHeader {
    pub(super) seed: AtomicU64,
    pub(super) blocks: AtomicU64,
    pub(super) poisoned: AtomicU32,
    pub(super) changed: EventCell,
    pub(super) reader_pages: AtomicU32,
    pub(super) relayed: AtomicU32,
    shards: AtomicU32,
    _unused: [AtomicU32; 5],
    pub(super) lock: LockCell,
    pub(super) arena: ArenaState,
    pub(super) handoffs: [KeyHandoff; SHARDS],
    pub(super) relay: RelayState,
}

const _: () = assert!(std::mem::offset_of!(MapHeader, changed) == 20);
const _: () = assert!(std::mem::offset_of!(MapHeader, lock) == 64);
const _: () = assert!(std::mem::offset_of!(MapHeader, arena) == 128);
const _: () = assert!(std::mem::offset_of!(MapHeader, handoffs) == 672);
const _: () = assert!(std::mem::offset_of!(MapHeader, relayed) == 36);
const _: () = assert!(std::mem::offset_of!(MapHeader, shards) == 40);
const _: () = assert!(std::mem::offset_of!(MapHeader, relay) == 2240);
const _: () = assert!(size_of::<MapHeader>() <= PAGE as usize);

// SAFETY: `repr(C)`, atomics and shared structures only.
unsafe impl Shared for MapHeader {}

/// One shard. Its first two cache lines hold what a `get` needs: the lock and where the table is.
#[repr(C, align(128))]
pub(super) struct Shard {
    pub(super) lock: LockCell,
    pub(super) store: StoreState,
    pub(super) changed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(Shard, store) == 64);
const _: () = assert!(std::mem::offset_of!(Shard, changed) == 624);
const _: () = assert!(size_of::<Shard>() == 640);
const SHARD: u64 = size_of::<Shard>() as u64;

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for Shard {}
// SAFETY: an array of `Shared` values.
unsafe impl Shared for [Shard; SHARDS] {}

const HEADER: u64 = Segment::DATA;
pub(super) const SHARD_TABLE: u64 = HEADER + PAGE;
pub(super) const HEAP: u64 = SHARD_TABLE + SHARDS as u64 * SHARD;
const _: () = assert!(HEAP.is_multiple_of(PAGE) && Segment::DATA.is_multiple_of(PAGE));
// `Heap::slot` needs this many bytes behind the heap.
const _: () = assert!(readers::SIZE >= LARGEST_SLOT);

/// The number of shards of a map.
pub(super) fn shard_count(compact: bool) -> usize {
    if compact { FEW_SHARDS } else { SHARDS }
}

/// Bytes of data to commit at creation: all but the heap, for which the arena commits, and the shards that a
/// compact map does not have.
pub(super) fn initial_commit(compact: bool) -> u64 {
    let end = SHARD_TABLE + shard_count(compact) as u64 * SHARD;
    end.next_multiple_of(PAGE) - Segment::DATA
}

/// Bytes of a segment whose heap has `blocks` blocks.
pub(super) fn segment_size(blocks: u32) -> u64 {
    HEAP + Heap::size(blocks) + readers::SIZE
}

/// Fills a private segment: `blocks` blocks of heap, `reserve` of them committed. Entries of an `ordered` map
/// say when they were inserted.
pub(super) fn init(
    segment: &Segment,
    (blocks, reserve): (u32, u32),
    ordered: bool,
    compact: bool,
) -> Result<()> {
    let region = segment.region();
    let header = header(&region)?;
    let [seed] = process::random();
    header.seed.store(seed, Ordering::Relaxed);
    header.blocks.store(blocks as u64, Ordering::Relaxed);
    let count = shard_count(compact);
    header.shards.store(count as u32, Ordering::Relaxed);
    for shard in &shards(&region)?[..count] {
        shard.store.ordered.store(ordered.into(), Ordering::Relaxed);
    }
    heap::reserve(segment, &header.arena, (HEAP, blocks), reserve)
}

pub(super) fn header(region: &Region) -> Result<SharedRef<MapHeader>> {
    region.keep(Offset::new(HEADER))
}

/// How many shards the map has.
pub(super) fn count_shards(header: &MapHeader) -> Result<usize> {
    match header.shards.load(Ordering::Relaxed) as usize {
        count @ (SHARDS | FEW_SHARDS) => Ok(count),
        count => Err(Error::corrupt(format!("a map with {count} shards"))),
    }
}

/// Commits memory for `count` shards of a map that was opened. Its creator has done that for as many as the map
/// had then, but the number was read from shared memory: touching a shard that has no memory raises SIGBUS when
/// `/dev/shm` is full.
pub(super) fn commit_shards(segment: &Segment, count: usize) -> Result<()> {
    let is_compact = count == FEW_SHARDS;
    // Every map has at least the memory of a compact one.
    match is_compact || segment.created() {
        true => Ok(()),
        false => segment.commit(HEADER, initial_commit(is_compact)),
    }
}

/// The shards, of which a compact map uses only the first.
pub(super) fn shards(region: &Region) -> Result<SharedRef<[Shard; SHARDS]>> {
    region.keep(Offset::new(SHARD_TABLE))
}
