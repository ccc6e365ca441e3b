//! A shard's contents against a `HashMap`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::World;
use crate::error::{Error, Result};
use crate::heap::Word;
use crate::layout::Offset;
use crate::map::entry::Pair;
use crate::map::hash::{Hasher, SHARDS};

pub(super) fn tag(key: &[u8]) -> u32 {
    Hasher::new(1, SHARDS).hash(key).tag
}

pub(super) fn get(world: &World, owner: u8, key: &[u8]) -> Option<Vec<u8>> {
    let lookup = world.store(owner).find(tag(key), key).unwrap();
    lookup.entry().map(|entry| entry.value().to_vec())
}

pub(super) fn set(world: &World, owner: u8, key: &[u8], value: &[u8]) -> Result<()> {
    let store = world.store(owner);
    store.write(&store.find(tag(key), key)?, &Pair::new(key, value))
}

pub(super) fn remove(world: &World, owner: u8, key: &[u8]) -> bool {
    let store = world.store(owner);
    let lookup = store.find(tag(key), key).unwrap();
    store.remove(&lookup).unwrap();
    lookup.entry().is_some()
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u16, usize),
    Remove(u8, u16),
    Clear(u8),
    Repair(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0u8..2;
    let key = 0u16..60;
    prop_oneof![
        6 => (shard.clone(), key.clone(), prop_oneof![0usize..300, 0usize..9000, 30_000usize..90_000])
            .prop_map(|(shard, key, len)| Step::Set(shard, key, len)),
        4 => (shard.clone(), key).prop_map(|(shard, key)| Step::Remove(shard, key)),
        1 => shard.clone().prop_map(Step::Clear),
        1 => shard.prop_map(Step::Repair),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 48 },
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_shard_holds_what_a_hash_map_holds(steps in prop::collection::vec(step(), 1..120)) {
        let world = World::new(1 << 12);
        let mut model: [HashMap<Vec<u8>, Vec<u8>>; 2] = Default::default();
        for (round, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(shard, key, len) => {
                    let key = key.to_string().into_bytes();
                    let value = vec![round as u8; len];
                    set(&world, shard, &key, &value).unwrap();
                    model[shard as usize].insert(key, value);
                }
                Step::Remove(shard, key) => {
                    let key = key.to_string().into_bytes();
                    let had = model[shard as usize].remove(&key).is_some();
                    prop_assert_eq!(remove(&world, shard, &key), had);
                }
                Step::Clear(shard) => {
                    world.store(shard).clear().unwrap();
                    model[shard as usize].clear();
                }
                Step::Repair(shard) => world.store(shard).repair().unwrap(),
            }
            world.verify(&[0, 1]).unwrap();
        }
        for shard in 0..2u8 {
            let model = &model[shard as usize];
            prop_assert_eq!(world.store(shard).count(), model.len() as u64);
            for (key, value) in model {
                let got = get(&world, shard, key);
                prop_assert_eq!(got.as_ref(), Some(value));
            }
            world.store(shard).clear().unwrap();
        }
        world.verify(&[0, 1]).unwrap();
        // At most one kept slab a shard, and less than 64 KiB.
        prop_assert!(world.arena().usage().0 <= 40);
    }
}

#[test]
fn thousands_of_keys_grow_the_table_and_shrink_it_again() {
    let world = World::new(1 << 12);
    let keys = if cfg!(miri) { 600 } else { 20_000u32 };
    for i in 0..keys {
        set(&world, 0, &i.to_le_bytes(), &[7; 20]).unwrap();
    }
    world.verify(&[0]).unwrap();
    for i in 0..keys {
        assert_eq!(get(&world, 0, &i.to_le_bytes()), Some(vec![7; 20]));
    }
    let full = world.arena().usage().0;
    for i in 0..keys {
        assert!(remove(&world, 0, &i.to_le_bytes()));
    }
    world.verify(&[0]).unwrap();
    assert!(world.arena().usage().0 <= 20, "of {full} blocks");
}

