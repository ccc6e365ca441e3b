//! Admission to one side of the queue: its lock, and quanta when many processes want it.
//!
//! # Why there are quanta
//! An owner holds the lock for some 30 ns. Two or three processes that want it at once get it
//! by spinning. But more processes than cores cannot all spin: they take the core from the one that
//! works, an owner loses its core while it holds the lock, and the scheduler does not make up for
//! it: without quanta, one of eight consumers had 28 times as many messages as another within
//! 0.25 s. So only as many processes are admitted as the lock has use for; the others are *parked*:
//! they sleep on an event, first come first served.
//!
//! ```text
//!        lock is taken, woken in vain, starved            unparked, or the side is slow
//!   admitted ───────────────────────────────▶ parked ────────────────────────▶ admitted
//!      │                                         ▲  │
//!      └── quantum is used up: unparks the ──────┘  └─ a slice passed: looks, sleeps on
//!          next, works on until it is there
//! ```
//!
//! Concurrency restriction for throughput, with a rotation for fairness, is from D. Dice,
//! *Malthusian Locks* (EuroSys 2017). Here there is no list of waiters that a kill could
//! damage: the kernel's wait queue is the list.
//!
//! # Beside programs that compute
//! The next process may have to wait for a core until the scheduler's tick, some milliseconds. Until
//! it is there, the one whose quantum is used up works on ([`OVERTIME`]): if it gave its core away, a
//! program that computes would get it, and the lock would not be used. A process that looks
//! for something to do may find each time it has a core that the others did it all: the one that
//! fills the ring comes before it. So a process that saw others do a whole quantum while it looked
//! is starved, and parks at once.
//!
//! 64-byte messages, two cores, beside so many programs that compute: million messages a second, and
//! the most that one of the equal processes had divided by the least, in the worst of
//! three windows of a second (0.4 s where nothing computes). `cargo xtask bench --only queue --busy 2`
//! measures the like.
//!
//! | producers x consumers | 0          | 2         | 4         |
//! |-----------------------|------------|-----------|-----------|
//! | 2x2                   | 40.3, 1.9  | 12.8, 1.5 | 16.0, 1.1 |
//! | 4x4                   | 25.6, 1.3  | 17.1, 1.6 | 15.8, 1.2 |
//! | 8x1                   | 29.7, 2.0  | 11.8, 1.6 | 8.6, 1.8  |
//! | 1x8                   | 34.9, 2.7  | 19.9, 2.4 | 13.0, 2.7 |
//!
//! # What a kill leaves
//! A parked process that is killed is forgotten by the kernel. If an admitted one is killed, the
//! parked ones sleep until the first of their slices ends, at most [`LAST_SLICE_NS`] later: they
//! see that the side is slow and come in.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::layout::SharedRef;
use crate::sync::{Acquired, EventCell, Guard, RobustMutex, Slept, WaitPolicy};
use crate::sys::clock::Deadline;

use super::header::{Passed, QueueHeader};

/// How much one process does before another is admitted: about half a millisecond of small messages,
/// ten times what it takes to wake a process. A message counts for 1, and for 1 more for
/// each [`GRAIN`] bytes, so that quanta of large messages are about as long.
const QUANTUM: i64 = 8192;
const GRAIN: u64 = 512;

/// Once its quantum is used up, the process works on in parts of this length until the next is there, but
/// not for longer than the scheduler's tick takes to give that a core: some 4 ms.
const PART: i64 = QUANTUM / 8;
const OVERTIME: u32 = 48;

/// How long to be parked before looking whether the admitted processes keep the side busy.
const FIRST_SLICE_NS: u64 = 1_000_000;
const LAST_SLICE_NS: u64 = 8_000_000;

/// A side does at least this much (as of [`QUANTUM`]) in a microsecond, or one more process is admitted.
/// A tenth of what one process can do.
const BUSY_PER_US: u64 = 1;

/// Admission of this process to the lock of one side.
pub(super) struct Admission {
    lock: RobustMutex,
    parked: SharedRef<EventCell>,
    /// Processes that found nothing to do on this side sleep here.
    idle: SharedRef<EventCell>,
    header: SharedRef<QueueHeader>,
    /// What ever passed this side.
    passed: fn(&QueueHeader) -> Passed,
    /// What is left of this handle's quantum. Below zero: what it has done since it used that up.
    left: AtomicI64,
    /// The quantum is used up, the next process was woken, and this is the nth part of a quantum since; 0:
    /// it is not used up.
    over: AtomicU32,
    /// What this handle learned of waits on this side.
    pub(super) policy: WaitPolicy,
}

impl Admission {
    /// `passed` counts what passed this side; parked processes sleep on `parked`, others on `idle`.
    pub(super) fn new(
        lock: RobustMutex,
        parked: SharedRef<EventCell>,
        idle: SharedRef<EventCell>,
        header: SharedRef<QueueHeader>,
        passed: fn(&QueueHeader) -> Passed,
    ) -> Self {
        Self {
            lock,
            parked,
            idle,
            header,
            passed,
            left: AtomicI64::new(QUANTUM),
            over: AtomicU32::new(0),
            policy: WaitPolicy::default(),
        }
    }

    /// Takes the lock, by `deadline` or by the lock's grace period if that is later. Parks for as long as
    /// others keep the side busy.
    ///
    /// # Errors
    /// `Timeout`, `Interrupted`; `Poisoned` when an earlier repair was abandoned.
    #[inline(always)]
    pub(super) fn enter(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        match self.lock.try_lock() {
            Some(guard) => Ok(Acquired::Held(guard)),
            None => self.enter_slow(deadline),
        }
    }

