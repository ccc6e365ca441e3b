//! Descriptors: duplicates, pipes, and the numbers of those that the library keeps.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::limits;
use super::shm::{self, Identity};
use crate::error::{Error, Result};

/// The first number after the standard streams.
const FIRST: RawFd = 3;
/// A number above those that shells and programs usually choose.
const REMOTE: RawFd = 700;

/// Uses the descriptor as a file, and leaves it open.
pub(crate) fn with_file<T>(fd: BorrowedFd<'_>, act: impl FnOnce(&File) -> T) -> T {
    // SAFETY: the descriptor is open while it is borrowed, which is longer than `act` has the file. The file is never
    // dropped, so it does not close the descriptor.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    act(&file)
}

/// A close-on-exec duplicate of `fd`, numbered `above` or higher; `None` if `fd` is not open.
pub(crate) fn duplicate(fd: RawFd, above: RawFd) -> Result<Option<OwnedFd>> {
    // SAFETY: fcntl takes integers; a descriptor that is not open is an error.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) } {
        -1 => match Error::last_os("fcntl") {
            Error::Os {
                errno: libc::EBADF, ..
            } => Ok(None),
            err => Err(err),
        },
        // SAFETY: the kernel just made this descriptor for us.
        new => Ok(Some(unsafe { OwnedFd::from_raw_fd(new) })),
    }
}

/// Makes a descriptor that only this process has non-blocking.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers; the new flags are the old ones with one added.
    let done = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    match done {
        0 => Ok(()),
        _ => Err(Error::last_os("fcntl")),
    }
}

/// Sets whether a descriptor stays open when this process executes another program.
pub(crate) fn keep_on_exec(fd: BorrowedFd<'_>, keep: bool) -> Result<()> {
    let flags = if keep { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: integers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) } {
        0 => Ok(()),
        _ => Err(Error::last_os("fcntl(F_SETFD)")),
    }
}

/// Whether the program has this descriptor open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: integers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Gives a descriptor that the library keeps a number above those of the standard streams.
///
/// In a process that has closed one of these, a new descriptor gets its number: the process would print to
/// it, and its children would inherit it. If no further descriptor is left, it keeps its number.
pub(crate) fn off_streams(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() >= FIRST {
        return fd;
    }
    match duplicate(fd.as_raw_fd(), FIRST) {
        Ok(Some(moved)) => moved,
        _ => fd,
    }
}

/// The first number for a descriptor that a program does not know about, in a process that may have `most`
/// descriptors. A program that chooses a number itself, as a shell's `exec 4>log` does, would close it.
pub(crate) fn remote(most: u64) -> RawFd {
    let half = RawFd::try_from(most / 2).unwrap_or(RawFd::MAX);
    REMOTE.min(half).max(FIRST)
}

/// Gives a descriptor such a number. If no further descriptor is left, it keeps its number.
pub(crate) fn made_remote(fd: OwnedFd) -> OwnedFd {
    match duplicate(fd.as_raw_fd(), remote(limits::descriptors())) {
        Ok(Some(moved)) => moved,
        _ => fd,
    }
}

/// Occupies the numbers of standard streams that this process has closed, so that descriptors opened
/// meanwhile get other ones, as [`off_streams`] does for one descriptor.
pub(crate) struct StreamsTaken(Vec<OwnedFd>);

impl StreamsTaken {
    /// If no descriptor is left, or without `/dev/null`, the numbers stay free.
    pub(crate) fn new() -> Self {
        let mut taken = Self(Vec::new());
        // SAFETY: a query on integers.
        let is_closed = |fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1;
        if !(0..FIRST).any(is_closed) {
            return taken;
        }
        let null = c"/dev/null".as_ptr();
        loop {
            // SAFETY: a NUL-terminated path and integers.
            let fd = unsafe { libc::open(null, libc::O_RDWR | libc::O_CLOEXEC) };
            if fd < 0 {
                return taken;
            }
            // SAFETY: the kernel just made this descriptor for us.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            if fd.as_raw_fd() >= FIRST {
                return taken;
            }
            taken.0.push(fd);
        }
    }
}

/// A descriptor that the library keeps open for long.
///
/// Some programs close every descriptor that they find, as daemons do. The number may then belong to another
/// file, which is neither used nor closed here.
#[derive(Debug)]
pub(crate) struct Kept {
    fd: RawFd,
    file: Identity,
}

impl Kept {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let file = shm::identity(fd.as_fd()).unwrap_or_default();
        let fd = fd.into_raw_fd();
        Self { fd, file }
    }

    /// The descriptor, even if the program has closed it.
    pub(crate) fn number(&self) -> BorrowedFd<'_> {
        // SAFETY: this library does not close it before the value is dropped.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// `None` if the program has closed it.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        if self.fd < 0 {
            return None;
        }
        // SAFETY: only its identity is read, and it is used only if it is still the kept file.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        (shm::identity(fd) == Some(self.file)).then_some(fd)
    }

    /// The descriptor itself; `None` if the program has closed it.
    pub(crate) fn into_fd(self) -> Option<OwnedFd> {
        let kept = std::mem::ManuallyDrop::new(self);
        kept.get()?;
        // SAFETY: it is still the kept file's; this value owned it, and is not dropped.
        Some(unsafe { OwnedFd::from_raw_fd(kept.fd) })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.get().is_some() {
            // SAFETY: it is still the kept file's, which this value owns.
            drop(unsafe { OwnedFd::from_raw_fd(self.fd) });
        }
    }
}

/// A reference to a [`Kept`] descriptor for all threads, which does not own it.
pub(crate) struct SharedKept {
    fd: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl SharedKept {
    pub(crate) const fn none() -> Self {
        Self {
            fd: AtomicI32::new(-1),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }

    /// `fd` stays open until this is set to another one or cleared.
    pub(crate) fn set(&self, fd: &Kept) {
        self.clear();
        self.device.store(fd.file.0, Ordering::Relaxed);
        self.inode.store(fd.file.1, Ordering::Relaxed);
        self.fd.store(fd.fd, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.fd.store(-1, Ordering::Release);
    }

    /// `None` if there is none, or the program has closed it.
    pub(crate) fn get(&self) -> Option<BorrowedFd<'_>> {
        let kept = std::mem::ManuallyDrop::new(Kept {
            fd: self.fd.load(Ordering::Acquire),
            file: (
                self.device.load(Ordering::Relaxed),
                self.inode.load(Ordering::Relaxed),
            ),
        });
        kept.get()?;
        // SAFETY: open, and the same file's, as just checked.
        Some(unsafe { BorrowedFd::borrow_raw(kept.fd) })
    }
}

/// A close-on-exec pipe: the end to read from, the end to write to.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(Error::last_os("pipe2"));
    }
    // SAFETY: the kernel just made these descriptors for us.
    let ends = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let [reader, writer] = ends.map(off_streams);
    Ok((reader, writer))
}
