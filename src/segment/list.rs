//! Looking at the objects of this machine from outside, and collecting what the dead left.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::error::{Error, Result};
use crate::sys::{process, shm};

use super::attach::{Segment, open_stamped};
use super::handle;
use super::name::{self, PRIVATE, PUBLISHED};
use super::options::Kind;
use super::participants::{self, Gate, Section, Slot};
use super::stamp;

/// What can be said of an object without attaching to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// What it is, unless its file is unreadable or no object of this library.
    pub kind: Option<Kind>,
    /// Whether it stays when nobody is attached.
    pub persistent: bool,
    /// Bytes it may grow to: address space, not memory.
    pub max_size: u64,
    /// Bytes of memory it uses now.
    pub committed: u64,
    /// The handles attached, by the kernel's word, in the order of their slots.
    pub participants: Vec<Participant>,
    /// Ephemeral and without participants: its processes were killed. [`gc`] removes it.
    pub stale: bool,
    /// Why it cannot be opened, if it cannot.
    pub problem: Option<Error>,
}

/// A handle attached to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its slot.
    pub slot: u16,
    /// The process id it signed with, in its own pid namespace.
    pub pid: u32,
    /// The process's short name.
    pub command: String,
}

/// All objects of this machine that have a file, in the order of their names.
///
/// Nothing is attached and nothing is changed. Objects of other users are listed with the
/// reason why they cannot be opened.
///
/// ```
/// let queue = shoal::Queue::anonymous()?;
/// assert!(shoal::list()?.iter().any(|object| object.name == queue.name()));
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn list() -> Result<Vec<ObjectInfo>> {
    let mut files = shm::files(&[PUBLISHED], None)?;
    files.sort();
    let looked = files.iter().map(|file| look(file));
    Ok(looked.filter_map(Result::ok).collect())
}

/// What can be said of the object `name` without attaching to it.
///
/// # Errors
/// `NotFound`, `Invalid` name. An object that cannot be opened is no error: see
/// [`ObjectInfo::problem`].
pub fn stat(name: &str) -> Result<ObjectInfo> {
    look(&name::file_of(name)?).map_err(|err| named(err, name))
}

/// The same error, about the object rather than its file.
fn named(err: Error, name: &str) -> Error {
    match err {
        Error::NotFound { what, .. } => Error::NotFound {
            what,
            name: name.to_owned(),
        },
        err => err,
    }
}

fn look(file: &str) -> Result<ObjectInfo> {
    let name = file.strip_prefix(PUBLISHED).unwrap_or(file).to_owned();
    let facts = shm::facts(file)?;
    let mut info = ObjectInfo {
        kind: None,
        persistent: true,
        max_size: facts.len(),
        committed: facts.blocks() * 512,
        participants: Vec::new(),
        stale: false,
        problem: None,
        name,
    };
    let (open, stamp) = match open_stamped(&info.name, file) {
        Ok(opened) => opened,
        Err(err @ Error::NotFound { .. }) => return Err(err),
        Err(problem) => {
            info.problem = Some(problem);
            return Ok(info);
        }
    };
    (info.kind, info.persistent) = (stamp.kind().ok(), stamp.persistent());
    for slot in participants::held(open.as_fd())? {
        let mut bytes = [0u8; size_of::<Slot>()];
        let at = stamp::SIZE + u64::from(slot) * size_of::<Slot>() as u64;
        let signed = open
            .read_exact_at(&mut bytes, at)
            .ok()
            .and_then(|()| Slot::from_bytes(&bytes));
        let (pid, command) = signed.unwrap_or_default();
        info.participants.push(Participant { slot, pid, command });
    }
    info.stale = !info.persistent && info.participants.is_empty();
    Ok(info)
}

/// Removes what killed processes left: ephemeral objects nobody is attached to, and files
/// whose creation was cut short. Returns their names; with `dry_run` it removes nothing.
///
/// Never touches a persistent object, one in use, another user's, or a file that is not
/// recognised as an object.
pub fn gc(dry_run: bool) -> Result<Vec<String>> {
    // No child of another thread's fork may inherit a closed gate.
    let _seats = handle::seats();
    let mut removed = Vec::new();
    for file in shm::files(&[PUBLISHED], None)? {
        let name = file.strip_prefix(PUBLISHED).unwrap_or(&file);
        let Ok((open, stamp)) = open_stamped(name, &file) else {
            continue;
        };
        if !stamp.persistent() && collect(&file, &open, dry_run)? {
            removed.push(name.to_owned());
        }
    }
    for file in shm::files(&[PRIVATE], None)? {
        let Ok(open) = shm::open_file(&file) else {
            continue;
        };
        let ours = |it: std::fs::Metadata| it.is_file() && it.uid() == process::effective_uid();
        if !open.metadata().is_ok_and(ours) {
            continue;
        }
        if collect(&file, &open, dry_run)? {
            removed.push(file);
        }
    }
    Ok(removed)
}

/// Removes the ephemeral object `name` if nobody is attached to it.
pub(crate) fn sweep(name: &str) -> Result<()> {
    let _seats = handle::seats();
    let file = name::file_of(name)?;
    match open_stamped(name, &file) {
        Ok((open, stamp)) if !stamp.persistent() => collect(&file, &open, false).map(drop),
        _ => Ok(()),
    }
}

/// Removes `file` if nobody is attached to it and nobody is about to be.
fn collect(file: &str, open: &std::fs::File, dry_run: bool) -> Result<bool> {
    let fd = open.as_fd();
    let Some(_gate) = Gate::try_close(fd)? else {
        return Ok(false);
    };
    if participants::anyone_else(fd, Section::ALL)? {
        return Ok(false);
    }
    Ok(if dry_run {
        shm::names(file, fd)
    } else {
        shm::unlink_if_same(file, fd)
    })
}

/// Removes the name of the object `name`, of whatever kind. Processes that are attached keep
/// using it; nobody else can attach to it any more.
///
/// # Errors
/// `NotFound`, `Permission`, `Invalid` name.
pub fn unlink(name: &str) -> Result<()> {
    shm::unlink(&name::file_of(name)?).map_err(|err| named(err, name))
}

/// [`unlink`], but only an object of this kind.
pub(crate) fn unlink_kind(name: &str, kind: Kind) -> Result<()> {
    let file = name::file_of(name)?;
    if let Ok((_, stamp)) = open_stamped(name, &file) {
        let found = stamp.kind()?;
        if found != kind {
            let (expected, found) = (kind.as_str(), found.as_str());
            return Err(Error::WrongKind {
                name: name.to_owned(),
                expected,
                found,
            });
        }
    }
    unlink(name)
}

const _: () = assert!(Segment::DATA.is_multiple_of(4096));
