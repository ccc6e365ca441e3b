//! Forged bytes that are consistent with each other: cyclic chains with matching counts. Every call returns,
//! because its loops are bounded, and returns `Corrupt` where it can detect that.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{NOWAIT, alone, millis};
use shoal::{Barrier, Condition, Error, List, Lock, Options, Queue, RwLock, Semaphore};

/// Where an object's own data begins in its file.
const DATA: u64 = 36_864;

/// An object's own bytes.
struct Bytes(File);

impl Bytes {
    fn of(name: &str) -> Self {
        let path = format!("/dev/shm/shoal.{name}");
        Self(File::options().read(true).write(true).open(path).unwrap())
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, DATA + at).unwrap();
        u64::from_le_bytes(word)
    }

    fn half(&self, at: u64) -> u32 {
        let mut half = [0; 4];
        self.0.read_exact_at(&mut half, DATA + at).unwrap();
        u32::from_le_bytes(half)
    }

    fn set(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_le_bytes(), DATA + at).unwrap();
    }

    fn set_half(&self, at: u64, half: u32) {
        self.0.write_all_at(&half.to_le_bytes(), DATA + at).unwrap();
    }

    /// Its first page, mapped for the rest of the test: to change words faster than by calls.
    fn page(&self) -> &'static [AtomicU64; 512] {
        let (page, fd) = (4096, self.0.as_raw_fd());
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses; the file has the page.
        let at = unsafe {
            let none = std::ptr::null_mut();
            libc::mmap(none, page, access, libc::MAP_SHARED, fd, DATA as i64)
        };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the page is never unmapped, and any bits are valid atomics.
        unsafe { &*at.cast() }
    }
}

/// Calls `work` repeatedly, until another thread has called `forge` that many times meanwhile, with the numbers from
/// 0 on.
fn while_forged(times: u64, forge: impl Fn(u64) + Sync, mut work: impl FnMut()) {
    /// Ends the other thread, after a panic too.
    struct End<'a>(&'a AtomicBool);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let (over, forged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                forge(forged.fetch_add(1, Ordering::Relaxed));
            }
        });
        let _end = End(&over);
        while forged.load(Ordering::Relaxed) < times {
            work();
        }
    });
}

fn is_corrupt<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Corrupt { .. }))
}

/// The queue's words, from the drawings in `src/queue`.
mod queue {
    pub(crate) const FIRST: u64 = 540;
    pub(crate) const DESCRIPTORS: u64 = 652;
    pub(crate) const FIFO: u64 = 568;
    pub(crate) const STORE: u64 = 1152;
    pub(crate) const OLDEST: u64 = STORE + 64;
    pub(crate) const CACHED: u64 = STORE + 72;
    pub(crate) const BINS: u64 = STORE + 128 + 32;
    pub(crate) const WAITING: u64 = STORE + 680;
    /// In the head of a message in the store.
    pub(crate) const NEXT: u64 = 32;

    pub(crate) const MAX: u64 = 1 << 20;

    /// Where the block map is, and where block 0 would be.
    pub(crate) fn map_and_blocks() -> (u64, u64) {
        let at = 4096 + MAX;
        let blocks = ((MAX + (64 << 10) + (128 << 10)) / 4096 + 1) * 4;
        (at, at + (blocks * 24).next_multiple_of(4096))
    }
}

fn queue_and_bytes() -> (Queue, Bytes) {
    let options = Options::create().capacity(4096).max_capacity(queue::MAX);
    let queue = Queue::with_options(None, &options).unwrap();
    let bytes = Bytes::of(queue.name());
    (queue, bytes)
}

