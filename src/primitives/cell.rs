//! A lock as it lies in shared memory, in a segment of its own or inside another object.
//!
//! ```text
//! offset  size  field      written by    invariant
//!      0     8  owner      everybody     says who has the lock; 0 while it is free
//!      8     4  thread     the owner     which of its threads; 0 while that is not known
//!     12     4  depth      the owner     how often it has a recursive lock
//!     16     4  recursive  creator       constant; 1 if its owner may take it again
//!     20    12  freed      everybody     those who wait until it is free sleep here
//!
//! owner      bit 63   taken from the dead, and `thread` and `depth` are still theirs
//!            32..48   the owner's slot + 1
//!             0..32   which sitter of that slot
//! ```
//! Not a pthread mutex, which only the thread may unlock that locked it: this one is taken by
//! one compare-and-swap of `owner` and freed by one swap, by whoever. What it has in common
//! with a robust mutex is that the next one gets the lock of an owner that died, and the news.
//!
//! # What a death costs
//! `owner` alone says whose the lock is; the rest is worth something only to that owner.
//! *Killed with the lock:* a waiter asks the kernel before each sleep, and takes over by
//! exchanging that very owner for itself, so that one of them gets it. *Killed while taking
//! over:* the same again. *Killed between freeing the lock and waking a waiter:* the waiters'
//! slices, a twentieth of a second at most.
//!
//! # Limits
//! An owner is a handle on the segment, in one process: a *thread* that ends with the lock
//! leaves it taken for as long as its process has the handle.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Owner, Shared};
use crate::segment::Segment;
use crate::sync::{EventCell, FIRST_SLICE_NS, Slept, crash::crash_point, look, publish_fence};
use crate::sys::clock::Deadline;

/// The lock. Its operations get the segment it lies in, which knows who the caller is and
/// who lives.
#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct LockCell {
    owner: AtomicU64,
    thread: AtomicU32,
    depth: AtomicU32,
    recursive: AtomicU32,
    freed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(LockCell, thread) == 8);
const _: () = assert!(std::mem::offset_of!(LockCell, depth) == 12);
const _: () = assert!(std::mem::offset_of!(LockCell, recursive) == 16);
const _: () = assert!(std::mem::offset_of!(LockCell, freed) == 20);
const _: () = assert!(size_of::<LockCell>() == 64);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for LockCell {}

/// How a lock was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// From somebody who released it.
    Clean,
    /// From a process that died with it. The caller holds the lock, and what it guards may be
    /// half changed.
    OwnerDied,
}

const TAKING: u64 = 1 << 63;
const NOBODY: u64 = 0;

/// Looks at a taken lock before the core is given away: see `RobustMutex`.
const SPINS: u32 = 40;
/// The longest sleep: how long the death of an owner can go unnoticed.
pub(super) const LAST_SLICE_NS: u64 = 50_000_000;

/// An owner as one word, which is never 0.
pub(super) fn pack(owner: Owner) -> u64 {
    (u64::from(owner.slot) + 1) << 32 | u64::from(owner.sitting)
}

/// The owner a word names. One that cannot be sits in a slot that does not exist, and is dead.
pub(super) fn unpack(word: u64) -> Owner {
    let slot = ((word & !TAKING) >> 32).wrapping_sub(1);
    Owner {
        slot: u16::try_from(slot).unwrap_or(u16::MAX),
        sitting: word as u32,
    }
}

/// The calling thread's number in its process, never 0. A forked child's only thread keeps
/// its number, but not its owner.
#[inline]
pub(super) fn thread_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed).max(1));
        }
        number.get()
    })
}

impl LockCell {
    /// Makes a lock of zeros. Only before the segment is published.
    pub(crate) fn init(&self, recursive: bool) {
        self.recursive
            .store(u32::from(recursive), Ordering::Relaxed);
    }

