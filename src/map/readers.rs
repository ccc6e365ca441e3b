//! Who is reading without a lock, so that no memory is taken away under them.
//!
//! What such a reader reads is checked afterwards (see `seq`), so it does no harm if somebody
//! writes there. But if somebody gave the memory back to the system, reading it would take a page
//! from `/dev/shm` again, or raise SIGBUS when that is full. So readers say that they are
//! reading, each on a cache line of its own, and memory is given back only while nobody is.
//!
//! ```text
//! behind the heap, 4 lines of 64 bytes for each of the 1024 participants
//! offset  size  field
//!      0     4  reading  1 while a thread of this participant reads, else 0
//! ```
//! Entering is one swap, which also keeps what is read after it from being read before it (where it is
//! no full barrier, on Arm, with a fence behind it). Whoever
//! gives memory back has made it unreachable before it looks here: so it sees the reader, or the
//! reader does not see the memory. It waits some microseconds for those who are reading; if one
//! of them does not come to an end (it was stopped, say), the memory stays until its extent is
//! freed the next time. Who died reading is ignored, by the kernel's word, and who takes its place
//! clears its lines; who dies before it has said that its lines hold memory has read nothing.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::error::Result;
use crate::heap::{Backing, PAGE};
use crate::layout::{Offset, Region, Shared, SharedRef};
use crate::segment::Segment;

/// Threads of one process that may read at the same time. More take the lock.
const LANES: usize = 4;
const SEATS: usize = 1024;
/// Participants whose lines share a page.
const SEATS_PER_PAGE: u32 = (PAGE as usize / size_of::<Seat>()) as u32;
/// Bytes of all lines.
pub(super) const SIZE: u64 = size_of::<Lines>() as u64;
/// How often to look whether a reader has come to an end. A read takes 0.1 us.
const LOOKS: u32 = 1000;

#[repr(C)]
struct Line {
    reading: AtomicU32,
    _unused: [AtomicU32; 15],
}

type Seat = [Line; LANES];

#[repr(C)]
struct Lines([Seat; SEATS]);

const _: () = assert!(size_of::<Line>() == 64 && SIZE == 256 << 10);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Lines {}

/// What [`Segment::known`] says while the lines of its slot are being made ready.
const BUSY: *mut () = ptr::dangling_mut();

/// The lines of all participants. Which are this process's, [`Segment::known`] says once they are
/// ready.
pub(super) struct Readers {
    lines: SharedRef<Lines>,
    base: u64,
    /// In shared memory: pages of lines that hold memory. Only grows.
    pages: SharedRef<AtomicU32>,
}

/// This thread is reading until this is dropped.
pub(super) struct Reading<'a>(&'a AtomicU32);

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        // SYNC: what was read was read before.
        self.0.store(0, Ordering::Release);
    }
}

impl Readers {
    /// Lines that begin at `base` of the region.
    pub(super) fn new(region: Region, base: u64, pages: SharedRef<AtomicU32>) -> Result<Self> {
        Ok(Self {
            lines: region.keep(Offset::new(base))?,
            base,
            pages,
        })
    }

