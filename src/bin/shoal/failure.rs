//! How commands fail.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
pub(crate) enum Failure {
    Shoal(shoal::Error),
    Output(io::Error),
    Input(io::Error),
    /// Arguments that are refused.
    Usage(String),
    /// An object, a key, an element or a device that does not exist.
    Missing(String),
    /// The command itself.
    Other(String),
    /// The benchmark itself.
    Bench(String),
    /// A signal asked the command to end.
    Signal(i32),
    /// The command has reported the failure already.
    Reported,
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        use shoal::Error;
        ExitCode::from(match self {
            Failure::Usage(_) | Failure::Shoal(Error::Invalid { .. }) => 2,
            Failure::Missing(_) | Failure::Shoal(Error::NotFound { .. }) => 3,
            Failure::Shoal(Error::Timeout) => 4,
            Failure::Shoal(Error::Closed) => 5,
            _ => 1,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Shoal(err) => err.fmt(f),
            Failure::Output(err) => write!(f, "cannot write: {err}"),
            Failure::Input(err) => write!(f, "cannot read: {err}"),
            Failure::Usage(why)
            | Failure::Missing(why)
            | Failure::Other(why)
            | Failure::Bench(why) => f.write_str(why),
            Failure::Signal(signal) => write!(f, "ended by signal {signal}"),
            Failure::Reported => Ok(()),
        }
    }
}

impl From<shoal::Error> for Failure {
    fn from(err: shoal::Error) -> Self {
        Failure::Shoal(err)
    }
}
