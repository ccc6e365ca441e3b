//! A barrier: a number of processes wait until all of them are there.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0    64  lock                         guards all that follows, but for `turned`
//!     64     8  turn     the lock's owner    says which round it is, and how the last ended
//!     72     8  parties  creator             constant; at least 1
//!     80    12  turned   everybody           those who come while a round is full
//!     96        roster   the lock's owner    who waits in this round
//!
//! turn       bit 0    broken: every wait fails until it is reset
//!            bit 1    the last round was broken
//!            2..64    the round
//! number of a place   bits 0..16: how many came before; the rest: the round
//! ```
//! A round ends by one store of `turn`. What those who wait are told follows from it: should the
//! one that tells them die, the heir of the lock tells whoever still waits in an older round.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Timeout;
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::segment::{self, Kind, Options, Segment};
use crate::sync::{
    EndWaits, EventCell, Guard, LockCell, Nap, RobustMutex, WaitPolicy, crash::crash_point, left,
};
use crate::sys::clock::Deadline;

use super::object;
use super::roster::{BROKEN, Place, Roster, TOLD};

const LAYOUT: u64 = 0x4241_5252_0000_0002;

/// Half of those who can wait: some of the round before may not have left yet.
const MOST: u64 = 512;

#[repr(C)]
struct State {
    lock: LockCell,
    turn: AtomicU64,
    parties: AtomicU64,
    turned: EventCell,
    _unused: u32,
    roster: Roster,
}

const _: () = assert!(std::mem::offset_of!(State, turn) == 64);
const _: () = assert!(std::mem::offset_of!(State, turned) == 80);
const _: () = assert!(std::mem::offset_of!(State, roster) == 96);

// SAFETY: `repr(C)`, shared structures only; `_unused` is never looked at.
unsafe impl Shared for State {}

const IS_BROKEN: u64 = 1;
const WAS_BROKEN: u64 = 2;

/// A place in a round of a [`Barrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The place, for [`Barrier::sleep`].
    pub place: u32,
    /// How many came before: 0 to one less than there are parties.
    pub index: u32,
    /// Whether all are there now: it is for the caller to [open](Barrier::release) the barrier.
    pub last: bool,
}

