//! A condition: those who wait for a change, and those who tell of it.
//!
//! ```text
//! offset  size  field   written by          invariant
//!      0    64  lock                        guards the roster; not the program's lock
//!     64        roster  the lock's owner    who waits, in which order, and who was told
//! ```
//! A waiter takes its place before it lets go of the program's lock, and gives it up only when
//! it has that lock again. So a notification that was meant for one who died before that is
//! seen by the others, at the end of a slice, and passed on. One who holds the lock when it dies
//! leaves the news with the lock.

use std::sync::atomic::Ordering;

use crate::Timeout;
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::segment::{self, Kind, Options, Segment};
use crate::sync::{Acquisition, EndWaits, Guard, LockCell, RobustMutex, WaitPolicy, left};
use crate::sys::clock::Deadline;

use super::lock::Lock;
use super::object;
use super::roster::{Roster, TOLD};

const LAYOUT: u64 = 0x434f_4e44_0000_0002;

#[repr(C)]
struct State {
    lock: LockCell,
    roster: Roster,
}

const _: () = assert!(std::mem::offset_of!(State, roster) == 64);

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for State {}

/// How a wait for a [`Condition`] ended. The lock is held again in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// Whether somebody notified; if not, the time was up.
    pub notified: bool,
    /// Whether the lock came from one who died with it.
    pub taken: Acquisition,
}

