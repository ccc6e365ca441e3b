//! One error type for the whole library and the status code each error has in C.
//!
//! There is a variant for each way in which a caller can react. Its message names the object and the limit
//! that was exceeded. The C header, the C++ wrapper and the Python package derive their errors from
//! [`Status`], and a test compares the lists.

use std::borrow::Cow;

/// The result of every fallible operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, and on which object.
///
/// The enum is `non_exhaustive`: match on the variants you can act on and report the rest.
///
/// ```
/// use shoal::{Error, Queue};
///
/// let err = Queue::open("no-such-queue").unwrap_err();
/// assert!(matches!(err, Error::NotFound { .. }));
/// assert_eq!(err.to_string(), "no shared object is named \"no-such-queue\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is outside what the call accepts.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// The argument.
        what: Cow<'static, str>,
        /// What is wrong with it and what would be accepted.
        why: Cow<'static, str>,
    },
    /// No shared object, key, program or device of this name exists.
    #[error("no {what} is named {name:?}")]
    NotFound {
        /// The kind of thing that was searched for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A lease of devices was requested, and this process sees no device at all.
    #[error("no device of {family}: {why} (see `shoal devices list`)")]
    NoDevice {
        /// The requested family, or a text that says that any would do.
        family: String,
        /// Why: the machine has none, or these variables hide them.
        why: String,
    },
    /// A shared object of this name exists already and the caller asked for a new one.
    #[error("a shared object named {name:?} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The operating system refused access, or the object belongs to another user.
    #[error("permission denied on {name:?}: {why}")]
    Permission {
        /// The object.
        name: String,
        /// Which user owns it, or what was refused.
        why: String,
    },
    /// Shared memory is full: the object or the file system has no room for `needed` more bytes.
    #[error("no space: {}", no_space(*needed, *available, *in_object))]
    NoSpace {
        /// Bytes that the call needed.
        needed: u64,
        /// Bytes that are free in the file system; if the object is full: in its largest free piece.
        available: u64,
        /// All free bytes of the object, if that is full or too fragmented.
        in_object: Option<u64>,
    },
    /// No file for another object or lease can be created: the file system has no inode left.
    #[error(
        "no space: the file system of {directory} has no inode left, all {limit} are taken (see `shoal gc`, the tmpfs option nr_inodes, or {variable})"
    )]
    NoInodes {
        /// Where the files of objects or leases are.
        directory: String,
        /// How many inodes the file system has.
        limit: u64,
        /// The environment variable that can name another directory.
        variable: &'static str,
    },
    /// The data can never fit, however long the caller waits.
    #[error("{what} of {size} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large: `"message"`, `"key"`, `"value"`.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The largest size accepted, in bytes.
        limit: u64,
    },
    /// A number, other than one of bytes, is above what the call accepts.
    #[error("{what} of {count} is above the limit of {limit}")]
    TooMany {
        /// What is too large: `"number of permits"`, `"max_attempts"`.
        what: &'static str,
        /// The number.
        count: u64,
        /// The largest number accepted.
        limit: u64,
    },
    /// The caller's buffer is too small; nothing was taken.
    #[error("the buffer of {capacity} bytes is too small for {needed} bytes")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes the buffer has.
        capacity: usize,
    },
    /// What the call waits for did not come in time. With a timeout of 0: it was not there, such as a
    /// message in a queue, or room for one.
    #[error("timed out")]
    Timeout,
    /// The object has a [relay](crate::QueueRelay), and there was no room for a request to it, or no answer
    /// from it, in time; or the relay reports that it cannot know whether the request was done. A request
    /// that waited for its answer may have been done, or may still be.
    #[error(
        "timed out: the relay behind {name:?} is not running, has more requests than it can forward, or does \
         not know what became of this one"
    )]
    RelayBehind {
        /// The companion of the object that is full, or from which no answer came.
        name: String,
    },
    /// The object was not opened, or its name not removed, since another process has been opening or leaving it for
    /// seconds. That process is stopped, by a signal or a debugger, or the machine is overloaded.
    #[error("timed out: {who} has been opening or leaving {name:?} for {seconds} seconds")]
    Busy {
        /// The object.
        name: String,
        /// The process, as far as it is known, and whether it is stopped.
        who: String,
        /// How long the call waited.
        seconds: u64,
    },
    /// The queue is closed: nothing can be put any more, or everything that it held has been taken. Or the other
    /// end of a pipe is gone.
    #[error("closed")]
    Closed,
    /// This process [ended the waits](crate::Queue::end_waits) through the handle, and the call would have
    /// to wait.
    #[error("detached: this process ended the waits through the handle")]
    Detached,
    /// A signal handler ran while the call was waiting; nothing was done.
    #[error("interrupted by a signal")]
    Interrupted,
    /// The object is of another kind than the one it was opened as.
    #[error("{name:?} is {}, not {}", with_article(found), with_article(expected))]
    WrongKind {
        /// The object.
        name: String,
        /// What it was opened as.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The object was made by an incompatible version or platform.
    #[error(
        "{name:?} has {what} {theirs}, this library has {ours}{}",
        remedy(what)
    )]
    VersionMismatch {
        /// The object.
        name: String,
        /// The stamp that differs.
        what: &'static str,
        /// Its value in the object.
        theirs: String,
        /// The value this library writes.
        ours: String,
    },
    /// Bytes read from shared memory break an invariant of the structure.
    #[error("shared memory is corrupt: {what}")]
    Corrupt {
        /// The invariant that does not hold.
        what: Cow<'static, str>,
    },
    /// The object could not be repaired after a process died in a call on it, and refuses all use.
    #[error("poisoned: {what}")]
    Poisoned {
        /// Why the repair failed.
        what: Cow<'static, str>,
    },
    /// All of a fixed number of places are taken. In a forked child also: the object had no free slot for it at the
    /// fork, or no descriptor was free. It may open the object again by name.
    #[error("no more than {limit} {what} fit")]
    Exhausted {
        /// The places.
        what: &'static str,
        /// How many there are.
        limit: u64,
    },
    /// The platform lacks what the call needs.
    #[error("unsupported: {what}")]
    Unsupported {
        /// The missing feature, and what to do about it.
        what: Cow<'static, str>,
    },
    /// The operating system returned an error no other variant describes.
    #[error("{call}: {}{}", std::io::Error::from_raw_os_error(*errno), hint(call, *errno))]
    Os {
        /// The call that failed.
        call: &'static str,
        /// Its `errno`.
        errno: i32,
    },
    /// The guardian of supervised workers, which is another process, was killed while it started one.
    #[error("the guardian of the workers was killed, and they were with it; start them again")]
    GuardianKilled,
    /// The library itself failed, for example by a panic that was caught at the C boundary.
    #[error("internal error: {what}")]
    Internal {
        /// What failed, or the panic's message.
        what: String,
    },
    /// The lease's deadline passed: the message is, or will be, delivered to another consumer.
    #[error("the lease expired: its message is delivered again")]
    Expired,
}

