//! Locks and waits that survive the death of whoever uses them.

pub(crate) mod crash;
mod event;
mod mutex;
mod patience;
mod watch;

pub(crate) use event::{EventCell, Slept, look, look_unless, publish_fence};
pub(crate) use mutex::{Acquired, Guard, MutexCell, RobustMutex};
pub(crate) use patience::{Ask, FIRST_SLICE_NS, LAST_SLICE_NS, wait_for};
pub(crate) use watch::{Found, Watch};
