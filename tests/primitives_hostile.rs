//! Locks and their relatives with bytes that nobody should have written.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::{NOWAIT, Random, alone, millis};
use shoal::{Barrier, Condition, Event, Lock, Options, RwLock, Semaphore};

/// Where an object's own data begins in its file.
const DATA: u64 = 36_864;

fn file(name: &str) -> File {
    let path = format!("/dev/shm/shoal.{name}");
    File::options().read(true).write(true).open(path).unwrap()
}

/// Writes over some words of those `len` bytes that begin at `from`.
fn wound(file: &File, random: &mut Random, from: u64, len: u64) {
    for _ in 0..1 + random.below(6) {
        let at = DATA + from + random.below(len / 4) * 4;
        let word = match random.below(4) {
            0 => u32::MAX,
            1 => random.below(5) as u32,
            2 => 1 << random.below(32),
            _ => random.next() as u32,
        };
        file.write_all_at(&word.to_le_bytes(), at).unwrap();
    }
}

#[test]
fn a_wounded_lock_answers() {
    let _alone = alone();
    let mut random = Random(7);
    for round in 0..300 {
        let options = Options::create();
        let lock = match round % 2 {
            0 => Lock::with_options(None, &options),
            _ => Lock::recursive(None, &options),
        };
        let lock = lock.unwrap();
        wound(&file(lock.name()), &mut random, 0, 64);
        for _ in 0..3 {
            let _ = lock.acquire(millis(1));
            let _ = (lock.is_mine(), lock.depth(), lock.is_held());
            let _ = lock.release();
        }
        let other = Lock::open(lock.name()).unwrap();
        let _ = other.acquire(NOWAIT);
        let _ = other.release();
    }
}

/// Wounds some words of the mutex and the head of `name`, some of all.
fn wound_guarded(name: &str, random: &mut Random, len: u64) {
    let file = file(name);
    wound(&file, random, 0, 128);
    wound(&file, random, 64, len - 64);
}

#[test]
fn a_wounded_semaphore_answers() {
    let _alone = alone();
    let mut random = Random(8);
    for _ in 0..150 {
        let it = Semaphore::with_options(None, 2, &Options::create()).unwrap();
        it.acquire(NOWAIT).unwrap();
        wound_guarded(it.name(), &mut random, 8300);
        for _ in 0..3 {
            let _ = it.acquire(millis(1));
            let _ = (it.release(2), it.available());
        }
        let _ = Semaphore::open(it.name()).unwrap().acquire(NOWAIT);
    }
}

#[test]
fn a_wounded_event_answers() {
    let _alone = alone();
    let mut random = Random(9);
    for _ in 0..100 {
        let it = Event::anonymous().unwrap();
        wound(&file(it.name()), &mut random, 0, 16);
        let _ = it.wait(millis(1));
        it.set();
        assert!(it.is_set() && it.wait(NOWAIT).is_ok());
        it.clear();
        assert!(!it.is_set());
    }
}

#[test]
fn a_wounded_condition_answers() {
    let _alone = alone();
    let mut random = Random(10);
    let lock = Lock::anonymous().unwrap();
    for _ in 0..150 {
        let it = Condition::anonymous().unwrap();
        let places: Vec<_> = (0..5).map(|_| it.enlist().unwrap()).collect();
        wound_guarded(it.name(), &mut random, 300);
        let _guard = lock.lock(NOWAIT).unwrap();
        for place in places {
            let _ = (it.notify(1), it.sleep(place, millis(1)), it.leave(place));
        }
        let _ = it.wait(&lock, millis(3));
        let _ = (it.notify_all(), it.waiting());
        assert!(it.leave(u32::MAX).is_err());
    }
}

#[test]
fn a_wounded_barrier_answers() {
    let _alone = alone();
    let mut random = Random(11);
    for _ in 0..150 {
        let it = Barrier::with_options(None, 4, &Options::create()).unwrap();
        let places: Vec<_> = (0..3).map(|_| it.arrive(NOWAIT).unwrap().place).collect();
        wound_guarded(it.name(), &mut random, 300);
        let _ = it.wait(millis(3));
        for place in places {
            let _ = (it.sleep(place, millis(1)), it.give_up(place));
        }
        let _ = (it.reset(), it.abort(), it.waiting(), it.is_broken());
        let _ = it.release(0);
    }
}

#[test]
fn a_wounded_read_write_lock_answers() {
    let _alone = alone();
    let mut random = Random(12);
    for _ in 0..150 {
        let it = RwLock::anonymous().unwrap();
        let _ = it.read(NOWAIT).unwrap();
        wound_guarded(it.name(), &mut random, 8300);
        for _ in 0..2 {
            let _ = (it.write(millis(1)), it.release_write());
            let _ = (it.read(millis(1)), it.release_read(), it.holders());
        }
        let _ = RwLock::open(it.name()).unwrap().read(NOWAIT);
    }
}
