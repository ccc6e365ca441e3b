//! The directory in which the objects' files are: `/dev/shm`, or what `SHOAL_DIR` names.
//!
//! It is chosen once per process: open handles refer to their files by name, and a forked child must use the
//! same directory as its parent.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

use super::{errno, process};

/// Where the C library's `shm_open` puts its files on Linux.
const DEFAULT: &str = "/dev/shm";
/// The environment variable that names another directory.
pub(super) const VARIABLE: &str = "SHOAL_DIR";

/// The directory.
///
/// # Errors
/// `Invalid` if `SHOAL_DIR` is not an absolute path.
pub(crate) fn directory() -> Result<&'static Path> {
    static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(chosen);
    }
    // Ignored in a set-user-ID program: the user must not choose where its files are.
    let named = std::env::var_os(VARIABLE).filter(|_| !process::has_others_rights());
    let chosen = choose(named)?;
    Ok(CHOSEN.get_or_init(|| chosen))
}

fn choose(named: Option<OsString>) -> Result<PathBuf> {
    let named = PathBuf::from(named.filter(|it| !it.is_empty()).unwrap_or(DEFAULT.into()));
    if named.is_absolute() {
        // Normalised: a slash at the end does not make it another directory.
        return Ok(named.components().collect());
    }
    let why = format!("{:?} is not an absolute path", short(&named));
    Err(Error::invalid(VARIABLE, why))
}

/// The path of a file in it.
pub(crate) fn path(file: &str) -> Result<PathBuf> {
    Ok(directory()?.join(file))
}

/// Its name for messages.
pub(crate) fn shown() -> String {
    directory().map_or(DEFAULT.to_owned(), short)
}

/// A path for messages, without the middle of a very long one: a message has room for some 1000 bytes, and says
/// the reason after the path.
fn short(path: &Path) -> String {
    const PART: usize = 120;
    let whole = path.display().to_string();
    let count = whole.chars().count();
    if count <= 2 * PART {
        return whole;
    }
    let begin = whole.chars().take(PART);
    let end = whole.chars().skip(count - PART);
    begin.chain(['…']).chain(end).collect()
}

/// The type number of a tmpfs.
pub(super) const TMPFS: u32 = 0x0102_1994;

/// The type number of the directory's file system.
pub(super) fn file_system() -> Result<u32> {
    let path = CString::new(directory()?.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(VARIABLE, "it has a NUL"))?;
    // SAFETY: an all-zero statfs is valid and is overwritten.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends in NUL, and a place for the answer.
    if unsafe { libc::statfs(path.as_ptr(), &mut stat) } != 0 {
        return Err(refuses("statfs", errno()));
    }
    // Some C libraries extend the sign of the 32 bits.
    Ok(stat.f_type as u32)
}

/// Whether it is on a tmpfs. Tested once per process; false if that is unknown.
pub(super) fn is_on_tmpfs() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| file_system() == Ok(TMPFS))
}

/// `Unsupported` if there is no such directory, `Invalid` if its path cannot be resolved.
pub(crate) fn exists() -> Result<()> {
    match std::fs::metadata(directory()?) {
        Ok(facts) if facts.is_dir() => Ok(()),
        Err(err) if matches!(err.raw_os_error(), Some(libc::ELOOP | libc::ENAMETOOLONG)) => {
            let why = format!("{}: {err}; name a directory on a tmpfs", shown());
            Err(Error::invalid(VARIABLE, why))
        }
        // The call that fails on it reports other problems.
        Err(err) if !matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
        _ => Err(Error::unsupported(format!(
            "there is no directory {} for shared objects: mount a tmpfs there, or name another \
             directory in {VARIABLE}",
            shown()
        ))),
    }
}

/// The error if no file can be created in the directory.
pub(crate) fn refuses(call: &'static str, errno: i32) -> Error {
    match errno {
        libc::ENOENT | libc::ENOTDIR => exists()
            .err()
            .unwrap_or_else(|| lacks("files that programs create")),
        libc::ELOOP => exists().err().unwrap_or(Error::Os { call, errno }),
        libc::ENAMETOOLONG => exists().err().unwrap_or_else(|| {
            let why = format!("{} is too long for the path of a file in it", shown());
            Error::invalid(VARIABLE, why)
        }),
        // No directory refuses this to the user who created the file in it.
        libc::EPERM if call != "open" => Error::Permission {
            name: shown(),
            why: format!("{call}: {}; a sandbox may forbid the call", sentence(errno)),
        },
        libc::EACCES | libc::EPERM | libc::EROFS => {
            denied("no file can be created in this directory", errno)
        }
        errno => Error::Os { call, errno },
    }
}

/// The error of a directory that does not permit something.
pub(crate) fn denied(what: &str, errno: i32) -> Error {
    Error::Permission {
        name: shown(),
        why: format!("{what}: {}; {VARIABLE} can name another", sentence(errno)),
    }
}

/// Why a file is not accessible: because of its own mode, or of the directory, which then gives no facts about
/// the file.
pub(crate) fn why_denied(file: &str, errno: i32) -> String {
    let facts = directory().map(|it| std::fs::symlink_metadata(it.join(file)));
    match facts {
        Ok(Ok(_)) if errno == libc::EROFS => format!(
            "the directory {} cannot be written to: {}; {VARIABLE} can name another",
            shown(),
            sentence(errno)
        ),
        Ok(Err(err)) if err.raw_os_error() == Some(libc::EACCES) => format!(
            "the directory {} is not accessible: {}; {VARIABLE} can name another",
            shown(),
            sentence(errno)
        ),
        _ => sentence(errno),
    }
}

fn sentence(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

/// The error of a directory whose file system lacks `what`.
pub(crate) fn lacks(what: &str) -> Error {
    Error::unsupported(format!(
        "shared objects need {what}, which {} does not have; name a directory on a tmpfs in \
         {VARIABLE}",
        shown()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_a_sandbox_forbids_is_named() {
        for call in ["renameat2", "statfs"] {
            let said = refuses(call, libc::EPERM).to_string();
            assert!(said.contains(call) && said.contains("sandbox"), "{said}");
        }
        let said = refuses("open", libc::EPERM).to_string();
        assert!(said.contains("no file can be created"), "{said}");
    }

    #[test]
    fn only_an_absolute_path_names_a_directory() {
        let of = |named: &str| choose(Some(named.into()));
        assert_eq!(choose(None).unwrap(), Path::new("/dev/shm"));
        assert_eq!(of("").unwrap(), Path::new("/dev/shm"));
        assert_eq!(of("/dev/shm//").unwrap(), Path::new("/dev/shm"));
        assert_eq!(of("/mnt/objects/").unwrap(), Path::new("/mnt/objects"));
        for relative in ["objects", "./objects", "../objects"] {
            let err = of(relative).unwrap_err();
            assert!(matches!(err, Error::Invalid { .. }), "{err}");
            assert!(err.to_string().contains("SHOAL_DIR"), "{err}");
        }
    }
}
