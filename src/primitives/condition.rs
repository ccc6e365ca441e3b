//! A condition: processes wait for a change, and others notify them of it.
//!
//! ```text
//! offset  size  field   written by          invariant
//!      0    64  lock                        guards the waiters; not the program's lock
//!     64        waiters the lock's owner    which processes wait, in which order, and which are
//!                                           notified
//! ```
//! A waiter takes its entry before it releases the program's lock, and gives the entry up only when
//! it has that lock again, or will not take it. If it is notified and dies before that, the other waiters find the
//! notification at the end of a slice and pass it on. If it dies later, it holds the program's lock, and
//! the next owner of that lock gets `OwnerDied`.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::{Shared, SharedRef};
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, plain_open, shared_object};
use crate::sync::{Acquisition, EndWaits, Guard, LockCell, RobustMutex, WaitPolicy, Waits};
use crate::sys::clock::{Deadline, IntoTimeout};

use super::lock::Lock;
use super::object;
use super::waiters::{NOTIFIED, WaiterTable};

const LAYOUT: u64 = 0x434f_4e44_0000_0002;

#[repr(C)]
struct ConditionState {
    lock: LockCell,
    waiters: WaiterTable,
}

const _: () = assert!(std::mem::offset_of!(ConditionState, waiters) == 64);

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for ConditionState {}

/// How `observe` reads a condition without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &ConditionState, found| {
            state.waiters.inspect(found);
        })
    },
};

/// How a wait for a [`Condition`] ended. The lock is held again in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// Whether the waiter was notified; otherwise the wait timed out.
    pub notified: bool,
    /// Whether the lock was taken over from an owner that died.
    pub taken: Acquisition,
}

