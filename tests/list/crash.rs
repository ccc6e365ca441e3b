//! Every operation, killed at every one of its crash points, on a real list.
//!
//! A forked child runs the operation and dies at step N; the parent then finds every
//! invariant intact and the operation done wholly or not at all. N grows until the child
//! completes the operation.

use std::os::unix::fs::FileExt;

use crate::common::crash::lives;
use crate::common::{alone, fork};
use shoal::{Error, List};

type Model = Vec<Vec<u8>>;

fn all(list: &List) -> Model {
    list.range_vec(0..usize::MAX).unwrap()
}

/// Kills `operation` at every step on a list that `prepare` filled. `change` is what the
/// operation does to a vector.
fn kill_everywhere(
    prepare: impl Fn(&List),
    operation: impl Fn(&List),
    change: impl Fn(&mut Model),
) {
    let _alone = alone();
    for step in 1.. {
        assert!(step < 5000, "the operation never ends");
        let list = List::anonymous().unwrap();
        prepare(&list);
        let before = all(&list);
        let version = list.with(|locked| Ok(locked.version())).unwrap();
        let mut done = before.clone();
        change(&mut done);
        let lived = lives(step, || operation(&list));
        list.verify()
            .unwrap_or_else(|err| panic!("step {step}: {err}"));
        let after = all(&list);
        assert!(
            after == done || (after == before && !lived),
            "step {step}: done by half"
        );
        // A process that had looked before can tell.
        if after != before {
            assert_ne!(list.with(|locked| Ok(locked.version())).unwrap(), version);
        }
        // The survivor can do everything that the dead process could.
        operation(&list);
        list.verify().unwrap();
        let mut twice = after;
        change(&mut twice);
        assert!(all(&list) == twice, "step {step}");
        list.clear().unwrap();
        list.verify().unwrap();
        if lived {
            return;
        }
    }
}

fn few(list: &List) {
    for i in 0..12u8 {
        list.append(&vec![i; i as usize * 5]).unwrap();
    }
    list.append(&[9; 100_000]).unwrap();
}

/// A full table: 128 words are the first.
fn full(list: &List) {
    let items: Vec<_> = (0..128u8).map(|i| vec![i; 3]).collect();
    list.extend(&items[..85]).unwrap();
    list.extend(&items[85..]).unwrap();
}

/// A gap in the middle and a tail.
fn gapped(list: &List) {
    full(list);
    list.remove(40..50).unwrap();
    list.insert(40, &[1; 30]).unwrap();
}

#[test]
fn an_append_happens_or_does_not() {
    for prepare in [|_: &List| {}, few, full, gapped] {
        for len in [3, 40, 3000, 200_000] {
            kill_everywhere(
                prepare,
                |list| list.append(&vec![5; len]).unwrap(),
                |model| model.push(vec![5; len]),
            );
        }
    }
}

#[test]
fn an_extend_happens_wholly_or_not_at_all() {
    let items = [vec![1; 10], vec![], vec![2; 70_000], vec![3; 10]];
    for prepare in [|_: &List| {}, few, full, gapped] {
        kill_everywhere(
            prepare,
            |list| list.extend(&items).unwrap(),
            |model| model.extend_from_slice(&items),
        );
    }
}

#[test]
fn an_insert_happens_or_does_not() {
    for prepare in [few, full, gapped] {
        for at in [0, 3, 11] {
            kill_everywhere(
                prepare,
                |list| list.insert(at, &[5; 40]).unwrap(),
                |model| model.insert(at, vec![5; 40]),
            );
        }
    }
}

#[test]
fn a_pop_happens_or_does_not() {
    for prepare in [few, gapped] {
        kill_everywhere(
            prepare,
            |list| drop(list.pop().unwrap()),
            |model| drop(model.pop()),
        );
        for at in [0, 7] {
            kill_everywhere(
                prepare,
                |list| drop(list.pop_at(at).unwrap()),
                |model| drop(model.remove(at)),
            );
        }
    }
}

#[test]
fn a_slice_is_replaced_wholly_or_not_at_all() {
    let items = [vec![1; 10], vec![2; 70_000], vec![3; 10]];
    for prepare in [few, full, gapped] {
        for range in [0..2, 4..9, 5..6, 10..13] {
            kill_everywhere(
                prepare,
                |list| list.splice(range.clone(), &items).unwrap(),
                |model| drop(model.splice(range.clone(), items.clone())),
            );
        }
    }
}

#[test]
fn a_range_is_removed_wholly_or_not_at_all() {
    for prepare in [few, gapped] {
        for range in [0..3, 4..8, 6..13] {
            kill_everywhere(
                prepare,
                |list| list.remove(range.clone()).unwrap(),
                |model| drop(model.drain(range.start..range.end.min(model.len()))),
            );
        }
    }
}

#[test]
fn a_removal_that_shrinks_the_table_happens_or_does_not() {
    kill_everywhere(
        |list| {
            let items: Vec<_> = (0..2000u32).map(|i| i.to_le_bytes()).collect();
            list.extend(&items).unwrap();
        },
        |list| list.remove(30..1980).unwrap(),
        |model| drop(model.drain(30.min(model.len())..1980.min(model.len()))),
    );
}

