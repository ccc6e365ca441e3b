//! A segment: how it is created, opened and left.
//!
//! # Crash arguments
//! *Killed while creating*: the private file has no lock on it any more; `gc` removes it. *Killed just after
//! publishing*: the segment is complete, and its only participant is dead; the next opener finds an ephemeral
//! segment without participants, and removes it. *Killed while opening or leaving*: the kernel releases the
//! attach lock and frees the slot. *Stopped then*: others that open the object wait some seconds, and get an error
//! that names the stopped process. *Killed after a persistent segment changed its pid namespace*: no process
//! is attached, and the next opener changes it again.
//!
//! An ephemeral segment to which no process is attached does not *exist*, even if its file is still there:
//! the last participant to leave removes the file, and a process that finds the file of a segment whose last
//! participant was killed removes it and continues as if it had not been there. This is checked before
//! anything for which a live segment can be refused.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::error::{Error, Result, Status};
use crate::layout::{Offset, Owner, Region, SharedRef};
use crate::sync::Peers;
use crate::sync::crash::{committing, crash_point};
use crate::sys::fd::StreamsTaken;
use crate::sys::mapping::{self, Pages};
use crate::sys::{fork, holder, probe, shm};

use super::attach_lock::{ATTACH_LOCK, AttachLock};
use super::attachment::{self, Attachment, Attachments, OPENING_NS};
use super::collect;
use super::companion::{self, Companion};
use super::fifo;
use super::file::{ObjectFile, find, stamp_of};
use super::liveness::{self, MemberId};
use super::name;
use super::options::{Kind, Options};
use super::participants::{self, Section, Table};
use super::stamp::{self, Stamp};

/// What a kind of object requires of its segment.
pub(crate) struct Spec {
    /// The kind of object.
    pub(crate) kind: Kind,
    /// Hash of the object's own layout; different layouts refuse each other.
    pub(crate) layout: u64,
    /// Bytes of the whole segment, which never change. Address space only.
    pub(crate) size: u64,
    /// Bytes of data to commit at creation, from [`Segment::DATA`] on.
    pub(crate) commit: u64,
    /// The slots that this handle may take.
    pub(crate) section: Section,
}

const PAGE: u64 = 4096;
/// How often to begin again after other processes have created or removed the file. Each retry means that
/// another process has made progress.
const TRIES: u32 = 1000;

/// A handle on a mapped segment. Dropping it leaves the segment.
pub(crate) struct Segment {
    // Before the mapping: fields are dropped in order, and leaving uses the mapping.
    handle: Box<Attachment>,
    pages: Arc<Pages>,
    name: String,
}

impl Segment {
    /// Where the object's own data begins.
    pub(crate) const DATA: u64 = stamp::DATA;

    /// Opens or creates as `options` say, if they suit the kind. `init` fills a new segment while it
    /// is private.
    pub(crate) fn open_or_create(
        name: Option<&str>,
        options: &Options,
        spec: &Spec,
        init: impl Fn(&Segment) -> Result<()>,
    ) -> Result<Self> {
        options.check(spec.kind)?;
        attachment::prepare()?;
        let _streams = StreamsTaken::new();
        let Some(name) = name else {
            return Self::create(&name::anonymous(), options, spec, &init);
        };
        let file = name::file_of(name)?;
        // Other processes may create and leave the object between the two attempts, but not each time.
        for _ in 0..TRIES {
            if options.create && options.exclusive {
                if is_alive(name, &file)? {
                    return Err(Error::Exists {
                        name: name.to_owned(),
                    });
                }
            } else {
                match collect::with_room(|| Self::open(name, &file, spec)) {
                    Err(Error::NotFound { .. }) if options.create => {}
                    other => return other,
                }
            }
            match Self::create(name, options, spec, &init) {
                Err(Error::Exists { .. }) => {}
                other => return other,
            }
        }
        Err(Error::Exists {
            name: name.to_owned(),
        })
    }

