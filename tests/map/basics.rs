//! The promises of maps, through the public interface.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{alone, beside_others, only};
use shoal::{Error, Map, Options};

fn anonymous() -> Map {
    Map::anonymous().unwrap()
}

/// This test program again, as a child with `role` on the map `name`.
fn child(role: &str, name: &str, number: u32) -> Child {
    only(a_child_plays_its_role)
        .env("SHOAL_TEST_ROLE", role)
        .env("SHOAL_TEST_MAP", name)
        .env("SHOAL_TEST_NUMBER", number.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what [`child`] runs.
#[test]
fn a_child_plays_its_role() {
    let _beside = beside_others();
    let Ok(role) = std::env::var("SHOAL_TEST_ROLE") else {
        return;
    };
    let map = Map::open(&std::env::var("SHOAL_TEST_MAP").unwrap()).unwrap();
    let number: u32 = std::env::var("SHOAL_TEST_NUMBER").unwrap().parse().unwrap();
    match role.as_str() {
        "write" => {
            for i in 0..2000u32 {
                map.set(
                    &[number.to_le_bytes(), i.to_le_bytes()].concat(),
                    &i.to_le_bytes(),
                )
                .unwrap();
                map.add(b"all", 1).unwrap();
                map.add(&(i % 7).to_le_bytes(), 1).unwrap();
            }
        }
        "take" => {
            for i in 0..500u32 {
                if map.take(&i.to_le_bytes()).unwrap().is_some() {
                    map.add(b"taken", 1).unwrap();
                }
            }
        }
        other => panic!("no role {other}"),
    }
}

fn counter(map: &Map, key: &[u8]) -> i64 {
    let value = map.get_vec(key).unwrap().unwrap();
    i64::from_le_bytes(value.try_into().unwrap())
}

fn committed(map: &Map) -> u64 {
    shoal::stat(map.name()).unwrap().committed
}

#[test]
fn what_one_handle_does_another_sees() {
    let _beside = beside_others();
    let map = anonymous();
    let other = Map::open(map.name()).unwrap();
    map.set(b"k", b"one").unwrap();
    assert_eq!(other.get_vec(b"k").unwrap(), Some(b"one".to_vec()));
    other.set(b"k", b"two and more").unwrap();
    assert_eq!(map.get_vec(b"k").unwrap(), Some(b"two and more".to_vec()));
    assert!(map.contains(b"k").unwrap() && !map.contains(b"K").unwrap());
    assert_eq!((map.len().unwrap(), other.is_empty().unwrap()), (1, false));

    assert!(!map.insert(b"k", b"three").unwrap());
    assert!(map.insert(b"n", b"three").unwrap());
    assert!(other.remove(b"n").unwrap() && !map.remove(b"n").unwrap());
    assert_eq!(map.take(b"k").unwrap(), Some(b"two and more".to_vec()));
    assert_eq!(other.take(b"k").unwrap(), None);
    assert!(other.is_empty().unwrap());
    map.verify().unwrap();
}

#[test]
fn compare_swap_changes_only_an_expected_value() {
    let _beside = beside_others();
    let map = anonymous();
    assert!(!map.compare_swap(b"k", Some(b"a"), Some(b"b")).unwrap());
    assert!(map.compare_swap(b"k", None, Some(b"a")).unwrap());
    assert!(!map.compare_swap(b"k", None, Some(b"b")).unwrap());
    assert!(!map.compare_swap(b"k", Some(b"x"), None).unwrap());
    assert!(map.compare_swap(b"k", Some(b"a"), Some(b"bb")).unwrap());
    assert_eq!(map.get_vec(b"k").unwrap(), Some(b"bb".to_vec()));
    assert!(map.compare_swap(b"k", Some(b"bb"), None).unwrap());
    assert!(map.compare_swap(b"k", None, None).unwrap());
    assert!(map.is_empty().unwrap());
}

#[test]
fn add_counts_from_zero_wraps_and_refuses_other_values() {
    let _beside = beside_others();
    let map = anonymous();
    assert_eq!(map.add(b"c", -3).unwrap(), -3);
    assert_eq!(map.add(b"c", 10).unwrap(), 7);
    map.set(b"c", &i64::MAX.to_le_bytes()).unwrap();
    assert_eq!(map.add(b"c", 1).unwrap(), i64::MIN);
    map.set(b"text", b"seven").unwrap();
    let err = map.add(b"text", 1).unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }));
    assert_eq!(
        err.to_string(),
        "invalid value: it has 5 bytes; a number has 8"
    );
    assert_eq!(map.get_vec(b"text").unwrap(), Some(b"seven".to_vec()));
}

