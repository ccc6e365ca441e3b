//! A barrier: a fixed number of processes wait until all of them have arrived.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0    64  lock                         guards all that follows, but for `ended`
//!     64     8  round    the lock's owner    the round's number, and how the last one ended
//!     72     8  parties  creator             constant; at least 1
//!     80    12  ended    any process         processes that arrive while a round is full sleep here
//!     96        waiters  the lock's owner    which processes wait in this round
//!
//! round      bit 0    broken: every wait fails until the barrier is reset
//!            bit 1    the last round was broken
//!            2..64    number of the round
//! number of a waiter  bits 0..16: how many arrived before it; the rest: number of the round
//! ```
//! A round ends by one store of `round`, which determines the state of its waiters: if the process that
//! notifies them dies, the next owner of the lock notifies every waiter that is still in an older round, and
//! frees the places of an older round whose owners have left.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Shared, SharedRef};
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, shared_object};
use crate::sync::{
    EndWaits, EventCell, Guard, LockCell, Nap, RobustMutex, WaitPolicy, Waits, crash::crash_point,
};
use crate::sys::clock::{Deadline, IntoTimeout};

use super::object;
use super::waiters::{BROKEN, LEFT, NOTIFIED, WAITING, Waiter, WaiterTable};

const LAYOUT: u64 = 0x4241_5252_0000_0003;

/// Half of the waiter table: some waiters of the round before may not have left yet.
const MOST: u64 = 512;

#[repr(C)]
struct BarrierState {
    lock: LockCell,
    round: AtomicU64,
    parties: AtomicU64,
    ended: EventCell,
    _unused: u32,
    waiters: WaiterTable,
}

const _: () = assert!(std::mem::offset_of!(BarrierState, round) == 64);
const _: () = assert!(std::mem::offset_of!(BarrierState, ended) == 80);
const _: () = assert!(std::mem::offset_of!(BarrierState, waiters) == 96);

// SAFETY: `repr(C)`, shared structures, and `_unused`, which is never accessed.
unsafe impl Shared for BarrierState {}

const IS_BROKEN: u64 = 1;
const WAS_BROKEN: u64 = 2;

/// How `observe` reads a barrier without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &BarrierState, found| {
            found.len = Some(state.parties.load(Ordering::Relaxed));
            found.poisoned = state.round.load(Ordering::Relaxed) & IS_BROKEN != 0;
            state.waiters.inspect(found);
        })
    },
};

/// A place in a round of a [`Barrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The place, for [`Barrier::sleep`].
    pub place: u32,
    /// How many arrived before: 0 to one less than there are parties.
    pub index: u32,
    /// Whether all have arrived: then the caller has to [open](Barrier::release) the barrier.
    pub last: bool,
}

/// A meeting point for a fixed number of processes or threads, used round after round.
///
/// When a waiter dies or times out, the barrier is *broken*: all waiters, and all that arrive later, get the
/// error `Poisoned` until a process [resets](Self::reset) it.
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
    state: SharedRef<BarrierState>,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

shared_object!(
    Barrier,
    "barrier",
    |it| &it.segment,
    /// A thread that waited here gives up its place, which breaks the barrier.
);
debug_by_name!(Barrier);

