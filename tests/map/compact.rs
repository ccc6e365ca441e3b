//! Maps for a few keys of which there are many.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::alone;
use shoal::{Map, Options, Status, Timeout};

fn compact() -> Map {
    Map::with_options(None, &Options::create().compact()).unwrap()
}

fn committed(map: &Map) -> u64 {
    shoal::stat(map.name()).unwrap().committed
}

#[test]
fn a_compact_map_takes_less_than_half_of_the_memory() {
    let _alone = alone();
    let few = |map: &Map| {
        for key in 0..10u8 {
            map.set(&[key], b"value").unwrap();
        }
    };
    let (small, usual) = (compact(), Map::anonymous().unwrap());
    assert!(small.is_compact() && !usual.is_compact());
    assert_eq!((committed(&small), committed(&usual)), (12 << 10, 48 << 10));
    few(&small);
    few(&usual);
    assert!(2 * committed(&small) < committed(&usual));
}

/// Reads of every kind through another handle. Returns how much memory the map took for them.
fn memory_for_reads(map: &Map) -> u64 {
    map.set(b"key", b"value").unwrap();
    let before = committed(map);
    let same = Map::open(map.name()).unwrap();
    assert_eq!(same.is_compact(), map.is_compact());
    for key in 0..200u8 {
        assert_eq!(same.get_vec(&[key]).unwrap(), None);
        assert_eq!(same.version_of(&[key]).unwrap(), 0);
    }
    assert_eq!((same.len().unwrap(), same.iter().count()), (1, 1));
    assert_eq!((same.purge().unwrap(), same.expiring()), (0, 0));
    let changes = same.version();
    let waited = same.wait_change(changes, Timeout::Val(Duration::from_millis(1)));
    assert_eq!(waited.unwrap_err().status(), Status::ErrTimeout);
    same.verify().unwrap();
    let seen = shoal::observe(map.name()).unwrap();
    assert_eq!(seen.contents.unwrap().len, Some(1));
    committed(map) - before
}

#[test]
fn no_call_touches_the_parts_that_a_compact_map_does_not_have() {
    let _alone = alone();
    // A read of a part of the file that has no memory would take a page.
    let usual = memory_for_reads(&Map::anonymous().unwrap());
    assert_eq!(memory_for_reads(&compact()), usual);
}

#[test]
fn a_compact_map_grows_like_any_other() {
    let _alone = alone();
    let map = compact();
    let mut model = BTreeMap::new();
    for number in 0..20_000u32 {
        let key = (number % 15_000).to_le_bytes();
        map.set(&key, &number.to_le_bytes()).unwrap();
        model.insert(key.to_vec(), number.to_le_bytes().to_vec());
    }
    for number in (0..15_000u32).step_by(3) {
        assert!(map.remove(&number.to_le_bytes()).unwrap());
        model.remove(&number.to_le_bytes()[..]);
    }
    let same = Map::open(map.name()).unwrap();
    let found: BTreeMap<_, _> = same.iter().map(|entry| entry.unwrap()).collect();
    assert_eq!(found, model);
    map.verify().unwrap();
    map.clear().unwrap();
    assert_eq!(map.len().unwrap(), 0);
}

#[test]
fn an_existing_map_stays_as_it_was_made() {
    let _alone = alone();
    let usual = Map::anonymous().unwrap();
    let how = Options::create().compact();
    let same = Map::with_options(Some(usual.name()), &how).unwrap();
    assert!(!same.is_compact());
    let queue = shoal::Queue::with_options(None, &how);
    assert_eq!(queue.unwrap_err().status(), Status::ErrInvalid);
}
