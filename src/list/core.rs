//! A list's shared memory in this process: its header and its lock.
//!
//! ```text
//! offset  size  field     written by            invariant
//!      0     8  blocks    creator               constant; the heap's size follows
//!      8     4  poisoned  whoever gives up      H1: never goes back to 0
//!     64    64  lock      everybody             guards all the rest
//!    128   544  arena     owner of the lock     see heap/arena.rs
//!    704   448  list      owner of the lock     see store.rs
//!   4096        heap      see `heap`
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::store::{ListState, Store};
use crate::error::{Error, Result};
use crate::heap::{Arena, ArenaState, Extent, Extents, Heap, PAGE, Purpose};
use crate::layout::{Offset, Region, Shared};
use crate::segment::Segment;
use crate::sync::{Acquired, Guard, LockCell, RobustMutex};
use crate::sys::clock::Deadline;

#[repr(C)]
struct Header {
    blocks: AtomicU64,
    poisoned: AtomicU32,
    _unused: [AtomicU32; 13],
    lock: LockCell,
    arena: ArenaState,
    list: ListState,
}

const _: () = assert!(std::mem::offset_of!(Header, lock) == 64);
const _: () = assert!(std::mem::offset_of!(Header, arena) == 128);
const _: () = assert!(std::mem::offset_of!(Header, list) == 704);
const _: () = assert!(size_of::<Header>() <= PAGE as usize);

// SAFETY: `repr(C)`, atomics and shared structures only.
unsafe impl Shared for Header {}

const HEADER: u64 = Segment::DATA;
const HEAP: u64 = HEADER + PAGE;
const _: () = assert!(HEAP.is_multiple_of(PAGE));

/// Bytes of data to commit at birth: the header. For the heap the arena commits.
pub(super) const BIRTH: u64 = PAGE;

/// Bytes of a segment whose heap has `blocks` blocks.
pub(super) fn segment_size(blocks: u32) -> u64 {
    HEAP + Heap::size(blocks)
}

/// Fills a private segment: `blocks` blocks of heap, `reserve` of them with memory.
pub(super) fn init(segment: &Segment, blocks: u32, reserve: u32) -> Result<()> {
    let region = segment.region();
    let header = header(&region)?;
    header.blocks.store(blocks as u64, Ordering::Relaxed);
    Arena {
        state: &header.arena,
        heap: &Heap::new(region, HEAP, blocks)?,
        backing: segment,
        keeps: false,
    }
    .reserve(reserve)
}

fn header(region: &Region) -> Result<&'static Header> {
    region.resolve(Offset::new(HEADER))
}

/// An attached list, without the public face.
pub(super) struct Core {
    pub(super) heap: Heap,
    header: &'static Header,
    lock: RobustMutex,
    // Last: everything above points into it.
    segment: Segment,
}

/// A list whose lock is held.
pub(super) struct Held<'a> {
    pub(super) core: &'a Core,
    /// What to repair if a panic ends it; none if one was under way before. Not a flag: copied with
    /// what lies behind a byte, it cost a set of 64 bytes 10 ns of 74.
    repairs: Option<&'a Core>,
    _guard: Guard<'a>,
}

impl Core {
    pub(super) fn attach(segment: Segment) -> Result<Self> {
        let region = segment.region();
        let header = header(&region)?;
        let blocks = header.blocks.load(Ordering::Relaxed);
        let blocks = u32::try_from(blocks)
            .ok()
            .filter(|blocks| *blocks > 1 && segment_size(*blocks) == region.len() as u64)
            .ok_or_else(|| Error::corrupt("the list's sizes do not fit its segment"))?;
        Ok(Self {
            heap: Heap::new(region, HEAP, blocks)?,
            header,
            // SAFETY: initialised before the segment was published; the segment is the last
            // field and so outlives the handle.
            lock: unsafe { RobustMutex::attach(&header.lock, segment.peers()) },
            segment,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.segment.name()
    }

    pub(super) fn is_new(&self) -> bool {
        self.segment.is_new()
    }

    pub(super) fn end_waits(&self) {
        self.lock.end_waits();
    }

    pub(super) fn is_waited_in(&self) -> bool {
        self.lock.is_waited_for()
    }

    /// Locks the list, and repairs it if its last owner died in it.
    #[inline]
    pub(super) fn lock(&self) -> Result<Held<'_>> {
        let guard = match self.lock.lock(Deadline::Never)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => {
                let repaired = self.repair();
                // Either way the lock itself is good again: poison keeps everybody out.
                guard.mark_consistent();
                repaired?;
                guard
            }
        };
        self.check_poison()?;
        Ok(Held {
            core: self,
            repairs: (!thread::panicking()).then_some(self),
            _guard: guard,
        })
    }

    /// What the lock guards, for its owner.
    #[inline]
    pub(super) fn store(&self) -> Store<'_> {
        Store {
            state: &self.header.list,
            heap: &self.heap,
            extents: self,
        }
    }

    fn arena(&self) -> Arena<'_> {
        Arena {
            state: &self.header.arena,
            heap: &self.heap,
            backing: &self.segment,
            keeps: false,
        }
    }

    /// Repairs the list after its owner died, or poisons it.
    #[cold]
    fn repair(&self) -> Result<()> {
        self.check_poison()?;
        let worked = self.arena().rebuild().and_then(|()| self.store().repair());
        worked.inspect_err(|_| self.header.poisoned.store(1, Ordering::Relaxed))
    }

    /// The error of a list that was given up.
    #[inline]
    fn check_poison(&self) -> Result<()> {
        if self.header.poisoned.load(Ordering::Relaxed) != 0 {
            return Err(poisoned());
        }
        Ok(())
    }

    /// Checks every invariant of the list.
    pub(super) fn verify(&self) -> Result<()> {
        let _held = self.lock()?;
        let extents = self.arena().verify()?;
        self.store().verify(extents)
    }
}

#[cold]
fn poisoned() -> Error {
    Error::Poisoned {
        what: "a list that a process died in could not be repaired".into(),
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // A panic, of the caller's code too, leaves what a death leaves, but this process is
        // alive, so nobody else would repair it. A failure has poisoned the list.
        if let Some(core) = self.repairs
            && thread::panicking()
        {
            let _ = core.repair();
        }
    }
}

/// The list's lock is held by whoever has a store.
impl Extents for Core {
    fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32> {
        self.arena().allocate(blocks, owner, purpose)
    }

    fn free(&self, head: u32) -> Result<()> {
        self.arena().free(head)
    }

    fn owned_by(&self, owner: u8) -> Result<Vec<Extent>> {
        self.arena().owned_by(owner)
    }
}
