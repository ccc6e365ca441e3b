//! The lock of this library in shared memory: in queues, maps and lists, and as an object by itself.
//!
//! ```text
//! offset  size  field      written by    invariant
//!      0     8  owner      any process   the process that has the lock; 0 while it is free
//!      8     8  thread     the owner     which of its threads; 0 while not known
//!     16    40  handoff    see `handoff` the waiters
//!     56     4  depth      the owner     how often it has a recursive lock
//!     60     4  recursive  creator       constant; 1 if its owner may take it again
//!
//! owner      bit 63   recovered from a dead owner, and not yet declared consistent
//!            48..63   MARK, so that arbitrary bytes hardly ever look like an owner
//!            32..48   the owner's slot
//!             0..32   the slot's generation
//!            all ones: abandoned, see `robust`
//! ```
//! It is taken by one compare-and-swap of `owner` and freed by another, by any thread with the same owner word.
//! Like a robust pthread mutex it tells the next owner that the last one died. Unlike such a mutex,
//! it belongs to a handle and not to a thread, does not depend on the C library, and holds nothing that could
//! crash a process if it were overwritten: a word that names no living participant counts as a dead owner's.
//!
//! # What a kill leaves
//! `owner` alone says which process has the lock; the other words have a meaning only for that owner. *Killed
//! with the lock:* a waiter asks the kernel when it arrives and after each slice of its sleep. It takes over
//! by a compare-and-swap of the dead owner's word, so exactly one waiter succeeds. *Killed while taking
//! over:* the same again. *Killed between freeing the lock and waking a waiter:* the waiters try again after
//! their slices, a tenth of a second at most.
//!
//! # Limits
//! An owner is a handle on the segment, in one process: a *thread* that ends with the lock leaves it taken
//! for as long as its process has the handle. A later thread may get the same number, and then has a
//! recursive lock as if it had taken it. A *stopped* owner (SIGSTOP, a debugger) is alive: others wait for
//! it, until their deadline where they have one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Owner, Shared};
use crate::sys::clock::Deadline;
use crate::sys::thread::token;

use super::crash::crash_point;
use super::handoff::{Handoff, Try};
use super::policy::{Ask, WaitPolicy};

/// The processes that use a lock: the participants of its segment.
/// A panic in a caller cannot leave them inconsistent: they are read and written by atomic operations.
pub(crate) trait Peers: Send + Sync + std::panic::RefUnwindSafe {
    /// The caller's owner word, from [`pack`]. A forked child has another one, or is `NOBODY`.
    fn me(&self) -> &AtomicU64;

    /// The name of their object, for messages.
    fn object(&self) -> &str;

    /// Whether `owner` is still attached; asks the kernel.
    fn lives(&self, owner: Owner) -> Result<bool>;
}

/// The lock. Its operations take the participants, which give the caller's owner word and check which owners
/// are alive.
#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct LockCell {
    owner: AtomicU64,
    thread: AtomicU64,
    handoff: Handoff,
    depth: AtomicU32,
    recursive: AtomicU32,
}

const _: () = assert!(std::mem::offset_of!(LockCell, thread) == 8);
const _: () = assert!(std::mem::offset_of!(LockCell, handoff) == 16);
const _: () = assert!(std::mem::offset_of!(LockCell, depth) == 56);
const _: () = assert!(std::mem::offset_of!(LockCell, recursive) == 60);
const _: () = assert!(size_of::<LockCell>() == 64);

// SAFETY: `repr(C)`, atomics and events only.
unsafe impl Shared for LockCell {}

/// How a lock was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Acquisition {
    /// Its last owner released it.
    Clean,
    /// Its last owner died with it. The caller holds the lock, and what it guards may be
    /// half changed.
    OwnerDied,
}

const RECOVERING: u64 = 1 << 63;
const MARK: u64 = 0x5ba1;
pub(super) const FREE: u64 = 0;
/// The lock was poisoned: no process can have it any more.
pub(super) const POISONED: u64 = u64::MAX;
/// A living owner left work half done. This word names no participant, so it counts as a dead owner's.
const ABANDONED: u64 = 1;

/// The owner word of a process that is no participant of the segment: a child that was forked when it could not
/// become one. It takes no lock, and no lock ever has it.
pub(crate) const NOBODY: u64 = 2;

