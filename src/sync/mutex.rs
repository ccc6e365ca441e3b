//! A mutex that outlives its owner.
//!
//! ```text
//! state          lock() yields   what the caller does
//! free           Held            works, drops the guard
//! owner died     Recovered       repairs, guard.mark_consistent(), works, drops the guard
//! held           waits           until the owner unlocks or dies
//! ```
//!
//! The kernel knows the owner's thread and tells the next locker when it died, so nothing
//! here is decided by a timer. What the owner left half done is visible to whoever gets
//! [`Acquired::Recovered`], and only that caller can know how to mend it.
//!
//! # The wake-up that dies
//! An unlock wakes one sleeper. If that one is killed before it has looked, the kernel passes the
//! wake-up on only while the word is zero (`handle_futex_death` in `kernel/futex/core.c`, Linux
//! 6.18). Meanwhile somebody else may have taken the lock by its fast path, which does not
//! say that others sleep; nor will its unlock wake them, and the lock is free with all of them
//! asleep. So a sleep is sliced: such a death costs a slice, and not the sleeper's life.
//!
//! # Limits
//! A *stopped* owner (SIGSTOP, a debugger) is alive: others wait for it, until their
//! deadline where they have one. The bytes of a mutex must never be used for anything else
//! while the segment lives: the kernel may be looking at them (glibc bug 14485).

use std::cell::UnsafeCell;
use std::marker::PhantomData;

use raw_sync::locks::{LockImpl, LockInit, Mutex};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sys::clock::Deadline;
use crate::sys::pthread::{self, Attempt};

use super::LAST_SLICE_NS;

/// The mutex as it lies in shared memory: the C library's bytes, opaque to us.
#[repr(C, align(64))]
pub(crate) struct MutexCell {
    bytes: UnsafeCell<[u8; 64]>,
}

const _: () = assert!(pthread::SIZE <= 64 && size_of::<MutexCell>() == 64);

// SAFETY: any bits are valid bytes; only the C library reads or writes them.
unsafe impl Shared for MutexCell {}
// SAFETY: the C library's mutex is made for sharing between threads and processes.
unsafe impl Sync for MutexCell {}

impl MutexCell {
    /// Makes the bytes a mutex. Only before the segment is published, and only once.
    pub(crate) fn init(&self) -> Result<()> {
        // SAFETY: 64 bytes aligned to 64 are enough (asserted above), and the segment is
        // still private to its creator.
        unsafe { pthread::init(self.bytes.get().cast()) }
    }
}

/// This process's handle on a [`MutexCell`].
pub(crate) struct RobustMutex {
    // `raw_sync` keeps the address and unlocks. Its own `lock` knows nothing of dead owners.
    lock: Box<dyn LockImpl>,
    // The same address, typed: `as_raw` would cost an indirect call at every use.
    raw: *mut libc::pthread_mutex_t,
}

// SAFETY: the handle is an address; the mutex behind it is made for sharing.
unsafe impl Send for RobustMutex {}
// SAFETY: as for `Send`.
unsafe impl Sync for RobustMutex {}

/// How a lock was obtained.
pub(crate) enum Acquired<'a> {
    /// Nobody died: what the lock guards is whole.
    Held(Guard<'a>),
    /// The previous owner died holding it: repair, then [`Guard::mark_consistent`].
    Recovered(Guard<'a>),
}

/// Holds the lock until dropped.
pub(crate) struct Guard<'a> {
    mutex: &'a RobustMutex,
    // A pthread mutex is unlocked by the thread that locked it.
    _not_send: PhantomData<*mut ()>,
}

impl RobustMutex {
    /// How often to look at a taken lock in one round, and how many rounds to try before
    /// sleeping.
    ///
    /// An owner keeps the lock for some 30 ns, so it is either about to leave or not running.
    /// In the first case a few looks are enough; in the second the core is what it needs. A
    /// sleeper would cost it more than both: its unlock becomes a system call, and so does the
    /// sleeper's own, since the C library cannot tell whether there are more of them.
    const SPINS: u32 = 40;
    const ROUNDS: u32 = 4;

    /// # Safety
    /// `cell` was initialised, lies in a mapped segment and stays mapped for as long as the
    /// handle lives.
    pub(crate) unsafe fn attach(cell: &MutexCell) -> Result<Self> {
        let raw = cell.bytes.get().cast::<libc::pthread_mutex_t>();
        // SAFETY: the cell holds an initialised mutex, aligned, so that raw_sync adds no
        // padding; it has no data of its own to guard.
        let placed = unsafe { Mutex::from_existing(raw.cast(), std::ptr::null_mut()) };
        let (lock, _) = placed.map_err(|err| Error::Internal {
            what: err.to_string(),
        })?;
        debug_assert_eq!(lock.as_raw().cast(), raw);
        Ok(Self { lock, raw })
    }

