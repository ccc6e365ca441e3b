//! A shard's contents: its table, its slabs, and the few steps that every operation is.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0     8  table    owner of the lock   S1: where the table lies; one store replaces it
//!      8     8  version  owner of the lock   S2: at least every entry's version
//!     16     8  count    owner of the lock   derived: entries in the table
//!     24     8  tombs    owner of the lock   derived: tombstones in the table
//!     32   304  slabs    owner of the lock   derived
//! ```
//! Every change prepares memory that nothing refers to, publishes it with one store, and
//! then retires what it replaced:
//!
//! | operation | prepares           | publishes with | retires            |
//! |-----------|--------------------|----------------|--------------------|
//! | insert    | the entry          | its slot       |                    |
//! | update    | the new entry      | the slot       | the old entry      |
//! | remove    |                    | the slot       | the entry          |
//! | rehash    | the new table      | `table`        | the old table      |
//! | clear     |                    | `table` = 0    | entries, the table |
//!
//! Killed before the store, the operation never was, and [`Store::repair`] takes back what
//! was prepared; killed after it, it was done, and the repair retires the rest.

use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{self, Entry};
use super::table::{self, Geometry, Probe, SLOTS_PER_BLOCK, Table};
use crate::error::{Error, Result};
use crate::heap::{Extents, Heap, Purpose, SlabState, Slabs, commit_store};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// The contents of a shard in shared memory; drawn at the top of this file.
#[repr(C)]
pub(super) struct StoreState {
    pub(super) table: AtomicU64,
    pub(super) version: AtomicU64,
    pub(super) count: AtomicU64,
    pub(super) tombs: AtomicU64,
    pub(super) slabs: SlabState,
}

const _: () = assert!(size_of::<StoreState>() == 336);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for StoreState {}

/// The contents of a shard, seen by the holder of its lock.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) state: &'a StoreState,
    pub(super) heap: &'a Heap,
    pub(super) extents: &'a dyn Extents,
    pub(super) owner: u8,
}

/// What [`Store::find`] found; good until the next change of the shard.
pub(super) struct Lookup<'a> {
    table: Table<'a>,
    tag: u32,
    probe: Probe,
    pub(super) entry: Option<Entry<'a>>,
}

/// Slots of a table that may be in use, tombstones included, in every 20. More than 17 and
/// probes for absent keys grow long.
const FULL: u64 = 17;

