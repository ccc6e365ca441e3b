//! A lock for many readers or one writer.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0    64  lock                         guards all that follows `writers`, but for `changed`
//!     64    64  writers                      owned by the process that writes, or waits for readers to end
//!    128     8  writer   the lock's owner    the writing process, as in `sync::lock`; 0: none
//!    136     8  next     the lock's owner    the writer that is next; 0: none. The writer that it names also
//!                                           sets it to 0, without the lock
//!    144     8  readers  the lock's owner    derived: number of holds for reading
//!    152     4  died     the lock's owner    1 from a writer's death until another has written
//!    156    12  changed  any process         event: waiters sleep here
//!    168        holds    the lock's owner    which processes read, and how often
//! ```
//! **Writers do not starve.** A writer that finds the lock taken registers as the next. While a living writer
//! is registered, no new reader is admitted. A process that already reads may take the lock for reading
//! again: otherwise it would wait for itself.
//!
//! # What a kill leaves
//! A waiter removes the holds of dead readers and writers. `died` records the death of a writer: every new
//! owner gets `OwnerDied`, until a writer that got it has released the lock. The registration of a writer that
//! is killed before it ends it is removed like the holds of the dead process. If a process is killed before it
//! notifies the others, they notice the change at the end of their slice.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Shared, SharedRef};
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, plain_open, shared_object};
use crate::sync::{
    Acquisition, EndWaits, EventCell, Guard, LockCell, RobustMutex, WaitPolicy, Waits,
    crash::crash_point, pack, publish_fence, unpack,
};
use crate::sys::clock::{Deadline, IntoTimeout};

use super::holds::Holds;
use super::object;

const LAYOUT: u64 = 0x5257_4c4f_0000_0002;

#[repr(C)]
struct RwLockState {
    lock: LockCell,
    writers: LockCell,
    writer: AtomicU64,
    next: AtomicU64,
    readers: AtomicU64,
    died: AtomicU32,
    changed: EventCell,
    holds: Holds,
}

const _: () = assert!(std::mem::offset_of!(RwLockState, writers) == 64);
const _: () = assert!(std::mem::offset_of!(RwLockState, writer) == 128);
const _: () = assert!(std::mem::offset_of!(RwLockState, died) == 152);
const _: () = assert!(std::mem::offset_of!(RwLockState, changed) == 156);
const _: () = assert!(std::mem::offset_of!(RwLockState, holds) == 168);

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for RwLockState {}

/// How `observe` reads a read-write lock without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &RwLockState, found| {
            let writer = state.writer.load(Ordering::Relaxed);
            found.holds("write", (writer != 0).then(|| unpack(writer)), 1);
            state.holds.inspect("read", found);
            let asleep = state.writers.has_sleepers() || state.changed.has_sleepers();
            found.sleeps("waiters", asleep);
        })
    },
};

