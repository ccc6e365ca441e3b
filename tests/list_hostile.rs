//! Lists with bytes that nobody should have written, and processes killed at random.

mod common;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::{Random, alone, fork, watchdog};
use shoal::{Error, List, Options};

// Where a list's own data begins in its file.
const DATA: u64 = 36_864;
const HEAP: u64 = DATA + 4096;

fn word_at(file: &File, offset: u64) -> u64 {
    let mut word = [0; 8];
    let _ = file.read_at(&mut word, offset);
    u64::from_le_bytes(word)
}

/// Where the file holds data, in words; the holes between stay holes.
fn words_of(file: &File) -> Vec<u64> {
    let (mut words, mut at) = (Vec::new(), DATA as i64);
    loop {
        // SAFETY: seeks in our own descriptor.
        let (from, to) = unsafe {
            let from = libc::lseek(file.as_raw_fd(), at, libc::SEEK_DATA);
            let to = libc::lseek(file.as_raw_fd(), from.max(0), libc::SEEK_HOLE);
            (from, to)
        };
        if from < 0 {
            return words;
        }
        words.extend((from as u64..to as u64).step_by(8));
        at = to;
    }
}

fn use_everything(list: &List, random: &mut Random) {
    let mut buf = [0; 4096];
    for _ in 0..60 {
        let at = random.below(150) as usize;
        let _ = list.get(at, &mut buf);
        let len = random.below(4000) as usize;
        match random.below(10) {
            0 => drop(list.set(at, &buf[..len])),
            1 => drop(list.pop()),
            2 => drop(list.pop_at(at)),
            3 => drop(list.insert(at, &buf[..len])),
            4 => drop(list.append(&vec![1; len * 20])),
            5 => drop(list.splice(at..at + 9, &[&buf[..len], b"x"])),
            6 => drop(list.swap(at, at / 2)),
            7 => drop(list.remove(at..at + 3)),
            8 => drop(list.reverse()),
            _ => drop(list.sort_by(|a, b| a.cmp(b))),
        }
    }
    let _ = list.iter().take(2000).count();
    let _ = list.len();
    let _ = list.verify();
    let _ = list.clear();
    let _ = list.append(b"v");
}

#[test]
fn wounded_lists_answer_and_never_crash_or_hang() {
    let _alone = alone();
    watchdog();
    for seed in 1..=150 {
        let mut random = Random(seed);
        let list = List::with_options(None, &Options::create().max_capacity(64 << 20)).unwrap();
        for i in 0..150u64 {
            list.append(&vec![i as u8; i as usize * 9]).unwrap();
        }
        list.remove(60..70).unwrap();
        list.append(&[1; 70_000]).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .open(format!("/dev/shm/shoal.{}", list.name()))
            .unwrap();
        let words = words_of(&file);
        // Early words are the view, the lists and the block map: half of the wounds go there.
        let vital = words.iter().filter(|at| **at < HEAP + 4096).count() as u64;
        for _ in 0..1 + random.below(60) {
            let range = [vital, words.len() as u64][random.below(2) as usize];
            let at = words[random.below(range) as usize];
            let word = match random.below(5) {
                0 => random.next(),
                1 => random.below(200),
                2 => word_at(&file, at) ^ 1 << random.below(64),
                3 => word_at(&file, words[random.below(vital) as usize]),
                _ => word_at(&file, words[random.below(words.len() as u64) as usize]),
            };
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
        }
        use_everything(&list, &mut random);
        // Who comes later gets an answer, too.
        if let Ok(other) = List::open(list.name()) {
            use_everything(&other, &mut random);
        }
    }
}

#[test]
fn every_word_of_the_header_may_be_anything() {
    let _alone = alone();
    watchdog();
    for at in (DATA..DATA + 704 + 448).step_by(8) {
        for word in [1, 200, 1 << 32, 9 << 32 | 1, u64::MAX, u64::MAX >> 1] {
            let list = List::with_options(None, &Options::create().max_capacity(1 << 20)).unwrap();
            let items: Vec<_> = (0..140u8).map(|i| [i; 20]).collect();
            list.extend(&items).unwrap();
            list.remove(20..25).unwrap();
            let file = File::options()
                .write(true)
                .open(format!("/dev/shm/shoal.{}", list.name()))
                .unwrap();
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
            use_everything(&list, &mut Random(at.wrapping_add(word)));
        }
    }
}

#[test]
fn sizes_that_do_not_fit_the_file_are_corrupt() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let file = File::options()
        .write(true)
        .open(format!("/dev/shm/shoal.{}", list.name()))
        .unwrap();
    for blocks in [0u64, 1, 77, u64::MAX] {
        file.write_all_at(&blocks.to_le_bytes(), DATA).unwrap();
        let err = List::open(list.name()).unwrap_err();
        assert!(matches!(err, Error::Corrupt { .. }), "{err}");
    }
}

/// Elements tell whether they are whole: all their bytes are their length's last.
fn element(random: &mut Random) -> Vec<u8> {
    let len = match random.below(8) {
        0 => random.below(100_000),
        1..4 => random.below(9),
        _ => random.below(2000),
    };
    vec![len as u8; len as usize]
}

fn write_for_ever(list: &List, mut random: Random) {
    loop {
        let at = random.below(200) as usize;
        let some = [element(&mut random), element(&mut random)];
        match random.below(12) {
            0 => drop(list.pop().unwrap()),
            1 => drop(list.pop_at(at).unwrap()),
            2 => drop(list.set(at, &some[0]).unwrap()),
            3 => drop(list.swap(at, at / 2).unwrap()),
            4 => list.insert(at, &some[0]).unwrap(),
            5 => list.splice(at..at + 3, &some).unwrap(),
            6 => list.remove(at..at + 2).unwrap(),
            7 if random.below(9) == 0 => list.reverse().unwrap(),
            8 if random.below(9) == 0 => list.sort_by(|a, b| a.cmp(b)).unwrap(),
            9 if random.below(50) == 0 => list.clear().unwrap(),
            10 => list.extend(&some).unwrap(),
            _ => list.append(&some[1]).unwrap(),
        }
    }
}

#[test]
fn writers_killed_at_random_leave_a_whole_list() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let (mut random, mut most) = (Random(42), 0);
    for round in 1..=40u64 {
        let writers: Vec<_> = (1..=3)
            .map(|child| fork(|| write_for_ever(&list, Random(round * 10 + child))))
            .collect();
        for writer in writers {
            std::thread::sleep(Duration::from_micros(3_000 + random.below(9_000)));
            writer.kill();
        }
        list.verify().unwrap();
        let all = list.range_vec(0..usize::MAX).unwrap();
        for bytes in &all {
            assert!(bytes.iter().all(|byte| *byte == bytes.len() as u8));
        }
        most = most.max(all.len());
    }
    assert!(most > 0, "the writers did nothing");
    list.clear().unwrap();
    list.verify().unwrap();
}
