//! Holds: what a process holds in a shard beyond the shard's lock.
//!
//! ```text
//! hold (16 bytes)
//! offset  size  field  meaning
//!      0     8  what   the key's tag and a thread, or the offset of an entry
//!      8     8  word   0: not in use; else kind 8 | participant's slot 16 | generation 32
//! ```
//! | kind | of    | what                                      | ends by                     |
//! |------|-------|-------------------------------------------|-----------------------------|
//! | LOCK | a key | no other process locks it                 | unlock; the next lock       |
//! | PIN  | entry | it is read in place, and the table has it | release; becomes KEPT       |
//! | KEPT | entry | it is read or written in place, and the   | release, which frees it     |
//! |      |       | table does not, or not yet, refer to it   |                             |
//!
//! All under the shard's lock. One store of `word` takes a hold, ends it, or makes a PIN a KEPT. A dead
//! process's holds end when another process asks the kernel about it: one that takes a hold in the same
//! shard, or one that finds no space for a write.
//!
//! # Limits
//! [`HOLDS`] in a shard at a time, so 768 in a map, and 48 in a compact one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::heap::commit_store;
use crate::layout::{Owner, Shared};
use crate::sync::crash::crash_point;

/// Holds of a shard.
pub(super) const HOLDS: usize = 12;

#[repr(C)]
struct HoldCell {
    what: AtomicU64,
    word: AtomicU64,
}

/// The holds of a shard in shared memory; the top of this file shows the layout.
#[repr(C)]
pub(super) struct HoldState([HoldCell; HOLDS]);

const _: () = assert!(size_of::<HoldState>() == 192);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for HoldState {}

/// What is held, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldKind {
    Lock = 1,
    Pin = 2,
    Kept = 3,
}

/// A hold as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) index: usize,
    pub(super) kind: HoldKind,
    pub(super) what: u64,
    pub(super) owner: Owner,
}

/// Decodes a word; `None` if no hold could have written it.
fn decode(word: u64) -> Option<(HoldKind, Owner)> {
    let kind = match word >> 48 {
        1 => HoldKind::Lock,
        2 => HoldKind::Pin,
        3 => HoldKind::Kept,
        _ => return None,
    };
    let owner = Owner {
        slot: (word >> 32) as u16,
        generation: word as u32,
    };
    Some((kind, owner))
}

impl Hold {
    fn word(&self) -> u64 {
        (self.kind as u64) << 48 | (self.owner.slot as u64) << 32 | self.owner.generation as u64
    }

    /// Whether an entry is held.
    pub(super) fn is_entry(&self) -> bool {
        self.kind != HoldKind::Lock
    }
}

/// A shard's holds, seen by the holder of the shard's lock.
#[derive(Clone, Copy)]
pub(super) struct Holds<'a> {
    pub(super) state: &'a HoldState,
    /// Derived: how many there are, in a cache line that every writer reads anyway.
    pub(super) count: &'a AtomicU32,
}

impl<'a> Holds<'a> {
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// All holds. Words that no hold could have written are skipped.
    pub(super) fn all(&self) -> impl Iterator<Item = Hold> + use<'a> {
        let holds = self.state.0.iter().enumerate();
        holds.filter_map(|(index, hold)| {
            let (kind, owner) = decode(hold.word.load(Ordering::Relaxed))?;
            Some(Hold {
                index,
                kind,
                what: hold.what.load(Ordering::Relaxed),
                owner,
            })
        })
    }

    /// Holds `what`; `None` if all [`HOLDS`] are in use.
    pub(super) fn take(&self, kind: HoldKind, what: u64, owner: Owner) -> Option<Hold> {
        // A word that no hold could have written counts as free: nothing else would ever end it.
        let free = |hold: &HoldCell| decode(hold.word.load(Ordering::Relaxed)).is_none();
        let index = self.state.0.iter().position(free)?;
        let held = Hold {
            index,
            kind,
            what,
            owner,
        };
        self.state.0[index].what.store(what, Ordering::Relaxed);
        crash_point!();
        commit_store(&self.state.0[index].word, held.word());
        crash_point!();
        self.add(1);
        Some(held)
    }

    /// Ends a hold.
    pub(super) fn end(&self, held: &Hold) {
        commit_store(&self.state.0[held.index].word, 0);
        crash_point!();
        self.add(-1);
    }

    /// Makes every hold of the entry at `offset` KEPT, and returns whether there was one.
    pub(super) fn keep(&self, offset: u64) -> bool {
        let mut kept = false;
        for held in self.of(offset) {
            kept = true;
            let held = Hold {
                kind: HoldKind::Kept,
                ..held
            };
            commit_store(&self.state.0[held.index].word, held.word());
            crash_point!();
        }
        kept
    }

    /// Holds of the entry at `offset`.
    pub(super) fn of(&self, offset: u64) -> impl Iterator<Item = Hold> + use<'a> {
        self.all()
            .filter(move |held| held.is_entry() && held.what == offset)
    }

    /// Recounts the holds.
    pub(super) fn restore(&self) {
        let count = self.all().count() as u32;
        self.count.store(count, Ordering::Relaxed);
    }

    /// Whether the count is right.
    pub(super) fn is_counted(&self) -> bool {
        self.all().count() as u32 == self.count.load(Ordering::Relaxed)
    }

    fn add(&self, change: i32) {
        let count = self.count.load(Ordering::Relaxed);
        self.count
            .store(count.saturating_add_signed(change), Ordering::Relaxed);
    }
}
