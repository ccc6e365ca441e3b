//! Locks on whole files, by open file description (`flock`). They need no write access: a directory can be
//! locked.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, Result};

use super::errno;

/// Takes the lock if no other description has it. Does not wait.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> Result<bool> {
    loop {
        // SAFETY: integers.
        if unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        match errno() {
            libc::EWOULDBLOCK => return Ok(false),
            libc::EINTR => {}
            errno => {
                return Err(Error::Os {
                    call: "flock",
                    errno,
                });
            }
        }
    }
}

/// Releases the lock, for every copy of the descriptor.
pub(crate) fn unlock(fd: BorrowedFd<'_>) {
    // SAFETY: integers; unlocking cannot fail.
    unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) };
}
