//! The ways a message can go: our queue, and what the kernel offers.
//!
//! A channel is made before its workers are forked, and each of them then keeps one end.
//! All messages of a measurement have one size, so streams need no framing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

use serde::Serialize;
use shoal::{Error, Options, Queue, Timeout};

use super::{Failure, Topology};

/// A way of transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Shoal,
    Pipe,
    Unix,
    Mq,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Transport::Shoal => "shoal",
            Transport::Pipe => "pipe",
            Transport::Unix => "unix socket",
            Transport::Mq => "posix mq",
        })
    }
}

/// Rings of this many bytes do not grow in the measurement: a megabyte stays within the last
/// cache, and eight hold a few messages of the largest size.
const RING: u64 = 1 << 20;
const LARGE_RING: u64 = 8 << 20;

/// One channel, both ends of it.
#[expect(clippy::large_enum_variant, reason = "a process has one or two")]
pub(super) enum Channel {
    Shoal(Queue),
    /// A pipe or a socket pair: what is read here, what is written here.
    Bytes {
        from: Option<File>,
        to: Option<File>,
        whole: bool,
    },
    Mq {
        queue: libc::mqd_t,
    },
}

/// Why a transport cannot do this.
pub(super) type Skipped = String;

/// Messages up to this size arrive whole from a pipe in packet mode.
const PIPE_BUF: usize = 4096;
/// Messages up to this size fit a socket's default buffers.
const PACKET: usize = 128 << 10;

