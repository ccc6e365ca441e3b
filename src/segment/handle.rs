//! One process's seat in a segment: the slot it has among the participants, and what becomes of that
//! when the process forks, leaves or exits.
//!
//! A slot says which life holds it (`family`). A forked child is another one, so before every fork
//! each seat is given a second slot, which names the child's life. The child takes that over. At
//! no moment is the object without a participant, however soon after the fork the parent leaves.
//!
//! All comings and goings of this process happen under one lock, which a fork takes too: no
//! child can inherit a descriptor or a seat that this table does not know of. It is taken before a
//! gate, never while holding one.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::layout::{Owner, Region};
use crate::sync::crash::crash_point;
use crate::sync::{self, Peers, pack, unpack};
use crate::sys::fd::StreamsTaken;
use crate::sys::once::Once;
use crate::sys::shm::{self, Identity};
use crate::sys::{self, process};

use super::family::{Kin, Life};
use super::fifo;
use super::gate::Gate;
use super::participants::{Section, Table};

/// A seat. Boxed, since the table below points to it.
pub(super) struct Handle {
    slot: AtomicU32,
    /// Who sits here, as locks write it.
    me: AtomicU64,
    /// What a fork that is under way gives to the child: a slot, or `NONE`.
    next: AtomicU32,
    /// A child had to stay in this seat; or this is the child.
    crowded: AtomicBool,
    /// What an object knows of its slot; null when the slot is new.
    known: AtomicPtr<()>,
    region: Region,
    /// Where it may sit, and its children.
    section: Section,
    file: Names,
}

const NONE: u32 = u32::MAX;

/// A segment's file: which one it is, and the names it can have.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) identity: Identity,
    /// While it is being filled, if this process does that.
    pub(super) private: Option<String>,
    /// From then on, and whether it keeps that when the last one leaves.
    pub(super) published: String,
    pub(super) persistent: bool,
}

impl Names {
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
}

/// All seats of this process, and its life.
pub(super) struct Seats {
    all: Vec<*const Handle>,
    kin: Kin,
}

// SAFETY: each pointer is to a boxed handle that removes itself under the lock of the table
// before it goes.
unsafe impl Send for Seats {}

static SEATS: Mutex<Seats> = Mutex::new(Seats {
    all: Vec::new(),
    kin: Kin::new(),
});

/// Keeps the process's other threads from taking or leaving a seat, and from forking.
pub(super) fn seats() -> MutexGuard<'static, Seats> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seats {
    /// Takes a seat of `section`. `others` have the object open already.
    pub(super) fn take(
        &mut self,
        region: Region,
        section: Section,
        file: Names,
        others: &[Life],
    ) -> Result<Box<Handle>> {
        static FORKS: Once = Once::new();
        static EXITS: Once = Once::new();
        sys::fork::at_fork(
            &FORKS,
            before_fork,
            after_fork_in_parent,
            after_fork_in_child,
        )?;
        sys::exit::at_exit(&EXITS, leave_all)?;
        let table = Table::of(&region)?;
        let life = self.kin.enter(others)?;
        let slot = table.join(&region, section, life, process::pid())?;
        let handle = Box::new(Handle {
            slot: AtomicU32::new(slot.into()),
            me: AtomicU64::new(pack(table.owner(slot))),
            next: AtomicU32::new(NONE),
            crowded: AtomicBool::new(false),
            known: AtomicPtr::new(ptr::null_mut()),
            region,
            section,
            file,
        });
        self.all.push(&*handle);
        Ok(handle)
    }

    fn each(&self) -> impl Iterator<Item = &Handle> {
        // SAFETY: a handle removes itself from the table, under its lock, before it goes.
        self.all.iter().map(|&seat| unsafe { &*seat })
    }
}