    /// Whether its owner may take it again.
    #[inline]
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive.load(Ordering::Relaxed) != 0
    }

    /// The lock, if it is free or the caller's own; never a system call.
    #[inline]
    pub(crate) fn try_acquire(&self, segment: &Segment) -> Result<Option<Taken>> {
        self.attempt(pack(segment.owner()?))
    }

    /// As [`try_acquire`](Self::try_acquire), but looks for as long as owners keep a lock that
    /// are about to leave: about a microsecond.
    #[inline]
    pub(crate) fn spin_acquire(&self, segment: &Segment) -> Result<Option<Taken>> {
        let me = pack(segment.owner()?);
        if let Some(taken) = self.attempt(me)? {
            return Ok(Some(taken));
        }
        for _ in 0..SPINS {
            std::hint::spin_loop();
            if self.owner.load(Ordering::Relaxed) == NOBODY {
                return self.attempt(me);
            }
        }
        Ok(None)
    }

    /// Waits for the lock until `deadline`, or until its owner is dead.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `TooLarge` if a recursive lock was
    /// taken 2^32 times.
    #[inline]
    pub(crate) fn acquire(&self, segment: &Segment, deadline: Deadline) -> Result<Taken> {
        let me = pack(segment.owner()?);
        match self.attempt(me)? {
            Some(taken) => Ok(taken),
            None => self.wait(segment, me, deadline),
        }
    }

    #[inline]
    fn attempt(&self, me: u64) -> Result<Option<Taken>> {
        // SYNC: pairs with the release in `free`.
        let free = self
            .owner
            .compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed);
        match free {
            Ok(_) => {
                crash_point!();
                self.sign(1);
                Ok(Some(Taken::Clean))
            }
            Err(owner) if self.is_recursive() && self.is_thread_of(owner, me) => self.enter_again(),
            Err(_) => Ok(None),
        }
    }

    fn enter_again(&self) -> Result<Option<Taken>> {
        let depth = self.depth.load(Ordering::Relaxed);
        let deeper = depth.checked_add(1).ok_or(Error::TooLarge {
            what: "depth of a recursive lock",
            size: u64::from(depth) + 1,
            limit: u32::MAX.into(),
        })?;
        self.depth.store(deeper, Ordering::Relaxed);
        Ok(Some(Taken::Clean))
    }

    /// Says which thread has the lock that is ours already, and how often.
    #[inline]
    fn sign(&self, depth: u32) {
        self.thread.store(thread_number(), Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Whether `owner`, as just read, is this very thread. Its own number it reads only if it
    /// wrote it: whoever frees the lock clears that first, and who takes over from the dead
    /// marks the lock until it has written its own.
    #[inline]
    fn is_thread_of(&self, owner: u64, me: u64) -> bool {
        owner == me && self.thread.load(Ordering::Relaxed) == thread_number()
    }

    #[cold]
    fn wait(&self, segment: &Segment, me: u64, deadline: Deadline) -> Result<Taken> {
        let is_free = || self.owner.load(Ordering::Relaxed) == NOBODY;
        if deadline != Deadline::Now {
            look(SPINS, is_free);
        }
        let mut slice_ns = FIRST_SLICE_NS;
        loop {
            if let Some(taken) = self.attempt(me)? {
                return Ok(taken);
            }
            let owner = self.owner.load(Ordering::Relaxed);
            if owner == NOBODY {
                continue;
            }
            if !segment.is_attached(unpack(owner))? {
                if self.take_over(owner, me) {
                    return Ok(Taken::OwnerDied);
                }
                continue;
            }
            // Without leaving word that somebody sleeps.
            if deadline == Deadline::Now {
                return Err(Error::Timeout);
            }
            if self.freed.sleep(slice_ns, deadline, is_free)? == Slept::TimedOut {
                slice_ns = (slice_ns * 2).min(LAST_SLICE_NS);
            }
        }
    }

    /// Takes the lock from `dead`; one of those who try succeeds.
    fn take_over(&self, dead: u64, me: u64) -> bool {
        let marked = me | TAKING;
        let taken = self
            .owner
            .compare_exchange(dead, marked, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            return false;
        }
        crash_point!();
        self.sign(1);
        crash_point!();
        // Fails if somebody released a lock that was not theirs to release.
        self.owner
            .compare_exchange(marked, me, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Frees the lock, or goes up one level of a recursive one.
    ///
    /// # Errors
    /// `Invalid` if nobody has it, or if it is recursive and another thread's.
    #[inline]
    pub(crate) fn release(&self, segment: &Segment) -> Result<()> {
        if self.is_recursive() {
            let depth = self.my_depth(segment)?;
            if depth > 1 {
                self.depth.store(depth - 1, Ordering::Relaxed);
                return Ok(());
            }
        } else if self.owner.load(Ordering::Relaxed) == NOBODY {
            return Err(not_held());
        }
        self.free()
    }

    /// Frees the lock wholly, however often its owner has it, and says how often that was.
    ///
    /// # Errors
    /// As for [`release`](Self::release).
    pub(crate) fn release_all(&self, segment: &Segment) -> Result<u32> {
        if !self.is_recursive() {
            return self.release(segment).map(|()| 1);
        }
        let depth = self.my_depth(segment)?;
        self.free().map(|()| depth.max(1))
    }

    /// After an [`acquire`](Self::acquire): has the lock as often as `release_all` said.
    pub(crate) fn deepen(&self, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    fn my_depth(&self, segment: &Segment) -> Result<u32> {
        if self.is_mine(segment)? {
            Ok(self.depth.load(Ordering::Relaxed))
        } else if self.is_held() {
            let why = "another thread holds it, and only that may release it";
            Err(Error::invalid("recursive lock", why))
        } else {
            Err(not_held())
        }
    }

    #[inline]
    fn free(&self) -> Result<()> {
        self.thread.store(0, Ordering::Relaxed);
        crash_point!();
        // SYNC: pairs with the exchange in `attempt`; a full barrier for `notify_one`.
        let owner = self.owner.swap(NOBODY, Ordering::SeqCst);
        crash_point!();
        publish_fence();
        self.freed.notify_one();
        if owner == NOBODY {
            return Err(not_held());
        }
        Ok(())
    }

    /// Whether the calling thread has the lock.
    pub(crate) fn is_mine(&self, segment: &Segment) -> Result<bool> {
        let (owner, me) = (self.owner.load(Ordering::Relaxed), segment.owner()?);
        Ok(self.is_thread_of(owner, pack(me)))
    }

    /// Whether anybody has it, alive or dead.
    pub(crate) fn is_held(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != NOBODY
    }

    /// How often the calling thread has it.
    pub(crate) fn depth(&self, segment: &Segment) -> Result<u32> {
        Ok(match self.is_mine(segment)? {
            true => self.depth.load(Ordering::Relaxed),
            false => 0,
        })
    }
}

#[cold]
fn not_held() -> Error {
    Error::invalid("lock", "it is not held")
}
