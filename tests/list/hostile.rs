//! Lists with forged sizes, and processes killed at random.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::common::corruption::DATA;
use crate::common::{Random, alone, fork};
use shoal::{Error, List};

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
fn writers_killed_at_random_leave_a_consistent_list() {
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
