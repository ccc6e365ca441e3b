//! Programs that compute while something else is measured.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::stage::Stage;
use super::workers::{Part, Workers};

/// The session of a computing program. The scheduler may distribute the cores among sessions
/// before it distributes them among processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Session {
    /// A session of its own, as a program of another terminal has
    #[default]
    Own,
    /// The benchmark's session, as a process has that the same program forked
    Same,
}

/// Computes until it is stopped, independently of the other workers.
#[derive(Serialize, Deserialize)]
pub(super) struct Busy(Session);

impl Part for Busy {
    const NAME: &str = "busy";

    fn work(self, _: &Stage) -> Result<(), Failure> {
        if self.0 == Session::Own {
            // SAFETY: this is only a system call.
            unsafe { libc::setsid() };
        }
        loop {
            std::hint::spin_loop();
        }
    }
}

/// Starts this many programs that compute until the returned value is dropped.
pub(super) fn start(stage: &Stage, count: u8, session: Session) -> Result<Workers<'_>, Failure> {
    let mut others = Workers::new(stage);
    for _ in 0..count {
        others.add(None, Vec::new(), &Busy(session))?;
    }
    Ok(others)
}
