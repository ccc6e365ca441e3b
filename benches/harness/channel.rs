//! Making channels, and reporting those that cannot be made.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use shoal::{End, Event, Options, Pipe, Queue};

use super::bare::{Bare, ReaderWait};
use super::failure::{Failure, Why};
use super::link::Link;
use super::load::{Topology, Transport};
use super::peers::Program;
use super::wire::mq_put;

/// Bytes of the ring for messages up to a size. Rings do not grow in the measurement.
pub(super) const RINGS: [(usize, u64); 3] = [
    // As large as the ring of a stream becomes with the default options (`queue/stream.rs`).
    (4 << 10, 8 << 20),
    // 64 KiB, 1x1, on two cores of a Zen 3: 0.28 to 0.33 M/s in 2 to 8 MiB, 0.20 to 0.32
    // in 1 MiB, 0.15 to 0.17 in 256 KiB, where the two ends take turns; 0.24 in 16 MiB, which
    // is half the last cache.
    (128 << 10, 4 << 20),
    // 1 MiB: the same in 4 and 8 MiB, less in 16, and half in 32 MiB.
    (usize::MAX, 8 << 20),
];

/// Every ring has room for so many messages, whatever its size is to be.
pub(super) const LEAST_MESSAGES: u64 = 4;

/// Messages up to this size arrive whole from a pipe in packet mode, whichever other process writes.
const PIPE_BUF: usize = 4096;
/// Messages up to this size fit a socket's default buffers several times.
const PACKET: usize = 128 << 10;

/// A peer has room for as many bytes as our ring, but for no more messages than this.
///
/// 64 B, 4x4, on two cores: Boost carries 3 to 5.5 M/s with room for 1024, and up to 17 with
/// room for 16384, where one side continues for as long as it has its core.
const DEPTH: u64 = 1 << 14;

/// The most memory for buffers that a machine is expected to have.
const ROOM: u64 = 1 << 30;

/// One channel, as the parent holds it for its workers.
pub(super) enum Channel {
    Queue(Box<Queue>),
    Stream {
        from: Option<OwnedFd>,
        to: Option<OwnedFd>,
        whole: bool,
    },
    Mq(OwnedFd),
    Program(Program),
    /// The parent's end, which is kept until the worker at the first end has ended. `back`: for the other
    /// direction.
    Duplex {
        pipe: Option<Rc<Pipe>>,
        back: bool,
    },
    Bare {
        memory: OwnedFd,
        size: usize,
        wait: ReaderWait,
        /// Kept until the workers have opened it by name.
        _event: Option<Event>,
    },
}

impl Channel {
    /// One channel for each direction between two processes.
    pub(super) fn pair(
        transport: Transport,
        size: usize,
        ring: u64,
    ) -> Result<Result<[Self; 2], Why>, Failure> {
        let channel = || Self::new(transport, size, Topology::PAIR, ring);
        if transport != Transport::Duplex {
            return Ok(match (channel()?, channel()?) {
                (Ok(there), Ok(back)) => Ok([there, back]),
                (Err(why), _) | (_, Err(why)) => Err(why),
            });
        }
        let pipe = duplex(ring)?;
        let ways = [false, true].map(|back| Channel::Duplex {
            pipe: Some(Rc::clone(&pipe)),
            back,
        });
        Ok(Ok(ways))
    }

