//! The shape of a list: where the table lies, and which of its words are elements.
//!
//! ```text
//! words of the table   0 .. gap_at | gap_at .. gap_at + gap | .. len + gap | .. capacity
//!                      elements    | the gap                | elements     | the tail: free
//! ```
//! V1: `gap_at <= len` and `len + gap <= capacity`. V2: there is no gap at the end, only
//! a longer tail. No process reads the words of the gap and the tail.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::heap::BLOCK;
use crate::layout::Shared;

/// Words on a block.
pub(super) const PER_BLOCK: u64 = BLOCK / 8;

/// A shape in shared memory.
///
/// ```text
/// offset  size  field    what
///      0     4  head     the table's first block; no table if `blocks` is 0
///      4     4  blocks   how many it has
///      8     8  len      elements of the list
///     16     8  gap_at   elements before the gap
///     24     8  gap      words of the gap
/// ```
#[repr(C)]
pub(super) struct ShapeCell {
    head: AtomicU32,
    blocks: AtomicU32,
    len: AtomicU64,
    gap_at: AtomicU64,
    gap: AtomicU64,
}

const _: () = assert!(size_of::<ShapeCell>() == 32);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ShapeCell {}

/// A shape that was read and checked (V1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) head: u32,
    pub(super) blocks: u32,
    pub(super) len: u64,
    pub(super) gap_at: u64,
    pub(super) gap: u64,
}

impl ShapeCell {
    #[inline]
    pub(super) fn load(&self) -> Result<Shape> {
        let shape = Shape {
            head: self.head.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            gap_at: self.gap_at.load(Ordering::Relaxed),
            gap: self.gap.load(Ordering::Relaxed),
        };
        let used = shape.len.checked_add(shape.gap);
        if shape.gap_at > shape.len || used.is_none_or(|used| used > shape.capacity()) {
            return Err(Error::corrupt("a list is longer than its table"));
        }
        Ok(shape)
    }

    #[inline]
    pub(super) fn store(&self, shape: Shape) {
        self.head.store(shape.head, Ordering::Relaxed);
        self.blocks.store(shape.blocks, Ordering::Relaxed);
        self.len.store(shape.len, Ordering::Relaxed);
        self.gap_at.store(shape.gap_at, Ordering::Relaxed);
        self.gap.store(shape.gap, Ordering::Relaxed);
    }
}

impl Shape {
    /// Words of the table.
    #[inline]
    pub(super) fn capacity(&self) -> u64 {
        self.blocks as u64 * PER_BLOCK
    }

    /// Free words behind the last element.
    #[inline]
    pub(super) fn tail(&self) -> u64 {
        self.capacity() - self.len - self.gap
    }

    /// The word of element `index`.
    #[inline]
    pub(super) fn slot(&self, index: u64) -> usize {
        let skipped = if index < self.gap_at { 0 } else { self.gap };
        (index + skipped) as usize
    }

    /// The same list, with V2.
    #[inline]
    pub(super) fn normal(mut self) -> Self {
        if self.gap_at == self.len {
            self.gap = 0;
        }
        self
    }

    /// The shape after `from .. to` are replaced by `count` words, which lie behind the last element or
    /// at the front of the gap: see `make_room`.
    #[inline]
    pub(super) fn spliced(mut self, from: u64, to: u64, count: u64) -> Self {
        if from == self.len {
            // An append. By V2 there is no gap at the end.
            self.len += count;
        } else if count > 0 || (from <= self.gap_at && self.gap_at <= to) {
            self.gap_at = from + count;
            self.gap = self.gap + (to - from) - count;
            self.len = self.len + count - (to - from);
        } else {
            // The removed end lies behind the gap, and becomes part of the tail.
            debug_assert!(to == self.len);
            self.len = from;
        }
        self.normal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_before_or_behind_the_gap() {
        let shape = Shape {
            head: 1,
            blocks: 1,
            len: 10,
            gap_at: 4,
            gap: 7,
        };
        assert_eq!([3, 4, 9].map(|index| shape.slot(index)), [3, 11, 16]);
        assert_eq!(shape.tail(), 128 - 17);
    }
}
