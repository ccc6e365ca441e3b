//! How a waiter waits: it spins while spinning pays, and sleeps otherwise.
//!
//! Every wait in this library ends in one of two ways. The waiter *spins*: it polls shared memory, and sees
//! the change after one cache line transfer from the other core. Or it *sleeps* in the kernel until it is
//! woken, which costs both sides a system call and, on a virtual machine whose other core has to leave its
//! idle state, 20 us and more.
//!
//! Neither is best in every case. The table shows what a round trip costs:
//!
//! | where | a spin | a sleep |
//! |---|---|---|
//! | both processes have a core, and answer within microseconds | 0.3 us | 43 us |
//! | both share one core | 10 us wasted, each time | 5 us |
//! | messages come 1000 times a second | 1 % of a core wasted | 30 us, and nothing else |
//!
//! (A round trip of 64 B, two cores of a virtual Zen 4, Linux 6.18: `cargo xtask bench --busy 0,1`.)
//!
//! A spin of fixed length has another flaw. Copying 64 KiB takes longer than 10 us, so a consumer that spins
//! for 10 us sleeps before the message is there, and the producer has to wake it. While it wakes up, the
//! producer gets ahead by one message; the consumer catches up and sleeps again. That costs 37 us a message for
//! as long as the stream lasts, although both processes run. The same holds for a batch of 1 MiB. A stream stays
//! fast only if a spin may last as long as the previous waits. It becomes fast again only if short sleeps count
//! as spins that were given up too early. Points 1 and 2 do this.
//!
//! # The policy
//! 1. **Spinning has to pay.** A [`WaitPolicy`] remembers how long the next wait at its place may spin. A
//!    spin that succeeds sets that to [`USUAL_NS`], or to four times as long as it took if that is longer,
//!    [`LONGEST_NS`] at most. A spin that fails halves it; below [`LEAST_NS`] it is 0, and the waiter sleeps
//!    at once.
//! 2. **It is tried again now and then.** Where a sleep ended within [`SHORT_NS`], the partner is quick, and
//!    only a lack of cores may have made spins fail. After [`FIRST_REST_NS`] one wait spins for
//!    [`LONGEST_NS`], which is longer than the wake-up of a sleeping partner takes. If that fails, the next
//!    try comes after twice as long a rest, up to [`LAST_REST_NS`]. Each spin that succeeds halves the rest, so
//!    that one success among many failures changes little. Where waits are long, no spin is tried: an idle
//!    waiter uses no processor time.
//! 3. **No waiter yields.** `sched_yield` gives the core to any other runnable process, and next to a program
//!    that computes, the waiter runs again only a time slice later, after some milliseconds. A sleeper that
//!    is woken gets a core at once, because it has used less than its share.
//! 4. **A spinner that lost its core stops spinning.** Two readings of the clock a few polls apart then
//!    differ by more than [`STOLEN_NS`]. The machine is busy, and that counts as a spin that failed.
//! 5. **Sleeps have slices** ([`Nap`]). A waker can be killed between its change and its wake-up, so a
//!    sleeper checks by itself every [`FIRST_NAP_NS`] to [`LAST_NAP_NS`]. The first slice is longer than the
//!    kernel's tick: for a nearer end, setting the timer and clearing it each cost an exit to the hypervisor. (A
//!    round trip takes 43 us with slices of 2 ms, and 31 us with 100 ms.)
//! 6. **A waiter that was passed over is served next**: see [`super::handoff`].
//!
//! A handle has one policy for each side that can be waited for, in the memory of its process. It is not in
//! shared memory, so a kill cannot leave it wrong. Threads that share a handle share its policies. They may
//! lose each other's updates, which does no harm.
//!
//! Halving the spin after each failure is the usual answer to "spin or block" (A. Karlin et al., *Empirical
//! Studies of Competitive Spinning for a Shared-Memory Multiprocessor*, SOSP 1991).

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::clock::{Deadline, now_ns};

use super::{EventCell, Slept, Waits};

/// How long a wait spins where that has paid: a quarter of what a wake-up costs.
const USUAL_NS: u32 = 10_000;
/// The longest spin: longer than a partner that sleeps on another core takes to be woken and to
/// answer.
const LONGEST_NS: u32 = 60_000;
/// Shorter spins are not worth reading the clock.
const LEAST_NS: u32 = 2_000;
/// A sleep that was shorter than this could have been a spin.
const SHORT_NS: u64 = 60_000;
/// How long not to spin where spins have failed.
const FIRST_REST_NS: u32 = 1_000_000;
const LAST_REST_NS: u32 = 32_000_000;
/// Polls between two readings of the clock: about a microsecond.
const POLLS: u32 = 32;
/// This much time between two such readings means that the thread was preempted.
const STOLEN_NS: u64 = 50_000;
/// Before the first sleep of a wait, the kernel is asked which owners are alive, but at most once in this time:
/// each time costs a system call.
const ASK_NS: u64 = 1_000_000;

