//! A list's contents, and the words that define them.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0     8  version  owner of the lock   L1: shapes[version & 1] is valid; grows with
//!                                                every change
//!      8     8  pending  owner of the lock   L2: 1 while the swap below is to be completed
//!     16    32  swap     owner of the lock   two words of the table: their slots and new values
//!     64    64  shapes   owner of the lock   see `shape`
//!    128   304  slabs    owner of the lock   derived
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::element::{self, Element};
use super::shape::{PER_BLOCK, Shape, ShapeCell};
use crate::error::{Error, Result};
use crate::heap::{Extents, Heap, Purpose, SlabState, Slabs, Word, commit_store};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// The one owner of all extents of a list.
pub(super) const OWNER: u8 = 0;

/// The contents in shared memory; the top of this file shows the layout.
#[repr(C, align(64))]
pub(super) struct ListState {
    version: AtomicU64,
    pending: AtomicU64,
    swap: [SwapCell; 2],
    _unused: [AtomicU64; 2],
    shapes: [ShapeCell; 2],
    slabs: SlabState,
}

#[repr(C)]
struct SwapCell {
    slot: AtomicU64,
    word: AtomicU64,
}

const _: () = assert!(std::mem::offset_of!(ListState, shapes) == 64);
const _: () = assert!(std::mem::offset_of!(ListState, slabs) == 128);
const _: () = assert!(size_of::<ListState>() == 448);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ListState {}

impl ListState {
    /// The shape that is valid (L1).
    #[inline]
    pub(super) fn shape(&self) -> Result<Shape> {
        let version = self.version.load(Ordering::Acquire);
        self.shapes[(version & 1) as usize].load()
    }
}

/// The contents, seen by the holder of the lock.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) state: &'a ListState,
    pub(super) heap: &'a Heap,
    pub(super) extents: &'a dyn Extents,
}

impl<'a> Store<'a> {
    /// Changes whenever the contents do.
    pub(super) fn version(&self) -> u64 {
        self.state.version.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn shape(&self) -> Result<Shape> {
        self.state.shape()
    }

    /// The shape, for walks over all of it. Checks the table's size against its extent: otherwise a forged
    /// word could make this process walk, and the kernel allocate, the whole heap.
    pub(super) fn whole_shape(&self) -> Result<Shape> {
        let shape = self.shape()?;
        if shape.blocks != 0 {
            let extent = self.heap.extent_at(self.heap.offset_of(shape.head))?;
            let same = extent.head == shape.head && extent.blocks == shape.blocks;
            let last = self
                .heap
                .block(extent.head.saturating_add(extent.blocks - 1))?
                .word();
            let ends = extent.blocks == 1 || last == (Word::Part { head: shape.head });
            if !same || !ends || extent.purpose != Purpose::Table || extent.owner != OWNER {
                return Err(Error::corrupt("a list's table is not its own"));
            }
        }
        Ok(shape)
    }

    /// Makes `shape` the list's shape. The store of the version commits the change.
    #[inline]
    pub(super) fn publish(&self, shape: Shape) {
        let version = self.state.version.load(Ordering::Relaxed).wrapping_add(1);
        self.state.shapes[(version & 1) as usize].store(shape);
        crash_point!();
        commit_store(&self.state.version, version);
        crash_point!();
    }

    /// The words of the table.
    #[inline]
    pub(super) fn words(&self, shape: &Shape) -> Result<&'a [AtomicU64]> {
        if shape.blocks == 0 {
            return Ok(&[]);
        }
        self.heap
            .words(shape.head, shape.blocks)
            .ok_or_else(|| Error::corrupt("a list's table lies outside the heap"))
    }

