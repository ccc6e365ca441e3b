//! Starting processes, waiting for them, and signalling them.
//!
//! [`Spawn`] starts a program; [`fork()`] continues this one in a copy. Both return a [`Process`], which
//! holds a descriptor of the child (a *pidfd*): it can be waited for with a deadline, watched by an event
//! loop, and signalled without ever reaching another process that got the same number.
//!
//! ```
//! use shoal::{Spawn, Timeout};
//!
//! let child = Spawn::new("sh").args(["-c", "exit 3"]).spawn()?;
//! assert_eq!(child.join(Timeout::Infinite)?.code, 3);
//! # Ok::<(), shoal::Error>(())
//! ```
//!
//! # What a child inherits
//!
//! | | [`Spawn`] | [`fork()`] |
//! |---|---|---|
//! | environment | this process's, with the requested edits | the same |
//! | descriptors | 0, 1, 2, always, and the requested ones; **all others are closed** | all |
//! | signals | default actions, nothing blocked ([`Spawn::keep_signals`]) | as they are |
//! | directory, user, limits | this process's | this process's |
//!
//! # Limits
//!
//! - A child that is reaped elsewhere (a host that ignores `SIGCHLD` or waits for any child) is reported as
//!   [`ExitKind::Unknown`] before Linux 6.15; no call hangs. Since 6.15 its exit is known, unless it was
//!   forked and ended before the parent continued.
//! - Every fork copies this process's ends of a child's pipes, like all descriptors. While a forked child has
//!   a copy of the writing end of a program's input, closing the parent's end does not end that input.
//! - A [`Process`] that is dropped without a join is detached, not killed. Its exit is
//!   collected when a later child is spawned, forked or dropped; until then a child that has
//!   ended keeps its place in the process table.
//! - No signal handler is installed and no process-wide setting is changed.

mod child;
mod detached;
mod fork;
mod handle;
mod lookup;
mod spawn;
mod spawner;
mod supervisor;

pub use fork::{ForkOptions, fork};
pub use handle::{Exit, ExitKind, Process};
pub use spawn::{LeasePart, Spawn, Stdio};
pub use supervisor::{
    Event, EventKind, MOST_WORKERS, Outcome, Output, OutputFailure, Restart, Supervisor,
    WorkerState, WorkerStatus, Workers,
};
pub(crate) use supervisor::{FIRST_DELAY, GRACE, HEALTHY, LONGEST_DELAY};
