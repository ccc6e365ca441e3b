//! Maps of noise, and processes killed at random.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::Duration;

use crate::common::corruption::DATA;
use crate::common::{FOREVER, NOWAIT, Random, alone, beside_others, fork, only};
use shoal::{Error, Map};

fn file_of(map: &Map) -> File {
    let path = format!("/dev/shm/shoal.{}", map.name());
    File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_map_of_zeros_or_random_bytes_is_refused_or_its_calls_return() {
    let _beside = beside_others();
    let map = Map::anonymous().unwrap();
    map.set(b"k", b"v").unwrap();
    let file = file_of(&map);
    file.write_all_at(&[0xff; 16], DATA).unwrap();
    assert!(matches!(Map::open(map.name()), Err(Error::Corrupt { .. })));
    file.write_all_at(&[0; 64], DATA).unwrap();
    assert!(matches!(Map::open(map.name()), Err(Error::Corrupt { .. })));
}

#[test]
fn invalid_hold_words_make_no_call_wait() {
    let _beside = beside_others();
    let map = Map::anonymous().unwrap();
    let file = file_of(&map);
    for shard in 0..64 {
        // See `src/map/header.rs` and `store.rs`.
        let holds = DATA + 4096 + shard * 640 + 64 + 368;
        file.write_all_at(&[4; 192], holds).unwrap();
    }
    map.update(b"key", |_| Some(b"value".to_vec())).unwrap();
    drop(map.lock_key(b"key", FOREVER).unwrap());
    let view = map.view(b"key").unwrap().unwrap();
    assert_eq!(&view[..], b"value");
}

#[test]
fn a_reservation_without_an_end_makes_no_call_wait() {
    let _alone = alone();
    let map = Map::anonymous().unwrap();
    let file = file_of(&map);
    // See `src/map/header.rs` and `key_handoff.rs`.
    let reserved = || -> Vec<u64> {
        let all = (0..64).map(|shard| DATA + 672 + shard * 24);
        let is_made = |reservation: &u64| {
            let mut since = [0; 8];
            file.read_exact_at(&mut since, reservation + 8).unwrap();
            since != [0; 8]
        };
        all.filter(is_made).collect()
    };
    let guard = map.lock_key(b"key", NOWAIT).unwrap();
    // A waiter that is killed leaves its reservation. It makes one when it looks once more.
    let mut waiter = fork(|| drop(map.lock_key(b"key", FOREVER)));
    while reserved().is_empty() {
        std::thread::yield_now();
    }
    waiter.wait_asleep();
    waiter.kill();
    drop(guard);
    let reserved = reserved();
    for reservation in &reserved {
        file.write_all_at(&[0xff; 8], reservation + 16).unwrap();
    }
    assert_eq!(reserved.len(), 1);
    drop(map.lock_key(b"key", FOREVER).unwrap());
}

/// Not a test of its own: a process that writes until it is killed.
#[test]
fn a_child_writes_until_it_is_killed() {
    let _beside = beside_others();
    let Ok(name) = std::env::var("SHOAL_TEST_MAP") else {
        return;
    };
    let map = Map::open(&name).unwrap();
    let mut random = Random(std::process::id() as u64 + 1);
    loop {
        let key = random.below(400).to_le_bytes();
        match random.below(8) {
            0 => drop(map.remove(&key).unwrap()),
            1 => {
                let len = random.below(100_000) as usize;
                map.set(&key, &vec![key[0]; len]).unwrap();
            }
            2 => drop(map.take(&key).unwrap()),
            3 if random.below(50) == 0 => map.clear().unwrap(),
            _ => map
                .set(&key, &vec![key[0]; random.below(2000) as usize])
                .unwrap(),
        }
        map.add(b"done", 1).unwrap();
    }
}

#[test]
fn writers_killed_at_random_leave_a_consistent_map() {
    let _beside = beside_others();
    let map = Map::anonymous().unwrap();
    let mut random = Random(42);
    let mut written = false;
    for _ in 0..25 {
        let mut writers: Vec<_> = (0..3)
            .map(|_| {
                only(a_child_writes_until_it_is_killed)
                    .env("SHOAL_TEST_MAP", map.name())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // However long they take to start, something was written once.
        while !written && map.is_empty().unwrap() {
            std::thread::yield_now();
        }
        for writer in &mut writers {
            std::thread::sleep(Duration::from_micros(10_000 + random.below(15_000)));
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        map.verify().unwrap();
        let mut count = 0;
        for item in &map {
            let (key, value) = item.unwrap();
            assert!(key == b"done" || value.iter().all(|byte| *byte == key[0]));
            count += 1;
        }
        assert_eq!(map.len().unwrap(), count);
        written |= count > 0;
    }
    assert!(written, "the writers did nothing");
    map.clear().unwrap();
    map.verify().unwrap();
}
