//! Operations of several steps on a map, killed at every crash point: large values, views, locks
//! of keys, keys that expire, many keys at once.
//!
//! A child runs the operation and dies at step N. The survivor then finds every invariant intact and
//! an allowed state, and can run every operation.

use std::time::Duration;

use crate::common::crash::lives;
use crate::common::{Bell, FOREVER, NOWAIT, alone, fork, millis};
use crate::crash_model::{Model, contents, state_of, with, without};
use shoal::Map;

const LONG: Duration = Duration::from_secs(1000);

/// Kills `operation` at every step. `states` are those its changes lead through, from what was
/// prepared.
fn kill_everywhere(
    prepare: impl Fn(&Map),
    operation: impl Fn(&Map),
    states: impl Fn(&Map, &Model) -> Vec<Model>,
) {
    let _alone = alone();
    for step in 1.. {
        assert!(step < 5000, "the operation never ends");
        let map = Map::anonymous().unwrap();
        prepare(&map);
        let before = contents(&map);
        let mut allowed = states(&map, &before);
        allowed.insert(0, before);
        let lived = lives(step, || operation(&map));
        // The process that takes a hold next ends those of the dead.
        for key in contents(&map).keys() {
            drop(map.view(key).unwrap());
        }
        drop(map.view(b"large").unwrap());
        map.verify()
            .unwrap_or_else(|err| panic!("step {step}: {err}"));
        let after = contents(&map);
        let state = state_of(&after, &allowed, step);
        operation(&map);
        map.verify().unwrap();
        map.clear().unwrap();
        map.verify().unwrap();
        for i in 0..20u8 {
            drop(map.lock_key(&[i], NOWAIT).unwrap());
        }
        if lived {
            assert_eq!(state, allowed.len() - 1);
            return;
        }
    }
}

fn few(map: &Map) {
    for i in 0..10u8 {
        map.set(&[i], &[i; 40]).unwrap();
    }
    map.set(b"large", &[9; 300_000]).unwrap();
    map.set_for(b"expiring", b"v", LONG).unwrap();
}

fn same(_: &Map, _: &Model) -> Vec<Model> {
    Vec::new()
}

#[test]
fn a_large_value_is_set_or_is_not() {
    for key in [&b"new"[..], b"large", &[3]] {
        let value = vec![5; 400_000];
        kill_everywhere(
            few,
            |map| map.set(key, &value).unwrap(),
            |_, before| with(before, key, &value),
        );
    }
}

#[test]
fn a_view_is_released_wherever_its_reader_dies() {
    kill_everywhere(few, |map| drop(map.view(b"large").unwrap()), same);
    kill_everywhere(few, |map| drop(map.get_vec(b"large").unwrap()), same);
}

#[test]
fn a_viewed_value_that_is_replaced_or_removed_loses_no_memory() {
    for key in [&b"large"[..], &[3]] {
        kill_everywhere(
            few,
            |map| {
                let view = map.view(key).unwrap();
                map.set(key, b"new").unwrap();
                drop(view);
            },
            |_, before| with(before, key, b"new"),
        );
        kill_everywhere(
            few,
            |map| {
                let views = (map.view(key).unwrap(), map.view(key).unwrap());
                map.remove(key).unwrap();
                drop(views);
            },
            |_, before| without(before, key),
        );
    }
}

#[test]
fn a_clear_under_views_loses_nothing() {
    kill_everywhere(
        |map| {
            map.set(b"k", &[1; 100_000]).unwrap();
        },
        |map| {
            let view = map.view(b"k").unwrap();
            map.clear().unwrap();
            drop(view);
        },
        |_, _| vec![Model::new()],
    );
}

#[test]
fn a_clear_killed_while_it_frees_what_the_dead_held_loses_nothing() {
    kill_everywhere(
        |map| {
            map.set(b"k", &[1; 100_000]).unwrap();
            let viewed = Bell::new();
            let reader = fork(|| {
                let _view = map.view(b"k").unwrap();
                viewed.ring();
                loop {
                    std::thread::park();
                }
            });
            viewed.hear();
            map.set(b"k", b"new").unwrap();
            reader.kill();
        },
        |map| map.clear().unwrap(),
        |_, _| vec![Model::new()],
    );
}

#[test]
fn a_key_is_free_again_wherever_its_holder_dies() {
    kill_everywhere(few, |map| drop(map.lock_key(&[3], NOWAIT).unwrap()), same);
    kill_everywhere(
        few,
        |map| {
            map.update(&[3], |_| Some(b"new".to_vec())).unwrap();
        },
        |_, before| with(before, &[3], b"new"),
    );
}

#[test]
fn a_key_that_expires_is_set_or_is_not() {
    for key in [&b"new"[..], b"expiring", &[3]] {
        kill_everywhere(
            few,
            |map| map.set_for(key, b"w", LONG).unwrap(),
            |_, before| with(before, key, b"w"),
        );
        kill_everywhere(
            few,
            |map| assert!(map.expire(key, Some(LONG * 2)).is_ok()),
            same,
        );
        kill_everywhere(few, |map| assert!(map.expire(key, None).is_ok()), same);
    }
}

#[test]
fn expired_keys_stay_absent_wherever_a_purge_dies() {
    kill_everywhere(
        |map| {
            few(map);
            for i in 0..30u8 {
                map.set_for(&[i, i], b"v", Duration::ZERO).unwrap();
            }
        },
        |map| assert!(map.purge().is_ok()),
        same,
    );
}

#[test]
fn each_of_many_keys_is_set_or_is_not() {
    let items: Vec<_> = (0..4u8).map(|i| (vec![i + 8], vec![i; 50])).collect();
    kill_everywhere(
        few,
        |map| map.set_many(&items).unwrap(),
        |map, before| {
            let (mut model, mut states) = (before.clone(), Vec::new());
            let mut items = items.clone();
            items.sort_by_key(|(key, _)| map.shard_of(key));
            for (key, value) in items {
                model.insert(key, value);
                states.push(model.clone());
            }
            states
        },
    );
}

#[test]
fn a_waiter_killed_while_its_wait_for_a_key_ends_blocks_no_other() {
    let _alone = alone();
    for step in 1.. {
        assert!(step < 1000, "the operation never ends");
        let map = Map::anonymous().unwrap();
        let held = map.lock_key(b"key", NOWAIT).unwrap();
        // It looks again after 100 ms, and reserves the key then.
        let lived = lives(step, || {
            let waited = map.lock_key(b"key", millis(150));
            assert!(matches!(waited, Err(shoal::Error::Timeout)));
        });
        drop(held);
        // A reservation of a dead process ends with its time. It is of no other key.
        drop(map.lock_key(b"other", NOWAIT).unwrap());
        drop(map.lock_key(b"key", FOREVER).unwrap());
        map.verify().unwrap();
        if lived {
            assert!(step > 5, "{step} steps: the key was not reserved");
            return;
        }
    }
}
