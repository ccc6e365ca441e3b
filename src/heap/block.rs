//! Blocks of 1 KiB, and the block map that says what each of them is.
//!
//! A block is smaller than a page of the system because most objects are small: each of the
//! 64 shards of a map needs a table and a slab as soon as it holds one key.
//!
//! ```text
//! what        size           where
//! block map   24 * blocks    begins at a page that the object chooses; whole pages; one entry
//!                            for each block
//! heap        1024 * blocks  behind it: extents; block 0 is never used, so 0 means "none"
//! ```
//!
//! One entry of the block map:
//! ```text
//! offset  size  field   written by            invariant
//!      0     8  word    owner of the arena's  P1: the words at the heads of extents tile
//!                       lock                      blocks 1 .. frontier without gap or overlap
//!                                             P2: the last block of an extent of two blocks or
//!                                                 more is Part of its head; in a slab every
//!                                                 block but the first is
//!      8     4  next    see below             derived
//!     12     4  prev    see below             derived
//!     16     2  live    owner shard           derived: slots of the slab in use
//!     18     2  free    owner shard           derived: 1 + first slot of the free chain
//!     20     2  fresh   owner shard           derived: slots from here on were never used
//!     22     2  unused
//! ```
//! `next` and `prev` link free extents of similar size (under the arena's lock) and slabs
//! that have free slots (under the owner shard's lock): an extent is one or the other.
//!
//! Only the word must survive the death of a process: one store of it allocates an extent, one store
//! frees it. All other fields are derived and can be rebuilt by a walk.
//!
//! # Limits
//! A forged offset may point to a block that has no memory yet; reading it makes the kernel allocate that
//! page without a `commit`.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

use crate::cache;
use crate::error::{Error, Result};
use crate::layout::{Offset, Region, Shared, align_up};

use super::class;

/// Bytes of a block of the heap.
pub(crate) const BLOCK: u64 = 1024;
/// Memory is committed and given back in pages. If the system's pages are larger, the kernel rounds.
pub(crate) const PAGE: u64 = 4096;

/// What an extent is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Equal slots of the given size class.
    Slab(u8),
    /// The slots of a shard's hash table.
    Table,
    /// One entry too large for a slab.
    Large,
}

/// A block's word, decoded.
///
/// ```text
/// bits   0..8   kind: 0 Blank, 1 Free, 2 Used, 3 Part
/// bits   8..16  Used: purpose (size class, 254 Table, 255 Large)
/// bits  16..24  Used: the shard it belongs to
/// bits  32..64  Free, Used: blocks of the extent; Part: its first block
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Never written, or invalid.
    Blank,
    /// The first block of a free extent.
    Free { blocks: u32 },
    /// The first block of an extent in use.
    Used {
        blocks: u32,
        owner: u8,
        purpose: Purpose,
    },
    /// A later block of an extent; only a hint until the head confirms it.
    Part { head: u32 },
}

const TABLE: u8 = 254;
const LARGE: u8 = 255;

impl Word {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Word::Blank => 0,
            Word::Free { blocks } => 1 | (blocks as u64) << 32,
            Word::Used {
                blocks,
                owner,
                purpose,
            } => {
                let purpose = match purpose {
                    Purpose::Slab(class) => class,
                    Purpose::Table => TABLE,
                    Purpose::Large => LARGE,
                };
                2 | (purpose as u64) << 8 | (owner as u64) << 16 | (blocks as u64) << 32
            }
            Word::Part { head } => 3 | (head as u64) << 32,
        }
    }

    #[inline]
    pub(crate) fn decode(word: u64) -> Self {
        let high = (word >> 32) as u32;
        match word as u8 {
            1 => Word::Free { blocks: high },
            2 => Word::Used {
                blocks: high,
                owner: (word >> 16) as u8,
                purpose: match (word >> 8) as u8 {
                    TABLE => Purpose::Table,
                    LARGE => Purpose::Large,
                    class => Purpose::Slab(class),
                },
            },
            3 => Word::Part { head: high },
            _ => Word::Blank,
        }
    }
}

/// One entry of the block map; the top of this file shows the layout.
#[repr(C)]
pub(crate) struct BlockEntry {
    word: AtomicU64,
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    pub(crate) live: AtomicU16,
    pub(crate) free: AtomicU16,
    pub(crate) fresh: AtomicU16,
    _unused: AtomicU16,
}

const _: () = assert!(size_of::<BlockEntry>() == 24);
const ENTRY: u64 = size_of::<BlockEntry>() as u64;

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for BlockEntry {}

