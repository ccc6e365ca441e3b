//! Maps without memory, with values of hundreds of megabytes, and with changes without end.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::common::corruption::DATA;
use crate::common::shm::{Filler, free, with_small_shm};
use crate::common::{Random, alone};
use shoal::{Error, Map, Options};

const PAGE: u64 = 4096;

/// Bytes of memory the map's file has.
fn memory(map: &Map) -> u64 {
    let path = format!("/dev/shm/shoal.{}", map.name());
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Bytes that say what lies in so many bytes of a map. The first to ask for more than there is
/// finds room for these, and they stay.
fn map_of(bytes: u64) -> u64 {
    (bytes / 1024 * 24).next_multiple_of(PAGE) + PAGE
}

/// Calls `set` with ever more memory, from none at all, until it succeeds. Each time that it does
/// not, `is_old` has to hold, and the memory is as free as it was. Says how often that was.
fn until_there_is_memory(
    filler: &Filler,
    map: &Map,
    set: impl Fn() -> shoal::Result<()>,
    is_old: impl Fn() -> bool,
) -> u64 {
    for pages in 0..1000 {
        filler.leave(pages * PAGE);
        match set() {
            Ok(()) => return pages,
            Err(Error::NoSpace { .. }) => {}
            Err(err) => panic!("{pages} pages: {err}"),
        }
        assert!(is_old(), "{pages} pages");
        map.verify().unwrap();
        // A few blocks were allocated, and are ready.
        assert!(free() + map_of(2 << 20) >= pages * PAGE, "{pages} pages");
    }
    panic!("there never was enough");
}

#[test]
fn a_value_stays_until_there_is_memory_for_another() {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        let map = Map::anonymous().unwrap();
        let filler = Filler::new();
        // Up to 256 KiB are copied under the lock, more before it is taken.
        for old in [40, 300_000] {
            for new in [6000, 100_000, 300_000, 1_000_000] {
                filler.leave(2 << 20);
                map.clear().unwrap();
                map.set(b"other", b"stays").unwrap();
                map.set(b"key", &vec![1; old]).unwrap();
                let (before, after) = (vec![1; old], vec![2; new]);
                let refused = until_there_is_memory(
                    &filler,
                    &map,
                    || map.set(b"key", &after),
                    || map.get_vec(b"key").unwrap().unwrap() == before,
                );
                // The larger one has to wait for nearly all its pages.
                let pages = new as u64 / PAGE;
                assert!(refused >= pages - pages / 8, "{new} bytes in {refused}");
                assert!(map.get_vec(b"key").unwrap().unwrap() == after);
                assert_eq!(map.get_vec(b"other").unwrap().unwrap(), b"stays");
                assert_eq!(map.len(), Ok(2));
                map.verify().unwrap();
                // Once memory is available, everything works.
                filler.leave(2 << 20);
                map.set(b"key", &before).unwrap();
                map.set(b"new", &after).unwrap();
                assert!(map.take(b"new").unwrap().unwrap() == after);
                map.verify().unwrap();
            }
        }
    });
}

/// Writes a number to the map's header.
fn forge(map: &Map, at: u64, number: u32) {
    let path = format!("/dev/shm/shoal.{}", map.name());
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&number.to_ne_bytes(), DATA + at).unwrap();
}

#[test]
fn a_map_that_says_it_has_more_parts_is_refused_when_there_is_no_memory_for_them() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        let map = Map::with_options(None, &Options::create().compact()).unwrap();
        map.set(b"key", b"value").unwrap();
        forge(&map, 40, 64);
        let filler = Filler::new();
        filler.leave(0);
        let refused = Map::open(map.name()).unwrap_err();
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        assert_eq!(map.get_vec(b"key").unwrap().unwrap(), b"value");
        // Where there is memory, the other parts are empty, and there is no key in them.
        filler.leave(64 << 10);
        let other = Map::open(map.name()).unwrap();
        filler.leave(0);
        (0..200u32).for_each(|key| assert_eq!(other.get_vec(&key.to_le_bytes()), Ok(None)));
    });
}

#[test]
fn a_forged_number_of_readers_makes_no_call_touch_memory_that_is_not_there() {
    let _alone = alone();
    with_small_shm(4 << 20, || {
        let map = Map::anonymous().unwrap();
        map.set(b"large", &vec![1; 1 << 20]).unwrap();
        let filler = Filler::new();
        for pages in [17, u32::MAX] {
            filler.leave(0);
            forge(&map, 32, pages);
            // It would give memory back, and cannot tell whether somebody reads.
            assert!(map.remove(b"large").unwrap());
            filler.leave(2 << 20);
            map.set(b"large", &vec![1; 1 << 20]).unwrap();
        }
        // What was not given back is in use again, and is given back now.
        assert!(map.remove(b"large").unwrap());
        assert!(free() > 5 << 19, "{}", free());
    });
}

/// Keys that belong to the same part of the map as `key`, which is there: they change what is
/// watched with it.
fn neighbours(map: &Map, key: &[u8], count: usize) -> Vec<[u8; 4]> {
    let mut buf = [0; 64];
    let mut watch = || map.get_watched(key, &mut buf).unwrap().unwrap().1.unwrap();
    let (mut watched, mut found) = (watch(), Vec::new());
    for other in (0u32..).map(u32::to_le_bytes) {
        map.set(&other, b"v").unwrap();
        map.remove(&other).unwrap();
        if !watched.is_current() {
            watched = watch();
            found.push(other);
        }
        if found.len() == count {
            break;
        }
    }
    found
}

