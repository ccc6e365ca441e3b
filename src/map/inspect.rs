//! What a map holds, read from its file without opening the map.

use std::sync::atomic::Ordering;

use crate::heap::BLOCK;
use crate::segment::{Inspector, ObjectContents, Segment, Snapshot};

use super::hash::SHARDS;
use super::header::{self, HEAP, MapHeader, SHARD_TABLE, Shard};
use super::ops::LAYOUT;

pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        let copy = Snapshot::read(file, Segment::DATA, (HEAP - Segment::DATA) as usize)?;
        let header: &MapHeader = copy.get(0)?;
        let shards: &[Shard; SHARDS] = copy.get(SHARD_TABLE - Segment::DATA)?;
        let shards = &shards[..header::count_shards(header)?];
        let count = |shard: &Shard| shard.store.count.load(Ordering::Relaxed);
        let len = shards
            .iter()
            .fold(0, |sum: u64, it| sum.saturating_add(count(it)));
        let blocks = header.arena.used.load(Ordering::Relaxed);
        let mut found = ObjectContents {
            len: Some(len),
            bytes: Some(blocks.saturating_mul(BLOCK)),
            poisoned: header.poisoned.load(Ordering::Relaxed) != 0,
            ..ObjectContents::default()
        };
        found.holds("lock", header.lock.owner(), 1);
        found.sleeps("watchers", header.changed.has_sleepers());
        for shard in shards {
            found.holds("lock", shard.lock.owner(), 1);
            found.sleeps("watchers", shard.changed.has_sleepers());
        }
        Ok(found)
    },
};
