//! What an object promises to processes that fork and to threads that start and end.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Bell, FOREVER, NOWAIT, Name, alone, fork, fork_and_exit, tiny};
use shoal::{Error, ForkOptions, Queue};

fn open(name: &str) -> Queue {
    Queue::with_options(Some(name), &tiny()).unwrap()
}

fn die() {
    // SAFETY: a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn attached(name: &str) -> Vec<u32> {
    let mut pids: Vec<u32> = shoal::stat(name)
        .unwrap()
        .participants
        .iter()
        .map(|it| it.pid)
        .collect();
    pids.sort_unstable();
    pids
}

#[test]
fn threads_that_open_and_drop_one_name_do_not_wait_for_each_other() {
    let _alone = alone();
    let name = Name::new("threads");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let queue = open(&name);
                    queue.put(b"x", NOWAIT).ok();
                    drop(queue);
                }
            });
        }
    });
    assert!(!name.has_file());
}

/// A parent that leaves in its own way as soon as it has forked.
fn child_outlives_its_parent(leave: fn(Queue)) {
    let _alone = alone();
    for _ in 0..40 {
        let name = Name::new("outlives");
        let (done, told) = (Bell::new(), Bell::new());
        let mut parent = fork(|| {
            let mut queue = Some(open(&name));
            queue.as_ref().unwrap().put(b"inherited", NOWAIT).unwrap();
            let child = fork(|| {
                told.hear();
                let queue = queue.take().unwrap();
                assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"inherited");
                assert_eq!(Queue::open(&name).unwrap().len(), 0);
                drop(queue);
                done.ring();
            });
            std::mem::forget(child);
            leave(queue.take().unwrap());
        });
        parent.wait();
        // The parent has ended; the name must exist, whether its child has run yet or not.
        assert!(name.has_file(), "the parent took the object along");
        told.ring();
        done.hear();
        // The child's last action was to drop its handle.
        assert!(!name.has_file(), "the last one did not remove it");
    }
}

#[test]
fn a_child_keeps_objects_that_its_parent_drops_at_once() {
    child_outlives_its_parent(drop);
}

#[test]
fn a_child_keeps_the_objects_of_its_exiting_parent() {
    child_outlives_its_parent(|queue| {
        std::mem::forget(queue);
        // SAFETY: the only thread of this process.
        unsafe { libc::exit(0) }
    });
}

#[test]
fn a_child_keeps_the_objects_of_its_killed_parent() {
    child_outlives_its_parent(|_queue| die());
}

#[test]
fn a_child_that_ends_normally_removes_objects_that_only_it_had() {
    let _alone = alone();
    let name = Name::new("ends");
    let told = Bell::new();
    let queue = open(&name);
    let entry = || {
        told.hear();
        0
    };
    // SAFETY: the child only reads from a pipe; the other threads wait for their turn.
    let child = unsafe { shoal::fork(&ForkOptions::default(), entry) }.unwrap();
    drop(queue);
    assert!(name.has_file());
    told.ring();
    assert_eq!(child.join(FOREVER).unwrap().code, 0);
    assert!(!name.has_file());
}

#[test]
fn a_dead_parent_does_not_look_alive_through_its_child() {
    let _alone = alone();
    let name = Name::new("dead-parent");
    let (up, end) = (Bell::new(), Bell::new());
    let mut parent = fork(|| {
        let mut queue = Some(open(&name));
        let child = fork(|| {
            up.ring();
            end.hear();
            drop(queue.take());
            up.ring();
        });
        std::mem::forget(child);
        // Until it is killed.
        Bell::new().hear();
    });
    up.hear();
    let both = attached(&name);
    assert_eq!(both.len(), 2, "{both:?}");
    parent.signal(libc::SIGKILL);
    parent.wait();
    let rest = attached(&name);
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_ne!(rest[0], parent.pid());
    end.ring();
    up.hear();
}

#[test]
fn a_child_that_detaches_does_not_affect_its_parent() {
    let _alone = alone();
    let name = Name::new("child-leaves");
    let queue = open(&name);
    for way in 0..4 {
        let leave = || {
            assert_eq!(attached(&name).len(), 2);
            match way {
                0 => drop(Queue::open(&name).unwrap()),
                1 => (0..3).for_each(|_| queue.put(b"x", NOWAIT).unwrap()),
                2 => panic!("on purpose"),
                _ => die(),
            }
        };
        let mut child = if way == 1 {
            fork_and_exit(leave)
        } else {
            fork(leave)
        };
        child.wait();
        assert_eq!(attached(&name), [std::process::id()]);
        assert_eq!(Queue::open(&name).unwrap().len(), queue.len());
    }
    assert_eq!(queue.len(), 3);
}

#[test]
fn forks_while_threads_open_and_drop_affect_no_process() {
    let _alone = alone();
    let names: Vec<Name> = (0..3).map(|_| Name::new("amid")).collect();
    let shared = Name::new("amid-shared");
    fork_and_exit(|| {
        let stop = AtomicBool::new(false);
        let answers = open(&shared);
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        drop(open(name));
                        drop(Queue::with_options(None, &tiny()).unwrap());
                    }
                });
            }
            for round in 0..60u32 {
                let work = || {
                    answers.put(&round.to_le_bytes(), FOREVER).unwrap();
                    drop(open(&names[round as usize % 3]));
                };
                // Whatever the other threads were doing, the child may come and go.
                if round % 2 == 0 {
                    fork_and_exit(work).ends_well();
                } else {
                    fork(work).ends_well();
                }
                assert_eq!(answers.get_vec(FOREVER).unwrap(), round.to_le_bytes());
            }
            stop.store(true, Ordering::Relaxed);
        });
        for name in &names {
            // What a child that left by `_exit` was the last to have is there, and dead.
            assert!(matches!(Queue::open(name), Err(Error::NotFound { .. })));
        }
        drop(answers);
    })
    .ends_well();
    assert!(!shared.has_file());
    // Anonymous objects of a child that left by `_exit` after all others.
    shoal::gc(false).unwrap();
}

#[test]
fn every_generation_is_a_participant_of_its_own() {
    let _alone = alone();
    let name = Name::new("generations");
    let queue = open(&name);
    fork(|| {
        fork(|| {
            fork(|| {
                let pids = attached(&name);
                assert_eq!(pids.len(), 4);
                assert!(pids.contains(&std::process::id()));
                queue.put(b"great-grandchild", NOWAIT).unwrap();
            })
            .ends_well();
            assert_eq!(attached(&name).len(), 3);
        })
        .ends_well();
    })
    .ends_well();
    assert_eq!(attached(&name), [std::process::id()]);
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"great-grandchild");
}
