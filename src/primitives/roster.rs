//! Those who wait, each in a place of its own that others can tell it something in.
//!
//! ```text
//! offset  size  field   written by          invariant
//!      0     4  used    the lock's owner    no place from here on was ever taken
//!      8     8  next    the lock's owner    the number of the next to come
//!     16        places  1024 of them
//!
//! place
//!      0     8  owner   the lock's owner    whose it is: see `sync::lock`
//!      8     8  number  the lock's owner    the object's own: an order, a round
//!     16     4  state   the lock's owner    says what becomes of it; a futex word
//! ```
//! All of it is guarded by the lock of the object it is part of; `state` is read, and slept on,
//! without. Each waiter sleeps on a word of its own, so a wake reaches exactly those who were
//! told something.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::segment::Segment;
use crate::sync::{Slept, WaitPolicy, crash::crash_point, pack, unpack};
use crate::sys::clock::Deadline;
use crate::sys::futex::{self, Waited};

const PLACES: usize = 1024;

/// Nobody's.
const FREE: u32 = 0;
/// Its owner waits.
pub(super) const WAITING: u32 = 1;
/// What it waited for has happened.
pub(super) const TOLD: u32 = 2;
/// What it waited for will not happen.
pub(super) const BROKEN: u32 = 3;

#[repr(C)]
pub(super) struct Place {
    owner: AtomicU64,
    pub(super) number: AtomicU64,
    state: AtomicU32,
    _unused: AtomicU32,
}

#[repr(C)]
pub(super) struct Roster {
    used: AtomicU32,
    _unused: AtomicU32,
    next: AtomicU64,
    places: [Place; PLACES],
}

const _: () = assert!(size_of::<Place>() == 24);
const _: () = assert!(std::mem::offset_of!(Roster, places) == 16);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Roster {}

impl Place {
    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// Tells its owner something, who is then to be [woken](Self::wake).
    pub(super) fn tell(&self, state: u32) {
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

    /// Gives the place back.
    pub(super) fn free(&self) {
        self.tell(FREE);
    }

    /// Sleeps until told something. After each slice, while it is not, `look` looks around.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; those of `look`.
    pub(super) fn sleep(
        &self,
        policy: &WaitPolicy,
        deadline: Deadline,
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<u32> {
        let told = || self.state() != WAITING;
        let mut nap = policy.nap();
        if deadline != Deadline::Now {
            policy.spin(told);
        }
        while !told() {
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            let (until, waits) = (deadline.slice(nap.ns()), &policy.waits);
            let _inside = waits.enter();
            if waits.is_ended() {
                return Err(waits.detached());
            }
            let sleep = || futex::wait_marked(&self.state, WAITING, until, waits.mark());
            match policy.slept(sleep) {
                Waited::Woken => policy.set_idle(false),
                Waited::TimedOut => {
                    policy.set_idle(true);
                    look()?;
                    nap.ended(Slept::TimedOut);
                }
                Waited::Interrupted => return Err(Error::Interrupted),
            }
        }
        Ok(self.state())
    }
}

impl Roster {
    /// The number the next to come gets.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The places that were ever taken.
    pub(super) fn places(&self) -> &[Place] {
        let used = self.used.load(Ordering::Relaxed) as usize;
        &self.places[..used.min(PLACES)]
    }

    /// Those who wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Place> {
        self.places().iter().filter(|it| it.state() == WAITING)
    }

    /// How many waiters live, by the kernel's word.
    pub(super) fn count_living(&self, segment: &Segment) -> Result<usize> {
        let mut living = 0;
        for place in self.waiting() {
            living += usize::from(place.lives(segment)?);
        }
        Ok(living)
    }

    /// Wakes the caller's own threads that sleep with this mark. One that was about to sleep finds
    /// out after its slice.
    pub(super) fn nudge(&self, segment: &Segment, mark: u32) {
        let me = pack(segment.owner());
        for place in self.waiting() {
            if place.owner.load(Ordering::Relaxed) == me {
                futex::wake_marked(&place.state, mark);
            }
        }
    }

    /// Takes a place for the caller, with a number or else the next one, and returns its index.
    ///
    /// # Errors
    /// `Exhausted` if as many as there can be wait already.
    pub(super) fn enter(&self, segment: &Segment, number: Option<u64>) -> Result<u32> {
        let at = match self.free() {
            Some(at) => at,
            None if self.places().len() < PLACES => self.places().len(),
            None => self.dead(segment)?.ok_or(Error::Exhausted {
                what: "waiters on one object",
                limit: PLACES as u64,
            })?,
        };
        let place = &self.places[at];
        if self.places().len() <= at {
            place.free();
            self.used.store(at as u32 + 1, Ordering::Relaxed);
            crash_point!();
        }
        let number = number.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed));
        place.owner.store(pack(segment.owner()), Ordering::Relaxed);
        place.number.store(number, Ordering::Relaxed);
        crash_point!();
        place.tell(WAITING);
        Ok(at as u32)
    }

    fn free(&self) -> Option<usize> {
        self.places().iter().position(|it| it.state() == FREE)
    }

    /// Whether nobody can come in but instead of one who died.
    pub(super) fn is_full(&self) -> bool {
        self.places().len() == PLACES && self.free().is_none()
    }

    /// A place whose owner died.
    fn dead(&self, segment: &Segment) -> Result<Option<usize>> {
        for (at, place) in self.places().iter().enumerate() {
            if !place.lives(segment)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The caller's place.
    ///
    /// # Errors
    /// `Invalid` if it is not the caller's.
    pub(super) fn own(&self, segment: &Segment, at: u32) -> Result<&Place> {
        let me = pack(segment.owner());
        let place = self.places().get(at as usize);
        place
            .filter(|it| it.owner.load(Ordering::Relaxed) == me && it.state() != FREE)
            .ok_or_else(|| Error::invalid("place", "it is not this process's"))
    }
}
