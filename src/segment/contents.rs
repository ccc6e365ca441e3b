//! What an object holds, read from its file: for programs that observe.
//!
//! An inspection copies the head of the object's data from the file. It maps nothing, locks nothing and
//! attaches nothing, so no other process notices it, and a full or stuck object can be inspected too. A hole
//! in the file reads as zeros and takes no memory. The copy is not atomic: words that change together may be
//! of different times.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::layout::{Offset, Owner, Region, Shared};

/// How much has ever passed through a queue, for computing rates: see [`Queue::totals`](crate::Queue::totals).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Messages that were put.
    pub put: u64,
    /// Their payload bytes.
    pub put_bytes: u64,
    /// Messages that were taken: got, or leased for the first time.
    pub taken: u64,
    /// Their payload bytes.
    pub taken_bytes: u64,
}

/// What an object holds: see [`observe`](crate::observe()).
///
/// Each number is exact while no process changes the object, and otherwise slightly out of date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectContents {
    /// Messages of a queue, or of both directions of a pipe; keys of a map; elements of a list; items of
    /// an array; permits of a semaphore that are available; parties of a barrier.
    pub len: Option<u64>,
    /// Payload bytes of those messages, or of the items of an array; bytes of memory that the entries of
    /// a map or a list take.
    pub bytes: Option<u64>,
    /// Bytes of the rings of a queue or a pipe as they are now.
    pub capacity: Option<u64>,
    /// How much has ever passed through a queue, or through both directions of a pipe.
    pub totals: Option<QueueTotals>,
    /// Messages that are leased.
    pub leased: u64,
    /// Messages that wait to be delivered again.
    pub waiting: u64,
    /// Whether a queue is closed, or a direction of a pipe.
    pub closed: bool,
    /// Whether no process can use the object any more: its repair failed, or a barrier is broken.
    pub poisoned: bool,
    /// Whether an event is set.
    pub set: Option<bool>,
    /// Which processes hold a lock of the object or wait in its table of waiters.
    pub holders: Vec<ObjectHolder>,
    /// Which waiters may be asleep: `consumers`, `producers`, `joiners` of a queue or a pipe; `watchers` of a
    /// map; otherwise `waiters`. A sleeper that gave up may be reported until the next wake-up.
    pub asleep: Vec<&'static str>,
}

/// A process that holds a part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectHolder {
    /// Its slot among the participants.
    pub slot: u16,
    /// Its process id, as in [`Participant::pid`](crate::Participant); `None` if it died: the next process
    /// that needs what it held takes that over.
    pub pid: Option<u32>,
    /// What it holds: `lock`, `permits`, `read`, `write`, or a `wait` in a condition or a barrier.
    pub what: &'static str,
    /// How much of that.
    pub count: u64,
    pub(crate) generation: u32,
}

impl ObjectContents {
    /// Adds that `owner`, if there is one, holds `count` of `what`.
    pub(crate) fn holds(&mut self, what: &'static str, owner: Option<Owner>, count: u64) {
        let Some(Owner { slot, generation }) = owner else {
            return;
        };
        let is_it =
            |it: &&mut ObjectHolder| (it.slot, it.generation, it.what) == (slot, generation, what);
        match self.holders.iter_mut().find(is_it) {
            Some(same) => same.count = same.count.saturating_add(count),
            None => self.holders.push(ObjectHolder {
                slot,
                pid: None,
                what,
                count,
                generation,
            }),
        }
    }

    /// Adds that waiters of this kind may be asleep, if `asleep`.
    pub(crate) fn sleeps(&mut self, who: &'static str, asleep: bool) {
        if asleep && !self.asleep.contains(&who) {
            self.asleep.push(who);
        }
    }
}

/// How to inspect the file of an object of one kind.
pub(crate) struct Inspector {
    /// The only layout of that kind that it understands.
    pub(crate) layout: u64,
    pub(crate) inspect: fn(&File) -> Result<ObjectContents>,
}

/// A copy of a part of an object's file, aligned like the object itself.
pub(crate) struct Snapshot {
    region: Region,
    _memory: Vec<u8>,
}

/// The alignment of what objects have in shared memory.
const ALIGN: usize = 128;

impl Snapshot {
    /// Copies `len` bytes at `at`. What lies beyond the end of the file is zeros.
    pub(crate) fn read(file: &File, at: u64, len: usize) -> Result<Self> {
        // Bytes, and not values of that alignment: the allocator has zeroed bytes.
        let mut memory = vec![0u8; len + ALIGN];
        let first = memory.as_ptr().align_offset(ALIGN);
        let buffer = &mut memory[first..first + len];
        let mut have = 0;
        while have < len {
            match file.read_at(&mut buffer[have..], at + have as u64) {
                Ok(0) => break,
                Ok(more) => have += more,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Error::last_os("pread")),
            }
        }
        let bytes = NonNull::from(buffer).cast::<u8>();
        // SAFETY: the vector is stored together with the region, and not changed any more.
        let region = unsafe { Region::new(bytes, len) };
        Ok(Self {
            region,
            _memory: memory,
        })
    }

    /// The `T` at `at`, counted from where the copy begins.
    pub(crate) fn get<T: Shared>(&self, at: u64) -> Result<&T> {
        self.region.resolve(Offset::new(at))
    }
}