/// How a call ended, for C, C++ and Python: each [`Error`] has one of these codes. Zero is success.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// An argument is outside what the function accepts.
    ErrInvalid = 1,
    /// No object, key, program or device has this name.
    ErrNotFound = 2,
    /// An object of this name exists already.
    ErrExists = 3,
    /// Access was refused, or the object is another user's.
    ErrPermission = 4,
    /// Shared memory is full.
    ErrNoSpace = 5,
    /// The data can never fit, or a number is above its limit.
    ErrTooLarge = 6,
    /// The caller's buffer is too small; nothing was taken.
    ErrBufferTooSmall = 7,
    /// The time is over, or was 0 and the call would have to wait.
    ErrTimeout = 8,
    /// The end of an iterator.
    ErrEnd = 9,
    /// Closed, and nothing is left to take; or the waits through this handle were ended.
    ErrClosed = 10,
    /// A signal handler ran while the call waited.
    ErrInterrupted = 11,
    /// The object is of another kind.
    ErrWrongKind = 12,
    /// The object was made by an incompatible version or platform.
    ErrVersionMismatch = 13,
    /// Bytes in shared memory break an invariant.
    ErrCorrupt = 14,
    /// The object could not be repaired and refuses use, or a barrier is broken.
    ErrPoisoned = 15,
    /// The lease's time is over: the message is delivered again.
    ErrExpired = 16,
    /// All places of a fixed number are taken.
    ErrExhausted = 17,
    /// The platform lacks what the function needs.
    ErrUnsupported = 18,
    /// Another error of the operating system.
    ErrOs = 19,
    /// A failure inside the library.
    ErrInternal = 20,
}

/// The noun with its article.
pub(crate) fn with_article(noun: &str) -> String {
    let article = match noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => "an",
        false => "a",
    };
    format!("{article} {noun}")
}