/// A meeting point for a fixed number of processes or threads, used round after round.
///
/// When one that waits dies, or its time is up, the barrier is *broken*: all who wait, and all
/// who come, get the error `Poisoned` until somebody [resets](Self::reset) it.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`. The last handle of all processes
/// removes the barrier, unless it was created [persistent](Options::persistent).
///
/// ```
/// use shoal::{Barrier, Options, Timeout};
///
/// let barrier = Barrier::with_options(None, 2, &Options::create())?;
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait(Timeout::Infinite));
///     let index = barrier.wait(Timeout::Infinite)?;
///     assert_eq!(index + other.join().unwrap()?, 1); // one was 0, one was 1
///     Ok::<(), shoal::Error>(())
/// })?;
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Barrier {
    state: &'static State,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

impl Barrier {
    /// Opens the barrier `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt`; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), 1, &Options::open())
    }

    /// Opens or creates a barrier as `options` say, which have no sizes. A new one is for
    /// `parties`, from 1 to 512.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// or `TooMany` number of parties.
    pub fn with_options(name: Option<&str>, parties: u64, options: &Options) -> Result<Self> {
        if options.create && parties == 0 {
            return Err(Error::invalid("parties", "a barrier is for one at least"));
        }
        if parties > MOST {
            return Err(Error::TooMany {
                what: "number of parties",
                count: parties,
                limit: MOST,
            });
        }
        let init = |state: &State| {
            state.parties.store(parties, Ordering::Relaxed);
            Ok(())
        };
        let (segment, state) = object::open(name, options, (Kind::Barrier, LAYOUT), init)?;
        // SAFETY: initialised before it was published; the segment is the last field.
        let mutex = unsafe { RobustMutex::attach(&state.lock, segment.peers()) };
        Ok(Self {
            state,
            mutex,
            policy: WaitPolicy::default(),
            segment,
        })
    }

    /// The name to open this barrier by.
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Whether this handle created it.
    pub(crate) fn is_new(&self) -> bool {
        self.segment.is_new()
    }

    /// How many meet here.
    pub fn parties(&self) -> u64 {
        self.state.parties.load(Ordering::Relaxed)
    }

    /// The same, if it is a number that can ever be there.
    fn checked_parties(&self) -> Result<u64> {
        match self.parties() {
            parties @ 1..=MOST => Ok(parties),
            parties => Err(Error::corrupt(format!("a barrier for {parties} parties"))),
        }
    }

    fn turn(&self) -> u64 {
        self.state.turn.load(Ordering::Acquire)
    }

    fn enter(&self) -> Result<Guard<'_>> {
        object::enter(&self.mutex, || self.tell())
    }

    /// Tells those who wait in a round that is over how it ended. With the lock.
    fn tell(&self) {
        let turn = self.turn();
        let state = if turn & WAS_BROKEN == 0 { TOLD } else { BROKEN };
        for place in self.state.roster.waiting() {
            if place.number() >> 16 != (turn >> 2) & (u64::MAX >> 16) {
                place.tell(state);
                place.wake();
            }
        }
        self.state.turned.notify_all();
    }

    /// Ends the round. With the lock.
    fn end_round(&self, flags: u64) {
        let next = (self.turn() >> 2).wrapping_add(1) << 2 | flags;
        self.state.turn.store(next, Ordering::SeqCst);
        crash_point!();
        self.tell();
    }

    /// Breaks the barrier if one of those who wait is dead. With the lock.
    fn check_on_waiters(&self) -> Result<()> {
        for place in self.state.roster.waiting() {
            if !place.lives(&self.segment)? {
                self.end_round(IS_BROKEN | WAS_BROKEN);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until all are there, and says how many came before the caller.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken, which it is when the time of one is up or one dies;
    /// `Interrupted` when a signal handler ran: then the caller has not come; `Timeout` when it has
    /// not come because those of the round before had not yet left.
    pub fn wait(&self, timeout: Timeout) -> Result<u32> {
        self.wait_with(timeout, || {})
    }

    /// As [`wait`](Self::wait); the last one to come runs `action` before it lets all go on. If
    /// that panics, the barrier breaks.
    ///
    /// # Errors
    /// The same.
    pub fn wait_with(&self, timeout: Timeout, action: impl FnOnce()) -> Result<u32> {
        let deadline = Deadline::after(timeout);
        let arrived = self.arrive_until(deadline)?;
        if arrived.last {
            let unless_it_panics = GiveUpOnDrop(self, arrived.place);
            action();
            std::mem::forget(unless_it_panics);
            self.release(arrived.place)?;
            return Ok(arrived.index);
        }
        match self.sleep_until(arrived.place, deadline) {
            Ok(()) => Ok(arrived.index),
            Err(Error::Timeout) => self.give_up(arrived.place).map(|()| arrived.index),
            Err(Error::Detached) => {
                let _inside = self.policy.waits.enter();
                // SAFETY: the handle is borrowed, and the thread counted.
                unsafe { left() };
                match self.give_up(arrived.place) {
                    Ok(()) => Ok(arrived.index),
                    _ => Err(Error::Detached),
                }
            }
            Err(Error::Interrupted) => match self.leave(arrived.place) {
                Ok(()) => Ok(arrived.index),
                _ => Err(Error::Interrupted),
            },
            Err(err) => Err(err),
        }
    }

    /// The first part of a wait, for those who wait piecewise: comes to the barrier. The last to
    /// come then [opens](Self::release) it, the others [`sleep`](Self::sleep) until it does. Waits
    /// only while the round before has not ended.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken; `Timeout`; `Interrupted`.
    pub fn arrive(&self, timeout: Timeout) -> Result<Arrival> {
        self.arrive_until(Deadline::after(timeout))
    }

    fn arrive_until(&self, deadline: Deadline) -> Result<Arrival> {
        loop {
            let guard = self.enter()?;
            let turn = self.turn();
            if turn & IS_BROKEN != 0 {
                return Err(broken());
            }
            let roster = &self.state.roster;
            let mut taken: Vec<_> = roster.waiting().map(|it| it.number() & 0xffff).collect();
            let parties = self.checked_parties()?;
            if (taken.len() as u64) < parties {
                taken.sort_unstable();
                let free = (0..).zip(&taken).find(|(at, taken)| at != *taken);
                let index = free.map_or(taken.len() as u64, |(at, _)| at);
                let last = taken.len() as u64 + 1 == parties;
                if last {
                    self.check_on_waiters()?;
                    if self.turn() != turn {
                        return Err(broken());
                    }
                }
                let number = (turn >> 2) << 16 | index;
                let place = roster.enter(&self.segment, Some(number))?;
                let index = index as u32;
                return Ok(Arrival { place, index, last });
            }
            self.check_on_waiters()?;
            drop(guard);
            let turned = || self.turn() != turn;
            let nap_ns = Nap::FIRST.ns();
            self.policy
                .sleep(&self.state.turned, nap_ns, deadline, turned)?;
        }
    }

    /// For the last one to come: lets all go on.
    ///
    /// # Errors
    /// `Poisoned` if the barrier was broken meanwhile; `Invalid` if the place is not this
    /// process's.
    pub fn release(&self, place: u32) -> Result<()> {
        let _guard = self.enter()?;
        let place = self.state.roster.own(&self.segment, place)?;
        let result = outcome(place);
        if result.is_none() {
            self.end_round(0);
        }
        place.free();
        result.unwrap_or(Ok(()))
    }

    /// Sleeps until the barrier opens or breaks, and gives up the place then.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken. `Timeout`, `Interrupted`: the caller still has its
    /// place, and may go on sleeping or [`give_up`](Self::give_up).
    pub fn sleep(&self, place: u32, timeout: Timeout) -> Result<()> {
        self.sleep_until(place, Deadline::after(timeout))
    }

    fn sleep_until(&self, at: u32, deadline: Deadline) -> Result<()> {
        let place = self.state.roster.own(&self.segment, at)?;
        place.sleep(&self.policy, deadline, || {
            let _guard = self.enter()?;
            self.check_on_waiters()
        })?;
        self.leave(at)
    }

    /// Gives up waiting, which breaks the barrier, unless the round is over.
    ///
    /// # Errors
    /// `Poisoned` unless the round ended well before; `Invalid` if the place is not this
    /// process's.
    pub fn give_up(&self, place: u32) -> Result<()> {
        let _guard = self.enter()?;
        let place = self.state.roster.own(&self.segment, place)?;
        if outcome(place).is_none() {
            self.end_round(IS_BROKEN | WAS_BROKEN);
        }
        let result = outcome(place);
        place.free();
        result.unwrap_or_else(|| Err(broken()))
    }

    /// Leaves as if the caller had not come, which is a `Timeout`, unless the round is over.
    fn leave(&self, place: u32) -> Result<()> {
        let _guard = self.enter()?;
        let place = self.state.roster.own(&self.segment, place)?;
        let result = outcome(place);
        place.free();
        result.unwrap_or(Err(Error::Timeout))
    }

    /// Breaks the barrier, for those who wait and those who come.
    ///
    /// # Errors
    /// That of the lock, only.
    pub fn abort(&self) -> Result<()> {
        let _guard = self.enter()?;
        self.end_round(IS_BROKEN | WAS_BROKEN);
        Ok(())
    }

    /// Makes a broken barrier whole. Those who wait get the error of a broken one.
    ///
    /// # Errors
    /// As for [`abort`](Self::abort).
    pub fn reset(&self) -> Result<()> {
        let _guard = self.enter()?;
        self.end_round(WAS_BROKEN);
        Ok(())
    }

    /// Whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.turn() & IS_BROKEN != 0
    }

    /// How many living processes and threads wait: the kernel is asked about each process.
    ///
    /// # Errors
    /// That of the lock.
    pub fn waiting(&self) -> Result<usize> {
        let _guard = self.enter()?;
        self.state.roster.count_living(&self.segment)
    }

    /// Ends the waits through this handle, as [`Queue::end_waits`](crate::Queue::end_waits).
    /// A thread that waited here gives up its place, which breaks the barrier.
    pub fn end_waits(&self) {
        if self.policy.waits.end([&self.state.turned]) {
            let mark = self.policy.waits.mark();
            self.state.roster.nudge(&self.segment, mark);
        }
    }

    /// Removes the name of a barrier. Those who have it open keep it.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` if the name is not a barrier's; `Permission`.
    pub fn unlink(name: &str) -> Result<()> {
        segment::unlink_kind(name, Kind::Barrier)
    }
}

impl EndWaits for Barrier {
    fn end_waits(&self) {
        Barrier::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        self.policy.waits.is_busy()
    }
}

/// How the round of a place ended, if it has.
fn outcome(place: &Place) -> Option<Result<()>> {
    match place.state() {
        TOLD => Some(Ok(())),
        BROKEN => Some(Err(broken())),
        _ => None,
    }
}

fn broken() -> Error {
    Error::Poisoned {
        what: "the barrier is broken".into(),
    }
}

struct GiveUpOnDrop<'a>(&'a Barrier, u32);

impl Drop for GiveUpOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.give_up(self.1);
    }
}
