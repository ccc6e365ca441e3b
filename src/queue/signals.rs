//! The signal lock, and what is done under it to the FIFO and to the word `descriptors`.
//!
//! `readiness` explains when, and what a kill leaves.

use std::mem::ManuallyDrop;
use std::sync::atomic::{Ordering, fence};

use crate::error::Result;
use crate::sync::crash::crash_point;
use crate::sync::{Acquired, Guard};
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::poll::Signal;

use super::core::Queue;
use super::descriptor::ReadySignal;
use super::header::QueueHeader;

/// Bits of `descriptors`. The FIFO is empty: the next put writes to it.
pub(super) const AWAITED: u32 = 1;
/// A descriptor may be readable: a take that leaves nothing makes it unreadable.
pub(super) const SIGNALLED: u32 = 2;

/// Puts no longer write to a FIFO that no thread has checked for this long. Threads check ten times a second.
pub(super) const UNWATCHED_NS: u64 = 10_000_000_000;

impl Queue {
    pub(super) fn open_fifo(&self) -> Option<Signal> {
        let inode = self.ring.header.fifo.load(Ordering::Relaxed);
        self.segment.open_fifo(self.way, inode).map(Signal::of_fifo)
    }

    pub(super) fn has_fifo(&self) -> bool {
        self.ring.header.fifo.load(Ordering::Relaxed) != 0
    }

    /// Whether a descriptor may be readable.
    #[inline(always)]
    pub(super) fn is_signalled(&self) -> bool {
        self.ring.header.descriptors() & SIGNALLED != 0
    }

    /// Whether a put has to make the FIFO readable. The caller has called `publish_fence`.
    #[inline(always)]
    pub(super) fn is_signal_awaited(&self) -> bool {
        self.ring.header.descriptors() & AWAITED != 0
    }

    /// Takes the signal lock. Waits for a second if its owner is stopped.
    pub(super) fn lock_signals(&self) -> Result<Signals<'_>> {
        let guard = match self.signal_lock.lock(Deadline::Now)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => {
                // The threads correct whatever the dead owner has left.
                guard.mark_consistent();
                self.ring.header.to_signal.notify_all();
                guard
            }
        };
        Ok(Signals {
            queue: self,
            guard: ManuallyDrop::new(guard),
        })
    }

    /// Whether there is something to take, or nothing can come any more. Exact under the signal lock, but for
    /// what is put or given back meanwhile.
    pub(super) fn has_something(&self) -> bool {
        self.ring.header.first.load(Ordering::Relaxed) != 0 || self.has_more_than(0)
    }

    /// Whether the ring has more than `taken` messages, or nothing can come any more. By the counts: padding is
    /// not something to take.
    pub(super) fn has_more_than(&self, taken: u64) -> bool {
        self.ring.header.counts().0 != taken || self.is_over()
    }
}

/// The signal lock, held until dropped.
pub(super) struct Signals<'a> {
    queue: &'a Queue,
    guard: ManuallyDrop<Guard<'a>>,
}

impl Drop for Signals<'_> {
    // Not inlined: a take without descriptors has none to drop.
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.guard) };
    }
}

impl Signals<'_> {
    /// There is nothing to take but the `taken` messages of the ring that this take publishes next: clears the
    /// signals that this process can reach.
    pub(super) fn clear(&self, taken: u64) {
        let queue = self.queue;
        let open = || queue.open_fifo();
        let cleared = queue.descriptor.clear(queue.has_fifo(), open);
        self.cleared(cleared, taken);
    }

    /// The same for the thread of a descriptor, which has one signal and takes nothing.
    pub(super) fn clear_one(&self, signal: &ReadySignal) {
        signal.clear_own();
        let cleared = match signal.is_shared() {
            true => signal.clear_shared(),
            false => !self.queue.has_fifo(),
        };
        self.cleared(cleared, 0);
    }

    /// There was nothing to take but `taken` messages. `is_empty`: so is the FIFO now.
    fn cleared(&self, is_empty: bool, taken: u64) {
        let header = self.queue.ring.header;
        crash_point!();
        if is_empty {
            let bits = if self.queue.has_fifo() { AWAITED } else { 0 };
            header.arrivals.descriptors.store(bits, Ordering::Relaxed);
            crash_point!();
            // SYNC: pairs with `publish_fence` in `notify_consumer`: a put that does not see `AWAITED` is seen
            // here.
            fence(Ordering::SeqCst);
            if bits == AWAITED && self.queue.has_more_than(taken) && !self.set_fifo() {
                header.to_signal.notify_one();
            }
        } else {
            header.to_signal.notify_all();
        }
        // The threads of descriptors without a FIFO check: one whose signal is still set clears it, and then
        // they sleep until something comes.
        if header.unsignalled.has_sleepers() {
            header.unsignalled.notify_all();
        }
    }

    /// The caller has put something. False if a thread has to make the FIFO readable.
    pub(super) fn signal_put(&self) -> bool {
        let header = self.queue.ring.header;
        // Another process may have signalled or taken it meanwhile.
        if !self.queue.is_signal_awaited() || !self.queue.has_something() {
            return true;
        }
        if !header.is_watched() {
            let bits = &header.arrivals.descriptors;
            bits.fetch_and(!AWAITED, Ordering::Relaxed);
            return true;
        }
        self.set_fifo()
    }

    /// There is something to take: makes the FIFO readable. False if this process cannot open it.
    fn set_fifo(&self) -> bool {
        let bits = &self.queue.ring.header.arrivals.descriptors;
        let before = bits.swap(SIGNALLED, Ordering::Relaxed);
        crash_point!();
        let set = self.queue.descriptor.set(|| self.queue.open_fifo());
        crash_point!();
        if !set {
            bits.store(before, Ordering::Relaxed);
        }
        set
    }
}

impl QueueHeader {
    #[inline(always)]
    pub(super) fn descriptors(&self) -> u32 {
        self.arrivals.descriptors.load(Ordering::Relaxed)
    }

    /// Whether the thread of a descriptor has checked the FIFO lately.
    fn is_watched(&self) -> bool {
        let watched = self.watched.load(Ordering::Relaxed);
        now_ns().saturating_sub(watched) < UNWATCHED_NS
    }

    /// Whether a process sleeps until something is put, or a program has an unreadable descriptor.
    pub(super) fn has_waiting_consumer(&self) -> bool {
        let has_reader = self.descriptors() & AWAITED != 0 && self.is_watched();
        has_reader || self.arrivals.not_empty.has_sleepers()
    }
}
