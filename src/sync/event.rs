//! Waiting for a change in shared memory, and waking the processes that wait.
//!
//! ```text
//! offset  size  field    set by        cleared by       meaning
//!      0     4  seq      every waker   never            the futex word; changes with every wake
//!      4     4  asleep   each sleeper  a waker          a process may be sleeping
//!      8     4  waking   a waker       the woken, or    a wake is on its way
//!                                      a sleeper whose
//!                                      slice ended
//! ```
//!
//! A sleeper sets `asleep`, checks once more, and sleeps on the `seq` that it read before that. A waker
//! publishes its change, and makes a system call only if it then sees `asleep`. With both sides fenced,
//! either the waker sees `asleep` or the sleeper sees the change.
//!
//! **At most one wake is in flight.** On a virtual machine a wake-up costs 25 us, in which hundreds of
//! messages pass; waking a sleeper for each of them would only make processes preempt each other. So while
//! `waking` is set no other process is woken, and a process that takes one item and sees more of them wakes
//! the next.
//!
//! # What a kill leaves
//! *A sleeper is killed:* `asleep` stays set; the next wake finds no sleeper and clears it. *The woken process
//! is killed before it clears `waking`:* another sleeper, whose slice ends, clears it. *A waker is killed
//! between its change and its wake:* the sleeper checks when its slice ends. So a kill delays others by a slice
//! at most. There is no count of sleepers that a kill could make wrong.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sys::clock::Deadline;
use crate::sys::futex::{self, Waited};

use super::crash::crash_point;
use super::waits::Waits;

/// The state of an event in shared memory.
#[repr(C)]
#[derive(Default)]
pub(crate) struct EventCell {
    seq: AtomicU32,
    asleep: AtomicU32,
    waking: AtomicU32,
}

// SAFETY: three atomics.
unsafe impl Shared for EventCell {}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// At once: there was something to do.
    Ready,
    /// It was woken.
    Woken,
    /// The slice is over.
    TimedOut,
}

/// The fence between publishing a change and checking whether a process sleeps.
///
/// Call it after the lock that guarded the change was released. On x86 the release was an
/// atomic read-modify-write and so a full barrier already (Intel SDM vol. 3, 10.2); a second
/// one would cost as much as the lock. Elsewhere it is a fence.
#[inline]
pub(crate) fn publish_fence() {
    #[cfg(target_arch = "x86_64")]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(target_arch = "x86_64"))]
    fence(Ordering::SeqCst);
}

impl EventCell {
    /// Whether a process may be sleeping: a cheap check before a wake is considered.
    #[inline]
    pub(crate) fn has_sleepers(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) != 0
    }

    /// Wakes one sleeper, if there is one and none is being woken already. Returns whether it did.
    ///
    /// The caller has published what the sleeper waits for and called [`publish_fence`].
    #[inline]
    pub(crate) fn notify_one(&self) -> bool {
        // SYNC: pairs with the store of `asleep` in `sleep`.
        self.asleep.load(Ordering::Relaxed) != 0
            && self.waking.load(Ordering::Relaxed) == 0
            && self.wake_one()
    }

    #[cold]
    fn wake_one(&self) -> bool {
        if self.waking.swap(1, Ordering::SeqCst) != 0 {
            return false;
        }
        crash_point!();
        let mut woken = self.wake_sleeper();
        if !woken {
            // A stale flag. It is cleared before another wake: a sleeper that has set it meanwhile either
            // sleeps by then or finds the word changed; one that sets it afterwards stays visible. The flag
            // is not cleared before a wake that finds a sleeper: the woken process may run on this core at
            // once, and would see no others asleep.
            self.asleep.swap(0, Ordering::SeqCst);
            crash_point!();
            woken = self.wake_sleeper();
            if woken {
                self.asleep.store(1, Ordering::SeqCst);
            } else {
                self.waking.store(0, Ordering::SeqCst);
            }
            crash_point!();
        }
        woken
    }

    fn wake_sleeper(&self) -> bool {
        self.seq.fetch_add(1, Ordering::SeqCst);
        crash_point!();
        let woken = futex::wake(&self.seq, 1) != 0;
        crash_point!();
        woken
    }

    /// Wakes all sleepers, for changes that concern all: closing, repair.
    pub(crate) fn notify_all(&self) {
        fence(Ordering::SeqCst);
        self.asleep.swap(0, Ordering::SeqCst);
        self.seq.fetch_add(1, Ordering::SeqCst);
        futex::wake(&self.seq, i32::MAX);
    }

    /// Wakes only the sleepers with this mark. A thread that is about to sleep checks once more.
    #[cold]
    pub(crate) fn wake_marked(&self, mark: u32) {
        self.seq.fetch_add(1, Ordering::SeqCst);
        futex::wake_marked(&self.seq, mark);
    }

    /// Whether a process was woken that has not run yet.
    #[inline]
    pub(crate) fn is_waking(&self) -> bool {
        self.waking.load(Ordering::Relaxed) != 0
    }

    /// Announces that the caller is about to sleep. The caller then checks once more, and sleeps while
    /// [`word`](Self::word) is what this returns.
    pub(crate) fn announce(&self) -> u32 {
        let seq = self.seq.load(Ordering::SeqCst);
        self.asleep.store(1, Ordering::SeqCst);
        crash_point!();
        // SYNC: pairs with `publish_fence` between the change and `notify_one`.
        fence(Ordering::SeqCst);
        seq
    }

    /// The futex word.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.seq
    }

    /// Notes that the caller has slept, and is about to check.
    pub(crate) fn awake(&self) {
        // Before the check, so that a waker that comes after the check finds the flag clear.
        self.waking.store(0, Ordering::SeqCst);
    }

    /// Sleeps until woken, but at most `slice_ns`; not at all if `ready()` is true.
    ///
    /// # Errors
    /// `Timeout` if the deadline has passed; `Interrupted` when a signal handler ran; `Detached` once these
    /// waits are ended.
    pub(crate) fn sleep(
        &self,
        waits: &Waits,
        slice_ns: u64,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Result<Slept> {
        let seq = self.announce();
        if ready() {
            return Ok(Slept::Ready);
        }
        if deadline.passed() {
            return Err(Error::Timeout);
        }
        waits.enter()?;
        let until_ns = deadline.slice(slice_ns);
        let waited = futex::wait_marked(&self.seq, seq, until_ns, waits.mark());
        crash_point!();
        self.awake();
        if waits.is_ended() {
            // Passes on the wake-up that this thread may have received.
            self.notify_one();
            return Err(Error::Detached);
        }
        match waited {
            Waited::Woken => Ok(Slept::Woken),
            Waited::TimedOut => Ok(Slept::TimedOut),
            Waited::Interrupted => Err(Error::Interrupted),
        }
    }
}

