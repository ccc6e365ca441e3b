//! The errors of a whole bridge. Errors of one message are part of its outcome.

use std::fmt::Display;

/// The result of a function that sets up or runs a bridge.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bridge cannot run, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option, a context file or an environment variable is invalid.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// The option, file or variable.
        what: String,
        /// What is wrong with it, and what is accepted.
        why: String,
    },
    /// The server answers and refuses: the credentials, JetStream, or a limit of the account. A retry does not
    /// help.
    #[error("the server refuses {what}: {why}")]
    Refused {
        /// What was requested.
        what: String,
        /// The server's message.
        why: String,
    },
    /// The server's certificate is not trusted, or the server does not trust that of the bridge.
    #[error("no TLS connection to {server}: {why}")]
    Certificate {
        /// The server.
        server: String,
        /// What is wrong, and with which certificate.
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
        /// What to do.
        advice: &'static str,
    },
    /// The server does not answer, or the connection broke.
    #[error("{what}: {why}")]
    Away {
        /// The operation.
        what: String,
        /// What happened instead.
        why: String,
    },
    /// There is no room on the server.
    #[error("{what}: {why}")]
    Full {
        /// What was to be stored, or where.
        what: String,
        /// The server's message.
        why: String,
    },
    /// An error of a shared object of this machine.
    #[error("{name}: {why}")]
    Object {
        /// Its name.
        name: String,
        /// The error.
        why: shoal::Error,
    },
    /// A shared object of this machine, or one of its companions, has lost its name.
    #[error(
        "{name}: its name was removed, or that of a companion; programs get another one, which the next bridge carries"
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

    pub(crate) fn broken(task: impl Into<String>, why: impl Display) -> Self {
        Error::Broken {
            task: task.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn object(name: &str, why: shoal::Error) -> Self {
        Error::Object {
            name: name.to_owned(),
            why,
        }
    }

    /// Whether a retry may succeed although no option and no setting has changed.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Error::Away { .. } | Error::Full { .. } | Error::Broken { .. }
        )
    }
}
