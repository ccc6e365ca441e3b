//! A shard's hash table: open addressing with linear probing over 64-bit slots.
//!
//! ```text
//! slot    0                     EMPTY  ends every probe
//!         1                     TOMB   was removed; a probe goes on
//!         tag 28 | place 36     an entry at 16 * place bytes from the segment's start
//! ```
//! | from  | to    | by                                    | commits              |
//! |-------|-------|---------------------------------------|----------------------|
//! | EMPTY | entry | insert                                | the insertion        |
//! | TOMB  | entry | insert                                | the insertion        |
//! | entry | entry | update, same tag                      | the update           |
//! | entry | TOMB  | remove, when the next slot is in use  | the removal          |
//! | entry | EMPTY | remove, when the next slot is EMPTY   | the removal          |
//! | TOMB  | EMPTY | remove, when the next slot is EMPTY   | nothing: tidying     |
//!
//! Every operation commits by one store of one slot, so a kill comes before it or after it. No other
//! state is needed to find a key; counts are derived.
//!
//! A tag's home is `tag * slots >> 28`, which keeps the order of the tags. So a table may have any number of
//! slots, and grow by half. It is rehashed from its slots alone, without touching an entry, and mostly in the
//! order of memory.
//!
//! # Limits
//! Places have 36 bits, so entries lie within 1 TiB.

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::TAG_BITS;
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap, commit_store};
use crate::sync::crash::crash_point;

const EMPTY: u64 = 0;
const TOMB: u64 = 1;
const PLACE_BITS: u32 = 64 - TAG_BITS;
/// The largest offset, exclusive, that a slot can hold.
pub(super) const MAX_OFFSET: u64 = 16 << PLACE_BITS;
/// Slots on a block.
pub(super) const SLOTS_PER_BLOCK: usize = BLOCK as usize / 8;

/// Where a table lies, as one word so that one store publishes it; 0 is no table.
///
/// ```text
/// bits  0..32  first block        bits 32..64  blocks
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) head: u32,
    pub(super) blocks: u32,
}

impl Geometry {
    #[inline]
    pub(super) fn decode(word: u64) -> Self {
        Self {
            head: word as u32,
            blocks: (word >> 32) as u32,
        }
    }

    pub(super) fn encode(self) -> u64 {
        self.head as u64 | (self.blocks as u64) << 32
    }
}

/// The slots of one table, for the owner of the shard's lock. No slots stand for a shard that has no table
/// yet.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    slots: &'a [AtomicU64],
}

/// A search for one tag. Reads each slot at most once, whatever the slots hold.
///
/// An iterator rather than a callback, whose results would go through memory: a set in one process takes 49
/// ns this way, and 58 ns with a callback.
pub(super) struct Search<'a> {
    table: Table<'a>,
    tag: u32,
    slot: usize,
    /// Slots not yet read.
    left: usize,
    /// The first tombstone that it met.
    tomb: Option<usize>,
}

impl Search<'_> {
    /// The next entry with the tag: its slot, and where it is. `None` at the EMPTY slot that ends the
    /// search, or when no slots are left.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<(usize, u64)> {
        while self.left > 0 {
            let slot = self.slot;
            match self.table.load(slot) {
                EMPTY => return None,
                TOMB => self.tomb = self.tomb.or(Some(slot)),
                word if tag_of(word) == self.tag => {
                    self.step();
                    return Some((slot, offset_of(word)));
                }
                _ => {}
            }
            self.step();
        }
        None
    }

    #[inline(always)]
    fn step(&mut self) {
        self.slot = self.table.after(self.slot);
        self.left -= 1;
    }

    /// The slot for a new entry with this tag, if the table has one.
    #[inline]
    pub(super) fn insertion_slot(&self) -> Option<usize> {
        self.tomb.or((self.left > 0).then_some(self.slot))
    }
}

/// The table of a shard that has none yet, for readers.
static NO_TABLE: [AtomicU64; 1] = [AtomicU64::new(EMPTY)];

