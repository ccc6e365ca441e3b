//! Descriptors that become readable: making one, and waiting for several.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::clock::{self, Deadline};
use super::fd::{Kept, off_streams, pipe, set_nonblocking};
use super::shm::{self, Identity};
use super::{errno, limits};

/// A descriptor that is readable from when it is set until it is cleared: that of a pipe, or of a FIFO with
/// something in it, which other processes may have open as well. Close-on-exec, and no call on it
/// waits.
///
/// Not an eventfd: all of them have one inode, by which the library could not tell its own from one of the
/// program that has the same number.
pub(crate) struct Signal {
    /// What is read from.
    fd: Kept,
    /// What is written to, if that is another descriptor.
    writer: Option<Kept>,
}

/// How many reads empty a FIFO at most: it holds 64 KiB, and each write here has 8 bytes.
const READS: usize = 32;

impl Signal {
    /// A signal of this process's own: a pipe.
    pub(crate) fn new() -> Result<Self> {
        let (reader, writer) = pipe()?;
        set_nonblocking(reader.as_fd())?;
        set_nonblocking(writer.as_fd())?;
        Ok(Self {
            fd: Kept::new(reader),
            writer: Some(Kept::new(writer)),
        })
    }

    /// A signal by the FIFO `fd`, which is open for reading and writing, non-blocking.
    pub(crate) fn of_fifo(fd: OwnedFd) -> Self {
        Self {
            fd: Kept::new(fd),
            writer: None,
        }
    }

    fn writer(&self) -> &Kept {
        self.writer.as_ref().unwrap_or(&self.fd)
    }

    /// Makes it readable. False if the program has closed it.
    pub(crate) fn set(&self) -> bool {
        let _shield = Shield::new();
        let one = 1u64.to_ne_bytes();
        let Some(fd) = self.writer().get() else {
            return false;
        };
        // SAFETY: an open descriptor and 8 bytes. It fails only where there is no room for more, and is
        // readable then.
        unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        true
    }

    /// Makes it unreadable. False if the program has closed it.
    pub(crate) fn clear(&self) -> bool {
        let _shield = Shield::new();
        let Some(fd) = self.fd.get() else {
            return false;
        };
        let mut bytes = [0u8; 4096];
        for _ in 0..READS {
            // SAFETY: an open descriptor and a buffer of this length. It fails if there is nothing to read.
            let read =
                unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            if read < bytes.len() as isize {
                break;
            }
        }
        true
    }

    /// The descriptor, for waiting.
    pub(crate) fn number(&self) -> BorrowedFd<'_> {
        self.fd.number()
    }

    /// Whether the program has not closed what is written to, if that is another descriptor than what is read.
    pub(crate) fn has_writer(&self) -> bool {
        self.writer.as_ref().is_none_or(|it| it.get().is_some())
    }

    /// Whether it is readable.
    pub(crate) fn is_set(&self) -> bool {
        self.fd
            .get()
            .is_some_and(|fd| readable(&[fd], Deadline::Now) == Ok(true))
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.number()
    }
}

/// The descriptor that a program gets for a [`Signal`]: readable while that is, until it is
/// permanently readable by [`keep_readable`](Self::keep_readable). An epoll instance. Close-on-exec.
///
/// All epolls have the same inode. A program that has closed this one, as daemons do that close all descriptors,
/// has closed its member too, whose inode is unique. So this one is open only if the member is.
pub(crate) struct ReadableFd {
    epoll: ManuallyDrop<Kept>,
    /// The descriptor of the signal, and which file that is.
    member: (RawFd, Option<Identity>),
}

