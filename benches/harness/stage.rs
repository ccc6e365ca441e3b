//! The page that a measurement's processes share: how many are ready, what phase it is, what each did.
//!
//! ```text
//! offset  size  field    written by     meaning
//!      0     4  ready    every worker   how many workers wait for the start
//!    128     4  phase    the parent     GATHER -> WARM -> MEASURE -> STOP -> END
//!    256     4  turn     two workers    whose turn it is (futex round trips)
//!                      producers      how many have ended (programs of peers)
//!    384     4  result   one worker     1 once it has written `answers`
//!    512   128  answers  one worker     its figures, as bits of f64
//!    640   128  tallies  worker i       its messages and their sum, on its own cache line
//!  17024     8  times    every worker   a histogram of the lengths of calls (`times.rs`)
//! ```
//!
//! The page is an anonymous file, whose descriptor executed programs inherit and map.

use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::failure::Failure;

/// What one worker reports.
#[repr(C, align(128))]
pub(super) struct Tally {
    /// Messages so far. Written by the worker alone.
    pub(super) messages: AtomicU64,
    /// The wrapping sum of all their words, once the worker is done.
    pub(super) sum: AtomicU64,
}

/// A word alone on its cache line, and on the line that the processor fetches with it.
#[repr(C, align(128))]
struct Word(AtomicU32);

/// At most this many workers in one measurement.
pub(super) const WORKERS: usize = 128;

/// The number of buckets of the histogram.
pub(super) const TIMES: usize = 30 << 7;

#[repr(C)]
pub(super) struct Page {
    ready: Word,
    phase: Word,
    turn: Word,
    result: Word,
    answers: [AtomicU64; 16],
    tallies: [Tally; WORKERS],
    times: [AtomicU64; TIMES],
}

const _: () = assert!(offset_of!(Page, phase) == 128);
const _: () = assert!(offset_of!(Page, turn) == 256);
const _: () = assert!(offset_of!(Page, result) == 384);
const _: () = assert!(offset_of!(Page, answers) == 512);
const _: () = assert!(offset_of!(Page, tallies) == 640);
const _: () = assert!(offset_of!(Page, times) == 17024);

const GATHER: u32 = 0;
const WARM: u32 = 1;
const MEASURE: u32 = 2;
const STOP: u32 = 3;
const END: u32 = 4;

/// A mapping of the page.
pub(super) struct Stage {
    page: *const Page,
    file: OwnedFd,
}

