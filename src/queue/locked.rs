//! The two locks of a queue, as types.
//!
//! One lock guards what producers change, another what consumers change, and both together the ring's
//! size. A [`SideGuard`] is a lock that is held. A [`Side`] is borrowed from it, so a function that takes
//! one is called only with the lock held. What needs a lock is a method of its side, or of [`BothSides`].
//! Only a side gives out the [`Producer`] or the [`Consumer`] of the ring.
//!
//! A dead owner's half-finished work is repaired before a guard is given out (see `repair`).

use std::marker::PhantomData;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::sync::{Acquired, Guard};
use crate::sys::clock::Deadline;

use super::admission::Admission;
use super::core::Queue;
use super::cursors::{Consumer, Producer};
use super::header::{CLOSED, POISONED, RELAYED};

/// Which lock it is.
pub(super) trait QueueLock: Sized {
    /// The admission to this lock.
    fn admission(queue: &Queue) -> &Admission;

    /// Completes or takes back what an owner that died with the lock left half done.
    fn repair(side: Side<'_, Self>) -> Result<()>;
}

/// The lock under which messages are put.
pub(super) enum ProducersLock {}
/// The lock under which messages are taken.
pub(super) enum ConsumersLock {}

/// One of the locks, held until dropped.
pub(super) struct SideGuard<'a, L> {
    queue: &'a Queue,
    guard: Guard<'a>,
    lock: PhantomData<L>,
}

/// One side of a queue, whose lock is held for as long as `'a`.
pub(super) struct Side<'a, L> {
    queue: &'a Queue,
    // With the guard's lifetime, and for its thread only.
    held: PhantomData<(&'a Guard<'a>, L)>,
}

pub(super) type PutGuard<'a> = SideGuard<'a, ProducersLock>;
pub(super) type TakeGuard<'a> = SideGuard<'a, ConsumersLock>;
pub(super) type PutSide<'a> = Side<'a, ProducersLock>;
pub(super) type TakeSide<'a> = Side<'a, ConsumersLock>;

impl<L> Clone for Side<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Side<'_, L> {}

impl<L> Deref for Side<'_, L> {
    type Target = Queue;

    #[inline(always)]
    fn deref(&self) -> &Queue {
        self.queue
    }
}

impl<'a, L: QueueLock> SideGuard<'a, L> {
    #[inline(always)]
    fn new(queue: &'a Queue, guard: Guard<'a>) -> Self {
        Self {
            queue,
            guard,
            lock: PhantomData,
        }
    }

    #[inline(always)]
    pub(super) fn side(&self) -> Side<'_, L> {
        Side {
            queue: self.queue,
            held: PhantomData,
        }
    }

    /// An error if the queue is poisoned.
    #[inline(always)]
    pub(super) fn check_usable(&self) -> Result<()> {
        match self.queue.ring.header.flags() & POISONED {
            0 => Ok(()),
            flags => Err(ended(flags)),
        }
    }
}

impl<'a> PutSide<'a> {
    /// The putting end of the ring.
    #[inline(always)]
    pub(super) fn producer(self) -> Result<Producer<'a>> {
        // SAFETY: the producers' lock is held for as long as `'a`, and so for as long as the end is
        // used.
        unsafe { Producer::new(&self.queue.ring) }
    }

    /// Whether the caller's message goes into the queue itself: false if it becomes a request. Not for
    /// messages that the relay delivers.
    ///
    /// # Errors
    /// `Closed`, `Poisoned`.
    #[inline(always)]
    pub(super) fn takes_puts(self) -> Result<bool> {
        match self.queue.ring.header.flags() & (CLOSED | POISONED | RELAYED) {
            0 => Ok(true),
            flags => takes_puts_slow(flags),
        }
    }

    /// An error if nothing may be put any more, not even by the relay.
    pub(super) fn check_open(self) -> Result<()> {
        match self.queue.ring.header.flags() & (CLOSED | POISONED) {
            0 => Ok(()),
            flags => Err(ended(flags)),
        }
    }
}

impl<'a> TakeSide<'a> {
    /// The queue, for as long as the lock is held.
    pub(super) fn queue(self) -> &'a Queue {
        self.queue
    }

    /// The taking end of the ring.
    #[inline(always)]
    pub(super) fn consumer(self) -> Result<Consumer<'a>> {
        // SAFETY: the consumers' lock is held for as long as `'a`, and so for as long as the end is
        // used.
        unsafe { Consumer::new(&self.queue.ring) }
    }
}

