//! A lock for many readers or one writer.
//!
//! ```text
//! offset  size  field    written by          invariant
//!      0    64  lock                         guards all that follows `writers`, but for `changed`
//!     64    64  writers                      had by the one that writes, or waits for readers to end
//!    128     8  writer   the lock's owner    says who writes, as in `sync::lock`; 0: nobody
//!    136     8  next     the lock's owner    the writer that comes next; 0 for any
//!    144     8  readers  the lock's owner    derived: how often it is held for reading
//!    152     4  died     the lock's owner    1 since a writer died, until another has written
//!    156    12  changed  everybody           event: waiters sleep on it
//!    168        holds    the lock's owner    says who reads, and how often
//! ```
//! **Nobody starves a writer.** One who finds it taken puts itself down as the next, and while
//! somebody is put down, and lives, no new reader comes in; but who reads already may read more,
//! or it would wait for itself.
//!
//! # What a death costs
//! A dead reader's hold is taken from it by whoever waits for it. So is a dead writer's, and
//! that is remembered: all are told, until a writer who was told has released the lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::Timeout;
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::segment::{self, Kind, Options, Segment};
use crate::sync::{
    Acquisition, EndWaits, EventCell, Guard, LockCell, RobustMutex, WaitPolicy, crash::crash_point,
    pack, publish_fence, unpack,
};
use crate::sys::clock::Deadline;

use super::holds::Holds;
use super::object;

const LAYOUT: u64 = 0x5257_4c4f_0000_0002;

#[repr(C)]
struct State {
    lock: LockCell,
    writers: LockCell,
    writer: AtomicU64,
    next: AtomicU64,
    readers: AtomicU64,
    died: AtomicU32,
    changed: EventCell,
    holds: Holds,
}

const _: () = assert!(std::mem::offset_of!(State, writers) == 64);
const _: () = assert!(std::mem::offset_of!(State, writer) == 128);
const _: () = assert!(std::mem::offset_of!(State, died) == 152);
const _: () = assert!(std::mem::offset_of!(State, changed) == 156);
const _: () = assert!(std::mem::offset_of!(State, holds) == 168);

// SAFETY: `repr(C)`, shared structures only.
unsafe impl Shared for State {}

/// A lock that many hold for reading, or one for writing.
///
/// Writers are preferred: while one waits, no new reader comes in. It is the handle that reads
/// or writes, and may release in another thread than it took.
///
/// **When a writer dies**, everybody who takes the lock is told, readers and writers, until a
/// writer has released it: see [`Acquisition::OwnerDied`]. A dead reader is nobody's concern.
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
    state: &'static State,
    mutex: RobustMutex,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Segment,
}

