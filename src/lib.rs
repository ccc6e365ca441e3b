//! Queues, maps, processes and device masks in shared memory.

// The shared structures rely on the kernel's OFD locks, futexes and robust mutexes.
#[cfg(not(target_os = "linux"))]
compile_error!("shoal runs on Linux");

mod copy;
mod error;
mod layout;
mod map;
mod queue;
mod segment;
mod sync;
mod sys;

pub use error::{Error, Result, Status};
pub use map::{Iter, Map};
pub use queue::Queue;
pub use raw_sync::Timeout;
pub use segment::{Kind, ObjectInfo, Options, Participant, gc, list, stat, unlink};

/// Test only: dying at a chosen step.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub mod crash {
    pub use crate::sync::crash::{arm, disarm};
}