#[test]
fn endless_insertions_and_removals_need_no_more_memory() {
    let world = World::new(1 << 12);
    for i in 0..500u32 {
        set(&world, 0, &i.to_le_bytes(), &[1; 64]).unwrap();
    }
    let before = world.arena().usage().0;
    for i in 500..if cfg!(miri) { 900 } else { 60_000u32 } {
        set(&world, 0, &i.to_le_bytes(), &[1; 64]).unwrap();
        assert!(remove(&world, 0, &(i - 500).to_le_bytes()));
        assert!(world.arena().usage().0 <= before + 8);
    }
    world.verify(&[0]).unwrap();
}

#[test]
fn without_memory_the_old_value_stays() {
    let world = World::new(1 << 12);
    set(&world, 0, b"key", b"old").unwrap();
    world.room.set(world.committed());
    for len in [5_000, 50_000, 500_000] {
        let err = set(&world, 0, b"key", &vec![1; len]).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }));
        let err = set(&world, 1, b"other", &vec![1; len]).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }));
        world.verify(&[0, 1]).unwrap();
    }
    assert_eq!(get(&world, 0, b"key"), Some(b"old".to_vec()));
    world.room.set(usize::MAX);
    set(&world, 0, b"key", &[1; 50_000]).unwrap();
    world.verify(&[0, 1]).unwrap();
}

#[test]
fn empty_keys_and_empty_values_are_values_like_others() {
    let world = World::new(64);
    set(&world, 0, b"", b"").unwrap();
    assert_eq!(get(&world, 0, b""), Some(vec![]));
    set(&world, 0, b"", b"x").unwrap();
    assert_eq!(get(&world, 0, b""), Some(b"x".to_vec()));
    assert!(remove(&world, 0, b""));
    assert_eq!(get(&world, 0, b""), None);
    world.verify(&[0]).unwrap();
}

#[test]
fn an_entry_that_extends_beyond_the_mapping_is_corrupt() {
    let world = World::new(256);
    let key = b"large";
    set(&world, 0, key, &[7; 50_000]).unwrap();
    let store = world.store(0);
    let (_, offset) = store.table().unwrap().entries().next().unwrap();
    // Its extent agrees with its length, but neither ends within the heap.
    let extent = world.heap.extent_at(offset).unwrap();
    world.heap.block(extent.head).unwrap().set(Word::Used {
        blocks: 1 << 20,
        owner: extent.owner,
        purpose: extent.purpose,
    });
    let value_len: &AtomicU32 = world.region.resolve(Offset::new(offset + 12)).unwrap();
    value_len.store(1 << 29, Ordering::Relaxed);
    assert!(matches!(
        store.find(tag(key), key),
        Err(Error::Corrupt { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 300 },
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn forged_bytes_do_not_hang_or_crash(
        corruptions in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<bool>()), 1..40)
    ) {
        let world = World::new(256);
        for i in 0..200u32 {
            set(&world, 0, &i.to_le_bytes(), &vec![2; i as usize]).unwrap();
        }
        let words = world.region.len() / 8;
        for (at, value, early) in corruptions {
            // Half of them hit the state, the block map and the first blocks.
            let at = at.index(if early { 4096 } else { words }) * 8;
            let word: &std::sync::atomic::AtomicU64 =
                world.region.resolve(crate::layout::Offset::new(at as u64)).unwrap();
            word.store(value, Ordering::Relaxed);
        }
        let store = world.store(0);
        for i in 0..200u32 {
            let key = i.to_le_bytes();
            let _ = store.find(tag(&key), &key).map(|lookup| lookup.entry().is_some());
            let _ = set(&world, 0, &key, &[9; 100]);
            if let Ok(lookup) = store.find(tag(&key), &key) {
                let _ = store.remove(&lookup);
            }
        }
        let _ = world.verify(&[0]);
        let _ = store.repair();
        let _ = world.arena().rebuild();
        let _ = store.clear();
    }
}