impl Barrier {
    /// Opens the barrier `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt`; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), 1, &Options::open())
    }

    /// Opens or creates a barrier as `options` say. Options of size do not apply. A new one
    /// is for `parties`, from 1 to 512.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// or `TooMany` number of parties.
    pub fn with_options(name: Option<&str>, parties: u64, options: &Options) -> Result<Self> {
        if options.creates(name) && parties == 0 {
            return Err(Error::invalid("parties", "a barrier needs at least one"));
        }
        if parties > MOST {
            return Err(Error::TooMany {
                what: "number of parties",
                count: parties,
                limit: MOST,
            });
        }
        let init = |state: &BarrierState| {
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

    /// How many processes or threads a round needs.
    pub fn parties(&self) -> u64 {
        self.state.parties.load(Ordering::Relaxed)
    }

    /// The same, checked against the limits of a barrier.
    fn checked_parties(&self) -> Result<u64> {
        match self.parties() {
            parties @ 1..=MOST => Ok(parties),
            parties => Err(Error::corrupt(format!("a barrier for {parties} parties"))),
        }
    }

    fn round(&self) -> u64 {
        self.state.round.load(Ordering::Acquire)
    }

    fn enter(&self) -> Result<Guard<'_>> {
        self.enter_until(Deadline::Never)
    }

    fn enter_until(&self, deadline: Deadline) -> Result<Guard<'_>> {
        object::enter(&self.mutex, deadline, || self.notify())
    }

    /// Notifies the waiters of rounds that have ended. The caller has the lock.
    fn notify(&self) {
        let round = self.round();
        let state = if round & WAS_BROKEN == 0 {
            NOTIFIED
        } else {
            BROKEN
        };
        for place in self.state.waiters.arrived() {
            if place.number() >> 16 == (round >> 2) & (u64::MAX >> 16) {
                continue;
            }
            if place.state() == LEFT {
                place.free();
            } else {
                place.set_state(state);
                place.wake();
            }
        }
        self.state.ended.notify_all();
    }

    /// Ends the round. The caller has the lock.
    fn end_round(&self, flags: u64) {
        let next = (self.round() >> 2).wrapping_add(1) << 2 | flags;
        self.state.round.store(next, Ordering::SeqCst);
        crash_point!();
        self.notify();
    }

    /// Breaks the barrier if a waiter is dead. The caller has the lock.
    fn check_waiters(&self) -> Result<()> {
        for place in self.state.waiters.waiting() {
            if !place.lives(&self.segment)? {
                self.end_round(IS_BROKEN | WAS_BROKEN);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until all have arrived, and returns how many arrived before the caller.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken, which happens when a waiter times out or dies; `Interrupted` when
    /// a signal handler ran before all had arrived: the caller then has not arrived; `Timeout` when it could not
    /// arrive because waiters of the round before had not left yet; `Detached` when the [waits through this
    /// handle](Self::end_waits) were ended, which breaks the barrier.
    pub fn wait(&self, timeout: impl IntoTimeout) -> Result<u32> {
        self.wait_with(timeout, || {})
    }

    /// As [`wait`](Self::wait); the last one to arrive runs `action` before it opens the barrier. If
    /// `action` panics, the barrier breaks.
    ///
    /// # Errors
    /// The same.
    pub fn wait_with(&self, timeout: impl IntoTimeout, action: impl FnOnce()) -> Result<u32> {
        let deadline = Deadline::after(timeout);
        let arrived = self.arrive_until(deadline)?;
        if arrived.last {
            let unless_it_panics = GiveUpOnDrop(self, arrived.place);
            action();
            std::mem::forget(unless_it_panics);
            self.release(arrived.place)?;
            return Ok(arrived.index);
        }
        loop {
            let waited = match self.sleep_until(arrived.place, deadline) {
                Err(Error::Timeout) => self.give_up(arrived.place),
                Err(Error::Detached) => match self.give_up(arrived.place) {
                    Ok(()) => Ok(()),
                    _ => Err(Error::Detached),
                },
                Err(Error::Interrupted) => match self.withdraw(arrived.place, WAITING)? {
                    Withdrawn::Early => Err(Error::Interrupted),
                    Withdrawn::Late => continue,
                    Withdrawn::Over(result) => result,
                },
                waited => waited,
            };
            return waited.map(|()| arrived.index);
        }
    }

    /// The first step of a wait in steps: arrives at the barrier. The last one to arrive then
    /// [opens](Self::release) it; the others [`sleep`](Self::sleep) until it does. Waits only while
    /// the round before has not ended.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken; `Timeout`; `Interrupted`.
    pub fn arrive(&self, timeout: impl IntoTimeout) -> Result<Arrival> {
        self.arrive_until(Deadline::after(timeout))
    }

    fn arrive_until(&self, deadline: Deadline) -> Result<Arrival> {
        loop {
            let guard = self.enter_until(deadline)?;
            let round = self.round();
            if round & IS_BROKEN != 0 {
                return Err(broken());
            }
            let waiters = &self.state.waiters;
            let mut taken: Vec<_> = waiters.arrived().map(|it| it.number() & 0xffff).collect();
            let parties = self.checked_parties()?;
            if (taken.len() as u64) < parties {
                taken.sort_unstable();
                let free = (0..).zip(&taken).find(|(at, taken)| at != *taken);
                let index = free.map_or(taken.len() as u64, |(at, _)| at);
                let last = taken.len() as u64 + 1 == parties;
                if last {
                    self.check_waiters()?;
                    if self.round() != round {
                        return Err(broken());
                    }
                }
                let number = (round >> 2) << 16 | index;
                let place = waiters.enter(&self.segment, Some(number))?;
                let index = index as u32;
                return Ok(Arrival { place, index, last });
            }
            self.check_waiters()?;
            drop(guard);
            let ended = || self.round() != round;
            let nap_ns = Nap::FIRST.ns();
            self.policy
                .sleep(&self.state.ended, nap_ns, deadline, ended)?;
        }
    }

    /// Opens the barrier, for the last one to arrive: all waiters continue.
    ///
    /// # Errors
    /// `Poisoned` if the barrier was broken meanwhile; `Invalid` if the place belongs to
    /// another process.
    pub fn release(&self, place: u32) -> Result<()> {
        let _guard = self.enter()?;
        let place = self.state.waiters.own(&self.segment, place)?;
        let result = outcome(place);
        if result.is_none() {
            self.end_round(0);
        }
        place.free();
        result.unwrap_or(Ok(()))
    }

    /// Sleeps until the barrier opens or breaks, and then gives up the place.
    ///
    /// # Errors
    /// `Poisoned` if the barrier is broken. `Timeout`, `Interrupted`: the caller still has its
    /// place, and may go on sleeping, [`give_up`](Self::give_up) or [`leave`](Self::leave).
    pub fn sleep(&self, place: u32, timeout: impl IntoTimeout) -> Result<()> {
        self.sleep_until(place, Deadline::after(timeout))
    }

    fn sleep_until(&self, at: u32, deadline: Deadline) -> Result<()> {
        let place = self.state.waiters.own(&self.segment, at)?;
        place.sleep(&self.policy, None, deadline, || {
            let _guard = self.enter_until(deadline)?;
            self.check_waiters()
        })?;
        match self.withdraw(at, WAITING)? {
            Withdrawn::Over(result) => result,
            _ => Err(Error::Timeout),
        }
    }

    /// Gives up waiting, which breaks the barrier, unless the round is over.
    ///
    /// # Errors
    /// `Poisoned` unless the round has ended before without breaking; `Invalid` if the place belongs to
    /// another process.
    pub fn give_up(&self, place: u32) -> Result<()> {
        let _guard = self.enter()?;
        let place = self.state.waiters.own(&self.segment, place)?;
        if outcome(place).is_none() {
            self.end_round(IS_BROKEN | WAS_BROKEN);
        }
        let result = outcome(place);
        place.free();
        result.unwrap_or_else(|| Err(broken()))
    }

    /// Stops waiting as if the caller had not arrived. If all have arrived, its arrival counts, and the
    /// round ends without it. Not for the last one to arrive.
    ///
    /// # Errors
    /// `Invalid` if the place belongs to another process.
    pub fn leave(&self, place: u32) -> Result<()> {
        self.withdraw(place, LEFT).map(drop)
    }

    /// Takes an arrival back and frees the place. If all have arrived, and the last of them has not
    /// [released](Self::release) them yet, the place gets the state `late` instead: if it were free, another
    /// process could arrive as the last one, too.
    fn withdraw(&self, place: u32, late: u32) -> Result<Withdrawn> {
        let _guard = self.enter()?;
        let place = self.state.waiters.own(&self.segment, place)?;
        let result = outcome(place);
        if result.is_none()
            && self.state.waiters.arrived().count() as u64 == self.checked_parties()?
        {
            place.set_state(late);
            return Ok(Withdrawn::Late);
        }
        place.free();
        Ok(result.map_or(Withdrawn::Early, Withdrawn::Over))
    }

    /// Breaks the barrier: all waiters, and all that arrive later, get `Poisoned`.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn abort(&self) -> Result<()> {
        let _guard = self.enter()?;
        self.end_round(IS_BROKEN | WAS_BROKEN);
        Ok(())
    }

    /// Makes a broken barrier usable again. Its current waiters get `Poisoned`.
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
        self.round() & IS_BROKEN != 0
    }

    /// How many living processes and threads wait. Asks the kernel about each process.
    ///
    /// # Errors
    /// As for [`abort`](Self::abort).
    pub fn waiting(&self) -> Result<usize> {
        let _guard = self.enter()?;
        self.state.waiters.count_living(&self.segment)
    }
}

impl EndWaits for Barrier {
    fn end_waits(&self) {
        if self.policy.waits.end([&self.state.ended]) {
            let mark = self.policy.waits.mark();
            self.state.waiters.wake_own(&self.segment, mark);
        }
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
        see(self.mutex.waits());
    }
}

/// How the round of a place ended, if it has.
fn outcome(place: &Waiter) -> Option<Result<()>> {
    match place.state() {
        NOTIFIED => Some(Ok(())),
        BROKEN => Some(Err(broken())),
        _ => None,
    }
}

fn broken() -> Error {
    Error::Poisoned {
        what: "the barrier is broken".into(),
    }
}

/// What the round was when an arrival was taken back.
enum Withdrawn {
    /// Not all had arrived.
    Early,
    /// All had arrived, but it was not over.
    Late,
    /// Over, with this result.
    Over(Result<()>),
}

struct GiveUpOnDrop<'a>(&'a Barrier, u32);

impl Drop for GiveUpOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.give_up(self.1);
    }
}
