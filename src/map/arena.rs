//! The arena: extents of whole pages, handed to shards and taken back.
//!
//! ```text
//! offset  size  field     invariant
//!      0     8  frontier  A1: pages 1 .. frontier are tiled by extents (P1); the page map
//!                             has memory for them, and for none beyond but by rounding
//!      8     8  used      derived: pages of extents in use
//!     16    16  full      derived: bit b is set if and only if bins[b] is not empty
//!     32   512  bins      derived: heads of the lists of free extents, by size
//! ```
//! Allocating, freeing and moving the frontier are each committed by one store. Whatever a
//! killed process left between two of them, [`Arena::rebuild`] restores the rest by walking
//! the page map (`walk.rs`).
//!
//! A3: of a free extent of [`PUNCH`] pages or more no page holds memory, unless the map was
//! created with that memory or a process died on the way.
//!
//! The caller holds the arena's lock; only tests have nothing to lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::heap::{Backing, Heap, PAGE, Purpose, Word, commit_store};
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// Free extents of this many pages (64 KiB) give their memory back.
pub(super) const PUNCH: u32 = 16;
/// How many extents of nearly the right size are looked at before a larger one is split.
const LOOK: usize = 16;
pub(super) const BINS: usize = 128;

/// The arena's state in shared memory; drawn at the top of this file.
#[repr(C)]
pub(super) struct ArenaState {
    frontier: AtomicU64,
    pub(super) used: AtomicU64,
    pub(super) full: [AtomicU64; 2],
    pub(super) bins: [AtomicU32; BINS],
}

const _: () = assert!(size_of::<ArenaState>() == 544);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for ArenaState {}

/// The arena, seen by the holder of its lock.
pub(super) struct Arena<'a> {
    pub(super) state: &'a ArenaState,
    pub(super) heap: &'a Heap,
    pub(super) backing: &'a dyn Backing,
}

/// The bin in which a free extent of `pages` pages is kept: exact below 8, then four to
/// each doubling.
pub(super) fn bin_of(pages: u32) -> usize {
    if pages < 8 {
        return pages as usize;
    }
    let doubling = pages.ilog2();
    8 + (doubling as usize - 3) * 4 + (pages >> (doubling - 2) & 3) as usize
}

/// The first bin of which every extent has at least `pages` pages.
fn bin_for(pages: u32) -> usize {
    let bin = bin_of(pages);
    let exact = pages < 8 || pages.trailing_zeros() >= pages.ilog2() - 2;
    if exact { bin } else { bin + 1 }
}

