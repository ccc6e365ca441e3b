//! Processes that walk through a map, or sleep until it changes, while writers are killed at every
//! step and another process repairs what they left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::company::Words;
use crate::common::crash::{killed_at, lived, lives};
use crate::common::{Child, FOREVER, Random, alone, fork, millis};
use shoal::{Error, Map, Timeout};

/// Keys of a growing series, from `first` on, that belong to one part of the map.
fn keys_of(map: &Map, shard: u8, first: u32) -> impl Iterator<Item = [u8; 4]> {
    let keys = (first..).map(u32::to_le_bytes);
    keys.filter(move |key| map.shard_of(key) == shard)
}

/// The part of the map in which writers die.
const SHARD: u8 = 32;
/// Where the keys begin that are not there throughout, and those that never are.
const PASSING: u32 = 1 << 20;
const ABSENT: u32 = 1 << 24;

/// What is there throughout: in `SHARD` so many, and some elsewhere.
fn lasting_keys(map: &Map, in_shard: usize) -> Vec<[u8; 4]> {
    let elsewhere = (0..300u32).map(u32::to_le_bytes);
    let elsewhere = elsewhere.filter(|key| map.shard_of(key) != SHARD);
    keys_of(map, SHARD, 0)
        .take(in_shard)
        .chain(elsewhere)
        .collect()
}

/// How often each key is met on a walk.
fn count(walk: impl Iterator<Item = shoal::Result<(Vec<u8>, Vec<u8>)>>) -> HashMap<Vec<u8>, u32> {
    let mut seen = HashMap::new();
    for entry in walk {
        let (key, value) = entry.unwrap();
        assert!(value.iter().all(|&byte| byte == value[0]), "half a value");
        *seen.entry(key).or_insert(0) += 1;
    }
    seen
}

/// Kills `write` at every step while a walk stands half way through the part of the map that it
/// writes to, and has a third process repair that before the walk goes on. `prepare` is given
/// the map with its lasting keys.
fn walk_over_a_repair(in_shard: usize, prepare: impl Fn(&Map), write: impl Fn(&Map)) {
    let _alone = alone();
    let mut repairs = 0;
    for step in 1.. {
        assert!(step < 5000, "the operation never ends");
        let map = Map::anonymous().unwrap();
        let lasting = lasting_keys(&map, in_shard);
        let items: Vec<_> = lasting.iter().map(|key| (key, [1; 8])).collect();
        map.set_many(&items).unwrap();
        prepare(&map);

        let mut walk = map.iter();
        let (mut before, mut met) = (Vec::new(), 0);
        while met < in_shard / 2 {
            let entry = walk.next().unwrap();
            let in_it = map.shard_of(&entry.as_ref().unwrap().0) == SHARD;
            met += usize::from(in_it && lasting.iter().any(|key| entry.as_ref().unwrap().0 == key));
            before.push(entry);
        }
        let done = lives(step, || write(&map));
        let absent = keys_of(&map, SHARD, ABSENT).next().unwrap();
        let version = map.version();
        // This locks it and changes nothing, except for a repair.
        fork(|| assert!(!map.remove(&absent).unwrap())).ends_well();
        repairs += u32::from(map.version() != version);
        let seen = count(before.into_iter().chain(walk));
        for key in &lasting {
            assert_eq!(seen.get(&key[..]), Some(&1), "step {step}, {key:?}");
        }
        assert!(seen.values().all(|&times| times == 1), "step {step}");
        map.verify().unwrap();
        if done {
            break;
        }
    }
    assert!(repairs > 5, "only {repairs} of the dead left work");
}

#[test]
fn iteration_continues_across_the_repair_of_a_growing_table() {
    // 326 of 384 slots is the most that a table of three blocks takes.
    let insert = |map: &Map| {
        let key = keys_of(map, SHARD, PASSING).next().unwrap();
        map.set(&key, &[2; 8]).unwrap();
    };
    walk_over_a_repair(326, |_| {}, insert);
}