#[test]
fn a_small_buffer_is_an_error_with_the_needed_size() {
    let _beside = beside_others();
    let map = anonymous();
    map.set(b"k", &[7; 100]).unwrap();
    let mut buf = [0; 128];
    let err = map.get(b"k", &mut buf[..99]).unwrap_err();
    let (needed, capacity) = (100, 99);
    assert_eq!(err, Error::BufferTooSmall { needed, capacity });
    assert_eq!(map.take_into(b"k", &mut buf[..99]).unwrap_err(), err);
    assert_eq!(buf, [0; 128]);
    assert_eq!(map.get(b"k", &mut buf).unwrap(), Some(100));
    assert_eq!((buf[99], buf[100]), (7, 0));
    assert_eq!(map.take_into(b"k", &mut buf).unwrap(), Some(100));
    assert_eq!(map.take_into(b"k", &mut buf).unwrap(), None);
    assert_eq!(map.get(b"absent", &mut []).unwrap(), None);
}

#[test]
fn sizes_from_zero_to_the_limit_fit_and_an_error_names_both_sizes() {
    let _beside = beside_others();
    let map = Map::with_options(None, &Options::create().max_capacity(64 << 20)).unwrap();
    let longest = vec![1; 64 * 1024];
    for key in [&b""[..], &longest] {
        for len in [0, 1, 31, 4096, 32_768 - 16, 32_768, 5_000_001] {
            map.set(key, &vec![3; len]).unwrap();
            assert_eq!(map.get_vec(key).unwrap(), Some(vec![3; len]));
        }
    }
    map.clear().unwrap();
    assert_eq!(map.max_value(), 32 << 20);
    let mut value = vec![4; map.max_value() as usize];
    map.set(b"k", &value).unwrap();
    map.verify().unwrap();
    value.push(4);
    let err = map.set(b"k", &value).unwrap_err();
    let message = "value of 33554433 bytes is larger than the limit of 33554432 bytes";
    assert_eq!(err.to_string(), message);
    let err = map.insert(&[0; 64 * 1024 + 1], b"").unwrap_err();
    let (size, limit) = (65_537, 65_536);
    assert_eq!(
        err,
        Error::TooLarge {
            what: "key",
            size,
            limit
        }
    );
    // A key that is too long is never present.
    assert_eq!(map.get_vec(&[0; 70_000]).unwrap(), None);
    assert!(!map.remove(&[0; 70_000]).unwrap());
    assert_eq!(map.len().unwrap(), 1);
}

#[test]
fn invalid_capacities_are_refused() {
    let _beside = beside_others();
    let both = Options::create().capacity(8 << 20).max_capacity(4 << 20);
    let err = Map::with_options(None, &both).unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }));
    let err = Map::with_options(None, &Options::create().max_capacity(1 << 40)).unwrap_err();
    assert!(err.to_string().starts_with("max_capacity of"), "{err}");
    assert!(matches!(err, Error::TooLarge { .. }));
    let err = Map::with_options(None, &Options::create().capacity(1 << 40)).unwrap_err();
    assert!(err.to_string().starts_with("capacity of"), "{err}");
    let tiny = Map::with_options(None, &Options::create().max_capacity(1)).unwrap();
    assert_eq!(tiny.max_capacity(), 1 << 20);
    tiny.set(b"k", b"v").unwrap();
}

