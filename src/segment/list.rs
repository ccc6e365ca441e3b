//! Listing the objects of this machine without attaching to them, and removing their names.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Result};
use crate::sync::crash::crash_point;
use crate::sys::{process, shm};

use super::attach_lock::AttachLock;
use super::attachment::{self, OPENING_NS};
use super::companion;
use super::fifo;
use super::file::{find, stamp_of};
use super::liveness::{self, MemberId, Registered};
use super::name::{self, PUBLISHED};
use super::open::busy;
use super::options::Kind;
use super::participants;
use super::stamp::Stamp;

/// Facts about an object, read without attaching to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// Its kind; `None` if its file is unreadable or not an object of this library.
    pub kind: Option<Kind>,
    /// Whether it stays when no process is attached: it was created so, or it has a relay.
    pub persistent: bool,
    /// Bytes it may grow to: address space, not memory.
    pub max_size: u64,
    /// Bytes of memory it uses now.
    pub committed: u64,
    /// The attached handles of living processes, in the order of their slots.
    pub participants: Vec<Participant>,
    /// Ephemeral and without participants: its processes were killed. [`gc`](crate::gc) removes it, and
    /// so does a process that opens or creates an object of this name.
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
    /// The process id it registered, in its own pid namespace; 0 for a process that is being forked.
    pub pid: u32,
    /// The process's short name; empty if it cannot be seen from here.
    pub command: String,
    /// How often the slot was taken.
    pub(crate) generation: u32,
}

/// All objects that have a file in `/dev/shm`, or in the directory that `SHOAL_DIR` names, in the
/// order of their names.
///
/// Attaches to nothing and changes nothing. Objects of other users are listed with the reason why they cannot
/// be opened.
///
/// ```
/// let queue = shoal::Queue::anonymous()?;
/// assert!(shoal::list()?.iter().any(|object| object.name == queue.name()));
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn list() -> Result<Vec<ObjectInfo>> {
    let mut cache = StatCache::default();
    let looked = published()?;
    let looked = looked.iter().map(|(file, _)| cache.stat_file(file));
    Ok(looked.filter_map(|it| Some(it.ok()?.info)).collect())
}

/// The files of all objects, in the order of their names, with their inodes.
pub(crate) fn published() -> Result<Vec<(String, u64)>> {
    let mut files = shm::files_and_inodes(&[PUBLISHED], None)?;
    // No object has another name, and no call takes one.
    files.retain(|(file, _)| {
        let name = file.strip_prefix(PUBLISHED).unwrap_or(file);
        name::file_of(name).is_ok()
    });
    files.sort();
    Ok(files)
}

/// Facts about the object `name`, read without attaching to it.
///
/// # Errors
/// `NotFound`, `Invalid` name. An object that cannot be opened is not an error: see [`ObjectInfo::problem`].
pub fn stat(name: &str) -> Result<ObjectInfo> {
    StatCache::default().stat(name).map(|it| it.info)
}

/// The same error with the object's name instead of its file's.
fn named(err: Error, name: &str) -> Error {
    match err {
        Error::NotFound { what, .. } => Error::NotFound {
            what,
            name: name.to_owned(),
        },
        err => err,
    }
}

/// An object's facts, and its open file.
pub(crate) struct ObjectStat {
    pub(crate) info: ObjectInfo,
    /// Its file and stamp, if this library knows its layout.
    pub(crate) open: Option<(File, Stamp)>,
}

/// Reads the facts of objects. Asks the kernel about each process once, however many objects it has open. So
/// listing a thousand objects of one process takes a fifth of the time.
#[derive(Default)]
pub(crate) struct StatCache {
    alive: HashMap<u64, bool>,
    commands: HashMap<u32, String>,
    /// The pid namespace of this process, once it was read.
    namespace: Option<u64>,
}

impl StatCache {
    /// Facts about the object `name`.
    pub(crate) fn stat(&mut self, name: &str) -> Result<ObjectStat> {
        self.stat_file(&name::file_of(name)?)
            .map_err(|err| named(err, name))
    }

    /// Facts about the object whose file is `file`.
    pub(crate) fn stat_file(&mut self, file: &str) -> Result<ObjectStat> {
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
        let (open, stamp) = match find(&info.name, file) {
            Ok(found) => found,
            Err(err @ Error::NotFound { .. }) => return Err(err),
            Err(problem) => {
                info.problem = Some(problem);
                return Ok(ObjectStat { info, open: None });
            }
        };
        info.persistent = stamp.stays();
        let same_namespace = self.has_our_namespace(&stamp);
        let participants = participants::held_by(&open, |id, registered| {
            self.is_alive(id, same_namespace, registered)
        })?;
        let held = !participants.is_empty() || participants::is_locked(&open)?;
        info.stale = !info.persistent && !held;
        let fits = stamp.check(&info.name, facts.len());
        if fits.is_ok() {
            info.kind = stamp.kind().ok();
            // The table of another layout cannot be read.
            info.participants = self.shown(participants, same_namespace);
        }
        let open = fits.is_ok().then_some((open, stamp));
        // A stale object is no obstacle to opening its name. An object without participants can be opened
        // from any pid namespace.
        info.problem = match fits {
            _ if info.stale => None,
            Ok(()) if held && !same_namespace => stamp.check_namespace(&info.name).err(),
            fits => fits.err(),
        };
        Ok(ObjectStat { info, open })
    }

