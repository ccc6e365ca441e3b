//! What a list holds, read from its file without opening the list.

use std::sync::atomic::Ordering;

use crate::heap::{BLOCK, PAGE};
use crate::segment::{Inspector, ObjectContents, Snapshot};

use super::core::{HEADER, ListHeader};
use super::ops::LAYOUT;

pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        let copy = Snapshot::read(file, HEADER, PAGE as usize)?;
        let header: &ListHeader = copy.get(0)?;
        let blocks = header.arena.used.load(Ordering::Relaxed);
        let mut found = ObjectContents {
            // During a change, the copy may have parts of two shapes.
            len: header.list.shape().ok().map(|it| it.len),
            bytes: Some(blocks.saturating_mul(BLOCK)),
            poisoned: header.poisoned.load(Ordering::Relaxed) != 0,
            ..ObjectContents::default()
        };
        found.holds("lock", header.lock.owner(), 1);
        found.sleeps("waiters", header.lock.has_sleepers());
        Ok(found)
    },
};