    /// Fills a private file and publishes it; `Exists` if the name is taken by then.
    fn create(
        name: &str,
        options: &Options,
        spec: &Spec,
        init: &impl Fn(&Segment) -> Result<()>,
    ) -> Result<Self> {
        let published = name::file_of(name)?;
        probe::check(|| name::private_file(""))?;
        collect::before_the_first_creation();
        let mut made_room = false;
        for _ in 0..TRIES {
            let private = name::private_file(name);
            let filled =
                Self::fill(name, &private, &published, options, spec, init).and_then(|segment| {
                    crash_point!();
                    shm::publish(&private, &published)?;
                    crash_point!();
                    Ok(segment)
                });
            match filled {
                Ok(segment) => return Ok(segment),
                // Another process's `gc` met the private file before this one's slot was in it.
                Err(Error::NotFound { name, .. }) if name == private => {}
                Err(Error::Exists { .. }) => {
                    return Err(Error::Exists {
                        name: name.to_owned(),
                    });
                }
                Err(err) => {
                    let _ = shm::unlink(&private);
                    if err.status() != Status::ErrNoSpace || made_room || !collect::make_room() {
                        return Err(err);
                    }
                    made_room = true;
                }
            }
        }
        Err(gone_each_time(name, "created"))
    }

    /// Makes the private file `private` a complete segment. Dropping the segment removes the file.
    fn fill(
        name: &str,
        private: &str,
        published: &str,
        options: &Options,
        spec: &Spec,
        init: &impl Fn(&Segment) -> Result<()>,
    ) -> Result<Self> {
        let (pages, file) = Pages::create(private, spec.size)?;
        crash_point!();
        let region = region_of(&pages);
        // Commits pages first: a store to a page that cannot be allocated raises SIGBUS.
        let table_grows = mapping::commits();
        let head = if table_grows { PAGE } else { Self::DATA };
        shm::check_room(head.saturating_add(spec.commit))?;
        shm::commit(file.as_fd(), 0, head)?;
        shm::commit(file.as_fd(), Self::DATA, spec.commit)?;
        crash_point!();
        Table::of(&region)?.init(!table_grows);
        let names = ObjectFile {
            identity: shm::identity(file.as_fd()).unwrap_or_default(),
            private: Some(private.to_owned()),
            published: published.to_owned(),
            persistent: options.persistent,
        };
        let segment = Self {
            handle: attachment::attachments().register(region, spec.section, names, &[])?,
            pages: Arc::new(pages),
            name: name.to_owned(),
        };
        crash_point!();
        let stamp = Stamp::new(spec.kind, spec.layout, spec.size, options.persistent);
        let at = region.span(0, size_of::<Stamp>())?;
        // SAFETY: inside the region and aligned to a page; the segment is still private.
        unsafe { at.cast::<Stamp>().write(stamp) };
        init(&segment)?;
        Ok(segment)
    }

    /// Attaches to the published file, if it is alive and of the kind in `spec`.
    fn open(name: &str, file: &str, spec: &Spec) -> Result<Self> {
        let opened = attachment::retry_while_busy(OPENING_NS, |attachments, _| {
            Self::try_open(attachments, name, file, spec)
        });
        opened?.ok_or_else(|| busy(file))
    }

    /// `None` if another process has the attach lock.
    fn try_open(
        attachments: &mut Attachments,
        name: &str,
        file: &str,
        spec: &Spec,
    ) -> Result<Option<Self>> {
        for _ in 0..TRIES {
            // Read before the file is mapped.
            let (probe, stamp) = find(name, file)?;
            let (_lock, others) = match lock_file(file, &probe, &stamp)? {
                FileLock::Taken(lock, others) => (lock, others),
                FileLock::Replaced => continue,
                FileLock::Busy => return Ok(None),
            };
            // Checked only now: a dead object is removed whatever its kind and version.
            let len = probe.metadata().map_err(|_| Error::last_os("fstat"))?.len();
            stamp.check(name, len)?;
            stamp.check_kind(name, spec.kind, spec.layout)?;
            // From here on, no process attaches or leaves, except by being killed.
            let pages = Pages::map(probe.as_fd(), stamp.size())?;
            let region = region_of(&pages);
            enter_namespace(name, &others, &region)?;
            let names = ObjectFile {
                identity: shm::identity(probe.as_fd()).unwrap_or_default(),
                private: None,
                published: file.to_owned(),
                persistent: stamp.persistent(),
            };
            return Ok(Some(Self {
                handle: attachments.register(region, spec.section, names, &others)?,
                pages: Arc::new(pages),
                name: name.to_owned(),
            }));
        }
        Err(gone_each_time(name, "opened"))
    }

