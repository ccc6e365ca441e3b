//! Maps that keep the order in which their keys were inserted.

use std::time::Duration;

use crate::common::alone;
use shoal::{Map, Options};

fn ordered() -> Map {
    Map::with_options(None, &Options::create().ordered()).unwrap()
}

fn keys(map: &Map) -> Vec<String> {
    let key = |entry: shoal::Result<(Vec<u8>, Vec<u8>)>| String::from_utf8(entry.unwrap().0);
    map.iter().map(|entry| key(entry).unwrap()).collect()
}

fn filled(names: &str) -> Map {
    let map = ordered();
    for name in names.split(' ') {
        map.set(name.as_bytes(), b"0").unwrap();
    }
    map
}

#[test]
fn iteration_follows_the_order_of_insertion() {
    let _alone = alone();
    let names: Vec<_> = (0..5000u32)
        .map(|i| (i * 7919 % 5003).to_string())
        .collect();
    let map = filled(&names.join(" "));
    assert_eq!(keys(&map), names);
    // In each process that has opened it.
    let same = Map::open(map.name()).unwrap();
    assert!(same.is_ordered());
    same.set(b"last", b"").unwrap();
    assert_eq!(keys(&map).last().unwrap(), "last");
    map.verify().unwrap();
}

#[test]
fn a_key_keeps_its_position_when_its_value_changes() {
    let _alone = alone();
    let map = filled("a b c d e f g h i");
    map.set(b"a", b"longer than it was before").unwrap();
    map.set(b"b", &vec![1; 1 << 20]).unwrap();
    map.set(b"b", b"small again").unwrap();
    assert!(map.compare_swap(b"c", Some(b"0"), Some(b"1")).unwrap());
    assert!(map.remove(b"d").unwrap() && map.insert(b"d", b"").unwrap());
    map.set(b"e", &0i64.to_le_bytes()).unwrap();
    assert_eq!(map.add(b"e", 5).unwrap(), 5);
    map.set_for(b"f", b"expiring", Duration::from_secs(1000))
        .unwrap();
    map.set(b"f", b"not any more").unwrap();
    map.update(b"g", |_| Some(b"updated".to_vec())).unwrap();
    map.set_many(&[("h", "together"), ("i", "with this")])
        .unwrap();
    // A removed key that is set again is a new key.
    assert_eq!(keys(&map).concat(), "abcefghid");
    map.verify().unwrap();
}

#[test]
fn large_values_and_new_keys_keep_the_order_of_insertion() {
    let _alone = alone();
    let map = filled("a b");
    map.set(b"large", &vec![1; 1 << 20]).unwrap();
    map.set_for(b"expiring", b"", Duration::from_secs(1000))
        .unwrap();
    assert_eq!(map.add(b"counted", 1).unwrap(), 1);
    map.set_for(b"gone", b"", Duration::ZERO).unwrap();
    assert_eq!(keys(&map), ["a", "b", "large", "expiring", "counted"]);
    let more = ["z", "y", "x", "b", "w"].map(|key| (key, ""));
    map.set_many(&more).unwrap();
    assert_eq!(keys(&map)[5..].concat(), "zyxw");
    map.clear().unwrap();
    map.set(b"b", b"").unwrap();
    map.set(b"a", b"").unwrap();
    assert_eq!(keys(&map).concat(), "ba");
    map.verify().unwrap();
}

#[test]
fn iteration_omits_keys_that_are_removed_meanwhile() {
    let _alone = alone();
    let map = filled("a b c d");
    let mut walk = map.iter();
    assert_eq!(walk.next().unwrap().unwrap().0, b"a");
    assert!(map.remove(b"b").unwrap());
    map.set(b"late", b"").unwrap();
    let rest: Vec<_> = walk.map(|entry| entry.unwrap().0).collect();
    assert_eq!(rest.concat(), b"cd");
}

#[test]
fn an_existing_map_keeps_its_options() {
    let _alone = alone();
    let plain = Map::anonymous().unwrap();
    assert!(!plain.is_ordered());
    // An existing object keeps its options.
    let how = Options::create().ordered();
    let same = Map::with_options(Some(plain.name()), &how).unwrap();
    assert!(!same.is_ordered());
}

#[test]
fn the_last_key_is_the_one_that_was_inserted_last() {
    let _alone = alone();
    let map = filled("a b c d");
    let last = || map.last_key().unwrap();
    map.set(b"a", &[1; 100_000]).unwrap();
    assert_eq!(last(), Some(b"d".to_vec()));
    map.set_for(b"e", b"over", Duration::ZERO).unwrap();
    assert_eq!(last(), Some(b"d".to_vec()));
    for key in ["d", "c", "b", "a"] {
        assert_eq!(last(), Some(key.into()));
        assert!(map.remove(key.as_bytes()).unwrap());
    }
    assert_eq!(last(), None);
    let err = Map::anonymous().unwrap().last_key().unwrap_err();
    assert!(matches!(err, shoal::Error::Invalid { .. }), "{err}");
}