#[test]
fn a_new_key_is_inserted_wholly_or_not_at_all_when_its_table_cannot_grow() {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        for new in [300_000, 9] {
            let map = Map::anonymous().unwrap();
            let filler = Filler::new();
            map.set(b"key", b"v").unwrap();
            // 435 of 512 slots is the most that a table of four blocks takes.
            let mut keys = neighbours(&map, b"key", 435);
            let last = keys.pop().unwrap();
            for key in &keys {
                map.set(key, b"v").unwrap();
            }
            let value = vec![3; new];
            let refused = until_there_is_memory(
                &filler,
                &map,
                || map.set(&last, &value),
                || !map.contains(&last).unwrap(),
            );
            // Of the last of these, some had memory for the value and none for the table.
            assert!(refused > new as u64 / PAGE, "{new} bytes in {refused}");
            assert!(map.take(&last).unwrap().unwrap() == value);
            assert_eq!(map.len(), Ok(435));
            map.verify().unwrap();
        }
    });
}

#[test]
fn a_million_keys_that_come_and_go_need_no_more_memory_than_the_first() {
    let _alone = alone();
    let map = Map::anonymous().unwrap();
    let (mut random, mut there) = (Random(0x5eed), VecDeque::new());
    let (mut settled, mut most) = (0, 0);
    let value = [7; 4000];
    const BATCH: u64 = 500;
    for batch in 0..1_000_000 / BATCH {
        // Keys of 8 to 39 bytes, and values that are mostly small.
        let items: Vec<_> = (0..BATCH)
            .map(|at| {
                let mut key = (batch * BATCH + at).to_le_bytes().to_vec();
                key.resize(8 + random.below(32) as usize, 0);
                let len = match random.below(50) {
                    0 => random.below(4000),
                    1..10 => random.below(500),
                    _ => random.below(60),
                };
                (key, &value[..len as usize])
            })
            .collect();
        map.set_many(&items).unwrap();
        there.extend(items.into_iter().map(|(key, _)| key));
        while there.len() > 2000 {
            // Mostly the oldest, so that what stays lies everywhere.
            let at = if random.below(4) == 0 {
                random.below(there.len() as u64) as usize
            } else {
                0
            };
            let key = there.remove(at).unwrap();
            assert!(map.remove(&key).unwrap());
        }
        let peak = if batch < 200 { &mut settled } else { &mut most };
        *peak = memory(&map).max(*peak);
    }
    // The first hundred thousand have been in every slab and table that it takes. Beyond that a few
    // shards may have a slab more of one size (4 KiB) or a larger table, at random.
    // 0 to 28 KiB in 13 maps of 1.2 MiB, each with its own seed.
    assert!(
        most <= settled + settled / 10 + (64 << 10),
        "{settled} bytes became {most}"
    );
    assert_eq!(map.len(), Ok(there.len()));
    map.verify().unwrap();
    map.clear().unwrap();
    assert!(memory(&map) < 256 << 10, "{}", memory(&map));
}

#[test]
fn a_value_of_hundreds_of_megabytes_is_read_in_place_and_its_memory_is_returned() {
    const LEN: usize = 300 << 20;
    let _alone = alone();
    if free() < 2 * LEN as u64 {
        eprintln!("skipped: too little room in /dev/shm");
        return;
    }
    let map = Map::anonymous().unwrap();
    map.set(b"small", b"value").unwrap();
    // With what a reader takes.
    assert!(map.contains(b"small").unwrap());
    let before = memory(&map);
    // Never the same at two places that are whole pages apart.
    let pattern: Vec<u8> = (0..=250).collect();
    let mut value = pattern.repeat(LEN / pattern.len() + 1);
    value.truncate(LEN);
    map.set(b"huge", &value).unwrap();
    assert!(memory(&map) >= before + LEN as u64);
    let view = map.view(b"huge").unwrap().unwrap();
    assert_eq!(view.len(), LEN);
    for at in [
        0,
        1,
        4095,
        4096,
        LEN / 2,
        (256 << 20) - 1,
        256 << 20,
        LEN - 1,
    ] {
        assert_eq!(view[at], (at % 251) as u8, "byte {at}");
    }
    assert!(*view == value[..]);
    drop(value);

    // The view keeps it, and it is freed with the view.
    map.set(b"huge", b"is small now").unwrap();
    assert_eq!(map.get_vec(b"huge").unwrap().unwrap(), b"is small now");
    assert_eq!(view[LEN - 1], ((LEN - 1) % 251) as u8);
    assert!(memory(&map) >= before + LEN as u64);
    map.verify().unwrap();
    drop(view);
    // The small one lies behind it, in a slab of the size that so large a map has (64 KiB), and
    // so what says where things lie stays for now.
    let most = before + map_of(LEN as u64) + (128 << 10);
    assert!(memory(&map) <= most, "{}", memory(&map));
    map.verify().unwrap();
    assert_eq!(map.get_vec(b"small").unwrap().unwrap(), b"value");
    map.clear().unwrap();
    assert!(memory(&map) <= before, "{}", memory(&map));
}
