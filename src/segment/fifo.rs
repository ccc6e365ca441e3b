//! The FIFOs of an object's queues, through which the kernel signals all processes that have them open.
//!
//! Each is in the directory of the object's file as `shoal=<number of the queue>.<name of the object>`. The
//! first process that needs it makes it, and the process that removes the object's name removes the FIFOs
//! first. So a FIFO never belongs to an earlier object of the same name. The bits in the stamp say which
//! FIFOs may exist.
//!
//! # What a kill leaves
//! A bit is set before its FIFO is made: after a kill in between, a process that removes the FIFO finds none.
//! Killed after it was made, and before the queue's header has its inode: the next process that needs one
//! makes another in its place. Killed between removing the FIFOs and the object's name: the process that
//! finds the dead object removes it.
//!
//! # Limits
//! A process that makes a FIFO while another removes the name may leave the FIFO without an object. `gc`
//! removes it. At such a moment `gc` may also remove the FIFO of a new object of that name; processes that
//! need it later then use separate pipes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::layout::{Offset, Region};
use crate::sync::crash::crash_point;
use crate::sys::{fifo, shm};

use super::file::ObjectFile;
use super::{name, stamp};

/// The most queues that an object can have.
const WAYS: u32 = 2;

/// The word of the stamp with the bits.
fn bits(region: &Region) -> Option<&AtomicU32> {
    region.resolve(Offset::new(stamp::FIFOS)).ok()
}

/// Removes those FIFOs of the object whose file is `file` whose bits are set.
pub(super) fn remove(file: &str, bits: u32) {
    for way in (0..WAYS).filter(|way| bits & (1 << way) != 0) {
        fifo::remove(&name::fifo_file(file, way));
    }
}

/// [`remove`], by the last to leave.
pub(super) fn remove_of(region: &Region, file: &str) {
    if let Some(bits) = bits(region) {
        remove(file, bits.load(Ordering::Relaxed));
    }
}

/// Whether `file` is a FIFO whose object has no file.
pub(super) fn is_orphan(file: &str) -> bool {
    name::owner_of_fifo(file).is_some_and(|object| shm::facts(&object).is_err())
}

/// See [`Segment::make_fifo`](super::Segment::make_fifo).
pub(super) fn make(region: &Region, object: &ObjectFile, way: u32) -> Option<(OwnedFd, u64)> {
    if !object.is_named() {
        return None;
    }
    // SYNC: before the FIFO exists, so that a process that removes the name finds it by this bit.
    bits(region)?.fetch_or(1 << way, Ordering::SeqCst);
    crash_point!();
    let file = name::fifo_file(&object.published, way);
    fifo::make(&file).ok()?;
    crash_point!();
    let made = fifo::open(&file)?;
    if !object.is_named() {
        shm::unlink_if_same(&file, made.0.as_fd());
        return None;
    }
    Some(made)
}

/// See [`Segment::open_fifo`](super::Segment::open_fifo).
pub(super) fn open(object: &ObjectFile, way: u32, inode: u64) -> Option<OwnedFd> {
    let (fd, found) = fifo::open(&name::fifo_file(&object.published, way))?;
    (found == inode).then_some(fd)
}
