//! Queues, pipes, maps, lists, processes and device masks for programs that share one machine and
//! survive the death of any of them.
//!
//! ```
//! use shoal::{Map, Queue, Timeout};
//!
//! let queue = Queue::create("doc-jobs")?;         // any process can open it by name
//! queue.put(b"resize 17.png", Timeout::Infinite)?;
//! let job = queue.get_vec(Timeout::Infinite)?;    // another process takes it
//!
//! let done = Map::create("doc-done")?;
//! done.set(&job, b"ok")?;
//! assert_eq!(done.get_vec(b"resize 17.png")?, Some(b"ok".to_vec()));
//! # Ok::<(), shoal::Error>(())
//! ```
//!
//! - [`Queue`]: messages of any length, many producers, many consumers, deadlines, batches.
//! - [`Map`]: bytes to bytes, many writers, atomic updates, grows in place.
//! - [`List`]: a sequence of byte strings; append, insert, slices, sort, each of them atomic.
//! - [`QueueRelay`], [`MapRelay`]: carry the messages and changes of other processes to another place, such
//!   as a server, and deliver what comes from it.
//! - [`Pipe`]: a connection of two ends, which is over when one end is gone.
//! - [`Array`]: items of one size in plain shared memory, and a lock for them.
//! - [`Lock`], [`RwLock`], [`Semaphore`], [`Event`], [`Condition`], [`Barrier`]: for processes and threads.
//! - [`Spawn`], [`Process`], [`fork()`]: child processes, with their environment, joins with a
//!   deadline, and exits.
//! - [`Workers`], [`Supervisor`]: several programs that are started, restarted and ended together.
//! - [`wait_any`]: several queues, pipes, processes and descriptors at once; [`Queue::fd`] for event loops.
//! - [`device`]: which GPUs a process and its children see.
//! - [`list()`], [`stat`], [`observe()`], [`gc`], [`unlink`]: the objects of this machine.
//!
//! Every object is a file in `/dev/shm`, or in the directory that the environment variable
//! `SHOAL_DIR` names. It exists as long as a process has it open, or until it is unlinked if it was
//! created [persistent](Options::persistent). If any process is killed at any instruction, the others
//! continue, and nothing committed is lost. `ARCHITECTURE.md` explains how, and what the limits are. The
//! same library has interfaces for C (`include/shoal.h`), C++ (`bindings/cpp`) and Python
//! (`bindings/python`).

// The library relies on Linux's OFD locks and futexes.
#[cfg(not(target_os = "linux"))]
compile_error!("shoal runs on Linux");
// An offset in a segment, and the terabytes that a map may reserve, are 64-bit addresses.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little"
)))]
compile_error!("shoal runs on x86-64 and 64-bit Arm: build it for a 64-bit target of those");
// It is tested with glibc only. From 2.34 on, glibc has threads and `dlopen` in libc itself: a program that
// is linked with such a version needs its symbols of 2.34.
#[cfg(all(target_os = "linux", not(target_env = "gnu")))]
compile_error!("shoal needs glibc 2.34 or later: build it for a target that ends in linux-gnu");

mod array;
mod cache;
mod copy;
pub mod device;
mod error;
mod ffi;
mod heap;
mod layout;
mod list;
mod map;
mod observe;
mod pipe;
mod primitives;
pub mod process;
mod queue;
mod relay;
mod segment;
mod sync;
mod sys;
mod wait;

pub use array::{Array, ArrayGuard};
pub use device::Mask;
pub use error::{Error, Result, Status};
pub use list::{Iter as ListIter, List, Locked};
pub use map::{Iter, KeyGuard, Map, MapChange, MapRelay, MapRequest, SwapTo, View, Watched};
pub use observe::{Observation, Observer, observe, observe_all};
pub use pipe::{End, Pipe};
pub use primitives::{
    Acquisition, Arrival, Barrier, Condition, Event, Lock, LockGuard, RwLock, Semaphore, Wake,
};
pub use process::{
    EventKind, Exit, ExitKind, ForkOptions, LeasePart, Outcome, Process, Restart, Spawn, Stdio,
    Supervisor, Workers, fork,
};
pub use queue::{
    Delivered, Followed, Follower, Lease, Queue, QueueRelay, RelayRequest, RelayRoom, Reservation,
    Settlement, SettlementKind, Withdrawn,
};
pub use raw_sync::Timeout;
pub use relay::{RelayInfo, RelayOptions, RequestId};
#[doc(hidden)]
pub use segment::collect_nothing;
pub use segment::{
    Kind, ObjectContents, ObjectHolder, ObjectInfo, Options, Participant, QueueTotals, gc, gc_each,
    list, stat, unlink,
};
pub use sys::clock::IntoTimeout;
pub use wait::{Waitable, wait_any};

/// For tests: kills the process at a given step, and watches its memory; see `src/sync/crash.rs`.
#[cfg(feature = "crash-points")]
pub mod crash {
    pub use crate::sync::crash::{arm, arm_to_stop, disarm, unwatch_memory, watch_memory};
}
