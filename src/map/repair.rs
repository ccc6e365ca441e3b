//! Repair of a shard after the death of its lock's owner, and the check of all its invariants.
//!
//! Both walk the table, which alone defines what the shard holds (S1), and compare it with the shard's
//! extents in the arena: see [`Census`].
//!
//! A hold of an entry is a reference like the table's. A PIN of an entry to which the table no longer refers
//! becomes KEPT. A KEPT of an entry to which the table refers ends: the entry was published.
//!
//! If a process is killed while it repairs, the next owner of the lock starts over. Contents that
//! no killed process could have left (two entries in one place, an entry outside the shard's memory)
//! are an error, and the map is poisoned.

use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;

use super::entry::Entry;
use super::holds::{Hold, HoldKind};
use super::store::Store;
use super::table::Geometry;
use crate::error::{Error, Result};
use crate::heap::{Census, Extent};
use crate::sync::crash::crash_point;

/// What a walk over the table of a shard found.
struct Contents {
    census: Census,
    count: u64,
    expiring: u32,
    version: u64,
    /// The offsets of the table's entries that are held.
    held: Vec<u64>,
}

impl Store<'_> {
    /// Rebuilds all that is derived and frees all that is not referred to.
    ///
    /// # Errors
    /// `Corrupt` if the table is not one that a killed process could have left.
    pub(super) fn repair(&self) -> Result<()> {
        // Stays odd after a failure or a panic: no process may read inconsistent contents.
        let change = ManuallyDrop::new(self.state.seq.repair());
        self.rebuild()?;
        drop(ManuallyDrop::into_inner(change));
        Ok(())
    }

    fn rebuild(&self) -> Result<()> {
        let table = self.whole_table()?;
        let mut found = self.contents(self.extents.owned_by(self.owner())?)?;
        crash_point!();
        // Nothing else refers to the cached slot, so it is freed with all that is unreferenced.
        self.cached_slot().take_any();
        self.rebuild_holds(&found.held);
        self.mark_kept(&mut found.census)?;
        self.state.expiring.store(found.expiring, Ordering::Relaxed);
        self.state.count.store(found.count, Ordering::Relaxed);
        self.state
            .tombs
            .store(table.count_tombs(), Ordering::Relaxed);
        // The dead owner may have made a change without notifying waiters. The version must not decrease: a
        // process may already watch one that was stored for a change that never happened (see `watch`).
        let version = self.version().max(found.version).wrapping_add(1);
        self.state.version.store(version, Ordering::Relaxed);
        found.census.restore(&self.slabs())
    }

    /// Completes the changes of holds. `held` are the held entries that the table refers to.
    fn rebuild_holds(&self, held: &[u64]) {
        let holds = self.holds();
        for hold in holds.all().filter(Hold::is_entry) {
            match (hold.kind, held.contains(&hold.what)) {
                (HoldKind::Kept, true) => holds.end(&hold),
                (HoldKind::Pin, false) => {
                    holds.keep(hold.what);
                }
                _ => {}
            }
        }
        holds.restore();
        crash_point!();
    }

    /// Marks the held places to which the table does not refer. Their contents may be anything.
    fn mark_kept(&self, census: &mut Census) -> Result<()> {
        let mut seen = Vec::new();
        for hold in self
            .holds()
            .all()
            .filter(|hold| hold.kind == HoldKind::Kept)
        {
            if !seen.contains(&hold.what) {
                seen.push(hold.what);
                census.mark(self.heap, hold.what, 0)?;
            }
        }
        Ok(())
    }

    /// Checks every invariant of the shard. `extents` are those that the arena says it has.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        let table = self.whole_table()?;
        table.verify()?;
        let mut found = self.contents(extents)?;
        let holds = self.holds();
        let known = |held: &Hold| found.held.contains(&held.what) == (held.kind == HoldKind::Pin);
        if !holds.is_counted() || !holds.all().filter(Hold::is_entry).all(|it| known(&it)) {
            return Err(Error::corrupt("a shard's holds are wrong"));
        }
        self.mark_kept(&mut found.census)?;
        if let Some(spare) = self.cached_slot().offset() {
            found.census.mark(self.heap, spare, 0)?;
        }
        if found.expiring != self.state.expiring.load(Ordering::Relaxed) {
            return Err(Error::corrupt(
                "a shard's count of expiring entries is wrong",
            ));
        }
        if found.count != self.count() {
            return Err(Error::corrupt("a shard's count of entries is wrong"));
        }
        if table.count_tombs() != self.state.tombs.load(Ordering::Relaxed) {
            return Err(Error::corrupt("a shard's count of tombstones is wrong"));
        }
        if found.version > self.version() {
            return Err(Error::corrupt("an entry is newer than its shard"));
        }
        found.census.verify(&self.slabs())
    }

    /// Walks the table and marks what each entry occupies.
    fn contents(&self, extents: Vec<Extent>) -> Result<Contents> {
        let mut found = Contents {
            census: Census::new(&self.slabs(), extents)?,
            count: 0,
            expiring: 0,
            version: 0,
            held: Vec::new(),
        };
        let geometry = Geometry::decode(self.state.table.load(Ordering::Relaxed));
        if geometry.blocks != 0 {
            found.census.mark_table(geometry.head, geometry.blocks)?;
        }
        let holds = self.holds();
        for (_, offset) in self.whole_table()?.entries() {
            let entry = Entry::read(self.heap, offset)?;
            found.census.mark(self.heap, offset, entry.size())?;
            found.count += 1;
            found.expiring += u32::from(entry.is_expiring());
            found.version = found.version.max(entry.version());
            if holds.of(offset).next().is_some() {
                found.held.push(offset);
            }
        }
        Ok(found)
    }
}
