//! Ending the waits of this process's own threads through one handle.
//!
//! The waits through a handle can be ended while threads of its process sleep in calls through it. Other
//! handles and processes are not affected: the handle has a flag that each waiter checks before it sleeps and
//! when it wakes, and a mark that its sleepers pass to the kernel, so that only they are woken. (There are 32
//! marks, and a forked child has those of its parent: a sleeper of another handle may get one spurious
//! wakeup.) A call that does not sleep reads none of this.
//!
//! ```text
//! waiter                              the thread that ends the waits
//! reads the futex word                sets `ended`
//! counts itself                       checks whether any thread is counted
//! checks `ended`: leaves              changes the futex word
//! sleeps while the word is as read    wakes the sleepers with its mark
//! ```
//! Either the waiter sees the flag, or the other thread sees it counted and changes its word before it
//! sleeps.
//!
//! **Freeing.** A C program may free a handle while threads sleep in calls through it, and what is in the
//! handle must stay until they have left. So a thread that has waited for a microsecond stays counted until
//! its call is over, also while it checks between two sleeps or uses what it found. Each call of the C
//! interface ends with [`left`]. Only handles of C [count](EndWaits::count_waits): in Rust a handle is not
//! dropped while it is borrowed.
//!
//! # What a kill leaves
//! All this lies in the process and ends with it, except the futex word, which may change at any time.
//!
//! # Limits
//! A thread that waits for an object's internal lock is counted, but its wait is not ended, except at a list.
//! Such a lock is held for less than a millisecond, unless its owner is stopped; then a handle that is freed
//! stays open.

use std::cell::RefCell;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// The threads of this process that wait through one handle.
#[derive(Debug)]
pub(crate) struct Waits {
    ended: AtomicBool,
    /// Whether its threads are counted.
    counts: AtomicBool,
    /// Bits 0..32: the threads in calls that have waited. The rest: in which [`GENERATION`], since a forked
    /// child has none of its parent's threads.
    inside: AtomicU64,
}

/// Incremented in every forked child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The total length of all threads' [`INSIDE`], so that a call need not read its own while no thread has
/// waited.
static COUNTED: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Where the calling thread is counted. It has no destructor: the last destructors of a thread may wait, and
    /// are counted like other calls. It has memory only while the thread is counted.
    static INSIDE: RefCell<ManuallyDrop<Vec<*const Waits>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

/// Takes the list of the places where the calling thread is counted, with its memory.
fn take_inside() -> Vec<*const Waits> {
    INSIDE.with(|inside| mem::take(&mut **inside.borrow_mut()))
}

/// In a forked child: the parent's threads that waited do not exist here.
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    COUNTED.store(0, Ordering::Relaxed);
    // The fork may be in a callback of a call that has slept; in the child, that call is not counted.
    let _ = INSIDE.with(|inside| inside.try_borrow_mut().map(|mut all| all.clear()));
}

/// A handle through which threads wait.
pub(crate) trait EndWaits {
    /// Ends the waits: no call through this handle waits any more.
    fn end_waits(&self) {}

    /// Calls `see` with each [`Waits`] of the handle.
    fn each_waits(&self, _see: &mut dyn FnMut(&Waits)) {}

    /// From now on its threads are counted, until they have [`left`].
    fn count_waits(&self) {
        self.each_waits(&mut |waits| waits.counts.store(true, Ordering::Relaxed));
    }

    /// Whether threads are still in calls that have waited. Needs [`count_waits`](Self::count_waits).
    fn is_waited_in(&self) -> bool {
        let mut busy = false;
        self.each_waits(&mut |waits| busy |= waits.is_busy());
        busy
    }
}

impl<T: EndWaits> EndWaits for Arc<T> {
    fn end_waits(&self) {
        T::end_waits(self);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        T::each_waits(self, see);
    }
}

impl Waits {
    pub(crate) const fn new() -> Self {
        Self {
            ended: AtomicBool::new(false),
            counts: AtomicBool::new(false),
            inside: AtomicU64::new(0),
        }
    }

    /// Before every sleep.
    ///
    /// # Errors
    /// `Detached` if the waits are ended.
    pub(crate) fn enter(&self) -> Result<()> {
        self.count();
        self.check()
    }

    /// Counts the calling thread, if it is not counted yet.
    pub(crate) fn count(&self) {
        if self.counts() {
            self.count_thread();
        }
    }