impl Channel {
    pub(super) fn new(
        transport: Transport,
        size: usize,
        topology: Topology,
    ) -> Result<Result<Self, Skipped>, Failure> {
        let alone = topology.producers == 1 && topology.consumers == 1;
        let skip = |why: String| Ok(Err(format!("{topology} of {size} B, {transport}: {why}")));
        match transport {
            Transport::Shoal => {
                let ring = if size > 128 << 10 { LARGE_RING } else { RING };
                let options = Options::create().capacity(ring).max_capacity(ring);
                Ok(Ok(Channel::Shoal(Queue::with_options(None, &options)?)))
            }
            Transport::Pipe if size > PIPE_BUF && !alone => skip(format!(
                "messages above {PIPE_BUF} B of several writers would mix"
            )),
            Transport::Pipe => {
                let whole = size <= PIPE_BUF;
                let flags = libc::O_CLOEXEC | if whole { libc::O_DIRECT } else { 0 };
                let mut ends = [0; 2];
                // SAFETY: `ends` has room for two descriptors.
                check(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
                // SAFETY: two new descriptors; a larger buffer is a favour that may be refused.
                unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, 1 << 20) };
                Ok(Ok(Self::bytes(ends, whole)))
            }
            Transport::Unix if size > PACKET && !alone => skip(format!(
                "messages above {PACKET} B of several writers would mix"
            )),
            Transport::Unix => {
                let whole = size <= PACKET;
                let kind = if whole {
                    libc::SOCK_SEQPACKET
                } else {
                    libc::SOCK_STREAM
                };
                let mut ends = [0; 2];
                // SAFETY: `ends` has room for two descriptors.
                check(unsafe {
                    libc::socketpair(
                        libc::AF_UNIX,
                        kind | libc::SOCK_CLOEXEC,
                        0,
                        ends.as_mut_ptr(),
                    )
                })?;
                Ok(Ok(Self::bytes(ends, whole)))
            }
            Transport::Mq => {
                let limit = |name: &str| -> Option<usize> {
                    let path = format!("/proc/sys/fs/mqueue/{name}");
                    std::fs::read_to_string(path).ok()?.trim().parse().ok()
                };
                let Some(largest) = limit("msgsize_max") else {
                    return skip("this kernel has no POSIX message queues".to_owned());
                };
                if size > largest {
                    return skip(format!("the kernel's limit is {largest} B a message"));
                }
                match posix_queue(size, limit("msg_max").unwrap_or(10)) {
                    Ok(queue) => Ok(Ok(Channel::Mq { queue })),
                    Err(why) => skip(format!("it cannot be made: {why}")),
                }
            }
        }
    }

    fn bytes(ends: [i32; 2], whole: bool) -> Self {
        // SAFETY: two descriptors just made, owned by nobody else.
        let [from, to] = ends.map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        Channel::Bytes {
            from: Some(from),
            to: Some(to),
            whole,
        }
    }

    /// This process only puts: it gives up the other end, so that its peers see the end of
    /// the channel when the last producer goes.
    pub(super) fn keep_putting(&mut self) {
        if let Channel::Bytes { from, .. } = self {
            *from = None;
        }
    }

    /// This process only takes.
    pub(super) fn keep_taking(&mut self) {
        if let Channel::Bytes { to, .. } = self {
            *to = None;
        }
    }

    pub(super) fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        match self {
            Channel::Shoal(queue) => queue.put(message, Timeout::Infinite)?,
            Channel::Bytes { to: Some(to), .. } => to.write_all(message)?,
            Channel::Bytes { to: None, .. } => return Err("this end only takes".into()),
            Channel::Mq { queue } => check(
                // SAFETY: the message is readable and the queue is open.
                unsafe { libc::mq_send(*queue, message.as_ptr().cast(), message.len(), 0) },
            )?,
        }
        Ok(())
    }

    pub(super) fn put_many(&mut self, messages: &[&[u8]]) -> Result<(), Failure> {
        let Channel::Shoal(queue) = self else {
            return messages.iter().try_for_each(|message| self.put(message));
        };
        let mut done = 0;
        while done < messages.len() {
            done += queue.put_many(&messages[done..], Timeout::Infinite)?;
        }
        Ok(())
    }

    /// Fills `buf` with the next message; false at the end of the channel.
    pub(super) fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        match self {
            Channel::Shoal(queue) => match queue.get(buf, Timeout::Infinite) {
                Ok(_) => Ok(true),
                Err(Error::Closed) => Ok(false),
                Err(err) => Err(err.into()),
            },
            Channel::Bytes {
                from: Some(from),
                whole: true,
                ..
            } => Ok(from.read(buf)? != 0),
            Channel::Bytes {
                from: Some(from), ..
            } => match from.read_exact(buf) {
                Err(err) if err.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
                other => Ok(other.map(|()| true)?),
            },
            Channel::Bytes { from: None, .. } => Err("this end only puts".into()),
            Channel::Mq { queue } => {
                let (at, room) = (buf.as_mut_ptr().cast(), buf.len());
                // SAFETY: the buffer is writable and the queue is open.
                let len = unsafe { libc::mq_receive(*queue, at, room, std::ptr::null_mut()) };
                check(len.min(0) as i32)?;
                // One that is empty is the end: see `finish`.
                Ok(len > 0)
            }
        }
    }

    /// No producer is left: every one of `consumers` gets to the end after what is there.
    pub(super) fn finish(&mut self, consumers: usize) -> Result<(), Failure> {
        match self {
            Channel::Shoal(queue) => queue.close()?,
            Channel::Bytes { from, to, .. } => (*from, *to) = (None, None),
            Channel::Mq { .. } => (0..consumers).try_for_each(|_| self.put(&[]))?,
        }
        Ok(())
    }
}

fn posix_queue(size: usize, messages: usize) -> std::io::Result<libc::mqd_t> {
    let name = format!("/shoal-bench-{}\0", std::process::id());
    // SAFETY: an all-zero attribute is valid.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    attributes.mq_maxmsg = messages as libc::c_long;
    attributes.mq_msgsize = size as libc::c_long;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: a NUL-terminated name and valid attributes. The name goes at once, and the
    // queue with its last descriptor.
    unsafe {
        let queue = libc::mq_open(name.as_ptr().cast(), flags, 0o600, &attributes);
        if queue < 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::mq_unlink(name.as_ptr().cast());
        Ok(queue)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Channel::Mq { queue } = self {
            // SAFETY: opened by us, closed once.
            unsafe { libc::mq_close(*queue) };
        }
    }
}

fn check(rc: i32) -> std::io::Result<()> {
    if rc < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}
