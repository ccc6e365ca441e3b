//! The entrance to one end of the queue: its lock, and whose turn it is when many want it.
//!
//! # Why there are turns
//! An owner holds the lock for some 30 ns. Two or three processes that want it at once get it
//! by spinning. But more processes than cores cannot all spin: they take the core from the one that
//! works, an owner loses its core while it holds the lock, and the scheduler does not make up for
//! it: without turns, one of eight consumers had 28 times as many messages as another within
//! 0.25 s. So at each entrance only as many work as the lock has use for; the others *stand aside*,
//! asleep at the gate, first come first served.
//!
//! ```text
//!        lock is taken, woken in vain, starved             woken, or the end is slow
//!   working ────────────────────────────────▶ standing aside ────────────────────▶ working
//!      │                                            ▲  │
//!      └── turn is over: wakes the next, goes on ───┘  └─ a slice passed: looks, sleeps on
//!          working until that one is there
//! ```
//!
//! Concurrency restriction for throughput, with a rotation for fairness, is from D. Dice,
//! *Malthusian Locks* (EuroSys 2017). Here there is no list of waiters that a kill could
//! tear: the kernel's wait queue is the list.
//!
//! # Beside programs that compute
//! The next process may have to wait for a core until the scheduler's tick, some milliseconds. Until
//! it is there, the one whose turn is over works on ([`OVERTIME`]): to give its core away instead
//! would give it to a program that computes, and nobody would use the lock. A process that looks
//! for something to do may find that the others did it all, each time it has a core: the one that
//! fills the ring comes before it. So a process that saw others do a whole turn while it looked
//! stands aside at once.
//!
//! 64-byte messages, two cores, beside so many programs that compute: million messages a second, and
//! how many times as many the luckiest of equal processes had as the least lucky in the worst of
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
//! Who is killed while it stands aside is forgotten by the kernel. Who is killed while it
//! works leaves the others asleep until the first of their slices ends, at most
//! [`LAST_SLICE_NS`] later: they see that the end is slow and come in.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::layout::SharedRef;
use crate::sync::{Acquired, EventCell, Guard, RobustMutex, Slept, WaitPolicy};
use crate::sys::clock::Deadline;

use super::header::{Passed, QueueHeader};

/// How much one process does before it makes way: about half a millisecond of small messages,
/// ten times what it takes to wake another. A message counts for 1, and for 1 more for
/// each [`GRAIN`] bytes, to make turns of large ones about as long.
const QUANTUM: i64 = 8192;
const GRAIN: u64 = 512;

/// Once a turn is over, the process works on in parts of this length until the next is there, but not
/// for longer than it takes the scheduler's tick to let that in: some 4 ms.
const PART: i64 = QUANTUM / 8;
const OVERTIME: u32 = 48;

/// How long to stand aside before looking whether those who work keep the end busy.
const FIRST_SLICE_NS: u64 = 1_000_000;
const LAST_SLICE_NS: u64 = 8_000_000;

/// An end does at least this much (as of [`QUANTUM`]) in a microsecond, or there is room for one
/// more. A tenth of what one process can do.
const BUSY_PER_US: u64 = 1;

/// This process's view of an end's lock and gate.
pub(super) struct Admission {
    lock: RobustMutex,
    parked: SharedRef<EventCell>,
    /// Where those sleep who found nothing to do at this end.
    idle: SharedRef<EventCell>,
    header: SharedRef<QueueHeader>,
    /// What ever passed this end.
    passed: fn(&QueueHeader) -> Passed,
    /// What is left of this handle's turn. Below zero, what it has done since it used that up.
    left: AtomicI64,
    /// Its turn is over, the next one was woken, and this is the nth part of a turn since; 0: it is
    /// not over.
    over: AtomicU32,
    /// What this handle learned of waits at this end.
    pub(super) policy: WaitPolicy,
}

impl Admission {
    /// The end where `passed` counts.
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

    /// Takes the lock, by `deadline` or by the lock's grace period if that is later. Stands
    /// aside for as long as others keep the end busy.
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

    /// The lock at once, if it is free and the turn is not over: most calls get along with that,
    /// and never ask what time it is.
    #[inline(always)]
    pub(super) fn enter_now(&self) -> Option<Guard<'_>> {
        match self.has_quantum() {
            true => self.lock.try_lock(),
            false => None,
        }
    }

    #[cold]
    fn enter_slow(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        // Who must not wait for messages must not wait for turns either.
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

    /// Takes the lock without regard to turns: for what is done once in a while, and by
    /// those who hold another lock already.
    pub(super) fn lock(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        self.lock.lock(deadline)
    }

    /// The lock, unless somebody keeps it for longer than an operation takes.
    pub(super) fn spin(&self) -> Option<Guard<'_>> {
        self.lock.try_lock().or_else(|| self.lock.spin())
    }

    /// Before an operation: stands aside if this handle's turn is over and another is there. True
    /// if a turn has just come to its end.
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
        // Not exact when threads share the handle, nor need it be.
        let left = self.left.load(Ordering::Relaxed);
        let left = left.wrapping_sub_unsigned(weight(done));
        self.left.store(left, Ordering::Relaxed);
    }

    #[cold]
    fn end_quantum(&self, deadline: Deadline) -> Result<bool> {
        // A call that must not wait never stands aside.
        let waits = deadline != Deadline::Now;
        let over = self.over.load(Ordering::Relaxed);
        if !waits || over == 0 {
            // One that stands aside, or else one that was too late every time.
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

    /// A turn; or, once it is over, the part of one that is done until the next process is there.
    fn begin_quantum(&self, over: u32) {
        self.over.store(over, Ordering::Relaxed);
        let left = if over == 0 { QUANTUM } else { PART };
        self.left.store(left, Ordering::Relaxed);
    }

    /// Spins for something to do, and stands aside if others did a whole turn meanwhile. True if it
    /// is worth trying again.
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

    /// Sleeps until somebody makes way, and then returns true; false if that is not to be
    /// waited for, because there is room for one more or the deadline has passed.
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

    /// One more is wanted here: the other end has nothing to do.
    #[cold]
    pub(super) fn unpark(&self) {
        self.parked.notify_one();
    }

    /// Ends the waits at this end through this handle, some of which sleep on one of `events`.
    pub(super) fn end_waits(&self, events: &[&EventCell]) {
        let events = events.iter().copied();
        self.policy
            .waits
            .end(events.chain([&*self.parked, &*self.idle]));
    }

    /// Something happened that concerns everybody.
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