impl ReadableFd {
    pub(crate) fn of(signal: &Signal) -> Result<Self> {
        // SAFETY: an integer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os("epoll_create1"));
        }
        // SAFETY: the kernel just made this descriptor for us.
        let epoll = off_streams(unsafe { OwnedFd::from_raw_fd(fd) });
        let member = signal.number();
        control(epoll.as_fd(), libc::EPOLL_CTL_ADD, member, libc::EPOLLIN)?;
        Ok(Self {
            epoll: ManuallyDrop::new(Kept::new(epoll)),
            member: (member.as_raw_fd(), shm::identity(member)),
        })
    }

    /// Whether the program has not closed it.
    pub(crate) fn is_open(&self) -> bool {
        self.get().is_some()
    }

    /// The epoll and its member, if the program has not closed them.
    fn get(&self) -> Option<[BorrowedFd<'_>; 2]> {
        let (number, file) = self.member;
        // SAFETY: it is only asked which file it is, if any; and it is used only if that is the member's.
        let member = unsafe { BorrowedFd::borrow_raw(number) };
        (file.is_some() && shm::identity(member) == file)
            .then(|| Some([self.epoll.get()?, member]))?
    }

    /// Makes this descriptor permanently readable, and no other one of the signal: from now on the epoll waits
    /// until the signal can be written to.
    pub(crate) fn keep_readable(&self, signal: &Signal) {
        // If the program has closed them, no thread waits for it.
        let Some([epoll, member]) = self.get() else {
            return;
        };
        let (both, write) = (libc::EPOLLIN | libc::EPOLLOUT, libc::EPOLLOUT);
        let _ = match signal.writer.as_ref().and_then(Kept::get) {
            None => control(epoll, libc::EPOLL_CTL_MOD, member, both),
            Some(writer) => control(epoll, libc::EPOLL_CTL_ADD, writer, write),
        };
    }
}

impl Drop for ReadableFd {
    fn drop(&mut self) {
        if self.is_open() {
            // SAFETY: it is not used any more.
            unsafe { ManuallyDrop::drop(&mut self.epoll) };
        }
    }
}

fn control(epoll: BorrowedFd<'_>, what: i32, member: BorrowedFd<'_>, events: i32) -> Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: 0,
    };
    // SAFETY: two open descriptors, and an event to copy.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, member.as_raw_fd(), &mut event) } {
        0 => Ok(()),
        _ => Err(Error::last_os("epoll_ctl")),
    }
}

impl AsFd for ReadableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.number()
    }
}

/// Waits until one of these is readable; false if none is by `deadline`. The same descriptor may be there many
/// times.
///
/// # Errors
/// `Interrupted` if a signal handler ran; `TooMany` for more descriptors than the process may have.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<bool> {
    let mut polled: Vec<_> = fds.iter().map(|fd| entry(*fd, libc::POLLIN)).collect();
    polled.sort_unstable_by_key(|it| it.fd);
    polled.dedup_by_key(|it| it.fd);
    poll(&mut polled, deadline).map(|ready| ready > 0)
}

/// Waits until one of these can be read, has ended, or is not open; `true` for each of those.
///
/// # Errors
/// As [`readable`].
pub(crate) fn each_readable(fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<Vec<bool>> {
    let mut polled: Vec<_> = fds.iter().map(|fd| entry(*fd, libc::POLLIN)).collect();
    poll(&mut polled, deadline)?;
    Ok(polled.iter().map(|it| it.revents != 0).collect())
}

/// Waits until this can be written to, or a write would fail; `false` if neither by `deadline`.
///
/// # Errors
/// As [`readable`].
pub(crate) fn writable(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<bool> {
    poll(&mut [entry(fd, libc::POLLOUT)], deadline).map(|ready| ready > 0)
}

fn entry(fd: BorrowedFd<'_>, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    }
}

fn poll(polled: &mut [libc::pollfd], deadline: Deadline) -> Result<usize> {
    let left = match deadline {
        Deadline::Now => Some(0),
        Deadline::At(at) => Some(at.saturating_sub(clock::now_ns())),
        Deadline::Never => None,
    };
    let left = left.map(clock::timespec);
    let left = left.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    let count = polled.len() as libc::nfds_t;
    let _shield = Shield::new();
    // SAFETY: `polled` and `left` outlive the call; a null mask leaves the signal mask alone.
    match unsafe { libc::ppoll(polled.as_mut_ptr(), count, left, std::ptr::null()) } {
        ready @ 0.. => Ok(ready as usize),
        _ => Err(match errno() {
            libc::EINTR => Error::Interrupted,
            // The limit was lowered after the descriptors were made.
            libc::EINVAL => Error::TooMany {
                what: "number of descriptors to wait for (see ulimit -n)",
                count,
                limit: limits::descriptors(),
            },
            errno => Error::Os {
                call: "ppoll",
                errno,
            },
        }),
    }
}