    /// Waits for the lock until `deadline`, but at least for [`Self::GRACE_NS`].
    ///
    /// # Errors
    /// `Timeout`; `Poisoned` when an earlier repair was abandoned.
    #[inline]
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        match self.try_lock()? {
            Some(acquired) => Ok(acquired),
            None => self.lock_slow(deadline),
        }
    }

    /// The lock, unless somebody has it.
    ///
    /// # Errors
    /// `Poisoned` when an earlier repair was abandoned.
    #[inline]
    pub(crate) fn try_lock(&self) -> Result<Option<Acquired<'_>>> {
        // SAFETY: `attach` promised an initialised, mapped mutex.
        match unsafe { pthread::try_lock(self.raw) }? {
            Attempt::Held => Ok(Some(Acquired::Held(self.guard()))),
            Attempt::Busy => Ok(None),
            other => self.acquired(other).map(Some),
        }
    }

    /// The lock, unless it stays taken for some rounds of looking, between which the core is
    /// given away.
    ///
    /// # Errors
    /// As for [`try_lock`](Self::try_lock).
    pub(crate) fn spin(&self, rounds: u32) -> Result<Option<Acquired<'_>>> {
        for round in 0..rounds {
            if round > 0 {
                std::thread::yield_now();
            }
            for _ in 0..Self::SPINS {
                std::hint::spin_loop();
                // SAFETY: as in `try_lock`.
                if unsafe { pthread::looks_taken(self.raw) } {
                    continue;
                }
                if let Some(acquired) = self.try_lock()? {
                    return Ok(Some(acquired));
                }
            }
        }
        Ok(None)
    }

    /// A call that must not wait for a message still waits this long for the lock: owners
    /// hold it for well under a microsecond, unless they were stopped.
    const GRACE_NS: u64 = 1_000_000_000;

    /// The first sleep, in the knowledge that its wake-up may be lost (see the head of this
    /// file). Longer than the kernel lets an owner that lost its core wait for it, usually.
    const FIRST_SLICE_NS: u64 = 10_000_000;

    /// A hundredth of a slice that was slept in vain is spent awake: an owner that takes the lock
    /// again at once has it back before a sleeper is up.
    ///
    /// NB: beside a process that keeps a list for 15, 50 or 200 us and lets go for an instant,
    /// nine of ten calls of another waited at most 11, 96 and 415 ms, and so, in several runs, 9
    /// to 16, 10 to 30 and 30 to 52.
    const AWAKE: u64 = 100;
    /// How long a round of [`spin`](Self::spin) takes, roughly.
    const ROUND_NS: u64 = 1000;

    #[cold]
    fn lock_slow(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        if let Some(acquired) = self.spin(Self::ROUNDS)? {
            return Ok(acquired);
        }
        let grace = Deadline::Never.slice(Self::GRACE_NS);
        let deadline = match deadline {
            Deadline::Never => deadline,
            Deadline::At(at) => Deadline::At(at.max(grace)),
            Deadline::Now => Deadline::At(grace),
        };
        let mut slice = Self::FIRST_SLICE_NS;
        loop {
            // SAFETY: as in `try_lock`.
            match unsafe { pthread::lock_until(self.raw, deadline.slice(slice)) }? {
                Attempt::Busy if !deadline.passed() => {
                    if let Some(acquired) =
                        self.spin((slice / Self::AWAKE / Self::ROUND_NS) as u32)?
                    {
                        return Ok(acquired);
                    }
                    slice = (slice * 2).min(LAST_SLICE_NS);
                }
                other => return self.acquired(other),
            }
        }
    }

    fn acquired(&self, attempt: Attempt) -> Result<Acquired<'_>> {
        match attempt {
            Attempt::Held => Ok(Acquired::Held(self.guard())),
            Attempt::OwnerDied => Ok(Acquired::Recovered(self.guard())),
            Attempt::Busy => Err(Error::Timeout),
            Attempt::NotRecoverable => Err(Error::Poisoned {
                what: "a process gave up on repairing it".into(),
            }),
            Attempt::Deadlock => Err(Error::Internal {
                what: "a call was made from inside another one on the same object".into(),
            }),
        }
    }

    fn guard(&self) -> Guard<'_> {
        Guard {
            mutex: self,
            _not_send: PhantomData,
        }
    }
}

impl Guard<'_> {
    /// Declares that what the lock guards is whole again. A guard that is dropped without
    /// it after [`Acquired::Recovered`] makes the mutex, and so the object, useless for all.
    pub(crate) fn mark_consistent(&self) {
        // SAFETY: this thread holds the mutex.
        unsafe { pthread::consistent(self.mutex.raw) };
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        let released = self.mutex.lock.release();
        debug_assert!(released.is_ok(), "the guard's thread holds the mutex");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Box<MutexCell>, RobustMutex) {
        let cell = Box::new(MutexCell {
            bytes: UnsafeCell::new([0; 64]),
        });
        cell.init().unwrap();
        // SAFETY: the box is dropped after the handle (see the tuples below).
        let mutex = unsafe { RobustMutex::attach(&cell) }.unwrap();
        (cell, mutex)
    }

    #[test]
    fn a_lock_whose_thread_ended_is_recovered_once() {
        let (_cell, mutex) = fresh();
        std::thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(mutex.lock(Deadline::Never).unwrap()));
        });
        match mutex.lock(Deadline::Never).unwrap() {
            Acquired::Recovered(guard) => guard.mark_consistent(),
            Acquired::Held(_) => panic!("the owner is gone, and nobody said so"),
        }
        assert!(matches!(
            mutex.lock(Deadline::Never).unwrap(),
            Acquired::Held(_)
        ));
    }

    #[test]
    fn a_lock_that_was_not_repaired_is_poisoned_for_good() {
        let (_cell, mutex) = fresh();
        std::thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(mutex.lock(Deadline::Never).unwrap()));
        });
        drop(mutex.lock(Deadline::Never).unwrap());
        let again = mutex.lock(Deadline::Never);
        assert!(matches!(again, Err(Error::Poisoned { .. })));
    }

    #[test]
    fn locking_twice_in_one_thread_is_an_error_not_a_hang() {
        let (_cell, mutex) = fresh();
        let _held = mutex.lock(Deadline::Never).unwrap();
        assert!(matches!(
            mutex.lock(Deadline::Never),
            Err(Error::Internal { .. })
        ));
    }
}
