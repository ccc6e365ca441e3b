//! Which processes are alive: each has locked a byte of a file, and the kernel drops the lock when the process
//! ends.
//!
//! ```text
//! /dev/shm/shoal+<group>, a file that takes no memory
//! its size               how many members there ever were: the number of the next one
//! and far beyond it, bytes that are only locked:
//! ATTACH_LOCK            while a process becomes a member, and while the file is removed
//! ATTACH_LOCK + 1 + number  for as long as that member lives: for writing, and for reading only while it ends
//! ```
//! A process becomes a member of a liveness group when it opens its first object: the group of a process that
//! has that object open, or else a new one. From then on, an object's table of participants names it by group
//! and number. So an object needs no descriptor and no lock of its own, and one query to the kernel answers
//! for all objects of a process. A number is used once. A process without objects is in no group.
//!
//! **Held by a mapping.** A lock belongs to an open file description, which exists while there is a
//! descriptor or a mapping of it. A member has both: the descriptor for querying the kernel, and the mapping
//! because some programs close every descriptor that they find. `MADV_DONTFORK` keeps the mapping from
//! children, and the child closes its copy of the descriptor.
//!
//! **Forks.** Before a fork the parent makes the child a member, with a description of its own that both
//! processes have until the parent closes it. So there is no moment at which the child does not count as
//! alive. A process keeps one further description of the file in reserve, for a fork at which no descriptor is
//! free, or at which the file cannot be reached any more (`chroot`). It opens the next one when it can. If there
//! is none, the child is no member, and has no slot in the inherited objects (`attachment`): if it shared its
//! parent's membership, what it has locked would stay locked after its death.
//!
//! A child that was made without the handlers of `fork` has its parent's description, which it neither
//! unlocks nor uses: it becomes a member when it opens an object.
//!
//! **Where the kernel cannot be asked**, because the file was removed (`rm /dev/shm/*`, the end of a login
//! session), the root directory was changed or no descriptor is left, the process id and the time at which
//! the participant registered decide. All participants of an object are of one pid namespace.
//!
//! # Crash arguments
//! *Killed while it creates the file or becomes a member:* the file has no member, and is collected. A number
//! that was locked and not yet counted is used again: no object names it. *Killed before or during a fork:*
//! the child's description is closed with the process, or the child has it. The reserve has no lock before that.
//! *The last member is killed:* the file has no member, and is collected. *Stopped with the attach lock:* other
//! processes wait for a second, and then create a new group.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sync::crash::crash_point;
use crate::sys::fd::{Kept, SharedKept, StreamsTaken, off_streams};
use crate::sys::guardian;
use crate::sys::mapping::{self, Pages};
use crate::sys::{limits, ofd, process, shm};

use super::attach_lock::{ATTACH_LOCK, AttachLock};
use super::name;

/// Bytes of the mapping, which are never touched.
const SIZE: u64 = 4096;
const NUMBER_BITS: u32 = 24;
const NUMBERS: u64 = 1 << NUMBER_BITS;
const GROUP_BITS: u32 = 40;
/// How often to begin again if other processes have removed or changed the file, or a group number is in use.
const TRIES: u32 = 64;

/// A member of a liveness group: the group, and the member's number in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberId(u64);

impl MemberId {
    /// Decodes a word of shared memory; `None` for 0, which is no member.
    pub(super) fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    /// Never 0.
    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// A member of a group that does not exist.
    #[cfg(test)]
    pub(super) const fn of_no_group() -> Self {
        Self(1)
    }

    fn group(self) -> u64 {
        self.0 >> NUMBER_BITS
    }

    fn byte(self) -> u64 {
        ATTACH_LOCK + 1 + (self.0 & (NUMBERS - 1))
    }
}

/// What a participant's entry records about its process, for when the kernel cannot be asked.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    /// 0 while not known.
    pub(super) pid: u32,
    /// When it registered, on the clock of [`since_boot_ns`](crate::sys::clock::since_boot_ns).
    pub(super) since: u64,
}

/// This process's own id, for threads that do not hold the lock of the attachments; 0 if it is no member.
/// Changed only under that lock, and in a child by its only thread.
static OWN_ID: AtomicU64 = AtomicU64::new(0);
/// The descriptor of that membership.
static FD: SharedKept = SharedKept::none();

/// The pid namespace of this process, once it was read; 0 in a new child.
static NAMESPACE: AtomicU64 = AtomicU64::new(0);

