//! A heap that processes share: its arena, the lock that guards it, and the recovery of both when an owner of
//! that lock dies. Lists and maps are built on it.
//!
//! Every lock of such an object follows the same rules:
//! - An owner that dies leaves its change half done. The next owner repairs what the lock guards
//!   before it does anything else.
//! - A panic under the lock also leaves a change half done, but the process continues. The guard then
//!   [abandons](Guard::abandon) the lock, so that the next owner, in any process, repairs.
//! - A repair that fails *poisons* the object: its flag is set and never cleared (H1), and every
//!   later owner of any of its locks gets `Poisoned`. The lock itself is consistent again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::arena::{Arena, ArenaState};
use super::block::{BLOCK, Backing, Heap};
use crate::error::{Error, Result};
use crate::layout::SharedRef;
use crate::segment::{Options, Segment};
use crate::sync::{Acquired, Guard, LockCell, RobustMutex, Waits};
use crate::sys::clock::Deadline;
use crate::sys::limits;

/// A segment that a heap lies in, and how the heap's memory is committed and given back.
pub(crate) trait Memory: Backing {
    fn segment(&self) -> &Segment;
}

impl Memory for Segment {
    fn segment(&self) -> &Segment {
        self
    }
}

/// The words of a [`GuardedHeap`] in shared memory, and where the heap lies.
pub(crate) struct Parts {
    /// Guards the arena; in a list all other words as well.
    pub(crate) lock: SharedRef<LockCell>,
    pub(crate) arena: SharedRef<ArenaState>,
    /// 1 once a repair has failed (H1).
    pub(crate) poisoned: SharedRef<AtomicU32>,
    /// Blocks of the heap; untrusted.
    pub(crate) blocks: SharedRef<AtomicU64>,
    /// Where the heap begins.
    pub(crate) base: u64,
    /// Bytes of the segment behind the heap.
    pub(crate) behind: u64,
}

/// A heap with its lock, in this process.
pub(crate) struct GuardedHeap<M> {
    pub(crate) heap: Heap,
    arena: SharedRef<ArenaState>,
    poisoned: SharedRef<AtomicU32>,
    /// The kind of object, for messages.
    object: &'static str,
    lock: RobustMutex,
    // Last: everything above points into it.
    pub(crate) memory: M,
}

/// Owns a lock of the object until it is dropped; after a panic the next owner repairs.
pub(crate) struct ObjectGuard<'a> {
    guard: Option<Guard<'a>>,
    /// `None` if a panic was under way before the lock was taken: that panic does not interrupt the work under
    /// this guard. Not a `bool`: a single byte is copied together with the bytes behind it, and reading those
    /// stalls the processor (a list's set of 64 bytes takes 74 ns instead of 64).
    abandons: Option<&'a AtomicU32>,
}

/// The default bound is this fraction (1 / `SHARE`) of the free address space: 64 GiB of 2^47.
const SHARE: u64 = 1 << 11;
/// The slots of a map's table can address a heap of this size.
const LARGEST_MAX_CAPACITY: u64 = 1 << 39;

/// The `capacity` and the `max_capacity` of an object whose heap is at least `smallest` bytes.
pub(crate) fn capacities(options: &Options, smallest: u64) -> Result<(u64, u64)> {
    let (capacity, given) = (options.capacity, options.max_capacity);
    if given != 0 && given < capacity {
        let why = format!("{given} bytes are less than the capacity of {capacity}");
        return Err(Error::invalid("max_capacity", why));
    }
    let (what, max) = match given {
        0 => ("capacity", capacity.max(limits::growth(SHARE))),
        max => ("max_capacity", max),
    };
    let (size, limit) = (max.max(smallest), LARGEST_MAX_CAPACITY);
    if size > limit {
        return Err(Error::TooLarge { what, size, limit });
    }
    Ok((capacity, size))
}

/// Commits memory for `reserve` blocks of the heap of `blocks` blocks at `base`. Only before the
/// segment is published.
pub(crate) fn reserve(
    segment: &Segment,
    arena: &ArenaState,
    (base, blocks): (u64, u32),
    reserve: u32,
) -> Result<()> {
    Arena {
        state: arena,
        heap: &Heap::new(segment.region(), base, blocks)?,
        backing: segment,
        keeps: false,
    }
    .reserve(reserve)
}

