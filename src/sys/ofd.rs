//! Locks on single bytes of a file, held by an *open file description*.
//!
//! The kernel drops such a lock when the last descriptor of the description is closed, and so when its
//! process dies. Unlike the older record locks, it is not lost when another descriptor of the file is closed.
//! No process id is involved, so neither reuse of ids nor pid namespaces can mislead. A forked child shares
//! its parent's description; see `segment::liveness`.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::error::{Error, Result};

use super::errno;

fn request(kind: libc::c_int, start: u64, len: u64) -> libc::flock {
    // SAFETY: an all-zero `flock` is valid, and OFD locks require its `l_pid` to be zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start as libc::off_t;
    lock.l_len = len as libc::off_t;
    lock
}

/// Takes the lock on `byte` if no other description has it. Safe to call in a forked child.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, byte: u64) -> Result<bool> {
    try_lock_range(fd, byte, 1)
}

/// The same for `len` bytes from `start` on.
pub(crate) fn try_lock_range(fd: BorrowedFd<'_>, start: u64, len: u64) -> Result<bool> {
    let lock = request(libc::F_WRLCK, start, len);
    // SAFETY: the descriptor is open and `lock` is a valid request.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        0 => Ok(true),
        _ => match errno() {
            libc::EAGAIN | libc::EACCES => Ok(false),
            errno => Err(Error::Os {
                call: "fcntl(F_OFD_SETLK)",
                errno,
            }),
        },
    }
}

/// Makes the lock on `byte`, which this description has, one that only writers would wait for: it is still seen by
/// [`first_held`], but not by [`written_range`]. Never waits.
pub(crate) fn share(fd: BorrowedFd<'_>, byte: u64) {
    let lock = request(libc::F_RDLCK, byte, 1);
    // SAFETY: the descriptor is open and `lock` is a valid request.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
}

/// Releases the lock on `byte`.
pub(crate) fn unlock(fd: BorrowedFd<'_>, byte: u64) {
    let lock = request(libc::F_UNLCK, byte, 1);
    // SAFETY: the descriptor is open and `lock` is a valid request; unlocking cannot fail.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
}

/// A range within `start .. start + len` that another description has locked for writing, as its first byte
/// and its length; `None` if there is none. `fd` need not be open for writing.
///
/// A process with only read access can lock the file only for reading, and is not reported.
pub(crate) fn written_range(
    fd: BorrowedFd<'_>,
    start: u64,
    len: u64,
) -> Result<Option<(u64, u64)>> {
    let mut lock = request(libc::F_RDLCK, start, len);
    // SAFETY: the descriptor is open and `lock` is a valid request the kernel overwrites.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } != 0 {
        return Err(Error::last_os("fcntl(F_OFD_GETLK)"));
    }
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    let (from, count) = (lock.l_start as u64, lock.l_len as u64);
    // A length of 0 means to the end.
    let end = if count == 0 {
        u64::MAX
    } else {
        from.saturating_add(count)
    };
    let (from, end) = (from.max(start), end.min(start.saturating_add(len)));
    Ok(Some((from, end.saturating_sub(from))))
}

/// The first byte in `start .. start + len` that *another* description has locked; with a `len` of 0,
/// from `start` on.
pub(crate) fn first_held(fd: BorrowedFd<'_>, start: u64, len: u64) -> Result<Option<u64>> {
    let mut lock = request(libc::F_WRLCK, start, len);
    // SAFETY: the descriptor is open and `lock` is a valid request the kernel overwrites.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) } != 0 {
        return Err(Error::last_os("fcntl(F_OFD_GETLK)"));
    }
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // A lock may begin before the range.
    Ok(Some((lock.l_start as u64).max(start)))
}
