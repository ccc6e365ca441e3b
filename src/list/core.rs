//! A list's shared memory in this process: its header and its lock.
//!
//! ```text
//! offset  size  field     written by            invariant
//!      0     8  blocks    creator               constant; the heap's size follows
//!      8     4  poisoned  owner of the lock     H1: 1 once a repair has failed, never 0 again
//!     64    64  lock      any process           guards all the rest
//!    128   544  arena     owner of the lock     see `heap::arena`
//!    704   448  list      owner of the lock     see `store`
//!   4096        heap      see `heap`
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::store::{ListState, Store};
use crate::error::Result;
use crate::heap::{
    self, ArenaState, Extent, Extents, GuardedHeap, Heap, ObjectGuard, PAGE, Parts, Purpose,
};
use crate::layout::{Offset, Region, Shared, SharedRef};
use crate::segment::Segment;
use crate::sync::{LockCell, Waits};

#[repr(C)]
pub(super) struct ListHeader {
    blocks: AtomicU64,
    pub(super) poisoned: AtomicU32,
    _unused: [AtomicU32; 13],
    pub(super) lock: LockCell,
    pub(super) arena: ArenaState,
    pub(super) list: ListState,
}

const _: () = assert!(std::mem::offset_of!(ListHeader, lock) == 64);
const _: () = assert!(std::mem::offset_of!(ListHeader, arena) == 128);
const _: () = assert!(std::mem::offset_of!(ListHeader, list) == 704);
const _: () = assert!(size_of::<ListHeader>() <= PAGE as usize);

// SAFETY: `repr(C)`, atomics and shared structures only.
unsafe impl Shared for ListHeader {}

pub(super) const HEADER: u64 = Segment::DATA;
const HEAP: u64 = HEADER + PAGE;
const _: () = assert!(HEAP.is_multiple_of(PAGE));

/// Bytes of data to commit at creation: the header. The arena commits the heap.
pub(super) const INITIAL_COMMIT: u64 = PAGE;

/// Bytes of a segment whose heap has `blocks` blocks.
pub(super) fn segment_size(blocks: u32) -> u64 {
    HEAP + Heap::size(blocks)
}

/// Fills a private segment: `blocks` blocks of heap, `reserve` of them committed.
pub(super) fn init(segment: &Segment, blocks: u32, reserve: u32) -> Result<()> {
    let header = header(&segment.region())?;
    header.blocks.store(blocks as u64, Ordering::Relaxed);
    heap::reserve(segment, &header.arena, (HEAP, blocks), reserve)
}

fn header(region: &Region) -> Result<SharedRef<ListHeader>> {
    region.keep(Offset::new(HEADER))
}

/// An attached list, without the public interface.
pub(super) struct Core {
    state: SharedRef<ListState>,
    // Last: it owns the segment, which `state` points into.
    guarded: GuardedHeap<Segment>,
}

/// The ownership of a list's lock.
pub(super) struct Owned<'a> {
    pub(super) core: &'a Core,
    guard: ObjectGuard<'a>,
}

impl Owned<'_> {
    /// Whether this process took the lock.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        self.guard.is_ours()
    }
}

impl Core {
    pub(super) fn attach(segment: Segment) -> Result<Self> {
        let header = header(&segment.region())?;
        let parts = Parts {
            lock: header.part(|it| &it.lock),
            arena: header.part(|it| &it.arena),
            poisoned: header.part(|it| &it.poisoned),
            blocks: header.part(|it| &it.blocks),
            base: HEAP,
            behind: 0,
        };
        Ok(Self {
            state: header.part(|it| &it.list),
            guarded: GuardedHeap::attach("list", parts, segment)?,
        })
    }

    /// Bytes of extents in use.
    pub(super) fn used(&self) -> u64 {
        self.guarded.used()
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.guarded.memory
    }

    pub(super) fn end_waits(&self) {
        self.guarded.end_waits();
    }

    pub(super) fn waits(&self) -> &Waits {
        self.guarded.waits()
    }

    #[inline]
    pub(super) fn heap(&self) -> &Heap {
        &self.guarded.heap
    }

    /// Locks the list, and repairs it if its last owner died or panicked.
    #[inline]
    pub(super) fn lock(&self) -> Result<Owned<'_>> {
        Ok(Owned {
            core: self,
            guard: self.guarded.lock(|| self.store().repair())?,
        })
    }

    /// The contents, for the lock's owner.
    #[inline]
    pub(super) fn store(&self) -> Store<'_> {
        Store {
            state: &self.state,
            heap: self.heap(),
            extents: self,
        }
    }

    /// Checks every invariant of the list.
    pub(super) fn verify(&self) -> Result<()> {
        let _owned = self.lock()?;
        let extents = self.guarded.arena().verify()?;
        self.store().verify(extents)
    }
}

/// Called only through a store, whose user owns the list's lock.
impl Extents for Core {
    fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        self.guarded.arena().allocate(blocks, owner, purpose)
    }

    fn free(&self, head: u32) -> Result<()> {
        self.guarded.arena().free(head)
    }

    fn owned_by(&self, owner: u8) -> Result<Vec<Extent>> {
        self.guarded.arena().owned_by(owner)
    }
}