/// The pid namespace of this process; 0 if the system does not tell.
pub(super) fn pid_namespace() -> u64 {
    let known = NAMESPACE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let found = process::pid_namespace();
    // A process keeps its namespace, but a child may have another. Cached only in a member: only a member is
    // sure to have the hook that clears this in a child.
    if OWN_ID.load(Ordering::Relaxed) != 0 {
        NAMESPACE.store(found, Ordering::Relaxed);
    }
    found
}

/// Whether member `id` lives. `registered` is called only if the kernel cannot be asked; it returns `None` if
/// its process id is of another pid namespace.
pub(super) fn is_alive(
    id: MemberId,
    registered: impl FnOnce() -> Option<Registered>,
) -> Result<bool> {
    let own = MemberId(OWN_ID.load(Ordering::Relaxed));
    if id == own {
        return Ok(true);
    }
    let is_held = |fd| Ok(ofd::first_held(fd, id.byte(), 1)?.is_some());
    if id.group() == own.group()
        && let Some(fd) = FD.get()
    {
        return is_held(fd);
    }
    let _streams = StreamsTaken::new();
    match shm::open_file(&name::liveness_file(id.group())) {
        Ok(file) => is_held(file.as_fd()),
        Err(err) => match (registered(), err) {
            (Some(Registered { pid, since }), _) if pid != 0 => Ok(process::is_older(pid, since)),
            // Most likely it was collected.
            (_, Error::NotFound { .. }) => Ok(false),
            (Some(_), _) => Ok(true),
            (None, err) => Err(err),
        },
    }
}

/// A membership that this process has taken.
pub(super) struct Member {
    id: MemberId,
    /// The open file description that has the lock.
    file: File,
}

impl Member {
    pub(super) fn id(&self) -> MemberId {
        self.id
    }

    /// The file that keeps the membership alive, until it and all its copies are closed.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// The first member of a new group.
    fn create_group() -> Result<Self> {
        for _ in 0..TRIES {
            let [random] = process::random();
            let group = random >> (64 - GROUP_BITS);
            let file = match shm::create_file(&name::liveness_file(group)) {
                Err(Error::Exists { .. }) => continue,
                file => file?,
            };
            crash_point!();
            // `None` if the file was collected before it had a member.
            if let Some(member) = Self::enter(group, file)? {
                return Ok(member);
            }
        }
        Err(Error::corrupt(
            "the liveness file of this process was removed each time it was created",
        ))
    }

    /// A new member of `group`, if its file is there and no stopped process has its attach lock.
    fn join(group: u64) -> Result<Option<Self>> {
        let named = name::liveness_file(group);
        let file = match shm::open_file(&named) {
            Err(Error::NotFound { .. }) => return Ok(None),
            file => file?,
        };
        let facts = file.metadata().map_err(|_| Error::last_os("fstat"))?;
        shm::check_user(&named, &facts)?;
        Self::enter(group, file)
    }

    /// A new member of `group`, by a description of its file that no other process has.
    fn enter(group: u64, file: File) -> Result<Option<Self>> {
        let Some(lock) = AttachLock::acquire_soon(file.as_fd())? else {
            return Ok(None);
        };
        if !shm::names(&name::liveness_file(group), file.as_fd()) {
            return Ok(None);
        }
        let id = take_number(group, &file)?;
        drop(lock);
        Ok(Some(Self { id, file }))
    }

    /// The same where this process is a member: the file may have lost its name.
    fn number(group: u64, file: File) -> Result<Option<Self>> {
        let Some(lock) = AttachLock::acquire_soon(file.as_fd())? else {
            return Ok(None);
        };
        let id = take_number(group, &file)?;
        drop(lock);
        Ok(Some(Self { id, file }))
    }
}

/// The next number of `group`, and its lock. Under the file's attach lock.
fn take_number(group: u64, file: &File) -> Result<MemberId> {
    let facts = file.metadata().map_err(|_| Error::last_os("fstat"))?;
    // Id 0 is no member. Making a file too large raises a signal.
    let most = limits::file_size().map_or(NUMBERS, |limit| limit.min(NUMBERS));
    for number in facts.len().max(1)..most {
        let id = MemberId(group << NUMBER_BITS | number);
        if ofd::try_lock(file.as_fd(), id.byte())? {
            crash_point!();
            file.set_len(number + 1)
                .map_err(|_| Error::last_os("ftruncate"))?;
            crash_point!();
            return Ok(id);
        }
    }
    Err(match most {
        NUMBERS => Error::Exhausted {
            what: "processes of one liveness group",
            limit: most,
        },
        limit => Error::TooLarge {
            what: "file that says which processes live (see ulimit -f)",
            size: facts.len().max(1) + 1,
            limit,
        },
    })
}

