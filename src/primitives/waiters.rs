//! The waiters of one object: a table with an entry for each waiter, through which it is notified.
//!
//! ```text
//! offset  size  field   written by          invariant
//!      0     4  used    the lock's owner    no entry from here on was ever in use
//!      8     8  next    the lock's owner    the number of the next waiter
//!     16        table   1024 entries
//!
//! entry
//!      0     8  owner   the lock's owner    the waiting process: see `sync::lock`
//!      8     8  number  the lock's owner    an order or a round, as the object defines
//!     16     4  state   the lock's owner    FREE, WAITING, NOTIFIED, BROKEN, LEFT; a futex word
//! ```
//! The lock of the object guards all of it, but waiters read `state` and sleep on it without the
//! lock. Each waiter sleeps on a separate word, so a wake-up reaches exactly the notified waiters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::segment::{ObjectContents, Segment};
use crate::sync::{Slept, WaitPolicy, Waits, crash::crash_point, pack, unpack};
use crate::sys::clock::Deadline;
use crate::sys::futex::{self, Waited};

const ENTRIES: usize = 1024;

/// A state: the entry is not in use.
const FREE: u32 = 0;
/// A state: its owner waits.
pub(super) const WAITING: u32 = 1;
/// A state: what its owner waits for has happened.
pub(super) const NOTIFIED: u32 = 2;
/// A state: what its owner waits for will not happen.
pub(super) const BROKEN: u32 = 3;
/// A state: its owner no longer waits, but still counts as one that has arrived. Nobody is notified.
pub(super) const LEFT: u32 = 4;

#[repr(C)]
pub(super) struct Waiter {
    owner: AtomicU64,
    pub(super) number: AtomicU64,
    state: AtomicU32,
    _unused: AtomicU32,
}

#[repr(C)]
pub(super) struct WaiterTable {
    used: AtomicU32,
    _unused: AtomicU32,
    next: AtomicU64,
    table: [Waiter; ENTRIES],
}

const _: () = assert!(size_of::<Waiter>() == 24);
const _: () = assert!(std::mem::offset_of!(WaiterTable, table) == 16);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for WaiterTable {}

impl Waiter {
    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// Changes its state. The owner then has to be [woken](Self::wake).
    pub(super) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::SeqCst);
        crash_point!();
    }

    pub(super) fn wake(&self) {
        futex::wake(&self.state, 1);
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn lives(&self, segment: &Segment) -> Result<bool> {
        segment.is_attached(unpack(self.owner.load(Ordering::Relaxed)))
    }

    /// Gives the entry back.
    pub(super) fn free(&self) {
        self.set_state(FREE);
    }

    /// Sleeps until the state changes. Calls `check` after each slice of the sleep. If `also` is ended, it leaves
    /// after the slice.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; those of `check`.
    pub(super) fn sleep(
        &self,
        policy: &WaitPolicy,
        also: Option<&Waits>,
        deadline: Deadline,
        mut check: impl FnMut() -> Result<()>,
    ) -> Result<u32> {
        let has_changed = || self.state() != WAITING;
        let mut nap = policy.nap();
        if deadline != Deadline::Now {
            policy.spin(has_changed);
        }
        while !has_changed() {
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            let (until, waits) = (deadline.slice(nap.ns()), &policy.waits);
            waits.enter()?;
            also.map_or(Ok(()), Waits::check)?;
            let sleep = || futex::wait_marked(&self.state, WAITING, until, waits.mark());
            match policy.slept(sleep) {
                Waited::Woken => policy.set_idle(false),
                Waited::TimedOut => {
                    policy.set_idle(true);
                    check()?;
                    nap.ended(Slept::TimedOut);
                }
                Waited::Interrupted => return Err(Error::Interrupted),
            }
        }
        Ok(self.state())
    }
}

