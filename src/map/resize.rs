//! Larger and smaller tables.
//!
//! A new table is filled while nothing refers to it, and published by one store of the shard's table word.
//! After a kill before that store, the new table is unreferenced memory; after it, the old one is. A repair
//! frees either.

use std::sync::atomic::Ordering;

use super::store::{Store, outside};
use super::table::{Geometry, SLOTS_PER_BLOCK, Table};
use crate::error::{Error, Result};
use crate::heap::{Purpose, commit_store};
use crate::sync::crash::crash_point;

/// How many of every 20 slots may be in use, tombstones included. With more than 17, probes for absent keys
/// become long.
const FULL: u64 = 17;

impl<'a> Store<'a> {
    /// A slot for one more entry: `slot` of `table`, or one of a larger table.
    #[inline]
    pub(super) fn make_room(
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
        // If tombstones have filled it, a new table of the same size is enough.
        let dense = table.entries().count() as u64 * 20 > slots * 12;
        let blocks = (slots as usize / SLOTS_PER_BLOCK) as u64;
        let wanted = if dense { blocks + blocks / 2 } else { blocks };
        let table = self.rehash(table, wanted.max(if dense { blocks + 1 } else { 1 }))?;
        let mut search = table.search(tag);
        while search.next().is_some() {}
        match search.insertion_slot() {
            Some(slot) => Ok((table, slot)),
            None => Err(Error::corrupt("a new table has no free slot")),
        }
    }

    /// Replaces a table that has become far too large. If there is no memory for a smaller one, the table
    /// stays, and the caller's operation still succeeds.
    pub(super) fn shrink(&self, table: Table<'a>) -> Result<()> {
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
        let head = self
            .extents
            .allocate(blocks, self.owner(), Purpose::Table)?;
        crash_point!();
        let geometry = Geometry { head, blocks };
        let new = Table::new(self.heap, geometry).ok_or_else(outside)?;
        new.make_empty();
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
