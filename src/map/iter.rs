//! Iteration while others write.
//!
//! A cursor moves through the shards, and in each through the tags of the keys. A key's tag
//! never changes and tags keep their order when a table grows, so a key that is there
//! throughout is met exactly once, whatever else happens (see [`Table::visit_from`]).
//!
//! Each step copies the keys of a few dozen slots under the shard's lock, and with them the
//! values if they are small. Larger values are read when it is their turn, so a step never
//! holds more than the keys and 4 KiB for each.
//!
//! An ordered map is walked in the order of insertion: the first step copies the keys of all
//! shards, each shard under its lock, and sorts them by when they were inserted; the values are
//! read when it is their handoff. Two keys that two processes insert within a nanosecond or so
//! stand in any order.
//!
//! [`Table::visit_from`]: super::table::Table::visit_from

use std::collections::VecDeque;

use super::Map;
use super::entry::Entry;
use super::hash::SHARDS;
use crate::error::Result;

/// Slots looked at under one lock.
const STEP: usize = 64;
/// The largest value that is copied along with its key.
const INLINE: usize = 4096;

/// A position in a map, without the map: for callers that cannot hold a borrow.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    shard: usize,
    tag: u32,
    ready: VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
    failed: bool,
}

impl Cursor {
    /// The next key and its value; `None` at the end, and after an error.
    pub(crate) fn next(&mut self, map: &Map) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
        let next = self.advance(map).transpose();
        self.failed |= matches!(next, Some(Err(_)));
        next
    }

    fn advance(&mut self, map: &Map) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        while !self.failed {
            match self.ready.pop_front() {
                Some((key, Some(value))) => return Ok(Some((key, value))),
                Some((key, None)) => {
                    // Removed since its step: then it was not there throughout.
                    if let Some(value) = map.get_vec(&key)? {
                        return Ok(Some((key, value)));
                    }
                }
                None if self.shard == SHARDS => return Ok(None),
                None if map.is_ordered() => self.fill_in_order(map)?,
                None => self.fill(map)?,
            }
        }
        Ok(None)
    }

    /// Copies all keys, in the order of their insertion.
    fn fill_in_order(&mut self, map: &Map) -> Result<()> {
        let mut keys = Vec::new();
        while self.shard < SHARDS {
            let shard = map.core.lock(self.shard)?;
            for (_, offset) in shard.store.whole_table()?.entries() {
                let entry = Entry::read(shard.store.heap, offset)?;
                if !entry.is_expired() {
                    keys.push((entry.inserted_at(), entry.key().to_vec()));
                }
            }
            self.shard += 1;
        }
        keys.sort_unstable();
        self.ready = keys.into_iter().map(|(_, key)| (key, None)).collect();
        Ok(())
    }

    /// Copies the next few entries out of the shard.
    fn fill(&mut self, map: &Map) -> Result<()> {
        let shard = map.core.lock(self.shard)?;
        let table = shard.store.whole_table()?;
        let next = table.visit_from(self.tag, STEP, |_, offset| {
            let entry = Entry::read(shard.store.heap, offset)?;
            if entry.is_expired() {
                return Ok(());
            }
            let value = (entry.value().len() <= INLINE).then(|| entry.value().to_vec());
            self.ready.push_back((entry.key().to_vec(), value));
            Ok(())
        })?;
        match next {
            Some(tag) => self.tag = tag,
            None => (self.shard, self.tag) = (self.shard + 1, 0),
        }
        Ok(())
    }
}

/// Iterator over the keys and values of a [`Map`]; see [`Map::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    map: &'a Map,
    cursor: Cursor,
}

impl<'a> Iter<'a> {
    pub(super) fn new(map: &'a Map) -> Self {
        Self {
            map,
            cursor: Cursor::default(),
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.map)
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
