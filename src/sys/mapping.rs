//! Mappings of whole files in the directory, and their memory.
//!
//! A mapping keeps no descriptor: its memory is committed and given back through it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::{directory, errno, limits, shm};

/// Mapped pages of a file, without a descriptor. Unmapped when dropped.
pub(crate) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length; `layout` and its users govern access to the mapped bytes.
unsafe impl Send for Pages {}
// SAFETY: as for `Send`.
unsafe impl Sync for Pages {}

impl Pages {
    /// Creates the file `file` of `size` bytes, none of them committed, and maps it. Removes the file again
    /// if that fails.
    ///
    /// # Errors
    /// `TooLarge` beyond a limit of the process; `NoSpace` or `NoInodes`; `Permission` and `Unsupported` if
    /// the directory is not writable or does not exist; `Exists`.
    pub(crate) fn create(file: &str, size: u64) -> Result<(Self, File)> {
        fits(size)?;
        let created = shm::create_file(file)?;
        let mapped = created
            .set_len(size)
            .map_err(|err| match err.raw_os_error() {
                Some(libc::EFBIG | libc::EINVAL) => too_large(size),
                _ => Error::last_os("ftruncate"),
            })
            .and_then(|()| Self::map(created.as_fd(), size));
        match mapped {
            Ok(pages) => Ok((pages, created)),
            Err(err) => {
                let _ = shm::unlink(file);
                Err(err)
            }
        }
    }

    /// Maps `size` bytes of an open file, which may be closed afterwards.
    ///
    /// # Errors
    /// `TooLarge` for the address space; `TooMany` mappings.
    pub(crate) fn map(fd: BorrowedFd<'_>, size: u64) -> Result<Self> {
        let len = usize::try_from(size).map_err(|_| too_large(size))?;
        // SAFETY: a new mapping at an address that the kernel chooses; it replaces none.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(at) if base != libc::MAP_FAILED => {
                limits::LIBRARY_MAPPED.fetch_add(size, Ordering::Relaxed);
                let pages = Self { base: at, len };
                if !directory::is_on_tmpfs() {
                    pages.keep_apart();
                }
                Ok(pages)
            }
            _ => Err(not_mapped(errno(), size)),
        }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Its address and its length.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.base.as_ptr().addr(), self.len)
    }

    /// Makes the page cache hold each page of the mapping by itself, so that a store to a committed page needs
    /// no room on the disk.
    ///
    /// A disk's file system writes pages to the disk and write-protects them. At the next store it needs room
    /// for every block of the *folio*, the unit in which the page cache holds pages, that has no room yet; if
    /// the disk is full, the kernel sends SIGBUS. A committed page has room for its blocks, so a folio of one
    /// page needs no more, and one that read-ahead made may, since it has pages that are not committed. Blocks
    /// that `fallocate` sets aside do not change that. Read-ahead through the file is in `shm::open_file`.
    fn keep_apart(&self) {
        // SAFETY: a whole mapping that this value owns; the advice changes no byte. It cannot fail for one.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_RANDOM) };
    }

    /// Sets whether children that are forked from now on inherit this mapping.
    pub(crate) fn inherit(&self, to_children: bool) {
        let advice = match to_children {
            true => libc::MADV_DOFORK,
            false => libc::MADV_DONTFORK,
        };
        // SAFETY: a whole mapping that this value owns. A child without the mapping forgets its copy of the
        // value.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that this value owns; nothing resolved from it outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        limits::LIBRARY_MAPPED.fetch_sub(self.len as u64, Ordering::Relaxed);
    }
}

/// Whether [`commit`] works: since Linux 5.14, unless `madvise` is emulated without effect.
pub(crate) fn commits() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    /// No kernel has this advice. An emulator that accepts it implements none.
    const UNKNOWN_ADVICE: libc::c_int = 0x5ba1;
    // SAFETY: no bytes are affected; the call only shows whether the kernel knows the advice.
    let knows = |advice| unsafe { libc::madvise(ptr::null_mut(), 0, advice) == 0 };
    *WORKS.get_or_init(|| knows(libc::MADV_POPULATE_WRITE) && !knows(UNKNOWN_ADVICE))
}

