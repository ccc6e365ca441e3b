//! One process's seat in a segment: a descriptor, the slot it locks, and what becomes of both
//! when the process forks, leaves or exits.
//!
//! A forked child inherits the descriptor, and with it its parent's locks: while the child
//! lives, the kernel would call the dead parent alive. So before every fork each seat is
//! given a second descriptor with a slot of its own. The child takes that over and closes
//! the one of its parent; the parent closes the second. At no moment is the object without
//! a participant, however soon after the fork the parent leaves.
//!
//! All comings and goings of this process happen under one lock, which a fork takes too: no
//! child can inherit a descriptor that this table does not know of. It is taken before a
//! gate, never while holding one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::layout::{Owner, Region};
use crate::sync::{self, Peers, pack, unpack};
use crate::sys::fd::StreamsTaken;
use crate::sys::once::Once;
use crate::sys::{self, shm};

use super::attach::table;
use super::participants::{self, Gate, Section};

/// A seat. Boxed, since the table below points to it.
pub(super) struct Handle {
    // Changed only in a forked child, by its only thread.
    fd: AtomicI32,
    slot: AtomicU32,
    /// Who sits here, as locks write it.
    me: AtomicU64,
    /// What a fork that is under way hands to the child; no descriptor is `NONE`.
    next_fd: AtomicI32,
    next_slot: AtomicU32,
    /// A child had to stay in this seat; or this is the child.
    crowded: AtomicBool,
    /// What an object knows of its slot; null when the slot is new.
    known: AtomicPtr<()>,
    region: Region,
    /// Where it may sit, and its children.
    section: Section,
    file: Names,
}

const NONE: RawFd = -1;

/// The names a segment's file can have.
pub(super) struct Names {
    /// While it is being filled, if this process does that.
    pub(super) private: Option<String>,
    /// From then on, and whether it keeps that when the last one leaves.
    pub(super) published: String,
    pub(super) persistent: bool,
}

/// All seats of this process.
pub(super) struct Seats(Vec<*const Handle>);

// SAFETY: each pointer is to a boxed handle that removes itself under the lock of the table
// before it goes.
unsafe impl Send for Seats {}

static SEATS: Mutex<Seats> = Mutex::new(Seats(Vec::new()));

/// Keeps the process's other threads from taking or leaving a seat, and from forking.
pub(super) fn seats() -> MutexGuard<'static, Seats> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seats {
    /// Takes the seat that `join` finds: an open file and the slot locked through it.
    pub(super) fn take(
        &mut self,
        region: Region,
        section: Section,
        file: Names,
        join: impl FnOnce() -> Result<(File, u16)>,
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
        let (open, slot) = join()?;
        let handle = Box::new(Handle {
            fd: AtomicI32::new(open.into_raw_fd()),
            slot: AtomicU32::new(slot.into()),
            me: AtomicU64::new(pack(table(&region)?.owner(slot))),
            next_fd: AtomicI32::new(NONE),
            next_slot: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
            known: AtomicPtr::new(ptr::null_mut()),
            region,
            section,
            file,
        });
        self.0.push(&*handle);
        Ok(handle)
    }

    fn each(&self) -> impl Iterator<Item = &Handle> {
        // SAFETY: a handle removes itself from the table, under its lock, before it goes.
        self.0.iter().map(|&seat| unsafe { &*seat })
    }
}

