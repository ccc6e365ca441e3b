//! A segment's file: its identity, its names, and its stamp.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::sys::shm::{self, Identity};

use super::stamp::Stamp;

/// A segment's file: its identity, and the names that it can have.
#[derive(Clone)]
pub(super) struct ObjectFile {
    pub(super) identity: Identity,
    /// Its name while this process fills it; `None` in other processes.
    pub(super) private: Option<String>,
    /// Its name from then on.
    pub(super) published: String,
    /// Whether it was created to keep that name when the last participant leaves. It also does with companions.
    pub(super) persistent: bool,
}

impl ObjectFile {
    /// Opens the file.
    ///
    /// # Errors
    /// `NotFound` if it has none of its names any more, or cannot be reached by them.
    pub(super) fn open(&self) -> Result<(File, &str)> {
        let names = [Some(&self.published), self.private.as_ref()];
        for name in names.into_iter().flatten() {
            match shm::open_file(name) {
                Ok(file) if shm::identity(file.as_fd()) == Some(self.identity) => {
                    return Ok((file, name));
                }
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err),
            }
        }
        Err(Error::NotFound {
            what: "shared object",
            name: self.published.clone(),
        })
    }

    /// Whether the object still has its name.
    pub(super) fn is_named(&self) -> bool {
        shm::is_name_of(&self.published, self.identity)
    }
}

/// Opens a published file, and reads its stamp, which may be of another version.
pub(super) fn find(name: &str, file: &str) -> Result<(File, Stamp)> {
    let named = |err| match err {
        Error::NotFound { what, .. } => Error::NotFound {
            what,
            name: name.to_owned(),
        },
        Error::Permission { why, .. } => Error::Permission {
            name: name.to_owned(),
            why,
        },
        err => err,
    };
    let open = shm::open_file(file).map_err(named)?;
    let facts = open.metadata().map_err(|_| Error::last_os("fstat"))?;
    if !facts.is_file() {
        return Err(shm::no_file(file));
    }
    shm::check_user(name, &facts)?;
    let stamp = stamp_of(name, &open)?;
    Ok((open, stamp))
}

/// Reads the stamp of the open file of `name`.
pub(super) fn stamp_of(name: &str, file: &File) -> Result<Stamp> {
    let mut bytes = [0u8; size_of::<Stamp>()];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        let why = format!("{name:?} has too few bytes for a stamp; `shoal rm` removes it");
        return Err(Error::corrupt(why));
    }
    let stamp = Stamp::from_bytes(&bytes);
    stamp.recognise(name)?;
    Ok(stamp)
}
