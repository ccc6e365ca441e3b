//! Reading a small value without the lock.
//!
//! # Locked or optimistic
//! A get under the shard's lock writes to the lock's cache line twice, and processes that read the same keys
//! contend for that line. A reader without the lock writes to a line of its own (see `readers`), and checks
//! whether a process wrote meanwhile (see `seq`).
//!
//! On two virtual cores, gets of 16 B -> 64 B among a thousand keys reach 18 million a second in one process
//! and 24 million in two under the lock, and 24 and 43 million without it.
//!
//! # Why it is safe to read what another process changes
//! All offsets and lengths are bounds-checked, so a word that changed meanwhile leads at worst to another
//! place in the heap. The sequence number is checked again before anything is read *through* a word (the
//! table, a slot, the lengths of an entry). So the word was valid after this thread announced its read, and
//! the memory that it leads to is not given back before the read ends.
//!
//! Slow and rare cases use the lock: large values, whose copying takes longer than most writers wait;
//! an entry that wrapped around to the beginning of the table; another key with the same tag.
//!
//! # Why every load counts
//! In a large map a get waits for memory twice, for the slot and for the entry. It is fast if the processor
//! begins the next gets meanwhile, and its load queue limits how many. A get among a million keys takes 126
//! ns; with 16 more loads of a cached word it takes 172 ns, with 32 more additions 133 ns (one process, Zen
//! 4). So the code of a get is inlined and has few branches: calls, loops around it, and results that are moved
//! through memory add loads. Everything else is in `read_again`.
//!
//! # Plain bytes
//! All words that decide anything (the sequence number, the table, slots, lengths, times, versions) are
//! atomic. The bytes of keys and values are not: a reader may copy them while a writer stores to them. The
//! language calls that a data race, although the copy is discarded if the number has changed. Relaxed atomic
//! words cost too much: the length of the key determines how a value is aligned, and the writer would have to
//! use them too. Instructions of a copy on x86-64:
//!
//! | size   | plain bytes | aligned words | unaligned words |
//! |--------|-------------|---------------|-----------------|
//! | 64 B   | 29 to 31    | 72            | 131             |
//! | 1 KiB  | 144         | 404           | 1273            |
//! | 16 KiB | 2196        | 5684          | 19511           |

use std::sync::atomic::AtomicU64;

use super::entry::{Head, Value};
use super::store::Store;
use super::table::{self, Table};
use crate::cache;

/// Why a read without the lock has no result.
pub(super) enum ReadConflict {
    /// A process wrote meanwhile: try again.
    Again,
    /// The key has to be read under the lock: a rare case, or an inconsistency.
    Lock,
}

/// The beginning of a read, before the thread announces itself as a reader.
pub(super) struct Probe<'a> {
    /// The shard's sequence number.
    then: u64,
    /// The slots from the tag's home on.
    slots: &'a [AtomicU64],
}

impl<'a> Store<'a> {
    /// Finds the slots where `tag` belongs, and prefetches their line.
    ///
    /// A get among a million keys takes 129 ns with the prefetch and 147 ns without it.
    #[inline(always)]
    pub(super) fn probe(&self, tag: u32) -> Result<Probe<'a>, ReadConflict> {
        let then = self.state.seq.read().ok_or(ReadConflict::Again)?;
        let table = Table::new(self.heap, self.geometry()).ok_or(ReadConflict::Lock)?;
        let slots = table.slots_for(tag);
        cache::fetch_to_read(slots.as_ptr().cast());
        Ok(Probe { then, slots })
    }

    /// Reads the value of `key` with `read`. `None` if there is no such key.
    ///
    /// The caller has announced itself as a reader until this returns.
    #[inline(always)]
    pub(super) fn read_optimistic<T>(
        &self,
        probe: &Probe<'_>,
        tag: u32,
        key: &[u8],
        read: &mut impl FnMut(Value) -> T,
    ) -> Result<Option<T>, ReadConflict> {
        let still = || match self.state.seq.is_still(probe.then) {
            true => Ok(()),
            false => Err(ReadConflict::Again),
        };
        still()?;
        let Some(offset) = table::first(probe.slots, tag).ok_or(ReadConflict::Lock)? else {
            return still().map(|()| None);
        };
        still()?;
        let head = Head::read(self.heap, offset).ok_or(ReadConflict::Lock)?;
        still()?;
        // SAFETY: the entry is not large.
        if head.is_large() || !unsafe { head.has_key(key) } {
            return Err(ReadConflict::Lock);
        }
        if head.is_expired() {
            return still().map(|()| None);
        }
        // SAFETY: the entry is not large.
        let value = read(unsafe { head.value() });
        still().map(|()| Some(value))
    }
}
