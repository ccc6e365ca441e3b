//! What a walk over a shared list promises while others change it, and die.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{alone, fork};
use shoal::List;

/// As many elements as are copied at one moment, if they are small.
const AT_ONE_MOMENT: u64 = 256;

fn numbers(list: &List) -> Vec<u64> {
    let number = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
    list.iter().map(|it| number(it.unwrap())).collect()
}

fn filled(count: u64) -> List {
    let list = List::anonymous().unwrap();
    let items: Vec<_> = (0..count).map(u64::to_le_bytes).collect();
    list.extend(&items).unwrap();
    list
}

#[test]
fn iteration_while_others_append_yields_the_present_elements_in_order() {
    let _alone = alone();
    let list = filled(2000);
    let writers = [(); 2].map(|()| {
        fork(|| {
            for _ in 0..3000 {
                list.append(&u64::MAX.to_le_bytes()).unwrap();
                list.pop_at(2000).unwrap();
            }
        })
    });
    for _ in 0..50 {
        let seen = numbers(&list);
        assert!(seen.iter().take(2000).copied().eq(0..2000));
        assert!(seen[2000..].iter().all(|it| *it == u64::MAX));
    }
    writers.into_iter().for_each(|writer| writer.ends_well());
    assert_eq!(numbers(&list).len(), 2000);
}

#[test]
fn a_change_under_the_lock_is_seen_wholly_by_iteration() {
    let _alone = alone();
    let list = filled(AT_ONE_MOMENT);
    let set_all = |word: u64| {
        let word = word.to_le_bytes();
        let mut every = 0..AT_ONE_MOMENT as usize;
        let set = list.with(|it| every.try_for_each(|at| it.set(at, &word).map(drop)));
        set.unwrap();
    };
    set_all(0);
    let writer = fork(|| {
        for word in 1..u64::MAX {
            set_all(word);
            // Locks go to processes that are awake: without a pause the reader would wait long for each.
            std::thread::sleep(Duration::from_micros(50));
        }
    });
    let mut rounds = BTreeSet::new();
    while rounds.len() < 20 {
        let seen = numbers(&list);
        assert_eq!(seen.len() as u64, AT_ONE_MOMENT);
        assert!(seen.iter().all(|it| *it == seen[0]), "{seen:?}");
        rounds.insert(seen[0]);
    }
    writer.kill();
}

#[test]
fn iteration_continues_when_a_writer_is_killed_and_the_list_repaired() {
    let _alone = alone();
    let list = filled(2000);
    for _ in 0..20 {
        let writer = fork(|| {
            loop {
                // Longer and shorter, so that a change is always in progress.
                for at in (0..2000u64).step_by(7) {
                    let bytes = [&at.to_le_bytes()[..], &[7; 300]].concat();
                    list.set(at as usize, &bytes).unwrap();
                    list.set(at as usize, &at.to_le_bytes()).unwrap();
                }
            }
        });
        let mut walk = list.iter();
        let first = |it: Vec<u8>| u64::from_le_bytes(it[..8].try_into().unwrap());
        let mut seen: Vec<u64> = walk
            .by_ref()
            .take(600)
            .map(|it| first(it.unwrap()))
            .collect();
        writer.kill();
        seen.extend(walk.map(|it| first(it.unwrap())));
        assert!(seen.into_iter().eq(0..2000));
    }
    list.verify().unwrap();
}