#[test]
fn a_set_a_swap_and_a_compare_swap_happen_or_do_not() {
    for prepare in [few, gapped] {
        for len in [2, 40, 200_000] {
            kill_everywhere(
                prepare,
                |list| assert!(list.set(12, &vec![5; len]).unwrap()),
                |model| model[12] = vec![5; len],
            );
        }
        kill_everywhere(
            prepare,
            |list| assert!(list.swap(2, 12).unwrap()),
            |model| model.swap(2, 12),
        );
    }
    kill_everywhere(
        few,
        |list| {
            let _ = list.compare_swap(3, &[3; 15], b"v").unwrap();
        },
        |model| model[3] = b"v".to_vec(),
    );
}

#[test]
fn a_sort_a_reverse_and_a_selection_happen_or_do_not() {
    for prepare in [few, gapped] {
        kill_everywhere(
            prepare,
            |list| list.sort_by(|a, b| b.cmp(a)).unwrap(),
            |model| model.sort_by(|a, b| b.cmp(a)),
        );
        kill_everywhere(
            prepare,
            |list| list.reverse().unwrap(),
            |model| model.reverse(),
        );
        kill_everywhere(
            prepare,
            |list| list.with(|locked| locked.rearrange(&[1, 0])).unwrap(),
            |model| {
                model.truncate(2);
                model.swap(0, 1);
            },
        );
    }
}

#[test]
fn a_clear_happens_or_does_not() {
    for prepare in [few, gapped] {
        kill_everywhere(prepare, |list| list.clear().unwrap(), Vec::clear);
    }
}

#[test]
fn a_repair_that_is_killed_is_repaired() {
    let _alone = alone();
    let items = [vec![1; 10], vec![2; 70_000]];
    for first in [3, 8, 14, 20] {
        for second in 1.. {
            let list = List::anonymous().unwrap();
            few(&list);
            let before = all(&list);
            let mut done = before.clone();
            done.splice(2..5, items.clone());
            assert!(!lives(first, || list.splice(2..5, &items).unwrap()));
            let lived = lives(second, || assert!(list.len().unwrap() > 0));
            list.verify().unwrap();
            let after = all(&list);
            assert!(after == before || after == done);
            if lived {
                break;
            }
        }
    }
    // A swap that was noted is carried out by the next process, or by the one after it.
    for first in 1..8 {
        for second in 1.. {
            let list = List::anonymous().unwrap();
            few(&list);
            let before = all(&list);
            let mut done = before.clone();
            done.swap(1, 12);
            let over = lives(first, || assert!(list.swap(1, 12).unwrap()));
            let lived = lives(second, || assert!(list.len().unwrap() > 0));
            list.verify().unwrap();
            let after = all(&list);
            assert!(after == done || (after == before && !over));
            if lived {
                break;
            }
        }
    }
}

#[test]
fn a_list_that_cannot_be_repaired_is_poisoned_for_all() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    few(&list);
    let other = List::open(list.name()).unwrap();
    assert!(!lives(3, || list.append(&[1; 40]).unwrap()));
    let file = std::fs::File::options()
        .write(true)
        .open(format!("/dev/shm/shoal.{}", list.name()))
        .unwrap();
    // Tables where none is: no kill causes this state.
    const VIEWS: u64 = 36_864 + 704 + 64;
    for view in 0..2 {
        let word = (1u64 << 32 | 77).to_le_bytes();
        file.write_all_at(&word, VIEWS + view * 32).unwrap();
    }
    let err = list.get_vec(3).unwrap_err();
    assert!(matches!(err, Error::Corrupt { .. }), "{err}");
    for list in [&list, &other] {
        let err = list.append(b"v").unwrap_err();
        assert!(matches!(err, Error::Poisoned { .. }), "{err}");
        assert!(matches!(list.verify(), Err(Error::Poisoned { .. })));
    }
}

/// Binds the calling thread to its current core. A child that runs only when the core is idle can then be woken
/// without running, as long as its parent computes.
fn stay_on_this_core() {
    // SAFETY: `set` is plain data of the size given; no argument outlives the calls.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

fn run_when_idle() {
    // SAFETY: plain data, read during the call.
    unsafe {
        let mut idle: libc::sched_param = std::mem::zeroed();
        idle.sched_priority = 0;
        assert_eq!(libc::sched_setscheduler(0, libc::SCHED_IDLE, &idle), 0);
    }
}

#[test]
fn a_wake_up_that_is_lost_in_a_kill_keeps_no_other_process_asleep() {
    let _alone = alone();
    stay_on_this_core();
    let mut killed = 0;
    while killed < 5 {
        let list = List::anonymous().unwrap();
        let wait = |first: bool| {
            let mut waiter = fork(|| {
                if first {
                    run_when_idle();
                }
                list.append(b"waited").unwrap();
            });
            waiter.wait_asleep();
            waiter
        };
        let (mut woken, asleep) = list.with(|_| Ok((wait(true), wait(false)))).unwrap();
        // The process that waited longest has just been woken. Before it runs, a process that does not know of
        // the waiters takes the lock again. On a busy machine, that one may be late.
        let was_asleep = list.with(|_| {
            woken.signal(libc::SIGKILL);
            Ok(libc::WIFSIGNALED(woken.wait()))
        });
        killed += u32::from(was_asleep.unwrap());
        asleep.ends_well();
        list.verify().unwrap();
    }
}