/// The slices of a sleep.
pub(super) const FIRST_NAP_NS: u64 = 20_000_000;
pub(super) const LAST_NAP_NS: u64 = 100_000_000;

/// What this process has learned about waiting at one place.
pub(crate) struct WaitPolicy {
    /// How long the next wait may spin; 0: not at all before `again_ns`.
    spin_ns: AtomicU32,
    /// How long the last rest from spinning was.
    rest_ns: AtomicU32,
    /// When spinning may be tried again.
    again_ns: AtomicU64,
    /// When the kernel was last asked before a first sleep.
    asked_ns: AtomicU64,
    /// Whether the last sleep was short.
    short: AtomicBool,
    /// Whether the last sleep lasted for its whole slice.
    idle: AtomicBool,
    /// The threads that wait by this policy.
    pub(crate) waits: Waits,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitPolicy {
    pub(crate) const fn new() -> Self {
        Self {
            spin_ns: AtomicU32::new(USUAL_NS),
            rest_ns: AtomicU32::new(FIRST_REST_NS),
            again_ns: AtomicU64::new(0),
            asked_ns: AtomicU64::new(0),
            short: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            waits: Waits::new(),
        }
    }

    /// Spins until `ready()`, for as long as that has paid lately. False if it is time to sleep.
    #[inline]
    pub(crate) fn spin(&self, ready: impl Fn() -> bool) -> bool {
        let usual_ns = self.spin_ns.load(Ordering::Relaxed);
        let is_try = usual_ns == 0;
        if is_try && !self.may_try_again() {
            return ready();
        }
        let spin_ns = if is_try { LONGEST_NS } else { usual_ns };
        let (mut began, mut before) = (0, 0);
        loop {
            for _ in 0..POLLS {
                if ready() {
                    self.paid(before - began);
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = now_ns();
            if began == 0 {
                // The handle may be freed while this thread continues to spin.
                self.waits.count();
                (began, before) = (now, now);
            }
            if now - before > STOLEN_NS || now - began >= u64::from(spin_ns) {
                self.failed(spin_ns, is_try, now);
                return ready();
            }
            before = now;
        }
    }

    /// Whether spinning has paid of late.
    #[inline]
    pub(crate) fn spins(&self) -> bool {
        self.spin_ns.load(Ordering::Relaxed) > 0
    }

    #[cold]
    fn may_try_again(&self) -> bool {
        self.short.load(Ordering::Relaxed) && now_ns() >= self.again_ns.load(Ordering::Relaxed)
    }

    #[inline]
    fn paid(&self, took_ns: u64) {
        let spin_ns = (took_ns * 4).clamp(USUAL_NS.into(), LONGEST_NS.into()) as u32;
        if self.spin_ns.load(Ordering::Relaxed) != spin_ns {
            self.spin_ns.store(spin_ns, Ordering::Relaxed);
        }
        let rest = self.rest_ns.load(Ordering::Relaxed);
        if rest > FIRST_REST_NS {
            self.rest_ns.store(rest / 2, Ordering::Relaxed);
        }
    }

    #[cold]
    fn failed(&self, spin_ns: u32, is_try: bool, now_ns: u64) {
        let half = if is_try { 0 } else { spin_ns / 2 };
        let half = if half < LEAST_NS { 0 } else { half };
        let mut rest = self.rest_ns.load(Ordering::Relaxed);
        if is_try {
            rest = rest.saturating_mul(2).min(LAST_REST_NS);
            self.rest_ns.store(rest, Ordering::Relaxed);
        }
        self.spin_ns.store(half, Ordering::Relaxed);
        self.again_ns
            .store(now_ns + u64::from(rest), Ordering::Relaxed);
    }

    /// Sleeps on `event` until `ready()`, it is woken or the slice is over.
    ///
    /// # Errors
    /// As [`EventCell::sleep`].
    pub(crate) fn sleep(
        &self,
        event: &EventCell,
        nap_ns: u64,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Result<Slept> {
        let slept = self.slept(|| event.sleep(&self.waits, nap_ns, deadline, ready));
        if let Ok(how) = slept {
            self.set_idle(how == Slept::TimedOut);
        }
        slept
    }

    /// Notes whether the last sleep lasted for its whole slice.
    pub(crate) fn set_idle(&self, idle: bool) {
        if self.idle.load(Ordering::Relaxed) != idle {
            self.idle.store(idle, Ordering::Relaxed);
        }
    }

    /// The first slice of a wait: a long one if the last sleep timed out, since a program may wait for one
    /// thing in many calls.
    pub(crate) fn nap(&self) -> Nap {
        match self.idle.load(Ordering::Relaxed) {
            true => Nap(LAST_NAP_NS),
            false => Nap::FIRST,
        }
    }

    /// Runs `sleep`, and remembers whether it was short.
    pub(crate) fn slept<T>(&self, sleep: impl FnOnce() -> T) -> T {
        let began = now_ns();
        let slept = sleep();
        let short = now_ns() - began < SHORT_NS;
        if self.short.load(Ordering::Relaxed) != short {
            self.short.store(short, Ordering::Relaxed);
        }
        slept
    }

    /// Whether to ask the kernel which owners live before the first sleep of a wait.
    pub(crate) fn may_ask(&self) -> bool {
        let now = now_ns();
        let may = now.wrapping_sub(self.asked_ns.load(Ordering::Relaxed)) >= ASK_NS;
        if may {
            self.asked_ns.store(now, Ordering::Relaxed);
        }
        may
    }
}

/// The slices in which one wait sleeps: each is twice as long as the one before, so that long waits take
/// little processor time.
#[derive(Clone, Copy)]
pub(crate) struct Nap(u64);

impl Nap {
    pub(crate) const FIRST: Self = Self(FIRST_NAP_NS);

    /// The length of the next one.
    pub(crate) fn ns(self) -> u64 {
        self.0
    }

    /// Notes how the last slice ended. True if the sleeper was not woken, and may now ask the kernel whether
    /// the owner lives.
    pub(crate) fn ended(&mut self, slept: Slept) -> bool {
        let timed_out = slept == Slept::TimedOut;
        self.0 = match timed_out {
            true => (self.0 * 2).min(LAST_NAP_NS),
            false => FIRST_NAP_NS,
        };
        timed_out
    }
}

/// Whether an attempt asks the kernel which owners are alive, or relies on shared memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Memory,
    Kernel,
}

impl Ask {
    pub(crate) fn kernel(it: bool) -> Self {
        if it { Ask::Kernel } else { Ask::Memory }
    }
}

/// Waits until `find` finds something. Calls it whenever `event` wakes the caller, and after each slice.
///
/// # Errors
/// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; and those of `find`.
pub(crate) fn wait_for<T>(
    event: &EventCell,
    policy: &WaitPolicy,
    deadline: Deadline,
    find: impl Fn(Ask) -> Result<Option<T>>,
) -> Result<T> {
    let found = Cell::new(None);
    let ready = || {
        let now = find(Ask::Memory).transpose();
        let ready = now.is_some();
        found.set(now);
        ready
    };
    if deadline != Deadline::Now && policy.spin(ready) {
        return found.take().unwrap_or(Err(Error::Timeout));
    }
    let (mut nap, mut ask) = (policy.nap(), true);
    loop {
        if ask && let Some(found) = find(Ask::Kernel)? {
            return Ok(found);
        }
        if deadline == Deadline::Now {
            return Err(Error::Timeout);
        }
        let slept = policy.sleep(event, nap.ns(), deadline, ready);
        if let Some(found) = found.take() {
            return found;
        }
        ask = nap.ended(slept?);
    }
}

#[cfg(test)]
mod tests {
    use super::super::EndWaits;
    use super::super::waits::left;
    use super::*;

    #[test]
    fn a_spin_that_fails_is_shorter_the_next_time_and_soon_there_is_none() {
        let policy = WaitPolicy::default();
        let mut spins = 0;
        while policy.spins() {
            let before = policy.spin_ns.load(Ordering::Relaxed);
            assert!(!policy.spin(|| false));
            assert!(policy.spin_ns.load(Ordering::Relaxed) <= before / 2);
            spins += 1;
        }
        assert!(spins <= 4);
        // It polls exactly once.
        let polls = Cell::new(0);
        assert!(!policy.spin(|| {
            polls.set(polls.get() + 1);
            false
        }));
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn a_thread_that_spins_is_counted_as_one_that_sleeps_is() {
        let policy = WaitPolicy::default();
        policy.waits.count_waits();
        assert!(!policy.spin(|| false));
        assert!(policy.waits.is_waited_in());
        // SAFETY: `policy` is here.
        unsafe { left() };
        assert!(!policy.waits.is_waited_in());
    }

    #[test]
    fn spinning_is_tried_again_only_where_sleeps_are_short() {
        let policy = WaitPolicy::default();
        while policy.spins() {
            policy.spin(|| false);
        }
        policy.again_ns.store(0, Ordering::Relaxed);
        policy.slept(|| std::thread::sleep(std::time::Duration::from_millis(1)));
        assert!(!policy.may_try_again());
        policy.short.store(true, Ordering::Relaxed);
        let polls = Cell::new(0);
        assert!(policy.spin(|| {
            polls.set(polls.get() + 1);
            polls.get() > 2
        }));
        assert!(policy.spins());
    }

    #[test]
    fn a_wait_that_goes_on_in_another_call_begins_with_the_longest_slice() {
        let (policy, event) = (WaitPolicy::default(), EventCell::default());
        assert_eq!(policy.nap().ns(), FIRST_NAP_NS);
        let slept = policy.sleep(&event, 1000, Deadline::Never, || false);
        assert_eq!(slept, Ok(Slept::TimedOut));
        assert_eq!(policy.nap().ns(), LAST_NAP_NS);
        let slept = policy.sleep(&event, 1000, Deadline::Never, || true);
        assert_eq!(slept, Ok(Slept::Ready));
        assert_eq!(policy.nap().ns(), FIRST_NAP_NS);
    }
}