impl Waits {
    /// Ends the waits, all of which sleep on one of `events`. False if no thread waits.
    pub(crate) fn end<'a>(&self, events: impl IntoIterator<Item = &'a EventCell>) -> bool {
        let busy = self.set_ended();
        if busy {
            let mark = self.mark();
            events.into_iter().for_each(|event| event.wake_marked(mark));
        }
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::EndWaits;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Far more than a test takes: only a lost wake would last this long.
    const LONG_NS: u64 = 600_000_000_000;

    #[test]
    fn a_sleeper_is_woken() {
        let waits = Waits::new();
        let (event, flag) = (EventCell::default(), AtomicBool::new(false));
        let ready = || flag.load(Ordering::Acquire);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| event.sleep(&waits, LONG_NS, Deadline::Never, ready));
            std::thread::sleep(Duration::from_millis(5));
            flag.store(true, Ordering::Release);
            fence(Ordering::SeqCst);
            event.notify_one();
            let slept = sleeper.join().unwrap();
            assert!(matches!(slept, Ok(Slept::Woken | Slept::Ready)));
        });
    }

    #[test]
    fn a_sleeper_notices_by_itself_when_its_waker_died() {
        let event = EventCell::default();
        let slept = event.sleep(&Waits::new(), 1_000_000, Deadline::Never, || false);
        assert_eq!(slept, Ok(Slept::TimedOut));
    }

    #[test]
    fn a_wake_that_finds_no_sleeper_clears_the_flag_of_a_dead_one() {
        let event = EventCell::default();
        event.asleep.store(1, Ordering::SeqCst);
        assert!(!event.notify_one());
        assert_eq!(event.asleep.load(Ordering::SeqCst), 0);
        assert!(!event.is_waking());
    }

    #[test]
    fn one_wake_is_in_flight_until_the_woken_runs() {
        let (event, waits) = (EventCell::default(), Waits::new());
        std::thread::scope(|scope| {
            let sleep = || event.sleep(&waits, LONG_NS, Deadline::Never, || false);
            let sleepers = [scope.spawn(sleep), scope.spawn(sleep)];
            // One that was about to sleep continues without a counted wake.
            while !sleepers.iter().all(|it| it.is_finished()) {
                if event.notify_one() {
                    while event.is_waking() {
                        std::thread::yield_now();
                    }
                }
                std::thread::yield_now();
            }
            let sleeper = scope.spawn(sleep);
            event.waking.store(1, Ordering::SeqCst);
            while !event.has_sleepers() {
                std::thread::yield_now();
            }
            assert!(!event.notify_one() && !sleeper.is_finished());
            event.awake();
            while !sleeper.is_finished() {
                event.notify_one();
            }
        });
        assert!(!event.notify_one());
    }

    #[test]
    fn those_whose_waits_are_ended_leave_and_the_others_sleep_on() {
        let (event, ended, other) = (EventCell::default(), Waits::new(), Waits::new());
        ended.count_waits();
        other.count_waits();
        let sleep = |waits| event.sleep(waits, LONG_NS, Deadline::Never, || false);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                // It may be woken too, if it has the same mark.
                while sleep(&other) == Ok(Slept::Woken) {}
                other.is_ended()
            });
            let leavers = [0, 1].map(|_| scope.spawn(|| sleep(&ended)));
            while !(ended.is_waited_in() && other.is_waited_in()) {
                std::thread::yield_now();
            }
            assert!(ended.end([&event]));
            for leaver in leavers {
                assert_eq!(leaver.join().unwrap(), Err(Error::Detached));
            }
            // From now on no thread sleeps through this handle.
            assert_eq!(sleep(&ended), Err(Error::Detached));
            assert!(!sleeper.is_finished());
            other.end([&event]);
            assert!(sleeper.join().unwrap());
        });
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (event, waits) = (EventCell::default(), Waits::new());
        let deadline = Deadline::after(crate::sys::clock::Timeout::Val(Duration::from_millis(3)));
        assert_eq!(
            event.sleep(&waits, LONG_NS, deadline, || false),
            Ok(Slept::TimedOut)
        );
        assert_eq!(
            event.sleep(&waits, LONG_NS, deadline, || false),
            Err(Error::Timeout)
        );
        assert_eq!(
            event.sleep(&waits, LONG_NS, deadline, || true),
            Ok(Slept::Ready)
        );
    }
}
