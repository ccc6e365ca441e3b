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
//! A hold of an entry refers to it as well as the table does. A PIN of what the table no longer
//! refers to becomes KEPT, and a KEPT of what it does refer to ends: it was published.
//!
//! A repair that is itself killed is started over by the next owner of the lock. What it
//! cannot make sense of (two entries in one place, an entry outside the shard's memory) is
//! an error, and the map is poisoned.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::entry::Entry;
use super::holds::{Held, Holds, Kind};
use super::store::Store;
use super::table::Geometry;
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Extent, Heap, Purpose};
use crate::sync::crash::crash_point;

/// The extents of a shard and what its table says of them.
struct Census {
    extents: BTreeMap<u32, Found>,
    count: u64,
    mortal: u32,
    version: u64,
    /// Where the entries of the table are that somebody holds.
    held: Vec<u64>,
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
        let change = self.state.seq.repair();
        let repaired = self.rebuild();
        if repaired.is_err() {
            // Nobody may read what makes no sense.
            std::mem::forget(change);
        }
        repaired
    }

    fn rebuild(&self) -> Result<()> {
        let table = self.whole_table()?;
        let mut census = self.census(self.extents.owned_by(self.owner)?)?;
        crash_point!();
        // Nothing refers to it, so it is freed with the rest.
        self.spare().take_any();
        self.rebuild_holds(&mut census)?;
        self.state.mortal.store(census.mortal, Ordering::Relaxed);
        self.state.count.store(census.count, Ordering::Relaxed);
        self.state
            .tombs
            .store(table.count_tombs(), Ordering::Relaxed);
        // The dead may have changed something and told nobody.
        let version = self.version().max(census.version).wrapping_add(1);
        self.state.version.store(version, Ordering::Relaxed);
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

    /// Makes the holds what they would be if nobody had died, and marks what they refer to.
    fn rebuild_holds(&self, census: &mut Census) -> Result<()> {
        let holds = self.holds();
        for held in holds.all().filter(Held::is_entry) {
            match (held.kind, census.held.contains(&held.what)) {
                (Kind::Kept, true) => holds.end(&held),
                (Kind::Pin, false) => {
                    holds.keep(held.what);
                }
                _ => {}
            }
        }
        holds.restore();
        crash_point!();
        census.mark_kept(self.heap, &holds)
    }

    /// Checks every invariant of the shard. `extents` are those that the arena says it has.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        let table = self.whole_table()?;
        table.verify()?;
        let mut census = self.census(extents)?;
        let holds = self.holds();
        let known = |held: &Held| census.held.contains(&held.what) == (held.kind == Kind::Pin);
        if !holds.is_counted() || !holds.all().filter(Held::is_entry).all(|it| known(&it)) {
            return Err(Error::corrupt("a shard's holds are wrong"));
        }
        census.mark_kept(self.heap, &holds)?;
        if let Some(spare) = self.spare().offset() {
            census.mark_entry(self.heap, spare, 0)?;
        }
        if census.mortal != self.state.mortal.load(Ordering::Relaxed) {
            return Err(Error::corrupt("a shard's count of mortal entries is wrong"));
        }
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
            mortal: 0,
            version: 0,
            held: Vec::new(),
        };
        let holds = self.holds();
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
            census.mark_entry(self.heap, offset, entry.size())?;
            census.count += 1;
            census.mortal += u32::from(entry.expires.is_some());
            if holds.of(offset).next().is_some() {
                census.held.push(offset);
            }
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

    /// Marks what is held though the table does not refer to it. What it holds, nobody knows.
    fn mark_kept(&mut self, heap: &Heap, holds: &Holds<'_>) -> Result<()> {
        let mut seen = Vec::new();
        for held in holds.all().filter(|held| held.kind == Kind::Kept) {
            if !seen.contains(&held.what) {
                seen.push(held.what);
                self.mark_entry(heap, held.what, 0)?;
            }
        }
        Ok(())
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
