//! Locks and their relatives between processes, each an object of its own.
//!
//! - [`cell`]: a lock in shared memory, which other objects may embed.
//! - [`object`]: how a segment that holds one of them is opened.
//! - [`lock`]: the public [`Lock`], plain or recursive.
//!
//! # Who holds what
//! Whatever a process can take here is written down under its [owner](crate::layout::Owner),
//! a slot of the segment's participants. So those who wait for it can ask the kernel whether
//! that owner lives, and have what a dead one held, with the news where it matters.

mod cell;
mod lock;
mod object;

#[expect(unused_imports, reason = "for objects that embed a lock")]
pub(crate) use cell::LockCell;
pub use cell::Taken;
pub use lock::{Lock, LockGuard};