/// A process's own membership.
struct OwnMember {
    id: MemberId,
    fd: Kept,
    /// Keeps the lock if the program closes the descriptor. `None` where `madvise` has no effect, since all
    /// children would inherit the mapping.
    page: Option<Pages>,
}

impl OwnMember {
    /// `for_child`: the membership of a process that is yet to be forked.
    fn new(member: Member, for_child: bool) -> Result<Self> {
        let page = match mapping::commits() {
            true => Some(Pages::map(member.file.as_fd(), SIZE)?),
            false => None,
        };
        let own = Self {
            id: member.id,
            fd: Kept::new(off_streams(member.file.into())),
            page,
        };
        own.inherit(for_child);
        Ok(own)
    }

    fn inherit(&self, to_children: bool) {
        if let Some(page) = &self.page {
            page.inherit(to_children);
        }
    }

    /// Publishes the membership to other threads.
    fn announce(&self) {
        FD.set(&self.fd);
        OWN_ID.store(self.id.word(), Ordering::Relaxed);
        let (base, len) = self.page.as_ref().map_or((0, 0), Pages::place);
        guardian::set_liveness_mapping(base, len);
    }

    /// Another member of the same group.
    fn another(&self) -> Result<Option<Member>> {
        let group = self.id.group();
        let Some(fd) = self.fd.get() else {
            return Member::join(group);
        };
        let file = shm::reopen(fd, [name::liveness_file(group).as_str()])?;
        Member::number(group, file)
    }
}

/// This process's membership, and that of a child that it is about to fork. Guarded by the lock of the
/// attachments.
pub(super) struct ProcessLiveness {
    own: Option<OwnMember>,
    next: Option<OwnMember>,
    /// Another description of the file of `own`, for a fork that can open none.
    reserve: Option<Kept>,
    /// The process whose membership it is.
    process: u32,
}

impl ProcessLiveness {
    pub(super) const fn new() -> Self {
        Self {
            own: None,
            next: None,
            reserve: None,
            process: 0,
        }
    }

    /// This process's id. If it is no member yet it becomes one: of the group of one of `others`, if there
    /// is any.
    ///
    /// # Errors
    /// `Os`: no descriptor is left; `NoSpace` and `NoInodes` for a new group's file.
    pub(super) fn enter(&mut self, others: &[MemberId]) -> Result<MemberId> {
        if !self.is_ours()
            && let Some(mut old) = self.own.take()
        {
            FD.clear();
            NAMESPACE.store(0, Ordering::Relaxed);
            self.reserve = None;
            // It is not in this process, whose copy of the descriptor is closed.
            std::mem::forget(old.page.take());
        }
        self.process = process::pid();
        if let Some(own) = &self.own {
            return Ok(own.id);
        }
        let mut joined = others
            .iter()
            .filter_map(|id| Member::join(id.group()).ok()?);
        let member = match joined.next() {
            Some(member) => member,
            None => Member::create_group()?,
        };
        let own = self.own.insert(OwnMember::new(member, false)?);
        own.announce();
        let id = own.id;
        self.fill_reserve();
        Ok(id)
    }

    /// Opens a description for the next fork that can open none. System calls only.
    fn fill_reserve(&mut self) {
        if self.reserve.as_ref().is_some_and(|it| it.get().is_some()) {
            return;
        }
        let own = self.own.as_ref().and_then(|own| own.fd.get());
        let file = own.and_then(|fd| shm::reopen(fd, []).ok());
        self.reserve = file.map(|file| Kept::new(off_streams(file.into())));
    }

    /// Whether this process entered, or was forked (with the handlers) from one that had.
    fn is_ours(&self) -> bool {
        self.process == process::pid()
    }

    /// A member that is not a process: it lives while its descriptor is open in any process.
    ///
    /// # Errors
    /// As for [`enter`](Self::enter).
    pub(super) fn another(&self) -> Result<Member> {
        let joined = match &self.own {
            Some(own) => own.another().unwrap_or(None),
            None => None,
        };
        joined.map_or_else(Member::create_group, Ok)
    }

