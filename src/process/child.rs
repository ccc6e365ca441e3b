//! The descriptor of a child, which is opened again if the program has closed it.
//!
//! Some programs close every descriptor that they find, as daemons do. Until a child is reaped, no other
//! process gets its number, so its parent can open it again by that number. Earlier descriptors stay in a list:
//! a thread may be waiting with one of them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::error::Result;
use crate::sys::fd::Kept;
use crate::sys::pidfd;

/// A child of this process, or of the one that it was forked from.
#[derive(Debug)]
pub(super) struct Child {
    pid: i32,
    first: Kept,
    /// The newest descriptor that was opened later, and behind it the older ones.
    later: AtomicPtr<Later>,
}

struct Later {
    fd: Kept,
    before: *mut Later,
}

impl Child {
    /// The unreaped child `pid`, which is open as `fd`.
    pub(super) fn new(pid: i32, fd: OwnedFd) -> Self {
        Self {
            pid,
            first: Kept::new(fd),
            later: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Its descriptor, unless the program has closed it.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: nodes stay in the list until this is dropped. SYNC: find(child)
        let later = unsafe { self.later.load(Ordering::Acquire).as_ref() };
        match later {
            Some(later) => later.fd.get(),
            None => self.first.get(),
        }
    }

    /// Its descriptor, opened again if the program has closed it; `None` if something else has reaped the
    /// child. Called only in the parent, by one thread at a time, while no thread reaps the child.
    ///
    /// # Errors
    /// `Os`: no descriptor is left.
    pub(super) fn open_again(&self) -> Result<Option<BorrowedFd<'_>>> {
        if let Some(fd) = self.fd() {
            return Ok(Some(fd));
        }
        let Some(fd) = pidfd::open(self.pid)? else {
            return Ok(None);
        };
        let later = Box::into_raw(Box::new(Later {
            fd: Kept::new(fd),
            before: self.later.load(Ordering::Acquire),
        }));
        // SYNC: publish(child), pairs with find(child)
        self.later.store(later, Ordering::Release);
        Ok(self.fd())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut later = *self.later.get_mut();
        while !later.is_null() {
            // SAFETY: each was made by `Box::into_raw` and is in the list once.
            later = unsafe { Box::from_raw(later) }.before;
        }
    }
}