/// An owner as one word, which is never 0.
pub(crate) fn pack(owner: Owner) -> u64 {
    MARK << 48 | u64::from(owner.slot) << 32 | u64::from(owner.generation)
}

/// The owner that a word names. An invalid word names a slot that does not exist, so that its owner counts as
/// dead.
pub(crate) fn unpack(word: u64) -> Owner {
    let is_owner = (word & !RECOVERING) >> 48 == MARK;
    Owner {
        slot: if is_owner {
            (word >> 32) as u16
        } else {
            u16::MAX
        },
        generation: word as u32,
    }
}

impl LockCell {
    /// Makes a lock of zeros. Only before the segment is published.
    pub(crate) fn init(&self, recursive: bool) {
        self.recursive
            .store(u32::from(recursive), Ordering::Relaxed);
    }

    /// Which participant has it, living or dead, if any: for inspection from outside.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let word = self.owner.load(Ordering::Relaxed);
        let names_one = (word & !RECOVERING) >> 48 == MARK;
        names_one.then(|| unpack(word))
    }

    /// Whether a process may be asleep until it is free.
    pub(crate) fn has_sleepers(&self) -> bool {
        let events = self.handoff.events();
        events.iter().any(|it| it.has_sleepers())
    }

    /// Whether its owner may take it again while it has it.
    #[inline]
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive.load(Ordering::Relaxed) != 0
    }

    /// Takes the lock if it is free, or recursive and the caller's. Makes no system call.
    ///
    /// # Errors
    /// `TooMany` if a recursive lock was taken 2^32 times; `Exhausted` in a child without a slot.
    #[inline]
    pub(crate) fn try_acquire(&self, me: u64) -> Result<Option<Acquisition>> {
        self.acquire_now(me, false)
    }

    #[inline]
    fn acquire_now(&self, me: u64, woken: bool) -> Result<Option<Acquisition>> {
        match self.take(me, woken) {
            Ok(taken) => Ok(taken.then_some(Acquisition::Clean)),
            Err(owner) if self.is_recursive() && self.is_thread_of(owner, me) => self.enter_again(),
            Err(_) if me == NOBODY => Err(no_slot()),
            Err(_) => Ok(None),
        }
    }

    /// Takes the lock if it is free. False if it is reserved for another waiter; the error is the owner that
    /// has it, and `FREE` if the caller is `NOBODY`.
    #[inline(always)]
    pub(super) fn take(&self, me: u64, woken: bool) -> std::result::Result<bool, u64> {
        if me == NOBODY {
            return Err(FREE);
        }
        // SYNC: pairs with the exchange in `free`. A failure pairs with `mark_consistent`: a thread that reads
        // an owner which took over from a dead one also reads the new owner's thread, not the dead one's.
        self.owner
            .compare_exchange(FREE, me, Ordering::Acquire, Ordering::Acquire)?;
        crash_point!();
        if !self.handoff.admits(woken) {
            self.put_back();
            return Ok(false);
        }
        self.set_thread(1);
        Ok(true)
    }

    /// Frees the lock that was just taken: it is reserved for another waiter.
    #[cold]
    fn put_back(&self) {
        self.owner.swap(FREE, Ordering::SeqCst);
        crash_point!();
        self.handoff.wake_next();
    }

    /// As [`try_acquire`](Self::try_acquire), but spins for as long as the policy allows.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub(crate) fn spin_acquire(&self, me: u64, policy: &WaitPolicy) -> Result<Option<Acquisition>> {
        if let Some(taken) = self.try_acquire(me)? {
            return Ok(Some(taken));
        }
        match policy.spin(|| self.is_free()) {
            true => self.try_acquire(me),
            false => Ok(None),
        }
    }

    /// Waits for the lock until `deadline`, or until its owner is dead.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; `TooMany` if a recursive lock
    /// was taken 2^32 times; `Exhausted` in a child without a slot.
    #[inline]
    pub(crate) fn acquire(
        &self,
        peers: &dyn Peers,
        policy: &WaitPolicy,
        deadline: Deadline,
    ) -> Result<Acquisition> {
        let me = peers.me().load(Ordering::Relaxed);
        if let Some(taken) = self.try_acquire(me)? {
            return Ok(taken);
        }
        let is_free = || self.is_free();
        let attempt = |how: Try| match self.acquire_now(me, how.woken)? {
            None if how.ask == Ask::Kernel && self.recover(peers, me)? => {
                self.mark_consistent(me);
                Ok(Some(Acquisition::OwnerDied))
            }
            taken => Ok(taken),
        };
        self.handoff.wait(policy, deadline, is_free, attempt)
    }

    fn enter_again(&self) -> Result<Option<Acquisition>> {
        let depth = self.depth.load(Ordering::Relaxed);
        let deeper = depth.checked_add(1).ok_or(Error::TooMany {
            what: "depth of a recursive lock",
            count: u64::from(depth) + 1,
            limit: u32::MAX.into(),
        })?;
        self.depth.store(deeper, Ordering::Relaxed);
        Ok(Some(Acquisition::Clean))
    }

    /// Records which thread of this process has the lock, and how often.
    #[inline(always)]
    fn set_thread(&self, depth: u32) {
        self.thread.store(token(), Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
    }

    /// Whether `owner`, as just read, is the calling thread. A thread reads its own number only if it has
    /// written it: a process that frees the lock clears the number first, and one that takes over from a dead
    /// owner marks the lock until it has written its own. (The dead owner's number may equal the caller's: a
    /// forked child's thread has that of its parent.)
    #[inline]
    fn is_thread_of(&self, owner: u64, me: u64) -> bool {
        owner == me && self.thread.load(Ordering::Relaxed) == token()
    }

    /// Takes the lock over if its owner is dead; false if it is not. The lock is then marked until
    /// [`mark_consistent`](Self::mark_consistent).
    pub(super) fn recover(&self, peers: &dyn Peers, me: u64) -> Result<bool> {
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == FREE || owner == POISONED || peers.lives(unpack(owner))? {
            return Ok(false);
        }
        let marked = me | RECOVERING;
        let taken =
            self.owner
                .compare_exchange(owner, marked, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            return Ok(false);
        }
        crash_point!();
        self.set_thread(1);
        crash_point!();
        Ok(true)
    }

    /// Declares that what the recovered lock guards is consistent.
    pub(super) fn mark_consistent(&self, me: u64) {
        // Fails if another thread released the lock meanwhile. SYNC: publishes the thread.
        let _ =
            self.owner
                .compare_exchange(me | RECOVERING, me, Ordering::Release, Ordering::Relaxed);
    }

    /// Whether `me` recovered the lock and has not declared it consistent.
    pub(super) fn is_unrepaired(&self, me: u64) -> bool {
        self.owner.load(Ordering::Relaxed) == me | RECOVERING
    }

    /// Makes the lock unusable for all processes, and wakes its waiters.
    pub(super) fn poison(&self) {
        self.owner.store(POISONED, Ordering::SeqCst);
        self.handoff.wake_all();
    }

    /// Leaves the lock, if it is the caller's, in the state that the caller's death would: the next owner
    /// recovers it.
    pub(super) fn abandon(&self, me: u64) {
        self.about_to_free();
        let _ = self
            .owner
            .compare_exchange(me, ABANDONED, Ordering::SeqCst, Ordering::Relaxed);
        crash_point!();
    }

    /// Frees the lock, or one level of a recursive one.
    ///
    /// # Errors
    /// `Invalid` if it is not the caller's: for a recursive lock, the calling thread's.
    #[inline]
    pub(crate) fn release(&self, me: u64) -> Result<()> {
        if self.is_recursive() {
            let depth = self.my_depth(me)?;
            if depth > 1 {
                self.depth.store(depth - 1, Ordering::Relaxed);
                return Ok(());
            }
        } else if self.owner.load(Ordering::Relaxed) != me {
            return Err(self.not_mine());
        }
        self.free(me)
    }

    /// Frees a plain lock of any owner; otherwise as [`release`](Self::release).
    ///
    /// # Errors
    /// `Invalid` if it is free, or if it is recursive and another thread's.
    #[inline]
    pub(crate) fn release_any(&self, me: u64) -> Result<()> {
        if self.is_recursive() {
            return self.release(me);
        }
        let owner = self.owner.load(Ordering::Relaxed);
        match owner {
            FREE => Err(not_held()),
            // Fails if another process frees it meanwhile: that is one release too many.
            owner => self.free(owner),
        }
    }

    /// Frees all levels of the lock, and returns how many there were.
    ///
    /// # Errors
    /// As for [`release`](Self::release).
    pub(crate) fn release_all(&self, me: u64) -> Result<u32> {
        if !self.is_recursive() {
            return self.release(me).map(|()| 1);
        }
        let depth = self.my_depth(me)?;
        self.free(me).map(|()| depth.max(1))
    }

    /// Frees the lock, which `owner` has.
    #[inline(always)]
    fn free(&self, owner: u64) -> Result<()> {
        self.about_to_free();
        // SYNC: pairs with the exchange in `take`; a full barrier for `wake_next`.
        let freed = self
            .owner
            .compare_exchange(owner, FREE, Ordering::SeqCst, Ordering::Relaxed);
        crash_point!();
        if freed.is_err() {
            return Err(self.not_mine());
        }
        self.handoff.wake_next();
        Ok(())
    }

    /// After an [`acquire`](Self::acquire): restores as many levels as `release_all` freed.
    pub(crate) fn restore_depth(&self, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    fn my_depth(&self, me: u64) -> Result<u32> {
        if self.is_mine(me) {
            Ok(self.depth.load(Ordering::Relaxed))
        } else {
            Err(self.not_mine())
        }
    }

    /// The error of a release by a caller that does not have the lock.
    #[cold]
    fn not_mine(&self) -> Error {
        match (self.is_held(), self.is_recursive()) {
            (false, _) => not_held(),
            (true, false) => Error::invalid(
                "lock",
                "another handle or process holds it, and only that may release it",
            ),
            (true, true) => Error::invalid(
                "recursive lock",
                "another thread or another handle holds it, and only that may release it",
            ),
        }
    }

    /// Frees the lock if `me` has it and has declared it consistent; false otherwise.
    #[inline(always)]
    pub(super) fn free_own(&self, me: u64) -> bool {
        self.about_to_free();
        // SYNC: as in `free`.
        let freed = self
            .owner
            .compare_exchange(me, FREE, Ordering::SeqCst, Ordering::Relaxed);
        crash_point!();
        self.handoff.wake_next();
        freed.is_ok()
    }

    #[inline(always)]
    fn about_to_free(&self) {
        self.thread.store(0, Ordering::Relaxed);
        crash_point!();
    }

    /// Whether the calling thread has the lock and has declared it consistent.
    pub(crate) fn is_mine(&self, me: u64) -> bool {
        // SYNC: as a failure in `take`.
        self.is_thread_of(self.owner.load(Ordering::Acquire), me)
    }

    /// Whether it has an owner, alive or dead.
    pub(crate) fn is_held(&self) -> bool {
        !self.is_free()
    }

    /// Whether it has an owner that lives.
    pub(crate) fn owner_lives(&self, peers: &dyn Peers) -> Result<bool> {
        match self.owner.load(Ordering::Relaxed) {
            FREE => Ok(false),
            owner => peers.lives(unpack(owner)),
        }
    }

    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == FREE
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == POISONED
    }

    pub(crate) fn handoff(&self) -> &Handoff {
        &self.handoff
    }

    /// How often the calling thread has it.
    pub(crate) fn depth(&self, me: u64) -> u32 {
        match self.is_mine(me) {
            true => self.depth.load(Ordering::Relaxed),
            false => 0,
        }
    }
}

/// The error of a process that is [`NOBODY`].
#[cold]
pub(super) fn no_slot() -> Error {
    Error::Exhausted {
        what: "handles on one object (and none of a forked child, if no descriptor was free at the fork: open the \
               object again by name)",
        limit: 1024,
    }
}

#[cold]
fn not_held() -> Error {
    Error::invalid("lock", "it is not held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_does_not_own_what_another_thread_took_over_from_a_dead_child() {
        let lock = LockCell::default();
        let owner = |slot| {
            pack(Owner {
                slot,
                generation: 1,
            })
        };
        let (child, me) = (owner(1), owner(2));
        // A forked child's thread has its parent's number.
        assert_eq!(lock.take(child, false), Ok(true));
        assert!(lock.is_mine(child) && !lock.is_mine(me));
        // Another thread takes over, and has not yet written its own number.
        lock.owner.store(me | RECOVERING, Ordering::Relaxed);
        assert!(!lock.is_mine(me));
        assert_eq!(lock.try_acquire(me), Ok(None));
        lock.thread.store(token() + 1, Ordering::Relaxed);
        lock.mark_consistent(me);
        assert!(!lock.is_mine(me));
        lock.set_thread(1);
        assert!(lock.is_mine(me));
    }
}