impl<'a> Store<'a> {
    pub(super) fn table(&self) -> Result<Table<'a>> {
        let geometry = Geometry::decode(self.state.table.load(Ordering::Acquire));
        Table::new(self.heap, geometry)
    }

    /// The table, for walks over all of it: its size must be borne out by its extent, or a
    /// wild word could make us walk, and the kernel allocate, the whole heap.
    pub(super) fn whole_table(&self) -> Result<Table<'a>> {
        let geometry = Geometry::decode(self.state.table.load(Ordering::Acquire));
        if geometry.blocks != 0 {
            let extent = self.heap.extent_at(self.heap.offset_of(geometry.head))?;
            let same = extent.head == geometry.head && extent.blocks == geometry.blocks;
            if !same || extent.purpose != Purpose::Table || extent.owner != self.owner {
                return Err(Error::corrupt("a shard's table is not its own"));
            }
        }
        Table::new(self.heap, geometry)
    }

    pub(super) fn slabs(&self) -> Slabs<'a> {
        Slabs {
            state: &self.state.slabs,
            heap: self.heap,
            extents: self.extents,
            owner: self.owner,
        }
    }

    /// Entries in the shard.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Asks for the line of the table where `tag` belongs, before the lock is taken: the
    /// wait for the one hides behind the wait for the other.
    ///
    /// NB: random gets of 16 B -> 64 B among a million keys, means of four alternating runs
    /// of two rounds each on a noisy machine: 2.31 million a second of CPU time without it
    /// (2.04 to 2.52), 2.52 with it (2.29 to 2.85).
    #[inline]
    pub(super) fn prefetch(state: &StoreState, heap: &Heap, tag: u32) {
        let geometry = Geometry::decode(state.table.load(Ordering::Relaxed));
        let slots = geometry.blocks as usize * SLOTS_PER_BLOCK;
        heap.prefetch_word(geometry.head, table::home(tag, slots));
    }

    /// Looks for `key`, whose tag is `tag`.
    #[inline]
    pub(super) fn find(&self, tag: u32, key: &[u8]) -> Result<Lookup<'a>> {
        let table = self.table()?;
        let mut found = None;
        let probe = table.find(tag, |offset| {
            let entry = Entry::read(self.heap, offset)?;
            let same = entry.key == key;
            if same {
                found = Some(entry);
            }
            Ok(same)
        })?;
        Ok(Lookup {
            table,
            tag,
            probe,
            entry: found,
        })
    }

    /// Gives `key`, which was looked up, the value `value`.
    ///
    /// # Errors
    /// `NoSpace`; the old value is intact then.
    pub(super) fn write(&self, lookup: &Lookup<'a>, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = entry::size(key.len(), value.len());
        match lookup.probe {
            Probe::Found { slot, offset } => {
                let new = self.prepare(bytes, key, value)?;
                lookup.table.publish(slot, lookup.tag, new);
                crash_point!();
                self.slabs().free(offset)
            }
            Probe::Absent { slot } => {
                let (table, slot) = self.make_room(lookup.table, lookup.tag, slot)?;
                let new = self.prepare(bytes, key, value)?;
                let was_tomb = table.publish(slot, lookup.tag, new);
                crash_point!();
                add(&self.state.count, 1);
                if was_tomb {
                    add(&self.state.tombs, -1);
                }
                Ok(())
            }
        }
    }

    /// Removes what was looked up; does nothing if it was not there.
    pub(super) fn remove(&self, lookup: &Lookup<'a>) -> Result<()> {
        let Probe::Found { slot, offset } = lookup.probe else {
            return Ok(());
        };
        let tombs = lookup.table.remove(slot);
        crash_point!();
        add(&self.state.count, -1);
        add(&self.state.tombs, tombs);
        self.slabs().free(offset)?;
        self.shrink(lookup.table)
    }

    /// Removes every entry at once.
    pub(super) fn clear(&self) -> Result<()> {
        let word = self.state.table.load(Ordering::Relaxed);
        let table = self.whole_table()?;
        if table.slots() == 0 {
            return Ok(());
        }
        commit_store(&self.state.table, 0);
        crash_point!();
        self.state.count.store(0, Ordering::Relaxed);
        self.state.tombs.store(0, Ordering::Relaxed);
        let slabs = self.slabs();
        for (_, offset) in table.entries() {
            slabs.free(offset)?;
            crash_point!();
        }
        slabs.keep(0)?;
        crash_point!();
        self.extents.free(Geometry::decode(word).head)
    }

    /// A new entry that nothing refers to yet.
    #[inline]
    fn prepare(&self, bytes: u64, key: &[u8], value: &[u8]) -> Result<u64> {
        let version = self.state.version.load(Ordering::Relaxed).wrapping_add(1);
        let offset = self.slabs().allocate(bytes)?;
        self.state.version.store(version, Ordering::Relaxed);
        crash_point!();
        entry::write(self.heap, offset, version, key, value)?;
        Ok(offset)
    }

    /// A slot for one more entry: `slot` of `table`, or one of a larger table.
    #[inline]
    fn make_room(
        &self,
        table: Table<'a>,
        tag: u32,
        slot: Option<usize>,
    ) -> Result<(Table<'a>, usize)> {
        let used = self
            .count()
            .saturating_add(self.state.tombs.load(Ordering::Relaxed));
        let full = used.saturating_add(1).saturating_mul(20) > table.slots() as u64 * FULL;
        match slot {
            Some(slot) if !full => Ok((table, slot)),
            _ => self.grow(tag),
        }
    }

    #[cold]
    fn grow(&self, tag: u32) -> Result<(Table<'a>, usize)> {
        let table = self.whole_table()?;
        let slots = table.slots() as u64;
        // Tombstones alone may have filled it; then a fresh one of that size will do.
        let crowded = table.entries().count() as u64 * 20 > slots * 12;
        let blocks = (slots as usize / SLOTS_PER_BLOCK) as u64;
        let wanted = if crowded { blocks + blocks / 2 } else { blocks };
        let table = self.rehash(table, wanted.max(if crowded { blocks + 1 } else { 1 }))?;
        match table.find(tag, |_| Ok(false))? {
            Probe::Absent { slot: Some(slot) } => Ok((table, slot)),
            _ => Err(Error::corrupt("a new table has no free slot")),
        }
    }

    /// Lets a table that has become far too large go. Not having the memory for a smaller
    /// one is no reason to fail what brought us here.
    fn shrink(&self, table: Table<'a>) -> Result<()> {
        let (slots, count) = (table.slots() as u64, self.count());
        if slots as usize <= SLOTS_PER_BLOCK || count > slots / 8 {
            return Ok(());
        }
        let table = self.whole_table()?;
        let wanted = (count * 2).div_ceil(SLOTS_PER_BLOCK as u64).max(1);
        match self.rehash(table, wanted) {
            Ok(_) | Err(Error::NoSpace { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Replaces the table by one of `blocks` blocks without tombstones.
    fn rehash(&self, table: Table<'a>, blocks: u64) -> Result<Table<'a>> {
        let blocks = u32::try_from(blocks)
            .map_err(|_| Error::corrupt("a table is larger than any can be"))?;
        let head = self.extents.allocate(blocks, self.owner, Purpose::Table)?;
        crash_point!();
        let geometry = Geometry { head, blocks };
        let new = Table::new(self.heap, geometry)?;
        new.wipe();
        crash_point!();
        let Some(count) = table.copy_to(&new) else {
            self.extents.free(head)?;
            return Err(Error::corrupt("a table holds more than its shard counted"));
        };
        crash_point!();
        let old = self.state.table.load(Ordering::Relaxed);
        commit_store(&self.state.table, geometry.encode());
        crash_point!();
        self.state.count.store(count, Ordering::Relaxed);
        self.state.tombs.store(0, Ordering::Relaxed);
        if old != 0 {
            self.extents.free(Geometry::decode(old).head)?;
        }
        Ok(new)
    }
}

/// Only the owner of the shard's lock writes these, so load and store are enough.
#[inline]
fn add(counter: &AtomicU64, change: i64) {
    let value = counter.load(Ordering::Relaxed);
    counter.store(value.saturating_add_signed(change), Ordering::Relaxed);
}