impl WaiterTable {
    /// The number that the next waiter gets.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The entries that were ever in use.
    pub(super) fn entries(&self) -> &[Waiter] {
        let used = self.used.load(Ordering::Relaxed) as usize;
        &self.table[..used.min(ENTRIES)]
    }

    /// The entries of waiting processes.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiter> {
        self.entries().iter().filter(|it| it.state() == WAITING)
    }

    /// The entries of processes that wait, and of those that count as if they did.
    pub(super) fn arrived(&self) -> impl Iterator<Item = &Waiter> {
        let states = [WAITING, LEFT];
        self.entries()
            .iter()
            .filter(move |it| states.contains(&it.state()))
    }

    /// Adds the waiters to `found`, dead ones too.
    pub(super) fn inspect(&self, found: &mut ObjectContents) {
        for waiter in self.waiting() {
            let owner = waiter.owner.load(Ordering::Relaxed);
            found.holds("wait", (owner != 0).then(|| unpack(owner)), 1);
        }
    }

    /// How many waiters live; asks the kernel.
    pub(super) fn count_living(&self, segment: &Segment) -> Result<usize> {
        let mut living = 0;
        for waiter in self.waiting() {
            living += usize::from(waiter.lives(segment)?);
        }
        Ok(living)
    }

    /// Wakes the caller's own threads that sleep with this mark. A thread that was about to sleep
    /// notices after its slice.
    pub(super) fn wake_own(&self, segment: &Segment, mark: u32) {
        let me = pack(segment.owner());
        for waiter in self.waiting() {
            if waiter.owner.load(Ordering::Relaxed) == me {
                futex::wake_marked(&waiter.state, mark);
            }
        }
    }

    /// Takes an entry for the caller, with `number` or else the next one, and returns its index.
    ///
    /// # Errors
    /// `Exhausted` if the table is full.
    pub(super) fn enter(&self, segment: &Segment, number: Option<u64>) -> Result<u32> {
        // Read once: other processes may write to it meanwhile.
        let entries = self.entries();
        let at = match entries.iter().position(|it| it.state() == FREE) {
            Some(at) => at,
            None if entries.len() < ENTRIES => entries.len(),
            None => self.dead(segment)?.ok_or(Error::Exhausted {
                what: "waiters on one object",
                limit: ENTRIES as u64,
            })?,
        };
        let waiter = &self.table[at];
        if entries.len() <= at {
            waiter.free();
            self.used.store(at as u32 + 1, Ordering::Relaxed);
            crash_point!();
        }
        let number = number.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed));
        waiter.owner.store(pack(segment.owner()), Ordering::Relaxed);
        waiter.number.store(number, Ordering::Relaxed);
        crash_point!();
        waiter.set_state(WAITING);
        Ok(at as u32)
    }

    /// Whether a new waiter could only take the entry of a dead one.
    pub(super) fn is_full(&self) -> bool {
        let entries = self.entries();
        entries.len() == ENTRIES && entries.iter().all(|it| it.state() != FREE)
    }

    /// An entry whose owner died.
    fn dead(&self, segment: &Segment) -> Result<Option<usize>> {
        for (at, waiter) in self.entries().iter().enumerate() {
            if !waiter.lives(segment)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The caller's entry.
    ///
    /// # Errors
    /// `Invalid` if it is not the caller's.
    pub(super) fn own(&self, segment: &Segment, at: u32) -> Result<&Waiter> {
        let me = pack(segment.owner());
        let waiter = self.entries().get(at as usize);
        waiter
            .filter(|it| {
                it.owner.load(Ordering::Relaxed) == me && ![FREE, LEFT].contains(&it.state())
            })
            .ok_or_else(|| {
                let taken = waiter.is_some_and(|it| ![FREE, LEFT].contains(&it.state()));
                Error::invalid(
                    "place",
                    match taken {
                        true => "it belongs to another handle or process",
                        false => "nobody waits there: it was given up before, or never taken",
                    },
                )
            })
    }
}