#[test]
fn a_map_is_not_a_queue() {
    let _beside = beside_others();
    let map = anonymous();
    let err = shoal::Queue::open(map.name()).unwrap_err();
    assert!(matches!(err, Error::WrongKind { .. }), "{err}");
    let queue = shoal::Queue::anonymous().unwrap();
    let err = Map::open(queue.name()).unwrap_err();
    assert!(matches!(err, Error::WrongKind { .. }), "{err}");
    assert!(matches!(
        Map::unlink(queue.name()),
        Err(Error::WrongKind { .. })
    ));
}

#[test]
fn the_last_handle_removes_the_map_unless_it_is_persistent() {
    let _beside = beside_others();
    let map = anonymous();
    let name = map.name().to_owned();
    let other = Map::open(&name).unwrap();
    drop(map);
    other.set(b"k", b"v").unwrap();
    drop(other);
    assert!(matches!(Map::open(&name), Err(Error::NotFound { .. })));

    let map = Map::with_options(None, &Options::create().persistent()).unwrap();
    let name = map.name().to_owned();
    map.set(b"k", b"v").unwrap();
    drop(map);
    let map = Map::open(&name).unwrap();
    assert_eq!(map.get_vec(b"k").unwrap(), Some(b"v".to_vec()));
    Map::unlink(&name).unwrap();
    assert!(matches!(Map::open(&name), Err(Error::NotFound { .. })));
}

#[test]
fn an_empty_map_is_small_and_memory_follows_its_content() {
    let _beside = beside_others();
    let map = anonymous();
    let empty = committed(&map);
    assert!(empty < 128 << 10, "{empty} bytes");
    for i in 0..20_000u32 {
        map.set(&i.to_le_bytes(), &[1; 64]).unwrap();
    }
    let stored = 20_000 * 68;
    let full = committed(&map);
    assert!(full < stored * 2, "{full} bytes for {stored}");
    for i in 0..20_000u32 {
        assert!(map.remove(&i.to_le_bytes()).unwrap());
    }
    map.verify().unwrap();
    let removed = committed(&map);
    // The tables stay: 0.7 to 1.1 MB in 150 maps, each with its own seed.
    assert!(removed < empty + (3 << 19), "{removed} bytes");

    map.set(b"large", &vec![1; 30 << 20]).unwrap();
    assert!(committed(&map) > 30 << 20);
    map.set(b"large", b"small").unwrap();
    assert!(committed(&map) < removed + (128 << 10));
    map.clear().unwrap();
    map.verify().unwrap();
    assert!(
        committed(&map) < empty + (128 << 10),
        "{} bytes",
        committed(&map)
    );
}

#[test]
fn capacity_is_committed_at_creation() {
    let _beside = beside_others();
    let map = Map::with_options(None, &Options::create().capacity(8 << 20)).unwrap();
    let at_birth = committed(&map);
    assert!(at_birth >= 8 << 20);
    for i in 0..10_000u32 {
        map.set(&i.to_le_bytes(), &[1; 64]).unwrap();
    }
    assert_eq!(committed(&map), at_birth);
    map.verify().unwrap();
}

#[test]
fn insertions_and_removals_without_end_need_no_more_memory() {
    let _beside = beside_others();
    let map = anonymous();
    for i in 0..1000u32 {
        map.set(&i.to_le_bytes(), &[1; 64]).unwrap();
    }
    let before = committed(&map);
    for i in 1000..200_000u32 {
        map.set(&i.to_le_bytes(), &[1; 64]).unwrap();
        map.remove(&(i - 1000).to_le_bytes()).unwrap();
    }
    let after = committed(&map);
    assert!(after < before * 2, "{before} bytes became {after}");
    assert_eq!(map.len().unwrap(), 1000);
    map.verify().unwrap();
}

#[test]
fn a_full_map_returns_an_error_and_keeps_its_entries() {
    let _beside = beside_others();
    let map = Map::with_options(None, &Options::create().max_capacity(1 << 20)).unwrap();
    let mut model = HashMap::new();
    let mut refused = 0;
    for i in 0..6000u32 {
        let (key, value) = ((i % 3000).to_le_bytes(), vec![i as u8; (i % 700) as usize]);
        match map.set(&key, &value) {
            Ok(()) => drop(model.insert(key, value)),
            Err(Error::NoSpace { .. }) => refused += 1,
            Err(err) => panic!("{err}"),
        }
    }
    assert!(refused > 0);
    map.verify().unwrap();
    assert_eq!(map.len().unwrap(), model.len());
    for (key, value) in &model {
        assert_eq!(map.get_vec(key).unwrap().as_ref(), Some(value));
    }
    map.clear().unwrap();
    map.set(b"k", &[1; 500_000]).unwrap();
}

