//! FIFOs in the directory of the objects: descriptors that processes find by name and share.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::directory::path;
use super::fd::off_streams;
use super::{process, shm};

/// Makes the FIFO `file`, for this user only, in place of whatever has that name.
///
/// # Errors
/// `Os`, whatever the reason.
pub(crate) fn make(file: &str) -> Result<()> {
    let _ = shm::unlink(file);
    let path = path(file)?;
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("name", "it has a NUL"))?;
    // SAFETY: a path that ends in NUL, and an integer.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o600) } {
        0 => Ok(()),
        _ => Err(Error::last_os("mkfifo")),
    }
}

/// Opens the FIFO `file` to read from it and to write to it, which never waits; and its inode.
/// Close-on-exec. `None` if it cannot be opened, or is no FIFO of this user.
pub(crate) fn open(file: &str) -> Option<(OwnedFd, u64)> {
    let _shield = Shield::new();
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path(file).ok()?)
        .ok()?;
    let facts = open.metadata().ok()?;
    let is_ours = facts.file_type().is_fifo() && facts.uid() == process::effective_uid();
    is_ours.then(|| (off_streams(open.into()), facts.ino()))
}

/// Removes `file` if it is a FIFO of this user.
pub(crate) fn remove(file: &str) -> bool {
    shm::facts(file)
        .is_ok_and(|facts| facts.file_type().is_fifo() && facts.uid() == process::effective_uid())
        && shm::unlink(file).is_ok()
}