/// Commits and maps memory for the `len` bytes at `at`, whole pages of a shared mapping. Bytes that had
/// memory do not change.
///
/// Faster than `fallocate` and the page faults after it: 1 MiB that is then written takes 0.5 ms instead of
/// 0.7 ms.
///
/// # Errors
/// `NoSpace`. A part may then be committed: the caller gives it back.
pub(crate) fn commit(at: NonNull<u8>, len: usize) -> Result<()> {
    let _shield = Shield::new();
    loop {
        // SAFETY: mapped, as the caller says. No byte changes.
        match unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) } {
            0 => return Ok(()),
            _ => match errno() {
                libc::EINTR | libc::EAGAIN => {}
                // EFAULT: a store would raise SIGBUS. ENOMEM: a control group's limit.
                libc::EFAULT | libc::ENOMEM => {
                    return Err(Error::no_memory(len as u64, shm::available()));
                }
                errno => {
                    return Err(Error::Os {
                        call: "madvise(MADV_POPULATE_WRITE)",
                        errno,
                    });
                }
            },
        }
    }
}

/// Whether all these pages are in memory: the `len` bytes at `at`, whole pages of a shared mapping. Does not touch
/// them, and is many times as fast as mapping them.
pub(crate) fn are_resident(at: NonNull<u8>, len: usize) -> bool {
    const PAGE: usize = 4096;
    const PAGES: usize = 1024;
    (0..len).step_by(PAGES * PAGE).all(|from| {
        let step = (PAGES * PAGE).min(len - from);
        // The system's pages may be larger, and then it sets fewer of these.
        let mut pages = [1u8; PAGES];
        // SAFETY: mapped, as the caller says; there is a byte for each page.
        let asked = unsafe {
            let from = at.as_ptr().add(from);
            libc::mincore(from.cast(), step, pages.as_mut_ptr())
        };
        let count = step.div_ceil(PAGE);
        asked == 0 && pages[..count].iter().all(|page| page & 1 != 0)
    })
}

/// Gives the memory of the `len` bytes at `at` back, whole pages of a shared mapping. A later access is
/// harmless while the system has memory.
pub(crate) fn decommit(at: NonNull<u8>, len: usize) -> Result<()> {
    let _shield = Shield::new();
    // SAFETY: mapped, as the caller says; the caller makes sure that no process uses the bytes.
    match unsafe { libc::madvise(at.as_ptr().cast(), len, libc::MADV_REMOVE) } {
        0 => Ok(()),
        _ => match errno() {
            // The program has locked its memory (`mlockall`), so it is kept.
            libc::EINVAL => Ok(()),
            libc::EOPNOTSUPP => Err(directory::lacks("memory that is given back (MADV_REMOVE)")),
            _ => Err(Error::last_os("madvise(MADV_REMOVE)")),
        },
    }
}

/// Whether a file of `size` bytes is within the limit of this process, which the kernel enforces
/// with a signal that kills it.
pub(super) fn fits(size: u64) -> Result<()> {
    match limits::file_size() {
        Some(limit) if size > limit => Err(Error::TooLarge {
            what: "shared object's file (see ulimit -f, and max_capacity if the object has one)",
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

fn not_mapped(errno: i32, size: u64) -> Error {
    match (errno, limits::address_space()) {
        // The address space, not the memory, ran out.
        (libc::ENOMEM, Some(limit)) => Error::TooLarge {
            what: "address space of this process (see ulimit -v, and max_capacity)",
            size: limits::mapped().saturating_add(size),
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
        // The program locks all its mappings (`mlockall`).
        (libc::EAGAIN, _) => Error::TooLarge {
            what: "memory that this process locks (see ulimit -l, mlockall, and max_capacity)",
            size: limits::mapped().saturating_add(size),
            limit: limits::locked_memory().unwrap_or(u64::MAX),
        },
        (libc::EFBIG | libc::EINVAL, _) => too_large(size),
        (libc::ENODEV, _) => directory::lacks("shared mappings (mmap)"),
        _ => Error::Os {
            call: "mmap",
            errno,
        },
    }
}
