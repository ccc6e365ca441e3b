//! Locks and their relatives between processes, each an object of its own.
//!
//! - [`object`]: how a segment that holds one of them is opened.
//! - [`holds`]: how much of something each participant holds.
//! - [`roster`]: those who wait, each in a place of its own.
//! - [`lock`], [`semaphore`], [`event`], [`condition`], [`barrier`], [`rwlock`]: the public
//!   objects.
//!
//! # Who holds what
//! Whatever a process can take here is written down under its [owner](crate::layout::Owner),
//! a slot of the segment's participants. So those who wait for it can ask the kernel whether
//! that owner lives, and have what a dead one held, with the news where it matters.

mod barrier;
mod condition;
mod event;
mod holds;
mod lock;
mod object;
mod roster;
mod rwlock;
mod semaphore;

pub use crate::sync::Acquisition;
pub use barrier::{Arrival, Barrier};
pub use condition::{Condition, Wake};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use rwlock::RwLock;
pub use semaphore::Semaphore;