    /// Says that this thread reads. `None` if it cannot say so, and has to take the lock.
    #[inline(always)]
    pub(super) fn enter(&self, segment: &Segment) -> Option<Reading<'_>> {
        self.enter_at(lane(), segment)
    }

    #[inline(always)]
    fn enter_at(&self, lane: usize, segment: &Segment) -> Option<Reading<'_>> {
        let known = segment.known().load(Ordering::Acquire);
        let seat = match known > BUSY {
            // SAFETY: `sit_down` put it there: one of `lines`.
            true => unsafe { &*known.cast::<Seat>() },
            false => self.sit_down(segment)?,
        };
        let reading = &seat[lane % LANES].reading;
        // SYNC: with the fence in `are_out`, a full barrier; a swap is one by itself on x86.
        let before = reading.swap(1, Ordering::SeqCst);
        if cfg!(not(target_arch = "x86_64")) {
            fence(Ordering::SeqCst);
        }
        (before == 0).then_some(Reading(reading))
    }

    /// Makes the lines of this participant ready: they have memory, and say what is true.
    #[cold]
    fn sit_down(&self, segment: &Segment) -> Option<&Seat> {
        let known = segment.known();
        let claim =
            known.compare_exchange(ptr::null_mut(), BUSY, Ordering::Acquire, Ordering::Relaxed);
        // Another thread is about it, or just was.
        claim.ok()?;
        let slot = segment.slot();
        let pages = u32::from(slot) / SEATS_PER_PAGE + 1;
        if segment.commit(self.base, u64::from(pages) * PAGE).is_err() {
            known.store(ptr::null_mut(), Ordering::Release);
            return None;
        }
        self.pages.fetch_max(pages, Ordering::SeqCst);
        let seat = self.seat(slot);
        for line in seat {
            // Who had this place before may have died reading.
            line.reading.store(0, Ordering::SeqCst);
        }
        known.store(ptr::from_ref(seat).cast_mut().cast(), Ordering::Release);
        Some(seat)
    }

    /// A participant's lines.
    fn seat(&self, slot: u16) -> &Seat {
        &self.lines.0[usize::from(slot) % SEATS]
    }

    /// Whether all who may read what has just been made unreachable have come to an end.
    fn are_out(&self, segment: &Segment) -> bool {
        // SYNC: with the swap in `enter`.
        fence(Ordering::SeqCst);
        let pages = self.pages.load(Ordering::SeqCst);
        let seats = pages.saturating_mul(SEATS_PER_PAGE).min(SEATS as u32);
        (0..seats as u16).all(|slot| {
            let is_out = |line: &Line| line.reading.load(Ordering::Acquire) == 0;
            let comes_out = |line: &Line| {
                (0..LOOKS).any(|_| {
                    std::hint::spin_loop();
                    is_out(line)
                })
            };
            let mut lines = self.seat(slot).iter();
            lines.all(|line| is_out(line) || comes_out(line))
                || matches!(segment.is_taken(slot), Ok(false))
        })
    }
}

/// Which of a participant's lines, modulo [`LANES`]: mostly another one for each of its threads, whose
/// stacks are as far from each other as a power of two and a page that guards it. (A thread-local
/// variable would be a call, in a shared library.)
#[inline]
fn lane() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here) as usize / PAGE as usize
}

/// The memory of a map: given back only while nobody reads it.
pub(super) struct Memory<'a> {
    pub(super) segment: &'a Segment,
    pub(super) readers: &'a Readers,
}

impl Backing for Memory<'_> {
    fn commit(&self, offset: u64, len: u64) -> Result<()> {
        self.segment.commit(offset, len)
    }

    fn decommit(&self, offset: u64, len: u64) -> Result<()> {
        if self.readers.are_out(self.segment) {
            return self.segment.decommit(offset, len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::LANES;
    use crate::map::Map;
    use crate::segment;

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
    fn memory_is_given_back_unless_somebody_reads() {
        let map = Map::anonymous().unwrap();
        map.set(b"k", b"v").unwrap();
        let other = Map::open(map.name()).unwrap();
        assert!(left(&map) < 1 << 16);
        let reading = other.core.readers.enter(&other.core.segment).unwrap();
        assert!(left(&map) >= 1 << 20);
        drop(reading);
        // Freed again, it goes; and it has been used again.
        map.set(b"large", &vec![1; 1 << 20]).unwrap();
        let full = committed(&map);
        assert!(map.remove(b"large").unwrap());
        assert!(committed(&map) + (1 << 20) <= full);
        // Who is gone does not read.
        std::mem::forget(other.core.readers.enter(&other.core.segment));
        drop(other);
        assert!(left(&map) < 1 << 16);
        map.verify().unwrap();
    }

    #[test]
    fn a_forked_child_reads_on_lines_of_its_own() {
        let map = Map::anonymous().unwrap();
        let enter = || map.core.readers.enter_at(0, &map.core.segment);
        let line = || std::ptr::from_ref(enter().unwrap().0);
        let ours = line();
        assert_eq!(line(), ours);
        // SAFETY: the child allocates nothing, and leaves without cleaning up.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let same = line() == ours;
            // SAFETY: always.
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
        let enter = || map.core.readers.enter_at(0, &map.core.segment);
        let all: Vec<_> = (0..LANES)
            .map(|lane| map.core.readers.enter_at(lane, &map.core.segment).unwrap())
            .collect();
        assert!(enter().is_none());
        // By the lock, then.
        map.set(b"k", b"v").unwrap();
        assert_eq!(map.get_vec(b"k").unwrap().unwrap(), b"v");
        drop(all);
        assert!(enter().is_some());
    }
}
