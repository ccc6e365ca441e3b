//! A lock, plain or recursive.

use std::marker::PhantomData;
use std::sync::MutexGuard;

use crate::error::{Error, Result};
use crate::layout::SharedRef;
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, plain_open, shared_object};
use crate::sync::{Acquisition, EndWaits, LockCell, WaitPolicy, Waits};
use crate::sys::clock::{Deadline, IntoTimeout, Timeout};

use super::object;

const LAYOUT: u64 = 0x4c4f_434b_0000_0002;

/// How `observe` reads a lock without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &LockCell, found| {
            found.holds("lock", state.owner(), 1);
            found.sleeps("waiters", state.has_sleepers());
        })
    },
};

/// A lock between processes and threads, which outlives its owner.
///
/// The owner of a plain lock is the handle that took it, in its process: any thread may release it through that
/// handle. The owner of one made by [`recursive`](Self::recursive) is also the thread, which may take it again
/// and must release it as often. Waiting is a bounded spin and then a sleep in the kernel. There is no
/// order of arrival: the first process that asks for a free lock gets it. A waiter that was passed
/// over is served next, so none starves.
///
/// **When the owner dies**, or drops its last handle, the next caller gets the lock with
/// [`Acquisition::OwnerDied`]. That caller owns the lock like any other, and has to check whether the guarded
/// data is consistent.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`; a child does not own what its parent
/// holds, and cannot release it. The last handle of all processes removes the lock,
/// unless it was created [persistent](Options::persistent).
///
/// ```
/// use shoal::{Lock, Timeout};
///
/// let lock = Lock::anonymous()?;
/// let same = Lock::open(lock.name())?; // in another process, usually
/// {
///     let guard = lock.lock(Timeout::Infinite)?;
///     if guard.owner_died() {
///         // Repair the guarded data: the last owner did not finish.
///     }
///     assert!(same.is_held());
/// }
/// assert!(!same.is_held());
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Lock {
    cell: SharedRef<LockCell>,
    policy: WaitPolicy,
    // Last: `cell` points into it.
    segment: Segment,
}

/// Holds a [`Lock`] until dropped. In a child that is forked meanwhile, dropping the copy does nothing.
///
/// A recursive lock is its thread's, so the guard stays in the thread that took it. To release a plain lock in
/// another thread, [`acquire`](Lock::acquire) it without a guard.
///
/// ```compile_fail,E0277
/// # use shoal::{Lock, Options, Timeout};
/// # let lock = Lock::recursive(None, &Options::create()).unwrap();
/// let guard = lock.lock(Timeout::Infinite).unwrap();
/// std::thread::scope(|scope| scope.spawn(move || drop(guard)).join());
/// ```
#[must_use]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    me: u64,
    taken: Acquisition,
    // `Sync` and not `Send`: any thread may look at it, and only this one can release a recursive lock.
    _of_its_thread: PhantomData<MutexGuard<'static, ()>>,
}

impl std::fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LockGuard").field(self.lock).finish()
    }
}

plain_open!(Lock, "lock");
shared_object!(Lock, "lock", |it| &it.segment);
debug_by_name!(Lock);

