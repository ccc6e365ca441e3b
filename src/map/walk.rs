//! Walks over the arena's extents: rebuilding what is derived, and checking all of it.
//!
//! The words at the heads of extents tile the heap (P1), so a walk from page 1 meets every
//! extent once, whatever became of the lists.

use std::sync::atomic::Ordering;

use super::arena::{Arena, BINS, PUNCH, bin_of};
use super::heap::{Extent, Purpose, Word};
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;

impl Arena<'_> {
    /// Calls `visit` with every extent: its first page and its word. Checks P1.
    fn walk(&self, mut visit: impl FnMut(u32, Word) -> Result<()>) -> Result<()> {
        let frontier = self.frontier()?;
        let mut page = 1;
        while page < frontier {
            let word = self.heap.page(page)?.word();
            let (Word::Free { pages } | Word::Used { pages, .. }) = word else {
                return Err(Error::corrupt("the page map has a gap"));
            };
            let end = self.checked_end(page, pages, frontier)?;
            visit(page, word)?;
            page = end;
        }
        Ok(())
    }

    /// The extents in use of one shard.
    pub(super) fn owned_by(&self, shard: u8) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        self.walk(|head, word| {
            if let Word::Used {
                pages,
                owner,
                purpose,
            } = word
                && owner == shard
            {
                extents.push(Extent {
                    head,
                    pages,
                    owner,
                    purpose,
                });
            }
            Ok(())
        })?;
        Ok(extents)
    }

    /// Restores all that is derived from the words of the page map, after the holder of the
    /// arena's lock died. Starts over if it is itself cut short.
    pub(super) fn rebuild(&self) -> Result<()> {
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
                Word::Free { pages } => match free.last_mut() {
                    Some((left, more)) if *left + *more == head => *more += pages,
                    _ => free.push((head, pages)),
                },
                Word::Used { pages, purpose, .. } => {
                    used += pages as u64;
                    self.mark_parts(head, pages, purpose)?;
                }
                Word::Blank | Word::Part { .. } => {}
            }
            Ok(())
        })?;
        self.state.used.store(used, Ordering::Relaxed);
        for (head, pages) in free {
            self.heap.page(head)?.set(Word::Free { pages });
            crash_point!();
            self.mark_last(head, pages)?;
            if pages >= PUNCH {
                self.decommit(head, head + pages)?;
            }
            self.link(head, pages)?;
        }
        // What was committed for an extent that never came to be.
        let (frontier, end) = (self.frontier()?, self.heap.pages());
        if frontier < end {
            self.decommit(frontier, end)?;
        }
        let (offset, len) = self.heap.page_map_span(frontier, end);
        if len > 0 {
            self.backing.decommit(offset, len)?;
        }
        Ok(())
    }

    /// Checks every invariant of the arena and returns the extents in use.
    pub(super) fn verify(&self) -> Result<Vec<Extent>> {
        let (mut used, mut extents, mut free) = (0, Vec::new(), 0);
        let mut previous_free = false;
        self.walk(|head, word| {
            let (pages, parts) = match word {
                Word::Free { pages } => {
                    if previous_free {
                        return Err(Error::corrupt("two free extents are neighbours"));
                    }
                    free += 1;
                    (pages, false)
                }
                Word::Used {
                    pages,
                    owner,
                    purpose,
                } => {
                    used += pages as u64;
                    extents.push(Extent {
                        head,
                        pages,
                        owner,
                        purpose,
                    });
                    (pages, matches!(purpose, Purpose::Slab(_)))
                }
                Word::Blank | Word::Part { .. } => (1, false),
            };
            previous_free = matches!(word, Word::Free { .. });
            let first = if parts { head + 1 } else { head + pages - 1 };
            for page in first.max(head + 1)..head + pages {
                if self.heap.page(page)?.word() != (Word::Part { head }) {
                    return Err(Error::corrupt("a page does not know its extent"));
                }
            }
            Ok(())
        })?;
        if used != self.state.used.load(Ordering::Relaxed) {
            return Err(Error::corrupt("the arena's count of pages is wrong"));
        }
        for bin in 0..BINS {
            let mut at = self.state.bins[bin].load(Ordering::Relaxed);
            let bit = self.state.full[bin / 64].load(Ordering::Relaxed) >> (bin % 64) & 1;
            if (bit == 1) != (at != 0) {
                return Err(Error::corrupt("the arena's index of lists is wrong"));
            }
            let mut prev = 0;
            while at != 0 {
                let entry = self.heap.page(at)?;
                let fits = matches!(entry.word(), Word::Free { pages } if bin_of(pages) == bin);
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
}
