//! Locks and waits that survive the death of the processes that use them.
//!
//! A comment that begins with `SYNC` says what an atomic access orders. `publish(x)` is a store after which other
//! threads may use `x`; `observe(x)` or `find(x)` is the load that pairs with it.

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
