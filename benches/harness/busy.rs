//! Programs that compute while something else is measured.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::stage::Stage;
use super::workers::{Part, Workers};

/// Whose session a computing program is in. The scheduler may share the cores out among sessions
/// before it does among processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Session {
    /// One of its own, as another terminal's program is
    #[default]
    Own,
    /// The benchmark's, as a process is that the same program forked
    Same,
}

/// Computes until it is stopped, and has nothing to do with the other workers.
#[derive(Serialize, Deserialize)]
pub(super) struct Busy(Session);

impl Part for Busy {
    const NAME: &str = "busy";

    fn work(self, _: &Stage) -> Result<(), Failure> {
        if self.0 == Session::Own {
            // SAFETY: a system call.
            unsafe { libc::setsid() };
        }
        loop {
            std::hint::spin_loop();
        }
    }
}

/// So many programs that compute, until what is returned is dropped.
pub(super) fn start(stage: &Stage, count: u8, session: Session) -> Result<Workers<'_>, Failure> {
    let mut others = Workers::new(stage);
    for _ in 0..count {
        others.add(None, Vec::new(), &Busy(session))?;
    }
    Ok(others)
}
