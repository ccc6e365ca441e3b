//! The relay's part of an object's header.
//!
//! ```text
//! offset  size  field        written by        meaning
//!      0    64  role         any process       which process has the role of the relay; see `sync::lock`
//!     64     8  max_payload  the relay         the longest payload of a request; 0 for any
//!     72     8  wait_ns      the relay         how long a call waits that has no timeout
//!     80     8  revision     the relay         in a map: the revision up to which all was delivered. In a
//!                                              queue: when a consumer last found it empty, a hint. In a
//!                                              companion: a random number, part of its requests' ids
//!     88     4  sets_wait    the relay         in a map: 1 if a set waits for the answer
//!     92    36  unused
//! ```
//! A separate mark says whether an object is relayed *now*. It is next to words that changes of the object
//! read anyway: a bit of a queue's flags, a word of a map's header. The mark changes only under the locks
//! under which the object changes, so it is constant while a process holds such a lock.
//!
//! # What a kill leaves
//! ```text
//! attaching                                     killed after it
//! 1  the role is taken                          the next relay takes the role over
//! 2  the stamp's `family` is stored             an object that is not relayed; it stays without processes,
//!                                               and a process that removes it looks for companions
//! 3  the companions are created                 the same; they are empty
//! 4  the mark is set                            a relayed object without a relay
//!
//! detaching
//! 5  the mark is removed                        requests may be left in the companion, and a process may be
//!                                               about to put another
//! 6  the companion is closed                    requests may be left; no more come: a process whose put
//!                                               fails reads the mark again
//! 7  what is left is put into the object        a request may be put twice, none is lost
//! 8  the companions are removed                 the same, without companions
//! 9  `family` is 0                              an object that never was relayed, and stays only if it was
//!                                               created persistent
//! ```
//! A relay that attaches and finds a `family` without the mark does not know whether steps 2 to 4 or 5 to 9
//! were cut short. It completes what may have been a removal, 6 to 9, and begins at 2. `finish_detach` does only
//! the former.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sync::LockCell;
use crate::sys::process;

/// The relay's part of the header; the top of this file shows the layout.
#[repr(C, align(64))]
pub(crate) struct RelayState {
    pub(crate) role: LockCell,
    pub(crate) max_payload: AtomicU64,
    pub(crate) wait_ns: AtomicU64,
    pub(crate) revision: AtomicU64,
    pub(crate) sets_wait: AtomicU32,
    _unused: [AtomicU32; 9],
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(RelayState, max_payload) == 64 && offset_of!(RelayState, wait_ns) == 72);
    assert!(offset_of!(RelayState, revision) == 80 && size_of::<RelayState>() == 128);
};

// SAFETY: `repr(C)`, atomics and a lock only.
unsafe impl Shared for RelayState {}

impl RelayState {
    /// In a companion, before it is published: chooses the random part of its requests' ids.
    pub(crate) fn init_serial(&self) {
        let [serial] = process::random();
        self.revision.store(serial, Ordering::Relaxed);
    }

    /// In a companion: the random part of its requests' ids. It distinguishes them from those of an earlier
    /// companion of the same name, which were also counted from 1.
    pub(crate) fn serial(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// An error if the relay does not accept payloads of `size` bytes.
    pub(crate) fn check_payload(&self, what: &'static str, size: usize) -> Result<()> {
        match self.max_payload.load(Ordering::Relaxed) {
            limit if limit != 0 && size as u64 > limit => Err(Error::TooLarge {
                what,
                size: size as u64,
                limit,
            }),
            _ => Ok(()),
        }
    }
}
