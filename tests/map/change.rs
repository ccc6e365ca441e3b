//! Versions, numbers, many keys at once, keys that expire, and waiting for a change.

use std::collections::HashMap;
use std::time::Duration;

use crate::common::{Bell, FOREVER, NOWAIT, Random, alone, fork, millis};
use shoal::{Error, Map};

fn map() -> Map {
    Map::anonymous().unwrap()
}

const SOON: Duration = Duration::from_millis(3);
const LATER: Duration = Duration::from_secs(1000);

fn wait_for_soon() {
    std::thread::sleep(SOON + Duration::from_millis(1));
}

#[test]
fn no_two_values_of_a_key_have_the_same_version() {
    let _alone = alone();
    let map = map();
    let mut before = 0;
    for round in 0..5 {
        map.set(b"k", b"same").unwrap();
        let (value, version) = map.get_versioned(b"k").unwrap().unwrap();
        assert!(value == b"same" && version > before, "round {round}");
        assert_eq!(map.version_of(b"k").unwrap(), version);
        before = version;
        match round {
            1 => assert!(map.remove(b"k").unwrap()),
            3 => map.clear().unwrap(),
            _ => {}
        }
    }
    assert_eq!(map.version_of(b"absent").unwrap(), 0);
    assert_eq!(map.get_versioned(b"absent").unwrap(), None);
}

#[test]
fn a_swap_by_version_is_refused_after_another_change() {
    let _alone = alone();
    let map = map();
    assert!(map.compare_swap_version(b"k", 0, Some(b"a")).unwrap());
    assert!(!map.compare_swap_version(b"k", 0, Some(b"b")).unwrap());
    let version = map.version_of(b"k").unwrap();
    // The same value again is another version.
    map.set(b"k", b"a").unwrap();
    assert!(!map.compare_swap_version(b"k", version, None).unwrap());
    let version = map.version_of(b"k").unwrap();
    assert!(map.compare_swap_version(b"k", version, None).unwrap());
    assert!(!map.contains(b"k").unwrap());
}

#[test]
fn floats_are_added_and_other_values_are_refused() {
    let _alone = alone();
    let map = map();
    assert_eq!(map.add_f64(b"x", 0.5).unwrap(), 0.5);
    assert_eq!(map.add_f64(b"x", -2.0).unwrap(), -1.5);
    assert_eq!(map.get_vec(b"x").unwrap().unwrap(), (-1.5f64).to_le_bytes());
    map.set(b"x", b"text").unwrap();
    let err = map.add_f64(b"x", 1.0).unwrap_err();
    assert_eq!(
        err.to_string(),
        "invalid value: it has 4 bytes; a number has 8"
    );
}

#[test]
fn many_keys_are_set_and_read_as_one_by_one() {
    let _alone = alone();
    let (map, mut model, mut random) = (map(), HashMap::new(), Random(77));
    for round in 0..20u32 {
        let items: Vec<_> = (0..random.below(300))
            .map(|_| {
                let key = random.below(500).to_le_bytes().to_vec();
                (key, vec![round as u8; random.below(200) as usize])
            })
            .collect();
        map.set_many(&items).unwrap();
        model.extend(items);
        let keys: Vec<_> = (0..600u64).map(u64::to_le_bytes).collect();
        let values = map.get_many(&keys).unwrap();
        for (key, value) in keys.iter().zip(values) {
            assert_eq!(value.as_ref(), model.get(&key[..]));
        }
    }
    assert_eq!(map.len().unwrap(), model.len());
    map.verify().unwrap();
    assert!(map.get_many(&[] as &[&[u8]]).unwrap().is_empty());
    map.set_many(&[] as &[(&[u8], &[u8])]).unwrap();
}