/// A lock that many hold for reading, or one for writing.
///
/// Writers are preferred: while one waits, no new reader is admitted. The handle owns the lock, not
/// the thread: another thread may release it.
///
/// **When a writer dies**, every reader and writer that takes the lock gets
/// [`Acquisition::OwnerDied`], until a writer has released it. The death of a reader is not
/// reported.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`; the child holds nothing. The last
/// handle of all processes removes the lock, unless it was created
/// [persistent](Options::persistent).
///
/// ```
/// use shoal::{RwLock, Timeout};
///
/// let lock = RwLock::anonymous()?;
/// let other = RwLock::open(lock.name())?; // in another process, usually
/// let _ = lock.read(Timeout::Infinite)?;
/// let _ = other.read(Timeout::Infinite)?;
/// lock.release_read()?;
/// other.release_read()?;
/// let _ = other.write(Timeout::Infinite)?;
/// other.release_write()?;
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct RwLock {
    state: SharedRef<RwLockState>,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

plain_open!(RwLock, "read-write lock");
shared_object!(RwLock, "read-write lock", |it| &it.segment);
debug_by_name!(RwLock);

impl RwLock {
    /// Opens or creates a lock as `options` say. Options of size do not apply.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let init = |_: &RwLockState| Ok(());
        let (segment, state) = object::open(name, options, (Kind::RwLock, LAYOUT), init)?;
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
        let readers = self.state.holds.total();
        self.state.readers.store(readers, Ordering::Relaxed);
    }

    /// Takes the lock for reading. Waits while a process writes or waits to write. A timeout of zero
    /// does not wait.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached` when it would have to wait and the [waits
    /// through this handle](Self::end_waits) were ended; `Poisoned`.
    pub fn read(&self, timeout: impl IntoTimeout) -> Result<Acquisition> {
        let deadline = Deadline::after(timeout);
        self.take(deadline, || self.try_read(deadline))
    }

    /// Takes the lock for writing. Waits while another process reads or writes. A timeout of zero
    /// does not wait.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(&self, timeout: impl IntoTimeout) -> Result<Acquisition> {
        let (state, deadline) = (self.state, Deadline::after(timeout));
        // The death of its last owner does not matter here: `died` records it if that owner wrote.
        let _ = state
            .writers
            .acquire(self.segment.peers(), &self.policy, deadline)?;
        let taken = self.take(deadline, || self.try_write(deadline));
        if taken.is_err() {
            self.unregister();
            state.writers.release(self.segment.me())?;
        }
        taken
    }

    fn take(
        &self,
        deadline: Deadline,
        attempt: impl Fn() -> Result<Option<Acquisition>>,
    ) -> Result<Acquisition> {
        if let Some(taken) = attempt()? {
            return Ok(taken);
        }
        let mut nap = self.policy.nap();
        let mut ask = deadline == Deadline::Now || self.policy.may_ask();
        loop {
            if ask {
                self.release_dead(deadline)?;
            }
            // A change after this reading ends the sleep.
            let seen = self.seen();
            if let Some(taken) = attempt()? {
                return Ok(taken);
            }
            if deadline == Deadline::Now {
                return Err(Error::Timeout);
            }
            let changed = || self.seen() != seen;
            if self.policy.spin(changed) {
                continue;
            }
            let event = &self.state.changed;
            ask = nap.ended(self.policy.sleep(event, nap.ns(), deadline, changed)?);
        }
    }

    /// The state that decides whether the lock can be taken.
    fn seen(&self) -> (bool, bool, bool) {
        let state = self.state;
        let is = |word: &AtomicU64| word.load(Ordering::SeqCst) != 0;
        (is(&state.writer), is(&state.next), is(&state.readers))
    }

    fn acquisition(&self) -> Acquisition {
        match self.state.died.load(Ordering::Relaxed) {
            0 => Acquisition::Clean,
            _ => Acquisition::OwnerDied,
        }
    }

    fn try_read(&self, deadline: Deadline) -> Result<Option<Acquisition>> {
        let (state, _guard) = (self.state, self.enter_until(deadline)?);
        let me = self.segment.owner();
        let mine = state.holds.count(me)?;
        let is_awaited = state.next.load(Ordering::Relaxed) != 0;
        if state.writer.load(Ordering::Relaxed) != 0 || (is_awaited && mine == 0) {
            return Ok(None);
        }
        let more = mine.checked_add(1).ok_or(Error::TooMany {
            what: "number of readers",
            count: u64::from(mine) + 1,
            limit: u32::MAX.into(),
        })?;
        state.holds.set(me, more)?;
        self.recount();
        crash_point!();
        Ok(Some(self.acquisition()))
    }

    fn try_write(&self, deadline: Deadline) -> Result<Option<Acquisition>> {
        let (state, _guard) = (self.state, self.enter_until(deadline)?);
        let me = pack(self.segment.owner());
        let next = state.next.load(Ordering::Relaxed);
        let is_next = next == me;
        let free =
            state.writer.load(Ordering::Relaxed) == 0 && state.readers.load(Ordering::Relaxed) == 0;
        if free && (next == 0 || is_next) {
            state.writer.store(me, Ordering::SeqCst);
            crash_point!();
            if is_next {
                state.next.store(0, Ordering::SeqCst);
                crash_point!();
            }
            return Ok(Some(self.acquisition()));
        }
        if next == 0 {
            state.next.store(me, Ordering::SeqCst);
            crash_point!();
        }
        Ok(None)
    }

    /// Ends the registration of a writer that no longer waits. Without the lock, whose owner may be stopped:
    /// as long as this process lives and has `writers`, no other process changes a `next` that names it.
    fn unregister(&self) {
        let me = pack(self.segment.owner());
        let next = &self.state.next;
        let ended = next.compare_exchange(me, 0, Ordering::SeqCst, Ordering::Relaxed);
        crash_point!();
        if ended.is_ok() {
            self.notify();
        }
    }

    /// Removes the holds of dead processes.
    fn release_dead(&self, deadline: Deadline) -> Result<()> {
        let (state, guard) = (self.state, self.enter_until(deadline)?);
        let mut freed = state.holds.release_dead(&self.segment)?;
        if freed {
            self.recount();
        }
        let writer = state.writer.load(Ordering::Relaxed);
        if writer != 0 && !self.segment.is_attached(unpack(writer))? {
            state.died.store(1, Ordering::Relaxed);
            crash_point!();
            state.writer.store(0, Ordering::SeqCst);
            crash_point!();
            freed = true;
        }
        let next = state.next.load(Ordering::Relaxed);
        if next != 0 && !self.segment.is_attached(unpack(next))? {
            state.next.store(0, Ordering::SeqCst);
            crash_point!();
            freed = true;
        }
        drop(guard);
        if freed {
            self.notify();
        }
        Ok(())
    }

    fn notify(&self) {
        publish_fence();
        if self.state.changed.has_sleepers() {
            self.state.changed.notify_all();
        }
    }

    /// Releases one hold for reading.
    ///
    /// # Errors
    /// `Invalid` if this handle has no such hold.
    pub fn release_read(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        let me = self.segment.owner();
        let Some(less) = state.holds.count(me)?.checked_sub(1) else {
            return Err(Error::invalid("lock", "this process does not read"));
        };
        state.holds.set(me, less)?;
        self.recount();
        crash_point!();
        drop(guard);
        self.notify();
        Ok(())
    }

    /// Releases the hold for writing.
    ///
    /// # Errors
    /// `Invalid` if this handle does not have it.
    pub fn release_write(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        if state.writer.load(Ordering::Relaxed) != pack(self.segment.owner()) {
            return Err(Error::invalid("lock", "this process does not write"));
        }
        // If the process is killed after this store, it is a dead writer, and the next owner gets `OwnerDied`.
        state.died.store(0, Ordering::Relaxed);
        crash_point!();
        state.writer.store(0, Ordering::SeqCst);
        crash_point!();
        drop(guard);
        self.notify();
        state.writers.release(self.segment.me())
    }

    /// How often the lock is held for reading, and whether it is held for writing. Asks the kernel
    /// about each process, and removes the holds of dead ones.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn holders(&self) -> Result<(u64, bool)> {
        self.release_dead(Deadline::Never)?;
        let _guard = self.enter()?;
        let readers = self.state.readers.load(Ordering::Relaxed);
        Ok((readers, self.state.writer.load(Ordering::Relaxed) != 0))
    }
}

impl EndWaits for RwLock {
    fn end_waits(&self) {
        let writers = self.state.writers.handoff().events();
        self.policy
            .waits
            .end(writers.into_iter().chain([&self.state.changed]));
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
        see(self.mutex.waits());
    }
}