    fn count_thread(&self) {
        let is_new = INSIDE.with(|inside| {
            let mut inside = inside.borrow_mut();
            let is_new = !inside.contains(&ptr::from_ref(self));
            if is_new {
                inside.push(self);
                COUNTED.fetch_add(1, Ordering::Relaxed);
            }
            is_new
        });
        if is_new {
            self.count_in();
        }
    }

    fn count_in(&self) {
        let first = u64::from(GENERATION.load(Ordering::Relaxed)) << 32;
        let one_more = |inside| match inside >> 32 == first >> 32 {
            true => Some(inside + 1),
            false => Some(first + 1),
        };
        let _ = self
            .inside
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more);
    }

    /// Whether any thread is counted.
    fn is_busy(&self) -> bool {
        let inside = self.inside.load(Ordering::SeqCst);
        let generation = u64::from(GENERATION.load(Ordering::Relaxed));
        inside >> 32 == generation && inside as u32 != 0
    }

    fn counts(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// # Errors
    /// `Detached` if the waits are ended.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_ended() {
            true => Err(Error::Detached),
            false => Ok(()),
        }
    }

    /// The mark that the sleepers of this handle pass to the kernel: never 0.
    pub(crate) fn mark(&self) -> u32 {
        1 << ((ptr::from_ref(self).addr() >> 4) % 32)
    }

    /// Records that the waits are ended; false if no thread waits.
    pub(super) fn set_ended(&self) -> bool {
        self.ended.store(true, Ordering::SeqCst);
        !self.counts() || self.is_busy()
    }

    /// Applies this handle's state to a companion's handle that was opened for it.
    pub(crate) fn share_with(&self, companion: &impl EndWaits) {
        if self.counts() {
            companion.count_waits();
        }
        if self.is_ended() {
            companion.end_waits();
        }
    }
}

/// Runs a program's function within a call. That function may make other calls, whose end is not the end of
/// this one.
pub(crate) fn set_aside<T>(act: impl FnOnce() -> T) -> T {
    let generation = GENERATION.load(Ordering::Relaxed);
    let aside = take_inside();
    let done = act();
    if GENERATION.load(Ordering::Relaxed) == generation {
        INSIDE.with(|inside| inside.borrow_mut().extend(aside));
    }
    done
}

/// Ends the calling thread's call: it uses no handle any more in which it has waited.
///
/// # Safety
/// The handles that were used in the call were not freed while threads were counted there.
#[inline]
pub(crate) unsafe fn left() {
    // A thread sees its own additions.
    if COUNTED.load(Ordering::Relaxed) != 0 {
        // SAFETY: the same contract.
        unsafe { leave() };
    }
}

/// # Safety
/// As [`left`].
#[cold]
unsafe fn leave() {
    for waits in take_inside() {
        // SAFETY: this thread is counted there, so it was not freed: the caller's contract.
        unsafe { (*waits).inside.fetch_sub(1, Ordering::Release) };
        COUNTED.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl EndWaits for Waits {
        fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
            see(self);
        }
    }

    #[test]
    fn a_thread_that_has_slept_is_counted_once_until_its_call_is_over() {
        let waits = Waits::new();
        assert_eq!(waits.enter(), Ok(()));
        assert!(!waits.is_busy(), "Rust's are not counted");
        waits.count_waits();
        assert!(!waits.end([]));
        assert_eq!(waits.enter(), Err(Error::Detached));
        assert_eq!(waits.enter(), Err(Error::Detached));
        assert!(waits.is_waited_in() && waits.end([]));
        // SAFETY: `waits` is here.
        unsafe { left() };
        assert!(!waits.is_waited_in());
        // SAFETY: as above.
        unsafe { left() };
        assert!(!waits.is_waited_in() && waits.inside.load(Ordering::Relaxed) as u32 == 0);
    }

    #[test]
    fn a_thread_that_has_slept_is_counted_until_its_call_is_over_whatever_it_calls_within_it() {
        let waits = Waits::new();
        waits.count_waits();
        assert_eq!(waits.enter(), Ok(()));
        // SAFETY: `waits` is here.
        set_aside(|| unsafe { left() });
        assert!(waits.is_waited_in());
        // SAFETY: as above.
        unsafe { left() };
        assert!(!waits.is_waited_in());
    }

    #[test]
    fn a_handle_that_is_opened_for_another_has_its_state() {
        let (handle, companion) = (Waits::new(), Waits::new());
        handle.share_with(&companion);
        assert!(!companion.counts());
        handle.count_waits();
        handle.share_with(&companion);
        assert!(companion.counts());
    }
}
