//! Repair of a shard after a process died in it, and the check of all its invariants.
//!
//! Both walk the table, which alone says what the shard holds (S1), and compare it with the
//! extents that the arena says are the shard's: see [`Census`].
//!
//! A repair that is itself killed is started over by the next owner of the lock. What it
//! cannot make sense of (two entries in one place, an entry outside the shard's memory) is
//! an error, and the map is poisoned.

use std::sync::atomic::Ordering;

use super::entry::{self, Entry};
use super::store::Store;
use super::table::Geometry;
use crate::error::{Error, Result};
use crate::heap::{Census, Extent};
use crate::sync::crash::crash_point;

/// What the table of a shard says.
struct Contents {
    census: Census,
    count: u64,
    version: u64,
}

impl Store<'_> {
    /// Restores all that is derived and frees all that is not referred to.
    ///
    /// # Errors
    /// `Corrupt` if the table is not one that a killed process could have left.
    pub(super) fn repair(&self) -> Result<()> {
        let table = self.whole_table()?;
        let found = self.contents(self.extents.owned_by(self.owner)?)?;
        crash_point!();
        self.state.count.store(found.count, Ordering::Relaxed);
        self.state
            .tombs
            .store(table.count_tombs(), Ordering::Relaxed);
        let version = self.state.version.load(Ordering::Relaxed);
        self.state
            .version
            .store(version.max(found.version), Ordering::Relaxed);
        found.census.restore(&self.slabs())
    }

    /// Checks every invariant of the shard. `extents` are those that the arena says it has.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        let table = self.whole_table()?;
        table.verify()?;
        let found = self.contents(extents)?;
        if found.count != self.count() {
            return Err(Error::corrupt("a shard's count of entries is wrong"));
        }
        if table.count_tombs() != self.state.tombs.load(Ordering::Relaxed) {
            return Err(Error::corrupt("a shard's count of tombstones is wrong"));
        }
        if found.version > self.state.version.load(Ordering::Relaxed) {
            return Err(Error::corrupt("an entry is newer than its shard"));
        }
        found.census.verify(&self.slabs())
    }

    /// Walks the table and marks what each entry occupies.
    fn contents(&self, extents: Vec<Extent>) -> Result<Contents> {
        let mut found = Contents {
            census: Census::new(&self.slabs(), extents)?,
            count: 0,
            version: 0,
        };
        let geometry = Geometry::decode(self.state.table.load(Ordering::Relaxed));
        if geometry.blocks != 0 {
            found.census.mark_table(geometry.head, geometry.blocks)?;
        }
        for (_, offset) in self.whole_table()?.entries() {
            let entry = Entry::read(self.heap, offset)?;
            let bytes = entry::size(entry.key.len(), entry.value.len());
            found.census.mark(self.heap, offset, bytes)?;
            found.count += 1;
            found.version = found.version.max(entry.version);
        }
        Ok(found)
    }
}
