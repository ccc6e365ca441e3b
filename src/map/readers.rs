//! Which processes read without a lock, so that the memory that they read is not given back meanwhile.
//!
//! A reader checks afterwards whether its result is valid (see `seq`), so a concurrent write does no harm.
//! But if the memory were given back to the system, reading it would allocate a page of `/dev/shm` again, or
//! raise SIGBUS when that is full. So each reader announces itself on a cache line of its own, and memory is
//! given back only while no process reads.
//!
//! ```text
//! behind the heap, 4 lines of 64 bytes for each of the 1024 participants
//! offset  size  field
//!      0     4  reading  1 while a thread of this participant reads, else 0
//!      4     4  of       in a participant's first line: its generation, once it has cleared its lines
//! ```
//! Entering is one swap, after which the reads happen (on Arm, where the swap is no full barrier, a fence
//! follows). A process that gives memory back first makes it unreachable and then reads these lines: either
//! it sees the reader, or the reader does not see the memory. It waits some microseconds for the readers to
//! end. If one does not end, for example because it was stopped, the memory stays until its extent is freed
//! the next time. A dead reader is ignored: the generation in its lines is of no participant. The next participant
//! in its slot clears the lines when it first reads, and then stores its own generation there. A participant
//! that dies before that, or before its lines are counted in `pages`, has read nothing.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::error::{Error, Result};
use crate::heap::{Backing, Memory, PAGE};
use crate::layout::{Offset, Owner, Region, Shared, SharedRef};
use crate::segment::Segment;

/// The most threads of one process that may read at the same time. Further threads take the lock.
const LANES: usize = 4;
const PARTICIPANTS: usize = 1024;
/// Participants whose lines share a page.
const PARTICIPANTS_PER_PAGE: u32 = (PAGE as usize / size_of::<ParticipantLines>()) as u32;
/// Bytes of all lines.
pub(super) const SIZE: u64 = size_of::<Lines>() as u64;
/// How often to check whether a reader has ended. A read takes 0.1 us.
const TRIES: u32 = 1000;

#[repr(C)]
struct Line {
    reading: AtomicU32,
    of: AtomicU32,
    _unused: [AtomicU32; 14],
}

type ParticipantLines = [Line; LANES];

#[repr(C)]
struct Lines([ParticipantLines; PARTICIPANTS]);

const _: () = assert!(size_of::<Line>() == 64 && SIZE == 256 << 10);
const _: () = assert!(std::mem::offset_of!(Line, of) == 4);
const _: () = assert!((SIZE / PAGE) as u32 * PARTICIPANTS_PER_PAGE == PARTICIPANTS as u32);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Lines {}

/// The value of [`Segment::known`] while the lines of its slot are being initialised.
const BUSY: *mut () = ptr::dangling_mut();

/// The lines of all participants. [`Segment::known`] points to this process's, once they are
/// initialised.
struct Readers {
    lines: SharedRef<Lines>,
    base: u64,
    /// In shared memory: how many pages of lines hold memory. Only grows.
    pages: SharedRef<AtomicU32>,
    /// How many of them this handle has found to hold memory.
    found: AtomicU32,
}

/// Pages of all lines.
const ALL_PAGES: u32 = (SIZE / PAGE) as u32;

/// This thread is a reader until this is dropped.
pub(super) struct Reading<'a>(&'a AtomicU32);

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        // SYNC: pairs with the load in `have_ended`: all reads happened before.
        self.0.store(0, Ordering::Release);
    }
}

impl Readers {
    /// The lines that begin at `base` of the region.
    fn new(region: Region, base: u64, pages: SharedRef<AtomicU32>) -> Result<Self> {
        Ok(Self {
            lines: region.keep(Offset::new(base))?,
            base,
            pages,
            found: AtomicU32::new(0),
        })
    }

