//! Whether the directory's file system supports what a segment needs: tested once per process, before the
//! first object is created, unless the directory is on a tmpfs.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

use super::mapping::{self, Pages, fits};
use super::{directory, ofd, shm};

/// File systems whose files other machines may change: memory is not shared with those machines, and their
/// processes would count as dead.
const REMOTE: [(u32, &str); 9] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9P"),
    (0x0116_1970, "GFS2"),
    (0x0bd0_0bd0, "Lustre"),
];

/// The size of the test file.
const PAGES: u64 = 2 * 4096;
/// A byte far behind the end, as segments lock them.
const FAR: u64 = 1 << 62;

/// Makes sure that objects can be created in the directory. `private` makes names for a test file, which is
/// removed again. If the process is killed meanwhile, the file is collected like an unfinished object.
///
/// # Errors
/// `Unsupported`, which names what the directory or its file system lacks; `Permission`; `NoSpace`.
pub(crate) fn check(private: impl Fn() -> String) -> Result<()> {
    static CHECKED: AtomicBool = AtomicBool::new(false);
    if CHECKED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let kind = directory::file_system()?;
    if let Some((_, name)) = REMOTE.iter().find(|(remote, _)| *remote == kind) {
        let what = format!("a file system of this machine and not one of other machines ({name})");
        return Err(directory::lacks(&what));
    }
    if kind != directory::TMPFS {
        let names = [private(), private()];
        let tried = test(&names);
        for name in &names {
            let _ = shm::unlink(name);
        }
        tried?;
    }
    CHECKED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Tests everything that a segment needs from its file.
fn test([first, second]: &[String; 2]) -> Result<()> {
    fits(PAGES)?;
    let failed = |call| move |_: std::io::Error| Error::last_os(call);
    let file = shm::create_file(first)?;
    file.set_len(PAGES)
        .map_err(|err| match err.raw_os_error() {
            // Of hugetlbfs, whose pages are larger.
            Some(libc::EINVAL) => directory::lacks("files of any number of 4096 bytes (ftruncate)"),
            _ => Error::last_os("ftruncate"),
        })?;
    shm::commit(file.as_fd(), 0, PAGES)?;
    let pages =
        Pages::map(file.as_fd(), PAGES).map_err(|_| directory::lacks("shared mappings (mmap)"))?;
    let seen = || -> Result<u8> {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).map_err(failed("pread"))?;
        Ok(byte[0])
    };
    // SAFETY: the first byte of the mapping, which has memory and which no other process uses.
    unsafe { pages.base().write_volatile(7) };
    if seen()? != 7 {
        return Err(directory::lacks("mappings that agree with the file (mmap)"));
    }
    mapping::decommit(pages.base(), 4096)?;
    if seen()? != 0 {
        return Err(directory::lacks(
            "memory that reads as zeros once it was given back",
        ));
    }
    locks(&file, &shm::open_file(first)?)?;
    if !shm::names(first, file.as_fd()) {
        return Err(directory::lacks("files that keep their inode numbers"));
    }
    shm::publish(first, second)
}

/// Checks that a lock of one open file description excludes another, and is visible to it.
fn locks(file: &File, other: &File) -> Result<()> {
    let (file, other) = (file.as_fd(), other.as_fd());
    let works = || -> Result<bool> {
        Ok(ofd::try_lock(file, FAR)?
            && !ofd::try_lock(other, FAR)?
            && ofd::first_held(other, FAR, 2)? == Some(FAR)
            && ofd::first_held(file, FAR, 2)?.is_none())
    };
    match works() {
        Ok(true) => Ok(()),
        _ => Err(directory::lacks(
            "locks of open file descriptions (F_OFD_SETLK)",
        )),
    }
}
