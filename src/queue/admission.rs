//! Admission to one side of the queue: its lock, and quanta when many processes want it.
//!
//! # Why there are quanta
//! An owner holds the lock for some 30 ns. Two or three processes that want it at once get it by spinning.
//! But more processes than cores cannot all spin: they take the core from the owner, which is preempted while
//! it holds the lock. The scheduler does not even this out: without quanta, one of eight consumers had 28
//! times as many messages as another within 0.25 s. So only as many processes are admitted as keep the lock
//! busy. The others are *parked*: they sleep on an event, which wakes them in the order of their arrival.
//!
//! ```text
//!        lock taken, futile wake-ups, starved             unparked, or the side is slow
//!   admitted ───────────────────────────────▶ parked ────────────────────────▶ admitted
//!      │                                         ▲  │
//!      └── quantum is used up: unparks the ──────┘  └─ a slice passed: checks, sleeps on
//!          next, works on until it arrives
//! ```
//!
//! Concurrency restriction for throughput, with a rotation for fairness, is from D. Dice,
//! *Malthusian Locks* (EuroSys 2017). Here there is no list of waiters that a kill could
//! damage: the kernel's wait queue is the list.
//!
//! # Next to programs that compute
//! The next process may have to wait for a core until the scheduler's tick, some milliseconds. Until it
//! arrives, the process whose quantum is used up works on ([`OVERTIME`]): if it gave up its core, a program
//! that computes would get the core, and the lock would be idle. A process that spins for work may find, each
//! time that it gets a core, that others have done all the work. A process that saw others do a whole quantum
//! while it spun is starved, and parks at once.
//!
//! 64-byte messages on two cores that are shared with 0, 2 or 4 programs that compute: million messages a
//! second, and the largest share of one process divided by the smallest, in the worst of three windows of 1 s
//! (0.4 s with 0 programs). `cargo xtask bench --only queue --busy 2` measures this.
//!
//! | producers x consumers | 0          | 2         | 4         |
//! |-----------------------|------------|-----------|-----------|
//! | 2x2                   | 40.3, 1.9  | 12.8, 1.5 | 16.0, 1.1 |
//! | 4x4                   | 25.6, 1.3  | 17.1, 1.6 | 15.8, 1.2 |
//! | 8x1                   | 29.7, 2.0  | 11.8, 1.6 | 8.6, 1.8  |
//! | 1x8                   | 34.9, 2.7  | 19.9, 2.4 | 13.0, 2.7 |
//!
//! # What a kill leaves
//! The kernel removes a parked process that is killed from the wait queue. If an admitted one is killed, the
//! parked ones sleep until the first of their slices ends, at most [`LAST_SLICE_NS`] later: they see that the
//! side is slow and enter.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::layout::SharedRef;
use crate::sync::{Acquired, EventCell, Guard, RobustMutex, Slept, WaitPolicy, Waits};
use crate::sys::clock::Deadline;

use super::header::{Passed, QueueHeader};

/// How much one process does before another is admitted: about half a millisecond of small messages, ten
/// times as long as a wake-up takes. A message counts 1, and 1 more for each [`GRAIN`] bytes, so that quanta
/// of large messages are about as long.
const QUANTUM: i64 = 8192;
const GRAIN: u64 = 512;

/// Once its quantum is used up, the process works on in parts of this length until the next process arrives,
/// but for no more than [`OVERTIME`] parts: the scheduler's tick gives the next one a core within some 4 ms.
const PART: i64 = QUANTUM / 8;
const OVERTIME: u32 = 48;

/// How long a process is parked before it checks whether the admitted processes keep the side busy.
const FIRST_SLICE_NS: u64 = 1_000_000;
const LAST_SLICE_NS: u64 = 8_000_000;

/// If a side does less than this (in the unit of [`QUANTUM`]) in a microsecond, one more process is admitted.
/// A tenth of what one process can do.
const BUSY_PER_US: u64 = 1;

/// Admission of this process to the lock of one side.
pub(super) struct Admission {
    lock: RobustMutex,
    parked: SharedRef<EventCell>,
    /// Processes that found nothing to do on this side sleep here.
    idle: SharedRef<EventCell>,
    header: SharedRef<QueueHeader>,
    /// Reads how much has ever passed this side.
    passed: fn(&QueueHeader) -> Passed,
    /// What is left of this handle's quantum; negative for work beyond it.
    left: AtomicI64,
    /// 0 while the quantum lasts. Then the next process was woken, and this counts the parts of a quantum
    /// since.
    over: AtomicU32,
    /// What this handle has learned about waits on this side.
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

    /// Takes the lock if it is free and the quantum is not used up. That is enough for most calls, which then
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
        // A call that must not wait for messages must not be parked, and neither must one that cannot have the
        // lock.
        if deadline == Deadline::Now || !self.lock.has_slot() {
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

    /// Takes the lock, unless a process keeps it for longer than an operation takes.
    pub(super) fn spin(&self) -> Option<Guard<'_>> {
        self.lock.try_lock().or_else(|| self.lock.spin())
    }

    /// Before an operation: parks if this handle's quantum is used up and another process has arrived. True
    /// if the quantum has just ended.
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
            // A parked process, or else one that sleeps because others were always faster.
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

    /// Begins a quantum; or, with `over` above 0, a part of one while the next process is coming.
    fn begin_quantum(&self, over: u32) {
        self.over.store(over, Ordering::Relaxed);
        let left = if over == 0 { QUANTUM } else { PART };
        self.left.store(left, Ordering::Relaxed);
    }

    /// Spins until `ready`, and parks if others did a whole quantum meanwhile. True if it is worth trying
    /// again.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(super) fn spin_until(&self, deadline: Deadline, ready: impl Fn() -> bool) -> Result<bool> {
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

    /// Shows the threads that wait on this side: for something to do, or for its lock.
    pub(super) fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
        see(self.lock.waits());
    }

    /// Admits all processes: something happened that concerns each of them.
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