#[test]
fn a_pair_that_is_too_large_is_refused_before_any_key_is_set() {
    let _alone = alone();
    let map = map();
    let long = vec![0; 70_000];
    let err = map.set_many(&[(&b"k"[..], &b"v"[..]), (&long[..], b"v")]);
    assert!(matches!(err, Err(Error::TooLarge { what: "key", .. })));
    assert!(map.is_empty().unwrap());
}

#[test]
fn an_expired_key_is_absent() {
    let _alone = alone();
    let map = map();
    map.set_for(b"k", b"v", LATER).unwrap();
    assert_eq!(map.get_vec(b"k").unwrap().unwrap(), b"v");
    let left = map.time_left(b"k").unwrap().unwrap().unwrap();
    assert!(left <= LATER && left > LATER / 2);
    map.set_for(b"k", b"v", SOON).unwrap();
    wait_for_soon();
    assert_eq!(map.get_vec(b"k").unwrap(), None);
    assert_eq!(map.get(b"k", &mut []).unwrap(), None);
    assert!(!map.contains(b"k").unwrap());
    assert_eq!(map.version_of(b"k").unwrap(), 0);
    assert_eq!(map.time_left(b"k").unwrap(), None);
    assert!(map.view(b"k").unwrap().is_none());
    assert_eq!(map.get_many(&[b"k"]).unwrap(), [None]);
    assert_eq!(map.iter().count(), 0);
    assert!(!map.expire(b"k", None).unwrap());
    assert!(!map.remove(b"k").unwrap());
    assert_eq!(map.take(b"k").unwrap(), None);
    map.set_for(b"n", &7i64.to_le_bytes(), SOON).unwrap();
    wait_for_soon();
    assert_eq!(map.add(b"n", 1).unwrap(), 1);
    map.set_for(b"k", b"old", SOON).unwrap();
    wait_for_soon();
    assert!(map.insert(b"k", b"new").unwrap());
    map.verify().unwrap();
}

#[test]
fn the_expiry_of_a_key_can_be_extended_shortened_or_removed() {
    let _alone = alone();
    let map = map();
    map.set(b"k", b"v").unwrap();
    assert_eq!(map.time_left(b"k").unwrap(), Some(None));
    assert!(map.expire(b"k", Some(LATER)).unwrap());
    assert!(map.time_left(b"k").unwrap().unwrap().is_some());
    assert!(map.expire(b"k", None).unwrap());
    assert_eq!(map.time_left(b"k").unwrap(), Some(None));
    assert!(map.expire(b"k", Some(SOON)).unwrap());
    wait_for_soon();
    assert!(!map.contains(b"k").unwrap());
    map.set_for(b"n", &1i64.to_le_bytes(), LATER).unwrap();
    map.add(b"n", 1).unwrap();
    assert!(map.time_left(b"n").unwrap().unwrap().is_some());
    map.set(b"n", b"v").unwrap();
    assert_eq!(map.time_left(b"n").unwrap(), Some(None));
    map.set_for(b"k", b"v", Duration::MAX).unwrap();
    assert!(map.contains(b"k").unwrap());
    map.verify().unwrap();
}

#[test]
fn expired_keys_are_removed_by_nearby_changes_and_by_a_purge() {
    let _alone = alone();
    let map = map();
    for i in 0..1000u32 {
        map.set_for(&i.to_le_bytes(), &[1; 100], SOON).unwrap();
        map.set(&(i + 1000).to_le_bytes(), b"stays").unwrap();
    }
    wait_for_soon();
    assert!(map.purge().unwrap() > 0);
    assert_eq!(map.len().unwrap(), 1000);
    assert_eq!(map.purge().unwrap(), 0);
    map.verify().unwrap();
    for i in 0..1000u32 {
        map.set_for(&i.to_le_bytes(), &[1; 100], SOON).unwrap();
    }
    wait_for_soon();
    for _ in 0..20 {
        for i in 0..1000u32 {
            map.set(&(i + 1000).to_le_bytes(), b"stays").unwrap();
        }
    }
    assert_eq!(map.len().unwrap(), 1000);
    map.verify().unwrap();
}

