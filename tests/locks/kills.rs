//! Processes that hold a lock, a read-write lock or a permit are killed at random. The live ones never hold a lock
//! at the same time, are told whenever its owner died, and continue.
//!
//! A process that holds a lock stores its number in the word of the lock, and is marked before it is killed. A
//! process that takes the lock may find the number of a marked one only, and only if it was told that the owner
//! died.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::company::{LEAST_DONE, LEAST_KILLS, Words};
use crate::common::{Child, FOREVER, Random, alone, fork, soak_length};
use shoal::{Acquisition, Lock, Options, RwLock, Semaphore};

const WORKERS: usize = 3;
const PERMITS: u64 = 2;
const NOBODY: u64 = 0;
/// From this bit on, the bits of workers that were killed, in the word of the permits.
const DEAD: usize = 8;

/// What the processes share.
struct Shared {
    lock: Lock,
    recursive: Lock,
    rwlock: RwLock,
    semaphore: Semaphore,
    words: Words,
}

/// Words: the worker that holds each of the three locks, the workers that have a permit, then two for each worker.
const PERMITTED: usize = 3;
const MARKED: usize = PERMITTED + 1;
const DONE: usize = MARKED + WORKERS;
const WORDS: usize = DONE + WORKERS;

impl Shared {
    fn new() -> Self {
        let how = Options::create();
        Self {
            lock: Lock::anonymous().unwrap(),
            recursive: Lock::recursive(None, &how).unwrap(),
            rwlock: RwLock::anonymous().unwrap(),
            semaphore: Semaphore::bounded(None, PERMITS, &how).unwrap(),
            words: Words::new(WORDS),
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[at]
    }

    fn is_marked(&self, worker: usize) -> bool {
        self.word(MARKED + worker).load(Ordering::SeqCst) != 0
    }

    /// No process may hold the lock, unless it was killed and this one was told so.
    fn look(&self, place: usize, taken: Acquisition) {
        let found = self.word(place).load(Ordering::SeqCst);
        if found != NOBODY {
            assert!(self.is_marked(found as usize - 1), "two are in {place}");
            assert_eq!(
                taken,
                Acquisition::OwnerDied,
                "nobody told of a death in {place}"
            );
        }
    }

    /// Holds the lock for a while.
    fn stay(&self, place: usize, worker: usize, taken: Acquisition, length: u64) {
        let (word, me) = (self.word(place), worker as u64 + 1);
        self.look(place, taken);
        word.store(me, Ordering::SeqCst);
        for _ in 0..length {
            assert_eq!(word.load(Ordering::SeqCst), me, "two are in {place}");
        }
        word.store(NOBODY, Ordering::SeqCst);
    }

    /// Holds a permit for a while, and checks the number of holders.
    fn stay_permitted(&self, worker: usize, length: u64) {
        let word = self.word(PERMITTED);
        word.fetch_or(1 << worker, Ordering::SeqCst);
        for _ in 0..length {
            // One load, so that all holders are those at one moment.
            let now = word.load(Ordering::SeqCst);
            let inside = now & !(now >> DEAD) & ((1 << DEAD) - 1);
            assert!(
                u64::from(inside.count_ones()) <= PERMITS,
                "too many have a permit"
            );
        }
        word.fetch_and(!(1 << worker), Ordering::SeqCst);
    }

    fn work(&self, worker: usize, seed: u64) {
        let mut random = Random(seed);
        loop {
            let length = random.below(300);
            match random.below(5) {
                0 => {
                    let taken = self.lock.acquire(FOREVER).unwrap();
                    self.stay(0, worker, taken, length);
                    self.lock.release().unwrap();
                }
                1 => {
                    let taken = self.recursive.acquire(FOREVER).unwrap();
                    assert_eq!(self.recursive.acquire(FOREVER), Ok(Acquisition::Clean));
                    self.stay(1, worker, taken, length);
                    self.recursive.release().unwrap();
                    self.recursive.release().unwrap();
                }
                2 => {
                    let taken = self.rwlock.write(FOREVER).unwrap();
                    self.stay(2, worker, taken, length);
                    self.rwlock.release_write().unwrap();
                }
                3 => {
                    let taken = self.rwlock.read(FOREVER).unwrap();
                    (0..length).for_each(|_| self.look(2, taken));
                    self.rwlock.release_read().unwrap();
                }
                _ => {
                    self.semaphore.acquire(FOREVER).unwrap();
                    self.stay_permitted(worker, length);
                    self.semaphore.release(1).unwrap();
                }
            }
            self.word(DONE + worker).fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Kills a worker, and clears its word once no other needs it.
    fn kill(&self, worker: usize, child: Child) {
        self.word(MARKED + worker).store(1, Ordering::SeqCst);
        self.word(PERMITTED)
            .fetch_or(1 << (DEAD + worker), Ordering::SeqCst);
        child.kill();
        // The first process that takes the lock is told that its owner died. Often that is this one.
        for (place, lock) in [(0, &self.lock), (1, &self.recursive)] {
            self.stay(place, worker, lock.acquire(FOREVER).unwrap(), 0);
            lock.release().unwrap();
        }
        self.stay(2, worker, self.rwlock.write(FOREVER).unwrap(), 0);
        self.rwlock.release_write().unwrap();
        let gone = 1 << worker | 1 << (DEAD + worker);
        self.word(PERMITTED).fetch_and(!gone, Ordering::SeqCst);
        self.word(MARKED + worker).store(0, Ordering::SeqCst);
    }
}

fn kill_for(length: Duration) -> (u64, u64) {
    let (shared, mut random) = (Shared::new(), Random(0x5eed));
    let start = |worker: usize, seed: u64| fork(|| shared.work(worker, seed | 1));
    let mut workers: Vec<Child> = (0..WORKERS).map(|it| start(it, it as u64 + 7)).collect();
    let (began, mut kills) = (Instant::now(), 0);
    let done = || -> u64 {
        let each = (0..WORKERS).map(|it| shared.word(DONE + it).load(Ordering::SeqCst));
        each.sum()
    };
    while began.elapsed() < length || kills <= LEAST_KILLS || done() <= LEAST_DONE {
        std::thread::sleep(Duration::from_micros(500 + random.below(8_000)));
        let victim = random.below(WORKERS as u64) as usize;
        shared.kill(victim, workers.swap_remove(victim));
        workers.push(start(victim, random.next()));
        let last = workers.len() - 1;
        workers.swap(victim, last);
        kills += 1;
    }
    for (worker, child) in workers.into_iter().enumerate() {
        shared.kill(worker, child);
    }
    // Everything that the dead processes held is released.
    for _ in 0..PERMITS {
        shared.semaphore.acquire(FOREVER).unwrap();
    }
    shared.semaphore.release(PERMITS as u32).unwrap();
    assert_eq!(shared.semaphore.available().unwrap(), PERMITS);
    (kills, done())
}

#[test]
fn one_live_process_holds_a_lock_and_learns_of_owners_that_died() {
    let _alone = alone();
    let (kills, done) = kill_for(Duration::from_secs(2));
    assert!(
        kills > LEAST_KILLS && done > LEAST_DONE,
        "{kills} kills, {done} turns"
    );
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test locks kills::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let (kills, done) = kill_for(soak_length());
    println!("{kills} kills, {done} turns");
}
