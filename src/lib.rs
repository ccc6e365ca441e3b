//! Queues, maps, processes and device masks in shared memory.

// The shared structures rely on the kernel's OFD locks, futexes and robust mutexes.
#[cfg(not(target_os = "linux"))]
compile_error!("shoal runs on Linux");

mod error;
mod layout;
mod sys;

pub use error::{Error, Result, Status};
pub use raw_sync::Timeout;

pub mod device;
pub mod process;

pub use device::Mask;
pub use process::{Exit, ExitKind, ForkOptions, Process, Spawn, Stdio, fork};