#[test]
fn iteration_continues_across_the_repair_of_a_shrinking_table() {
    let passing = |map: &Map| keys_of(map, SHARD, PASSING).take(280).collect::<Vec<_>>();
    let prepare = |map: &Map| {
        for key in passing(map) {
            map.set(&key, &[2; 8]).unwrap();
        }
        for key in &passing(map)[9..] {
            assert!(map.remove(key).unwrap());
        }
    };
    // 49 keys are left in 384 slots, and at 48 it shrinks.
    walk_over_a_repair(40, prepare, |map| {
        assert!(map.remove(&passing(map)[0]).unwrap());
    });
}

#[test]
fn iteration_continues_across_the_repair_of_replaced_values() {
    for len in [9, 3000, 300_000] {
        // Some of these were yielded before, and others follow.
        for at in [0, 40, 80, 119] {
            walk_over_a_repair(
                120,
                |_| {},
                |map| {
                    let key = keys_of(map, SHARD, 0).nth(at).unwrap();
                    map.set(&key, &vec![3; len]).unwrap();
                },
            );
        }
    }
}

/// Grows and shrinks the tables, and replaces what is there throughout.
fn write_for_ever(map: &Map, mut random: Random) {
    let phase = random.below(2);
    for round in 0.. {
        let key = (random.below(LASTING) as u32).to_le_bytes();
        let len = match random.below(20) {
            0 => 9000,
            1 => 300_000,
            _ => 1 + random.below(200),
        };
        map.set(&key, &vec![len as u8; len as usize]).unwrap();
        for _ in 0..20 {
            let key = (PASSING + random.below(10_000) as u32).to_le_bytes();
            match (phase + round / 16) % 2 {
                0 => map.set(&key, b"x").unwrap(),
                _ => drop(map.remove(&key).unwrap()),
            }
        }
    }
}

/// Keys that are there throughout while many writers are killed.
const LASTING: u64 = 2000;

#[test]
fn iteration_in_another_process_continues_while_writers_are_killed() {
    let _alone = alone();
    let (map, words, mut random) = (Map::anonymous().unwrap(), Words::new(2), Random(0x5eed));
    for key in 0..LASTING as u32 {
        map.set(&key.to_le_bytes(), &[1; 8]).unwrap();
    }
    // Half of those that pass, with which the tables are about to grow.
    for key in (PASSING..PASSING + 10_000).step_by(2) {
        map.set(&key.to_le_bytes(), b"x").unwrap();
    }
    let (walks, stop) = (0, 1);
    let mut walker = fork(|| {
        while words.get(stop) == 0 {
            let seen = count(map.iter());
            for key in 0..LASTING as u32 {
                assert_eq!(seen.get(&key.to_le_bytes()[..]), Some(&1), "{key}");
            }
            assert!(seen.values().all(|&times| times == 1));
            words.add(walks, 1);
        }
    });
    let (mut repairs, mut kills) = (0, 0);
    while !walker.has_ended() && (kills < 60 || words.get(walks) < 12) {
        let seeds = [random.next() | 1, random.next() | 1];
        let writers = seeds.map(|seed| {
            let step = 1 + random.below(6000);
            killed_at(step, || write_for_ever(&map, Random(seed)))
        });
        for mut writer in writers {
            assert!(!lived(&mut writer));
            kills += 1;
        }
        // The first to take the lock repairs: the walker, the other writer, or this process.
        let before = map.version();
        map.len().unwrap();
        repairs += u32::from(map.version() != before);
    }
    words.set(stop, 1);
    walker.ends_well();
    assert!(repairs > 0, "nothing was repaired by us");
    map.verify().unwrap();
}

/// Something done to the key `k`, whose value is `[1; 40]` if it is there.
struct Change {
    /// Whether the key is there before.
    there: bool,
    work: fn(&Map),
}

const K: &[u8] = b"k";

const CHANGES: [Change; 6] = [
    Change {
        there: false,
        work: |map| map.set(K, b"new").unwrap(),
    },
    Change {
        there: true,
        work: |map| map.set(K, b"other").unwrap(),
    },
    Change {
        there: true,
        work: |map| map.set(K, &[7; 300_000]).unwrap(),
    },
    Change {
        there: true,
        work: |map| assert!(map.remove(K).unwrap()),
    },
    Change {
        there: true,
        work: |map| map.set_many(&[(K, b"one of many")]).unwrap(),
    },
    Change {
        there: true,
        work: |map| map.clear().unwrap(),
    },
];

