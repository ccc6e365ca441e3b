//! What a queue holds, read from its file without opening the queue.

use std::fs::File;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::segment::{Inspector, ObjectContents, QueueTotals, Segment, Snapshot};

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

/// The words at the tail and at the head.
fn cursors(file: &File, at: u64) -> Result<[u64; 2]> {
    let copy = Snapshot::read(file, at.saturating_add(TAIL), (HEAD - TAIL) as usize + 8)?;
    let load = |at| Ok(copy.get::<AtomicU64>(at)?.load(Ordering::Relaxed));
    Ok([load(0)?, load(HEAD - TAIL)?])
}

/// The counts of messages and bytes, put and taken, that the cursors select. A pair that is not selected is
/// the previous one, or the next one, which its writer is about to publish.
fn published(cursors: [u64; 2], header: &QueueHeader) -> [(u64, u64); 2] {
    let choose = |cursor: u64, counts: &[Count; 2]| {
        let count = &counts[(cursor & 1) as usize];
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        (load(&count.messages), load(&count.bytes))
    };
    let [tail, head] = cursors;
    [
        choose(tail, &header.producer.counts),
        choose(head, &header.consumer.counts),
    ]
}

/// Adds what the queue at `at` of the file holds to `found`, and returns the maximum capacity of its ring.
pub(crate) fn inspect(file: &File, at: u64, found: &mut ObjectContents) -> Result<u64> {
    let before = cursors(file, at)?;
    let copy = Snapshot::read(file, at, size_of::<QueueHeader>())?;
    let header: &QueueHeader = copy.get(0)?;
    let [mut put, mut taken] = published(before, header);
    // The counts may have been overwritten since by those of a publication that is still to come. Then a
    // second reading selects smaller ones, which are published. The smaller of the two always are, and are
    // those of `before` or later.
    let after = cursors(file, at)?;
    if after != before {
        let later = Snapshot::read(file, at, size_of::<QueueHeader>())?;
        let [later_put, later_taken] = published(after, later.get(0)?);
        (put, taken) = (put.min(later_put), taken.min(later_taken));
    }
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
    let consumers = header.has_waiting_consumer() || header.parked_consumers.has_sleepers();
    found.sleeps("consumers", consumers);
    found.sleeps(
        "producers",
        header.not_full.has_sleepers() || header.parked_producers.has_sleepers(),
    );
    found.sleeps("joiners", header.finished.has_sleepers());
    Ok(header.max_capacity.load(Ordering::Relaxed))
}
