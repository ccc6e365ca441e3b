//! A sequence lock: how a reader without the shard's lock detects a write that happened meanwhile.
//!
//! The number is odd while the owner of the shard's lock changes the shard, and even otherwise. A reader that
//! finds the same even number before and after its reads has a consistent snapshot. Otherwise its result is
//! meaningless, and it reads again. An owner that dies or panics leaves the number odd. Then all readers take
//! the lock, whose next owner repairs.
//!
//! After H. Boehm, *Can seqlocks get along with programming language memory models?* (MSPC 2012).

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::layout::Shared;

/// A sequence number in shared memory.
#[repr(transparent)]
pub(super) struct Seq(AtomicU64);

// SAFETY: an atomic.
unsafe impl Shared for Seq {}

/// Keeps the number odd until dropped. Has no effect inside another change.
pub(super) struct Change<'a> {
    seq: &'a AtomicU64,
    then: Option<u64>,
}

impl Seq {
    /// Begins a change. The caller owns the lock.
    #[inline]
    pub(super) fn change(&self) -> Change<'_> {
        let now = self.0.load(Ordering::Relaxed);
        self.begin(now, now & 1 == 0)
    }

    /// Begins a repair, which ends the change in which an owner may have died.
    pub(super) fn repair(&self) -> Change<'_> {
        self.begin(self.0.load(Ordering::Relaxed), true)
    }

    /// Makes all readers take the lock, until a repair.
    #[cold]
    pub(super) fn block_readers(&self) {
        std::mem::forget(self.repair());
    }

    #[inline]
    fn begin(&self, now: u64, outermost: bool) -> Change<'_> {
        let odd = now | 1;
        if outermost {
            self.0.store(odd, Ordering::Relaxed);
            // No store of the change is seen before the odd number.
            fence(Ordering::Release);
        }
        Change {
            seq: &self.0,
            then: outermost.then_some(odd.wrapping_add(1)),
        }
    }

    /// The number, if no change is under way.
    #[inline]
    pub(super) fn read(&self) -> Option<u64> {
        // SYNC: pairs with the store in `Change::drop`: later loads see everything of the change that ended with
        // `now`.
        let now = self.0.load(Ordering::Acquire);
        (now & 1 == 0).then_some(now)
    }

    /// Whether nothing has changed since [`read`](Self::read) returned `then`.
    #[inline]
    pub(super) fn is_still(&self, then: u64) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == then
    }
}

impl Drop for Change<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(then) = self.then {
            self.seq.store(then, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_inside_another_ends_with_it() {
        let seq = Seq(AtomicU64::new(0));
        let before = seq.read().unwrap();
        let outer = seq.change();
        assert!(seq.read().is_none() && !seq.is_still(before));
        drop(seq.change());
        assert!(seq.read().is_none());
        drop(outer);
        assert_eq!(seq.read(), Some(2));
        assert!(!seq.is_still(before) && seq.is_still(2));
    }

    #[test]
    fn a_repair_ends_what_a_dead_owner_began() {
        let seq = Seq(AtomicU64::new(0));
        std::mem::forget(seq.change());
        assert_eq!(seq.read(), None);
        drop(seq.repair());
        assert_eq!(seq.read(), Some(2));
        drop(seq.repair());
        assert_eq!(seq.read(), Some(4));
    }
}
