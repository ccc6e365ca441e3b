//! Ending the waits of this process's own threads through one handle.
//!
//! The waits through a handle can be ended while threads of its process sleep in calls through it. Other
//! handles and processes are not affected: the handle has a flag that each waiter looks at before it sleeps
//! and when it wakes, and a mark that its sleepers leave with the kernel, so that those can be woken and no
//! others. (There are 32 marks, and a forked child has those of its parent: a sleeper of another handle may
//! wake once and find nothing.) A call that need not sleep never looks at any of it.
//!
//! ```text
//! waiter                              the thread that ends the waits
//! reads the futex word                sets `ended`
//! counts itself                       asks whether any thread is counted
//! looks at `ended`: leaves            changes the futex word
//! sleeps while the word is as read    wakes the sleepers with its mark
//! ```
//! Either the waiter sees the flag, or it is seen to be counted and its word changes before it sleeps.
//!
//! **Freeing.** A C program may free a handle while threads sleep in calls through it. It must not be
//! gone before they are: a thread that was told stays counted until its call is over, and the C interface
//! then says that it has [`left`].
//!
//! # What a kill leaves
//! All this lies in the process and goes with it, but for the futex word, which may change at any
//! time.
//!
//! # Limits
//! A thread that waits for an object's own lock, which is held for a moment, is neither told nor
//! counted, except at a list. Where its owner is stopped, that moment lasts.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::error::Error;

/// The threads of this process that wait through one handle.
#[derive(Debug)]
pub(crate) struct Waits {
    ended: AtomicBool,
    /// Bits 0..32: the threads that sleep, and those that were told and have not left yet. The rest:
    /// in which [`GENERATION`], since a forked child has none of its parent's threads.
    inside: AtomicU64,
}

/// Grows in every forked child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// In a forked child: the parent's threads that waited do not exist here.
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A handle through which threads wait.
pub(crate) trait EndWaits {
    /// No call through this handle waits any more; those that do end.
    fn end_waits(&self) {}

    /// Whether threads are still in calls that waited.
    fn is_waited_in(&self) -> bool {
        false
    }
}

impl<T: EndWaits> EndWaits for Arc<T> {
    fn end_waits(&self) {
        T::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        T::is_waited_in(self)
    }
}

/// Counts a thread while it sleeps.
pub(crate) struct Inside<'a>(&'a Waits);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.count_out();
    }
}

thread_local! {
    /// What this thread was told about in the call that it is in.
    static TOLD: Cell<*const Waits> = const { Cell::new(ptr::null()) };
}

impl Waits {
    pub(crate) const fn new() -> Self {
        Self {
            ended: AtomicBool::new(false),
            inside: AtomicU64::new(0),
        }
    }

    /// Before the look at [`is_ended`](Self::is_ended) that comes before a sleep.
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.count_in();
        Inside(self)
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

    fn count_out(&self) {
        self.inside.fetch_sub(1, Ordering::Release);
    }

    /// Whether any thread is counted.
    pub(crate) fn is_busy(&self) -> bool {
        let inside = self.inside.load(Ordering::SeqCst);
        let generation = u64::from(GENERATION.load(Ordering::Relaxed));
        inside >> 32 == generation && inside as u32 != 0
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// What the sleepers of this handle leave with the kernel: never 0.
    pub(crate) fn mark(&self) -> u32 {
        1 << ((ptr::from_ref(self).addr() >> 4) % 32)
    }

    /// Records that the waits are ended, and says whether there are any.
    pub(super) fn set_ended(&self) -> bool {
        self.ended.store(true, Ordering::SeqCst);
        self.is_busy()
    }

    /// The error of a wait that is over for that reason. Its thread is counted until it has
    /// [`left`]; in Rust, where a handle is not dropped while it is borrowed, that is not needed.
    #[cold]
    pub(crate) fn detached(&self) -> Error {
        self.count_in();
        TOLD.set(self);
        Error::Detached
    }
}

/// The calling thread, whose call has ended with [`Error::Detached`], touches the handle no more.
///
/// # Safety
/// The call has just ended so, and what it was made through is not freed while threads are counted.
pub(crate) unsafe fn left() {
    let told = TOLD.replace(ptr::null());
    // SAFETY: null, or set in the call that has just ended, whose handle stays while this thread is
    // counted: the caller's contract.
    if let Some(told) = unsafe { told.as_ref() } {
        told.count_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_told_is_counted_until_it_has_left() {
        let waits = Waits::new();
        assert!(!waits.end([]) && !waits.is_busy());
        let inside = waits.enter();
        assert!(waits.is_ended() && waits.is_busy());
        assert_eq!(waits.detached(), Error::Detached);
        drop(inside);
        assert!(waits.is_busy());
        // SAFETY: `waits` is here.
        unsafe { left() };
        assert!(!waits.is_busy());
        // SAFETY: as above; it was told once.
        unsafe { left() };
        assert!(!waits.is_busy());
    }
}