    pub(super) fn new(
        transport: Transport,
        size: usize,
        topology: Topology,
        ring: u64,
    ) -> Result<Result<Self, Why>, Failure> {
        let alone = topology.producers == 1 && topology.consumers == 1;
        let skip = |why: String| Ok(Err(why));
        let mix = |most| skip(format!("above {most} B the messages of several would mix"));
        match transport {
            Transport::Shoal | Transport::InPlace => {
                let options = Options::create().capacity(ring).max_capacity(ring);
                let queue = Queue::with_options(None, &options)?;
                Ok(Ok(Channel::Queue(Box::new(queue))))
            }
            Transport::Bare | Transport::Futex | Transport::Event if !alone => {
                skip("it is for one writer and one reader".to_owned())
            }
            Transport::Bare => Ok(Ok(bare(ring, size, ReaderWait::Poll, None)?)),
            Transport::Futex => Ok(Ok(bare(ring, size, ReaderWait::Futex, None)?)),
            Transport::Event => {
                let event = Event::anonymous()?;
                let wait = ReaderWait::Event(event.name().to_owned());
                Ok(Ok(bare(ring, size, wait, Some(event))?))
            }
            Transport::Duplex => Ok(Ok(Channel::Duplex {
                pipe: Some(duplex(ring)?),
                back: false,
            })),
            Transport::Pipe if size > PIPE_BUF && !alone => mix(PIPE_BUF),
            Transport::Pipe => Ok(Ok(pipe(size <= PIPE_BUF)?)),
            Transport::Unix if size > PACKET && !alone => mix(PACKET),
            Transport::Unix => Ok(Ok(socket(size <= PACKET)?)),
            Transport::Iceoryx2 if topology.consumers > 1 => {
                skip("every subscriber gets every message: it has one consumer".to_owned())
            }
            Transport::Iceoryx2 | Transport::Boost | Transport::Zeromq | Transport::Nng => {
                let mut depth = (ring / size as u64).clamp(16, DEPTH);
                let pairs = (topology.producers * topology.consumers) as u64;
                if matches!(transport, Transport::Zeromq | Transport::Nng) && pairs > 1 {
                    // Every pair has a connection with as much room at both ends.
                    depth = depth.min(DEPTH / 16);
                    let room = 2 * depth * pairs * size as u64;
                    if room > ROOM {
                        return skip(format!("its buffers may take {} MiB", room >> 20));
                    }
                }
                match Program::new(transport, depth) {
                    Ok(program) => Ok(Ok(Channel::Program(program))),
                    Err(why) => skip(why),
                }
            }
            Transport::Mq => {
                let Some(largest) = limit("msgsize_max") else {
                    return skip("this kernel has no POSIX message queues".to_owned());
                };
                if size > largest {
                    return skip(format!("the kernel's limit is {largest} B a message"));
                }
                match posix_queue(size, limit("msg_max").unwrap_or(10)) {
                    Ok(queue) => Ok(Ok(Channel::Mq(queue))),
                    Err(why) => skip(format!("it cannot be made: {why}")),
                }
            }
        }
    }

    /// The program that has both ends, if it is not this one.
    pub(super) fn program(&self) -> Option<&Program> {
        match self {
            Channel::Program(program) => Some(program),
            _ => None,
        }
    }

    /// How a producer finds its end.
    pub(super) fn putting(&self) -> Result<Link, Failure> {
        self.link(|from_to| from_to.1, true)
    }

    /// How a consumer finds its end.
    pub(super) fn taking(&self) -> Result<Link, Failure> {
        self.link(|from_to| from_to.0, false)
    }

    fn link<'a>(
        &'a self,
        end: impl FnOnce((&'a Option<OwnedFd>, &'a Option<OwnedFd>)) -> &'a Option<OwnedFd>,
        puts: bool,
    ) -> Result<Link, Failure> {
        Ok(match self {
            Channel::Queue(queue) => Link::Queue(queue.name().to_owned()),
            Channel::Stream { from, to, whole } => Link::Stream {
                fd: end((from, to)).as_ref().ok_or("it is closed")?.as_raw_fd(),
                whole: *whole,
            },
            Channel::Mq(queue) => Link::Mq(queue.as_raw_fd()),
            Channel::Duplex { pipe, back } => Link::Pipe {
                name: pipe.as_ref().ok_or("it is closed")?.name().to_owned(),
                first: puts != *back,
            },
            Channel::Bare {
                memory, size, wait, ..
            } => Link::Bare {
                fd: memory.as_raw_fd(),
                size: *size,
                wait: wait.clone(),
            },
            Channel::Program(_) => return Err("its ends are another program's".into()),
        })
    }

    /// All workers have started, so the parent holds the ends of streams no longer: the last
    /// producer that ends closes the channel, and a lost consumer is an error of its peers.
    pub(super) fn started(&mut self) {
        if let Channel::Stream { from, to, .. } = self {
            (*from, *to) = (None, None);
        }
    }

    /// All producers have ended. Each of the `consumers` reaches the end after the remaining messages.
    pub(super) fn finish(&mut self, consumers: usize) -> Result<(), Failure> {
        self.started();
        match self {
            Channel::Queue(queue) => Ok(queue.close()?),
            Channel::Stream { .. } | Channel::Program(_) => Ok(()),
            Channel::Duplex { pipe, .. } => {
                *pipe = None;
                Ok(())
            }
            Channel::Bare {
                memory, size, wait, ..
            } => {
                Bare::open(memory, *size, wait)?.end();
                Ok(())
            }
            Channel::Mq(queue) => (0..consumers).try_for_each(|_| mq_put(queue.as_raw_fd(), &[])),
        }
    }
}

