//! A semaphore whose permits return when their holder dies.
//!
//! ```text
//! offset  size  field      written by          invariant
//!      0    64  lock                           guards all that follows, except `handoff`
//!     64     8  total      the lock's owner    how many permits there are
//!     72     8  available  the lock's owner    derived: `total` minus what is held
//!     80     8  bound      creator             constant; the most that may be available; 0: no bound
//!     88    40  handoff    any process         the waiters for a permit: see `sync::handoff`
//!    128        holds      the lock's owner    how many each process holds
//! ```
//! **Whose permit is released?** The semaphore cannot tell: one process may take permits and another
//! release them. So a release returns a permit of the caller if it holds any, else one that another process
//! holds, and adds a permit only if no process holds any. This is exact if the same process takes and
//! releases. If one side takes and the other releases, as with signals, the number of permits is always
//! right, and those permits of a dead process return that no other process released.
//!
//! **What if a process exits normally?** If permits count items, taking one consumes an item, and the process
//! need not live until the permit is released. Such a process declares before it exits that its permits are
//! *kept*: taken, but held by no process. A release by a process that holds no permit takes from the kept
//! ones first.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Shared, SharedRef};
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, shared_object};
use crate::sync::{
    Ask, EndWaits, Guard, Handoff, LockCell, RobustMutex, Try, WaitPolicy, Waits,
    crash::crash_point,
};
use crate::sys::clock::{Deadline, IntoTimeout};

use super::holds::Holds;
use super::object;

const LAYOUT: u64 = 0x5345_4d41_0000_0002;

/// The most permits that can be available.
const MOST: u64 = i32::MAX as u64;

#[repr(C)]
struct SemaphoreState {
    lock: LockCell,
    total: AtomicU64,
    available: AtomicU64,
    bound: AtomicU64,
    handoff: Handoff,
    holds: Holds,
}

const _: () = assert!(std::mem::offset_of!(SemaphoreState, total) == 64);
const _: () = assert!(std::mem::offset_of!(SemaphoreState, handoff) == 88);
const _: () = assert!(std::mem::offset_of!(SemaphoreState, holds) == 128);

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for SemaphoreState {}

/// How `observe` reads a semaphore without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &SemaphoreState, found| {
            found.len = Some(state.available.load(Ordering::Relaxed));
            state.holds.inspect("permits", found);
            let asleep = state.handoff.events().iter().any(|it| it.has_sleepers());
            found.sleeps("waiters", asleep);
        })
    },
};

