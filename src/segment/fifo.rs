//! The FIFOs of an object's queues: what several processes have open to be signalled through the kernel.
//!
//! Each lies beside the object's file, `shoal=<place of the queue>.<name of the object>`, is made by
//! the first process that asks, and goes with the object's name: the process that removes the name
//! removes the FIFOs first. So a FIFO never belongs to an earlier object of the same name. The bits in
//! the stamp say which there may be.
//!
//! # What a kill leaves
//! A bit is set before its FIFO is made: killed in between, a process that looks for the FIFO does not
//! find it. Killed after it was made, and before the queue says which one it has: the next process
//! that asks makes another in its place. Killed between removing the FIFOs and the object's name: the
//! object is removed by the process that finds it.
//!
//! # Limits
//! A process that asks while another removes the name may leave a FIFO without an object. `gc` removes
//! those; it may also find the FIFO of a new object of the name at that moment, whose queue then
//! signals later processes through descriptors of their own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::layout::{Offset, Region};
use crate::sync::crash::crash_point;
use crate::sys::{fifo, shm};

use super::file::ObjectFile;
use super::{name, stamp};

/// As many places as an object can have queues.
const PLACES: u32 = 2;

/// The word with the bits.
fn bits(region: &Region) -> Option<&AtomicU32> {
    region.resolve(Offset::new(stamp::FIFOS)).ok()
}

/// Removes the FIFOs of the object whose file is `file`, of which these bits are set.
pub(super) fn remove(file: &str, bits: u32) {
    for way in (0..PLACES).filter(|way| bits & (1 << way) != 0) {
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
    // SYNC: what is removed with the name is looked for by these bits.
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