fn is_readable(queue: &Queue) -> bool {
    let mut polled = libc::pollfd {
        fd: queue.fd().unwrap().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor; it does not wait.
    unsafe { libc::poll(&mut polled, 1, 0) == 1 }
}

#[test]
fn forged_words_about_descriptors_are_corrected_at_the_next_check() {
    let _alone = alone();
    let (queue, bytes) = queue_and_bytes();
    assert!(!is_readable(&queue));
    let comes = || {
        queue.put(b"x", NOWAIT).unwrap();
        while !is_readable(&queue) {
            std::thread::yield_now();
        }
    };
    let goes = || {
        while is_readable(&queue) {
            std::thread::yield_now();
        }
    };
    for told in [1, 2, 3, 7, u32::MAX] {
        bytes.set_half(queue::DESCRIPTORS, told);
        comes();
        queue.get_vec(NOWAIT).unwrap();
        assert!(!is_readable(&queue));
        comes();
        bytes.set_half(queue::DESCRIPTORS, 0);
        queue.get_vec(NOWAIT).unwrap();
        goes();
    }
    // A process that cannot open the FIFO is notified by its own thread, and the others by theirs.
    bytes.set(queue::FIFO, 12345);
    let same = Queue::open(queue.name()).unwrap();
    assert!(!is_readable(&same));
    comes();
    while !is_readable(&same) {
        std::thread::yield_now();
    }
    same.get_vec(NOWAIT).unwrap();
    assert!(!is_readable(&same));
    goes();
}

#[test]
fn a_cycle_of_due_messages_ends_with_the_next_check() {
    let _alone = alone();
    let (queue, bytes) = queue_and_bytes();
    (0..2).for_each(|it| queue.put(&[it; 10], NOWAIT).unwrap());
    let leases = [(); 2].map(|()| queue.lease(NOWAIT).unwrap());
    let [first, second] = leases;
    first.nack(Duration::ZERO).unwrap();
    let block = bytes.half(queue::FIRST);
    let (_, blocks) = queue::map_and_blocks();
    let next = blocks + u64::from(block) * 1024 + queue::NEXT;
    assert_eq!((block != 0, bytes.half(next)), (true, 0));
    bytes.set_half(next, block);
    bytes.set(queue::WAITING, 1 << 62);
    // Its place is not found near the beginning, so a check makes the list anew.
    second.nack(Duration::ZERO).unwrap();
    for number in 0..2 {
        assert_eq!(queue.get_vec(NOWAIT), Ok(vec![number; 10]));
    }
    // No other call hangs either; its result depends on the bytes.
    let _ = (
        queue.len(),
        queue.unfinished(),
        queue.leased(),
        queue.join(NOWAIT),
    );
    for _ in 0..9 {
        let _ = (queue.get_vec(NOWAIT), queue.put(b"x", NOWAIT));
        let _ = queue.lease(NOWAIT).map(|it| it.ack());
    }
}

#[test]
fn a_cycle_of_cached_extents_is_corrupt() {
    let _alone = alone();
    let (queue, bytes) = queue_and_bytes();
    for _ in 0..3 {
        let rooms = [(); 2].map(|()| queue.reserve(30_000, NOWAIT).unwrap());
        drop(rooms);
    }
    let oldest = bytes.half(queue::OLDEST);
    assert!(oldest != 0 && bytes.word(queue::CACHED) >= 60);
    let (_, blocks) = queue::map_and_blocks();
    bytes.set_half(blocks + u64::from(oldest) * 1024 + queue::NEXT, oldest);
    bytes.set(queue::CACHED, u64::MAX / 2);
    // More memory than there is beside the cached extents.
    let rooms: Vec<_> = (0..99).map(|_| queue.reserve(40_000, NOWAIT)).collect();
    assert!(rooms.iter().any(is_corrupt));
    drop(rooms);
    let _ = queue.get_vec(millis(150));
}

#[test]
fn a_cycle_of_free_memory_ends_the_search() {
    let _alone = alone();
    let (queue, bytes) = queue_and_bytes();
    // A free extent of 8 blocks between two in use; extents of 8 and 9 are in one list.
    let mut rooms: Vec<_> = (0..3)
        .map(|_| queue.reserve(8 * 1024 - 64, NOWAIT).unwrap())
        .collect();
    drop(rooms.remove(1));
    let free = bytes.half(queue::BINS + 8 * 4);
    assert!(free != 0);
    let (map, _) = queue::map_and_blocks();
    bytes.set_half(map + u64::from(free) * 24 + 8, free);
    let more: Vec<_> = (0..200)
        .map(|_| queue.reserve(9 * 1024 - 64, NOWAIT))
        .collect();
    assert!(more.iter().any(Result::is_err));
}

#[test]
fn a_wide_ring_of_padding_ends() {
    let _alone = alone();
    let (queue, bytes) = queue_and_bytes();
    queue.put(&[0; 4000], NOWAIT).unwrap();
    // Padding from the head to the tail, in records of 16 bytes.
    for at in (0..4096).step_by(16) {
        bytes.set(4096 + at, 0x44);
        bytes.set(4096 + at + 8, 0);
    }
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    assert!(shoal::wait_any(&[shoal::Waitable::Queue(&queue)], NOWAIT).is_err());
    // A message that the counts do not contain, with the head beyond the initial ring.
    let capacity = 1 << 16;
    bytes.set(0, capacity);
    for at in (4096..capacity).step_by(16) {
        bytes.set(4096 + at, 0x52);
        bytes.set(4096 + at + 8, 0);
    }
    bytes.set(256, (8192 + 160) | (bytes.word(256) & 1));
    bytes.set(512, 8192 | (bytes.word(512) & 1));
    bytes.set(448, 8192);
    for at in [200, 456] {
        (0..4).for_each(|it| bytes.set(at + it * 8, 7));
    }
    let _ = shoal::wait_any(&[shoal::Waitable::Queue(&queue)], NOWAIT);
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"");
}

