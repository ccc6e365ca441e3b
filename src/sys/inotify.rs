//! Notification when files in a directory are closed or removed (inotify).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::fd::off_streams;

/// Readable once a file that was open for writing was closed for good, or removed: the watched file, or any
/// in the watched directory. The kernel closes the files of a killed process, so that is notified as well.
/// Close-on-exec and non-blocking.
pub(crate) struct Closes(OwnedFd);

impl Closes {
    /// `None` if none can be made, for example beyond the user's limit of instances: the caller then has to
    /// poll.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        // SAFETY: an integer.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the kernel just made this descriptor for us.
        let fd = off_streams(unsafe { OwnedFd::from_raw_fd(fd) });
        let events = libc::IN_CLOSE_WRITE | libc::IN_DELETE | libc::IN_DELETE_SELF;
        // SAFETY: an open descriptor and a path that ends in NUL.
        let watch = unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), events) };
        (watch >= 0).then_some(Self(fd))
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let mut bytes = [0u8; 4096];
        for _ in 0..64 {
            // SAFETY: an open descriptor and a buffer of this length. It fails if there is nothing to read.
            let read =
                unsafe { libc::read(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            if read <= 0 {
                break;
            }
        }
    }
}

impl AsFd for Closes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
