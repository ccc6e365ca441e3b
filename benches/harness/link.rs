//! How a worker finds its end of a channel.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use shoal::{End, Pipe, Queue};

use super::bare::{Bare, ReaderWait};
use super::failure::Failure;
use super::wire::{Mq, Stream, Wire};

/// Descriptors are inherited, names are opened.
#[derive(Serialize, Deserialize)]
pub(super) enum Link {
    Queue(String),
    /// An end of our pipe of two directions.
    Pipe {
        name: String,
        first: bool,
    },
    /// A pipe or a socket; `whole` if it keeps the boundaries of messages.
    Stream {
        fd: RawFd,
        whole: bool,
    },
    Mq(RawFd),
    Bare {
        fd: RawFd,
        size: usize,
        wait: ReaderWait,
    },
}

impl Link {
    /// The descriptor that has to be inherited.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        match self {
            Link::Queue(_) | Link::Pipe { .. } => Vec::new(),
            Link::Stream { fd, .. } | Link::Mq(fd) | Link::Bare { fd, .. } => vec![*fd],
        }
    }

    pub(super) fn open(&self) -> Result<Box<dyn Wire>, Failure> {
        // SAFETY: the descriptor is inherited for this worker alone, and opened once.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(match self {
            Link::Queue(name) => Box::new(Queue::open(name)?),
            Link::Pipe { name, first } => Box::new(open_pipe(name, *first)?),
            &Link::Stream { fd, whole } => Box::new(Stream {
                file: own(fd).into(),
                whole,
            }),
            &Link::Mq(fd) => Box::new(Mq(own(fd))),
            Link::Bare { fd, size, wait } => Box::new(Bare::open(&own(*fd), *size, wait)?),
        })
    }

    /// Both directions of one worker; of a pipe they are one end.
    pub(super) fn open_both(there: &Self, back: &Self) -> Result<[Box<dyn Wire>; 2], Failure> {
        if let Link::Pipe { name, first } = there {
            let pipe = open_pipe(name, *first)?;
            return Ok([Box::new(Rc::clone(&pipe)), Box::new(pipe)]);
        }
        Ok([there.open()?, back.open()?])
    }
}

fn open_pipe(name: &str, first: bool) -> Result<Rc<Pipe>, Failure> {
    let end = if first { End::First } else { End::Second };
    Ok(Rc::new(Pipe::open(name, end)?))
}