/// A condition variable: waits for a change of state that a [`Lock`] guards.
///
/// A notification reaches a living waiter if there is one: dead ones are skipped, and the
/// notification of a waiter that dies is passed on to another. Notifying does not wait.
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
///         changed.notify(1) // after the wait below has begun, which releases the lock
///     });
///     assert!(changed.wait(&lock, Timeout::Infinite)?.notified);
///     drop(guard);
///     Ok::<(), shoal::Error>(())
/// })?;
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Condition {
    state: SharedRef<ConditionState>,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

plain_open!(Condition, "condition");
shared_object!(Condition, "condition", |it| &it.segment);
debug_by_name!(Condition);

impl Condition {
    /// Opens or creates a condition as `options` say. Options of size do not apply.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let init = |_: &ConditionState| Ok(());
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

    fn enter(&self) -> Result<Guard<'_>> {
        self.enter_until(Deadline::Never)
    }

    fn enter_until(&self, deadline: Deadline) -> Result<Guard<'_>> {
        // Every entry is changed by one store, and nothing is derived.
        object::enter(&self.mutex, deadline, || ())
    }

    /// Releases `lock`, which the caller has, waits until notified, and takes the lock again, with as
    /// many levels as before. All waiters of a condition use the same lock.
    ///
    /// # Errors
    /// `Invalid` if the lock is not held, or not by this thread if it is recursive; `Interrupted` when a
    /// signal handler ran, and `Detached` when the [waits through this handle](Self::end_waits) were ended,
    /// with the lock held again; `Exhausted` if 1024 wait already. `Detached`, without the lock, if the waits
    /// through the lock's handle were ended: a thread that is waiting then notices within a tenth of a second.
    pub fn wait(&self, lock: &Lock, timeout: impl IntoTimeout) -> Result<Wake> {
        let deadline = Deadline::after(timeout);
        // The thread is counted until the lock is taken again, even after a notification: at the lock too,
        // which it uses after the sleep.
        self.policy.waits.count();
        lock.waits().count();
        let place = self.enlist_until(deadline)?;
        let depth = match lock.release_all() {
            Ok(depth) => depth,
            Err(err) => {
                self.leave(place)?;
                return Err(err);
            }
        };
        let slept = self.sleep_until(place, deadline, Some(lock.waits()));
        let detached = slept == Err(Error::Detached);
        let taken = match detached && lock.waits().is_ended() {
            true => Err(Error::Detached),
            false => lock.take_back(depth),
        };
        // A caller that gets an error instead of the notification leaves it to another waiter.
        let notified = self.give_up(place, !detached && taken.is_ok())?;
        let taken = taken?;
        match slept {
            // A notification or a dead owner must be reported, so they take precedence over the error.
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

    /// The first step of a wait in steps: takes a place while the caller holds the lock. The next
    /// steps are: release the lock, [`sleep`](Self::sleep), take the lock, and
    /// [`leave`](Self::leave).
    ///
    /// # Errors
    /// `Exhausted` if 1024 wait already.
    pub fn enlist(&self) -> Result<u32> {
        self.enlist_until(Deadline::Never)
    }

    fn enlist_until(&self, deadline: Deadline) -> Result<u32> {
        let guard = self.enter_until(deadline)?;
        if self.state.waiters.is_full() {
            // Otherwise a dead waiter's entry would be taken over, and its notification lost.
            self.pass_on(&guard)?;
        }
        self.state.waiters.enter(&self.segment, None)
    }

    /// Sleeps until the place is notified.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted`; `Invalid` if the place belongs to another process.
    pub fn sleep(&self, place: u32, timeout: impl IntoTimeout) -> Result<()> {
        self.sleep_until(place, Deadline::after(timeout), None)
    }

    fn sleep_until(&self, place: u32, deadline: Deadline, lock: Option<&Waits>) -> Result<()> {
        let place = self.state.waiters.own(&self.segment, place)?;
        let look = || self.pass_on(&self.enter_until(deadline)?);
        place.sleep(&self.policy, lock, deadline, look).map(drop)
    }

    /// Gives up the place, and returns whether it was notified.
    ///
    /// # Errors
    /// `Invalid` if the place belongs to another process.
    pub fn leave(&self, place: u32) -> Result<bool> {
        self.give_up(place, true)
    }

    /// Gives up the place. Returns whether it was notified; if not `keeps`, the notification is passed on.
    fn give_up(&self, place: u32, keeps: bool) -> Result<bool> {
        let _guard = self.enter()?;
        let place = self.state.waiters.own(&self.segment, place)?;
        let notified = place.state() == NOTIFIED;
        let passed = match notified && !keeps {
            // Notified first: a kill in between notifies one waiter too many, not one too few.
            true => self.notify_before(1, place.number()),
            false => Ok(()),
        };
        place.free();
        passed.map(|()| notified && keeps)
    }

    /// Wakes at most `count` waiters, the longest waiting first. Call it with the lock held:
    /// otherwise a waiter may check the state before the change and begin to wait after the
    /// notification.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn notify(&self, count: u32) -> Result<()> {
        let _guard = self.enter()?;
        self.notify_before(count, u64::MAX)
    }

    /// Wakes all waiters.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn notify_all(&self) -> Result<()> {
        self.notify(u32::MAX)
    }

    /// Notifies `count` living waiters whose numbers are below `end`. The caller has the lock.
    fn notify_before(&self, count: u32, end: u64) -> Result<()> {
        let waiters = &self.state.waiters;
        // Each number is read once: sorting may panic if numbers change meanwhile.
        let numbered = waiters.waiting().map(|it| (it.number(), it));
        let mut waiting: Vec<_> = numbered.filter(|(number, _)| *number < end).collect();
        waiting.sort_unstable_by_key(|(number, _)| *number);
        let mut left = count;
        for (_, place) in waiting {
            if left == 0 {
                break;
            }
            if place.lives(&self.segment)? {
                // If it dies, the notification goes to a process that is waiting by now.
                place.number.store(waiters.next(), Ordering::Relaxed);
                place.set_state(NOTIFIED);
                place.wake();
                left -= 1;
            } else {
                place.free();
            }
        }
        Ok(())
    }

    /// Passes on the notifications of waiters that died before they could act on them.
    fn pass_on(&self, _guard: &Guard<'_>) -> Result<()> {
        for place in self.state.waiters.entries() {
            if place.state() == NOTIFIED && !place.lives(&self.segment)? {
                // Notified first: a kill in between notifies one waiter too many, not one too few.
                self.notify_before(1, place.number())?;
                place.free();
            }
        }
        Ok(())
    }

    /// How many living processes and threads wait and are not notified yet. Asks the kernel about
    /// each process.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn waiting(&self) -> Result<usize> {
        let _guard = self.enter()?;
        self.state.waiters.count_living(&self.segment)
    }
}

impl EndWaits for Condition {
    fn end_waits(&self) {
        if self.policy.waits.end([]) {
            let mark = self.policy.waits.mark();
            self.state.waiters.wake_own(&self.segment, mark);
        }
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
        see(self.mutex.waits());
    }
}
