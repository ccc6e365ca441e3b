//! The attach lock of a file: a byte that is locked while a process attaches or leaves. Under that lock, a
//! process that checks whether others are attached can act on the result before it changes.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::error::Result;
use crate::sys::ofd;

/// The byte, far beyond the end of any file.
pub(super) const ATTACH_LOCK: u64 = 1 << 62;

/// The attach lock, held until dropped: no other process attaches or leaves.
///
/// It is unlocked explicitly, not only by closing the descriptor: a fork in another thread may have copied
/// the descriptor.
pub(super) struct AttachLock<'a>(BorrowedFd<'a>);

impl<'a> AttachLock<'a> {
    /// Takes the lock. `None` if another process holds it for about a second: that process is stopped.
    pub(super) fn acquire_soon(fd: BorrowedFd<'a>) -> Result<Option<Self>> {
        for _ in 0..10_000 {
            if let Some(lock) = Self::try_acquire(fd)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(None)
    }

    /// Takes the lock without waiting. `None` if another process has it.
    pub(super) fn try_acquire(fd: BorrowedFd<'a>) -> Result<Option<Self>> {
        Ok(ofd::try_lock(fd, ATTACH_LOCK)?.then(|| Self(fd)))
    }
}

impl Drop for AttachLock<'_> {
    fn drop(&mut self) {
        ofd::unlock(self.0, ATTACH_LOCK);
    }
}