    #[inline(always)]
    fn enter_at(&self, lane: usize, segment: &Segment) -> Option<Reading<'_>> {
        let known = segment.known().load(Ordering::Acquire);
        let ours = match known > BUSY {
            // SAFETY: set by `register`, to an element of `lines`.
            true => unsafe { &*known.cast::<ParticipantLines>() },
            false => self.register(segment)?,
        };
        let reading = &ours[lane % LANES].reading;
        // SYNC: pairs with the fence in `have_ended`: a full barrier, which a swap is on x86.
        let before = reading.swap(1, Ordering::SeqCst);
        if cfg!(not(target_arch = "x86_64")) {
            fence(Ordering::SeqCst);
        }
        // Made only if the line was free: dropping it clears the line.
        (before == 0).then(|| Reading(reading))
    }

    /// Initialises the lines of this participant: commits their memory and clears them.
    #[cold]
    fn register(&self, segment: &Segment) -> Option<&ParticipantLines> {
        let (known, slot) = (segment.known(), segment.slot());
        // A child without a slot has no lines.
        if usize::from(slot) >= PARTICIPANTS {
            return None;
        }
        let claim =
            known.compare_exchange(ptr::null_mut(), BUSY, Ordering::Acquire, Ordering::Relaxed);
        // Another thread is doing it, or has just done it.
        claim.ok()?;
        let pages = u32::from(slot) / PARTICIPANTS_PER_PAGE + 1;
        if segment.commit(self.base, u64::from(pages) * PAGE).is_err() {
            known.store(ptr::null_mut(), Ordering::Release);
            return None;
        }
        self.pages.fetch_max(pages, Ordering::SeqCst);
        let ours = self.lines_of(slot);
        for line in ours {
            // The previous participant in this slot may have died while it read.
            line.reading.store(0, Ordering::SeqCst);
        }
        // Last: from now on the marks in these lines are this participant's.
        ours[0]
            .of
            .store(segment.owner().generation, Ordering::SeqCst);
        known.store(ptr::from_ref(ours).cast_mut().cast(), Ordering::Release);
        Some(ours)
    }

    /// Makes sure that so many pages of lines hold memory. They do, unless the number was forged: reading the
    /// others would raise SIGBUS when `/dev/shm` is full.
    fn holds_memory(&self, pages: u32, segment: &Segment) -> bool {
        if pages <= self.found.load(Ordering::Relaxed) {
            return true;
        }
        let held = segment.commit(self.base, u64::from(pages) * PAGE).is_ok();
        if held {
            self.found.fetch_max(pages, Ordering::Relaxed);
        }
        held
    }

    /// A participant's lines.
    fn lines_of(&self, slot: u16) -> &ParticipantLines {
        &self.lines.0[usize::from(slot) % PARTICIPANTS]
    }

    /// Whether all reads have ended that may have begun before the caller made memory unreachable.
    fn have_ended(&self, segment: &Segment) -> bool {
        // SYNC: pairs with the swap in `enter_at`.
        fence(Ordering::SeqCst);
        let pages = self.pages.load(Ordering::SeqCst).min(ALL_PAGES);
        if !self.holds_memory(pages, segment) {
            return false;
        }
        let participants = pages * PARTICIPANTS_PER_PAGE;
        (0..participants as u16).all(|slot| {
            let has_ended = |line: &Line| line.reading.load(Ordering::Acquire) == 0;
            let ends_soon = |line: &Line| {
                (0..TRIES).any(|_| {
                    std::hint::spin_loop();
                    has_ended(line)
                })
            };
            let lines = self.lines_of(slot);
            if lines.iter().all(has_ended) {
                return true;
            }
            let generation = lines[0].of.load(Ordering::SeqCst);
            let owner = Owner { slot, generation };
            matches!(segment.is_attached(owner), Ok(false))
                || lines.iter().all(|line| has_ended(line) || ends_soon(line))
        })
    }
}

/// Which of a participant's lines to use, modulo [`LANES`]. Mostly different for each thread, since their
/// stacks lie a power of two and a guard page apart. (A thread-local variable would cost a call in a shared
/// library.)
#[inline]
fn lane() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here) as usize / PAGE as usize
}

/// The memory of a map: given back only while no process reads without a lock.
pub(super) struct MapMemory {
    readers: Readers,
    // Last: `readers` points into it.
    segment: Segment,
}

