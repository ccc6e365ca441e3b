//! Waiting for something that the dead may have had.
//!
//! Who is woken looks at shared memory, which costs nothing. Only when nobody has woken it for a
//! while does it ask the kernel whether those live on whom it waits, which costs a system call
//! each; and sleeps twice as long the next time, since an idle machine should be idle.

use std::cell::Cell;

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;

use super::{EventCell, Slept, look};

/// A sleep is this long at most before the sleeper looks by itself: whoever should have woken
/// it may be dead. Twice as long each time, since an idle machine should be idle.
pub(crate) const FIRST_SLICE_NS: u64 = 2_000_000;
pub(crate) const LAST_SLICE_NS: u64 = 100_000_000;

/// Looks before the first sleep: what others hold for a moment only is free again by then.
const SPINS: u32 = 100;

/// Whether a look is to ask the kernel who lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Memory,
    Kernel,
}

/// Waits until `find` finds something, looking whenever `event` tells, and now and then.
///
/// # Errors
/// `Timeout`; `Interrupted` when a signal handler ran; and those of `find`.
pub(crate) fn wait_for<T>(
    event: &EventCell,
    deadline: Deadline,
    find: impl Fn(Ask) -> Result<Option<T>>,
) -> Result<T> {
    let found = Cell::new(None);
    let ready = || {
        let now = find(Ask::Memory).transpose();
        let ready = now.is_some();
        found.set(now);
        ready
    };
    if deadline != Deadline::Now && look(SPINS, ready) {
        return found.take().unwrap_or(Err(Error::Timeout));
    }
    let (mut slice, mut ask) = (FIRST_SLICE_NS, true);
    loop {
        if ask && let Some(found) = find(Ask::Kernel)? {
            return Ok(found);
        }
        if deadline == Deadline::Now {
            return Err(Error::Timeout);
        }
        let slept = event.sleep(slice, deadline, ready);
        if let Some(found) = found.take() {
            return found;
        }
        ask = slept? == Slept::TimedOut;
        slice = match ask {
            true => (slice * 2).min(LAST_SLICE_NS),
            false => FIRST_SLICE_NS,
        };
    }
}