/// Where the first entry with `tag` in `slots` is; `Some(None)` if an EMPTY slot comes first, `None` if
/// neither comes. For tag 0 the result may be a place where no entry can be.
#[inline(always)]
pub(super) fn first(slots: &[AtomicU64], tag: u32) -> Option<Option<u64>> {
    for slot in slots {
        let word = slot.load(Ordering::Relaxed);
        // If the tags are the same, only the place is left.
        let place = word ^ u64::from(tag) << PLACE_BITS;
        if place < 1 << PLACE_BITS {
            return Some(Some(place * 16));
        }
        if word == EMPTY {
            return Some(None);
        }
    }
    None
}

#[inline]
fn tag_of(word: u64) -> u32 {
    (word >> PLACE_BITS) as u32
}

#[inline]
fn offset_of(word: u64) -> u64 {
    (word & ((1 << PLACE_BITS) - 1)) * 16
}

/// The home of `tag` in a table of `slots` slots; any number if no table can be that large.
#[inline]
pub(super) fn home(tag: u32, slots: usize) -> usize {
    (tag as usize).wrapping_mul(slots) >> TAG_BITS
}

/// The word of an entry.
#[inline]
fn word_of(tag: u32, offset: u64) -> u64 {
    debug_assert!(offset.is_multiple_of(16) && (32..MAX_OFFSET).contains(&offset));
    ((tag as u64) << PLACE_BITS) | (offset / 16)
}

impl<'a> Table<'a> {
    /// `None` if the table would lie outside the heap.
    #[inline]
    pub(super) fn new(heap: &'a Heap, geometry: Geometry) -> Option<Self> {
        if geometry.blocks == 0 {
            return Some(Self { slots: &[] });
        }
        let slots = heap.words(geometry.head, geometry.blocks)?;
        Some(Self { slots })
    }

    /// A table over any slots, for tests.
    #[cfg(test)]
    pub(super) fn over(slots: &'a [AtomicU64]) -> Self {
        Self { slots }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        home(tag, self.slots.len())
    }

    /// The first tag whose home is `slot` or after it.
    fn first_tag(&self, slot: usize) -> u32 {
        ((slot << TAG_BITS).div_ceil(self.slots.len())) as u32
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() {
            0
        } else {
            slot + 1
        }
    }

    #[inline]
    fn load(&self, slot: usize) -> u64 {
        self.slots[slot].load(Ordering::Relaxed)
    }

