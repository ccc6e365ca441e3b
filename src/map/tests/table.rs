//! The table against a `HashMap`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use crate::map::table::{self, Table};

fn slots(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Keys are the offsets themselves; many share a tag.
fn tag(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36) as u32 & 0xfff_8000
}

/// The slot of the key, or a free one for it.
fn find(table: &Table<'_>, key: u64) -> Result<usize, Option<usize>> {
    let mut search = table.search(tag(key));
    while let Some((slot, offset)) = search.next() {
        if offset == key * 16 {
            return Ok(slot);
        }
    }
    Err(search.insertion_slot())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_table_holds_what_a_hash_map_holds(
        steps in prop::collection::vec((0u8..3, 2u64..90), 1..400)
    ) {
        let (memory, larger) = (slots(97), slots(150));
        let table = Table::over(&memory);
        let mut model = HashMap::new();
        let mut tombs = 0i64;
        for (step, key) in steps {
            let found = find(&table, key);
            prop_assert_eq!(found.is_ok(), model.contains_key(&key));
            match (step, found) {
                (0 | 1, Err(slot)) => {
                    tombs -= table.publish(slot.unwrap(), tag(key), key * 16) as i64;
                    model.insert(key, ());
                }
                (2, Ok(slot)) => {
                    tombs += table.remove(slot);
                    model.remove(&key);
                }
                _ => {}
            }
            table.verify().unwrap();
            prop_assert_eq!(table.count_tombs() as i64, tombs);
            prop_assert_eq!(table.entries().count(), model.len());
            // A reader without the lock finds the same, or nothing at the end of the table.
            let ahead = table.slots_for(tag(key));
            match table::first(ahead, tag(key)) {
                Some(found) => {
                    let met = table.search(tag(key)).next();
                    prop_assert_eq!(found, met.map(|(_, offset)| offset));
                }
                None => prop_assert!(ahead.iter().all(|slot| slot.load(Ordering::Relaxed) != 0)),
            }
        }
        let to = Table::over(&larger);
        prop_assert_eq!(table.copy_to(&to), Some(model.len() as u64));
        to.verify().unwrap();
        for key in model.keys() {
            prop_assert!(find(&to, *key).is_ok());
        }
    }

    #[test]
    fn a_walk_in_parts_meets_every_entry_once(
        keys in prop::collection::hash_set(2u64..100_000, 0..80),
        step in 1usize..30,
        rehash_at in 0usize..20,
    ) {
        let (memory, larger) = (slots(97), slots(301));
        let table = Table::over(&memory);
        for key in &keys {
            let slot = find(&table, *key).unwrap_err();
            table.publish(slot.unwrap(), tag(*key), key * 16);
        }
        let to = Table::over(&larger);
        table.copy_to(&to).unwrap();
        let (mut seen, mut from, mut round) = (Vec::new(), Some(0), 0);
        while let Some(tag) = from {
            let table = if round < rehash_at { &table } else { &to };
            let next = table.visit_from(tag, step, |_, offset| {
                seen.push(offset / 16);
                Ok(())
            });
            from = next.unwrap();
            round += 1;
        }
        prop_assert_eq!(seen.len(), keys.len());
        prop_assert!(seen.iter().all(|key| keys.contains(key)));
    }
}

#[test]
fn a_shard_without_a_table_is_empty() {
    assert_eq!(table::first(Table::over(&[]).slots_for(77), 77), Some(None));
}

#[test]
fn a_search_ends_in_a_table_without_empty_slots() {
    let memory: Vec<_> = (0..512u64).map(|i| AtomicU64::new(i << 36 | 2)).collect();
    let table = Table::over(&memory);
    let mut search = table.search(77 << 19);
    assert!(search.next().is_none());
    assert!(search.insertion_slot().is_none());
    assert_eq!(table::first(table.slots_for(77 << 19), 77 << 19), None);
    assert_eq!(table.copy_to(&Table::over(&slots(511))), None);
}

#[test]
fn a_table_of_one_tag_does_not_take_quadratic_time() {
    let memory: Vec<_> = (0..100_000u64)
        .map(|i| AtomicU64::new((7 << 36) | (i + 2)))
        .collect();
    let table = Table::over(&memory);
    assert_eq!(table.copy_to(&Table::over(&slots(150_000))), None);
    assert!(table.verify().is_err());
}
