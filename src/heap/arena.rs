//! The arena: allocates and frees extents of whole blocks.
//!
//! ```text
//! offset  size  field     invariant
//!      0     8  frontier  A1: extents tile the blocks 1 .. frontier (P1); the block map has
//!                             memory for these, and beyond them only for the rest of a page.
//!                             In an empty arena not even its first page has memory
//!      8     8  used      derived: blocks of extents in use
//!     16    16  full      derived: bit b is set if and only if bins[b] is not empty
//!     32   512  bins      derived: heads of the lists of free extents, by size
//! ```
//! Allocating, freeing and moving the frontier each commit by one store. After a kill, [`Arena::rebuild`]
//! restores the rest by a walk over the block map (`walk.rs`).
//!
//! A3: no block of a free extent of [`PUNCH`] blocks or more holds memory, unless the object was
//! created with that memory, a process died meanwhile, or a process was reading without a lock.
//!
//! An arena that *keeps* memory, for extents that are allocated and freed with every message, gives memory
//! back only on request. A4: all its blocks before the frontier hold memory, so that allocating one costs no
//! system call. [`Arena::trim`] gives back the free blocks at the frontier.
//!
//! The caller owns the arena's lock, except in single-threaded tests.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::block::{BLOCK, Backing, Heap, PAGE, Purpose, Word, commit_store};
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// Free extents of this many blocks (64 KiB) give their memory back.
pub(crate) const PUNCH: u32 = 64;
/// How many extents of nearly the right size are tried before a larger one is split.
pub(crate) const TRIES: usize = 16;
pub(crate) const BINS: usize = 128;

/// The arena's state in shared memory; the top of this file shows the layout.
#[repr(C)]
pub(crate) struct ArenaState {
    frontier: AtomicU64,
    pub(crate) used: AtomicU64,
    pub(crate) full: [AtomicU64; 2],
    pub(crate) bins: [AtomicU32; BINS],
}

const _: () = assert!(size_of::<ArenaState>() == 544);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ArenaState {}

impl ArenaState {
    /// Whether no extent was ever allocated, or all memory was given back.
    pub(crate) fn is_empty(&self) -> bool {
        self.frontier.load(Ordering::Relaxed) <= 1
    }

    /// Whether the block map has memory for this block, which need not be the head of an extent.
    pub(crate) fn covers(&self, block: u32) -> bool {
        block != 0 && u64::from(block) < self.frontier.load(Ordering::Relaxed)
    }
}

/// The arena, as the owner of its lock uses it.
pub(crate) struct Arena<'a> {
    pub(crate) state: &'a ArenaState,
    pub(crate) heap: &'a Heap,
    pub(crate) backing: &'a dyn Backing,
    /// Whether it keeps the memory of what is freed (A4).
    pub(crate) keeps: bool,
}

/// The bin in which a free extent of `blocks` blocks is kept: exact below 8, then four to
/// each doubling.
pub(crate) fn bin_of(blocks: u32) -> usize {
    if blocks < 8 {
        return blocks as usize;
    }
    let doubling = blocks.ilog2();
    8 + (doubling as usize - 3) * 4 + (blocks >> (doubling - 2) & 3) as usize
}

/// The first bin in which every extent has at least `blocks` blocks.
fn bin_for(blocks: u32) -> usize {
    let bin = bin_of(blocks);
    let exact = blocks < 8 || blocks.trailing_zeros() >= blocks.ilog2() - 2;
    if exact { bin } else { bin + 1 }
}