    /// A further handle on the same mapping, in the slots of `section`.
    pub(crate) fn again(&self, section: Section) -> Result<Self> {
        let register = || {
            let names = self.file().clone();
            attachment::attachments().register(self.region(), section, names, &[])
        };
        Ok(Self {
            handle: collect::with_room(register)?,
            pages: Arc::clone(&self.pages),
            name: self.name.clone(),
        })
    }

    /// The id of the companions that it has, or is one of; 0 for none. Written by the process that gives it
    /// companions.
    pub(crate) fn family(&self) -> Result<SharedRef<AtomicU64>> {
        self.region().keep(Offset::new(stamp::FAMILY))
    }

    /// Whether it is the companion of another object.
    pub(crate) fn is_companion(&self) -> bool {
        let region = self.region();
        let which = companion::which(&region);
        which.is_ok_and(|which| which.load(Ordering::Relaxed) != 0)
    }

    /// Whether it is `which` companion of the object with this `family`.
    pub(crate) fn is_companion_of(&self, which: Companion, family: u64) -> Result<bool> {
        let region = self.region();
        let is_one = companion::which(&region)?.load(Ordering::Relaxed) == which as u32;
        Ok(is_one && companion::family(&region)?.load(Ordering::Relaxed) == family)
    }

    /// If one of these companions of the object has lost its name, removes the others too, so that the object can
    /// get new ones. True if so.
    pub(crate) fn remove_if_lost(&self, companions: &[Companion]) -> Result<bool> {
        let family = self.family()?.load(Ordering::Relaxed);
        let is_lost = family != 0 && companion::is_lost(self.name(), companions);
        if is_lost {
            self.remove_companions()?;
        }
        Ok(is_lost)
    }

