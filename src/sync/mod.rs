//! Locks and waits that survive the death of the processes that use them.

pub(crate) mod crash;
mod event;
mod handoff;
mod lock;
pub(crate) mod memory;
mod policy;
mod robust;
mod waits;
mod watch;

pub(crate) use event::{EventCell, Slept, publish_fence};
pub(crate) use handoff::{Handoff, Try};
pub use lock::Acquisition;
pub(crate) use lock::{LockCell, NOBODY, Peers, pack, unpack};
pub(crate) use policy::{Ask, Nap, WaitPolicy, wait_for};
pub(crate) use robust::{Acquired, Guard, RobustMutex};
pub(crate) use waits::{EndWaits, Waits, forked, left, set_aside};
pub(crate) use watch::{Watch, Watched, stop_watching};