/// A number of permits that processes and threads take and release.
///
/// A process holds the permits that it took. When it dies, or drops its handle, they return, unless it has
/// [kept](Self::keep) them. Any process may release: one that holds no permit releases another process's, and
/// adds a permit if no process holds any, unless the semaphore is bounded.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`; the child starts with no permits. The
/// last handle of all processes removes the semaphore, unless it was created
/// [persistent](Options::persistent).
///
/// ```
/// use shoal::{Options, Semaphore, Timeout};
///
/// let places = Semaphore::bounded(None, 2, &Options::create())?;
/// places.acquire(Timeout::Infinite)?;
/// assert_eq!(places.available()?, 1);
/// places.release(1)?;
/// assert!(places.release(1).is_err()); // there never were more than two
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Semaphore {
    state: SharedRef<SemaphoreState>,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

shared_object!(Semaphore, "semaphore", |it| &it.segment);
debug_by_name!(Semaphore);

impl Semaphore {
    /// Opens the semaphore `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt`; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), 0, &Options::open())
    }

    /// Opens or creates a semaphore as `options` say. Options of size do not apply. A new
    /// one has `permits`, and any number may be released.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `TooMany`
    /// for more than 2^31 - 1 permits.
    pub fn with_options(name: Option<&str>, permits: u64, options: &Options) -> Result<Self> {
        Self::of(name, permits, 0, options)
    }

    /// As [`with_options`](Self::with_options), but never more than `permits`, at least one,
    /// can be available.
    ///
    /// # Errors
    /// The same, and `Invalid` for 0 permits.
    pub fn bounded(name: Option<&str>, permits: u64, options: &Options) -> Result<Self> {
        if options.creates(name) && permits == 0 {
            return Err(Error::invalid("permits", "a bound of 0 permits nothing"));
        }
        Self::of(name, permits, permits, options)
    }

    fn of(name: Option<&str>, permits: u64, bound: u64, options: &Options) -> Result<Self> {
        check(permits)?;
        let init = |state: &SemaphoreState| {
            state.total.store(permits, Ordering::Relaxed);
            state.available.store(permits, Ordering::Relaxed);
            state.bound.store(bound, Ordering::Relaxed);
            Ok(())
        };
        let (segment, state) = object::open(name, options, (Kind::Semaphore, LAYOUT), init)?;
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
        object::enter(&self.mutex, deadline, || self.recount())
    }

    fn recount(&self) {
        let total = self.state.total.load(Ordering::Relaxed);
        let available = total.saturating_sub(self.state.holds.total());
        self.state.available.store(available, Ordering::Relaxed);
    }

    /// Takes a permit. Waits while none is available. A timeout of zero does not wait.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while it waited; `Detached` when it would have to wait
    /// and the [waits through this handle](Self::end_waits) were ended; `Poisoned`.
    pub fn acquire(&self, timeout: impl IntoTimeout) -> Result<()> {
        if self.try_acquire()? {
            return Ok(());
        }
        let deadline = Deadline::after(timeout);
        let is_free = || self.state.available.load(Ordering::Relaxed) != 0;
        let attempt = |how: Try| {
            if how.ask == Ask::Kernel {
                self.release_dead(deadline)?;
            }
            let taken = self.take(self.enter_until(deadline)?, how.woken)?;
            Ok(taken.then_some(()))
        };
        let handoff = &self.state.handoff;
        handoff.wait(&self.policy, deadline, is_free, attempt)
    }

    /// Takes a permit if one is available and no other process is changing the semaphore. Does not wait for
    /// that either.
    pub(crate) fn try_acquire(&self) -> Result<bool> {
        self.mutex
            .try_lock()
            .map_or(Ok(false), |guard| self.take(guard, false))
    }

    fn take(&self, guard: Guard<'_>, woken: bool) -> Result<bool> {
        let state = self.state;
        let available = state.available.load(Ordering::Relaxed);
        if available == 0 || (available == 1 && !state.handoff.admits(woken)) {
            return Ok(false);
        }
        let me = self.segment.owner();
        let mine = state.holds.count(me)?;
        let returned = state.holds.set(me, mine.saturating_add(1))?;
        let left = (available - 1).saturating_add(u64::from(returned));
        state.available.store(left, Ordering::Relaxed);
        crash_point!();
        drop(guard);
        // One wake-up is in flight at a time: a process that takes a permit and sees more of them wakes the
        // next waiter.
        if left > 0 {
            state.handoff.wake_next();
        }
        Ok(true)
    }

    /// Returns the permits of dead processes.
    fn release_dead(&self, deadline: Deadline) -> Result<()> {
        self.count(&self.enter_until(deadline)?).map(drop)
    }

    /// How many permits are available, once those of dead processes are returned.
    fn count(&self, _guard: &Guard<'_>) -> Result<u64> {
        if self.state.holds.release_dead(&self.segment)? {
            self.recount();
        }
        Ok(self.state.available.load(Ordering::Relaxed))
    }

    /// Releases `count` permits: the caller's own first, then others'.
    ///
    /// # Errors
    /// `Invalid` if the semaphore is bounded and more permits than its bound would be available; `TooMany`
    /// beyond 2^31 - 1. After an error, no permit was released.
    pub fn release(&self, count: u32) -> Result<()> {
        self.give(self.enter()?, count)
    }

    /// [`release`](Self::release), unless another process is changing the semaphore: then this does not wait,
    /// and returns false.
    pub(crate) fn try_release(&self, count: u32) -> Result<bool> {
        let Some(guard) = self.mutex.try_lock() else {
            return Ok(false);
        };
        self.give(guard, count).map(|()| true)
    }

    fn give(&self, guard: Guard<'_>, count: u32) -> Result<()> {
        let state = self.state;
        let available = state.available.load(Ordering::Relaxed);
        let sum = available.saturating_add(u64::from(count));
        check(sum)?;
        let bound = state.bound.load(Ordering::Relaxed);
        if bound != 0 && sum > bound {
            let why =
                format!("it was released more often than acquired, beyond its bound of {bound}");
            return Err(Error::invalid("semaphore", why));
        }
        let (me, mut left) = (self.segment.owner(), count);
        // At most one step for each holder, however large the counts are.
        while left > 0 {
            let held = state.holds.count(me)?;
            let mut released = held.min(left);
            if released > 0 {
                state.holds.set(me, held - released)?;
            } else {
                released = state.holds.take_from_any(left);
            }
            if released == 0 {
                state.total.fetch_add(left.into(), Ordering::Relaxed);
                released = left;
            }
            crash_point!();
            left -= released;
            state
                .available
                .store(sum - u64::from(left), Ordering::Relaxed);
            crash_point!();
        }
        drop(guard);
        state.handoff.wake_next();
        Ok(())
    }

    /// Makes the permits that this process holds stay taken after its end, until a process releases them.
    /// Permits that it acquires later return with its death as usual.
    ///
    /// For a process that exits normally, if permits count items.
    ///
    /// # Errors
    /// `Poisoned`; `Corrupt`.
    ///
    /// ```
    /// use shoal::{Options, Semaphore, Timeout};
    ///
    /// let items = Semaphore::with_options(None, 2, &Options::create())?;
    /// let consumer = Semaphore::open(items.name())?;
    /// consumer.acquire(Timeout::Infinite)?;
    /// consumer.keep()?;
    /// drop(consumer);
    /// assert_eq!(items.available()?, 1);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn keep(&self) -> Result<()> {
        let _guard = self.enter()?;
        self.state.holds.keep(self.segment.owner())
    }

    /// How many permits this process holds: acquired through this handle, and neither released nor kept.
    ///
    /// # Errors
    /// `Poisoned`; `Corrupt`.
    pub fn held(&self) -> Result<u32> {
        let _guard = self.enter()?;
        self.state.holds.count(self.segment.owner())
    }

    /// How many permits are available, including those of dead processes. Asks the kernel about
    /// each process that holds any.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn available(&self) -> Result<u64> {
        self.count(&self.enter()?)
    }

    /// [`available`](Self::available), unless another process is changing the semaphore: then this does not
    /// wait, and returns `None`.
    pub(crate) fn try_available(&self) -> Result<Option<u64>> {
        let guard = self.mutex.try_lock();
        guard.map(|guard| self.count(&guard)).transpose()
    }
}

impl EndWaits for Semaphore {
    fn end_waits(&self) {
        self.policy.waits.end(self.state.handoff.events());
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
        see(self.mutex.waits());
    }
}

fn check(permits: u64) -> Result<()> {
    if permits > MOST {
        return Err(Error::TooMany {
            what: "number of permits",
            count: permits,
            limit: MOST,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_does_not_wait_for_a_process_that_is_changing_the_semaphore() -> Result<()> {
        let permits = Semaphore::bounded(None, 1, &Options::create())?;
        let other = Semaphore::open(permits.segment.name())?;
        let busy = other.enter()?;
        assert!(!permits.try_acquire()?);
        assert!(!permits.try_release(1)?);
        drop(busy);
        assert!(permits.try_acquire()?);
        assert!(!permits.try_acquire()?);
        assert!(permits.try_release(1)?);
        assert!(permits.try_release(1).is_err());
        assert_eq!(permits.available()?, 1);
        Ok(())
    }
}