    /// Updates the participants and the memory of an object. False, without a change, if they cannot be read.
    pub(crate) fn refresh(&mut self, info: &mut ObjectInfo, file: &File, stamp: &Stamp) -> bool {
        let same_namespace = self.has_our_namespace(stamp);
        let held = participants::held_by(file, |id, registered| {
            self.is_alive(id, same_namespace, registered)
        });
        let (Ok(held), Ok(facts)) = (held, file.metadata()) else {
            return false;
        };
        let is_locked = || participants::is_locked(file).unwrap_or(true);
        if let Ok(stamp) = stamp_of(&info.name, file) {
            info.persistent = stamp.stays();
        }
        info.stale = !info.persistent && held.is_empty() && !is_locked();
        info.committed = facts.blocks() * 512;
        info.participants = self.shown(held, same_namespace);
        true
    }

    /// Whether the object's participants are of this process's pid namespace.
    fn has_our_namespace(&mut self, stamp: &Stamp) -> bool {
        let ours = self.namespace.get_or_insert_with(liveness::pid_namespace);
        stamp.is_of_namespace(*ours)
    }

    fn shown(&mut self, held: Vec<participants::Entry>, same_namespace: bool) -> Vec<Participant> {
        let shown = held.into_iter().map(|it| Participant {
            slot: it.slot,
            pid: it.registered.pid,
            // A process id of another pid namespace names a different process here.
            command: match same_namespace {
                true => self.command(it.registered.pid),
                false => String::new(),
            },
            generation: it.generation,
        });
        shown.collect()
    }

    fn is_alive(
        &mut self,
        id: MemberId,
        same_namespace: bool,
        registered: Registered,
    ) -> Result<bool> {
        if let Some(&known) = self.alive.get(&id.word()) {
            return Ok(known);
        }
        let alive = liveness::is_alive(id, || same_namespace.then_some(registered))?;
        self.alive.insert(id.word(), alive);
        Ok(alive)
    }

    fn command(&mut self, pid: u32) -> String {
        let known = self.commands.entry(pid);
        known.or_insert_with(|| process::command(pid)).clone()
    }
}

/// Removes the name of the object `name`, of any kind. Processes that are attached keep
/// using it; no other process can attach to it any more.
///
/// # Errors
/// `NotFound`; `Permission` for another user's object, for root too; `Invalid` name; `Busy` if another process has
/// been opening or leaving the object for five seconds, which means that it is stopped.
pub fn unlink(name: &str) -> Result<()> {
    let file = name::file_of(name)?;
    let mut taken = file.clone();
    let removed = attachment::retry_while_busy(OPENING_NS, |_, _| {
        shm::check_user(name, &shm::facts(&file)?)?;
        // A file that cannot be opened is no object, or nobody can use it.
        let Ok(open) = shm::open_file(&file) else {
            return shm::unlink(&file).map(Some);
        };
        // A name is checked and removed under its file's attach lock. Otherwise a process that is stopped in
        // between would remove the name of a later object when it continues.
        let Some(_lock) = AttachLock::try_acquire(open.as_fd())? else {
            return Ok(None);
        };
        if !shm::names(&file, open.as_fd()) {
            return Err(shm::missing(&file));
        }
        // An object of another version may have FIFOs and companions too, if its file has a stamp.
        if let Ok(stamp) = stamp_of(name, &open) {
            if let Some(companion) = companion::remove(&file, stamp.companions()) {
                taken = companion;
                return Ok(None);
            }
            fifo::remove(&file, stamp.fifos());
        }
        crash_point!();
        shm::unlink(&file).map(Some)
    });
    let removed = removed.map_err(|err| named(err, name))?;
    removed.ok_or_else(|| busy(&taken))
}

/// [`unlink`], but only an object of this kind.
pub(crate) fn unlink_kind(name: &str, kind: Kind) -> Result<()> {
    let file = name::file_of(name)?;
    // A file that cannot be opened is not checked.
    if let Ok((open, stamp)) = find(name, &file)
        && let Ok(facts) = open.metadata()
        && stamp.check(name, facts.len()).is_ok()
    {
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
