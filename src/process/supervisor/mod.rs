//! Supervised workers: started together, restarted when they fail, and ended together.
//!
//! [`Workers`] describes them, and a [`Supervisor`] manages them once they run:
//!
//! ```text
//! handle.rs    what the program calls        restart.rs   when a worker is restarted
//! engine.rs    the thread that decides       output.rs    the thread that labels the workers' output
//! report.rs    states and events             lines.rs     cutting that output into lines
//! marked.rs    finding what workers left after the guardian's death
//! sys/guardian/     the process that is the parent of the workers, and ends them with this program
//! ```

mod engine;
mod handle;
mod lines;
mod marked;
mod output;
mod report;
mod restart;
mod workers;

pub use handle::Supervisor;
pub use report::{Event, EventKind, Outcome, OutputFailure, WorkerState, WorkerStatus};
pub use restart::Restart;
pub(crate) use workers::{FIRST_DELAY, GRACE, HEALTHY, LONGEST_DELAY};
pub use workers::{MOST_WORKERS, Output, Workers};