impl Arena<'_> {
    /// The first block that was never allocated.
    pub(crate) fn frontier(&self) -> Result<u32> {
        let frontier = self.state.frontier.load(Ordering::Relaxed).max(1);
        if frontier > self.heap.blocks() as u64 {
            return Err(Error::corrupt("the arena's frontier is outside the heap"));
        }
        Ok(frontier as u32)
    }

    /// Blocks in use, and blocks the heap has.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let used = self.state.used.load(Ordering::Relaxed);
        (used, self.heap.blocks() as u64 - 1)
    }

    /// An extent of `blocks` committed blocks, whose contents are arbitrary.
    ///
    /// # Errors
    /// `NoSpace` if the heap or the file system is full; then nothing has changed.
    pub(crate) fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        let head = self.allocate_with(blocks, owner, purpose, |_| Ok(()))?;
        head.ok_or_else(|| self.no_space(blocks))
    }

    /// The same, `None` if the heap is full. `prepare` is called with the extent's first block
    /// before the extent is in use: an extent in use always has what `prepare` wrote.
    pub(crate) fn allocate_with(
        &self,
        blocks: u32,
        owner: u8,
        purpose: Purpose,
        prepare: impl FnOnce(u32) -> Result<()>,
    ) -> Result<Option<u32>> {
        debug_assert!(blocks > 0);
        let found = match self.find(blocks, TRIES)? {
            Some(head) => Some((head, self.keeps)),
            None => match self.extend(blocks)? {
                Some(extended) => Some(extended),
                None => self
                    .find(blocks, usize::MAX)?
                    .map(|head| (head, self.keeps)),
            },
        };
        let Some((head, has_memory)) = found else {
            return Ok(None);
        };
        self.take((head, blocks), has_memory, owner, purpose, prepare)?;
        Ok(Some(head))
    }

    /// Frees the extent that begins at `head`.
    pub(crate) fn free(&self, head: u32) -> Result<()> {
        let frontier = self.frontier()?;
        let word = match head < frontier {
            true => self.heap.block(head)?.word(),
            false => Word::Blank,
        };
        let Word::Used { blocks, .. } = word else {
            return Err(Error::corrupt("an extent is freed that is not in use"));
        };
        let end = self.checked_end(head, blocks, frontier)?;
        self.heap.block(head)?.set(Word::Free { blocks });
        crash_point!();
        let used = self.state.used.load(Ordering::Relaxed);
        self.state
            .used
            .store(used.saturating_sub(blocks as u64), Ordering::Relaxed);

        // The memory to give back includes that of neighbours which were too small to give theirs back alone.
        let (mut from, mut to) = (head, end);
        let (mut first, mut total) = (head, blocks);
        if end < frontier
            && let Word::Free { blocks: more } = self.heap.block(end)?.word()
        {
            let right_end = self.checked_end(end, more, frontier)?;
            self.unlink(end, more)?;
            total += more;
            self.heap.block(first)?.set(Word::Free { blocks: total });
            crash_point!();
            if more < PUNCH {
                to = right_end;
            }
        }
        if let Some((left, more)) = self.free_before(head)? {
            self.unlink(left, more)?;
            (first, total) = (left, total + more);
            self.heap.block(first)?.set(Word::Free { blocks: total });
            crash_point!();
            if more < PUNCH {
                from = left;
            }
        }
        self.mark_last(first, total)?;
        crash_point!();
        if total < PUNCH || self.keeps {
            return self.link(first, total);
        }
        let free = (first, first + total);
        self.decommit(self.free_pages(from, to, free, frontier))?;
        crash_point!();
        if first + total == frontier {
            self.lower_frontier(frontier, first)
        } else {
            self.link(first, total)
        }
    }

    /// Makes `blocks` blocks one free extent with committed memory. Only before the segment is published.
    pub(crate) fn reserve(&self, blocks: u32) -> Result<()> {
        match blocks {
            0 => Ok(()),
            _ => self.extend(blocks).map(drop),
        }
    }

    /// Finds a free extent of at least `blocks` blocks; tries at most `tries` that may be too small.
    fn find(&self, blocks: u32, tries: usize) -> Result<Option<u32>> {
        let (own, safe) = (bin_of(blocks), bin_for(blocks));
        if own != safe {
            let mut at = self.state.bins[own].load(Ordering::Relaxed);
            // Each free extent has a block of its own.
            let all = self.frontier()? as usize;
            for _ in 0..tries.min(all) {
                if at == 0 {
                    break;
                }
                let entry = self.heap.block(at)?;
                match entry.word() {
                    Word::Free { blocks: has } if has >= blocks => return Ok(Some(at)),
                    Word::Free { .. } => at = entry.next.load(Ordering::Relaxed),
                    _ => return Err(Error::corrupt("a free list holds a block in use")),
                }
            }
            if at != 0 && tries >= all {
                return Err(Error::corrupt("a list of free extents has a cycle"));
            }
        }
        for (index, full) in self.state.full.iter().enumerate() {
            let from = (safe.max(index * 64) - index * 64).min(64) as u32;
            let bits = full.load(Ordering::Relaxed) & u64::MAX.checked_shl(from).unwrap_or(0);
            if bits != 0 {
                let bin = index * 64 + bits.trailing_zeros() as usize;
                let head = self.state.bins[bin].load(Ordering::Relaxed);
                return match self.heap.block(head)?.word() {
                    Word::Free { blocks: has } if has >= blocks => Ok(Some(head)),
                    _ => Err(Error::corrupt("a free list holds a block in use")),
                };
            }
        }
        Ok(None)
    }

    /// Moves the frontier so that a free extent of `blocks` blocks lies before it, and returns its first block
    /// and whether all these blocks hold memory; `None` if the heap is full. Nothing else commits memory for
    /// the block map.
    ///
    /// Memory is committed before anything changes, and given back if there is not enough. A kill in between
    /// leaves it beyond the frontier, where [`rebuild`](Self::rebuild) gives it back.
    fn extend(&self, blocks: u32) -> Result<Option<(u32, bool)>> {
        let frontier = self.frontier()?;
        let last = self.free_before(frontier)?;
        let (head, has) = last.unwrap_or((frontier, 0));
        let more = blocks.saturating_sub(has);
        if more == 0 {
            return Ok(Some((head, self.keeps)));
        }
        let Some(end) = frontier
            .checked_add(more)
            .filter(|end| *end <= self.heap.blocks())
        else {
            return Ok(None);
        };
        let (offset, len) = self.heap.block_map_span(frontier, end);
        let new = u64::from(more) * BLOCK;
        // In an arena that keeps memory, the free blocks before the frontier hold theirs (A4).
        let first = if self.keeps { frontier } else { head };
        let map = match len {
            0 => Ok(()),
            _ => self.backing.commit(offset, len, len + new),
        };
        map.and_then(|()| self.commit_free((first, end), (first, end), end, new))
            .map_err(|err| {
                let _ = self.decommit((offset, offset + len));
                err.with_available(|| self.backing.available())
            })?;
        crash_point!();
        self.heap.block(frontier)?.set(Word::Free { blocks: more });
        self.mark_last(frontier, more)?;
        crash_point!();
        commit_store(&self.state.frontier, end as u64);
        crash_point!();
        if last.is_some() {
            self.unlink(head, has)?;
            self.heap.block(head)?.set(Word::Free { blocks });
            crash_point!();
            self.mark_last(head, blocks)?;
        }
        self.link(head, blocks)?;
        Ok(Some((head, true)))
    }

    /// Turns the first `blocks` blocks of the free extent at `head` into one in use, after it has committed their
    /// memory unless they have it.
    ///
    /// How much of that is new is not known: the object may have been created with memory for this extent. So
    /// unlike [`extend`](Self::extend), it cannot refuse before it commits.
    fn take(
        &self,
        (head, blocks): (u32, u32),
        has_memory: bool,
        owner: u8,
        purpose: Purpose,
        prepare: impl FnOnce(u32) -> Result<()>,
    ) -> Result<()> {
        let Word::Free { blocks: has } = self.heap.block(head)?.word() else {
            return Err(Error::corrupt("a free list holds a block in use"));
        };
        let frontier = self.frontier()?;
        let end = self.checked_end(head, has, frontier)?;
        let Some(left) = has.checked_sub(blocks) else {
            return Err(Error::corrupt("a free extent is shorter than its list"));
        };
        if !has_memory {
            self.commit_free((head, head + blocks), (head, end), frontier, 0)?;
        }
        crash_point!();
        prepare(head)?;
        self.unlink(head, has)?;
        crash_point!();
        if left > 0 {
            let rest = head + blocks;
            self.heap.block(rest)?.set(Word::Free { blocks: left });
            self.mark_last(rest, left)?;
            crash_point!();
        }
        self.mark_parts(head, blocks, purpose)?;
        crash_point!();
        self.heap.block(head)?.set(Word::Used {
            blocks,
            owner,
            purpose,
        });
        crash_point!();
        if left > 0 {
            self.link(head + blocks, left)?;
        }
        let used = self.state.used.load(Ordering::Relaxed);
        self.state
            .used
            .store(used.saturating_add(blocks as u64), Ordering::Relaxed);
        Ok(())
    }

    /// Gives back the memory of the free extent before the frontier, if there is one.
    pub(crate) fn trim(&self) -> Result<()> {
        let frontier = self.frontier()?;
        let Some((first, blocks)) = self.free_before(frontier)? else {
            return Ok(());
        };
        self.unlink(first, blocks)?;
        crash_point!();
        let free = (first, frontier);
        self.lower_frontier(frontier, first)?;
        crash_point!();
        self.decommit(self.free_pages(first, frontier, free, frontier))
    }

    /// Moves the frontier back over the free blocks `first .. frontier`, which are in no list.
    fn lower_frontier(&self, frontier: u32, first: u32) -> Result<()> {
        commit_store(&self.state.frontier, first as u64);
        crash_point!();
        let (offset, len) = self.heap.block_map_span(first, frontier);
        self.decommit((offset, offset + len))
    }

    /// Commits the pages of a part of the free blocks `free`, of which `new` bytes have no memory as far as is
    /// known. If there is not enough for all of it, what was committed is given back.
    fn commit_free(
        &self,
        part: (u32, u32),
        free: (u32, u32),
        frontier: u32,
        new: u64,
    ) -> Result<()> {
        let from = self.heap.offset_of(part.0) & !(PAGE - 1);
        let to = self.heap.offset_of(part.1).next_multiple_of(PAGE);
        self.backing.commit(from, to - from, new).map_err(|err| {
            let _ = self.decommit(self.free_pages(part.0, part.1, free, frontier));
            err.with_available(|| self.backing.available())
        })
    }

    /// The bytes of those pages of the blocks `from .. to` that lie wholly within the free blocks `first ..
    /// end`. Nothing is in use beyond the frontier, nor in block 0.
    pub(crate) fn free_pages(
        &self,
        from: u32,
        to: u32,
        (first, end): (u32, u32),
        frontier: u32,
    ) -> (u64, u64) {
        let offset = |block| self.heap.offset_of(block);
        let limit = if end == frontier {
            offset(end).next_multiple_of(PAGE)
        } else {
            offset(end) & !(PAGE - 1)
        };
        let first = if first == 1 { 0 } else { first };
        let from = (offset(from) & !(PAGE - 1)).max(offset(first).next_multiple_of(PAGE));
        (from, offset(to).next_multiple_of(PAGE).min(limit))
    }

    /// Gives back the memory of the bytes `from .. to`, which are whole pages or none.
    pub(crate) fn decommit(&self, (from, to): (u64, u64)) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        self.backing.decommit(from, to - from)
    }

    /// The free extent that ends where `block` begins.
    pub(crate) fn free_before(&self, block: u32) -> Result<Option<(u32, u32)>> {
        if block <= 1 {
            return Ok(None);
        }
        let head = match self.heap.block(block - 1)?.word() {
            Word::Part { head } => head,
            _ => block - 1,
        };
        match self.heap.block(head)?.word() {
            Word::Free { blocks } if head as u64 + blocks as u64 == block as u64 => {
                Ok(Some((head, blocks)))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn mark_last(&self, head: u32, blocks: u32) -> Result<()> {
        if blocks > 1 {
            self.heap.block(head + blocks - 1)?.set(Word::Part { head });
        }
        Ok(())
    }

    /// Establishes P2 for an extent in use.
    pub(crate) fn mark_parts(&self, head: u32, blocks: u32, purpose: Purpose) -> Result<()> {
        if !matches!(purpose, Purpose::Slab(_)) {
            return self.mark_last(head, blocks);
        }
        for block in head + 1..head + blocks {
            self.heap.block(block)?.set(Word::Part { head });
        }
        Ok(())
    }

    pub(crate) fn checked_end(&self, head: u32, blocks: u32, frontier: u32) -> Result<u32> {
        match head.checked_add(blocks) {
            Some(end) if blocks > 0 && end <= frontier => Ok(end),
            _ => Err(Error::corrupt("an extent reaches beyond the frontier")),
        }
    }

    pub(crate) fn link(&self, head: u32, blocks: u32) -> Result<()> {
        let bin = bin_of(blocks);
        let next = self.state.bins[bin].load(Ordering::Relaxed);
        let entry = self.heap.block(head)?;
        entry.next.store(next, Ordering::Relaxed);
        entry.prev.store(0, Ordering::Relaxed);
        crash_point!();
        if next != 0 {
            self.heap.block(next)?.prev.store(head, Ordering::Relaxed);
        }
        self.state.bins[bin].store(head, Ordering::Relaxed);
        self.state.full[bin / 64].fetch_or(1 << (bin % 64), Ordering::Relaxed);
        Ok(())
    }

    fn unlink(&self, head: u32, blocks: u32) -> Result<()> {
        let bin = bin_of(blocks);
        let entry = self.heap.block(head)?;
        let next = entry.next.load(Ordering::Relaxed);
        let prev = entry.prev.load(Ordering::Relaxed);
        if next != 0 {
            self.heap.block(next)?.prev.store(prev, Ordering::Relaxed);
        }
        crash_point!();
        if prev != 0 {
            self.heap.block(prev)?.next.store(next, Ordering::Relaxed);
            return Ok(());
        }
        self.state.bins[bin].store(next, Ordering::Relaxed);
        if next == 0 {
            self.state.full[bin / 64].fetch_and(!(1 << (bin % 64)), Ordering::Relaxed);
        }
        Ok(())
    }
}