impl BlockEntry {
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word::decode(self.word.load(Ordering::Acquire))
    }

    /// Changes what an extent is, with one store.
    pub(crate) fn set(&self, word: Word) {
        commit_store(&self.word, word.encode());
    }
}

/// Stores `value` in program order. Wherever a process is killed: if others see this store, they see all stores
/// before it; if not, they see none after it.
///
/// Only the compiler could reorder them: stores that a processor has retired before a kill reach
/// memory, in order.
#[inline]
pub(crate) fn commit_store(word: &AtomicU64, value: u64) {
    compiler_fence(Ordering::SeqCst);
    word.store(value, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
}

/// Commits memory to page-aligned ranges of the segment, and gives it back.
pub(crate) trait Backing {
    /// Commits memory to these bytes. `new` is how much memory the caller is about to need, here and in the
    /// next calls: refused at once if there cannot be as much. After another `NoSpace` a part may be committed,
    /// which the caller gives back.
    fn commit(&self, offset: u64, len: u64, new: u64) -> Result<()>;
    /// Gives the memory back; the bytes are zeros when they are committed again.
    fn decommit(&self, offset: u64, len: u64) -> Result<()>;

    /// Bytes of memory that can still be committed.
    fn available(&self) -> u64;
}

/// Where the block map and the blocks lie in a region. Process-local, so trusted.
#[derive(Clone, Copy)]
pub(crate) struct Heap {
    region: Region,
    block_map: u64,
    entries: &'static [BlockEntry],
    base: u64,
    blocks: u32,
    /// Where the first slot may begin, and how many bytes behind it the last one may; see [`Heap::slot`].
    first_slot: u64,
    slots: u64,
}

/// An extent in use, found by one of its blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) head: u32,
    pub(crate) blocks: u32,
    pub(crate) owner: u8,
    pub(crate) purpose: Purpose,
}

impl Heap {
    /// Bytes taken by the block map and `blocks` blocks.
    pub(crate) fn size(blocks: u32) -> u64 {
        block_map_size(blocks) + blocks as u64 * BLOCK
    }

    /// The heap of `blocks` blocks whose block map begins at `offset`, a multiple of 4096.
    pub(crate) fn new(region: Region, offset: u64, blocks: u32) -> Result<Self> {
        let end = offset.checked_add(Self::size(blocks));
        let whole = (blocks as u64 * BLOCK).is_multiple_of(PAGE);
        if !whole || !offset.is_multiple_of(PAGE) || end.is_none_or(|end| end > region.len() as u64)
        {
            return Err(Error::corrupt("the heap does not fit its segment"));
        }
        let entries = region.span(offset, blocks as usize * size_of::<BlockEntry>())?;
        // SAFETY: `span` checked that this many entries lie in the region; `offset` is page-aligned as the
        // region is; `BlockEntry` is `Shared`.
        let entries =
            unsafe { NonNull::slice_from_raw_parts(entries.cast(), blocks as usize).as_ref() };
        let base = offset + block_map_size(blocks);
        let first_slot = base + BLOCK;
        let last = (region.len() as u64).saturating_sub(class::LARGEST);
        let end = (base + blocks as u64 * BLOCK).min(last);
        Ok(Self {
            region,
            block_map: offset,
            entries,
            base,
            blocks,
            first_slot,
            slots: end.saturating_sub(first_slot),
        })
    }

    /// Blocks of a heap that holds at least `bytes` bytes, in whole pages.
    pub(crate) fn blocks_for(bytes: u64) -> u64 {
        let pages = bytes.div_ceil(PAGE) + 1;
        pages * (PAGE / BLOCK)
    }