#[test]
fn a_list_as_long_as_its_table_is_whatever_its_words_say() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&vec![[7; 20]; 300]).unwrap();
    let bytes = Bytes::of(list.name());
    let state = 704;
    for (len, gap_at, gap) in [(u64::MAX, 0, 0), (0, 0, u64::MAX), (2, 1, 1)] {
        for view in [state + 64, state + 96] {
            let words = u64::from(bytes.half(view + 4)) * 128;
            // As many as fit, for both requests.
            bytes.set(view + 8, len.min(words));
            bytes.set(view + 16, gap_at);
            bytes.set(view + 24, gap.min(words));
        }
        let _ = (list.len(), list.get_vec(1), list.range_vec(0..usize::MAX));
        let _ = (
            list.reverse(),
            list.sort_by(|a, b| a.cmp(b)),
            list.insert(1, b"x"),
        );
        let _ = (
            list.pop(),
            list.remove(0..2),
            list.iter().take(9000).count(),
        );
        let _ = (list.splice(0..1, &[[1; 30]; 50]), list.verify());
    }
    // The slots of a slab, and its list, in cycles.
    let list = List::anonymous().unwrap();
    list.extend(&vec![[7; 20]; 40]).unwrap();
    list.remove(3..30).unwrap();
    let bytes = Bytes::of(list.name());
    for block in 1..20 {
        let entry = 4096 + block * 24;
        bytes.set(entry + 8, block << 32 | block);
    }
    for _ in 0..99 {
        let _ = (
            list.append(&[1; 20]),
            list.pop_at(0),
            list.append(&[1; 900]),
        );
    }
    let _ = list.verify();
}

#[test]
fn a_barrier_with_an_impossible_number_of_parties_is_corrupt() {
    let _alone = alone();
    for parties in [0, 513, u64::MAX] {
        let barrier = Barrier::with_options(None, 2, &Options::create()).unwrap();
        Bytes::of(barrier.name()).set(72, parties);
        assert!(is_corrupt(&barrier.wait(millis(5))));
        let _ = (barrier.waiting(), barrier.abort(), barrier.reset());
    }
}

#[test]
fn a_length_that_changes_within_a_call_is_corrupt() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&[[7; 4]; 101]).unwrap();
    list.remove(0..1).unwrap();
    // The two shapes: the table, the length, where the gap is, and how long.
    let page = Bytes::of(list.name()).page();
    let shapes = [&page[96..100], &page[100..104]];
    let forge = |_| {
        for len in [2, 100] {
            for shape in shapes {
                for (word, forged) in shape[1..].iter().zip([len, 0, 1]) {
                    word.store(forged, Ordering::Relaxed);
                }
            }
        }
    };
    while_forged(2_000_000, forge, || {
        for answer in [list.remove(90..95), list.splice(40..60, &[[1; 4]; 3])] {
            assert!(answer.is_ok() || is_corrupt(&answer), "{answer:?}");
        }
    });
}

#[test]
fn a_table_of_waiters_that_grows_within_a_call_is_never_left() {
    let _alone = alone();
    let condition = Condition::anonymous().unwrap();
    let bytes = Bytes::of(condition.name());
    // All of them wait, and have no owner.
    for place in 0..1024 {
        bytes.set_half(64 + 16 + place * 24 + 16, 1);
    }
    let used = &bytes.page()[8];
    let forge = |round: u64| {
        let forged = if round.is_multiple_of(2) { 1 } else { 1024 };
        used.store(forged, Ordering::Relaxed);
    };
    while_forged(6_000_000, forge, || {
        let place = condition.enlist();
        assert!(place.is_err() || place.is_ok_and(|it| it < 1024));
    });
}

#[test]
fn impossible_numbers_of_holders_and_waiters_are_clamped() {
    let _alone = alone();
    let condition = Condition::anonymous().unwrap();
    let bytes = Bytes::of(condition.name());
    bytes.set_half(64, u32::MAX);
    // All of them wait, and have no owner.
    for place in 0..1024 {
        bytes.set_half(64 + 16 + place * 24 + 16, 1);
    }
    assert_eq!(condition.waiting(), Ok(0));
    condition.notify_all().unwrap();
    let lock = Lock::anonymous().unwrap();
    let _guard = lock.lock(NOWAIT).unwrap();
    let _ = condition.wait(&lock, millis(5));

    let lock = RwLock::anonymous().unwrap();
    let bytes = Bytes::of(lock.name());
    bytes.set_half(168, u32::MAX);
    (0..1024).for_each(|it| bytes.set(176 + it * 8, u64::MAX));
    bytes.set(144, u64::MAX);
    assert_eq!(lock.holders(), Ok((0, false)));
    let _ = lock.write(NOWAIT).unwrap();
}

#[test]
fn any_number_of_permits_is_released_in_as_many_steps_as_there_are_holders() {
    let _alone = alone();
    let most = i32::MAX as u32;
    let semaphore = Semaphore::with_options(None, 0, &Options::create()).unwrap();
    semaphore.release(most).unwrap();
    assert_eq!(semaphore.available(), Ok(most.into()));
    assert!(semaphore.release(1).is_err());
    // All of them held, by this process and by others.
    let bytes = Bytes::of(semaphore.name());
    bytes.set(72, 0);
    bytes.set_half(128, 1024);
    (0..1024).for_each(|it| bytes.set(136 + it * 8, 1 << 32 | (1 << 20)));
    semaphore.release(1 << 30).unwrap();
    let _ = semaphore.acquire(NOWAIT);
}
