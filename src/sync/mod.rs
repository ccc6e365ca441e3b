//! Locks and waits that survive the death of whoever uses them.

pub(crate) mod crash;
mod event;
mod line;
mod lock;
mod patience;
mod robust;
mod waits;
mod watch;

pub(crate) use event::{EventCell, Slept, publish_fence};
pub(crate) use line::{Line, Try};
pub use lock::Taken;
pub(crate) use lock::{LockCell, Peers, pack, unpack};
pub(crate) use patience::{Ask, Nap, Patience, wait_for};
pub(crate) use robust::{Acquired, Guard, RobustMutex};
pub(crate) use waits::{EndWaits, Waits, forked, left};
pub(crate) use watch::{Watch, Watched, stop_watching};
