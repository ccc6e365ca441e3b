//! Named shared memory: the files of a tmpfs, their sizes, their pages and their names.
//!
//! Their mappings are in `mapping`.

use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Result};

use super::cancel::Shield;
use super::directory::{self, path};
use super::{clock, errno, process};

fn not_found(file: &str) -> Error {
    Error::NotFound {
        what: "shared object",
        name: file.to_owned(),
    }
}

/// The error of a missing file: `NotFound`, unless the directory is missing too.
pub(crate) fn missing(file: &str) -> Error {
    directory::exists().err().unwrap_or_else(|| not_found(file))
}

/// The error of a name that is not a regular file, unless the path of the directory is at fault. Removing an
/// object never removes a directory, which may have anything in it.
pub(crate) fn no_file(file: &str) -> Error {
    let path = match directory::exists().and_then(|()| path(file)) {
        Ok(path) => path,
        Err(err) => return err,
    };
    let kind = std::fs::symlink_metadata(&path).map(|it| it.file_type());
    let (what, advice) = match kind {
        Ok(kind) if kind.is_dir() => ("a directory", "remove it by hand"),
        Ok(kind) if kind.is_symlink() => ("a symbolic link", "`shoal rm` removes it"),
        _ => ("not a regular file", "`shoal rm` removes it"),
    };
    Error::corrupt(format!("{path:?} is {what}, and no object: {advice}"))
}

fn denied(file: &str, errno: i32) -> Error {
    // Its owner says more than the reason of the system.
    let facts = path(file).map(std::fs::symlink_metadata);
    if let Ok(Ok(facts)) = facts
        && errno != libc::EROFS
        && let Err(err) = check_user(file, &facts)
    {
        return err;
    }
    Error::Permission {
        name: file.to_owned(),
        why: directory::why_denied(file, errno),
    }
}

/// Opens the file, but no link; the descriptor is closed on exec.
pub(crate) fn open_file(file: &str) -> Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path(file)?);
    opened
        .inspect(|it| match directory::is_on_tmpfs() {
            true => {}
            false => cache_apart(it.as_fd()),
        })
        .map_err(|err| match err.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => missing(file),
            Some(errno @ (libc::EACCES | libc::EPERM | libc::EROFS)) => denied(file, errno),
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => no_file(file),
            Some(libc::ENAMETOOLONG) => directory::refuses("open", libc::ENAMETOOLONG),
            errno => Error::Os {
                call: "open",
                errno: errno.unwrap_or(0),
            },
        })
}

/// Makes the page cache hold what this process reads from a file on a disk page by page, and forget what no
/// process has mapped: another program may have read it, such as a backup, and then many pages are one folio.
/// `Pages::map` says why.
fn cache_apart(fd: BorrowedFd<'_>) {
    for advice in [libc::POSIX_FADV_RANDOM, libc::POSIX_FADV_DONTNEED] {
        // SAFETY: an open descriptor; the advice changes no byte. An error is ignored: the file may be a FIFO.
        unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, advice) };
    }
}

/// The mode of a file: only its user may open it.
pub(super) const MODE: u32 = 0o600;

/// Creates the file, empty, for this user only; the descriptor is closed on exec.
///
/// # Errors
/// `Exists`; `NoSpace` or `NoInodes`; `Permission` and `Unsupported` if the directory is not writable or does
/// not exist.
pub(crate) fn create_file(file: &str) -> Result<File> {
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path(file)?);
    // A umask may have removed rights of the user, too. A failure is ignored: some file systems have no
    // modes.
    let created = created.inspect(|it| drop(it.set_permissions(Permissions::from_mode(MODE))));
    created.map_err(|err| match err.raw_os_error().unwrap_or(0) {
        libc::EEXIST => Error::Exists {
            name: file.to_owned(),
        },
        libc::ENOSPC | libc::EDQUOT => no_room_for_file(),
        errno => directory::refuses("open", errno),
    })
}