#[test]
fn a_wait_for_a_key_ends_when_it_is_set_removed_or_expired() {
    let _alone = alone();
    let (map, heard) = (map(), Bell::new());
    assert_eq!(map.wait_key(b"k", 0, NOWAIT), Err(Error::Timeout));
    assert_eq!(map.wait_key(b"k", 0, millis(3)), Err(Error::Timeout));
    let mut waiter = fork(|| {
        let version = map.wait_key(b"k", 0, FOREVER).unwrap();
        heard.ring();
        assert_eq!(map.wait_key(b"k", version, FOREVER), Ok(0));
        heard.ring();
        let mut version = map.wait_key(b"k", 0, FOREVER).unwrap();
        heard.ring();
        // A shorter time to live may create another version.
        while version != 0 {
            version = map.wait_key(b"k", version, FOREVER).unwrap();
        }
    });
    waiter.wait_asleep();
    map.set(b"other", b"v").unwrap();
    map.set(b"k", b"v").unwrap();
    heard.hear();
    waiter.wait_asleep();
    map.remove(b"k").unwrap();
    heard.hear();
    map.set_for(b"k", b"v", LATER).unwrap();
    // The waiter has to see it before it expires.
    heard.hear();
    let soon = Some(Duration::from_millis(20));
    assert!(map.expire(b"k", soon).unwrap());
    waiter.ends_well();
}

#[test]
fn a_wait_for_any_change_ends_at_each_kind() {
    let _alone = alone();
    let map = map();
    map.set(b"k", b"v").unwrap();
    let changes: [&dyn Fn(); 6] = [
        &|| map.set(b"k", b"w").unwrap(),
        &|| assert!(map.add(b"n", 1).is_ok()),
        &|| assert!(map.remove(b"k").unwrap()),
        &|| map.set_many(&[(b"a", b"b")]).unwrap(),
        &|| assert!(map.expire(b"a", Some(LATER)).unwrap()),
        &|| map.clear().unwrap(),
    ];
    for change in changes {
        let before = map.version();
        assert_eq!(map.wait_change(before, NOWAIT), Err(Error::Timeout));
        let mut waiter = fork(|| {
            assert!(map.wait_change(before, FOREVER).unwrap() > before);
        });
        waiter.wait_asleep();
        change();
        waiter.ends_well();
    }
    let before = map.version();
    assert!(!map.remove(b"absent").unwrap());
    assert!(!map.compare_swap(b"absent", Some(b"x"), None).unwrap());
    assert_eq!(map.version(), before);
}

#[test]
fn readers_without_the_lock_never_see_half_a_change() {
    let _alone = alone();
    let map = map();
    // Values of one byte repeated, of lengths that move them from slab to slab, and keys that
    // come and go, so that tables grow and shrink, and memory is used again.
    let value = |seed: u64| vec![seed as u8; (seed % 900) as usize];
    let stop = fork(|| {
        let mut random = Random(5);
        loop {
            let key = random.below(40).to_le_bytes();
            match random.below(5) {
                0 => drop(map.remove(&key).unwrap()),
                1 if random.below(500) == 0 => map.clear().unwrap(),
                _ => map.set(&key, &value(random.next())).unwrap(),
            }
        }
    });
    let (mut random, mut buf, mut found) = (Random(6), [0; 1000], 0);
    while found < 100_000 {
        let key = random.below(40).to_le_bytes();
        if let Some(len) = map.get(&key, &mut buf).unwrap() {
            found += 1;
            let whole = buf[..len].iter().all(|&byte| byte == buf[0]);
            let right = len == 0 || (0..4).any(|k| (len as u64 + 900 * k) as u8 == buf[0]) || whole;
            assert!(whole && right, "{:?}", &buf[..len]);
        }
    }
    stop.kill();
    map.verify().unwrap();
}