impl Stage {
    /// A new page, all zero.
    pub(super) fn new() -> Result<Self, Failure> {
        // SAFETY: the name ends with NUL; the result is checked.
        let fd = unsafe { libc::memfd_create(c"shoal-bench".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor was just created and has no other owner.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the file is open and belongs to this process.
        if unsafe { libc::ftruncate(fd, size_of::<Page>() as libc::off_t) } < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Self::map(file)
    }

    /// The page behind a descriptor that this process inherited.
    pub(super) fn inherited(fd: RawFd) -> Result<Self, Failure> {
        // SAFETY: the descriptor is only duplicated, which fails if it is not open.
        let file = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        if std::fs::File::from(file.try_clone()?).metadata()?.len() < size_of::<Page>() as u64 {
            return Err("the inherited page is too short".into());
        }
        Self::map(file)
    }

    fn map(file: OwnedFd) -> Result<Self, Failure> {
        let (len, access) = (size_of::<Page>(), libc::PROT_READ | libc::PROT_WRITE);
        let (at, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        // SAFETY: the mapping is new, and the file is long enough. Any bytes are a valid page.
        match unsafe { libc::mmap(at, len, access, libc::MAP_SHARED, fd, 0) } {
            libc::MAP_FAILED => Err(std::io::Error::last_os_error().into()),
            page => Ok(Self {
                page: page.cast(),
                file,
            }),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn page(&self) -> &Page {
        // SAFETY: the page is mapped until `self` is dropped, and has only atomics.
        unsafe { &*self.page }
    }

    pub(super) fn tally(&self, worker: usize) -> &Tally {
        &self.page().tallies[worker]
    }

    /// The word that two processes pass to each other.
    pub(super) fn turn(&self) -> &AtomicU32 {
        &self.page().turn.0
    }

    /// Reports that a worker is ready, and waits for the others.
    pub(super) fn wait_for_start(&self) {
        self.page().ready.0.fetch_add(1, Ordering::AcqRel);
        let phase = &self.page().phase.0;
        // It sleeps: workers that are not ready yet may share their core with this one.
        while phase.load(Ordering::Acquire) == GATHER {
            futex_wait(phase, GATHER);
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.page().ready.0.load(Ordering::Acquire) as usize
    }

    /// Starts all workers. Nothing counts yet.
    pub(super) fn start(&self) {
        let phase = &self.page().phase.0;
        phase.store(WARM, Ordering::Release);
        futex_wake(phase, i32::MAX);
    }

    /// From now on the times that workers measure count.
    pub(super) fn measure(&self) {
        self.page().phase.0.store(MEASURE, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.page().phase.0.store(STOP, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.page().phase.0.load(Ordering::Relaxed) >= STOP
    }

    /// Marks that every producer has ended. Consumers whose channel cannot show its end check this.
    pub(super) fn end(&self) {
        self.page().phase.0.store(END, Ordering::Release);
    }

    #[allow(dead_code, reason = "for a peer's program, which has this file too")]
    pub(super) fn is_ended(&self) -> bool {
        self.page().phase.0.load(Ordering::Acquire) == END
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.page().phase.0.load(Ordering::Relaxed) == MEASURE
    }

    /// Whether the window has begun. It may be over by now.
    pub(super) fn has_begun(&self) -> bool {
        self.page().phase.0.load(Ordering::Relaxed) >= MEASURE
    }

    /// Reports that a worker that times itself has a result.
    pub(super) fn announce_result(&self) {
        self.page().result.0.store(1, Ordering::Release);
    }

    pub(super) fn has_result(&self) -> bool {
        self.page().result.0.load(Ordering::Acquire) != 0
    }

    /// The histogram of all workers.
    pub(super) fn times(&self) -> &[AtomicU64] {
        &self.page().times
    }

    /// Reports what a worker measured.
    pub(super) fn report(&self, answers: &[f64]) {
        for (index, answer) in answers.iter().enumerate() {
            self.report_at(index, *answer);
        }
    }

    /// Reports one figure.
    pub(super) fn report_at(&self, index: usize, answer: f64) {
        self.page().answers[index].store(answer.to_bits(), Ordering::Release);
    }

    /// The figures of a worker that has ended.
    pub(super) fn reported(&self, index: usize) -> f64 {
        f64::from_bits(self.page().answers[index].load(Ordering::Acquire))
    }

    /// How many messages each of the first `workers` has counted, and when that was.
    pub(super) fn counts(&self, workers: usize) -> (Instant, Vec<u64>) {
        // All cores may be busy with workers. If one of them ran between the clock and the
        // last tally, the two do not belong together.
        for _ in 0..50 {
            let (before, counts) = (Instant::now(), self.read_counts(workers));
            if before.elapsed() < Duration::from_micros(50) {
                return (before, counts);
            }
        }
        (Instant::now(), self.read_counts(workers))
    }

    /// A number that changes whenever a worker makes progress.
    pub(super) fn progress(&self, workers: usize) -> u64 {
        let counts = self.read_counts(workers).into_iter();
        let others = [self.ready() as u64, u64::from(self.has_result())];
        counts.chain(others).fold(0, u64::wrapping_add)
    }

    fn read_counts(&self, workers: usize) -> Vec<u64> {
        let tallies = (0..workers).map(|worker| self.tally(worker));
        tallies
            .map(|tally| tally.messages.load(Ordering::Acquire))
            .collect()
    }
}

/// Sleeps until a process wakes the sleepers of `word`, unless it has another value already.
pub(super) fn futex_wait(word: &AtomicU32, value: u32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            forever,
        )
    };
}

/// Wakes this many sleepers of `word`, in any process.
pub(super) fn futex_wake(word: &AtomicU32, how_many: i32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, how_many) };
}

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: `map` has made the mapping, and nothing uses it any more.
        unsafe { libc::munmap(self.page.cast_mut().cast(), size_of::<Page>()) };
    }
}
