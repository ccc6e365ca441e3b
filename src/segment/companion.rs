//! Companions: persistent objects that belong to another object, and are removed with its name.
//!
//! A companion has the name of its object with a suffix. Both have the same random number in their stamps. So
//! a companion that an earlier object of the name left is not taken for the present one's, and an unrelated
//! object with such a name is never touched.
//!
//! An object with companions stays when no process has it open, as if it had been created persistent: what
//! its companions contain was accepted, and only under its name does a process find it again. The number in the
//! stamp says so to all handles, also those that were opened before. It is read under the attach lock by the
//! process that would remove the object. A process that changes the number is a participant until after the
//! change. So a process that finds no participant under that lock reads the last number: the process that
//! stored it has left, by a store that the remover has read, or has died, as the kernel has told the remover.
//! (A thread that attaches a relay while its process exits is too late: its object may have no name by then.)
//! When the companions are removed, the number is 0 again, and the object is as it was created.
//!
//! The process that removes an object's name removes those of its companions first, each under the companion's
//! own attach lock. `relay` explains what companions are for.
//!
//! # What a kill leaves
//! Killed after the number is stored and before the companions exist: an object that stays, until it is unlinked
//! or a relay attaches. Killed between removing the companions and the object's name: the object has no
//! companions until it is unlinked again. Killed after the object's name was removed by other means (`rm`):
//! companions of no object. They are replaced when a new relay needs their names, or removed by name.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Offset, Region};
use crate::sync::crash::crash_point;
use crate::sys::shm;

use super::attach_lock::AttachLock;
use super::fifo;
use super::file::find;
use super::name::PUBLISHED;
use super::stamp;

/// Which companion of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companion {
    /// The queue of requests to a relay.
    Requests = 1,
    /// Of a queue: the queue of settlements of delivered messages.
    Settled = 2,
    /// Of a map: the map of the relay's answers.
    Answers = 3,
}

impl Companion {
    const ALL: [Self; 3] = [Self::Requests, Self::Settled, Self::Answers];

    /// The suffix of the companion's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Requests => ".relay",
            Self::Settled => ".settled",
            Self::Answers => ".answers",
        }
    }

    /// The name of this companion of the object `name`.
    pub(crate) fn name(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }
}

/// The word of a stamp with the id of the companions that an object has or is one of; 0 for none.
pub(super) fn family(region: &Region) -> Result<&AtomicU64> {
    region.resolve(Offset::new(stamp::FAMILY))
}

/// The word of a stamp that says which companion an object is; 0 for none.
pub(super) fn which(region: &Region) -> Result<&AtomicU32> {
    region.resolve(Offset::new(stamp::COMPANION))
}

/// Removes the companions of the object whose file is `file`, which has this `family` in its stamp and is no
/// companion itself. If another process has the attach lock of one, stops there and returns that one's file.
pub(super) fn remove(file: &str, family: u64) -> Option<String> {
    if family == 0 {
        return None;
    }
    let name = file.strip_prefix(PUBLISHED)?;
    for which in Companion::ALL {
        let name = which.name(name);
        let file = format!("{PUBLISHED}{name}");
        if let Ok((open, stamp)) = find(&name, &file)
            && stamp.family() == (family, which as u32)
        {
            let Ok(Some(_lock)) = AttachLock::try_acquire(open.as_fd()) else {
                return Some(file);
            };
            fifo::remove(&file, stamp.fifos());
            crash_point!();
            shm::unlink_if_same(&file, open.as_fd());
            crash_point!();
        }
    }
    None
}

/// Whether the object has companions, and therefore stays. Also if its stamp cannot be read.
pub(super) fn has_any(region: &Region) -> bool {
    match (family(region), which(region)) {
        (Ok(family), Ok(which)) => {
            which.load(Ordering::Relaxed) == 0 && family.load(Ordering::Acquire) != 0
        }
        _ => true,
    }
}

/// Whether one of these companions of the object `name` has lost its name. If it cannot be determined, it has not.
pub(super) fn is_lost(name: &str, companions: &[Companion]) -> bool {
    companions.iter().any(|which| {
        let name = which.name(name);
        let found = find(&name, &format!("{PUBLISHED}{name}"));
        matches!(found, Err(Error::NotFound { .. }))
    })
}
