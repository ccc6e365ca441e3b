//! Hand-off of a lock or a permit: which waiter gets it next.
//!
//! ```text
//! offset  size  field        written by     meaning
//!      0     8  reserved_ns  a waiter, or   since when a free lock is reserved for a woken waiter;
//!                            a releaser     0: any process may take it
//!      8     4  late         a taker        1 if it had waited long: the next waiter is served at once
//!     12    12  freed        event: waiters sleep on it
//!     24    12  passed       event: waiters sleep on it that were woken and found the lock taken again
//! ```
//!
//! A free lock goes to the first process that takes it. That is fast: the owner may take it again at once,
//! and no core waits for a sleeper to wake up. But a sleeper that is woken runs 20 us later, or some
//! milliseconds on a busy machine, and finds the lock taken again. Three rules prevent starvation:
//!
//! 1. **A woken waiter that finds the lock taken claims it**: from then on, no other process takes it when it
//!    is free, for [`GRACE_NS`] at most. Until the woken waiter runs, others can take it.
//! 2. **It keeps its place.** The kernel wakes sleepers in the order of their arrival. One that was woken and
//!    found the lock taken sleeps on another word, which is woken first.
//! 3. **After a wait of [`LONG_NS`], the waiters are served in their order**: a freed lock is reserved for the
//!    next sleeper from the moment of its wake-up, until waits are short again. On a busy machine, the woken
//!    process then gets a core from those that use the lock.
//!
//! These rules hold for calls that do not wait, too: a lock that is reserved for another process counts as taken.
//! Otherwise a process that polls could take the lock each time before a waiter does.
//!
//! Eight processes hold a lock for some time and take it again at once, on two cores that they share with
//! programs that compute. The table shows the longest wait within 0.7 s in milliseconds, and thousands of
//! acquisitions a second. "In order" is a futex lock that is handed over in the order of arrival.
//!
//! | programs | kept for | without these rules | with them | in order  |
//! |----------|----------|--------------------|-----------|-----------|
//! | 0        | 0        | 36, 11 700         | 12, 10 200 | 5, 53    |
//! | 0        | 100 us   | 524, 9.5           | 9, 9.4    | 3, 7.8    |
//! | 2        | 10 us    | 152, 50            | 13, 65    | 9, 30     |
//! | 2        | 1 ms     | 397, 0.90          | 30, 0.57  | 21, 0.83  |
//! | 4        | 0        | 96, 8 600          | 20, 8 200 | 19, 26    |
//! | 4        | 1 ms     | 415, 0.85          | 41, 0.46  | 23, 0.56  |
//!
//! `cargo xtask bench --busy 0,2,4 --waits handover` measures this.
//!
//! # What a kill leaves
//! A reservation names no process. If the woken process is killed, its reservation ends after [`GRACE_NS`].
//! `reserved_ns` and `late` are hints: they decide which waiter is served first, never which process owns the
//! lock. If the woken process is killed, the others wait for the end of a slice of their sleep.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sys::clock::{Deadline, now_ns};

use super::crash::crash_point;
use super::policy::{Ask, WaitPolicy};
use super::{EventCell, Slept, publish_fence};

/// After a wait of this length, the next waiter is served at once.
const LONG_NS: u64 = 5_000_000;

/// How long a free lock is reserved for a woken waiter: longer than the waiter needs to get a core that it
/// shares with several programs that compute.
const GRACE_NS: u64 = 20_000_000;

/// How often a woken waiter polls before it sleeps again: some microseconds, enough for an owner that runs on
/// another core and is about to release.
const POLLS: u32 = 200;

/// The waiters' state in shared memory.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Handoff {
    reserved_ns: AtomicU64,
    late: AtomicU32,
    freed: EventCell,
    passed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(Handoff, late) == 8);
const _: () = assert!(std::mem::offset_of!(Handoff, freed) == 12);
const _: () = assert!(std::mem::offset_of!(Handoff, passed) == 24);
const _: () = assert!(size_of::<Handoff>() == 40);

// SAFETY: `repr(C)`, atomics and events only.
unsafe impl Shared for Handoff {}

/// How a waiter tries to take the lock.
#[derive(Clone, Copy)]
pub(crate) struct Try {
    /// Whether to ask the kernel if the owner lives.
    pub(crate) ask: Ask,
    /// Whether this waiter was woken, so that the reservation may be for it.
    pub(crate) woken: bool,
}

impl Handoff {
    /// Whether the free lock may be taken. Checked after taking it: a read before that would fetch the cache
    /// line twice from a core that has written to it. If this is false, the caller frees it again.
    #[inline(always)]
    pub(crate) fn admits(&self, woken: bool) -> bool {
        let reserved = self.reserved_ns.load(Ordering::Relaxed);
        reserved == 0 || self.admits_now(reserved, woken)
    }

    #[cold]
    fn admits_now(&self, reserved_ns: u64, woken: bool) -> bool {
        let admits = woken || now_ns().wrapping_sub(reserved_ns) > GRACE_NS;
        if admits {
            self.reserve(0);
        }
        admits
    }