    /// The lock at once, if it is free and the quantum is not used up: enough for most calls, which then
    /// never read the clock.
    #[inline(always)]
    pub(super) fn enter_now(&self) -> Option<Guard<'_>> {
        match self.has_quantum() {
            true => self.lock.try_lock(),
            false => None,
        }
    }

    #[cold]
    fn enter_slow(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        // A call that must not wait for messages must not be parked either.
        if deadline == Deadline::Now {
            return self.lock(deadline);
        }
        loop {
            if let Some(guard) = self.lock.spin() {
                return Ok(Acquired::Held(guard));
            }
            if !self.park(deadline)? {
                return self.lock(deadline);
            }
        }
    }

    /// Takes the lock without regard to quanta: for rare operations, and for callers that have the other
    /// lock already.
    pub(super) fn lock(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        self.lock.lock(deadline)
    }

    /// The lock, unless a process keeps it for longer than an operation takes.
    pub(super) fn spin(&self) -> Option<Guard<'_>> {
        self.lock.try_lock().or_else(|| self.lock.spin())
    }

    /// Before an operation: parks if this handle's quantum is used up and another process is there. True
    /// if the quantum has just come to its end.
    ///
    /// # Errors
    /// `Interrupted`.
    #[inline(always)]
    pub(super) fn check_quantum(&self, deadline: Deadline) -> Result<bool> {
        match self.has_quantum() {
            true => Ok(false),
            false => self.end_quantum(deadline),
        }
    }

    #[inline(always)]
    fn has_quantum(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// After an operation that did this much.
    #[inline(always)]
    pub(super) fn charge(&self, done: Passed) {
        // Not exact where threads share the handle, and need not be.
        let left = self.left.load(Ordering::Relaxed);
        let left = left.wrapping_sub_unsigned(weight(done));
        self.left.store(left, Ordering::Relaxed);
    }

    #[cold]
    fn end_quantum(&self, deadline: Deadline) -> Result<bool> {
        // A call that must not wait never parks.
        let waits = deadline != Deadline::Now;
        let over = self.over.load(Ordering::Relaxed);
        if !waits || over == 0 {
            // A parked process, or else one that others were faster than every time.
            let woken = self.parked.notify_one() || self.idle.notify_one();
            self.begin_quantum(u32::from(woken && waits));
            return Ok(true);
        }
        let is_coming = self.parked.is_waking() || self.idle.is_waking();
        if is_coming && over < OVERTIME {
            self.begin_quantum(over + 1);
        } else {
            self.park(deadline)?;
        }
        Ok(false)
    }

    /// A quantum; or, once it is used up, the part of one that is done until the next process is there.
    fn begin_quantum(&self, over: u32) {
        self.over.store(over, Ordering::Relaxed);
        let left = if over == 0 { QUANTUM } else { PART };
        self.left.store(left, Ordering::Relaxed);
    }

    /// Spins for something to do, and parks if others did a whole quantum meanwhile. True if it is worth
    /// trying again.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(super) fn look(&self, deadline: Deadline, ready: impl Fn() -> bool) -> Result<bool> {
        let before = (self.passed)(&self.header);
        if self.policy.spin(ready) {
            return Ok(true);
        }
        let starved = done_between(before, (self.passed)(&self.header)) >= QUANTUM as u64;
        if starved {
            self.park(deadline)?;
        }
        Ok(starved)
    }

    /// Sleeps until it is unparked, and then returns true; false if one more process can be admitted, or the
    /// deadline has passed.
    ///
    /// # Errors
    /// `Interrupted`.
    #[cold]
    pub(super) fn park(&self, deadline: Deadline) -> Result<bool> {
        self.begin_quantum(0);
        let mut slice = FIRST_SLICE_NS;
        let mut before = (self.passed)(&self.header);
        loop {
            match self
                .parked
                .sleep(&self.policy.waits, slice, deadline, || false)
            {
                Ok(Slept::Woken | Slept::Ready) => return Ok(true),
                Ok(Slept::TimedOut) => {}
                Err(Error::Timeout) => return Ok(false),
                Err(err) => return Err(err),
            }
            let now = (self.passed)(&self.header);
            if done_between(before, now) < slice / 1000 * BUSY_PER_US {
                return Ok(false);
            }
            before = now;
            slice = (slice * 2).min(LAST_SLICE_NS);
        }
    }

    /// Admits one more process: the other side has nothing to do.
    #[cold]
    pub(super) fn unpark(&self) {
        self.parked.notify_one();
    }

    /// Ends the waits on this side through this handle, some of which sleep on one of `events`.
    pub(super) fn end_waits(&self, events: &[&EventCell]) {
        let events = events.iter().copied();
        self.policy
            .waits
            .end(events.chain([&*self.parked, &*self.idle]));
    }

    /// Admits all: something happened that concerns every process.
    pub(super) fn unpark_all(&self) {
        self.parked.notify_all();
    }
}

fn done_between(before: Passed, now: Passed) -> u64 {
    weight((now.0.wrapping_sub(before.0), now.1.wrapping_sub(before.1)))
}

pub(super) fn weight((messages, bytes): Passed) -> u64 {
    messages.saturating_add(bytes / GRAIN)
}
