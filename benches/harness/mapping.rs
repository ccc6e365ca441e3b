//! Memory that processes share by a descriptor that they inherit.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::failure::Failure;

/// An anonymous file of this many bytes, all zero.
pub(super) fn make(bytes: u64) -> Result<OwnedFd, Failure> {
    // SAFETY: the name ends with NUL, and the descriptor has no other owner.
    let file = unsafe {
        let fd = libc::memfd_create(c"shoal-bench".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        OwnedFd::from_raw_fd(fd)
    };
    File::from(file.try_clone()?).set_len(bytes)?;
    Ok(file)
}

/// A mapping of a whole file, until it is dropped.
pub(super) struct Mapping {
    pub(super) at: NonNull<u8>,
    pub(super) len: usize,
}

impl Mapping {
    pub(super) fn of(fd: &impl AsRawFd) -> Result<Self, Failure> {
        // SAFETY: an all-zero stat is valid and is overwritten; the shared mapping is new, and as long as the
        // file.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            if libc::fstat(fd.as_raw_fd(), &mut stat) != 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            let (len, access) = (stat.st_size as usize, libc::PROT_READ | libc::PROT_WRITE);
            let (none, flags) = (std::ptr::null_mut(), libc::MAP_SHARED);
            let at = libc::mmap(none, len, access, flags, fd.as_raw_fd(), 0);
            if at == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error().into());
            }
            let at = NonNull::new(at.cast()).ok_or("mapped at null")?;
            Ok(Self { at, len })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `of` has made the mapping, and nothing uses it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
