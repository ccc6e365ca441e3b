//! Walks over the arena's extents: to rebuild what is derived, to check all of it, and for the text of an error.
//!
//! The words at the heads of extents tile the heap (P1), so a walk from block 1 meets every extent
//! once, whatever the lists say.

use std::sync::atomic::Ordering;

use super::arena::{Arena, BINS, PUNCH, TRIES, bin_of};
use super::block::{BLOCK, Extent, Purpose, Word};
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;

impl Arena<'_> {
    /// Calls `visit` with every extent: its first block and its word. Checks P1.
    pub(crate) fn walk(&self, mut visit: impl FnMut(u32, Word) -> Result<()>) -> Result<()> {
        let frontier = self.frontier()?;
        let mut block = 1;
        while block < frontier {
            let word = self.heap.block(block)?.word();
            let (Word::Free { blocks } | Word::Used { blocks, .. }) = word else {
                return Err(Error::corrupt("the block map has a gap"));
            };
            let end = self.checked_end(block, blocks, frontier)?;
            visit(block, word)?;
            block = end;
        }
        Ok(())
    }

    /// The extents in use of one owner.
    pub(crate) fn owned_by(&self, wanted: u8) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        self.walk(|head, word| {
            if let Word::Used {
                blocks,
                owner,
                purpose,
            } = word
                && owner == wanted
            {
                extents.push(Extent {
                    head,
                    blocks,
                    owner,
                    purpose,
                });
            }
            Ok(())
        })?;
        Ok(extents)
    }

    /// Restores all that is derived from the words of the block map, after the owner of the arena's
    /// lock died. If it is interrupted by another death, the next owner runs it again.
    pub(crate) fn rebuild(&self) -> Result<()> {
        for bin in &self.state.bins {
            bin.store(0, Ordering::Relaxed);
        }
        for full in &self.state.full {
            full.store(0, Ordering::Relaxed);
        }
        crash_point!();
        let (mut used, mut free) = (0, Vec::<(u32, u32)>::new());
        self.walk(|head, word| {
            match word {
                Word::Free { blocks } => match free.last_mut() {
                    Some((left, more)) if *left + *more == head => *more += blocks,
                    _ => free.push((head, blocks)),
                },
                Word::Used {
                    blocks, purpose, ..
                } => {
                    used += blocks as u64;
                    self.mark_parts(head, blocks, purpose)?;
                }
                Word::Blank | Word::Part { .. } => {}
            }
            Ok(())
        })?;
        self.state.used.store(used, Ordering::Relaxed);
        let (frontier, end) = (self.frontier()?, self.heap.blocks());
        for (head, blocks) in free {
            self.heap.block(head)?.set(Word::Free { blocks });
            crash_point!();
            self.mark_last(head, blocks)?;
            if blocks >= PUNCH && !self.keeps {
                let all = (head, head + blocks);
                self.decommit(self.free_pages(all.0, all.1, all, frontier))?;
            }
            self.link(head, blocks)?;
        }
        // Gives back memory that was committed for an extent that was never published.
        let unused = (frontier, end);
        self.decommit(self.free_pages(frontier, end, unused, end))?;
        let (offset, len) = self.heap.block_map_span(frontier, end);
        self.decommit((offset, offset + len))
    }

    /// Checks every invariant of the arena and returns the extents in use.
    pub(crate) fn verify(&self) -> Result<Vec<Extent>> {
        let (mut used, mut extents, mut free) = (0, Vec::new(), 0);
        let mut previous_free = false;
        self.walk(|head, word| {
            let (blocks, parts) = match word {
                Word::Free { blocks } => {
                    if previous_free {
                        return Err(Error::corrupt("two free extents are neighbours"));
                    }
                    free += 1;
                    (blocks, false)
                }
                Word::Used {
                    blocks,
                    owner,
                    purpose,
                } => {
                    used += blocks as u64;
                    extents.push(Extent {
                        head,
                        blocks,
                        owner,
                        purpose,
                    });
                    (blocks, matches!(purpose, Purpose::Slab(_)))
                }
                Word::Blank | Word::Part { .. } => (1, false),
            };
            previous_free = matches!(word, Word::Free { .. });
            let first = if parts { head + 1 } else { head + blocks - 1 };
            for block in first.max(head + 1)..head + blocks {
                if self.heap.block(block)?.word() != (Word::Part { head }) {
                    return Err(Error::corrupt("a block does not know its extent"));
                }
            }
            Ok(())
        })?;
        if used != self.state.used.load(Ordering::Relaxed) {
            return Err(Error::corrupt("the arena's count of blocks is wrong"));
        }
        for bin in 0..BINS {
            let mut at = self.state.bins[bin].load(Ordering::Relaxed);
            let bit = self.state.full[bin / 64].load(Ordering::Relaxed) >> (bin % 64) & 1;
            if (bit == 1) != (at != 0) {
                return Err(Error::corrupt("the arena's index of lists is wrong"));
            }
            let mut prev = 0;
            while at != 0 {
                let entry = self.heap.block(at)?;
                let fits = matches!(entry.word(), Word::Free { blocks } if bin_of(blocks) == bin);
                if !fits || entry.prev.load(Ordering::Relaxed) != prev || free == 0 {
                    return Err(Error::corrupt("a list of free extents is broken"));
                }
                free -= 1;
                (prev, at) = (at, entry.next.load(Ordering::Relaxed));
            }
        }
        if free != 0 {
            return Err(Error::corrupt("a free extent is in no list"));
        }
        Ok(extents)
    }

    /// The error of a heap that has no extent of so many blocks.
    #[cold]
    pub(crate) fn no_space(&self, blocks: u32) -> Error {
        let (used, all) = self.usage();
        let largest = self.largest_free().unwrap_or(0);
        Error::NoSpace {
            needed: blocks as u64 * BLOCK,
            available: largest * BLOCK,
            in_object: Some(all.saturating_sub(used) * BLOCK),
        }
    }

    /// Blocks of the largest extent that could be allocated. Reads only the first extents of the last list, whose
    /// sizes differ by a quarter at most: the number is for an error, and there may be very many extents.
    fn largest_free(&self) -> Result<u64> {
        let frontier = self.frontier()?;
        let last = self.free_before(frontier)?.map_or(0, |(_, blocks)| blocks);
        let mut largest = u64::from(self.heap.blocks() - frontier) + u64::from(last);
        let bits = |index: usize| self.state.full[index].load(Ordering::Relaxed);
        let bin = u128::from(bits(1)) << 64 | u128::from(bits(0));
        let Some(bin) = bin.checked_ilog2() else {
            return Ok(largest);
        };
        let mut at = self.state.bins[bin as usize].load(Ordering::Relaxed);
        for _ in 0..TRIES {
            if at == 0 {
                break;
            }
            let entry = self.heap.block(at)?;
            let Word::Free { blocks } = entry.word() else {
                return Err(Error::corrupt("a free list holds a block in use"));
            };
            largest = largest.max(blocks.into());
            at = entry.next.load(Ordering::Relaxed);
        }
        Ok(largest)
    }
}