/// A second, independent open file description of the file behind `fd`, which may have one of
/// `names`.
///
/// # Errors
/// `Unsupported` without /proc, if the file has none of these names any more.
pub(crate) fn reopen<'a>(
    fd: BorrowedFd<'_>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<File> {
    // Does not allocate: this runs in a fork handler, and an allocator's handlers may have run before.
    let mut link = [0u8; 32];
    let written = write!(&mut link[..], "/proc/self/fd/{}\0", fd.as_raw_fd());
    written.map_err(|_| Error::corrupt("a descriptor of more than 17 digits"))?;
    // SAFETY: a path that ends in NUL.
    match unsafe { libc::open(link.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC) } {
        // SAFETY: a new descriptor that nothing else owns.
        open @ 0.. => return Ok(unsafe { File::from_raw_fd(open) }),
        _ if matches!(errno(), libc::ENOENT | libc::ENOTDIR) => {}
        _ => return Err(Error::last_os("open(/proc/self/fd)")),
    }
    // Without /proc: by name, which may belong to another file by now.
    let wanted = identity(fd);
    let same = |open: &File| wanted.is_some() && identity(open.as_fd()) == wanted;
    let mut named = names.into_iter().filter_map(|file| open_file(file).ok());
    named.find(same).ok_or_else(|| {
        Error::unsupported(
            "/proc is not mounted, through which an object whose name was removed is opened again",
        )
    })
}

const FALLOCATE: &str = "memory that is set aside (fallocate)";
const NOREPLACE: &str =
    "names that are given only if they are free (renameat2 with RENAME_NOREPLACE)";