/// Waiting for a change of something that a [`Lock`] guards.
///
/// A notification reaches a living waiter if there is one: the dead are passed over, and what
/// one was told before it died is told to another. Notifying never waits for a waiter.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`. The last handle of all processes
/// removes the condition, unless it was created [persistent](Options::persistent).
///
/// ```
/// use shoal::{Condition, Lock, Timeout};
///
/// let (lock, changed) = (Lock::anonymous()?, Condition::anonymous()?);
/// std::thread::scope(|scope| {
///     let guard = lock.lock(Timeout::Infinite)?;
///     scope.spawn(|| {
///         let _guard = lock.lock(Timeout::Infinite)?;
///         changed.notify(1) // after the wait below has begun, which lets go of the lock
///     });
///     assert!(changed.wait(&lock, Timeout::Infinite)?.notified);
///     drop(guard);
///     Ok::<(), shoal::Error>(())
/// })?;
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Condition {
    state: &'static State,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

impl Condition {
    /// Opens the condition `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt`; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::open())
    }

    /// Creates a condition under a name nobody else has.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn anonymous() -> Result<Self> {
        Self::with_options(None, &Options::create())
    }

    /// Opens or creates a condition as `options` say, which have no sizes.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let init = |_: &State| Ok(());
        let (segment, state) = object::open(name, options, (Kind::Condition, LAYOUT), init)?;
        // SAFETY: initialised before it was published; the segment is the last field.
        let mutex = unsafe { RobustMutex::attach(&state.lock, segment.peers()) };
        Ok(Self {
            state,
            mutex,
            policy: WaitPolicy::default(),
            segment,
        })
    }

    /// The name to open this condition by.
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Whether this handle created it.
    pub(crate) fn is_new(&self) -> bool {
        self.segment.is_new()
    }

    fn enter(&self) -> Result<Guard<'_>> {
        // Every place is changed by one store, and nothing is derived.
        object::enter(&self.mutex, || ())
    }

    /// Lets go of `lock`, which the caller has, waits until notified, and takes it again: as
    /// often as the caller had it. All waiters of a condition use the same lock.
    ///
    /// # Errors
    /// `Invalid` if the lock is not held, or not by this thread if it is recursive;
    /// `Interrupted` when a signal handler ran, and `Detached` when the [waits through this
    /// handle](Self::end_waits) were ended, with the lock held again; `Exhausted` if a thousand wait
    /// already. `Detached`, and the lock is not held, if the waits through the lock's handle were
    /// ended.
    pub fn wait(&self, lock: &Lock, timeout: Timeout) -> Result<Wake> {
        let deadline = Deadline::after(timeout);
        // Until the lock is taken again, whatever is told before.
        let _inside = self.policy.waits.enter();
        let place = self.enlist()?;
        let depth = match lock.release_all() {
            Ok(depth) => depth,
            Err(err) => {
                self.leave(place)?;
                return Err(err);
            }
        };
        let slept = self.sleep_until(place, deadline);
        let detached = slept == Err(Error::Detached);
        if detached {
            // SAFETY: the handle is borrowed, and counted above.
            unsafe { left() };
        }
        let taken = lock.take_back(depth);
        let mut notified = self.leave(place)?;
        if notified && (detached || taken.is_err()) {
            // This one does not act on it.
            self.notify(1)?;
            notified = false;
        }
        let taken = taken?;
        match slept {
            // Else there are news of the lock, or of what it guards.
            Err(err @ (Error::Interrupted | Error::Detached))
                if !notified && taken == Acquisition::Clean =>
            {
                Err(err)
            }
            Err(Error::Interrupted | Error::Detached | Error::Timeout) | Ok(()) => {
                Ok(Wake { notified, taken })
            }
            Err(err) => Err(err),
        }
    }

    /// The first part of a wait, for those who wait piecewise: takes a place, while the lock is
    /// held. Then release the lock, [`sleep`](Self::sleep), take the lock, and
    /// [`leave`](Self::leave).
    ///
    /// # Errors
    /// `Exhausted` if a thousand wait already.
    pub fn enlist(&self) -> Result<u32> {
        let guard = self.enter()?;
        if self.state.roster.is_full() {
            // Or the place of one who died would be taken over with what that one was told.
            self.pass_on(&guard)?;
        }
        self.state.roster.enter(&self.segment, None)
    }

    /// Sleeps until the place was notified.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted`; `Invalid` if the place is not this process's.
    pub fn sleep(&self, place: u32, timeout: Timeout) -> Result<()> {
        self.sleep_until(place, Deadline::after(timeout))
    }

    fn sleep_until(&self, place: u32, deadline: Deadline) -> Result<()> {
        let place = self.state.roster.own(&self.segment, place)?;
        place
            .sleep(&self.policy, deadline, || self.pass_on(&self.enter()?))
            .map(drop)
    }

    /// Gives up the place, and says whether it was notified.
    ///
    /// # Errors
    /// `Invalid` if the place is not this process's.
    pub fn leave(&self, place: u32) -> Result<bool> {
        let _guard = self.enter()?;
        let place = self.state.roster.own(&self.segment, place)?;
        let notified = place.state() == TOLD;
        place.free();
        Ok(notified)
    }

    /// Wakes at most `count` of those who wait, the longest waiting first. Call it with the lock
    /// held, or a change may slip between a waiter's look and its wait.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn notify(&self, count: u32) -> Result<()> {
        let _guard = self.enter()?;
        self.tell(count, u64::MAX)
    }

    /// Wakes all who wait.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn notify_all(&self) -> Result<()> {
        self.notify(u32::MAX)
    }

    /// Tells `count` living waiters of those who came before the number `end`. With the lock.
    fn tell(&self, count: u32, end: u64) -> Result<()> {
        let roster = &self.state.roster;
        // Each number is read once: a sort may panic where they change meanwhile.
        let numbered = roster.waiting().map(|it| (it.number(), it));
        let mut waiting: Vec<_> = numbered.filter(|(number, _)| *number < end).collect();
        waiting.sort_unstable_by_key(|(number, _)| *number);
        let mut left = count;
        for (_, place) in waiting {
            if left == 0 {
                break;
            }
            if place.lives(&self.segment)? {
                // Should it die, this is for those who were there by now.
                place.number.store(roster.next(), Ordering::Relaxed);
                place.tell(TOLD);
                place.wake();
                left -= 1;
            } else {
                place.free();
            }
        }
        Ok(())
    }

    /// Tells others what somebody was told who died before it could act on it.
    fn pass_on(&self, _guard: &Guard<'_>) -> Result<()> {
        for place in self.state.roster.places() {
            if place.state() == TOLD && !place.lives(&self.segment)? {
                // Told first: killed in between, one more is told than need be.
                self.tell(1, place.number())?;
                place.free();
            }
        }
        Ok(())
    }

    /// How many wait and have not been notified. The dead do not count: the kernel is asked about
    /// each process.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn waiting(&self) -> Result<usize> {
        let _guard = self.enter()?;
        self.state.roster.count_living(&self.segment)
    }

    /// Ends the waits through this handle, as [`Queue::end_waits`](crate::Queue::end_waits).
    pub fn end_waits(&self) {
        if self.policy.waits.end([]) {
            let mark = self.policy.waits.mark();
            self.state.roster.nudge(&self.segment, mark);
        }
    }

    /// Removes the name of a condition. Those who have it open keep it.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` if the name is not a condition's; `Permission`.
    pub fn unlink(name: &str) -> Result<()> {
        segment::unlink_kind(name, Kind::Condition)
    }
}

impl EndWaits for Condition {
    fn end_waits(&self) {
        Condition::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        self.policy.waits.is_busy()
    }
}