/// The ring of a queue for messages of this size, unless an option sets it.
pub(super) fn ring(size: usize, requested: Option<u64>) -> u64 {
    let fits = RINGS.iter().find(|(largest, _)| size <= *largest);
    let fit = fits.map_or(0, |(_, ring)| *ring);
    requested.unwrap_or(fit).max(size as u64 * LEAST_MESSAGES)
}

/// Our pipe: the first end, which the parent holds until the worker there has ended.
fn duplex(ring: u64) -> Result<Rc<Pipe>, Failure> {
    let options = Options::create().capacity(ring).max_capacity(ring);
    Ok(Rc::new(Pipe::with_options(
        None,
        End::First,
        true,
        &options,
    )?))
}

fn bare(
    ring: u64,
    size: usize,
    wait: ReaderWait,
    event: Option<Event>,
) -> Result<Channel, Failure> {
    Ok(Channel::Bare {
        memory: Bare::make(ring)?,
        size,
        wait,
        _event: event,
    })
}

fn pipe(whole: bool) -> Result<Channel, Failure> {
    let flags = libc::O_CLOEXEC | if whole { libc::O_DIRECT } else { 0 };
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let rc = unsafe { libc::pipe2(ends.as_mut_ptr(), flags) };
    let [from, to] = own(rc, ends)?;
    // SAFETY: the pipe is open. A larger buffer is optional, so a refusal is ignored.
    unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
    Ok(Channel::Stream {
        from: Some(from),
        to: Some(to),
        whole,
    })
}

fn socket(whole: bool) -> Result<Channel, Failure> {
    let kind = if whole {
        libc::SOCK_SEQPACKET
    } else {
        libc::SOCK_STREAM
    };
    let mut ends = [0; 2];
    let to = ends.as_mut_ptr();
    // SAFETY: `ends` has room for two descriptors.
    let rc = unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, to) };
    let [from, to] = own(rc, ends)?;
    Ok(Channel::Stream {
        from: Some(from),
        to: Some(to),
        whole,
    })
}

fn own(rc: i32, ends: [i32; 2]) -> std::io::Result<[OwnedFd; 2]> {
    if rc < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both descriptors were just created and have no other owner.
    Ok(ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// One of the kernel's limits of POSIX message queues.
fn limit(name: &str) -> Option<usize> {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn posix_queue(size: usize, messages: usize) -> std::io::Result<OwnedFd> {
    let name = format!("/shoal-bench-{}\0", std::process::id());
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: an all-zero attribute is valid.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    attributes.mq_maxmsg = messages as libc::c_long;
    attributes.mq_msgsize = size as libc::c_long;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: the limits are valid, and only a privileged process may raise them; the name ends with NUL, and the
    // attributes are valid. The name is removed immediately. The queue goes with its last descriptor, which is a
    // file descriptor on Linux.
    unsafe {
        libc::setrlimit(libc::RLIMIT_MSGQUEUE, &unlimited);
        let queue = libc::mq_open(name.as_ptr().cast(), flags, 0o600, &attributes);
        if queue < 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::mq_unlink(name.as_ptr().cast());
        Ok(OwnedFd::from_raw_fd(queue))
    }
}