impl Handle {
    pub(super) fn file(&self) -> &Names {
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

    /// Gives up the slot; the last one out takes an ephemeral segment along.
    fn leave(&self) {
        // The slot goes when both who sit in it are dead. Who that is last cannot be told, so `gc` or
        // the next to open the name removes the file.
        if self.crowded.load(Ordering::Relaxed) {
            return;
        }
        let Ok(table) = Table::of(&self.region) else {
            return;
        };
        if !self.file.persistent {
            let _streams = StreamsTaken::new();
            // A file that has lost its name, and one that nobody can open now, is not removed here.
            if let Ok((file, name)) = self.file.open()
                // Without the gate we could only risk to remove what somebody has just opened.
                && let Ok(_gate) = Gate::close(file.as_fd())
            {
                table.leave(self.slot());
                crash_point!();
                if matches!(table.has_others(Section::ALL, self.slot()), Ok(false)) {
                    fifo::remove_of(&self.region, &self.file.published);
                    crash_point!();
                    shm::unlink_if_same(name, file.as_fd());
                }
                return;
            }
        }
        table.leave(self.slot());
    }

    /// Before a fork: takes a slot for the child, whose life is `child`. Where none is to be had, the
    /// child stays in this one.
    fn prepare(&self, child: Option<Life>) {
        // Its pid is not known yet.
        let join = |life| Table::of(&self.region)?.join(&self.region, self.section, life, 0);
        match child.map(join) {
            Some(Ok(slot)) => {
                crash_point!();
                self.next.store(slot.into(), Ordering::Relaxed);
            }
            _ => self.crowded.store(true, Ordering::Relaxed),
        }
    }

    /// A further seat of the same section, for as long as the descriptor or a copy of it is open.
    pub(super) fn place(&self) -> Result<OwnedFd> {
        let _streams = StreamsTaken::new();
        let member = seats().kin.another()?;
        Table::of(&self.region)?.join(&self.region, self.section, member.life(), 0)?;
        Ok(member.into_file().into())
    }

    /// In the parent: the child has the new slot. If there is no child, it is a dead one's.
    fn stay(&self) {
        self.next.store(NONE, Ordering::Relaxed);
    }

    /// In the child: exchanges the inherited slot for the new one.
    fn change(&self) {
        let next = self.next.swap(NONE, Ordering::Relaxed);
        if next == NONE {
            return;
        }
        crash_point!();
        self.slot.store(next, Ordering::Relaxed);
        self.known.store(ptr::null_mut(), Ordering::Relaxed);
        // Only the parent can be in a seat with others: the new one is the child's alone.
        self.crowded.store(false, Ordering::Relaxed);
        if let Ok(table) = Table::of(&self.region) {
            table.sign(self.slot());
            self.me
                .store(pack(table.owner(self.slot())), Ordering::Relaxed);
        }
    }
}

impl Peers for Handle {
    #[inline]
    fn me(&self) -> &AtomicU64 {
        &self.me
    }

    fn lives(&self, owner: Owner) -> Result<bool> {
        // The own slot is the one that is asked about most often.
        if owner == self.owner() {
            return Ok(true);
        }
        Table::of(&self.region)?.is_attached(owner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut seats = seats();
        // Unless the process is exiting and `leave_all` was here before.
        if let Some(index) = seats.all.iter().rposition(|&seat| ptr::eq(seat, self)) {
            seats.all.swap_remove(index);
            self.leave();
            if seats.all.is_empty() {
                seats.kin.leave();
            }
        }
    }
}

/// At exit: handles that were never dropped (a C program's, a global's) leave all the same.
pub(crate) extern "C" fn leave_all() {
    // A thread of the library's own may lock objects, and must not once the seats are left.
    sync::stop_watching();
    let mut seats = seats();
    seats.each().for_each(Handle::leave);
    seats.all.clear();
    seats.kin.leave();
}

/// Holds the table's lock from before a fork to after it, in both processes.
struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Seats>>>);

// SAFETY: touched only between the handlers of one fork, by the thread that forks, while it
// holds the table's lock.
unsafe impl Sync for Held {}

static HELD: Held = Held(std::cell::UnsafeCell::new(None));

unsafe extern "C" fn before_fork() {
    let mut guard = seats();
    let child = guard.kin.before_fork();
    guard.each().for_each(|it| it.prepare(child));
    // SAFETY: see `Held`: the lock is ours.
    unsafe { *HELD.0.get() = Some(guard) };
}

unsafe extern "C" fn after_fork_in_parent() {
    // SAFETY: see `Held`: the lock is ours until the guard is dropped here.
    if let Some(mut seats) = unsafe { (*HELD.0.get()).take() } {
        seats.each().for_each(Handle::stay);
        seats.kin.after_fork_in_parent();
    }
}

unsafe extern "C" fn after_fork_in_child() {
    // SAFETY: see `Held`: the child's only thread holds the lock its parent took.
    if let Some(mut seats) = unsafe { (*HELD.0.get()).take() } {
        seats.kin.after_fork_in_child();
        seats.each().for_each(Handle::change);
        sync::forked();
    }
}
