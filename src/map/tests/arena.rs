//! The arena against a list of allocated extents.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::World;
use crate::error::Error;
use crate::heap::{BLOCK, Purpose};

fn purpose(pick: u8) -> Purpose {
    match pick % 3 {
        0 => Purpose::Slab(pick % 72),
        1 => Purpose::Table,
        _ => Purpose::Large,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn extents_never_overlap_and_all_comes_back(
        keeps in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), 1u32..40, any::<u8>()), 1..200)
    ) {
        let world = World::new(600);
        world.keeps.set(keeps);
        let arena = world.arena();
        let mut live: Vec<(u32, u32)> = Vec::new();
        for (allocate, blocks, pick) in steps {
            if allocate {
                match arena.allocate(blocks, pick % 4, purpose(pick)) {
                    Ok(head) => {
                        for (other, more) in &live {
                            prop_assert!(head + blocks <= *other || other + more <= head);
                        }
                        prop_assert!(head > 0 && head + blocks <= 600);
                        live.push((head, blocks));
                    }
                    Err(Error::NoSpace { .. }) => {}
                    Err(err) => return Err(TestCaseError::fail(err.to_string())),
                }
            } else if !live.is_empty() {
                let (head, _) = live.swap_remove(pick as usize % live.len());
                arena.free(head).unwrap();
            }
            let used = arena.verify().unwrap();
            prop_assert_eq!(used.len(), live.len());
        }
        // A rebuild from the block map's words finds the same.
        let before = arena.verify().unwrap().len();
        arena.rebuild().unwrap();
        prop_assert_eq!(arena.verify().unwrap().len(), before);
        for (head, _) in live {
            arena.free(head).unwrap();
        }
        arena.verify().unwrap();
        prop_assert_eq!(arena.usage().0, 0);
        if keeps {
            arena.trim().unwrap();
            arena.verify().unwrap();
        }
        // All memory is given back, except for less than 64 KiB and the page of the block map that
        // describes it.
        prop_assert!(world.committed() < 18, "{} blocks", world.committed());
        arena.allocate(599, 0, Purpose::Large).unwrap();
    }
}

#[test]
fn a_refused_commit_changes_nothing() {
    let world = World::new(600);
    let arena = world.arena();
    let kept = arena.allocate(3, 1, Purpose::Large).unwrap();
    let before = world.committed();
    world.room.set(before + 4);
    for blocks in [25, 100, 500] {
        let err = arena.allocate(blocks, 1, Purpose::Table).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }));
        assert_eq!(arena.verify().unwrap().len(), 1);
        assert_eq!(world.committed(), before, "{blocks} blocks");
    }
    world.room.set(usize::MAX);
    arena.allocate(500, 1, Purpose::Table).unwrap();
    arena.free(kept).unwrap();
    arena.verify().unwrap();
}

#[test]
fn a_full_heap_is_no_space_with_both_sizes() {
    let world = World::new(20);
    let err = world.arena().allocate(20, 0, Purpose::Large).unwrap_err();
    let free = 19 * BLOCK;
    let full = Error::NoSpace {
        needed: 20 * BLOCK,
        available: free,
        in_object: Some(free),
    };
    assert_eq!(err, full);
    assert!(world.arena().allocate(19, 0, Purpose::Large).is_ok());
}

#[test]
fn a_fragmented_heap_reports_its_largest_piece_and_all_that_is_free() {
    let world = World::new(100);
    let arena = world.arena();
    let all: Vec<u32> = [9, 1, 11, 1, 3, 1]
        .map(|blocks| arena.allocate(blocks, 0, Purpose::Large).unwrap())
        .into();
    let rest = arena.allocate(99 - 26, 0, Purpose::Large).unwrap();
    let refused = |needed: u64, available: u64, free: u64| {
        let err = arena.allocate(needed as u32, 0, Purpose::Large);
        let full = Error::NoSpace {
            needed: needed * BLOCK,
            available: available * BLOCK,
            in_object: Some(free * BLOCK),
        };
        assert_eq!(err, Err(full));
    };
    refused(1, 0, 0);
    for (head, largest, free) in [(all[4], 3, 3), (all[0], 9, 12), (all[2], 11, 23)] {
        arena.free(head).unwrap();
        refused(12, largest, free);
    }
    // What lies behind everything in use is one piece with what was never in use.
    arena.free(rest).unwrap();
    refused(90, 73, 96);
    arena.verify().unwrap();
}

#[test]
fn freeing_what_is_not_in_use_is_an_error() {
    let world = World::new(20);
    let head = world.arena().allocate(2, 0, Purpose::Large).unwrap();
    for block in [0, head + 1, 19, 20, u32::MAX] {
        let err = world.arena().free(block).unwrap_err();
        assert!(matches!(err, Error::Corrupt { .. }), "block {block}");
    }
}

#[test]
fn a_cycle_of_free_extents_is_corrupt() {
    let world = World::new(60);
    let arena = world.arena();
    let heads = [8, 1, 8, 1, 30].map(|blocks| arena.allocate(blocks, 0, Purpose::Large).unwrap());
    for head in [heads[0], heads[2]] {
        arena.free(head).unwrap();
        // The list of extents of 8 or 9 blocks.
        let entry = world.heap.block(head).unwrap();
        entry.next.store(head, Ordering::Relaxed);
    }
    arena.allocate(11, 0, Purpose::Large).unwrap();
    let err = arena.allocate(9, 0, Purpose::Large).unwrap_err();
    assert!(matches!(err, Error::Corrupt { .. }), "{err}");
}