#[test]
fn ten_processes_write_into_one_map_and_nothing_is_lost() {
    let _beside = beside_others();
    let map = anonymous();
    let children: Vec<_> = (0..10).map(|i| child("write", map.name(), i)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    map.verify().unwrap();
    assert_eq!(counter(&map, b"all"), 20_000);
    let sevenths: i64 = (0..7u32).map(|i| counter(&map, &i.to_le_bytes())).sum();
    assert_eq!(sevenths, 20_000);
    assert_eq!(map.len().unwrap(), 20_000 + 8);
    for number in 0..10u32 {
        for i in (0..2000u32).step_by(97) {
            let key = [number.to_le_bytes(), i.to_le_bytes()].concat();
            assert_eq!(map.get_vec(&key).unwrap(), Some(i.to_le_bytes().to_vec()));
        }
    }
}

#[test]
fn every_key_is_taken_by_exactly_one_process() {
    let _beside = beside_others();
    let map = anonymous();
    for i in 0..500u32 {
        map.set(&i.to_le_bytes(), b"x").unwrap();
    }
    let children: Vec<_> = (0..4).map(|i| child("take", map.name(), i)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(counter(&map, b"taken"), 500);
    assert_eq!(map.len().unwrap(), 1);
}

#[test]
fn iteration_yields_lasting_keys_once_while_others_write() {
    let _beside = beside_others();
    let map = anonymous();
    let lasting = 3000u32;
    for i in 0..lasting {
        // A few values are too large to be copied along with their keys.
        let len = if i % 100 == 0 { 10_000 } else { 8 };
        map.set(&i.to_le_bytes(), &vec![1; len]).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Grows and shrinks the tables under the iteration.
            for round in 0.. {
                for i in 0..20_000u32 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = (lasting + i).to_le_bytes();
                    match round % 2 {
                        0 => map.set(&key, b"passing").unwrap(),
                        _ => drop(map.remove(&key).unwrap()),
                    }
                    map.set(&(i % lasting).to_le_bytes(), &[2; 8]).unwrap();
                }
            }
        });
        for _ in 0..6 {
            let mut seen = HashMap::new();
            for item in &map {
                let (key, value) = item.unwrap();
                let key = u32::from_le_bytes(key.try_into().unwrap());
                assert!(key >= lasting || value.iter().all(|byte| [1, 2].contains(byte)));
                *seen.entry(key).or_insert(0) += 1;
            }
            assert!((0..lasting).all(|key| seen.get(&key) == Some(&1)));
            assert!(seen.values().all(|times| *times == 1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    map.verify().unwrap();
    assert_eq!(anonymous().iter().count(), 0);
}

#[test]
fn threads_of_one_process_may_share_a_handle() {
    let _beside = beside_others();
    let map = anonymous();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..5000u32 {
                    map.add(&(i % 10).to_le_bytes(), 1).unwrap();
                }
            });
        }
    });
    let sum: i64 = (0..10u32).map(|i| counter(&map, &i.to_le_bytes())).sum();
    assert_eq!(sum, 20_000);
}

#[test]
fn keys_that_have_expired_do_not_count() {
    let _alone = alone();
    let map = Map::anonymous().unwrap();
    for key in 0..100u32 {
        map.set(&key.to_ne_bytes(), b"stays").unwrap();
    }
    for key in 100..400u32 {
        map.set_for(&key.to_ne_bytes(), b"over", Duration::ZERO)
            .unwrap();
    }
    assert_eq!(map.len(), Ok(100));
    for key in 0..100u32 {
        map.expire(&key.to_ne_bytes(), Some(Duration::ZERO))
            .unwrap();
    }
    assert_eq!((map.len(), map.is_empty()), (Ok(0), Ok(true)));
    assert_eq!(map.iter().count(), 0);
}