    /// Reserves the lock for a woken waiter from now on; with 0, ends the reservation.
    fn reserve(&self, now_ns: u64) {
        self.reserved_ns.store(now_ns, Ordering::Relaxed);
        crash_point!();
    }

    /// Wakes the next waiter. Called after freeing the lock by a read-modify-write, or after a fence.
    #[inline(always)]
    pub(crate) fn wake_next(&self) {
        publish_fence();
        if self.freed.has_sleepers() || self.passed.has_sleepers() {
            self.wake_one_waiter();
        }
    }

    #[cold]
    fn wake_one_waiter(&self) {
        let is_waking = self.freed.is_waking() || self.passed.is_waking();
        let is_reserved = self.reserved_ns.load(Ordering::Relaxed) != 0;
        if is_reserved && !is_waking || self.late.load(Ordering::Relaxed) != 0 {
            self.reserve(now_ns());
        }
        if !is_waking && !self.passed.notify_one() && !self.freed.notify_one() {
            self.reserve(0);
        }
    }

    /// Where waiters sleep.
    pub(crate) fn events(&self) -> [&EventCell; 2] {
        [&self.freed, &self.passed]
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&self) {
        self.passed.notify_all();
        self.freed.notify_all();
    }

    /// Waits until `attempt` succeeds, which is possible while `is_free()`. Calls it at least once.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; and those of `attempt`.
    pub(crate) fn wait<T>(
        &self,
        policy: &WaitPolicy,
        deadline: Deadline,
        is_free: impl Fn() -> bool,
        attempt: impl Fn(Try) -> Result<Option<T>>,
    ) -> Result<T> {
        let is_open = || is_free() && self.reserved_ns.load(Ordering::Relaxed) == 0;
        let at_once = deadline == Deadline::Now;
        let mut how = Try {
            ask: Ask::Memory,
            woken: false,
        };
        if !at_once
            && policy.spin(is_open)
            && let Some(done) = attempt(how)?
        {
            return Ok(done);
        }
        let (began, mut nap) = (now_ns(), policy.nap());
        how.ask = Ask::kernel(at_once || policy.may_ask());
        let ended = loop {
            match attempt(how) {
                Ok(None) if at_once => break Err(Error::Timeout),
                Ok(None) => {}
                Ok(Some(done)) => break Ok(done),
                Err(err) => break Err(err),
            }
            if how.woken && self.claim(&is_free) {
                continue;
            }
            let slept = match how.woken {
                true => policy.sleep(&self.passed, nap.ns(), deadline, &is_free),
                false => policy.sleep(&self.freed, nap.ns(), deadline, is_open),
            };
            let slept = match slept {
                Ok(slept) => slept,
                Err(err) => break Err(err),
            };
            how.woken |= slept == Slept::Woken;
            how.ask = Ask::kernel(nap.ended(slept));
            if slept == Slept::TimedOut {
                // A process that was woken and killed before it ran may have been the last sleeper there.
                self.freed.awake();
                self.passed.awake();
            }
        };
        if how.woken {
            self.leave(began, ended.is_ok(), is_free);
        }
        ended
    }

    /// A woken waiter that finds the lock taken reserves it, and spins for some microseconds. True if it is
    /// free.
    fn claim(&self, is_free: impl Fn() -> bool) -> bool {
        if self.reserved_ns.load(Ordering::Relaxed) == 0 {
            self.reserve(now_ns());
        }
        (0..POLLS).any(|_| {
            std::hint::spin_loop();
            is_free()
        })
    }

    /// Ends the wait of a waiter that was woken. `has_it`: it has taken the lock.
    fn leave(&self, began_ns: u64, has_it: bool, is_free: impl Fn() -> bool) {
        if has_it {
            let late = now_ns().wrapping_sub(began_ns) >= LONG_NS;
            if self.late.load(Ordering::Relaxed) != u32::from(late) {
                self.late.store(late.into(), Ordering::Relaxed);
                crash_point!();
            }
        } else {
            self.reserve(0);
            if is_free() {
                // Passes on the wake-up that came too late for this waiter.
                self.wake_next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_wait_leaves_a_reserved_lock_to_its_waiter() {
        let (handoff, policy) = (Handoff::default(), WaitPolicy::default());
        let take = || {
            let attempt = |how: Try| Ok(handoff.admits(how.woken).then_some(()));
            handoff.wait(&policy, Deadline::Now, || true, attempt)
        };
        assert_eq!(take(), Ok(()));
        // On a busy machine, the reservation may have expired before the attempt.
        let refused = loop {
            let began = now_ns();
            handoff.reserve(began);
            let taken = take();
            if now_ns() - began <= GRACE_NS {
                break taken;
            }
        };
        assert_eq!(refused, Err(Error::Timeout));
        // The waiter still has it.
        assert!(handoff.reserved_ns.load(Ordering::Relaxed) != 0);
        handoff.reserve(now_ns() - GRACE_NS - 1);
        assert_eq!(take(), Ok(()));
    }
}
