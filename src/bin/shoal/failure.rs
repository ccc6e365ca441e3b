//! How commands fail.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
pub(crate) enum Failure {
    Shoal(shoal::Error),
    /// An error that names no object, and the object.
    On(String, shoal::Error),
    Output(io::Error),
    Input(io::Error),
    /// Arguments that are refused.
    Usage(String),
    /// An object, a key, an element or a device that does not exist.
    Missing(String),
    /// The command itself.
    Other(String),
    /// A signal asked the command to end.
    Signal(i32),
    /// The command has reported the failure already.
    Reported,
    /// Nothing reads the standard output any more, which is no failure.
    NoReader,
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        use shoal::Error;
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Missing(_) => 3,
            Failure::Shoal(err) | Failure::On(_, err) => match err {
                Error::Invalid { .. } => 2,
                Error::NotFound { .. } => 3,
                Error::Timeout => 4,
                Error::Closed => 5,
                _ => 1,
            },
            _ => 1,
        })
    }

    /// The same, with the name of the object if the error has none.
    pub(crate) fn on(self, object: &str) -> Self {
        use shoal::Error;
        match self {
            Failure::Shoal(err @ (Error::Timeout | Error::Closed)) => {
                Failure::On(object.to_owned(), err)
            }
            other => other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Shoal(err) => err.fmt(f),
            Failure::On(object, err) => write!(f, "{object:?}: {err}"),
            Failure::Output(err) => write!(f, "cannot write: {err}"),
            Failure::Input(err) => write!(f, "cannot read: {err}"),
            Failure::Usage(why) | Failure::Missing(why) | Failure::Other(why) => f.write_str(why),
            Failure::Signal(signal) => write!(f, "ended by signal {signal}"),
            Failure::Reported | Failure::NoReader => Ok(()),
        }
    }
}

impl From<shoal::Error> for Failure {
    fn from(err: shoal::Error) -> Self {
        Failure::Shoal(err)
    }
}
