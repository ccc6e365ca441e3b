//! A file of the directory, mapped whole.
//!
//! In `/dev/shm` that is the `shared_memory` crate's work. It knows no other directory: files
//! elsewhere are mapped here, in the same way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;

use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::error::{Error, Result};

use super::{directory, limits, shm};

/// A file mapped whole. Unmapped when dropped; never unlinked by that.
pub(crate) enum Mapping {
    /// In `/dev/shm`.
    Shmem(Shmem),
    /// In any other directory.
    Pages(Pages),
}

// SAFETY: `Shmem` and `Pages` hold an address and perhaps a descriptor and give out neither by
// themselves; what is done with the mapped bytes is decided in `layout` and above.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates the file `file` of `size` bytes, none of them committed, and maps it.
    ///
    /// # Errors
    /// `TooLarge` beyond a limit of the process; `NoSpace` or `NoInodes`; `Permission` and
    /// `Unsupported` if the directory cannot be written to or is not there; `Exists`.
    pub(crate) fn create(file: &str, size: u64) -> Result<Self> {
        fits(size)?;
        let bytes = usize::try_from(size).map_err(|_| too_large(size))?;
        if !directory::is_default()? {
            let created = Pages::create(file, bytes);
            return created
                .map(Self::Pages)
                .map_err(|err| not_created(errno_of(&err), file, size));
        }
        match ShmemConf::new()
            .os_id(format!("/{file}"))
            .size(bytes)
            .create()
        {
            Ok(mut shmem) => {
                // The crate would unlink by name when dropped, whatever the name means then.
                shmem.set_owner(false);
                Ok(Self::Shmem(shmem))
            }
            Err(err) => Err(not_created(errno_of_crate(&err), file, size)),
        }
    }

    /// Maps the whole of the existing file `file`.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` for the address space; `Permission`.
    pub(crate) fn open(file: &str) -> Result<Self> {
        if !directory::is_default()? {
            let open = shm::open_file(file)?;
            let size = open.metadata().map_err(|_| Error::last_os("fstat"))?.len();
            let bytes = usize::try_from(size).map_err(|_| too_large(size))?;
            let pages = Pages::map(open.as_fd(), bytes);
            return pages
                .map(Self::Pages)
                .map_err(|err| not_mapped("mmap", errno_of(&err), size));
        }
        match ShmemConf::new().os_id(format!("/{file}")).open() {
            Ok(shmem) => Ok(Self::Shmem(shmem)),
            Err(err) => match errno_of_crate(&err) {
                libc::ENOENT | libc::ENOTDIR => Err(shm::missing(file)),
                errno => {
                    let size = shm::facts(file).map_or(0, |facts| facts.len());
                    Err(not_mapped("shm_open", errno, size))
                }
            },
        }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        match self {
            Self::Shmem(shmem) => NonNull::new(shmem.as_ptr()).expect("a mapping has an address"),
            Self::Pages(pages) => pages.base,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Shmem(shmem) => shmem.len(),
            Self::Pages(pages) => pages.len,
        }
    }
}

/// Mapped pages of a file.
pub(crate) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Creates a file of `len` bytes and maps it; removes it again if that fails.
    fn create(file: &str, len: usize) -> io::Result<Self> {
        let path = directory::path(file).map_err(io::Error::other)?;
        let created = create_file(&path)?;
        let mapped = created
            .set_len(len as u64)
            .and_then(|()| Self::map(created.as_fd(), len));
        if mapped.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        mapped
    }

    /// Maps `len` bytes of an open file, which the mapping does not need afterwards.
    pub(super) fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses; it replaces none.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(at) if base != libc::MAP_FAILED => Ok(Self { base: at, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole of a mapping of our own, which nothing resolved outlives.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A new file that only this user may open, as `shm_open` makes it.
pub(super) fn create_file(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether a file of `size` bytes is within the limit of this process, which the kernel enforces
/// with a signal that kills it.
pub(super) fn fits(size: u64) -> Result<()> {
    match limits::file_size() {
        Some(limit) if size > limit => Err(Error::TooLarge {
            what: "shared object's file (see ulimit -f, and max_capacity)",
            size,
            limit,
        }),
        _ => Ok(()),
    }
}

fn too_large(size: u64) -> Error {
    Error::TooLarge {
        what: "segment",
        size,
        limit: i64::MAX as u64,
    }
}

fn not_created(errno: i32, file: &str, size: u64) -> Error {
    match errno {
        libc::EEXIST => Error::Exists {
            name: file.to_owned(),
        },
        libc::ENOSPC | libc::EDQUOT => shm::no_room_for_file(),
        libc::ENOMEM | libc::EFBIG | libc::EINVAL => not_mapped("mmap", errno, size),
        errno => directory::refuses("shm_open", errno),
    }
}

fn not_mapped(call: &'static str, errno: i32, size: u64) -> Error {
    match (errno, limits::address_space()) {
        // The address space, not the memory, ran out.
        (libc::ENOMEM, Some(limit)) => Error::TooLarge {
            what: "address space (see ulimit -v, and max_capacity)",
            size,
            limit,
        },
        (libc::ENOMEM, None) => match limits::mappings() {
            Some((count, limit)) if count >= limit => Error::TooMany {
                what: "number of mappings in this process (see vm.max_map_count)",
                count,
                limit,
            },
            _ => Error::TooLarge {
                what: "address space of all objects in this process (see max_capacity)",
                size: limits::mapped().saturating_add(size),
                limit: limits::ADDRESSES,
            },
        },
        (libc::EFBIG | libc::EINVAL, _) => too_large(size),
        (libc::ENODEV, _) => directory::lacks("shared mappings (mmap)"),
        _ => Error::Os { call, errno },
    }
}

fn errno_of(err: &io::Error) -> i32 {
    err.raw_os_error().unwrap_or(0)
}

/// The crate's errors: it opens, sizes and maps, and does not always say which of them failed.
fn errno_of_crate(err: &ShmemError) -> i32 {
    match err {
        ShmemError::MappingIdExists => libc::EEXIST,
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => *errno as i32,
        _ => 0,
    }
}