    /// Bytes that the heap can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.blocks as u64 * BLOCK - PAGE
    }

    /// Blocks of the heap, the unused block 0 included.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The entry of `block` in the block map.
    #[inline]
    pub(crate) fn block(&self, block: u32) -> Result<&BlockEntry> {
        match self.entries.get(block as usize) {
            Some(entry) if block != 0 => Ok(entry),
            _ => Err(Error::corrupt("a block lies outside the heap")),
        }
    }

    /// The extent in use that holds the byte at `offset`.
    #[inline]
    pub(crate) fn extent_at(&self, offset: u64) -> Result<Extent> {
        let block = self.block_of(offset)?;
        let head = match self.block(block)?.word() {
            Word::Part { head } => head,
            _ => block,
        };
        match self.block(head)?.word() {
            // A large extent marks only its last block as Part, so `block` may lie before it.
            Word::Used {
                blocks,
                owner,
                purpose,
            } if head <= block && block - head < blocks => Ok(Extent {
                head,
                blocks,
                owner,
                purpose,
            }),
            _ => Err(Error::corrupt("an entry lies in no extent")),
        }
    }

    #[inline]
    fn block_of(&self, offset: u64) -> Result<u32> {
        match offset.checked_sub(self.base) {
            Some(at) if at / BLOCK < self.blocks as u64 => Ok((at / BLOCK) as u32),
            _ => Err(Error::corrupt("an offset lies outside the heap")),
        }
    }

    /// A block's first byte.
    #[inline]
    pub(crate) fn at(&self, block: u32) -> Result<NonNull<u8>> {
        if block == 0 || block >= self.blocks {
            return Err(Error::corrupt("a block lies outside the heap"));
        }
        // SAFETY: within the heap, which lies in the region (see `new`).
        Ok(unsafe { self.region.base().add(self.offset_of(block) as usize) })
    }

    /// The offset of a block's first byte.
    #[inline]
    pub(crate) fn offset_of(&self, block: u32) -> u64 {
        self.base + block as u64 * BLOCK
    }

    /// The `T` at `offset`, if it lies in the heap.
    #[inline]
    pub(crate) fn resolve<T: Shared>(&self, offset: u64) -> Result<&T> {
        if offset < self.base + BLOCK {
            return Err(Error::corrupt("an offset lies before the heap"));
        }
        self.region.resolve(Offset::new(offset))
    }

    /// The slot at `offset`, aligned to 16 bytes. As many bytes as the largest slot has lie in the region
    /// from there on, so contents of at most that length need no other check.
    ///
    /// The last [`class::LARGEST`] bytes of a region have no slots, so the region has to continue behind the
    /// heap.
    #[inline]
    pub(crate) fn slot(&self, offset: u64) -> Option<NonNull<u8>> {
        let is_one = offset.wrapping_sub(self.first_slot) < self.slots && offset.is_multiple_of(16);
        // SAFETY: less than the region's length, see `new`.
        is_one.then(|| unsafe { self.region.base().add(offset as usize) })
    }

    /// `len` bytes at `offset`, if all of them lie in the heap.
    #[inline]
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> Result<NonNull<u8>> {
        if offset < self.base + BLOCK {
            return Err(Error::corrupt("an offset lies before the heap"));
        }
        self.region.span(offset, len)
    }

    /// The extent of `blocks` blocks from `head` as 64-bit words.
    #[inline]
    pub(crate) fn words(&self, head: u32, blocks: u32) -> Option<&[AtomicU64]> {
        let is_inside = head != 0 && head as u64 + blocks as u64 <= self.blocks as u64;
        let len = blocks as usize * BLOCK as usize;
        // SAFETY: the heap lies in the region (see `new`), page-aligned as that is; atomics
        // accept any bits and may change under us.
        is_inside.then(|| unsafe {
            let at = self.region.base().add(self.offset_of(head) as usize);
            std::slice::from_raw_parts(at.cast().as_ptr(), len / 8)
        })
    }

    /// Prefetches word `index` of a table at block `head`. Both may be invalid.
    #[inline]
    pub(crate) fn prefetch_word(&self, head: u32, index: usize) {
        let at = self.region.base().as_ptr();
        let at = at.wrapping_add(self.offset_of(head) as usize);
        cache::fetch_to_read(at.wrapping_add(index.wrapping_mul(8)));
    }

    /// The pages of the block map that the blocks below `new` need and those below `old` do not: `(offset,
    /// len)`, which may be empty.
    pub(crate) fn block_map_span(&self, old: u32, new: u32) -> (u64, u64) {
        let from = block_map_size(old);
        let to = block_map_size(new);
        (self.block_map + from, to.saturating_sub(from))
    }
}

/// Bytes of the block map for `blocks` blocks, in whole pages. Block 0 alone, whose entry is unused, needs
/// none: so the first extent commits the first page like every other page.
fn block_map_size(blocks: u32) -> u64 {
    if blocks <= 1 {
        return 0;
    }
    align_up(blocks as u64 * ENTRY, PAGE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decode_to_what_was_encoded() {
        let used = |purpose| Word::Used {
            blocks: u32::MAX,
            owner: 63,
            purpose,
        };
        for word in [
            Word::Blank,
            Word::Free { blocks: 7 },
            Word::Part { head: 0xdead_beef },
            used(Purpose::Slab(71)),
            used(Purpose::Table),
            used(Purpose::Large),
        ] {
            assert_eq!(Word::decode(word.encode()), word);
        }
    }
}