impl RwLock {
    /// Opens the lock `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt`; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::open())
    }

    /// Creates a lock under a name nobody else has.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn anonymous() -> Result<Self> {
        Self::with_options(None, &Options::create())
    }

    /// Opens or creates a lock as `options` say, which have no sizes.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let init = |_: &State| Ok(());
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

    /// The name to open this lock by.
    pub fn name(&self) -> &str {
        self.segment.name()
    }

    /// Whether this handle created it.
    pub(crate) fn is_new(&self) -> bool {
        self.segment.is_new()
    }

    fn enter(&self) -> Result<Guard<'_>> {
        object::enter(&self.mutex, || self.count_anew())
    }

    fn count_anew(&self) {
        let readers = self.state.holds.total();
        self.state.readers.store(readers, Ordering::Relaxed);
    }

    /// Takes the lock for reading. Waits while somebody writes or waits to; with a timeout of
    /// zero it does not.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran.
    pub fn read(&self, timeout: Timeout) -> Result<Acquisition> {
        match self.try_read()? {
            Some(taken) => Ok(taken),
            None => self.take(Deadline::after(timeout), || self.try_read()),
        }
    }

    /// Takes the lock for writing. Waits while anybody else reads or writes; with a timeout of
    /// zero it does not.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(&self, timeout: Timeout) -> Result<Acquisition> {
        let (state, deadline) = (self.state, Deadline::after(timeout));
        // A writer that died here died with the lock as well, or had not taken it.
        let _ = state
            .writers
            .acquire(self.segment.peers(), &self.policy, deadline)?;
        let taken = self.take(deadline, || self.try_write());
        if taken.is_err() {
            self.step_back()?;
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
                self.sweep()?;
            }
            // What changes after this look ends the sleep.
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

    /// What decides whether somebody may come in.
    fn seen(&self) -> (bool, bool, bool) {
        let state = self.state;
        let is = |word: &AtomicU64| word.load(Ordering::SeqCst) != 0;
        (is(&state.writer), is(&state.next), is(&state.readers))
    }

    fn news(&self) -> Acquisition {
        match self.state.died.load(Ordering::Relaxed) {
            0 => Acquisition::Clean,
            _ => Acquisition::OwnerDied,
        }
    }

    fn try_read(&self) -> Result<Option<Acquisition>> {
        let (state, _guard) = (self.state, self.enter()?);
        let me = self.segment.owner();
        let mine = state.holds.count(me)?;
        let awaited = state.next.load(Ordering::Relaxed) != 0;
        if state.writer.load(Ordering::Relaxed) != 0 || (awaited && mine == 0) {
            return Ok(None);
        }
        let more = mine.checked_add(1).ok_or(Error::TooMany {
            what: "number of readers",
            count: u64::from(mine) + 1,
            limit: u32::MAX.into(),
        })?;
        state.holds.set(me, more)?;
        self.count_anew();
        crash_point!();
        Ok(Some(self.news()))
    }

    fn try_write(&self) -> Result<Option<Acquisition>> {
        let (state, _guard) = (self.state, self.enter()?);
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
            return Ok(Some(self.news()));
        }
        if next == 0 {
            state.next.store(me, Ordering::SeqCst);
            crash_point!();
        }
        Ok(None)
    }

    /// A writer that gave up waiting is no longer the next.
    fn step_back(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        let me = pack(self.segment.owner());
        if state.next.load(Ordering::Relaxed) == me {
            state.next.store(0, Ordering::SeqCst);
            crash_point!();
            drop(guard);
            self.tell();
        }
        Ok(())
    }

    /// Takes from the dead what they hold.
    fn sweep(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        let mut freed = state.holds.sweep(&self.segment)?;
        if freed {
            self.count_anew();
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
            self.tell();
        }
        Ok(())
    }

    fn tell(&self) {
        publish_fence();
        if self.state.changed.has_sleepers() {
            self.state.changed.notify_all();
        }
    }

    /// Gives back one hold for reading.
    ///
    /// # Errors
    /// `Invalid` if this handle has none.
    pub fn release_read(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        let me = self.segment.owner();
        let Some(less) = state.holds.count(me)?.checked_sub(1) else {
            return Err(Error::invalid("lock", "this process does not read"));
        };
        state.holds.set(me, less)?;
        self.count_anew();
        crash_point!();
        drop(guard);
        self.tell();
        Ok(())
    }

    /// Gives back the hold for writing.
    ///
    /// # Errors
    /// `Invalid` if this handle does not have it.
    pub fn release_write(&self) -> Result<()> {
        let (state, guard) = (self.state, self.enter()?);
        if state.writer.load(Ordering::Relaxed) != pack(self.segment.owner()) {
            return Err(Error::invalid("lock", "this process does not write"));
        }
        // Killed after this, the writer is dead and the next is told of that.
        state.died.store(0, Ordering::Relaxed);
        crash_point!();
        state.writer.store(0, Ordering::SeqCst);
        crash_point!();
        drop(guard);
        self.tell();
        state.writers.release(self.segment.me())
    }

    /// How often the lock is held for reading, and whether it is for writing. The dead hold
    /// nothing: the kernel is asked about each process, and what a dead one held is taken from it.
    ///
    /// # Errors
    /// That of the lock.
    pub fn holders(&self) -> Result<(u64, bool)> {
        self.sweep()?;
        let _guard = self.enter()?;
        let readers = self.state.readers.load(Ordering::Relaxed);
        Ok((readers, self.state.writer.load(Ordering::Relaxed) != 0))
    }

    /// Ends the waits through this handle, as [`Queue::end_waits`](crate::Queue::end_waits).
    pub fn end_waits(&self) {
        let writers = self.state.writers.line().events();
        self.policy
            .waits
            .end(writers.into_iter().chain([&self.state.changed]));
    }

    /// Removes the name of a lock. Those who have it open keep it.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` if the name is not such a lock's; `Permission`.
    pub fn unlink(name: &str) -> Result<()> {
        segment::unlink_kind(name, Kind::RwLock)
    }
}

impl EndWaits for RwLock {
    fn end_waits(&self) {
        RwLock::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        self.policy.waits.is_busy()
    }
}
