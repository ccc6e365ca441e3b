//! Elements, and their words in the table.
//!
//! ```text
//! word    bits  0..4   0: bits 4..64 are the place, at that offset in the segment
//!                      1 to 8: this number minus one is the length of the element in bits 8..64
//! place   offset  size  field   invariant
//!              0     8  len     E1: written completely before a table refers to it, and never
//!              8   len  bytes       changed after that
//! ```
//! Places are multiples of 16, as are the slots of slabs and the blocks of extents.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::copy::{Room, copy, fill};
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap, LARGEST_SLOT, Purpose};
use crate::sync::crash::crash_point;

const HEADER: u64 = 8;
/// The longest element that is stored in its word.
const INLINE: usize = 7;
const KIND: u64 = 0xf;

/// An element that was read and checked, valid while the list's lock is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element<'a> {
    /// In the word itself.
    Inline([u8; INLINE], usize),
    /// In the heap.
    Placed(&'a [u8]),
}

/// Bytes of the place of an element of `len` bytes; `None` if it is stored in its word.
#[inline]
pub(super) fn place_size(len: usize) -> Option<u64> {
    (len > INLINE).then_some(HEADER + len as u64)
}

/// The offset of the place that `word` refers to; `None` if the element is stored in the word.
#[inline]
pub(super) fn place_of(word: u64) -> Option<u64> {
    (word & KIND == 0).then_some(word)
}

/// The word of an element of at most [`INLINE`] bytes.
#[inline]
pub(super) fn inline_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[0] = 1 + bytes.len() as u8;
    word[1..1 + bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Writes an element to a free place of [`place_size`] bytes.
pub(super) fn write(heap: &Heap, offset: u64, bytes: &[u8]) -> Result<()> {
    let at = heap.bytes(offset, HEADER as usize + bytes.len())?;
    let len: &AtomicU64 = heap.resolve(offset)?;
    len.store(bytes.len() as u64, Ordering::Relaxed);
    crash_point!();
    // SAFETY: the place is large enough, checked above, and no table refers to it yet (E1);
    // the caller's slice is its own memory, not this heap's.
    unsafe {
        let from = NonNull::from(bytes).cast();
        copy(from, at.add(HEADER as usize), bytes.len());
    }
    crash_point!();
    Ok(())
}

impl<'a> Element<'a> {
    /// The element of `word`, if it lies wholly inside the heap.
    #[inline]
    pub(super) fn read(heap: &'a Heap, word: u64) -> Result<Self> {
        let Some(offset) = place_of(word) else {
            let bytes = word.to_le_bytes();
            let len = (word & KIND) as usize - 1;
            if len > INLINE {
                return Err(Error::corrupt("a word of a list is no element"));
            }
            let mut inline = [0; INLINE];
            inline.copy_from_slice(&bytes[1..]);
            return Ok(Self::Inline(inline, len));
        };
        let len: &AtomicU64 = heap.resolve(offset)?;
        let len = len.load(Ordering::Relaxed);
        if len > LARGEST_SLOT - HEADER {
            check_large(heap, offset, len)?;
        }
        let at = heap.bytes(offset, (HEADER + len) as usize)?;
        // SAFETY: the element lies in the mapping, checked above; the caller holds the lock, under which no
        // process changes an element (E1).
        Ok(Self::Placed(unsafe {
            std::slice::from_raw_parts(at.add(HEADER as usize).as_ptr(), len as usize)
        }))
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(bytes, len) => &bytes[..*len],
            Self::Placed(bytes) => bytes,
        }
    }

    /// Copies the element to the front of `buf` and returns its length.
    #[inline]
    pub(super) fn copy_to(&self, buf: &mut Room) -> Result<usize> {
        let (bytes, capacity) = (self.bytes(), buf.len());
        let needed = bytes.len();
        if needed > capacity {
            return Err(Error::BufferTooSmall { needed, capacity });
        }
        fill(buf, bytes);
        Ok(needed)
    }

    /// A copy of the element.
    pub(super) fn to_vec(self) -> Vec<u8> {
        self.bytes().to_vec()
    }
}

/// A length that is too large for a slab must agree with the extent, so that a forged length cannot
/// make this process read (and the kernel allocate) gigabytes.
#[cold]
fn check_large(heap: &Heap, offset: u64, len: u64) -> Result<()> {
    let extent = heap.extent_at(offset)?;
    let fits = extent.purpose == Purpose::Large
        && heap.offset_of(extent.head) == offset
        && len <= extent.blocks as u64 * BLOCK - HEADER;
    if !fits {
        return Err(Error::corrupt("an element is larger than its extent"));
    }
    Ok(())
}