impl<M: Memory> GuardedHeap<M> {
    /// The heap of `object`, if its sizes fit the segment.
    pub(crate) fn attach(object: &'static str, parts: Parts, memory: M) -> Result<Self> {
        let region = memory.segment().region();
        let size = |blocks| parts.base + Heap::size(blocks) + parts.behind;
        let blocks = u32::try_from(parts.blocks.load(Ordering::Relaxed))
            .ok()
            .filter(|blocks| *blocks > 1 && size(*blocks) == region.len() as u64)
            .ok_or_else(|| Error::corrupt("an object's sizes do not fit its segment"))?;
        Ok(Self {
            heap: Heap::new(region, parts.base, blocks)?,
            arena: parts.arena,
            poisoned: parts.poisoned,
            object,
            // SAFETY: initialised before the segment was published; the segment is in the last
            // field and so outlives the handle.
            lock: unsafe { RobustMutex::attach(&parts.lock, memory.segment().peers()) },
            memory,
        })
    }

    /// Takes the heap's own lock. If its last owner died, rebuilds the arena, and then calls
    /// `repair` for what else the lock guards.
    #[inline]
    pub(crate) fn lock(&self, repair: impl FnOnce() -> Result<()>) -> Result<ObjectGuard<'_>> {
        self.acquire(&self.lock, Deadline::Never, || {
            self.arena().rebuild().and_then(|()| repair())
        })
    }

    /// Takes `lock`, one of the object's, and calls `repair` if its last owner died. Waits until `deadline`, or for
    /// a second if that is later.
    #[inline(always)]
    pub(crate) fn acquire<'a>(
        &'a self,
        lock: &'a RobustMutex,
        deadline: Deadline,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<ObjectGuard<'a>> {
        let guard = match lock.lock(deadline)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => self.recover(guard, repair)?,
        };
        self.check_poison()?;
        Ok(ObjectGuard {
            guard: Some(guard),
            abandons: (!thread::panicking()).then_some(&*self.poisoned),
        })
    }

    /// Repairs what `guard` protects, or poisons the object. The lock itself is consistent in both cases: the
    /// poison makes every later owner fail.
    #[cold]
    fn recover<'a>(
        &self,
        guard: Guard<'a>,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<Guard<'a>> {
        let repaired = self.check_poison().and_then(|()| {
            let repaired = repair();
            repaired.inspect_err(|_| self.poisoned.store(1, Ordering::Relaxed))
        });
        guard.mark_consistent();
        repaired.map(|()| guard)
    }

    /// The arena. The caller owns the heap's lock.
    pub(crate) fn arena(&self) -> Arena<'_> {
        Arena {
            state: &self.arena,
            heap: &self.heap,
            backing: &self.memory,
            keeps: false,
        }
    }

    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed) != 0
    }

    /// # Errors
    /// `Poisoned` if a repair of the object has failed.
    #[inline]
    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.is_poisoned() {
            true => Err(self.poisoned_error()),
            false => Ok(()),
        }
    }

    #[cold]
    fn poisoned_error(&self) -> Error {
        Error::Poisoned {
            what: format!(
                "a {} could not be repaired after a process died in it",
                self.object
            )
            .into(),
        }
    }

    /// Bytes of extents in use. Exact if no process allocates meanwhile.
    pub(crate) fn used(&self) -> u64 {
        self.arena
            .used
            .load(Ordering::Relaxed)
            .saturating_mul(BLOCK)
    }

    /// Ends the waits for the heap's lock through this handle.
    pub(crate) fn end_waits(&self) {
        self.lock.end_waits();
    }

    /// The threads that wait for it.
    pub(crate) fn waits(&self) -> &Waits {
        self.lock.waits()
    }
}

impl ObjectGuard<'_> {
    /// Whether this process took the lock: false in a child that was forked meanwhile, which must change nothing.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_ours)
    }

    /// Whether a panic has interrupted what this guard protects.
    #[inline]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.abandons.is_some() && thread::panicking() && self.is_ours()
    }
}

impl Drop for ObjectGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_interrupted()
            && let Some(guard) = self.guard.take()
        {
            guard.abandon();
        }
    }
}
