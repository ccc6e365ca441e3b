//! A file's gate: a byte that is locked while a process comes or goes, so that "am I the last?" and
//! "is anybody there?" have answers that stay true until they are acted upon.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::Result;
use crate::sys::ofd;

/// The byte, far beyond the end of any file.
pub(super) const GATE: u64 = 1 << 62;

/// Keeps others from coming and going until dropped.
///
/// Opened by name, not only by closing the descriptor: a fork in another thread may have
/// copied that.
pub(super) struct Gate<'a>(BorrowedFd<'a>);

impl<'a> Gate<'a> {
    /// Waits for the process that is in the gate.
    pub(super) fn close(fd: BorrowedFd<'a>) -> Result<Self> {
        ofd::lock(fd, GATE).map(|()| Self(fd))
    }

    /// `None` if a process stays in the gate for about a second: it was stopped there.
    pub(super) fn close_soon(fd: BorrowedFd<'a>) -> Result<Option<Self>> {
        for _ in 0..10_000 {
            if let Some(gate) = Self::try_close(fd)? {
                return Ok(Some(gate));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(None)
    }

    /// `None` if somebody is in the gate.
    pub(super) fn try_close(fd: BorrowedFd<'a>) -> Result<Option<Self>> {
        Ok(ofd::try_lock(fd, GATE)?.then_some(Self(fd)))
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        ofd::unlock(self.0, GATE);
    }
}
