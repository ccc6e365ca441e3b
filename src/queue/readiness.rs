//! Whether there is something to take, and a descriptor that says so.
//!
//! A handle has no descriptor until it is asked for one. From then on whoever takes through
//! that handle, or tries to, makes the descriptor unreadable again if nothing is left; nothing
//! else in the queue knows of it (see `sync::watch`).
//!
//! A forked child inherits its parent's descriptor. To clear it would clear the parent's, so
//! the child leaves it alone and makes one of its own when it is asked for one.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::Timeout;
use crate::error::{Error, Result};
use crate::sync::{Found, Waits, Watch};
use crate::sys::clock::Deadline;

use super::ops::Queue;
use super::ring::Ring;
use super::wait::has_ended;

/// How often what nobody can take is moved out of the way before the caller has to take, and find
/// out more.
const LOOKS: u32 = 100;

/// The descriptor of a handle, if there is one.
pub(super) struct Readiness(AtomicPtr<Made>);

struct Made {
    watch: Box<Watch>,
    /// What this process inherited. Kept, since another thread may be looking at it.
    before: *mut Made,
}

impl Readiness {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn get(&self) -> Option<&Watch> {
        // SYNC: find(watch), pairs with publish(watch)
        let made = self.0.load(Ordering::Acquire);
        // SAFETY: what is published stays until the handle goes.
        let watch = &unsafe { made.as_ref() }?.watch;
        watch.is_ours().then_some(watch)
    }

    /// Makes the descriptor readable, if there is one, so that threads that wait for it look.
    pub(super) fn signal(&self) {
        if let Some(watch) = self.get() {
            watch.signal();
        }
    }

    fn get_or_make(&self, make: impl FnOnce() -> Result<Box<Watch>>) -> Result<&Watch> {
        let before = self.0.load(Ordering::Acquire);
        if let Some(watch) = self.get() {
            return Ok(watch);
        }
        let made = Box::into_raw(Box::new(Made {
            watch: make()?,
            before,
        }));
        // SYNC: publish(watch)
        let published = self
            .0
            .compare_exchange(before, made, Ordering::AcqRel, Ordering::Acquire);
        let ours = match published {
            Ok(_) => made,
            Err(winner) => {
                // SAFETY: it was not published.
                drop(unsafe { Box::from_raw(made) });
                winner
            }
        };
        // SAFETY: what is published stays until the handle goes.
        Ok(unsafe { &(*ours).watch })
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        let mut made = *self.0.get_mut();
        while !made.is_null() {
            // SAFETY: each was made by `Box::into_raw` and is in the chain once.
            made = unsafe { Box::from_raw(made) }.before;
        }
    }
}

// SAFETY: the pointers are to what belongs to the handle, and is `Send` and `Sync`.
unsafe impl Send for Readiness {}
// SAFETY: as for `Send`.
unsafe impl Sync for Readiness {}

