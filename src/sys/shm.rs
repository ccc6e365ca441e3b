//! Named shared memory: the files of a tmpfs, their sizes, their pages and their names.
//!
//! The mapping itself is the `shared_memory` crate's. Publishing a name, committing and
//! returning pages, locking and unlinking need a descriptor, which the crate keeps to
//! itself, so a segment also has one of ours.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::ptr::NonNull;

use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::error::{Error, Result};

use super::errno;

/// Where the C library's `shm_open` puts its files on Linux.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// A file mapped whole. Unmapped when dropped; never unlinked by that.
pub(crate) struct Mapping {
    shmem: Shmem,
}

// SAFETY: `Shmem` holds an address and a descriptor and gives out neither by itself; what is
// done with the mapped bytes is decided in `layout` and above.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates the file `file` of `size` bytes, none of them committed, and maps it.
    pub(crate) fn create(file: &str, size: u64) -> Result<Self> {
        let size = usize::try_from(size).map_err(|_| too_large(size))?;
        match ShmemConf::new()
            .os_id(format!("/{file}"))
            .size(size)
            .create()
        {
            Ok(mut shmem) => {
                // The crate would unlink by name when dropped, whatever the name means then.
                shmem.set_owner(false);
                Ok(Self { shmem })
            }
            Err(err) => Err(translate(err, file, size as u64)),
        }
    }

    /// Maps the whole of the existing file `file`.
    pub(crate) fn open(file: &str) -> Result<Self> {
        match ShmemConf::new().os_id(format!("/{file}")).open() {
            Ok(shmem) => Ok(Self { shmem }),
            Err(err) => {
                let size = facts(file).map_or(0, |facts| facts.len());
                Err(translate(err, file, size))
            }
        }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        NonNull::new(self.shmem.as_ptr()).expect("a mapping has an address")
    }

    pub(crate) fn len(&self) -> usize {
        self.shmem.len()
    }
}

fn too_large(size: u64) -> Error {
    Error::TooLarge {
        what: "segment",
        size,
        limit: usize::MAX as u64,
    }
}

fn translate(err: ShmemError, file: &str, size: u64) -> Error {
    match err {
        ShmemError::MappingIdExists => Error::Exists {
            name: file.to_owned(),
        },
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => match errno as i32 {
            libc::ENOENT => not_found(file),
            // The address space, not the memory, ran out.
            libc::ENOMEM => match address_space() {
                Some(limit) => Error::TooLarge {
                    what: "address space (see ulimit -v)",
                    size,
                    limit,
                },
                None => Error::Os {
                    call: "mmap",
                    errno: libc::ENOMEM,
                },
            },
            libc::EFBIG | libc::EINVAL => too_large(size),
            errno => Error::Os {
                call: "shm_open",
                errno,
            },
        },
        _ => Error::Os {
            call: "mmap",
            errno: 0,
        },
    }
}

/// How much of it this process may have altogether, if that is limited.
fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid place for a limit.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn not_found(file: &str) -> Error {
    Error::NotFound {
        what: "shared object",
        name: file.to_owned(),
    }
}

fn path(file: &str) -> String {
    format!("{DIRECTORY}/{file}")
}

/// Opens the file itself; the descriptor is closed on exec.
pub(crate) fn open_file(file: &str) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path(file))
        .map_err(|err| match err.raw_os_error() {
            Some(libc::ENOENT) => not_found(file),
            Some(errno @ (libc::EACCES | libc::EPERM)) => Error::Permission {
                name: file.to_owned(),
                why: io::Error::from_raw_os_error(errno).to_string(),
            },
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => {
                Error::corrupt(format!("{} is not a regular file", path(file)))
            }
            errno => Error::Os {
                call: "open",
                errno: errno.unwrap_or(0),
            },
        })
}

/// A second, independent open file description of the file behind `fd`, linked or not.
///
/// Only system calls: it may run in a freshly forked child.
pub(crate) fn reopen(fd: BorrowedFd<'_>) -> Result<File> {
    // "/proc/self/fd/" and the number, built without allocating.
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = [0u8; 10];
    let (mut rest, mut count) = (fd.as_raw_fd() as u32, 0);
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
        if rest == 0 {
            break;
        }
    }
    for at in 0..count {
        path[14 + at] = digits[count - 1 - at];
    }
    // SAFETY: `path` ends in a NUL: fourteen letters and at most ten digits fill 24 of 26.
    let fd = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last_os("open(/proc/self/fd)"));
    }
    // SAFETY: a new descriptor nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Commits pages for `offset .. offset + len`; on failure the last step is rolled back.
