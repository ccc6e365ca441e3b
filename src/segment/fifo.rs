//! The FIFOs of an object's queues: what several processes have open to be told through the kernel.
//!
//! Each lies beside the object's file, `shoal=<place of the queue>.<name of the object>`, is made by
//! the first process that asks, and goes with the object's name: the process that removes that removes the
//! FIFOs first. So no FIFO of another object of the same name, made later, is ever met. The bits in
//! the stamp say which there may be.
//!
//! # What a kill leaves
//! A bit is set before its FIFO is made: killed in between, a process that looks for the FIFO does not
//! find it. Killed after it was made, and before the queue says which one it has: the next process
//! that asks makes another in its place. Killed between removing the FIFOs and the object's name: the
//! object is removed by those who meet it.
//!
//! # Limits
//! A process that asks while another removes the name may leave a FIFO without an object. `gc` removes
//! those; it may also meet the FIFO of a new object of the name at that moment, whose queue then
//! tells processes that come later through descriptors of their own.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::layout::{Offset, Region};
use crate::sync::crash::crash_point;
use crate::sys::{fifo, shm};

use super::attach::Segment;
use super::handle::Names;
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

/// Whether the object still has its name.
fn is_named(names: &Names) -> bool {
    shm::is_name_of(&names.published, names.identity)
}

impl Segment {
    /// Makes the FIFO of the queue at place `way`, opens it, and says which inode it has. `None` where
    /// none can be had: the object's name was removed, the directory cannot be written to.
    ///
    /// Only one process at a time does that for a queue, and no process has that FIFO yet.
    pub(crate) fn make_fifo(&self, way: u32) -> Option<(OwnedFd, u64)> {
        let names = self.names();
        if !is_named(names) {
            return None;
        }
        // SYNC: what is removed with the name is looked for by these bits.
        bits(&self.region())?.fetch_or(1 << way, Ordering::SeqCst);
        crash_point!();
        let file = name::fifo_file(&names.published, way);
        fifo::make(&file).ok()?;
        crash_point!();
        let made = fifo::open(&file)?;
        if !is_named(names) {
            shm::unlink_if_same(&file, made.0.as_fd());
            return None;
        }
        Some(made)
    }

    /// Opens the FIFO of the queue at place `way`, if it is the one with this inode.
    pub(crate) fn open_fifo(&self, way: u32, inode: u64) -> Option<OwnedFd> {
        let (fd, found) = fifo::open(&name::fifo_file(&self.names().published, way))?;
        (found == inode).then_some(fd)
    }
}