/// Commits pages for `offset .. offset + len`; on failure the last step is rolled back.
///
/// tmpfs undoes what a failed call allocated, never what was there before.
pub(crate) fn commit(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    // In steps: a signal makes the kernel undo the work of the call that it interrupts, and the whole must
    // succeed in a program with a fast interval timer, too. So each signal halves the step.
    let mut longest: u64 = 16 << 20;
    let _shield = Shield::new();
    let (mut at, end) = (
        offset,
        offset
            .checked_add(len)
            .ok_or_else(|| Error::corrupt("a span of memory ends beyond 2^64"))?,
    );
    while at < end {
        let step = longest.min(end - at);
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        let rc =
            unsafe { libc::fallocate(fd.as_raw_fd(), 0, at as libc::off_t, step as libc::off_t) };
        match rc {
            0 => at += step,
            _ => match errno() {
                libc::EINTR => longest = (longest / 2).max(4096),
                libc::ENOSPC | libc::EDQUOT => {
                    return Err(Error::no_memory(end - at, available()));
                }
                libc::EOPNOTSUPP => return Err(directory::lacks(FALLOCATE)),
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

/// A smaller request is not checked.
const MUCH: u64 = 1 << 20;

/// Refuses a request for which the file system cannot have room, before anything is committed. A request that
/// fails half-way would take all memory from the other processes in the meantime.
///
/// # Errors
/// `NoSpace`.
pub(crate) fn check_room(bytes: u64) -> Result<()> {
    if bytes < MUCH {
        return Ok(());
    }
    let stat = file_system();
    let free = stat.f_bfree.saturating_mul(stat.f_frsize);
    // A tmpfs without a limit has no blocks.
    if stat.f_blocks == 0 || bytes <= free {
        return Ok(());
    }
    Err(Error::no_memory(bytes, available()))
}

/// Bytes that are free in the directory's file system.
pub(crate) fn available() -> u64 {
    let stat = file_system();
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

/// The state of the directory's file system; zeros if it cannot be read.
fn file_system() -> libc::statvfs {
    directory::directory().map_or_else(|_| file_system_of(Path::new("")), file_system_of)
}

/// The same of the file system that a directory is on.
fn file_system_of(directory: &Path) -> libc::statvfs {
    // SAFETY: an all-zero statvfs is valid and is overwritten.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    if let Ok(path) = CString::new(directory.as_os_str().as_bytes()) {
        // SAFETY: a path that ends in NUL, and a place for the answer.
        unsafe { libc::statvfs(path.as_ptr(), &mut stat) };
    }
    stat
}

/// The error of an object's file for which the file system has no room.
fn no_room_for_file() -> Error {
    directory::directory().map_or_else(|err| err, |it| no_room_in(it, directory::VARIABLE))
}

/// The error of a file for which the file system of a directory has no room. `variable` can name another
/// directory.
pub(super) fn no_room_in(directory: &Path, variable: &'static str) -> Error {
    let stat = file_system_of(directory);
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Error::NoInodes {
            directory: directory.display().to_string(),
            limit: stat.f_files,
            variable,
        };
    }
    Error::no_memory(4096, stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Renames the complete file `from` to `to`, unless that name is taken.
pub(crate) fn publish(from: &str, to: &str) -> Result<()> {
    let renamed = rename_new(&path(from)?, &path(to)?);
    renamed.map_err(|err| match err.raw_os_error().unwrap_or(0) {
        libc::EEXIST => Error::Exists {
            name: to.to_owned(),
        },
        libc::ENOENT | libc::ENOTDIR => missing(from),
        libc::EINVAL | libc::ENOSYS => directory::lacks(NOREPLACE),
        libc::ENOSPC | libc::EDQUOT => no_room_for_file(),
        errno => directory::refuses("renameat2", errno),
    })
}

/// Renames `from` to `to`, unless that exists.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let [from, to] = [from, to].map(|it| CString::new(it.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    let here = libc::AT_FDCWD;
    // SAFETY: two NUL-terminated paths.
    let rc = unsafe {
        libc::renameat2(
            here,
            from.as_ptr(),
            here,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes the name.
pub(crate) fn unlink(file: &str) -> Result<()> {
    std::fs::remove_file(path(file)?).map_err(|err| match err.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => missing(file),
        Some(libc::EISDIR) => no_file(file),
        Some(errno @ (libc::EACCES | libc::EPERM)) => denied(file, errno),
        Some(errno @ (libc::ELOOP | libc::ENAMETOOLONG)) => directory::refuses("unlink", errno),
        errno => Error::Os {
            call: "unlink",
            errno: errno.unwrap_or(0),
        },
    })
}

/// A file's device and inode, which identify it while any process has it open or mapped.
pub(crate) type Identity = (u64, u64);

/// Which file `fd` is open on; `None` if it is not open.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> Option<Identity> {
    // SAFETY: an all-zero stat is valid and is overwritten.
    let mut facts: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `facts` is writable.
    let rc = unsafe { libc::fstat(fd.as_raw_fd(), &mut facts) };
    (rc == 0).then_some((facts.st_dev, facts.st_ino))
}

/// Whether `file` is still the name of the file that `open` is open on.
pub(crate) fn names(file: &str, open: BorrowedFd<'_>) -> bool {
    identity(open).is_some_and(|open| is_name_of(file, open))
}

/// Whether `file` is the name of this one.
pub(crate) fn is_name_of(file: &str, identity: Identity) -> bool {
    facts(file).is_ok_and(|named| (named.dev(), named.ino()) == identity)
}

/// Removes the name if it is still that of the file that `open` is open on.
pub(crate) fn unlink_if_same(file: &str, open: BorrowedFd<'_>) -> bool {
    names(file, open) && unlink(file).is_ok()
}

/// The names of the files in the directory that begin with one of `prefixes`, in no order. Stops at the time
/// `until`, if the directory is large.
pub(crate) fn files(prefixes: &[&str], until: Option<u64>) -> Result<Vec<String>> {
    let files = files_and_inodes(prefixes, until)?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// The same, each with its inode, which the directory entry contains.
pub(crate) fn files_and_inodes(
    prefixes: &[&str],
    until: Option<u64>,
) -> Result<Vec<(String, u64)>> {
    let failed = |err: io::Error| match err.raw_os_error() {
        Some(errno @ (libc::EACCES | libc::EPERM)) => {
            directory::denied("this directory cannot be read", errno)
        }
        errno => {
            let call = "opendir";
            let errno = errno.unwrap_or(0);
            directory::exists()
                .err()
                .unwrap_or(Error::Os { call, errno })
        }
    };
    let entries = std::fs::read_dir(directory::directory()?).map_err(failed)?;
    let in_time = || until.is_none_or(|until| clock::now_ns() < until);
    let names = entries.take_while(|_| in_time()).filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, entry.ino()))
    });
    Ok(names
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect())
}

/// Size, pages and owner of a file, without opening it.
pub(crate) fn facts(file: &str) -> Result<std::fs::Metadata> {
    std::fs::symlink_metadata(path(file)?).map_err(|err| match err.raw_os_error() {
        Some(errno @ (libc::EACCES | libc::EPERM)) => denied(file, errno),
        _ => missing(file),
    })
}

/// Refuses another user's file, even for root.
pub(crate) fn check_user(name: &str, facts: &std::fs::Metadata) -> Result<()> {
    let (theirs, ours) = (facts.uid(), process::effective_uid());
    if theirs == ours {
        return Ok(());
    }
    let why = format!("it belongs to user {theirs}, and this process runs as {ours}");
    Err(Error::Permission {
        name: name.to_owned(),
        why,
    })
}