///
/// tmpfs undoes what a failed call allocated, never what was there before.
pub(crate) fn commit(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    // In steps: a signal makes the kernel drop the work of the call it interrupts, and a
    // program with a fast interval timer must still get there.
    const STEP: u64 = 16 << 20;
    let (mut at, end) = (
        offset,
        offset.checked_add(len).ok_or_else(|| too_large(len))?,
    );
    while at < end {
        let step = STEP.min(end - at);
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        let rc =
            unsafe { libc::fallocate(fd.as_raw_fd(), 0, at as libc::off_t, step as libc::off_t) };
        match rc {
            0 => at += step,
            _ => match errno() {
                libc::EINTR => {}
                libc::ENOSPC | libc::EDQUOT => {
                    return Err(Error::NoSpace {
                        needed: end - at,
                        available: available(fd),
                    });
                }
                errno => {
                    return Err(Error::Os {
                        call: "fallocate",
                        errno,
                    });
                }
            },
        }
    }
    Ok(())
}

/// Gives the pages of `offset .. offset + len` back; they read as zeros from then on.
pub(crate) fn decommit(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open; whether anybody still uses the bytes is the caller's
    // business, and touching a hole is harmless.
    let rc = unsafe {
        libc::fallocate(
            fd.as_raw_fd(),
            mode,
            offset as libc::off_t,
            len as libc::off_t,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(Error::last_os("fallocate(PUNCH_HOLE)"))
    }
}

/// Bytes the filesystem behind `fd` still has for us.
pub(crate) fn available(fd: BorrowedFd<'_>) -> u64 {
    // SAFETY: an all-zero statvfs is valid and is overwritten.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `stat` is writable.
    match unsafe { libc::fstatvfs(fd.as_raw_fd(), &mut stat) } {
        0 => stat.f_bavail.saturating_mul(stat.f_frsize),
        _ => 0,
    }
}

/// Gives the finished file `from` the name `to`, unless that name is taken.
pub(crate) fn publish(from: &str, to: &str) -> Result<()> {
    let cstring = |file: &str| CString::new(path(file)).expect("checked names have no NUL");
    let (old, new) = (cstring(from), cstring(to));
    // SAFETY: two NUL-terminated paths.
    let rc = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            old.as_ptr(),
            libc::AT_FDCWD,
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    match rc {
        0 => Ok(()),
        _ => match errno() {
            libc::EEXIST => Err(Error::Exists {
                name: to.to_owned(),
            }),
            libc::ENOENT => Err(not_found(from)),
            errno => Err(Error::Os {
                call: "renameat2",
                errno,
            }),
        },
    }
}

/// Removes the name.
pub(crate) fn unlink(file: &str) -> Result<()> {
    std::fs::remove_file(path(file)).map_err(|err| match err.raw_os_error() {
        Some(libc::ENOENT) => not_found(file),
        Some(errno @ (libc::EACCES | libc::EPERM)) => Error::Permission {
            name: file.to_owned(),
            why: io::Error::from_raw_os_error(errno).to_string(),
        },
        errno => Error::Os {
            call: "unlink",
            errno: errno.unwrap_or(0),
        },
    })
}

/// Whether `file` is still the name of the very file `open` is open on.
pub(crate) fn names(file: &str, open: BorrowedFd<'_>) -> bool {
    // SAFETY: an all-zero stat is valid and is overwritten.
    let mut facts: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `facts` is writable.
    if unsafe { libc::fstat(open.as_raw_fd(), &mut facts) } != 0 {
        return false;
    }
    std::fs::symlink_metadata(path(file))
        .is_ok_and(|named| (named.dev(), named.ino()) == (facts.st_dev, facts.st_ino))
}

/// Removes the name if it still means the file `open` is open on.
pub(crate) fn unlink_if_same(file: &str, open: BorrowedFd<'_>) -> bool {
    names(file, open) && unlink(file).is_ok()
}

/// The names of all files in the directory that begin with `prefix`.
pub(crate) fn files(prefix: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(DIRECTORY).map_err(|err| Error::Os {
        call: "opendir",
        errno: err.raw_os_error().unwrap_or(0),
    })?;
    let mut files: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    files.sort();
    Ok(files)
}

/// Size, pages and owner of a file, without opening it.
pub(crate) fn facts(file: &str) -> Result<std::fs::Metadata> {
    std::fs::symlink_metadata(path(file)).map_err(|_| not_found(file))
}