    /// The id of a child that is about to be forked; `None` if it can be no member, or this process is none.
    pub(super) fn before_fork(&mut self) -> Option<MemberId> {
        let group = self.own.as_ref()?.id.group();
        let _streams = StreamsTaken::new();
        let member = match self.another() {
            Ok(member) => member,
            Err(_) => {
                let reserve = self.reserve.take()?.into_fd()?;
                Member::number(group, reserve.into()).ok()??
            }
        };
        let next = OwnMember::new(member, true).ok()?;
        Some(self.next.insert(next).id)
    }

    /// In the parent: drops the child's membership, which the child has taken over. If the fork failed, no
    /// process has it.
    pub(super) fn after_fork_in_parent(&mut self) {
        self.next = None;
        self.fill_reserve();
    }

    /// In the child: it takes the membership that was made for it, or is no member. System calls only.
    pub(super) fn after_fork_in_child(&mut self) {
        NAMESPACE.store(0, Ordering::Relaxed);
        self.process = process::pid();
        // With a description that two processes have, each would keep the other's next child alive.
        self.reserve = None;
        let old = std::mem::replace(&mut self.own, self.next.take());
        match &self.own {
            Some(own) => {
                crash_point!();
                own.inherit(false);
                own.announce();
            }
            None => withdraw(),
        }
        if let Some(mut old) = old {
            // It is not in this process, whose copy of the descriptor is closed.
            std::mem::forget(old.page.take());
        }
        self.fill_reserve();
    }

    /// Called when this process is about to end; until then it counts as alive. Removes the group's file if all
    /// other members are about to end as well. Of several members that end at the same time, or of two copies of
    /// this library in one process, each still finds the locks of the others.
    pub(super) fn mark_leaving(&mut self) {
        let Some(own) = self.own.as_ref().filter(|_| self.is_ours()) else {
            return;
        };
        let named = name::liveness_file(own.id.group());
        if let Some(fd) = own.fd.get() {
            ofd::share(fd, own.id.byte());
            crash_point!();
            remove_if_all_end(&named, fd, own.id);
        } else if let Ok(file) = shm::open_file(&named) {
            // The program has closed all descriptors.
            remove_if_all_end(&named, file.as_fd(), own.id);
        }
    }

    /// Called when this process continues to use objects after [`mark_leaving`](Self::mark_leaving).
    pub(super) fn stay(&self) {
        if let Some(own) = &self.own
            && let Some(fd) = own.fd.get()
        {
            // Never fails: no other description has a lock there.
            let _ = ofd::try_lock(fd, own.id.byte());
        }
    }

    /// Leaves the group, since this process has no object any more. The last member removes the group's file.
    pub(super) fn leave(&mut self) {
        if !self.is_ours() {
            return;
        }
        let Some(own) = self.own.take() else { return };
        withdraw();
        self.reserve = None;
        let named = name::liveness_file(own.id.group());
        match own.fd.get() {
            Some(fd) => {
                ofd::unlock(fd, own.id.byte());
                crash_point!();
                remove_if_all_end(&named, fd, own.id);
            }
            // The lock is released with the mapping; after that, `sweep` can tell whether it was the last.
            None => {
                let id = own.id;
                drop(own);
                sweep(id);
            }
        }
    }
}

/// This process is no member any more.
fn withdraw() {
    OWN_ID.store(0, Ordering::Relaxed);
    FD.clear();
    guardian::set_liveness_mapping(0, 0);
}

/// Removes the file of this former member's group if no other member is going to stay.
pub(super) fn sweep(id: MemberId) {
    let named = name::liveness_file(id.group());
    if let Ok(file) = shm::open_file(&named) {
        remove_if_all_end(&named, file.as_fd(), id);
    }
}

/// Removes the file of a group if no member but `own` is going to stay. Waits for another process that does the
/// same: it may have checked while this one was still a member.
fn remove_if_all_end(named: &str, fd: BorrowedFd<'_>, own: MemberId) {
    let (first, byte) = (ATTACH_LOCK + 1, own.byte());
    let goes_on = |start, len| !matches!(ofd::written_range(fd, start, len), Ok(None));
    // `own` is no longer a member, or this process, whose lock another description has.
    if let Ok(Some(_lock)) = AttachLock::acquire_soon(fd)
        && !goes_on(first, byte - first)
        && !goes_on(byte + 1, NUMBERS)
    {
        shm::unlink_if_same(named, fd);
    }
}