    /// Makes it `which` companion of the object with this `family`. Only before it is published.
    pub(crate) fn make_companion(&self, which: Companion, family: u64) -> Result<()> {
        let region = self.region();
        companion::which(&region)?.store(which as u32, Ordering::Relaxed);
        companion::family(&region)?.store(family, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the names of its companions.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn remove_companions(&self) -> Result<()> {
        let family = self.family()?.load(Ordering::Relaxed);
        let mut taken = None;
        attachment::retry_while_busy(OPENING_NS, |_, _| {
            taken = companion::remove(&self.file().published, family);
            Ok(taken.is_none().then_some(()))
        })?;
        taken.map_or(Ok(()), |file| Err(busy(&file)))
    }

    /// The whole mapping. What is resolved from it must not outlive the segment.
    pub(crate) fn region(&self) -> Region {
        region_of(&self.pages)
    }

    /// Its file.
    fn file(&self) -> &ObjectFile {
        self.handle.file()
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this handle created the object. A private name is known to its creator only.
    pub(crate) fn created(&self) -> bool {
        self.file().private.is_some()
    }

    /// Whether the object still has its name.
    pub(crate) fn is_named(&self) -> bool {
        self.file().is_named()
    }

    /// Whether the object outlives its processes.
    pub(crate) fn is_persistent(&self) -> bool {
        self.file().persistent || companion::has_any(&self.region())
    }

    /// This handle as the owner of what it holds in the object. Different after a fork.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        self.handle.owner()
    }

    /// The participants, for locks in the segment.
    #[inline]
    pub(crate) fn peers(&self) -> &dyn Peers {
        &*self.handle
    }

    /// [`owner`](Self::owner) as locks write it.
    #[inline]
    pub(crate) fn me(&self) -> u64 {
        self.handle.me().load(Ordering::Relaxed)
    }

    /// This handle's slot among the participants. Different after a fork.
    #[inline]
    pub(crate) fn slot(&self) -> u16 {
        self.handle.slot()
    }

    /// A word in which this process keeps data of the object about its slot: null at first, and again in a
    /// forked child that has another slot.
    #[inline]
    pub(crate) fn known(&self) -> &AtomicPtr<()> {
        self.handle.known()
    }

    /// Whether any handle but this one is attached in `section`.
    pub(crate) fn has_others(&self, section: Section) -> Result<bool> {
        Table::of(&self.region())?.has_others(section, self.slot())
    }

    /// Removes the object's name if it has no companions, no other handle has it open, and it is unused according to
    /// `is_unused`. Whether it was removed.
    ///
    /// A process that opens the object takes the attach lock, so none does from the check to the removal. Killed
    /// between: the name stays, without FIFOs, as after a kill in [`unlink`](super::unlink).
    pub(crate) fn unlink_if_unused(
        &self,
        is_unused: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let (file, name) = self.file().open()?;
        let Some(_lock) = AttachLock::try_acquire(file.as_fd())? else {
            return Ok(false);
        };
        let has_companions = companion::has_any(&self.region());
        if has_companions || self.has_others(Section::ALL)? || !is_unused()? {
            return Ok(false);
        }
        fifo::remove_of(&self.region(), &self.file().published);
        crash_point!();
        Ok(shm::unlink_if_same(name, file.as_fd()))
    }

    /// A further slot of this handle's section, held until the descriptor and all its copies
    /// are closed. It outlives the handle.
    pub(crate) fn hold_slot(&self) -> Result<OwnedFd> {
        collect::with_room(|| self.handle.hold_slot())
    }

    /// Whether `owner` is still attached.
    pub(crate) fn is_attached(&self, owner: Owner) -> Result<bool> {
        self.peers().lives(owner)
    }

    /// Commits the pages of `offset .. offset + len`; `NoSpace` if there is no memory even after removing
    /// what dead processes left. A part of them may then be committed: the caller gives back the pages that
    /// it does not use.
    pub(crate) fn commit(&self, offset: u64, len: u64) -> Result<()> {
        self.commit_more(offset, len, 0)
    }

    /// The same, where the caller knows that `new` bytes of them are not there yet.
    pub(crate) fn commit_more(&self, offset: u64, len: u64, new: u64) -> Result<()> {
        let at = self.region().span(offset, len as usize)?;
        let commit = || {
            shm::check_room(new)?;
            committing(|| match mapping::commits() {
                true => mapping::commit(at, len as usize),
                false => self.commit_file(offset, len),
            })
        };
        collect::with_room(commit)
    }

    /// Commits memory where that cannot be done through the mapping (before Linux 5.14).
    fn commit_file(&self, offset: u64, len: u64) -> Result<()> {
        let _no_fork = fork::hold_off()?;
        let _streams = StreamsTaken::new();
        match self.file().open() {
            Ok((file, _)) => shm::commit(file.as_fd(), offset, len),
            Err(Error::NotFound { name, .. }) => Err(Error::unsupported(format!(
                "the file of {name:?} was removed, and without it memory is set aside on Linux 5.14 \
                 and later only"
            ))),
            Err(err) => Err(err),
        }
    }

    /// Bytes that are free in the file system.
    pub(crate) fn available(&self) -> u64 {
        shm::available()
    }

    /// Makes the FIFO of queue number `way`, opens it, and returns it with its inode. `None` if none can be
    /// made: the object's name was removed, or the directory cannot be written to.
    ///
    /// Called under a lock of that queue, which has no FIFO yet.
    pub(crate) fn make_fifo(&self, way: u32) -> Option<(OwnedFd, u64)> {
        fifo::make(&self.region(), self.file(), way)
    }

    /// Opens the FIFO of queue number `way`, if it has this inode.
    pub(crate) fn open_fifo(&self, way: u32, inode: u64) -> Option<OwnedFd> {
        fifo::open(self.file(), way, inode)
    }

    /// Gives whole pages back to the system.
    pub(crate) fn decommit(&self, offset: u64, len: u64) -> Result<()> {
        let at = self.region().span(offset, len as usize)?;
        committing(|| mapping::decommit(at, len as usize))
    }
}

fn region_of(pages: &Pages) -> Region {
    // SAFETY: mapped, page-aligned, and unmapped only when the segment is dropped.
    unsafe { Region::new(pages.base(), pages.len()) }
}

/// Admits this process if the participants are of its pid namespace, or there are none. Under the attach
/// lock.
fn enter_namespace(name: &str, others: &[MemberId], region: &Region) -> Result<()> {
    // Not from the stamp, which was read before the lock was taken.
    let namespace: &AtomicU64 = region.resolve(Offset::new(stamp::NAMESPACE))?;
    let refused = stamp::check_namespace(name, namespace.load(Ordering::Relaxed));
    if refused.is_err() && others.is_empty() {
        namespace.store(liveness::pid_namespace(), Ordering::Relaxed);
        return Ok(());
    }
    refused
}

/// The error after other processes have removed the file at every try.
fn gone_each_time(name: &str, what: &str) -> Error {
    Error::corrupt(format!(
        "the file of {name:?} was removed or replaced {TRIES} times while it was being {what}"
    ))
}

/// The error when the attach lock of `file` was not free for [`OPENING_NS`].
pub(super) fn busy(file: &str) -> Error {
    let inode = shm::facts(file).map_or(0, |facts| facts.ino());
    Error::Busy {
        name: file
            .strip_prefix(name::PUBLISHED)
            .unwrap_or(file)
            .to_owned(),
        who: holder::of_lock(inode, ATTACH_LOCK).unwrap_or_else(|| "another process".to_owned()),
        seconds: OPENING_NS / 1_000_000_000,
    }
}

/// What came of taking a file's attach lock.
enum FileLock<'a> {
    /// With the members that have the object open.
    Taken(AttachLock<'a>, Vec<MemberId>),
    /// The name now means another file.
    Replaced,
    /// Another process has it.
    Busy,
}

/// Takes the attach lock of `file` through `probe`.
///
/// # Errors
/// `NotFound` after removing a segment whose last participant died.
fn lock_file<'a>(file: &str, probe: &'a File, stamp: &Stamp) -> Result<FileLock<'a>> {
    let Some(lock) = AttachLock::try_acquire(probe.as_fd())? else {
        return Ok(FileLock::Busy);
    };
    if !shm::names(file, probe.as_fd()) {
        return Ok(FileLock::Replaced);
    }
    let others = participants::held(probe, stamp.has_our_namespace())?;
    let others: Vec<MemberId> = others.iter().map(|it| it.id).collect();
    if !others.is_empty() || stamp.persistent() || participants::is_locked(probe)? {
        return Ok(FileLock::Taken(lock, others));
    }
    // Not from the stamp that was read before the lock was taken: it may have got companions since.
    let stamp = stamp_of(file, probe)?;
    if stamp.stays() {
        return Ok(FileLock::Taken(lock, others));
    }
    let dead = participants::entries(probe)?;
    fifo::remove(file, stamp.fifos());
    crash_point!();
    shm::unlink(file)?;
    for entry in dead {
        liveness::sweep(entry.id);
    }
    let name = file
        .strip_prefix(name::PUBLISHED)
        .unwrap_or(file)
        .to_owned();
    Err(Error::NotFound {
        what: "shared object",
        name,
    })
}

/// Whether a live object has this name; removes a dead one.
fn is_alive(name: &str, file: &str) -> Result<bool> {
    // No child of another thread's fork may inherit a file's attach lock.
    let checked = attachment::retry_while_busy(OPENING_NS, |_, _| {
        for _ in 0..TRIES {
            let (probe, stamp) = find(name, file)?;
            match lock_file(file, &probe, &stamp)? {
                FileLock::Replaced => {}
                FileLock::Taken(..) => return Ok(Some(())),
                FileLock::Busy => return Ok(None),
            }
        }
        Ok(Some(()))
    });
    match checked {
        Ok(Some(())) => Ok(true),
        Ok(None) => Err(busy(file)),
        Err(Error::NotFound { .. }) => Ok(false),
        // The directory is not accessible: it is not known whether the name is taken.
        Err(err @ Error::Permission { .. })
            if matches!(shm::facts(file), Err(Error::Permission { .. })) =>
        {
            Err(err)
        }
        // Whatever it is, the name is taken.
        Err(Error::Corrupt { .. } | Error::Permission { .. } | Error::VersionMismatch { .. }) => {
            Ok(true)
        }
        Err(err) => Err(err),
    }
}
