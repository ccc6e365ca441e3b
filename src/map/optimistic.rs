//! Reading a small value without the lock.
//!
//! # Locked or optimistic
//! A get under the shard's lock writes to the lock's cache line twice, and two processes that read
//! the same keys take that line from each other. A reader without the lock writes to a line that
//! is its own (see `readers`), and looks whether anybody wrote meanwhile (see `seq`).
//!
//! NB: gets of 16 B -> 64 B among a thousand keys, million a second in two alternating runs on two
//! virtual cores: under the lock 17.4 and 18.2 in one process, 22.1 and 26.3 in two; without it 23.0
//! and 24.4, 42.2 and 43.5.
//!
//! # Why it is safe to read what somebody changes
//! All that is read is bounds-checked as ever, so that a conflict word is at worst another place in the
//! heap. Before anything is read *through* a word (the table, a slot, the lengths of an entry),
//! the number is looked at again: then the word was true after this thread said that it reads, and
//! the memory it leads to is not given back before it has come to an end.
//!
//! What takes long or is rare is left to the lock: large values, whose copying takes longer than most
//! writers wait; an entry that lies beyond the table's end, at its beginning; another key with the same
//! tag.
//!
//! # Why every load counts
//! In a large map a get waits for memory twice, for the slot and for the entry, and is fast as far as
//! the processor begins the next ones meanwhile. How many, its queue of loads decides. NB: 16 more
//! loads of one cached word in each get, 126 ns and 172 (a million keys, one process, Zen 4); 32 more
//! additions, 133. So the path of a get is straight and inlined: calls, loops around it, and results
//! that are moved through memory made it load again what it knew. All else is in `read_again`.
//!
//! # Plain bytes
//! All that decides anything (the number, the table, slots, lengths, times, versions) is atomic. The
//! bytes of keys and values are not: a reader may copy them while a writer stores to them, which the
//! language calls a data race although nobody looks at what was copied once the number has changed. To
//! read them as relaxed atomic words, which begin where the key's length has it, costs too much, and
//! the writer would have to store them so too. NB: instructions to copy 64 B, plain and by words, 29
//! and 72 where the words are aligned, 31 and 131 where they are not; 1 KiB, 144 and 404 or 1273;
//! 16 KiB, 2196 and 5684 or 19511 (x86-64, counted with callgrind).

use std::sync::atomic::AtomicU64;

use super::entry::{Head, Value};
use super::store::Store;
use super::table::{self, Table};
use crate::cache;

/// Why reading came to nothing.
pub(super) enum ReadConflict {
    /// Somebody wrote meanwhile.
    Again,
    /// It has to be read under the lock, or makes no sense.
    Lock,
}

/// What a look at a shard begins with, before it is said that somebody reads.
pub(super) struct Probe<'a> {
    /// The shard's sequence number.
    then: u64,
    /// From where the tag belongs.
    slots: &'a [AtomicU64],
}

impl<'a> Store<'a> {
    /// Finds the slots where `tag` belongs, and asks for their line.
    ///
    /// NB: a get among a million keys, 129 ns, and 147 without asking (medians of five).
    #[inline(always)]
    pub(super) fn probe(&self, tag: u32) -> Result<Probe<'a>, ReadConflict> {
        let then = self.state.seq.read().ok_or(ReadConflict::Again)?;
        let table = Table::new(self.heap, self.geometry()).ok_or(ReadConflict::Lock)?;
        let slots = table.slots_for(tag);
        cache::fetch_to_read(slots.as_ptr().cast());
        Ok(Probe { then, slots })
    }

    /// Reads the value of `key` with `read`. None if there is no such key.
    ///
    /// The caller has said that it reads, and does so until this returns.
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
        // SAFETY: it is not large.
        if head.is_large() || !unsafe { head.has_key(key) } {
            return Err(ReadConflict::Lock);
        }
        if head.is_expired() {
            return still().map(|()| None);
        }
        // SAFETY: it is not large.
        let value = read(unsafe { head.value() });
        still().map(|()| Some(value))
    }
}
