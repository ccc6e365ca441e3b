//! FIFOs in the directory of the objects: descriptors that processes find by name and share.

use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::directory::path;
use super::fd::off_streams;
use super::{process, shm};

/// Makes the FIFO `file`, for this user only, and replaces any file of that name.
///
/// # Errors
/// `Os`.
pub(crate) fn make(file: &str) -> Result<()> {
    let _ = shm::unlink(file);
    let at = path(file)?;
    let path = CString::new(at.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("name", "it has a NUL"))?;
    // SAFETY: a path that ends in NUL, and an integer.
    if unsafe { libc::mkfifo(path.as_ptr(), shm::MODE) } != 0 {
        return Err(Error::last_os("mkfifo"));
    }
    // A umask may have removed rights of the user, too.
    let is_as_made = |facts: &fs::Metadata| facts.mode() & shm::MODE == shm::MODE;
    if !shm::facts(file).is_ok_and(|facts| is_as_made(&facts)) {
        let _ = fs::set_permissions(&at, Permissions::from_mode(shm::MODE));
    }
    Ok(())
}

/// Opens the FIFO `file` for reading and writing, non-blocking and close-on-exec; also returns its inode.
/// `None` if it cannot be opened, or is not a FIFO of this user.
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