    /// The slots from the home of `tag` to the end of the table, at least one; for readers.
    #[inline]
    pub(super) fn slots_for(&self, tag: u32) -> &'a [AtomicU64] {
        match self.slots {
            [] => &NO_TABLE,
            slots => &slots[self.home(tag)..],
        }
    }

    /// Searches for entries with `tag`.
    #[inline(always)]
    pub(super) fn search(&self, tag: u32) -> Search<'a> {
        Search {
            table: *self,
            tag,
            slot: self.home(tag),
            left: self.slots.len(),
            tomb: None,
        }
    }

    /// Publishes an entry in a slot that a [`Search`] named. True if it was a tombstone.
    #[inline]
    pub(super) fn publish(&self, slot: usize, tag: u32, offset: u64) -> bool {
        let was_tomb = self.load(slot) == TOMB;
        commit_store(&self.slots[slot], word_of(tag, offset));
        was_tomb
    }

    /// Removes the entry in a slot that a [`Search`] named. Returns the change in the number of tombstones.
    pub(super) fn remove(&self, slot: usize) -> i64 {
        if self.load(self.after(slot)) != EMPTY {
            commit_store(&self.slots[slot], TOMB);
            return 1;
        }
        commit_store(&self.slots[slot], EMPTY);
        // No probe needs the tombstones before an EMPTY slot.
        let mut tidied = 0;
        let mut at = slot;
        for _ in 0..self.slots.len() {
            crash_point!();
            at = at.checked_sub(1).unwrap_or(self.slots.len() - 1);
            if self.load(at) != TOMB {
                break;
            }
            commit_store(&self.slots[at], EMPTY);
            tidied += 1;
        }
        -tidied
    }

    /// Makes every slot EMPTY. Only before the table is published.
    pub(super) fn make_empty(&self) {
        for slot in self.slots {
            slot.store(EMPTY, Ordering::Relaxed);
        }
    }

    /// How many slots may be visited to place all entries, or to find all of them. Hashed entries need
    /// far fewer; without a limit, forged slots would take time quadratic in the table's size.
    fn probe_limit(&self) -> usize {
        self.slots.len().saturating_mul(64).max(1 << 20)
    }

    /// Fills `to`, wiped and not yet published, with the entries of this table. Returns how
    /// many there are, or `None` if they do not fit or exceed the probe limit.
    pub(super) fn copy_to(&self, to: &Table<'_>) -> Option<u64> {
        let (mut count, mut left_probes) = (0, to.probe_limit());
        for (_, word) in self.words() {
            if count == to.slots.len() as u64 {
                return None;
            }
            let mut slot = to.home(tag_of(word));
            while to.load(slot) != EMPTY {
                slot = to.after(slot);
                left_probes = left_probes.checked_sub(1)?;
            }
            to.slots[slot].store(word, Ordering::Relaxed);
            count += 1;
        }
        Some(count)
    }

    fn words(&self) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        self.slots
            .iter()
            .enumerate()
            .map(|(slot, word)| (slot, word.load(Ordering::Relaxed)))
            .filter(|(_, word)| *word > TOMB)
    }

    /// Every entry: its tag and where it is.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, u64)> + use<'a> {
        self.words()
            .map(|(_, word)| (tag_of(word), offset_of(word)))
    }

    /// Counts the tombstones.
    pub(super) fn count_tombs(&self) -> u64 {
        let tombs = self.slots.iter();
        tombs
            .filter(|slot| slot.load(Ordering::Relaxed) == TOMB)
            .count() as u64
    }

    /// The entries whose tags are in `from .. to`. Chooses `to` so that about `slots` slots are read. Calls
    /// `visit` with each one's tag and place, and returns `to`; `None` is the end of the table.
    ///
    /// A tag is the same in every table, so a walk by tags meets an entry once even if the table is rehashed
    /// meanwhile.
    pub(super) fn visit_from(
        &self,
        from: u32,
        slots: usize,
        mut visit: impl FnMut(u32, u64) -> Result<()>,
    ) -> Result<Option<u32>> {
        if self.slots.is_empty() {
            return Ok(None);
        }
        let first = self.home(from);
        let last = (first + slots.max(1)).min(self.slots.len());
        let to = self.first_tag(last);
        let mut slot = first;
        for seen in 0..self.slots.len() {
            match self.load(slot) {
                // Every entry whose home is before `last` lies before the first EMPTY slot after it.
                EMPTY if first + seen + 1 >= last => break,
                EMPTY | TOMB => {}
                word if (from..to).contains(&tag_of(word)) => {
                    visit(tag_of(word), offset_of(word))?;
                }
                _ => {}
            }
            slot = self.after(slot);
        }
        Ok((last < self.slots.len()).then_some(to))
    }

    /// Checks that a probe for every entry reaches it.
    pub(super) fn verify(&self) -> Result<()> {
        let mut left_probes = self.probe_limit();
        for (slot, word) in self.words() {
            let mut search = self.search(tag_of(word));
            let same = iter::from_fn(|| search.next()).find(|(_, at)| *at == offset_of(word));
            let read = self.slots.len() - search.left;
            let Some(left) = left_probes.checked_sub(read) else {
                return Err(Error::corrupt("a table's probes are too long"));
            };
            left_probes = left;
            if same.is_none_or(|(at, _)| at != slot) {
                return Err(Error::corrupt("an entry cannot be found"));
            }
        }
        Ok(())
    }
}
