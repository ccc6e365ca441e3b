//! The states and events of workers.

use std::fmt;

use crate::process::handle::{Exit, ExitKind};
use crate::sys::pidfd::{self, Reaped};

/// How all workers together have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Each ended with exit code 0.
    Succeeded,
    /// At least one failed. The first that did, and how its last run ended.
    Failed {
        /// The worker's index.
        worker: usize,
        /// Unknown if it could not be started again.
        exit: Exit,
    },
    /// The supervisor was stopped, and no worker had failed before.
    Stopped,
}

impl Outcome {
    /// Whether each worker ended with exit code 0.
    pub fn success(&self) -> bool {
        *self == Outcome::Succeeded
    }
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub enum WorkerState {
    /// It is not started yet.
    Waiting = 0,
    /// Its program runs.
    Running = 1,
    /// It has ended, and will be restarted after a delay.
    Restarting = 2,
    /// It has ended for good: successfully, or because the supervisor was stopped.
    Ended = 3,
    /// It has failed for good.
    Failed = 4,
}

/// One worker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerStatus {
    /// What it is doing.
    pub state: WorkerState,
    /// Its process number while it runs, else 0. The number may belong to another process by the time it is
    /// used: signal a worker by [`Supervisor::signal_worker`](super::Supervisor::signal_worker).
    pub pid: i32,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last run ended, if it has had one.
    pub exit: Option<Exit>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
#[non_exhaustive]
pub enum EventKind {
    /// A worker's program runs.
    Started = 0,
    /// A worker has ended.
    Exited = 1,
    /// A worker will be started again.
    Restarting = 2,
    /// A worker could not be started again.
    StartFailed = 3,
    /// A worker failed too often in a row, and is not started any more.
    GaveUp = 4,
    /// All workers are asked to end.
    Stopping = 5,
    /// The grace period is over: what still runs is killed.
    Killing = 6,
    /// The guardian process was killed, and the workers with it.
    GuardianLost = 7,
}

/// One thing that has happened. Its `Display` is a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The worker; `None` for all of them.
    pub worker: Option<usize>,
    /// Its process number, if it has one, else 0.
    pub pid: i32,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    pub(super) text: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A failure to pass on a worker's output, other than that its reader has ended. Its `Display` is a sentence
/// about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputFailure {
    /// The worker's index.
    pub worker: usize,
    /// Why: the `errno` of the write.
    pub errno: i32,
}

impl fmt::Display for OutputFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worker, err) = (self.worker, std::io::Error::from_raw_os_error(self.errno));
        write!(f, "the output of worker {worker} cannot be written: {err}")
    }
}

/// Converts a wait status of the operating system to an [`Exit`].
pub(super) fn exit_of(status: i32) -> Exit {
    let (kind, code) = match pidfd::end_of(status) {
        Reaped::Exited(code) => (ExitKind::Exited, code),
        Reaped::Signaled(code) => (ExitKind::Signaled, code),
        Reaped::Running | Reaped::NotOurs => (ExitKind::Unknown, -1),
    };
    Exit { kind, code }
}
