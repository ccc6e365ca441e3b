//! One process's attachment to a segment: its slot among the participants, and how the slot changes when the
//! process forks, leaves or exits.
//!
//! A slot says which member of a liveness group holds it (`liveness`). A forked child is another member, so
//! before every fork each attachment takes a second slot, which names the child. The child takes that over.
//! So the object always has a participant, however soon after the fork the parent leaves.
//!
//! **A child without a slot.** If no slot can be taken for the child, because all are taken or it is not a member
//! of a group (`liveness`), the child is not a participant through that attachment. It must not act as its
//! parent: the drop of a copied lease would end the parent's, and no process could detect that the child has
//! died with a lock. Its owner word is `NOBODY`, which takes no lock and owns nothing. So each call that needs a
//! lock fails with `Exhausted`, a call on what the parent holds is refused as in every child, and what needs no
//! participant still works: an event, the length of a queue. Dropping the handle leaves the object as it is. The
//! child may open the object again by name.
//!
//! A child that was made without the handlers of `fork` (`_Fork`, `clone`) is not a participant through
//! inherited attachments: those are its parent's, and the child does not change them.
//!
//! Exit handlers may open objects after `leave_all` has run: it then runs again.
//!
//! This process attaches and leaves under one lock, which a fork takes too: so no child can inherit a
//! descriptor or an attachment that this table does not have. That lock is taken before a file's attach lock,
//! never while holding one. It is not held while waiting for an attach lock, which a stopped process may have:
//! otherwise no thread of this process could fork or use unrelated objects meanwhile (`retry_while_busy`).
//!
//! **A handle that is dropped while a stopped process has the attach lock** leaves without the lock after a
//! second, and does not check which other processes are attached. No data is lost: the stopped process attaches
//! as if the handle had been dropped later, or leaves. But if the stopped process was leaving and had checked
//! for others already, neither process removes the object's name. Then the name stays as after a kill, until a
//! process removes it that opens it or collects.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::layout::{Owner, Region};
use crate::sync::crash::crash_point;
use crate::sync::{self, NOBODY, Peers, pack, unpack};
use crate::sys::clock::Deadline;
use crate::sys::fd::StreamsTaken;
use crate::sys::once::Once;
use crate::sys::shm;
use crate::sys::{self, process};

use super::attach_lock::AttachLock;
use super::companion;
use super::fifo;
use super::file::ObjectFile;
use super::liveness::{MemberId, ProcessLiveness};
use super::name::PUBLISHED;
use super::participants::{Section, Table};

/// An attachment. Boxed, since the table below points to it.
pub(super) struct Attachment {
    /// `NONE` in a child without a slot.
    slot: AtomicU32,
    /// The process that has it.
    process: AtomicU32,
    /// The owner of the slot, as the word that locks store; `NOBODY` without a slot.
    me: AtomicU64,
    /// The slot that a fork under way gives to the child, or `NONE`.
    next: AtomicU32,
    /// What the object keeps about its slot; null when the slot is new.
    known: AtomicPtr<()>,
    region: Region,
    /// The slots that it and its children may take.
    section: Section,
    file: ObjectFile,
}

/// As a slot's number, it is beyond all slots.
const NONE: u32 = u32::MAX;

/// All attachments of this process, and its membership of a liveness group.
pub(super) struct Attachments {
    all: Vec<*const Attachment>,
    liveness: ProcessLiveness,
}

// SAFETY: each pointer is to a boxed attachment that removes itself, under the lock of the table, before it
// is freed.
unsafe impl Send for Attachments {}

/// The process that has the attachments; not a child that was made without the handlers of `fork`.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether `leave_all` has run since it was last registered.
static HAS_LEFT: AtomicBool = AtomicBool::new(false);

static ATTACHMENTS: Mutex<Attachments> = Mutex::new(Attachments {
    all: Vec::new(),
    liveness: ProcessLiveness::new(),
});

/// Prevents the process's other threads from attaching, leaving and forking.
pub(super) fn attachments() -> MutexGuard<'static, Attachments> {
    // Before the lock is taken: without the handlers, a forked child could find it locked for ever. If this
    // fails, nothing is open, and opening an object fails earlier.
    let _ = prepare();
    locked()
}

/// Registers the handlers of forks. Nothing is opened without them.
pub(super) fn prepare() -> Result<()> {
    static FORKS: Once = Once::new();
    sys::fork::at_fork(
        &FORKS,
        before_fork,
        after_fork_in_parent,
        after_fork_in_child,
    )
}

/// How long a call that opens an object or removes its name waits for a process that has the attach lock. Then it
/// fails with `Busy`.
pub(super) const OPENING_NS: u64 = 5_000_000_000;

/// How long a handle that is dropped waits for a process that has the attach lock.
pub(super) const LEAVING_NS: u64 = 1_000_000_000;

