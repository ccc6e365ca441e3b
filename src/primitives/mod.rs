//! Locks, semaphores, events, conditions and barriers between processes, each a named object.
//!
//! - [`object`]: how a segment that holds one of them is opened, and how its state is locked.
//! - [`holds`]: how many permits or read holds each participant has.
//! - [`waiters`]: a table with an entry for each waiter.
//! - [`lock`], [`semaphore`], [`event`], [`condition`], [`barrier`], [`rwlock`]: the public
//!   objects.
//!
//! # Ownership
//! What a process holds is recorded under its [owner](crate::layout::Owner), a slot of the segment's
//! participants. So a waiter can ask the kernel whether that owner is alive. The waiter takes over what a dead
//! owner held, and its call reports the death where that matters.

pub(crate) mod barrier;
pub(crate) mod condition;
pub(crate) mod event;
mod holds;
pub(crate) mod lock;
mod object;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
mod waiters;

pub use crate::sync::Acquisition;
pub use barrier::{Arrival, Barrier};
pub use condition::{Condition, Wake};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use rwlock::RwLock;
pub use semaphore::Semaphore;