fn no_space(needed: u64, available: u64, in_object: Option<u64>) -> String {
    match in_object {
        Some(free) if free >= needed => {
            return format!(
                "the object has no {needed} bytes in one piece: of its {free} free bytes, at most {available} \
                 are contiguous (see max_capacity)"
            );
        }
        Some(free) => {
            return format!(
                "the object is full: {needed} more bytes do not fit, {free} are free (see max_capacity)"
            );
        }
        None => {}
    }
    if available >= needed {
        return format!(
            "the memory limit of this process's control group (memory.max), or of the machine, leaves no \
             room for {needed} more bytes of shared memory"
        );
    }
    format!(
        "{needed} more bytes of shared memory do not fit; {available} are free (see `shoal gc`, --shm-size, the \
         tmpfs size option or SHOAL_DIR)"
    )
}

/// What to do about an object of processes that differ in this.
fn remedy(what: &str) -> &'static str {
    match what {
        "pid namespace" => {
            "; run all its processes in one (--pid=container:NAME, shareProcessNamespace)"
        }
        _ => "",
    }
}

/// What to do about an error of the operating system that is a limit.
fn hint(call: &str, errno: i32) -> &'static str {
    match (errno, call) {
        (libc::EMFILE, _) => ": this process has all descriptors that it may have (see ulimit -n)",
        (libc::ENFILE, _) => ": the system has all open files that it may have (see fs.file-max)",
        (libc::EAGAIN, "pthread_create") => {
            ": no more threads may be started (see ulimit -u, pids.max of the control group, and ulimit -v, within \
             which the thread's stack must be)"
        }
        (libc::EAGAIN, "clone" | "fork") => {
            ": no more processes and threads may be started (see ulimit -u, and pids.max of the control group)"
        }
        _ => "",
    }
}

impl Error {
    /// The code this error has across the C boundary.
    pub fn status(&self) -> Status {
        match self {
            Error::Invalid { .. } => Status::ErrInvalid,
            Error::NotFound { .. } | Error::NoDevice { .. } => Status::ErrNotFound,
            Error::Exists { .. } => Status::ErrExists,
            Error::Permission { .. } => Status::ErrPermission,
            Error::NoSpace { .. } | Error::NoInodes { .. } => Status::ErrNoSpace,
            Error::TooLarge { .. } | Error::TooMany { .. } => Status::ErrTooLarge,
            Error::BufferTooSmall { .. } => Status::ErrBufferTooSmall,
            Error::Timeout | Error::RelayBehind { .. } | Error::Busy { .. } => Status::ErrTimeout,
            Error::Closed | Error::Detached => Status::ErrClosed,
            Error::Interrupted => Status::ErrInterrupted,
            Error::WrongKind { .. } => Status::ErrWrongKind,
            Error::VersionMismatch { .. } => Status::ErrVersionMismatch,
            Error::Corrupt { .. } => Status::ErrCorrupt,
            Error::Poisoned { .. } => Status::ErrPoisoned,
            Error::Exhausted { .. } => Status::ErrExhausted,
            Error::Unsupported { .. } => Status::ErrUnsupported,
            Error::Os { .. } | Error::GuardianKilled => Status::ErrOs,
            Error::Internal { .. } => Status::ErrInternal,
            Error::Expired => Status::ErrExpired,
        }
    }

    pub(crate) fn invalid(
        what: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Error::Invalid {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Error::Unsupported { what: what.into() }
    }

    pub(crate) fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Error::Corrupt { what: what.into() }
    }

    /// `NoSpace` of the file system, which has so many free bytes.
    pub(crate) fn no_memory(needed: u64, available: u64) -> Self {
        Error::NoSpace {
            needed,
            available,
            in_object: None,
        }
    }

    /// That with the memory that is free now, after a part was given back; other errors as they are.
    pub(crate) fn with_available(self, free: impl FnOnce() -> u64) -> Self {
        match self {
            Error::NoSpace {
                needed,
                in_object: None,
                ..
            } => Self::no_memory(needed, free()),
            other => other,
        }
    }

    /// The calling thread's `errno`, as left by `call`.
    pub(crate) fn last_os(call: &'static str) -> Self {
        Error::Os {
            call,
            errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_start_names_every_limit() {
        let call = "pthread_create";
        let said = Error::Os {
            call,
            errno: libc::EAGAIN,
        }
        .to_string();
        for limit in ["ulimit -u", "pids.max", "ulimit -v"] {
            assert!(said.contains(limit), "{said}");
        }
    }
}
