//! Locks and their relatives with bytes that nobody should have written.
//!
//! The bytes of pthread mutexes are left alone: they belong to the C library and the kernel,
//! which trust them.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::{NOWAIT, Random, alone, millis};
use shoal::{Lock, Options};

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
