//! How many permits or read holds each participant has.
//!
//! ```text
//! offset  size  field   written by          invariant
//!      0     4  used    the lock's owner    no slot from here on was ever written
//!      4     4  kept    the lock's owner    taken, but held by no process any more: the end of
//!                                           a process does not return it
//!      8     8  slot 0  the lock's owner    bits 32..64: generation of the slot;
//!                                           0..32: how much it holds
//!     16     8  slot 1  …
//! ```
//! One word for each slot, so that one store changes what its participant holds. A word whose generation has
//! ended counts what a dead participant held. The lock of the object guards all of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Owner, Shared};
use crate::segment::{ObjectContents, Segment};
use crate::sync::crash::crash_point;

/// As many as there can be participants.
const SLOTS: usize = 1024;

#[repr(C)]
pub(super) struct Holds {
    used: AtomicU32,
    kept: AtomicU32,
    slots: [AtomicU64; SLOTS],
}

const _: () = assert!(std::mem::offset_of!(Holds, kept) == 4);
const _: () = assert!(std::mem::offset_of!(Holds, slots) == 8);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Holds {}

fn word(generation: u32, count: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(count)
}

impl Holds {
    fn slot(&self, owner: Owner) -> Result<&AtomicU64> {
        let slot = self.slots.get(usize::from(owner.slot));
        slot.ok_or_else(|| Error::corrupt("a participant has no slot"))
    }

    fn in_use(&self) -> &[AtomicU64] {
        let used = self.used.load(Ordering::Relaxed) as usize;
        &self.slots[..used.min(SLOTS)]
    }

    /// Adds the holders to `found`, dead ones too.
    pub(super) fn inspect(&self, what: &'static str, found: &mut ObjectContents) {
        for (slot, word) in (0..).zip(self.in_use()) {
            let word = word.load(Ordering::Relaxed);
            let generation = (word >> 32) as u32;
            let count = u64::from(word as u32);
            found.holds(
                what,
                (count != 0).then_some(Owner { slot, generation }),
                count,
            );
        }
    }

    /// How much `owner` holds.
    #[inline]
    pub(super) fn count(&self, owner: Owner) -> Result<u32> {
        let word = self.slot(owner)?.load(Ordering::Relaxed);
        Ok(if (word >> 32) as u32 == owner.generation {
            word as u32
        } else {
            0
        })
    }

    /// Records that `owner` holds `count`. Returns how much a dead participant held in this slot.
    #[inline]
    pub(super) fn set(&self, owner: Owner, count: u32) -> Result<u32> {
        let slot = self.slot(owner)?;
        let needed = u32::from(owner.slot) + 1;
        if self.used.load(Ordering::Relaxed) < needed {
            self.used.store(needed, Ordering::Relaxed);
            crash_point!();
        }
        let before = slot.load(Ordering::Relaxed);
        slot.store(word(owner.generation, count), Ordering::Relaxed);
        crash_point!();
        Ok(if (before >> 32) as u32 == owner.generation {
            0
        } else {
            before as u32
        })
    }

    /// Makes what `owner` holds *kept*: still taken, but held by no process.
    pub(super) fn keep(&self, owner: Owner) -> Result<()> {
        let held = self.count(owner)?;
        if held > 0 {
            // In this order: a process that is killed between the two stores holds nothing, so all
            // of it returns, as if it had been killed before both.
            self.set(owner, 0)?;
            let kept = self.kept.load(Ordering::Relaxed).saturating_add(held);
            self.kept.store(kept, Ordering::Relaxed);
            crash_point!();
        }
        Ok(())
    }

    /// Removes at most `most` from what is kept, or else from what one participant holds. Returns how many; 0
    /// if nothing is held.
    pub(super) fn take_from_any(&self, most: u32) -> u32 {
        let kept = self.kept.load(Ordering::Relaxed);
        let taken = kept.min(most);
        if taken != 0 {
            self.kept.store(kept - taken, Ordering::Relaxed);
            crash_point!();
            return taken;
        }
        for slot in self.in_use() {
            let word = slot.load(Ordering::Relaxed);
            let taken = (word as u32).min(most);
            if taken != 0 {
                slot.store(word - u64::from(taken), Ordering::Relaxed);
                crash_point!();
                return taken;
            }
        }
        0
    }

    /// How much is held in all, including what is kept.
    pub(super) fn total(&self) -> u64 {
        let counts = self.in_use().iter();
        let held: u64 = counts
            .map(|slot| u64::from(slot.load(Ordering::Relaxed) as u32))
            .sum();
        held + u64::from(self.kept.load(Ordering::Relaxed))
    }

    /// Returns what dead participants hold. True if there was any.
    pub(super) fn release_dead(&self, segment: &Segment) -> Result<bool> {
        let mut freed = false;
        for (slot, held) in self.in_use().iter().enumerate() {
            let word = held.load(Ordering::Relaxed);
            let owner = Owner {
                slot: slot as u16,
                generation: (word >> 32) as u32,
            };
            if word as u32 != 0 && !segment.is_attached(owner)? {
                held.store(0, Ordering::Relaxed);
                crash_point!();
                freed = true;
            }
        }
        Ok(freed)
    }
}
