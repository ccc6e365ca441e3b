//! Queues, maps, processes and device masks in shared memory.

// The shared structures rely on the kernel's OFD locks, futexes and robust mutexes.
#[cfg(not(target_os = "linux"))]
compile_error!("shoal runs on Linux");

mod error;
mod layout;
mod queue;
mod segment;
mod sync;
mod sys;

pub use error::{Error, Result, Status};
pub use queue::Queue;
pub use raw_sync::Timeout;
pub use segment::{Kind, ObjectInfo, Options, Participant, gc, list, stat, unlink};
#[cfg(feature = "crash-points")]
pub use sync::crash;