impl Handle {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open for as long as the handle lives.
        unsafe { BorrowedFd::borrow_raw(self.fd.load(Ordering::Relaxed)) }
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.file.persistent
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
        let fd = self.fd();
        // The slot goes when both who sit in it have closed the descriptor. Who that is last
        // cannot be told, so `gc` or the next to open the name removes the file.
        if self.crowded.load(Ordering::Relaxed) {
            return;
        }
        // Without the gate we could only risk to remove what somebody has just opened.
        let Ok(_gate) = Gate::close(fd) else { return };
        if let Ok(table) = table(&self.region) {
            table.leave(fd, self.slot());
        }
        if matches!(participants::anyone_else(fd, Section::ALL), Ok(false)) {
            if let Some(private) = &self.file.private {
                shm::unlink_if_same(private, fd);
            }
            if !self.file.persistent {
                shm::unlink_if_same(&self.file.published, fd);
            }
        }
    }

    /// Before a fork: takes a seat for the child. Where no descriptor or slot is to be had, or /proc
    /// is missing and the object has lost its name, it will have to stay in this one.
    fn prepare(&self) {
        match self.next() {
            Ok((next, slot)) => {
                self.next_slot.store(slot.into(), Ordering::Relaxed);
                self.next_fd.store(next.into_raw_fd(), Ordering::Relaxed);
            }
            Err(_) => self.crowded.store(true, Ordering::Relaxed),
        }
    }

    /// A further seat of the same section: a file, and the slot that is locked through it.
    pub(super) fn next(&self) -> Result<(File, u16)> {
        let _streams = StreamsTaken::new();
        let published = Some(&self.file.published);
        let names = published.into_iter().chain(&self.file.private);
        let next = shm::reopen(self.fd(), names.map(String::as_str))?;
        let slot = table(&self.region)?.join(next.as_fd(), self.section)?;
        Ok((next, slot))
    }

    /// In the parent: the child has the new seat. If there is no child, the kernel frees it.
    fn stay(&self) {
        let next = self.next_fd.swap(NONE, Ordering::Relaxed);
        if next != NONE {
            close(next);
        }
    }

    /// In the child: exchanges the inherited seat for the new one. System calls only.
    fn change(&self) {
        let next = self.next_fd.swap(NONE, Ordering::Relaxed);
        if next == NONE {
            return;
        }
        self.slot
            .store(self.next_slot.load(Ordering::Relaxed), Ordering::Relaxed);
        self.known.store(ptr::null_mut(), Ordering::Relaxed);
        close(self.fd.swap(next, Ordering::Relaxed));
        // Only the parent can be in a seat with others: the new one is the child's alone.
        self.crowded.store(false, Ordering::Relaxed);
        if let Ok(table) = table(&self.region) {
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
        table(&self.region)?.is_attached(self.fd(), self.slot(), owner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut seats = seats();
        let before = seats.0.len();
        seats.0.retain(|&seat| !ptr::eq(seat, self));
        // Unless the process is exiting and `leave_all` was here before.
        if seats.0.len() < before {
            self.leave();
        }
        close(self.fd.load(Ordering::Relaxed));
    }
}

fn close(fd: RawFd) {
    // SAFETY: the handle owned the descriptor and gives it up.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// At exit: handles that were never dropped (a C program's, a global's) leave all the same.
pub(crate) extern "C" fn leave_all() {
    let mut seats = seats();
    seats.each().for_each(Handle::leave);
    seats.0.clear();
}

/// Holds the table's lock from before a fork to after it, in both processes.
struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Seats>>>);

// SAFETY: touched only between the handlers of one fork, by the thread that forks, while it
// holds the table's lock.
unsafe impl Sync for Held {}

static HELD: Held = Held(std::cell::UnsafeCell::new(None));

unsafe extern "C" fn before_fork() {
    let guard = seats();
    guard.each().for_each(Handle::prepare);
    // SAFETY: see `Held`: the lock is ours.
    unsafe { *HELD.0.get() = Some(guard) };
}

unsafe extern "C" fn after_fork_in_parent() {
    // SAFETY: see `Held`: the lock is ours until the guard is dropped here.
    if let Some(seats) = unsafe { (*HELD.0.get()).take() } {
        seats.each().for_each(Handle::stay);
    }
}

unsafe extern "C" fn after_fork_in_child() {
    // SAFETY: see `Held`: the child's only thread holds the lock its parent took.
    if let Some(seats) = unsafe { (*HELD.0.get()).take() } {
        seats.each().for_each(Handle::change);
        sync::forked();
    }
}