    pub(super) fn slabs(&self) -> Slabs<'a> {
        Slabs {
            state: &self.state.slabs,
            heap: self.heap,
            extents: self.extents,
            owner: OWNER,
        }
    }

    /// The word of element `index`, which must exist.
    #[inline]
    pub(super) fn word(&self, shape: &Shape, index: u64) -> Result<&'a AtomicU64> {
        let word = self.words(shape)?.get(shape.slot(index));
        word.ok_or_else(|| Error::corrupt("an element lies outside its table"))
    }

    #[inline]
    pub(super) fn element(&self, shape: &Shape, index: u64) -> Result<Element<'a>> {
        let word = self.word(shape, index)?.load(Ordering::Relaxed);
        Element::read(self.heap, word)
    }

    /// The words of the elements `from .. to`.
    pub(super) fn range(&self, shape: &Shape, from: u64, to: u64) -> Result<Vec<u64>> {
        let words = (from..to).map(|index| {
            let word = self.word(shape, index)?;
            Ok(word.load(Ordering::Relaxed))
        });
        words.collect()
    }

    /// A new element that nothing refers to yet.
    #[inline]
    pub(super) fn prepare(&self, bytes: &[u8]) -> Result<u64> {
        let Some(size) = element::place_size(bytes.len()) else {
            return Ok(element::inline_word(bytes));
        };
        let offset = self.slabs().allocate(size)?;
        crash_point!();
        element::write(self.heap, offset, bytes)?;
        Ok(offset)
    }

    /// Frees the element that `word` stood for.
    #[inline]
    pub(super) fn retire(&self, word: u64) -> Result<()> {
        if let Some(offset) = element::place_of(word) {
            self.slabs().free(offset)?;
            crash_point!();
        }
        Ok(())
    }

    /// Replaces element `index`.
    pub(super) fn set(&self, index: u64, bytes: &[u8]) -> Result<()> {
        let shape = self.shape()?;
        let word = self.word(&shape, index)?;
        let new = self.prepare(bytes)?;
        let old = word.load(Ordering::Relaxed);
        commit_store(word, new);
        crash_point!();
        // The same shape, but another version.
        self.publish(shape);
        self.retire(old)
    }

    /// Exchanges two elements.
    pub(super) fn swap(&self, a: u64, b: u64) -> Result<()> {
        let shape = self.shape()?;
        let (first, second) = (self.word(&shape, a)?, self.word(&shape, b)?);
        let words = [second, first].map(|word| word.load(Ordering::Relaxed));
        for (cell, (index, word)) in self.state.swap.iter().zip([a, b].into_iter().zip(words)) {
            cell.slot.store(shape.slot(index) as u64, Ordering::Relaxed);
            cell.word.store(word, Ordering::Relaxed);
        }
        crash_point!();
        commit_store(&self.state.pending, 1);
        crash_point!();
        self.complete_swap(&shape)
    }

    /// Completes the pending swap (L2), if there is one. Idempotent.
    pub(super) fn complete_swap(&self, shape: &Shape) -> Result<()> {
        if self.state.pending.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let words = self.words(shape)?;
        for cell in &self.state.swap {
            let slot = cell.slot.load(Ordering::Relaxed) as usize;
            let word = words
                .get(slot)
                .ok_or_else(|| Error::corrupt("a swap reaches outside its table"))?;
            commit_store(word, cell.word.load(Ordering::Relaxed));
            crash_point!();
        }
        commit_store(&self.state.pending, 0);
        crash_point!();
        self.publish(*shape);
        Ok(())
    }

    /// Whether a swap is to be completed; never while the lock is free.
    pub(super) fn is_swap_pending(&self) -> bool {
        self.state.pending.load(Ordering::Relaxed) != 0
    }

    /// Removes all elements at once.
    pub(super) fn clear(&self) -> Result<()> {
        let shape = self.whole_shape()?;
        if shape.blocks == 0 {
            return Ok(());
        }
        let words = self.range(&shape, 0, shape.len)?;
        self.publish(Shape::default());
        for word in words {
            self.retire(word)?;
        }
        self.slabs().keep(0)?;
        crash_point!();
        self.extents.free(shape.head)
    }

    /// A new table for at least `room` words, which is not published yet.
    pub(super) fn new_table(&self, room: u64) -> Result<Shape> {
        let blocks =
            u32::try_from(room.div_ceil(PER_BLOCK).max(1)).map_err(|_| Error::TooMany {
                what: "number of elements",
                count: room,
                limit: u32::MAX as u64 * PER_BLOCK,
            })?;
        let head = self.extents.allocate(blocks, OWNER, Purpose::Table)?;
        crash_point!();
        Ok(Shape {
            head,
            blocks,
            ..Shape::default()
        })
    }

    /// Publishes `shape`, which has a new table, and frees the table of `old`.
    pub(super) fn replace_table(&self, old: &Shape, shape: Shape) -> Result<()> {
        self.publish(shape);
        if old.blocks != 0 {
            self.extents.free(old.head)?;
            crash_point!();
        }
        Ok(())
    }
}
