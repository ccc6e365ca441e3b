//! Who is attached: a lock per handle for the kernel, a line per handle for people.
//!
//! ```text
//! slot (32 bytes)
//! offset  size  field     written by      invariant
//!      0     4  pid       slot's holder   0 while nobody ever held it; else for people
//!      4     4  sitting slot's holder   how often the slot was taken
//!      8     8  since     slot's holder   CLOCK_MONOTONIC
//!     16    16  command   slot's holder   zero-padded
//! ```
//! Slot `i` is taken while somebody holds the lock on byte `SLOTS + i` of the file, far
//! beyond its end. What the slot says is for people and is never asked to decide anything.
//!
//! Byte `GATE` is locked while a handle comes or goes, so that "am I the last?" and "is
//! anybody there?" have answers that stay true until they are acted upon.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Owner, Shared};
use crate::sys::{clock, ofd, process};

/// How many handles may be attached at a time.
pub(crate) const COUNT: u64 = 1024;
/// Bytes of the table.
pub(crate) const SIZE: u64 = COUNT * size_of::<Slot>() as u64;

const GATE: u64 = 1 << 62;
const SLOTS: u64 = GATE + 1;

/// Some of the slots: those that a handle may take, or that are asked about.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    first: u64,
    len: u64,
}

impl Section {
    /// Every slot.
    pub(crate) const ALL: Self = Self {
        first: 0,
        len: COUNT,
    };
    /// Where an object has two sides, the slots of each.
    pub(crate) const SIDES: [Self; 2] = [
        Self {
            first: 0,
            len: COUNT / 2,
        },
        Self {
            first: COUNT / 2,
            len: COUNT / 2,
        },
    ];
}

#[repr(C)]
pub(crate) struct Slot {
    pid: AtomicU32,
    sitting: AtomicU32,
    since: AtomicU64,
    command: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Slot>() == 32);

// SAFETY: atomics only.
unsafe impl Shared for Slot {}

/// The whole table.
#[repr(C)]
pub(crate) struct Table([Slot; COUNT as usize]);

// SAFETY: slots only.
unsafe impl Shared for Table {}

impl Slot {
    /// Only system calls and stores: it may run in a freshly forked child.
    fn sign(&self) {
        // First: what an earlier holder left must not look like this one's.
        self.sitting.fetch_add(1, Ordering::SeqCst);
        let command = process::command();
        let (low, high) = command.split_at(8);
        let word = |half: &[u8]| u64::from_ne_bytes(half.try_into().unwrap_or([0; 8]));
        self.command[0].store(word(low), Ordering::Relaxed);
        self.command[1].store(word(high), Ordering::Relaxed);
        self.since.store(clock::now_ns(), Ordering::Relaxed);
        self.pid.store(process::pid(), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.pid.store(0, Ordering::Relaxed);
    }

    /// Reads pid and command as a file holds them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(u32, String)> {
        let pid = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?);
        let command = bytes.get(16..32)?.split(|&byte| byte == 0).next()?;
        Some((pid, String::from_utf8_lossy(command).into_owned()))
    }
}

impl Table {
    /// Who holds `slot` now.
    pub(crate) fn owner(&self, slot: u16) -> Owner {
        let it = self.0.get(slot as usize);
        let sitting = it.map_or(0, |it| it.sitting.load(Ordering::SeqCst));
        Owner { slot, sitting }
    }

    /// Whether `owner` is still attached, by the kernel's word. `fd` is that of `asker`, who
    /// does not see its own lock.
    pub(crate) fn is_attached(&self, fd: BorrowedFd<'_>, asker: u16, owner: Owner) -> Result<bool> {
        let Owner { slot, .. } = owner;
        let held = slot == asker
            || u64::from(slot) < COUNT
                && ofd::first_held(fd, SLOTS + u64::from(slot), 1)?.is_some();
        // Asked last: whoever took the slot after its owner has counted up by now, or has the
        // lock and will, and then the owner is found gone the next time.
        Ok(held && self.owner(slot) == owner)
    }

    /// Says who has the slot now. May run in a freshly forked child.
    pub(crate) fn sign(&self, slot: u16) {
        if let Some(it) = self.0.get(slot as usize) {
            it.sign();
        }
    }

    /// Takes a free slot of `section` and signs it.
    pub(crate) fn join(&self, fd: BorrowedFd<'_>, section: Section) -> Result<u16> {
        // Unsigned slots first: a signed one is nearly always alive, and asking costs a call.
        for signed in [false, true] {
            let slots = self.0.iter().enumerate();
            for (index, slot) in slots
                .skip(section.first as usize)
                .take(section.len as usize)
            {
                let looks_signed = slot.pid.load(Ordering::Relaxed) != 0;
                if looks_signed == signed && ofd::try_lock(fd, SLOTS + index as u64)? {
                    slot.sign();
                    return Ok(index as u16);
                }
            }
        }
        Err(Error::Exhausted {
            what: "handles on one object",
            limit: section.len,
        })
    }

    /// Gives a slot back.
    pub(crate) fn leave(&self, fd: BorrowedFd<'_>, slot: u16) {
        if let Some(it) = self.0.get(slot as usize) {
            it.clear();
        }
        ofd::unlock(fd, SLOTS + u64::from(slot));
    }
}

/// Whether any *other* handle is attached in `section`.
pub(crate) fn anyone_else(fd: BorrowedFd<'_>, section: Section) -> Result<bool> {
    Ok(ofd::first_held(fd, SLOTS + section.first, section.len)?.is_some())
}

/// Whether any other open file description has a lock on the file: a participant, or a process in
/// the gate. Asked about every byte there can be, so that it holds for a file of any version.
pub(crate) fn is_held(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(ofd::first_held(fd, 0, 0)?.is_some())
}

/// The slots that other handles hold, in order.
pub(crate) fn held(fd: BorrowedFd<'_>) -> Result<Vec<u16>> {
    // The kernel names any one lock of the range, so what lies on both sides of it is asked
    // about again.
    let (mut held, mut ranges) = (Vec::new(), vec![(SLOTS, SLOTS + COUNT)]);
    while let Some((from, to)) = ranges.pop() {
        if from == to {
            continue;
        }
        if let Some(byte) = ofd::first_held(fd, from, to - from)? {
            held.push((byte - SLOTS) as u16);
            ranges.extend([(from, byte), (byte + 1, to)]);
        }
    }
    held.sort_unstable();
    Ok(held)
}

/// Keeps others from coming and going until dropped.
///
/// Opened by name, not only by closing the descriptor: a fork in another thread may have
/// copied that.
pub(crate) struct Gate<'a>(BorrowedFd<'a>);

impl<'a> Gate<'a> {
    /// Waits for whoever is in the gate.
    pub(crate) fn close(fd: BorrowedFd<'a>) -> Result<Self> {
        ofd::lock(fd, GATE).map(|()| Self(fd))
    }

    /// `None` if somebody is in the gate.
    pub(crate) fn try_close(fd: BorrowedFd<'a>) -> Result<Option<Self>> {
        Ok(ofd::try_lock(fd, GATE)?.then_some(Self(fd)))
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        ofd::unlock(self.0, GATE);
    }
}
