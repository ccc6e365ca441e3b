//! Memory inside a segment: extents of blocks that are allocated, freed and found again.
//!
//! - [`block`]: blocks of 1 KiB, and the block map that says what each of them is.
//! - [`arena`]: allocates and frees extents of whole blocks.
//! - [`walk`]: rebuilds and checks the arena by a walk over the block map.
//! - [`class`], [`slab`]: small items in slots of equal size.
//! - [`census`]: which memory an owner refers to, for repairs and checks.
//! - [`guarded`]: a heap with its lock, for objects that repair and poison it.
//!
//! A map keeps its entries in a heap, a list its elements, a queue the messages that lie
//! outside its ring. Only [`guarded`] locks; the others expect their caller to own the lock.

mod arena;
mod block;
mod census;
mod class;
mod guarded;
mod slab;
mod walk;

pub(crate) use arena::{Arena, ArenaState};
pub(crate) use block::{BLOCK, Backing, Extent, Heap, PAGE, Purpose, Word, commit_store};
pub(crate) use census::Census;
pub(crate) use class::{LARGEST as LARGEST_SLOT, of as class_of};
pub(crate) use guarded::{GuardedHeap, Memory, ObjectGuard, Parts, capacities, reserve};
pub(crate) use slab::{Extents, SlabState, Slabs};

use crate::error::Result;
use crate::segment::Segment;

impl Backing for Segment {
    fn commit(&self, offset: u64, len: u64, new: u64) -> Result<()> {
        self.commit_more(offset, len, new)
    }

    fn decommit(&self, offset: u64, len: u64) -> Result<()> {
        Segment::decommit(self, offset, len)
    }

    fn available(&self) -> u64 {
        Segment::available(self)
    }
}
