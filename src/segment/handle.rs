//! One process's seat in a segment: a descriptor, the slot it locks, and what becomes of both
//! when the process forks, leaves or exits.
//!
//! A forked child inherits the descriptor, and with it its parent's locks: while the child
//! lives, the kernel would call the dead parent alive. So in every fork the child opens the
//! file anew, takes a slot of its own and closes what it inherited, before `fork` returns
//! to its caller. At no moment in between is the object without a participant.
//!
//! All comings and goings of this process happen under one lock, which a fork takes too: no
//! child can inherit a descriptor that this table does not know of.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::fd::{FromRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::layout::Region;
use crate::sys::{self, shm};

use super::attach::table;
use super::participants::{self, Gate};

/// A seat. Boxed, since the table below points to it.
pub(super) struct Handle {
    // Changed only in a forked child, by its only thread.
    fd: AtomicI32,
    slot: AtomicU32,
    region: Region,
    /// The file's present name, and whether it stays when the last one leaves.
    file: Mutex<(String, bool)>,
}

struct Seats(Vec<*const Handle>);

// SAFETY: each pointer is to a boxed handle that removes itself under the lock of the table
// before it goes.
unsafe impl Send for Seats {}

static SEATS: Mutex<Seats> = Mutex::new(Seats(Vec::new()));

fn seats() -> MutexGuard<'static, Seats> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Takes the seat that `join` finds: an open file and the slot locked through it.
    pub(super) fn attach(
        region: Region,
        file: &str,
        join: impl FnOnce() -> Result<(File, u16)>,
    ) -> Result<Box<Self>> {
        sys::fork::at_fork(before_fork, after_fork_in_parent, after_fork_in_child)?;
        sys::exit::at_exit(leave_all)?;
        let mut seats = seats();
        let (open, slot) = join()?;
        let handle = Box::new(Self {
            fd: AtomicI32::new(open.into_raw_fd()),
            slot: AtomicU32::new(slot.into()),
            region,
            file: Mutex::new((file.to_owned(), false)),
        });
        seats.0.push(&*handle);
        Ok(handle)
    }

    /// The segment is now known as `file`.
    pub(super) fn published(&self, file: String, persistent: bool) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = (file, persistent);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open for as long as the handle lives.
        unsafe { BorrowedFd::borrow_raw(self.fd.load(Ordering::Relaxed)) }
    }

    fn slot(&self) -> u16 {
        self.slot.load(Ordering::Relaxed) as u16
    }

    /// Gives up the slot; the last one out takes an ephemeral segment along.
    fn leave(&self) {
        let (fd, file) = (
            self.fd(),
            self.file.lock().unwrap_or_else(PoisonError::into_inner),
        );
        // Without the gate we could only risk to remove what somebody has just opened.
        let Ok(_gate) = Gate::close(fd) else { return };
        if let Ok(table) = table(&self.region) {
            table.leave(fd, self.slot());
        }
        let (file, persistent) = &*file;
        if !persistent && matches!(participants::anyone_else(fd), Ok(false)) {
            shm::unlink_if_same(file, fd);
        }
    }

    /// In a forked child: exchanges the inherited seat for one of its own. System calls only.
    fn rejoin(&self) {
        let Ok(own) = shm::reopen(self.fd()) else {
            return;
        };
        // Where /proc is missing or all slots are taken, the child stays in its parent's
        // seat: the two then count as one, which is alive until both are gone.
        let Ok(slot) = table(&self.region).and_then(|table| table.join(own.as_fd())) else {
            return;
        };
        let inherited = self.fd.swap(own.into_raw_fd(), Ordering::Relaxed);
        self.slot.store(slot.into(), Ordering::Relaxed);
        close(inherited);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut seats = seats();
        let before = seats.0.len();
        seats.0.retain(|&seat| !std::ptr::eq(seat, self));
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
extern "C" fn leave_all() {
    let mut seats = seats();
    for seat in std::mem::take(&mut seats.0) {
        // SAFETY: a handle removes itself from the table, under its lock, before it goes.
        unsafe { &*seat }.leave();
    }
}

/// Holds the table's lock from before a fork to after it, in both processes.
struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Seats>>>);

// SAFETY: touched only between the handlers of one fork, by the thread that forks, while it
// holds the table's lock.
unsafe impl Sync for Held {}

static HELD: Held = Held(std::cell::UnsafeCell::new(None));

unsafe extern "C" fn before_fork() {
    let guard = seats();
    // SAFETY: see `Held`: the lock is ours.
    unsafe { *HELD.0.get() = Some(guard) };
}

unsafe extern "C" fn after_fork_in_parent() {
    // SAFETY: see `Held`: the lock is ours until the guard is dropped here.
    drop(unsafe { (*HELD.0.get()).take() });
}

unsafe extern "C" fn after_fork_in_child() {
    // SAFETY: see `Held`: the child's only thread holds the lock its parent took.
    let guard = unsafe { (*HELD.0.get()).take() };
    if let Some(seats) = &guard {
        for &seat in &seats.0 {
            // SAFETY: handles in the table are alive.
            unsafe { &*seat }.rejoin();
        }
    }
}
