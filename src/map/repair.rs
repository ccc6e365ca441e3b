//! Repair of a shard after a process died in it, and the check of all its invariants.
//!
//! Both walk the table, which alone says what the shard holds (S1), and compare it with the
//! extents that the arena says are the shard's:
//!
//! | extent of the shard          | repair                              |
//! |------------------------------|-------------------------------------|
//! | the current table            | keeps it                            |
//! | another table                | frees it: it was not yet, or no longer, published |
//! | large, an entry refers to it | keeps it                            |
//! | large, nothing refers to it  | frees it                            |
//! | slab, entries refer to slots | keeps it and relinks the other slots |
//! | slab, nothing refers to it   | frees it                            |
//!
//! A repair that is itself killed is started over by the next owner of the lock. What it
//! cannot make sense of (two entries in one place, an entry outside the shard's memory) is
//! an error, and the map is poisoned.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::entry::{self, Entry};
use super::store::Store;
use super::table::Geometry;
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Extent, Heap, Purpose};
use crate::sync::crash::crash_point;

/// The extents of a shard and what its table says of them.
struct Census {
    extents: BTreeMap<u32, Found>,
    count: u64,
    version: u64,
}

struct Found {
    extent: Extent,
    /// A slab: for each slot whether an entry lies in it. Otherwise one: is it referred to?
    in_use: Vec<bool>,
    /// Bytes of a slot; of the whole extent if it is no slab.
    size: u64,
}

impl Found {
    fn is_used(&self) -> bool {
        self.in_use.contains(&true)
    }
}

impl Store<'_> {
    /// Restores all that is derived and frees all that is not referred to.
    ///
    /// # Errors
    /// `Corrupt` if the table is not one that a killed process could have left.
    pub(super) fn repair(&self) -> Result<()> {
        let table = self.whole_table()?;
        let census = self.census(self.extents.owned_by(self.owner)?)?;
        crash_point!();
        self.state.count.store(census.count, Ordering::Relaxed);
        self.state
            .tombs
            .store(table.count_tombs(), Ordering::Relaxed);
        let version = self.state.version.load(Ordering::Relaxed);
        self.state
            .version
            .store(version.max(census.version), Ordering::Relaxed);
        let slabs = self.slabs();
        slabs.forget();
        crash_point!();
        for (head, found) in census.extents {
            if !found.is_used() {
                self.extents.free(head)?;
                continue;
            }
            match found.extent.purpose {
                Purpose::Slab(_) => slabs.restore(head, &found.in_use)?,
                Purpose::Large => slabs.restore_large(found.extent.blocks),
                Purpose::Table => {}
            }
            crash_point!();
        }
        Ok(())
    }

    /// Checks every invariant of the shard. `extents` are those that the arena says it has.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        let table = self.whole_table()?;
        table.verify()?;
        let census = self.census(extents)?;
        if census.count != self.count() {
            return Err(Error::corrupt("a shard's count of entries is wrong"));
        }
        if table.count_tombs() != self.state.tombs.load(Ordering::Relaxed) {
            return Err(Error::corrupt("a shard's count of tombstones is wrong"));
        }
        if census.version > self.state.version.load(Ordering::Relaxed) {
            return Err(Error::corrupt("an entry is newer than its shard"));
        }
        let slabs = self.slabs();
        let (mut bytes, mut partial, mut empty) = (0, 0, 0);
        for (head, found) in &census.extents {
            let used = found.in_use.iter().filter(|used| **used).count();
            match found.extent.purpose {
                Purpose::Slab(_) => {
                    slabs.verify(*head, &found.in_use)?;
                    bytes += used as u64 * found.size;
                    partial += (used < found.in_use.len()) as usize;
                    empty += (used == 0) as usize;
                }
                _ if used == 0 => return Err(Error::corrupt("an extent is lost")),
                Purpose::Large => bytes += found.size,
                Purpose::Table => {}
            }
        }
        if empty > 1 {
            return Err(Error::corrupt("more than one empty slab is kept"));
        }
        slabs.verify_lists(partial, bytes)
    }

    /// Walks the table and marks what each entry occupies.
    fn census(&self, extents: Vec<Extent>) -> Result<Census> {
        let mut census = Census {
            extents: BTreeMap::new(),
            count: 0,
            version: 0,
        };
        for extent in extents {
            let (slots, size) = match extent.purpose {
                Purpose::Slab(_) => self.slabs().shape(extent.head)?,
                _ => (1, extent.blocks as u64 * BLOCK),
            };
            let in_use = vec![false; slots as usize];
            let found = Found {
                extent,
                in_use,
                size,
            };
            census.extents.insert(extent.head, found);
        }
        let geometry = Geometry::decode(self.state.table.load(Ordering::Relaxed));
        if geometry.blocks != 0 {
            census.mark_table(geometry)?;
        }
        for (_, offset) in self.whole_table()?.entries() {
            let entry = Entry::read(self.heap, offset)?;
            let bytes = entry::size(entry.key.len(), entry.value.len());
            census.mark_entry(self.heap, offset, bytes)?;
            census.count += 1;
            census.version = census.version.max(entry.version);
        }
        Ok(census)
    }
}

impl Census {
    fn mark_table(&mut self, geometry: Geometry) -> Result<()> {
        match self.extents.get_mut(&geometry.head) {
            Some(found)
                if found.extent.purpose == Purpose::Table
                    && found.extent.blocks == geometry.blocks =>
            {
                found.in_use[0] = true;
                Ok(())
            }
            _ => Err(Error::corrupt("a shard's table is not its own")),
        }
    }

    fn mark_entry(&mut self, heap: &Heap, offset: u64, bytes: u64) -> Result<()> {
        let head = heap.extent_at(offset)?.head;
        let Some(found) = self.extents.get_mut(&head) else {
            return Err(Error::corrupt("an entry lies in another shard's memory"));
        };
        let at = offset - heap.offset_of(head);
        let slot = (at / found.size) as usize;
        let whole = at.is_multiple_of(found.size) && bytes <= found.size;
        match found.in_use.get_mut(slot) {
            Some(used) if whole && !*used && found.extent.purpose != Purpose::Table => {
                *used = true;
                Ok(())
            }
            _ => Err(Error::corrupt("two entries overlap")),
        }
    }
}
