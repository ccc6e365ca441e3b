//! Iteration while others write.
//!
//! A cursor moves through the shards, and in each through the tags of the keys. A key's tag never changes and
//! tags keep their order when a table grows, so a key that is in the map throughout is returned exactly once,
//! whatever other processes do (see [`Table::visit_from`]).
//!
//! Each step copies the keys of a few dozen slots under the shard's lock, and their values if they
//! are small. Larger values are read when the iterator reaches them, so a step has no more in memory
//! than the keys and 4 KiB for each.
//!
//! An ordered map is walked in the order of insertion: the first step copies the keys of all shards, each
//! shard under its lock, and sorts them by their times of insertion; the values are read when the iterator
//! reaches them. The order of two keys that two processes insert within about a nanosecond is undefined.
//!
//! [`Table::visit_from`]: super::table::Table::visit_from

use std::collections::VecDeque;

use super::entry::Entry;
use super::ops::Map;
use crate::error::{Error, Result};

/// Slots read under one lock.
const STEP: usize = 64;
/// The largest value that is copied along with its key.
const INLINE: usize = 4096;

/// A position in a map that does not borrow the map, for the C interface.
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
                    // A key that was removed since its step is skipped: it was not in the map throughout.
                    if let Some(value) = map.get_vec(&key)? {
                        return Ok(Some((key, value)));
                    }
                }
                None if self.shard == map.core.shard_count() => return Ok(None),
                None if map.is_ordered() => self.fill_in_order(map)?,
                None => self.fill(map)?,
            }
        }
        Ok(None)
    }

    /// Copies all keys, in the order of their insertion.
    fn fill_in_order(&mut self, map: &Map) -> Result<()> {
        let mut keys = Vec::new();
        while self.shard < map.core.shard_count() {
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

    /// Copies the next few entries of the shard.
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

impl Map {
    /// All keys and their values, in no order, while others may write.
    ///
    /// A key that is in the map from the first call to the last is returned exactly once, with a value that
    /// it had at some time in between; a key that is inserted or removed meanwhile is returned once or not at
    /// all. No lock is held between two steps. After an error the iteration ends.
    ///
    /// ```
    /// # let map = shoal::Map::anonymous()?;
    /// map.set(b"a", b"1")?;
    /// for item in &map {
    ///     let (key, value) = item?;
    ///     assert_eq!((&key[..], &value[..]), (&b"a"[..], &b"1"[..]));
    /// }
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            map: self,
            cursor: Cursor::default(),
        }
    }
}

impl Map {
    /// The key that was inserted last into an [ordered](crate::Options::ordered) map, `None` if it has no key.
    /// Looks at every key, one part of the map after the other, and copies no value.
    ///
    /// # Errors
    /// `Invalid` if the map is not ordered; `Poisoned`, `Corrupt`.
    pub fn last_key(&self) -> Result<Option<Vec<u8>>> {
        if !self.is_ordered() {
            let why = "only an ordered map has a last key";
            return Err(Error::invalid("map", why));
        }
        let mut last: Option<(u64, Vec<u8>)> = None;
        for index in 0..self.core.shard_count() {
            let shard = self.core.lock(index)?;
            let (mut latest, mut found) = (last.as_ref().map_or(0, |(at, _)| *at), None);
            for (_, offset) in shard.store.whole_table()?.entries() {
                let entry = Entry::read(shard.store.heap, offset)?;
                if entry.inserted_at() >= latest && !entry.is_expired() {
                    (latest, found) = (entry.inserted_at(), Some(entry));
                }
            }
            if let Some(entry) = found {
                last = Some((latest, entry.key().to_vec()));
            }
        }
        Ok(last.map(|(_, key)| key))
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = Result<(Vec<u8>, Vec<u8>)>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.map)
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
