//! A list's contents, and the words that say what they are.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0     8  turn     owner of the lock   L1: views[turn & 1] is the list; grows with
//!                                                every change
//!      8     8  note     owner of the lock   L2: 1 while the swap below is to be carried out
//!     16    32  swap     owner of the lock   two words of the table: which, and with what
//!     64    64  views    owner of the lock   see view.rs
//!    128   304  slabs    owner of the lock   derived
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::element::{self, Element};
use super::view::{PER_BLOCK, View, ViewCell};
use crate::error::{Error, Result};
use crate::heap::{Extents, Heap, Purpose, SlabState, Slabs, Word, commit_store};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// A list has one owner of all its extents.
pub(super) const OWNER: u8 = 0;

/// The contents in shared memory; drawn at the top of this file.
#[repr(C, align(64))]
pub(super) struct ListState {
    turn: AtomicU64,
    note: AtomicU64,
    swap: [SwapCell; 2],
    _unused: [AtomicU64; 2],
    views: [ViewCell; 2],
    slabs: SlabState,
}

#[repr(C)]
struct SwapCell {
    slot: AtomicU64,
    word: AtomicU64,
}

const _: () = assert!(std::mem::offset_of!(ListState, views) == 64);
const _: () = assert!(std::mem::offset_of!(ListState, slabs) == 128);
const _: () = assert!(size_of::<ListState>() == 448);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ListState {}

/// The contents, seen by the holder of the lock.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) state: &'a ListState,
    pub(super) heap: &'a Heap,
    pub(super) extents: &'a dyn Extents,
}

impl<'a> Store<'a> {
    /// Differs whenever the contents do.
    pub(super) fn version(&self) -> u64 {
        self.state.turn.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn view(&self) -> Result<View> {
        let turn = self.state.turn.load(Ordering::Acquire);
        self.state.views[(turn & 1) as usize].load()
    }

    /// The view, for walks over all of it: the table's size must be borne out by its extent,
    /// or a wild word could make us walk, and the kernel allocate, the whole heap.
    pub(super) fn whole_view(&self) -> Result<View> {
        let view = self.view()?;
        if view.blocks != 0 {
            let extent = self.heap.extent_at(self.heap.offset_of(view.head))?;
            let same = extent.head == view.head && extent.blocks == view.blocks;
            let last = self
                .heap
                .block(extent.head.saturating_add(extent.blocks - 1))?
                .word();
            let ends = extent.blocks == 1 || last == (Word::Part { head: view.head });
            if !same || !ends || extent.purpose != Purpose::Table || extent.owner != OWNER {
                return Err(Error::corrupt("a list's table is not its own"));
            }
        }
        Ok(view)
    }

    /// Makes `view` what the list is: this store is the change.
    #[inline]
    pub(super) fn publish(&self, view: View) {
        let turn = self.state.turn.load(Ordering::Relaxed).wrapping_add(1);
        self.state.views[(turn & 1) as usize].store(view);
        crash_point!();
        commit_store(&self.state.turn, turn);
        crash_point!();
    }

    /// The words of the view's table.
    #[inline]
    pub(super) fn words(&self, view: &View) -> Result<&'a [AtomicU64]> {
        if view.blocks == 0 {
            return Ok(&[]);
        }
        self.heap
            .words(view.head, view.blocks)
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

    /// The word of element `index`, which is one of the view's.
    #[inline]
    pub(super) fn word(&self, view: &View, index: u64) -> Result<&'a AtomicU64> {
        let word = self.words(view)?.get(view.slot(index));
        word.ok_or_else(|| Error::corrupt("an element lies outside its table"))
    }

    #[inline]
    pub(super) fn element(&self, view: &View, index: u64) -> Result<Element<'a>> {
        let word = self.word(view, index)?.load(Ordering::Relaxed);
        Element::read(self.heap, word)
    }

    /// The words of the elements `from .. to`.
    pub(super) fn range(&self, view: &View, from: u64, to: u64) -> Result<Vec<u64>> {
        let words = (from..to).map(|index| {
            let word = self.word(view, index)?;
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
        let view = self.view()?;
        let word = self.word(&view, index)?;
        let new = self.prepare(bytes)?;
        let old = word.load(Ordering::Relaxed);
        commit_store(word, new);
        crash_point!();
        // The same list, but another version.
        self.publish(view);
        self.retire(old)
    }

    /// Exchanges two elements.
    pub(super) fn swap(&self, a: u64, b: u64) -> Result<()> {
        let view = self.view()?;
        let (first, second) = (self.word(&view, a)?, self.word(&view, b)?);
        let words = [second, first].map(|word| word.load(Ordering::Relaxed));
        for (cell, (index, word)) in self.state.swap.iter().zip([a, b].into_iter().zip(words)) {
            cell.slot.store(view.slot(index) as u64, Ordering::Relaxed);
            cell.word.store(word, Ordering::Relaxed);
        }
        crash_point!();
        commit_store(&self.state.note, 1);
        crash_point!();
        self.carry_out(&view)
    }

    /// Carries out the swap that was noted (L2), if there is one: once or again, it is the same.
    pub(super) fn carry_out(&self, view: &View) -> Result<()> {
        if self.state.note.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let words = self.words(view)?;
        for cell in &self.state.swap {
            let slot = cell.slot.load(Ordering::Relaxed) as usize;
            let word = words
                .get(slot)
                .ok_or_else(|| Error::corrupt("a swap reaches outside its table"))?;
            commit_store(word, cell.word.load(Ordering::Relaxed));
            crash_point!();
        }
        commit_store(&self.state.note, 0);
        crash_point!();
        self.publish(*view);
        Ok(())
    }

    /// Whether a swap waits to be carried out; never while the lock is free.
    pub(super) fn has_note(&self) -> bool {
        self.state.note.load(Ordering::Relaxed) != 0
    }

    /// Removes everything, at once.
    pub(super) fn clear(&self) -> Result<()> {
        let view = self.whole_view()?;
        if view.blocks == 0 {
            return Ok(());
        }
        let words = self.range(&view, 0, view.len)?;
        self.publish(View::default());
        for word in words {
            self.retire(word)?;
        }
        self.slabs().keep(0)?;
        crash_point!();
        self.extents.free(view.head)
    }

    /// A table of its own for at least `room` words, which nobody looks at yet.
    pub(super) fn new_table(&self, room: u64) -> Result<View> {
        let blocks =
            u32::try_from(room.div_ceil(PER_BLOCK).max(1)).map_err(|_| Error::TooMany {
                what: "number of elements",
                count: room,
                limit: u32::MAX as u64 * PER_BLOCK,
            })?;
        let head = self.extents.allocate(blocks, OWNER, Purpose::Table)?;
        crash_point!();
        Ok(View {
            head,
            blocks,
            ..View::default()
        })
    }

    /// Publishes `view` and frees the table of `old`, which is another one.
    pub(super) fn replace_table(&self, old: &View, view: View) -> Result<()> {
        self.publish(view);
        if old.blocks != 0 {
            self.extents.free(old.head)?;
            crash_point!();
        }
        Ok(())
    }
}
