//! Descriptors that become readable: making one, and waiting for several.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::clock::{self, Deadline};
use super::errno;
use super::fd::{Kept, off_streams};

/// A descriptor that is readable while it was signalled and not cleared since: an eventfd.
/// Close-on-exec, and no call on it waits.
pub(crate) struct Signal(Kept);

impl Signal {
    /// One that is readable already, or not yet.
    pub(crate) fn new(readable: bool) -> Result<Self> {
        // SAFETY: two integers.
        let fd = unsafe { libc::eventfd(readable.into(), libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::last_os("eventfd"));
        }
        // SAFETY: the kernel just made this descriptor for us.
        let fd = off_streams(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self(Kept::new(fd)))
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        let _shield = Shield::new();
        if let Some(fd) = self.0.get() {
            // SAFETY: an open eventfd. It fails only at 2^64 - 1 signals, and is readable then.
            unsafe { libc::eventfd_write(fd.as_raw_fd(), 1) };
        }
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let _shield = Shield::new();
        let mut count = 0;
        if let Some(fd) = self.0.get() {
            // SAFETY: an open eventfd and a place for its count. It fails only if there is none.
            unsafe { libc::eventfd_read(fd.as_raw_fd(), &mut count) };
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.number()
    }
}

/// Waits until one of these is readable, at the latest until `deadline`; says whether one is.
///
/// # Errors
/// `Interrupted` if a signal handler ran.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<bool> {
    let one = |fd: &BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<_> = fds.iter().map(one).collect();
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
        0 => Ok(false),
        1.. => Ok(true),
        _ if errno() == libc::EINTR => Err(Error::Interrupted),
        _ => Err(Error::last_os("ppoll")),
    }
}