impl Lock {
    /// Opens or creates a plain lock as `options` say. Options of size do not apply. Without a name it is
    /// always created.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        Self::of(name, options, false)
    }

    /// As [`with_options`](Self::with_options), but a new lock is recursive.
    ///
    /// # Errors
    /// The same.
    pub fn recursive(name: Option<&str>, options: &Options) -> Result<Self> {
        Self::of(name, options, true)
    }

    fn of(name: Option<&str>, options: &Options, recursive: bool) -> Result<Self> {
        let init = |cell: &LockCell| {
            cell.init(recursive);
            Ok(())
        };
        let (segment, cell) = object::open(name, options, (Kind::Lock, LAYOUT), init)?;
        Ok(Self {
            cell,
            policy: WaitPolicy::default(),
            segment,
        })
    }

    /// Takes the lock; dropping the guard releases it.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub fn lock(&self, timeout: impl IntoTimeout) -> Result<LockGuard<'_>> {
        let me = self.segment.me();
        let taken = self.acquire_as(me, timeout)?;
        Ok(LockGuard {
            lock: self,
            me,
            taken,
            _of_its_thread: PhantomData,
        })
    }

    /// Takes the lock, which the caller then has to [`release`](Self::release). Waits while a living
    /// owner has it. A timeout of zero does not wait.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while it waited; `Detached` when it would have to wait
    /// and the [waits through this handle](Self::end_waits) were ended; `TooMany` if a recursive lock was taken
    /// 2^32 times; `Exhausted` in a forked child for which the object had no slot.
    #[inline]
    pub fn acquire(&self, timeout: impl IntoTimeout) -> Result<Acquisition> {
        self.acquire_as(self.segment.me(), timeout)
    }

    /// The same, where the caller has read its owner word.
    #[inline(always)]
    fn acquire_as(&self, me: u64, timeout: impl IntoTimeout) -> Result<Acquisition> {
        // Reading the clock costs more than an uncontended lock.
        match self.cell.try_acquire(me)? {
            Some(taken) => Ok(taken),
            None => {
                let deadline = Deadline::after(timeout);
                let peers = self.segment.peers();
                self.cell.acquire(peers, &self.policy, deadline)
            }
        }
    }

    /// Takes the lock if it is free, or if it is recursive and the caller's. Does not wait and does
    /// not ask the kernel: the lock of a dead owner counts as taken.
    ///
    /// # Errors
    /// `TooMany` if a recursive lock was taken 2^32 times; `Exhausted` in a forked child for which the object had
    /// no slot.
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<Acquisition>> {
        self.cell.try_acquire(self.segment.me())
    }

    /// As [`try_acquire`](Self::try_acquire), but spins for up to 60 us while spinning has paid lately. For
    /// callers to whom a call of [`acquire`](Self::acquire) costs more than that.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn spin_acquire(&self) -> Result<Option<Acquisition>> {
        self.cell.spin_acquire(self.segment.me(), &self.policy)
    }

    /// Releases the lock: a plain one whichever thread took it through this handle, a recursive one by one level.
    ///
    /// # Errors
    /// `Invalid` if it is not held, if another handle or process holds it, or if it is recursive and not the
    /// calling thread's.
    #[inline]
    pub fn release(&self) -> Result<()> {
        self.cell.release(self.segment.me())
    }

    /// As [`release`](Self::release), but releases a plain lock whichever handle or process took it. For
    /// protocols in which one process takes a lock and another releases it. The owner gets no notice.
    ///
    /// ```
    /// use shoal::{Lock, Timeout};
    ///
    /// let lock = Lock::anonymous()?;
    /// let other = Lock::open(lock.name())?; // in another process, usually
    /// let _ = lock.acquire(Timeout::Infinite)?;
    /// assert!(other.release().is_err());
    /// other.release_any()?;
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` if it is not held, or if it is recursive and not the calling thread's.
    #[inline]
    pub fn release_any(&self) -> Result<()> {
        self.cell.release_any(self.segment.me())
    }

    /// Releases all levels of the lock, and returns how many there were.
    pub(super) fn release_all(&self) -> Result<u32> {
        self.cell.release_all(self.segment.me())
    }

    /// Takes as many levels of the lock as [`release_all`](Self::release_all) released. Waits without
    /// a limit, and is not interrupted by signals.
    pub(super) fn take_back(&self, depth: u32) -> Result<Acquisition> {
        let taken = loop {
            match self.acquire(Timeout::Infinite) {
                Err(Error::Interrupted) => {}
                other => break other?,
            }
        };
        self.cell.restore_depth(depth);
        Ok(taken)
    }

    /// The threads that wait through this handle.
    pub(super) fn waits(&self) -> &Waits {
        &self.policy.waits
    }

    /// Whether the lock is recursive.
    pub fn is_recursive(&self) -> bool {
        self.cell.is_recursive()
    }

    /// Whether the lock is taken. A dead owner's lock counts as taken until the next caller takes it over.
    pub fn is_held(&self) -> bool {
        self.cell.is_held()
    }

    /// Whether the calling thread took the lock through this handle.
    ///
    /// # Errors
    /// None at present.
    pub fn is_mine(&self) -> Result<bool> {
        Ok(self.cell.is_mine(self.segment.me()))
    }

    /// How many levels of the lock the calling thread has.
    ///
    /// # Errors
    /// None at present.
    pub fn depth(&self) -> Result<u32> {
        Ok(self.cell.depth(self.segment.me()))
    }
}

impl EndWaits for Lock {
    fn end_waits(&self) {
        self.policy.waits.end(self.cell.handoff().events());
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
    }
}

impl LockGuard<'_> {
    /// Whether the last owner died with the lock.
    pub fn owner_died(&self) -> bool {
        self.taken == Acquisition::OwnerDied
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // In a child that was forked meanwhile, the lock is its parent's.
        if self.lock.segment.me() == self.me {
            // Fails if it was released by other means meanwhile.
            let _ = self.lock.cell.release(self.me);
        }
    }
}
