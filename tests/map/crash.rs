//! Every operation, killed at every one of its crash points, on a real map.
//!
//! A forked child runs the operation and dies at step N; the parent then finds every
//! invariant intact and the operation done wholly or not at all. N grows until the child
//! completes the operation.

use std::os::unix::fs::FileExt;

use crate::common::alone;
use crate::common::crash::lives;
use crate::crash_model::{Model, contents, state_of, with, without};
use shoal::{Error, Map, Options, Watched};

/// The keys in the order in which the map is walked.
fn order(map: &Map) -> Vec<Vec<u8>> {
    map.iter().map(|entry| entry.unwrap().0).collect()
}

/// What tells of each key's changes, of those of `model` that are there.
fn watch_all<'a>(map: &'a Map, model: &Model) -> Vec<(Vec<u8>, Watched<'a>)> {
    let mut buf = vec![0; 1 << 20];
    let mut watch = |key: &Vec<u8>| {
        let (_, watched) = map.get_watched(key, &mut buf).unwrap()?;
        Some((key.clone(), watched.unwrap()))
    };
    model.keys().filter_map(&mut watch).collect()
}

/// Whether a process that watches a key has been told of every change to it.
fn told_of_changes(watched: &[(Vec<u8>, Watched<'_>)], before: &Model, after: &Model) -> bool {
    let mut keys = watched.iter();
    keys.all(|(key, watched)| after.get(key) == before.get(key) || !watched.is_current())
}

/// Kills `operation` at every step on a map that `prepare` filled. `steps` are the states
/// its changes lead through, one after the other, starting from what was prepared.
fn kill_everywhere(
    prepare: impl Fn(&Map),
    operation: impl Fn(&Map) -> bool,
    states: impl Fn(&Map, &Model) -> Vec<Model>,
) {
    let _alone = alone();
    let plain = Options::create();
    for options in [plain.clone(), plain.ordered().compact()] {
        kill_at_every_step(&options, &prepare, &operation, &states);
    }
}

fn kill_at_every_step(
    options: &Options,
    prepare: impl Fn(&Map),
    operation: impl Fn(&Map) -> bool,
    states: impl Fn(&Map, &Model) -> Vec<Model>,
) {
    let mut lived = 0;
    for step in 1.. {
        assert!(step < 5000, "the operation never ends");
        let map = Map::with_options(None, options).unwrap();
        prepare(&map);
        let mut in_order = order(&map);
        let before = contents(&map);
        let watched = watch_all(&map, &before);
        let mut allowed = states(&map, &before);
        allowed.insert(0, before);
        let child_lived = lives(step, || assert!(operation(&map)));
        // The first to come notes numbers that the dead had stored, and then repairs.
        let noted = watch_all(&map, &allowed[0]);
        map.verify()
            .unwrap_or_else(|err| panic!("step {step}: {err}"));
        let after = contents(&map);
        let state = state_of(&after, &allowed, step);
        assert!(
            told_of_changes(&watched, &allowed[0], &after),
            "step {step}"
        );
        let watched = watch_all(&map, &after).into_iter().chain(noted);
        let watched: Vec<_> = watched.filter(|(key, _)| after.contains_key(key)).collect();
        if map.is_ordered() {
            in_order.retain(|key| after.contains_key(key));
            assert!(order(&map).starts_with(&in_order), "step {step}");
        }
        // The survivor can do everything that the dead process could.
        for (key, value) in &after {
            map.set(key, value).unwrap();
            assert_eq!(map.get_vec(key).unwrap().as_ref(), Some(value));
        }
        let is_told = |(_, watched): &(Vec<u8>, Watched<'_>)| !watched.is_current();
        assert!(watched.iter().all(is_told), "step {step}");
        assert!(operation(&map) || state > 0);
        map.clear().unwrap();
        map.verify().unwrap();
        if child_lived {
            assert_eq!(state, allowed.len() - 1);
            // Each map has its own seed: keys that share a shard in one do not in
            // another, and the steps differ.
            lived += 1;
            if lived == 3 {
                return;
            }
        }
    }
}

fn few(map: &Map) {
    for i in 0..20u8 {
        map.set(&[i], &[i; 40]).unwrap();
    }
    map.set(b"large", &[9; 100_000]).unwrap();
    map.set(b"counter", &7i64.to_le_bytes()).unwrap();
}

#[test]
fn the_first_set_of_a_map_happens_or_does_not() {
    kill_everywhere(
        |_| {},
        |map| map.set(b"k", b"v").is_ok(),
        |_, before| with(before, b"k", b"v"),
    );
}

#[test]
fn a_set_happens_or_does_not() {
    for (key, len) in [(&b"new"[..], 40), (&[3], 40), (&[3], 3000), (b"large", 10)] {
        kill_everywhere(
            few,
            |map| map.set(key, &vec![5; len]).is_ok(),
            |_, before| with(before, key, &vec![5; len]),
        );
    }
}

#[test]
fn a_set_of_a_large_value_happens_or_does_not() {
    for key in [&b"new"[..], b"large", &[3]] {
        kill_everywhere(
            few,
            |map| map.set(key, &[5; 200_000]).is_ok(),
            |_, before| with(before, key, &[5; 200_000]),
        );
    }
}

#[test]
fn an_insert_and_a_compare_swap_happen_or_do_not() {
    kill_everywhere(
        few,
        |map| map.insert(b"new", b"v").unwrap(),
        |_, before| with(before, b"new", b"v"),
    );
    kill_everywhere(
        few,
        |map| map.compare_swap(&[3], Some(&[3; 40]), Some(b"v")).unwrap(),
        |_, before| with(before, &[3], b"v"),
    );
    kill_everywhere(
        few,
        |map| {
            let version = map.version_of(&[3]).unwrap();
            map.compare_swap_version(&[3], version, Some(b"v")).unwrap()
        },
        |_, before| with(before, &[3], b"v"),
    );
    kill_everywhere(
        few,
        |map| map.compare_swap(&[3], Some(&[3; 40]), None).unwrap(),
        |_, before| without(before, &[3]),
    );
}

#[test]
fn an_add_happens_once_or_not_at_all() {
    kill_everywhere(
        few,
        |map| map.add(b"counter", 5).is_ok(),
        |_, before| with(before, b"counter", &12i64.to_le_bytes()),
    );
    kill_everywhere(
        few,
        |map| map.add(b"other", 5).is_ok(),
        |_, before| with(before, b"other", &5i64.to_le_bytes()),
    );
    kill_everywhere(
        |map| map.set(b"float", &0.5f64.to_le_bytes()).unwrap(),
        |map| map.add_f64(b"float", 0.25).is_ok(),
        |_, before| with(before, b"float", &0.75f64.to_le_bytes()),
    );
}

#[test]
fn a_remove_happens_or_does_not() {
    for key in [&[3][..], b"large"] {
        kill_everywhere(
            few,
            |map| map.remove(key).unwrap(),
            |_, before| without(before, key),
        );
        kill_everywhere(
            few,
            |map| map.take(key).unwrap().is_some(),
            |_, before| without(before, key),
        );
    }
}

/// The first `count` keys, of a growing series, that belong to one shard.
fn same_shard(map: &Map, shard: u8, count: usize) -> Vec<Vec<u8>> {
    let keys = (0u32..).map(|i| i.to_le_bytes().to_vec());
    keys.filter(|key| map.shard_of(key) == shard)
        .take(count)
        .collect()
}

// 108 of 128 slots is the most a table of one block takes.
const FULL: usize = 108;

#[test]
fn a_set_that_grows_the_table_happens_or_does_not() {
    kill_everywhere(
        |map| {
            for key in same_shard(map, 3, FULL) {
                map.set(&key, b"v").unwrap();
            }
        },
        |map| map.set(&same_shard(map, 3, FULL + 1)[FULL], b"v").is_ok(),
        |map, before| with(before, &same_shard(map, 3, FULL + 1)[FULL], b"v"),
    );
}

#[test]
fn a_remove_among_tombstones_or_that_shrinks_the_table_happens_or_does_not() {
    for left in [90, 24] {
        kill_everywhere(
            |map| {
                let keys = same_shard(map, 3, 3 * FULL);
                for key in &keys {
                    map.set(key, b"v").unwrap();
                }
                for key in &keys[left..] {
                    map.remove(key).unwrap();
                }
            },
            |map| map.remove(&same_shard(map, 3, 1)[0]).unwrap(),
            |map, before| without(before, &same_shard(map, 3, 1)[0]),
        );
    }
}

#[test]
fn a_clear_empties_one_shard_after_the_other() {
    let shards = [0u8, 1, 3];
    kill_everywhere(
        |map| {
            for shard in shards {
                for key in same_shard(map, shard, 4) {
                    map.set(&key, b"v").unwrap();
                }
            }
            map.set(&same_shard(map, 1, 5)[4], &[1; 70_000]).unwrap();
        },
        |map| map.clear().is_ok(),
        |map, before| {
            let mut model = before.clone();
            let mut states = Vec::new();
            for shard in shards {
                model.retain(|key, _| map.shard_of(key) != shard);
                states.push(model.clone());
            }
            states
        },
    );
}

#[test]
fn a_repair_that_is_killed_is_repaired() {
    let _alone = alone();
    for (step, key, len) in [(2, 3u8, 40), (7, 3, 3000), (7, 3, 200_000), (5, 77, 9)] {
        for second in 1.. {
            let map = Map::anonymous().unwrap();
            few(&map);
            let before = contents(&map);
            let allowed = with(&before, &[key], &vec![5; len]);
            assert!(!lives(step, || map.set(&[key], &vec![5; len]).unwrap()));
            let child_lived = lives(second, || {
                map.len().unwrap();
                map.remove(b"absent").unwrap();
            });
            map.verify().unwrap();
            let after = contents(&map);
            assert!(after == before || after == allowed[0]);
            if child_lived {
                break;
            }
        }
    }
}

/// Where a shard's word that says where its table lies is in the file.
fn table_word(shard: u8) -> u64 {
    const SHARDS: u64 = 36_864 + 4096;
    SHARDS + shard as u64 * 640 + 64
}

#[test]
fn a_shard_that_cannot_be_repaired_poisons_the_map_for_all() {
    let _alone = alone();
    let map = Map::anonymous().unwrap();
    few(&map);
    let other = Map::open(map.name()).unwrap();
    let shard = map.shard_of(&[3]);
    assert!(!lives(3, || map.set(&[3], b"v").unwrap()));
    let file = std::fs::File::options()
        .write(true)
        .open(format!("/dev/shm/shoal.{}", map.name()))
        .unwrap();
    // A table where none is: no kill causes this state.
    let word = (1u64 << 32 | 77).to_le_bytes();
    file.write_all_at(&word, table_word(shard)).unwrap();
    let err = map.get_vec(&[3]).unwrap_err();
    assert!(matches!(err, Error::Corrupt { .. }), "{err}");
    for i in 0..20 {
        for map in [&map, &other] {
            let err = map.set(&[i], b"v").unwrap_err();
            assert!(matches!(err, Error::Poisoned { .. }), "{err}");
        }
    }
    assert!(matches!(other.len(), Err(Error::Poisoned { .. })));
    assert!(matches!(other.verify(), Err(Error::Poisoned { .. })));
}