/// Both locks, held until dropped. The order of locking is producers, consumers.
pub(super) struct BothSides<'a> {
    producers: PutGuard<'a>,
    _consumers: TakeGuard<'a>,
}

impl Deref for BothSides<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        self.producers.queue
    }
}

impl BothSides<'_> {
    /// Doubles the ring until it has `wanted` bytes, which have memory already.
    pub(super) fn grow_ring(&self, wanted: u64) -> Result<()> {
        // SAFETY: both locks are held.
        unsafe { self.ring.grow(wanted) }
    }

    /// Makes an empty ring as small as it was at first, and returns the size that it had.
    pub(super) fn shrink_ring(&self) -> Result<Option<u64>> {
        // SAFETY: both locks are held.
        unsafe { self.ring.shrink() }
    }
}

impl Queue {
    /// Takes a lock if it is free and this handle's quantum is not used up. Does not check whether the queue
    /// was closed or poisoned.
    #[inline(always)]
    pub(super) fn enter_now<L: QueueLock>(&self) -> Option<SideGuard<'_, L>> {
        let guard = L::admission(self).enter_now()?;
        Some(SideGuard::new(self, guard))
    }

    /// Takes a lock, once this process is admitted to it. Does not check whether the queue was closed or
    /// poisoned.
    #[inline(always)]
    pub(super) fn enter<L: QueueLock>(&self, deadline: Deadline) -> Result<SideGuard<'_, L>> {
        let acquired = L::admission(self).enter(deadline)?;
        Ok(self.repaired(acquired))
    }

    /// Takes a lock without regard to admission.
    ///
    /// # Errors
    /// `Poisoned`; those of the lock.
    pub(super) fn lock<L: QueueLock>(&self, deadline: Deadline) -> Result<SideGuard<'_, L>> {
        let acquired = L::admission(self).lock(deadline)?;
        let guard = self.repaired(acquired);
        guard.check_usable().map(|()| guard)
    }

    /// Takes both locks.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    pub(super) fn lock_both(&self, deadline: Deadline) -> Result<BothSides<'_>> {
        Ok(BothSides {
            producers: self.lock(deadline)?,
            _consumers: self.lock(deadline)?,
        })
    }

    /// Takes both locks, unless a process holds one for longer than an operation takes: for optional work,
    /// which must not wait for a stopped process.
    pub(super) fn spin_both(&self) -> Option<BothSides<'_>> {
        Some(BothSides {
            producers: self.spin()?,
            _consumers: self.spin()?,
        })
    }

    fn spin<L: QueueLock>(&self) -> Option<SideGuard<'_, L>> {
        let guard = L::admission(self).spin()?;
        let guard = SideGuard::new(self, guard);
        guard.check_usable().ok().map(|()| guard)
    }

    #[inline(always)]
    fn repaired<'a, L: QueueLock>(&'a self, acquired: Acquired<'a>) -> SideGuard<'a, L> {
        match acquired {
            Acquired::Held(guard) => SideGuard::new(self, guard),
            Acquired::Recovered(guard) => self.recover(guard),
        }
    }

    /// Repairs what a dead owner left, or poisons the queue. Then wakes every waiter: the dead owner may not
    /// have issued a wake-up.
    #[cold]
    fn recover<'a, L: QueueLock>(&'a self, guard: Guard<'a>) -> SideGuard<'a, L> {
        let held = SideGuard::<L>::new(self, guard);
        let repaired = self.ring.check().and_then(|()| L::repair(held.side()));
        if repaired.is_err() {
            self.poison();
        }
        held.guard.mark_consistent();
        self.wake_all_waiters();
        held
    }
}

/// [`takes_puts`](PutSide::takes_puts) of a queue with one of these flags.
#[cold]
fn takes_puts_slow(flags: u32) -> Result<bool> {
    match flags & (CLOSED | POISONED) {
        0 => Ok(false),
        flags => Err(ended(flags)),
    }
}

/// The error of a put into a queue with one of these flags, and of a take if it is poisoned.
#[cold]
pub(super) fn ended(flags: u32) -> Error {
    if flags & POISONED == 0 {
        return Error::Closed;
    }
    Error::Poisoned {
        what: "the queue's cursors made no sense".into(),
    }
}