impl Arena<'_> {
    /// The first page that was never allocated.
    pub(super) fn frontier(&self) -> Result<u32> {
        let frontier = self.state.frontier.load(Ordering::Relaxed).max(1);
        if frontier > self.heap.pages() as u64 {
            return Err(Error::corrupt("the arena's frontier is outside the heap"));
        }
        Ok(frontier as u32)
    }

    /// Pages in use, and pages the heap has.
    pub(super) fn usage(&self) -> (u64, u64) {
        let used = self.state.used.load(Ordering::Relaxed);
        (used, self.heap.pages() as u64 - 1)
    }

    /// An extent of `pages` pages with memory behind them, holding whatever was there.
    ///
    /// # Errors
    /// `NoSpace` if the heap or the filesystem is full; nothing has changed then.
    pub(super) fn allocate(&self, pages: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        debug_assert!(pages > 0);
        let head = match self.find(pages, LOOK)? {
            Some(head) => head,
            None => match self.extend(pages)? {
                Some(head) => head,
                None => self
                    .find(pages, usize::MAX)?
                    .ok_or_else(|| self.no_space(pages))?,
            },
        };
        self.take(head, pages, owner, purpose)?;
        Ok(head)
    }

    /// Frees the extent that begins at `head`.
    pub(super) fn free(&self, head: u32) -> Result<()> {
        let Word::Used { pages, .. } = self.heap.page(head)?.word() else {
            return Err(Error::corrupt("an extent is freed that is not in use"));
        };
        let frontier = self.frontier()?;
        let end = self.checked_end(head, pages, frontier)?;
        self.heap.page(head)?.set(Word::Free { pages });
        crash_point!();
        let used = self.state.used.load(Ordering::Relaxed);
        self.state
            .used
            .store(used.saturating_sub(pages as u64), Ordering::Relaxed);

        // The memory to give back grows over neighbours that were too small on their own.
        let (mut from, mut to) = (head, end);
        let (mut first, mut total) = (head, pages);
        if end < frontier
            && let Word::Free { pages: more } = self.heap.page(end)?.word()
        {
            let right_end = self.checked_end(end, more, frontier)?;
            self.unlink(end, more)?;
            total += more;
            self.heap.page(first)?.set(Word::Free { pages: total });
            crash_point!();
            if more < PUNCH {
                to = right_end;
            }
        }
        if let Some((left, more)) = self.free_before(head)? {
            self.unlink(left, more)?;
            (first, total) = (left, total + more);
            self.heap.page(first)?.set(Word::Free { pages: total });
            crash_point!();
            if more < PUNCH {
                from = left;
            }
        }
        self.mark_last(first, total)?;
        crash_point!();
        if total < PUNCH {
            return self.link(first, total);
        }
        self.decommit(from, to)?;
        crash_point!();
        if first + total == frontier {
            self.retreat(frontier, first)
        } else {
            self.link(first, total)
        }
    }

    /// Gives all pages a memory of their own at birth: `pages` of them become one free
    /// extent. Only before the segment is published.
    pub(super) fn reserve(&self, pages: u32) -> Result<()> {
        if pages == 0 || self.extend(pages)?.is_none() {
            return Ok(());
        }
        self.backing
            .commit(self.heap.offset_of(1), pages as u64 * PAGE)
    }

    /// Finds a free extent of at least `pages` pages; looks at `look` that may be too small.
    fn find(&self, pages: u32, look: usize) -> Result<Option<u32>> {
        let (own, safe) = (bin_of(pages), bin_for(pages));
        if own != safe {
            let mut at = self.state.bins[own].load(Ordering::Relaxed);
            for _ in 0..look.min(self.heap.pages() as usize) {
                if at == 0 {
                    break;
                }
                let entry = self.heap.page(at)?;
                match entry.word() {
                    Word::Free { pages: has } if has >= pages => return Ok(Some(at)),
                    Word::Free { .. } => at = entry.next.load(Ordering::Relaxed),
                    _ => return Err(Error::corrupt("a free list holds a page in use")),
                }
            }
        }
        for (index, full) in self.state.full.iter().enumerate() {
            let from = (safe.max(index * 64) - index * 64).min(64) as u32;
            let bits = full.load(Ordering::Relaxed) & u64::MAX.checked_shl(from).unwrap_or(0);
            if bits != 0 {
                let bin = index * 64 + bits.trailing_zeros() as usize;
                let head = self.state.bins[bin].load(Ordering::Relaxed);
                return match self.heap.page(head)?.word() {
                    Word::Free { pages: has } if has >= pages => Ok(Some(head)),
                    _ => Err(Error::corrupt("a free list holds a page in use")),
                };
            }
        }
        Ok(None)
    }

    /// Moves the frontier so that a free extent of `pages` pages lies before it.
    fn extend(&self, pages: u32) -> Result<Option<u32>> {
        let frontier = self.frontier()?;
        let last = self.free_before(frontier)?;
        let more = pages.saturating_sub(last.map_or(0, |(_, pages)| pages));
        let Some(end) = frontier
            .checked_add(more)
            .filter(|end| *end <= self.heap.pages())
        else {
            return Ok(None);
        };
        let (offset, len) = self.heap.page_map_span(frontier, end);
        if len > 0 {
            self.backing.commit(offset, len)?;
        }
        if more > 0 {
            self.heap.page(frontier)?.set(Word::Free { pages: more });
            self.mark_last(frontier, more)?;
            crash_point!();
            commit_store(&self.state.frontier, end as u64);
            crash_point!();
        }
        let (head, total) = match last {
            Some((head, pages)) if more > 0 => {
                self.unlink(head, pages)?;
                let total = pages + more;
                self.heap.page(head)?.set(Word::Free { pages: total });
                crash_point!();
                self.mark_last(head, total)?;
                (head, total)
            }
            Some((head, _)) => return Ok(Some(head)),
            None => (frontier, more),
        };
        self.link(head, total)?;
        Ok(Some(head))
    }

    /// Turns the first `pages` pages of the free extent at `head` into one in use.
    fn take(&self, head: u32, pages: u32, owner: u8, purpose: Purpose) -> Result<()> {
        let Word::Free { pages: has } = self.heap.page(head)?.word() else {
            return Err(Error::corrupt("a free list holds a page in use"));
        };
        self.checked_end(head, has, self.frontier()?)?;
        let Some(left) = has.checked_sub(pages) else {
            return Err(Error::corrupt("a free extent is shorter than its list"));
        };
        self.backing
            .commit(self.heap.offset_of(head), pages as u64 * PAGE)?;
        crash_point!();
        self.unlink(head, has)?;
        crash_point!();
        if left > 0 {
            let rest = head + pages;
            self.heap.page(rest)?.set(Word::Free { pages: left });
            self.mark_last(rest, left)?;
            crash_point!();
        }
        self.mark_parts(head, pages, purpose)?;
        crash_point!();
        self.heap.page(head)?.set(Word::Used {
            pages,
            owner,
            purpose,
        });
        crash_point!();
        if left > 0 {
            self.link(head + pages, left)?;
        }
        let used = self.state.used.load(Ordering::Relaxed);
        self.state
            .used
            .store(used.saturating_add(pages as u64), Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of the free pages `first .. frontier`, which hold no memory and are in no list.
    fn retreat(&self, frontier: u32, first: u32) -> Result<()> {
        commit_store(&self.state.frontier, first as u64);
        crash_point!();
        let (offset, len) = self.heap.page_map_span(first, frontier);
        if len > 0 {
            self.backing.decommit(offset, len)?;
        }
        Ok(())
    }

    pub(super) fn decommit(&self, from: u32, to: u32) -> Result<()> {
        let len = (to - from) as u64 * PAGE;
        self.backing.decommit(self.heap.offset_of(from), len)
    }

    /// The free extent that ends where `page` begins.
    fn free_before(&self, page: u32) -> Result<Option<(u32, u32)>> {
        if page <= 1 {
            return Ok(None);
        }
        let head = match self.heap.page(page - 1)?.word() {
            Word::Part { head } => head,
            _ => page - 1,
        };
        match self.heap.page(head)?.word() {
            Word::Free { pages } if head as u64 + pages as u64 == page as u64 => {
                Ok(Some((head, pages)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn mark_last(&self, head: u32, pages: u32) -> Result<()> {
        if pages > 1 {
            self.heap.page(head + pages - 1)?.set(Word::Part { head });
        }
        Ok(())
    }

    /// P2 for an extent in use.
    pub(super) fn mark_parts(&self, head: u32, pages: u32, purpose: Purpose) -> Result<()> {
        if !matches!(purpose, Purpose::Slab(_)) {
            return self.mark_last(head, pages);
        }
        for page in head + 1..head + pages {
            self.heap.page(page)?.set(Word::Part { head });
        }
        Ok(())
    }

    pub(super) fn checked_end(&self, head: u32, pages: u32, frontier: u32) -> Result<u32> {
        match head.checked_add(pages) {
            Some(end) if pages > 0 && end <= frontier => Ok(end),
            _ => Err(Error::corrupt("an extent reaches beyond the frontier")),
        }
    }

    pub(super) fn link(&self, head: u32, pages: u32) -> Result<()> {
        let bin = bin_of(pages);
        let next = self.state.bins[bin].load(Ordering::Relaxed);
        let entry = self.heap.page(head)?;
        entry.next.store(next, Ordering::Relaxed);
        entry.prev.store(0, Ordering::Relaxed);
        crash_point!();
        if next != 0 {
            self.heap.page(next)?.prev.store(head, Ordering::Relaxed);
        }
        self.state.bins[bin].store(head, Ordering::Relaxed);
        self.state.full[bin / 64].fetch_or(1 << (bin % 64), Ordering::Relaxed);
        Ok(())
    }

    fn unlink(&self, head: u32, pages: u32) -> Result<()> {
        let bin = bin_of(pages);
        let entry = self.heap.page(head)?;
        let next = entry.next.load(Ordering::Relaxed);
        let prev = entry.prev.load(Ordering::Relaxed);
        if next != 0 {
            self.heap.page(next)?.prev.store(prev, Ordering::Relaxed);
        }
        crash_point!();
        if prev != 0 {
            self.heap.page(prev)?.next.store(next, Ordering::Relaxed);
            return Ok(());
        }
        self.state.bins[bin].store(next, Ordering::Relaxed);
        if next == 0 {
            self.state.full[bin / 64].fetch_and(!(1 << (bin % 64)), Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn no_space(&self, pages: u32) -> Error {
        let (used, all) = self.usage();
        Error::NoSpace {
            needed: pages as u64 * PAGE,
            available: all.saturating_sub(used) * PAGE,
        }
    }
}
