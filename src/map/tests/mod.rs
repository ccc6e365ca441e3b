//! The map's parts on a heap buffer: no segment, no locks, no kernel. Miri runs these too.

mod arena;
mod hostile;
mod store;
mod table;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ptr::NonNull;

use super::store::{Store, StoreState};
use crate::error::{Error, Result};
use crate::heap::{Arena, ArenaState, Backing, Extent, Extents, Heap, LARGEST_SLOT, PAGE, Purpose};
use crate::layout::{Offset, Region};

const STATE: u64 = 0;
const SHARDS: u64 = 4096;
const HEAP: u64 = 8192;

/// A map's memory without a map: arena, a few shards, and a count of committed blocks.
pub(super) struct World {
    base: NonNull<u8>,
    layout: Layout,
    pub(super) region: Region,
    pub(super) heap: Heap,
    committed: RefCell<BTreeSet<u64>>,
    /// Blocks that may be committed; `NoSpace` beyond.
    pub(super) room: Cell<usize>,
    /// Whether the arena keeps what is freed.
    pub(super) keeps: Cell<bool>,
}

impl World {
    pub(super) fn new(blocks: u32) -> Self {
        let len = (HEAP + Heap::size(blocks) + LARGEST_SLOT) as usize;
        let layout = Layout::from_size_align(len, PAGE as usize).unwrap();
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        // SAFETY: the buffer lives as long as the world that owns the region.
        let region = unsafe { Region::new(base, len) };
        Self {
            base,
            layout,
            region,
            heap: Heap::new(region, HEAP, blocks).unwrap(),
            committed: RefCell::default(),
            room: Cell::new(usize::MAX),
            keeps: Cell::new(false),
        }
    }

    pub(super) fn arena(&self) -> Arena<'_> {
        let state: &ArenaState = self.region.resolve(Offset::new(STATE)).unwrap();
        Arena {
            state,
            heap: &self.heap,
            backing: self,
            keeps: self.keeps.get(),
        }
    }

    pub(super) fn store(&self, owner: u8) -> Store<'_> {
        let state: &StoreState = self
            .region
            .resolve(Offset::new(SHARDS + owner as u64 * 1024))
            .unwrap();
        Store {
            state,
            heap: &self.heap,
            extents: self,
            index: owner.into(),
        }
    }

    /// Blocks that hold memory.
    pub(super) fn committed(&self) -> usize {
        self.committed.borrow().len()
    }

    /// Checks the arena and the given shards.
    pub(super) fn verify(&self, owners: &[u8]) -> Result<()> {
        let all = self.arena().verify()?;
        for owner in owners {
            let own = all.iter().filter(|extent| extent.owner == *owner);
            self.store(*owner).verify(own.copied().collect())?;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nothing outlives the world.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

impl Backing for World {
    fn commit(&self, offset: u64, len: u64, _new: u64) -> Result<()> {
        assert!(offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0);
        let blocks = offset / PAGE..(offset + len) / PAGE;
        let mut committed = self.committed.borrow_mut();
        let more = blocks.clone().filter(|block| !committed.contains(block));
        if committed.len() + more.count() > self.room.get() {
            return Err(Error::no_memory(len, 0));
        }
        committed.extend(blocks);
        Ok(())
    }

    fn decommit(&self, offset: u64, len: u64) -> Result<()> {
        assert!(offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE));
        let mut committed = self.committed.borrow_mut();
        for block in offset / PAGE..(offset + len) / PAGE {
            committed.remove(&block);
        }
        let at = self.region.span(offset, len as usize).unwrap();
        // SAFETY: inside the buffer; nothing refers to what is given back.
        unsafe { at.write_bytes(0, len as usize) };
        Ok(())
    }

    fn available(&self) -> u64 {
        0
    }
}

impl Extents for World {
    fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        self.arena().allocate(blocks, owner, purpose)
    }

    fn free(&self, head: u32) -> Result<()> {
        self.arena().free(head)
    }

    fn owned_by(&self, owner: u8) -> Result<Vec<Extent>> {
        self.arena().owned_by(owner)
    }
}