/// Calls `act` with the lock under which this process attaches and leaves. While `act` returns `None`, because
/// another process has the attach lock that it needs, pauses without that lock and calls it again. The second
/// argument is true for the last call, after `limit_ns`.
///
/// A process has an attach lock for far less than a millisecond, unless it is stopped.
pub(super) fn retry_while_busy<T>(
    limit_ns: u64,
    mut act: impl FnMut(&mut Attachments, bool) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let limit = Deadline::At(Deadline::Never.slice(limit_ns));
    let mut pause = Duration::from_micros(50);
    loop {
        let is_last = limit.passed();
        let done = act(&mut attachments(), is_last)?;
        if done.is_some() || is_last {
            return Ok(done);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

fn locked() -> MutexGuard<'static, Attachments> {
    ATTACHMENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attachments {
    /// Attaches in a slot of `section`. `others` have the object open already.
    pub(super) fn register(
        &mut self,
        region: Region,
        section: Section,
        file: ObjectFile,
        others: &[MemberId],
    ) -> Result<Box<Attachment>> {
        static EXITS: Once = Once::new();
        prepare()?;
        sys::exit::at_exit(&EXITS, leave_all)?;
        if HAS_LEFT.load(Ordering::Relaxed) {
            sys::exit::at_exit(&Once::new(), leave_all)?;
            HAS_LEFT.store(false, Ordering::Relaxed);
            self.liveness.stay();
        }
        let process = process::pid();
        PROCESS.store(process, Ordering::Relaxed);
        let table = Table::of(&region)?;
        let id = self.liveness.enter(others)?;
        let slot = table.join(&region, section, id, process)?;
        let handle = Box::new(Attachment {
            slot: AtomicU32::new(slot.into()),
            process: AtomicU32::new(process),
            me: AtomicU64::new(pack(table.owner(slot))),
            next: AtomicU32::new(NONE),
            known: AtomicPtr::new(ptr::null_mut()),
            region,
            section,
            file,
        });
        self.all.push(&*handle);
        Ok(handle)
    }

    fn each(&self) -> impl Iterator<Item = &Attachment> {
        // SAFETY: an attachment removes itself from the table, under its lock, before it is freed.
        self.all.iter().map(|&it| unsafe { &*it })
    }
}

impl Attachment {
    pub(super) fn file(&self) -> &ObjectFile {
        &self.file
    }

    #[inline]
    pub(super) fn slot(&self) -> u16 {
        self.slot.load(Ordering::Relaxed) as u16
    }

    #[inline]
    pub(super) fn owner(&self) -> Owner {
        unpack(self.me.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn known(&self) -> &AtomicPtr<()> {
        &self.known
    }

    /// Gives up the slot; the last one to leave removes an ephemeral segment. `None`, and nothing is done, if
    /// another process has the attach lock; with `is_last`, leaves without that lock then.
    fn leave(&self, is_last: bool) -> Option<()> {
        self.leave_by(Table::leave, is_last)
    }

    /// Called when the process is about to end. Its threads may use the object until then, so it keeps the
    /// slot, and with it what they have locked, until the kernel says that it is dead.
    fn mark_leaving(&self, is_last: bool) -> Option<()> {
        self.leave_by(Table::mark_leaving, is_last)
    }

    fn leave_by(&self, leave: fn(&Table, u16), is_last: bool) -> Option<()> {
        if self.process.load(Ordering::Relaxed) != process::pid() {
            return Some(());
        }
        if self.slot.load(Ordering::Relaxed) == NONE {
            return Some(());
        }
        let Ok(table) = Table::of(&self.region) else {
            return Some(());
        };
        if !self.file.persistent {
            let _streams = StreamsTaken::new();
            // A file that has lost its name, or cannot be opened now, is not removed here.
            if let Ok((file, name)) = self.file.open()
                && let Ok(lock) = AttachLock::try_acquire(file.as_fd())
            {
                if lock.is_none() && !is_last {
                    return None;
                }
                leave(table, self.slot());
                crash_point!();
                // Without the lock it could remove what another process has just opened.
                if lock.is_some()
                    && matches!(table.has_any_that_stays(), Ok(false))
                    // Read after that: no process that stays is left to change it.
                    && !companion::has_any(&self.region)
                {
                    fifo::remove_of(&self.region, &self.file.published);
                    crash_point!();
                    shm::unlink_if_same(name, file.as_fd());
                }
                return Some(());
            }
        }
        leave(table, self.slot());
        Some(())
    }

    /// Before a fork: takes a slot for the child, which is member `child`, if there is one to take.
    fn before_fork(&self, child: Option<MemberId>) {
        // The child's pid is not known yet.
        let join = |id| Table::of(&self.region)?.join(&self.region, self.section, id, 0);
        if let Some(Ok(slot)) = child.map(join) {
            crash_point!();
            self.next.store(slot.into(), Ordering::Relaxed);
        }
    }

    /// A further slot of the same section, for as long as the descriptor or a copy of it is open.
    pub(super) fn hold_slot(&self) -> Result<OwnedFd> {
        let _streams = StreamsTaken::new();
        let member = attachments().liveness.another()?;
        Table::of(&self.region)?.join(&self.region, self.section, member.id(), 0)?;
        Ok(member.into_file().into())
    }

    /// In the parent: forgets the new slot, which the child has. If the fork failed, its holder counts as
    /// dead.
    fn after_fork_in_parent(&self) {
        self.next.store(NONE, Ordering::Relaxed);
    }

    /// In the child: exchanges the inherited slot for the new one, or for none.
    fn after_fork_in_child(&self) {
        self.process.store(process::pid(), Ordering::Relaxed);
        let next = self.next.swap(NONE, Ordering::Relaxed);
        crash_point!();
        self.slot.store(next, Ordering::Relaxed);
        self.known.store(ptr::null_mut(), Ordering::Relaxed);
        let me = match Table::of(&self.region) {
            Ok(table) if next != NONE => {
                table.record_holder(self.slot());
                pack(table.owner(self.slot()))
            }
            _ => NOBODY,
        };
        self.me.store(me, Ordering::Relaxed);
    }
}

impl Peers for Attachment {
    #[inline]
    fn me(&self) -> &AtomicU64 {
        &self.me
    }

    fn object(&self) -> &str {
        let file = &self.file.published;
        file.strip_prefix(PUBLISHED).unwrap_or(file)
    }

    fn lives(&self, owner: Owner) -> Result<bool> {
        // Fast path: most calls ask about this handle's own slot.
        if owner == self.owner() {
            return Ok(true);
        }
        Table::of(&self.region)?.is_attached(owner)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // In the pauses this attachment is still in the table. A child that is forked then inherits it, like a
        // handle of a thread that does not exist in the child.
        let left = retry_while_busy(LEAVING_NS, |attachments, is_last| {
            // Not found if `leave_all` has run.
            let mut each = attachments.all.iter();
            let Some(index) = each.rposition(|&it| ptr::eq(it, self)) else {
                return Ok(Some(()));
            };
            let left = self.leave(is_last);
            if left.is_some() {
                attachments.all.swap_remove(index);
                if attachments.all.is_empty() {
                    attachments.liveness.leave();
                }
            }
            Ok(left)
        });
        debug_assert_eq!(left, Ok(Some(())));
    }
}

/// At the end of the process: handles that were never dropped (a C program's, a global's) leave as well.
/// Other threads may be in calls until the end, so what they hold remains theirs.
pub(crate) extern "C" fn leave_all() {
    HAS_LEFT.store(true, Ordering::Relaxed);
    // Before the lock is taken: in a child that was made without the handlers, a thread of the parent may
    // have had it.
    if PROCESS.load(Ordering::Relaxed) != process::pid() {
        return;
    }
    // The library's threads must not use objects that are left.
    sync::stop_watching();
    let _ = retry_while_busy(LEAVING_NS, |attachments, is_last| {
        attachments
            .all
            // SAFETY: as in `each`.
            .retain(|&it| unsafe { &*it }.mark_leaving(is_last).is_none());
        if !attachments.all.is_empty() {
            return Ok(None);
        }
        attachments.liveness.mark_leaving();
        Ok(Some(()))
    });
}

/// Holds the table's lock from before a fork to after it, in both processes.
struct AcrossFork(std::cell::UnsafeCell<Option<MutexGuard<'static, Attachments>>>);

// SAFETY: touched only between the handlers of one fork, by the thread that forks, while it
// holds the table's lock.
unsafe impl Sync for AcrossFork {}

static ACROSS_FORK: AcrossFork = AcrossFork(std::cell::UnsafeCell::new(None));

unsafe extern "C" fn before_fork() {
    let mut guard = locked();
    let child = guard.liveness.before_fork();
    guard.each().for_each(|it| it.before_fork(child));
    // SAFETY: see `AcrossFork`: this thread has the lock.
    unsafe { *ACROSS_FORK.0.get() = Some(guard) };
}

unsafe extern "C" fn after_fork_in_parent() {
    // SAFETY: see `AcrossFork`: this thread has the lock until the guard is dropped here.
    if let Some(mut attachments) = unsafe { (*ACROSS_FORK.0.get()).take() } {
        attachments
            .each()
            .for_each(Attachment::after_fork_in_parent);
        attachments.liveness.after_fork_in_parent();
    }
}

unsafe extern "C" fn after_fork_in_child() {
    // SAFETY: see `AcrossFork`: the child's only thread holds the lock that its parent took.
    if let Some(mut attachments) = unsafe { (*ACROSS_FORK.0.get()).take() } {
        PROCESS.store(process::pid(), Ordering::Relaxed);
        attachments.liveness.after_fork_in_child();
        attachments.each().for_each(Attachment::after_fork_in_child);
        sync::forked();
    }
}