impl MapMemory {
    /// `pages` is the word of [`Readers`] in the map's header.
    pub(super) fn new(segment: Segment, pages: SharedRef<AtomicU32>) -> Result<Self> {
        let region = segment.region();
        let base = (region.len() as u64)
            .checked_sub(SIZE)
            .ok_or_else(|| Error::corrupt("a map is too short for its readers"))?;
        Ok(Self {
            readers: Readers::new(region, base, pages)?,
            segment,
        })
    }

    /// Announces that this thread reads. `None` if it has to take the lock instead: its line is in use, or
    /// has no memory.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<Reading<'_>> {
        self.readers.enter_at(lane(), &self.segment)
    }
}

impl Memory for MapMemory {
    fn segment(&self) -> &Segment {
        &self.segment
    }
}

impl Backing for MapMemory {
    fn commit(&self, offset: u64, len: u64, new: u64) -> Result<()> {
        self.segment.commit_more(offset, len, new)
    }

    fn decommit(&self, offset: u64, len: u64) -> Result<()> {
        if self.readers.have_ended(&self.segment) {
            return self.segment.decommit(offset, len);
        }
        Ok(())
    }

    fn available(&self) -> u64 {
        self.segment.available()
    }
}

#[cfg(test)]
mod tests {
    use super::{LANES, Reading};
    use crate::map::Map;
    use crate::segment;

    fn enter_at(map: &Map, lane: usize) -> Option<Reading<'_>> {
        let memory = map.core.memory();
        memory.readers.enter_at(lane, &memory.segment)
    }

    fn committed(map: &Map) -> u64 {
        segment::stat(map.name()).unwrap().committed
    }

    /// Bytes that putting and removing a large value leaves behind.
    fn left(map: &Map) -> u64 {
        let before = committed(map);
        map.set(b"large", &vec![1; 1 << 20]).unwrap();
        assert!(committed(map) - before >= 1 << 20);
        assert!(map.remove(b"large").unwrap());
        committed(map) - before
    }

    #[test]
    fn memory_is_given_back_unless_a_process_reads() {
        let map = Map::anonymous().unwrap();
        map.set(b"k", b"v").unwrap();
        let other = Map::open(map.name()).unwrap();
        assert!(left(&map) < 1 << 16);
        let reading = other.core.memory().enter().unwrap();
        assert!(left(&map) >= 1 << 20);
        drop(reading);
        // The memory is used again, and given back when it is freed again.
        map.set(b"large", &vec![1; 1 << 20]).unwrap();
        let full = committed(&map);
        assert!(map.remove(b"large").unwrap());
        assert!(committed(&map) + (1 << 20) <= full);
        // A participant that has left does not read, also if another that never read has its slot now.
        std::mem::forget(other.core.memory().enter());
        let slot = other.core.segment().slot();
        drop(other);
        assert!(left(&map) < 1 << 16);
        let next = Map::open(map.name()).unwrap();
        assert_eq!(next.core.segment().slot(), slot);
        assert!(left(&map) < 1 << 16);
        map.verify().unwrap();
    }

    #[test]
    fn a_forked_child_reads_on_lines_of_its_own() {
        let map = Map::anonymous().unwrap();
        let enter = || enter_at(&map, 0);
        let line = || std::ptr::from_ref(enter().unwrap().0);
        let ours = line();
        assert_eq!(line(), ours);
        // SAFETY: the child allocates nothing, and leaves without cleaning up.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let same = line() == ours;
            // SAFETY: ends the child, and returns to no Rust code.
            unsafe { libc::_exit(same.into()) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: a child of ours, waited for once.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(line(), ours);
    }

    #[test]
    fn two_threads_on_one_line_do_not_read_at_the_same_time() {
        let map = Map::anonymous().unwrap();
        let enter = || enter_at(&map, 0);
        let all: Vec<_> = (0..LANES)
            .map(|lane| enter_at(&map, lane).unwrap())
            .collect();
        assert!(enter().is_none());
        // A thread that was refused leaves the line as it is.
        assert!(enter().is_none());
        // Then the lock is used.
        map.set(b"k", b"v").unwrap();
        assert_eq!(map.get_vec(b"k").unwrap().unwrap(), b"v");
        drop(all);
        assert!(enter().is_some());
    }
}
