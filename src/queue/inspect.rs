//! What a queue holds, as its file says it, without opening it.

use std::fs::File;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::segment::{Inspector, ObjectContents, QueueTotals, Segment, Snapshot};
use crate::sync::EventCell;

use super::core::LAYOUT;
use super::header::{CLOSED, Count, POISONED, QueueHeader};

pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        let mut found = ObjectContents::default();
        inspect(file, Segment::DATA, &mut found)?;
        Ok(found)
    },
};

const TAIL: u64 = offset_of!(QueueHeader, tail) as u64;
const HEAD: u64 = offset_of!(QueueHeader, head) as u64;

/// Adds what the queue at `at` of the file holds to `found`, and returns how large its ring may become.
pub(crate) fn inspect(file: &File, at: u64, found: &mut ObjectContents) -> Result<u64> {
    // The cursors of the first copy say which counts of the second are published: those are written
    // again only after a later publication, and only grow.
    let cursors = Snapshot::read(file, at.saturating_add(TAIL), (HEAD - TAIL) as usize + 8)?;
    let tail = cursors.get::<AtomicU64>(0)?.load(Ordering::Relaxed);
    let head = cursors
        .get::<AtomicU64>(HEAD - TAIL)?
        .load(Ordering::Relaxed);
    let copy = Snapshot::read(file, at, size_of::<QueueHeader>())?;
    let header: &QueueHeader = copy.get(0)?;
    let counts = |cursor: u64, counts: &[Count; 2]| {
        let count = &counts[(cursor & 1) as usize];
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        (load(&count.messages), load(&count.bytes))
    };
    let put = counts(tail, &header.producer.counts);
    let taken = counts(head, &header.consumer.counts);
    let store = &header.store;
    let waiting = store.waiting.load(Ordering::Relaxed);
    let add = |sum: &mut Option<u64>, more: u64| {
        *sum = Some(sum.unwrap_or(0).saturating_add(more));
    };
    add(
        &mut found.len,
        put.0.saturating_sub(taken.0).saturating_add(waiting),
    );
    add(&mut found.bytes, put.1.saturating_sub(taken.1));
    add(&mut found.capacity, header.capacity.load(Ordering::Relaxed));
    let totals = found.totals.get_or_insert_default();
    *totals = QueueTotals {
        put: totals.put.saturating_add(put.0),
        put_bytes: totals.put_bytes.saturating_add(put.1),
        taken: totals.taken.saturating_add(taken.0),
        taken_bytes: totals.taken_bytes.saturating_add(taken.1),
    };
    found.waiting = found.waiting.saturating_add(waiting);
    let leased = store.leased.load(Ordering::Relaxed);
    found.leased = found.leased.saturating_add(leased);
    found.closed |= header.flags() & CLOSED != 0;
    found.poisoned |= header.flags() & POISONED != 0;
    for lock in [&header.producer.lock, &header.consumer.lock, &store.lock] {
        found.holds("lock", lock.owner(), 1);
    }
    let events: [(_, &[&EventCell]); 3] = [
        ("consumers", &[&header.not_empty, &header.parked_consumers]),
        ("producers", &[&header.not_full, &header.parked_producers]),
        ("joiners", &[&header.finished]),
    ];
    for (who, events) in events {
        found.sleeps(who, events.iter().any(|it| it.has_sleepers()));
    }
    Ok(header.max_capacity.load(Ordering::Relaxed))
}