impl Queue {
    /// A descriptor for an event loop: it polls readable while there is something to take, and
    /// once the queue is closed or poisoned. For `poll`, `epoll` and what is built on them.
    ///
    /// It is readable some 30 us after a message was put, and until a call on *this handle*
    /// takes the last one or finds none. It may be readable in vain, since others take from
    /// the queue as well, and is so about ten times a second while messages are leased or
    /// being written, for somebody to look after those of the dead: so take with a timeout of
    /// zero. `Empty` also means that it is unreadable again.
    ///
    /// Does not wait. The first call of a process starts a thread that sleeps on behalf of all
    /// its descriptors, and blocks all signals. A descriptor belongs to the process that asked
    /// for it: a forked child must ask again, and gets its own.
    ///
    /// It is readable, too, once the [waits through this handle are over](Self::end_waits).
    ///
    /// Owned by the handle, with which it closes. Do not read from it, write to it or close it.
    ///
    /// # Errors
    /// `Os`: no descriptor or thread is to be had.
    ///
    /// ```
    /// use shoal::Queue;
    /// use std::os::fd::AsRawFd;
    ///
    /// let queue = Queue::anonymous()?;
    /// let fd = queue.fd()?.as_raw_fd(); // to be added to an epoll, say
    /// # assert!(fd > 2);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.fd_or(|| false)
    }

    /// [`fd`](Self::fd), which is readable as well when there is nothing to take and `over()`.
    /// Asked by another thread, whenever that looks: ten times a second at least.
    pub(crate) fn fd_or(
        &self,
        over: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<BorrowedFd<'_>> {
        let ring = self.ring;
        let find = move || match find(&ring) {
            Found::Nothing if over() => Found::Something,
            found => found,
        };
        let watch = self
            .readiness
            .get_or_make(|| Watch::new(&ring.header.not_empty, find))?;
        Ok(watch.as_fd())
    }

    /// Waits until there is something to take, or nothing ever will be.
    ///
    /// # Errors
    /// `Empty` (timeout zero), `Timeout`, `Interrupted`, `Detached`.
    pub(crate) fn wait_ready(&self, timeout: Timeout) -> Result<()> {
        let deadline = Deadline::after(timeout);
        while !self.is_ready() {
            if deadline == Deadline::Now {
                return Err(self.got_nothing(Error::Empty));
            }
            if deadline.passed() {
                return Err(self.got_nothing(Error::Timeout));
            }
            let waited = self.wait_for_message(deadline);
            waited.map_err(|err| self.got_nothing(err))?;
        }
        // The wake was for somebody who takes.
        self.ring.header.not_empty.notify_one();
        Ok(())
    }

    /// Counts the threads that wait to take.
    pub(crate) fn waits(&self) -> &Waits {
        &self.consumers.patience.waits
    }

    /// Whether there plainly is something to take, or nothing ever will be.
    pub(crate) fn has_arrived(&self) -> bool {
        find(&self.ring) == Found::Something
    }

    /// [`has_arrived`](Self::has_arrived), once what nobody can take is out of the way, and
    /// what the dead had leased is back.
    pub(crate) fn is_ready(&self) -> bool {
        // Each look gets something out of the way, unless somebody wrote over the queue.
        for _ in 0..LOOKS {
            if self.ring.starts_done() {
                // Whoever holds the lock instead is taking, or knows that something is wrong.
                if self.skip_padding(Deadline::Now).is_err() {
                    return true;
                }
                continue;
            }
            match find(&self.ring) {
                Found::Something => return true,
                Found::Nothing => return false,
                Found::Later if !self.is_due() => return self.is_over(),
                Found::Later => {
                    let looked = self.lock(&self.consumers, Deadline::Now);
                    if looked.and_then(|guard| self.look_after(guard)).is_err() {
                        return true;
                    }
                }
            }
        }
        true
    }

    /// The caller has looked, and there was nothing to take. If there is a descriptor, it becomes
    /// unreadable, and readable again if something has come since: an edge, for those who
    /// wait for edges.
    #[cold]
    pub(crate) fn found_nothing(&self) {
        if let Some(watch) = self.readiness.get() {
            // Who waits for a descriptor has nothing to do, as if it slept here.
            self.producers.invite();
            watch.found_nothing();
            if self.waits().is_ended() {
                // Other threads may wait for it, too, and have not looked yet.
                watch.signal();
            }
        }
    }

    /// The caller has taken what it knew of. That may have been the last.
    #[inline]
    pub(super) fn took_all(&self) {
        if !self.readiness.0.load(Ordering::Relaxed).is_null() && !self.has_arrived() {
            self.found_nothing();
        }
    }

    /// The caller got nothing, and `err` instead.
    #[cold]
    pub(super) fn got_nothing(&self, err: Error) -> Error {
        if matches!(err, Error::Empty | Error::Timeout) {
            self.found_nothing();
        }
        err
    }
}

/// Looks without a lock: others may take what is there meanwhile, but then they tell
/// `not_empty`.
fn find(ring: &Ring) -> Found {
    if ring.is_occupied() {
        Found::Something
    } else if ring.may_come_back(0) {
        Found::Later
    } else if has_ended(ring) {
        Found::Something
    } else {
        Found::Nothing
    }
}
