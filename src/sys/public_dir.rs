//! A directory in which all users create files of their own and read those of the others, as in `/tmp`.
//!
//! It is created with mode 1777. Files are created exclusively and opened without `O_CREAT`, so what
//! `fs.protected_regular` forbids never happens. Links, FIFOs and directories that other programs put there
//! are not opened.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::{flock, process, shm};

/// The bits of a mode that matter here: the sticky bit and the permissions.
const MODE: u32 = 0o1777;
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o002;
/// How often to begin again if another process creates or removes the directory.
const TRIES: usize = 16;

/// An open directory.
pub(crate) struct PublicDir {
    path: PathBuf,
    file: File,
    /// The environment variable that can name another one, for error texts.
    variable: &'static str,
}

impl PublicDir {
    /// Opens it; with `create`, creates it if its parent exists. `None` if it does not exist.
    ///
    /// # Errors
    /// `Invalid`: a relative path, no directory, or all users can write to it without the sticky bit, so
    /// that each could remove the files of the others. `Permission`: it cannot be read or created.
    pub(crate) fn open(path: &Path, variable: &'static str, create: bool) -> Result<Option<Self>> {
        if !path.is_absolute() {
            let why = format!("{} is not an absolute path", path.display());
            return Err(Error::invalid(variable, why));
        }
        let refuse = |err: &io::Error| refused(path, variable, err);
        for _ in 0..TRIES {
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK)
                .open(path);
            match opened {
                Ok(file) => {
                    let facts = file.metadata().map_err(|err| refuse(&err))?;
                    let others = facts.mode() & (OTHERS_WRITE | STICKY);
                    if others == OTHERS_WRITE {
                        let why = format!(
                            "{} has mode {:o}: without the sticky bit (chmod +t) every user could \
                             remove the leases of the others",
                            path.display(),
                            facts.mode() & 0o7777
                        );
                        return Err(Error::invalid(variable, why));
                    }
                    let path = path.to_owned();
                    return Ok(Some(Self {
                        path,
                        file,
                        variable,
                    }));
                }
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {
                    if fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink()) {
                        let why = format!("{} is a link to what is not there", path.display());
                        return Err(Error::invalid(variable, why));
                    }
                    if !create {
                        return Ok(None);
                    }
                    make(path).map_err(|err| refuse(&err))?;
                }
                Err(err) => return Err(refuse(&err)),
            }
        }
        Err(Error::corrupt(format!(
            "{} was removed each time it was created",
            path.display()
        )))
    }

    /// Takes the advisory lock on the directory, if no other process has it.
    pub(crate) fn try_lock(&self) -> Result<bool> {
        flock::try_lock(self.file.as_fd())
    }

    /// Releases the lock.
    pub(crate) fn unlock(&self) {
        flock::unlock(self.file.as_fd());
    }

    /// Whether its path still leads to this directory.
    pub(crate) fn is_current(&self) -> bool {
        let named = fs::metadata(&self.path).map(|it| (it.dev(), it.ino()));
        named.ok() == shm::identity(self.file.as_fd())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all files that begin with `prefix` and are UTF-8.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.path).map_err(|err| self.refused(&err))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    /// Creates a file that only its owner can write and all can read.
    ///
    /// # Errors
    /// `Permission`, `NoSpace`, `Os`; never `Exists` for a name that is random.
    pub(crate) fn create(&self, name: &str) -> Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.path.join(name))
            .map_err(|err| self.refused(&err))?;
        // The process's umask may deny other users the right to read.
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(|err| self.refused(&err))?;
        Ok(file)
    }

    /// Opens a regular file for reading; `None` if there is no readable one of that name.
    pub(crate) fn open_file(&self, name: &str) -> Option<File> {
        open_file(&self.path.join(name))
    }

    /// Removes a file, if permitted.
    pub(crate) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    fn refused(&self, err: &io::Error) -> Error {
        refused(&self.path, self.variable, err)
    }
}

/// [`PublicDir::open_file`] by its path.
pub(crate) fn open_file(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .ok()?;
    file.metadata().is_ok_and(|it| it.is_file()).then_some(file)
}

/// Creates the directory under another name, and renames it when its mode is right: at first the umask
/// applies, and other users could not write to it.
fn make(path: &Path) -> io::Result<()> {
    let [random] = process::random::<1>();
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{random:016x}"));
    let draft = PathBuf::from(draft);
    DirBuilder::new().mode(0o700).create(&draft)?;
    let named = fs::set_permissions(&draft, Permissions::from_mode(MODE))
        .and_then(|()| shm::rename_new(&draft, path));
    if named.is_err() {
        let _ = fs::remove_dir(&draft);
    }
    match named {
        // Another process was faster.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    }
}

fn refused(path: &Path, variable: &'static str, err: &io::Error) -> Error {
    let name = path.display().to_string();
    match err.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            let owner = fs::symlink_metadata(path).map_or_else(
                |_| "its parent directory may not be written to".to_owned(),
                |it| {
                    format!(
                        "it belongs to user {} and has mode {:o}",
                        it.uid(),
                        it.mode() & 0o7777
                    )
                },
            );
            let why = format!(
                "{err}: {owner}; the directory of leases has mode 1777 and every user can write to it, \
                 and {variable} can name another"
            );
            Error::Permission { name, why }
        }
        Some(libc::ENOTDIR | libc::ELOOP) => {
            Error::invalid(variable, format!("{name} is not a directory"))
        }
        Some(libc::ENOENT) => Error::unsupported(format!(
            "there is no directory above {name}; {variable} can name another directory of leases"
        )),
        Some(libc::ENOSPC | libc::EDQUOT) => {
            // If it does not exist, it is to be created in the one above.
            let existing = path.ancestors().find(|it| it.exists()).unwrap_or(path);
            shm::no_room_in(existing, variable)
        }
        errno => Error::Os {
            call: "open(directory of leases)",
            errno: errno.unwrap_or(0),
        },
    }
}
