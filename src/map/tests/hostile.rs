//! Forged words, one at a time: each is detected, and a repair restores derived ones.

use std::sync::atomic::{AtomicU64, Ordering};

use super::store::{get, remove, set, tag};
use super::{SHARDS, World};
use crate::error::{Error, Result};
use crate::heap::{Purpose, Word};
use crate::layout::Offset;

const TAG: u64 = !0 << 36;

/// A word of the world, wherever it lies.
fn word(world: &World, offset: u64) -> &AtomicU64 {
    world.region.resolve(Offset::new(offset)).unwrap()
}

/// Where the entry of `key` lies, in the first shard.
fn place(world: &World, key: &[u8]) -> u64 {
    let found = world.store(0).find(tag(key), key).unwrap();
    found.place().unwrap().0
}

/// The slot of the first shard's table that refers to `key`'s entry.
fn slot<'a>(world: &'a World, key: &[u8]) -> &'a AtomicU64 {
    let (table, place) = (world.store(0).geometry(), place(world, key) / 16);
    let slots = world.heap.words(table.head, table.blocks).unwrap();
    let mut slots = slots.iter();
    let found = slots.find(|slot| slot.load(Ordering::Relaxed) & !TAG == place);
    found.unwrap()
}

/// Makes the slot of `key` refer to another place.
fn point(world: &World, key: &[u8], place: u64) {
    let slot = slot(world, key);
    let tag = slot.load(Ordering::Relaxed) & TAG;
    slot.store(tag | (place / 16), Ordering::Relaxed);
}

#[track_caller]
fn is_corrupt<T>(result: Result<T>, says: &str) {
    match result {
        Err(Error::Corrupt { what }) => assert!(what.contains(says), "{what}"),
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("nothing was noticed"),
    }
}

/// Sets, reads and removes. Each call may fail, and has to return.
fn use_it(world: &World) {
    let store = world.store(0);
    for round in 0..40u32 {
        for i in 0..12u32 {
            let key = i.to_le_bytes();
            let _ = set(world, 0, &key, &vec![9; (i * round) as usize]);
            let _ = store
                .find(tag(&key), &key)
                .map(|found| found.entry().map(|entry| entry.value().to_vec()));
            if i % 3 == round % 3 {
                let _ = store
                    .find(tag(&key), &key)
                    .and_then(|found| store.remove(&found));
            }
        }
    }
    let _ = world.verify(&[0]);
    let _ = store.clear();
    let _ = set(world, 0, b"k", b"v");
}

#[test]
fn two_entries_that_overlap_are_detected_by_verify_and_by_a_repair() {
    // An entry that begins where the key of another one does: a key of one byte and a value of three.
    let mut inner = [0; 32];
    (inner[8], inner[12]) = (1, 3);
    let inside = |len: usize| [&inner[..], &vec![5; len]].concat();
    for large in [0, 100_000] {
        for by in [0, 16] {
            let world = World::new(1 << 10);
            let key = inside(0);
            set(&world, 0, &key, &vec![5; large]).unwrap();
            set(&world, 0, b"other", &vec![6; large]).unwrap();
            world.verify(&[0]).unwrap();
            let whole = place(&world, &key);
            // The extent of the other entry is lost too, but this is reported first.
            point(&world, b"other", whole + by);
            is_corrupt(world.verify(&[0]), "two entries overlap");
            is_corrupt(world.store(0).repair(), "two entries overlap");
            assert_eq!(get(&world, 0, &key), Some(vec![5; large]));
            assert_eq!(get(&world, 0, b"other"), None);
            use_it(&world);
        }
    }
}

#[test]
fn an_entry_that_is_longer_than_its_slot_is_detected() {
    let world = World::new(1 << 10);
    set(&world, 0, b"first", &[1; 100]).unwrap();
    set(&world, 0, b"second", &[2; 100]).unwrap();
    let lens = word(&world, place(&world, b"first") + 8);
    lens.fetch_add(100 << 32, Ordering::Relaxed);
    is_corrupt(world.verify(&[0]), "two entries overlap");
    is_corrupt(world.store(0).repair(), "two entries overlap");
    use_it(&world);
}

#[test]
fn an_entry_in_two_slots_leaves_no_cycle_of_free_slots() {
    let world = World::new(1 << 10);
    for i in 0..12u32 {
        set(&world, 0, &i.to_le_bytes(), &[1; 40]).unwrap();
    }
    // The same entry under the same tag in another slot: it can be removed twice.
    let key = 3u32.to_le_bytes();
    let same = slot(&world, &key).load(Ordering::Relaxed);
    slot(&world, &4u32.to_le_bytes()).store(same, Ordering::Relaxed);
    assert!(world.verify(&[0]).is_err());
    assert!(world.store(0).repair().is_err());
    use_it(&world);
}

