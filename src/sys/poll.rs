//! Descriptors that become readable: making one, and waiting for several.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::clock::{self, Deadline};
use super::errno;
use super::fd::{Kept, off_streams};

/// A descriptor that is readable from when it is set until it is cleared: an eventfd, or a FIFO that other
/// processes may also have open. Close-on-exec and non-blocking.
pub(crate) struct Signal(Kept);

/// How many reads empty a FIFO at most: it holds 64 KiB, and each write here has 8 bytes.
const READS: usize = 32;

impl Signal {
    /// A signal of this process's own: an eventfd.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: two integers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::last_os("eventfd"));
        }
        // SAFETY: the kernel just made this descriptor for us.
        let fd = off_streams(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self(Kept::new(fd)))
    }

    /// A signal by the FIFO `fd`, which is open for reading and writing, non-blocking.
    pub(crate) fn of_fifo(fd: OwnedFd) -> Self {
        Self(Kept::new(fd))
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        let _shield = Shield::new();
        let one = 1u64.to_ne_bytes();
        if let Some(fd) = self.0.get() {
            // SAFETY: an open descriptor and 8 bytes. It fails only if there is no room, and is then
            // readable.
            unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Makes it unreadable. False if the program has closed it.
    pub(crate) fn clear(&self) -> bool {
        let _shield = Shield::new();
        let Some(fd) = self.0.get() else {
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
        self.0.number()
    }

    /// Whether the program has not closed it.
    pub(crate) fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether it is readable.
    pub(crate) fn is_set(&self) -> bool {
        self.0
            .get()
            .is_some_and(|fd| readable(&[fd], Deadline::Now) == Ok(true))
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.number()
    }
}

/// The descriptor that a program gets for a [`Signal`]: readable while the signal is, or permanently after
/// [`keep_readable`](Self::keep_readable). An epoll instance with one member. Close-on-exec.
pub(crate) struct ReadableFd(Kept);

impl ReadableFd {
    pub(crate) fn of(signal: &Signal) -> Result<Self> {
        // SAFETY: an integer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os("epoll_create1"));
        }
        // SAFETY: the kernel just made this descriptor for us.
        let fd = Self(Kept::new(off_streams(unsafe { OwnedFd::from_raw_fd(fd) })));
        fd.control(signal, libc::EPOLL_CTL_ADD, libc::EPOLLIN)?;
        Ok(fd)
    }

    /// Whether the program has not closed it.
    pub(crate) fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    /// Makes the descriptor permanently readable, without a change of the signal: the descriptor now also
    /// polls whether the signal can be written to, which is always true.
    pub(crate) fn keep_readable(&self, signal: &Signal) {
        // Fails if the program has closed one of them: then no thread waits for it.
        let _ = self.control(signal, libc::EPOLL_CTL_MOD, libc::EPOLLIN | libc::EPOLLOUT);
    }

    fn control(&self, signal: &Signal, what: i32, events: i32) -> Result<()> {
        let (Some(epoll), Some(member)) = (self.0.get(), signal.0.get()) else {
            return Ok(());
        };
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
}

impl AsFd for ReadableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.number()
    }
}

/// Waits until one of these is readable; false if none is by `deadline`.
///
/// # Errors
/// `Interrupted` if a signal handler ran.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<bool> {
    let mut polled: Vec<_> = fds.iter().map(|fd| entry(*fd, libc::POLLIN)).collect();
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
        _ if errno() == libc::EINTR => Err(Error::Interrupted),
        _ => Err(Error::last_os("ppoll")),
    }
}
