//! What can go wrong with a bridge as a whole. What goes wrong with one message is in its outcome.

use std::fmt::Display;

/// The result of what sets up or runs a bridge.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bridge cannot run, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a context file or an environment variable is not what it may be.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// Where it stands.
        what: String,
        /// What is wrong with it, and what would be accepted.
        why: String,
    },
    /// The server is there and refuses what the bridge is, or wants: its credentials, JetStream, a
    /// limit of the account. To try again does not help.
    #[error("the server refuses {what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the server says.
        why: String,
    },
    /// The server's certificate is not to be trusted, or the server does not trust ours.
    #[error("no TLS connection to {server}: {why}")]
    Certificate {
        /// The server.
        server: String,
        /// What is wrong with which certificate.
        why: String,
    },
    /// A stream or bucket of the name exists and has other settings.
    #[error("{what} has {setting} {theirs}, this bridge needs {ours}: {advice}")]
    Differs {
        /// The stream or bucket.
        what: String,
        /// The setting, by the name that the server gives it.
        setting: &'static str,
        /// Its value on the server.
        theirs: String,
        /// The value that is needed.
        ours: String,
        /// How to get on.
        advice: &'static str,
    },
    /// The server does not answer, or the connection broke.
    #[error("{what}: {why}")]
    Away {
        /// What was to be done.
        what: String,
        /// What happened instead.
        why: String,
    },
    /// A shared object of this machine.
    #[error("{name}: {why}")]
    Object {
        /// Its name.
        name: String,
        /// What Shoal says.
        why: shoal::Error,
    },
    /// A shared object of this machine has lost its name.
    #[error(
        "{name}: its name was removed; programs that open it get another one, which the next bridge carries"
    )]
    Nameless {
        /// The name.
        name: String,
    },
    /// A task of the bridge, or of the client, ended by a panic.
    #[error("{task} ended: {why}")]
    Broken {
        /// The task.
        task: String,
        /// Why.
        why: String,
    },
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, why: impl Display) -> Self {
        Error::Invalid {
            what: what.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn away(what: impl Into<String>, why: impl Display) -> Self {
        Error::Away {
            what: what.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn refused(what: impl Into<String>, why: impl Display) -> Self {
        Error::Refused {
            what: what.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn object(name: &str, why: shoal::Error) -> Self {
        Error::Object {
            name: name.to_owned(),
            why,
        }
    }

    /// Whether it may succeed later without a change by a person.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Error::Away { .. } | Error::Broken { .. })
    }
}
