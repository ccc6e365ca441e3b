//! Writing a message in place, and waiting for one that is being written.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::Timeout;
use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::{Slept, look};
use crate::sys::clock::Deadline;

use super::ends::Producer;
use super::ops::Queue;
use super::wait::{FIRST_SLICE_NS, LAST_SLICE_NS, SPINS};

/// Room in a queue for one message, to be written in place and then committed.
///
/// It is a `[u8]` of as many bytes as were asked for. What they hold at first is what
/// earlier messages left there. Dropping it discards it. Its place among the messages is
/// where it was reserved: consumers that have taken everything before it wait for it, or until
/// its process is dead, which they learn from the kernel. So fill it without delay, and do
/// not wait for room in the same queue meanwhile: nobody can make any by taking what stands
/// behind it.
///
/// After a `fork` it remains the parent's: the child's copy can do nothing but be dropped.
///
/// ```
/// use shoal::{Queue, Timeout};
///
/// let queue = Queue::anonymous()?;
/// let mut room = queue.reserve(1 << 20, Timeout::Infinite)?;
/// room[..5].copy_from_slice(b"hello");
/// room.commit_first(5)?;
/// assert_eq!(queue.get_vec(Timeout::Infinite)?, b"hello");
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Reservation<'a> {
    queue: &'a Queue,
    place: Place,
}

/// Where a reservation is, without the queue.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) span: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) owner: Owner,
}

// SAFETY: the span is this value's alone until it is committed or discarded, and both may be
// done by any thread.
unsafe impl Send for Reservation<'_> {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Reservation<'_> {}

impl std::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("queue", &self.queue.name())
            .field("len", &self.place.len)
            .finish()
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `reserve` found room for this many bytes, mapped for as long as the queue.
        // Nobody else touches them before the commit, and growth waits for it.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_ref() }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { NonNull::slice_from_raw_parts(self.place.span, self.place.len).as_mut() }
    }
}

impl Reservation<'_> {
    /// Makes all of it a message, there for everybody when this returns.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`. It is discarded then.
    pub fn commit(self) -> Result<()> {
        let len = self.place.len;
        self.commit_first(len)
    }

    /// Makes its first `used` bytes a message and gives the rest back.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit); `TooLarge` for more than was reserved.
    pub fn commit_first(self, used: usize) -> Result<()> {
        self.queue.commit(self.place.at, self.place.owner, used)?;
        let _committed = ManuallyDrop::new(self);
        Ok(())
    }

    /// Gives it back. Nobody will see that it was there.
    pub fn discard(self) {}
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // It fails if somebody wrote over the queue; there is nothing to give back then.
        let _ = self.queue.discard(self.place.at, self.place.owner);
    }
}

impl Queue {
    /// Reserves room for a message of `len` bytes at the end, to be written in place, waiting
    /// for room until `timeout`. Several processes may write theirs at the same time.
    ///
    /// The ring does not grow while anything in it is reserved: it would move. A put that
    /// needs it to waits for that.
    ///
    /// # Errors
    /// As for [`put`](Self::put); `Unsupported` for a queue with a
    /// [bound on messages](crate::Options::max_items).
    pub fn reserve(&self, len: usize, timeout: Timeout) -> Result<Reservation<'_>> {
        let place = self.reserve_place(len, timeout)?;
        Ok(Reservation { queue: self, place })
    }

    pub(crate) fn reserve_place(&self, len: usize, timeout: Timeout) -> Result<Place> {
        if self.ring.max_items() != u64::MAX {
            return Err(Error::Unsupported {
                what: "a reservation in a queue that is bounded by messages",
            });
        }
        let need = self.room_for(len)?;
        let deadline = Deadline::after(timeout);
        self.producers.make_way(deadline)?;
        loop {
            let guard = self.enter_producers(deadline)?;
            let owner = self.segment.owner()?;
            // SAFETY: the producers' lock is held until after the last use.
            let mut end = unsafe { Producer::new(self.ring) }?;
            if let Some(at) = end.reserve(len, owner)? {
                let span = self.ring.span(at)?;
                drop(guard);
                return Ok(Place {
                    at,
                    span,
                    len,
                    owner,
                });
            }
            drop(guard);
            self.make_room(need, deadline)?;
        }
    }

    pub(crate) fn commit(&self, at: u64, owner: Owner, used: usize) -> Result<()> {
        self.check_owner(owner)?;
        let guard = self.lock(&self.producers, Deadline::Never)?;
        // SAFETY: the producers' lock is held until after the last use.
        let mut end = unsafe { Producer::new(self.ring) }?;
        end.commit(at, used, owner)?;
        drop(guard);
        self.producers.count(end.done());
        self.told_consumers();
        self.ring.header.not_full.notify_one();
        Ok(())
    }

    /// No error if it was committed or discarded before.
    pub(crate) fn discard(&self, at: u64, owner: Owner) -> Result<()> {
        self.check_owner(owner)?;
        self.ring.discard(at, owner)?;
        self.told_consumers();
        self.ring.header.not_full.notify_one();
        Ok(())
    }

    fn check_owner(&self, owner: Owner) -> Result<()> {
        if self.segment.owner()? == owner {
            return Ok(());
        }
        let why = "it belongs to the process that reserved it, and not to a fork of that";
        Err(Error::invalid("reservation", why))
    }

    /// Waits until the reservation at `at`, which everything else stands behind, is committed
    /// or discarded. Discards it if its owner is dead.
    #[cold]
    pub(super) fn wait_for_commit(&self, at: u64, deadline: Deadline) -> Result<()> {
        let resolved = || self.ring.is_resolved(at) || self.is_poisoned();
        let may_go_on = deadline != Deadline::Now && look(SPINS, resolved);
        if may_go_on || self.discard_dead(at, deadline)? {
            return Ok(());
        }
        if deadline == Deadline::Now {
            return Err(Error::Empty);
        }
        let not_empty = &self.ring.header.not_empty;
        let mut slice = FIRST_SLICE_NS;
        loop {
            match not_empty.sleep(slice, deadline, resolved)? {
                Slept::Woken | Slept::Ready => return Ok(()),
                Slept::TimedOut if self.discard_dead(at, deadline)? => return Ok(()),
                Slept::TimedOut => slice = (slice * 2).min(LAST_SLICE_NS),
            }
        }
    }

    /// True if there is no reservation of a living owner at `at`.
    fn discard_dead(&self, at: u64, deadline: Deadline) -> Result<bool> {
        let Some(owner) = self.ring.reserved_by(at) else {
            return Ok(true);
        };
        if self.segment.is_attached(owner)? {
            return Ok(false);
        }
        // With the lock comes what the owner had begun to commit, if it had.
        let _guard = self.lock(&self.producers, deadline)?;
        self.ring.discard(at, owner)?;
        Ok(true)
    }
}