/// Calls `check` with a map in which a process has died at each step of each change, the version
/// that `k` had before, and whether it had done all of it.
fn with_every_death(sleep: impl Fn(&Map, u64), check: impl Fn(&Map, Child, (u64, u64), bool)) {
    let _alone = alone();
    for change in CHANGES {
        for step in 1.. {
            assert!(step < 5000, "the operation never ends");
            let map = Map::anonymous().unwrap();
            if change.there {
                map.set(K, &[1; 40]).unwrap();
            }
            let before = (map.version_of(K).unwrap(), map.version());
            let mut sleeper = fork(|| sleep(&map, before.0));
            sleeper.wait_asleep();
            let done = lives(step, || (change.work)(&map));
            check(&map, sleeper, before, done);
            map.verify().unwrap();
            if done {
                assert!(step > 3, "it has no steps");
                break;
            }
        }
    }
}

#[test]
fn a_wait_for_a_key_ends_although_the_changing_process_is_killed() {
    with_every_death(
        |map, before| {
            let now = map.wait_key(K, before, FOREVER).unwrap();
            assert!(now != before && now == map.version_of(K).unwrap());
        },
        |map, sleeper, (before, _), done| {
            // This may be what repairs, and so wakes the sleeper.
            let now = map.version_of(K).unwrap();
            assert!(now != before || !done);
            if now == before {
                // The sleeper continues, and the next change counts.
                map.set(K, b"by the living").unwrap();
            }
            sleeper.ends_well();
        },
    );
}

#[test]
fn a_waiter_for_a_key_notices_the_change_of_a_killed_process_by_itself() {
    let _alone = alone();
    for change in CHANGES {
        let prepared = || {
            let map = Map::anonymous().unwrap();
            if change.there {
                map.set(K, &[1; 40]).unwrap();
            }
            map
        };
        let all = (1..).find(|&step| {
            let map = prepared();
            lives(step, || (change.work)(&map))
        });
        // Killed at its last step, it has made the change and told no waiter, and no other process helps.
        let map = prepared();
        let before = map.version_of(K).unwrap();
        let mut sleeper = fork(|| {
            assert_ne!(map.wait_key(K, before, FOREVER).unwrap(), before);
        });
        sleeper.wait_asleep();
        assert!(!lives(all.unwrap() - 1, || (change.work)(&map)));
        sleeper.ends_well();
        map.verify().unwrap();
    }
}

#[test]
fn a_wait_for_any_change_ends_without_help_after_a_kill() {
    with_every_death(
        |map, _| {
            let before = map.version();
            assert!(map.wait_change(before, FOREVER).unwrap() != before);
        },
        |map, sleeper, (_, before), done| {
            // A read that takes no lock, and so repairs nothing.
            let now = map.version();
            assert!(now != before || !done);
            if now == before {
                // Nothing has changed yet, but a repair counts, and so does the next change.
                map.set(K, b"by the living").unwrap();
            }
            sleeper.ends_well();
            assert_ne!(map.version(), before);
        },
    );
}

#[test]
fn a_wait_ends_at_its_deadline_when_nothing_changes() {
    let _alone = alone();
    let map = Map::anonymous().unwrap();
    map.set(K, b"v").unwrap();
    let (of_key, of_all) = (map.version_of(K).unwrap(), map.version());
    let length = Duration::from_millis(250);
    let waits: [&dyn Fn(Timeout) -> shoal::Result<u64>; 2] =
        [&|timeout| map.wait_key(K, of_key, timeout), &|timeout| {
            map.wait_change(of_all, timeout)
        }];
    for wait in waits {
        let began = Instant::now();
        assert_eq!(wait(Timeout::Val(length)), Err(Error::Timeout));
        assert!(began.elapsed() >= length, "it gave up early");
    }
    // A process that died with a lock, without a change, makes no other process wait either.
    assert!(!lives(1, || map.set(K, b"w").unwrap()));
    let before = map.version();
    assert_eq!(map.wait_change(before, millis(30)), Err(Error::Timeout));
    assert_eq!(map.wait_key(K, of_key, millis(30)), Err(Error::Timeout));
}