#[test]
fn a_cached_slot_that_is_in_use_is_detected_and_a_repair_drops_it() {
    let world = World::new(1 << 10);
    set(&world, 0, b"other", &[3; 40]).unwrap();
    set(&world, 0, b"key", &[1; 40]).unwrap();
    set(&world, 0, b"key", &[2; 40]).unwrap();
    world.verify(&[0]).unwrap();
    let (spare, at) = (word(&world, SHARDS + 56), place(&world, b"other"));
    let mark = spare.load(Ordering::Relaxed) & 0xff;
    assert_ne!(mark, 0, "no place is kept");
    spare.store((at / 16) << 8 | mark, Ordering::Relaxed);
    is_corrupt(world.verify(&[0]), "two entries overlap");
    world.store(0).repair().unwrap();
    world.verify(&[0]).unwrap();
    assert_eq!(get(&world, 0, b"other"), Some(vec![3; 40]));

    spare.store((at / 16) << 8 | mark, Ordering::Relaxed);
    use_it(&world);
}

/// A shard with two slabs for entries of one size, each with free slots; the freed places.
fn two_slabs() -> (World, Vec<u64>) {
    let world = World::new(1 << 10);
    let keys: Vec<_> = (0..24u32).map(u32::to_le_bytes).collect();
    for key in &keys {
        set(&world, 0, key, &[1; 200]).unwrap();
    }
    let mut slabs = Vec::new();
    let mut freed = Vec::new();
    for key in &keys {
        let at = place(&world, key);
        let head = world.heap.extent_at(at).unwrap().head;
        // Of each slab the first three.
        if slabs.iter().filter(|&&it| it == head).count() < 3 {
            slabs.push(head);
            freed.push(at);
            assert!(remove(&world, 0, key));
        }
    }
    world.verify(&[0]).unwrap();
    (world, freed)
}

#[test]
fn a_cycle_of_free_slots_is_detected_and_a_repair_breaks_it() {
    // The chain leads from the slot that was freed last to the one that was freed first.
    for (from, to) in [(0, 0), (0, 2), (1, 2)] {
        let circle = || {
            let (world, freed) = two_slabs();
            let extent = world.heap.extent_at(freed[0]).unwrap();
            let begin = world.heap.offset_of(extent.head);
            let size = freed[1] - freed[0];
            let link = 1 + (freed[to] - begin) / size;
            word(&world, freed[from]).store(link, Ordering::Relaxed);
            world
        };
        let world = circle();
        is_corrupt(world.verify(&[0]), "free chain");
        world.store(0).repair().unwrap();
        world.verify(&[0]).unwrap();

        // Used as it is, it returns slots that are in use, or does not end; that is detected too.
        let world = circle();
        for i in 100..130u32 {
            let _ = set(&world, 0, &i.to_le_bytes(), &[2; 200]);
        }
        assert!(world.verify(&[0]).is_err());
        use_it(&world);
    }
}

#[test]
fn a_cycle_of_slabs_is_detected_and_a_repair_breaks_it() {
    for forward in [true, false] {
        let (world, freed) = two_slabs();
        let forge = || {
            for place in &freed {
                let head = world.heap.extent_at(*place).unwrap().head;
                let entry = world.heap.block(head).unwrap();
                let link = if forward { &entry.next } else { &entry.prev };
                link.store(head, Ordering::Relaxed);
            }
        };
        forge();
        is_corrupt(world.verify(&[0]), "a list of slabs is broken");
        world.store(0).repair().unwrap();
        world.verify(&[0]).unwrap();
        forge();
        use_it(&world);
    }
}

#[test]
fn a_cycle_of_free_extents_is_detected_and_a_rebuild_breaks_it() {
    let world = World::new(1 << 10);
    let arena = world.arena();
    // Free extents of nine blocks, which share a list with smaller ones.
    let heads: Vec<_> = (0..8)
        .map(|_| arena.allocate(9, 0, Purpose::Large).unwrap())
        .collect();
    let forge = || {
        for head in heads.iter().step_by(2) {
            let entry = world.heap.block(*head).unwrap();
            assert!(matches!(entry.word(), Word::Free { .. }));
            entry.next.store(*head, Ordering::Relaxed);
        }
    };
    for head in heads.iter().step_by(2) {
        arena.free(*head).unwrap();
    }
    arena.verify().unwrap();
    forge();
    is_corrupt(arena.verify(), "a list of free extents is broken");
    // Also requests larger extents than any in the cycle.
    let mut more = Vec::new();
    for blocks in [10, 11, 9, 9, 9, 9, 9, 500, 300] {
        more.extend(arena.allocate(blocks, 0, Purpose::Large));
    }
    assert!(!more.is_empty());
    arena.rebuild().unwrap();
    arena.verify().unwrap();
    for head in more {
        let _ = arena.free(head);
    }
    use_it(&world);
}
