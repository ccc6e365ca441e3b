//! A process that is killed at any step of attaching, forking or detaching leaves an object consistent: the other
//! processes can use it, and its name is free once they have ended.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use crate::common::crash::{killed_at, lived, lives};
use crate::common::shm::in_directory;
use crate::common::{Bell, FOREVER, NOWAIT, fork, own_process, tiny};
use shoal::{Error, Lock, Options, Queue, crash};

/// Nothing is left once `gc` was here.
fn is_clean(directory: &Path) {
    shoal::gc(false).unwrap();
    let left: Vec<_> = fs::read_dir(directory).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn jobs() -> Queue {
    Queue::with_options(Some("jobs"), &tiny()).unwrap()
}

/// Calls `attempt` with step 1, 2, 3 … until it says that the process lived.
fn at_each_step(what: &str, least: u64, attempt: impl Fn(u64) -> bool) {
    let survived = (1..1000).find(|&step| attempt(step));
    let steps = survived.expect("an end");
    assert!(steps > least, "{what}: only {steps} steps");
}

#[test]
fn a_creator_that_is_killed_leaves_nothing_or_a_complete_object() {
    own_process(|| {
        in_directory("created", |directory| {
            at_each_step("create", 9, |step| {
                let lived = lives(step, || std::mem::forget(jobs()));
                // It was alone: the object is gone, and another one can have the name.
                fork(|| {
                    assert!(matches!(Queue::open("jobs"), Err(Error::NotFound { .. })));
                    assert!(jobs().is_empty());
                })
                .ends_well();
                is_clean(directory);
                lived
            });
        });
    });
}

#[test]
fn an_opener_that_is_killed_does_not_count_as_a_participant() {
    own_process(|| {
        in_directory("opened", |directory| {
            at_each_step("open", 3, |step| {
                let (up, go) = (Bell::new(), Bell::new());
                let owner = fork(|| {
                    let jobs = jobs();
                    up.ring();
                    go.hear();
                    jobs.put(b"job", NOWAIT).unwrap();
                    assert_eq!(shoal::stat("jobs").unwrap().participants.len(), 1);
                });
                up.hear();
                let lived = lives(step, || drop(Queue::open("jobs").unwrap()));
                go.ring();
                owner.ends_well();
                is_clean(directory);
                lived
            });
        });
    });
}

/// The ways to leave: to drop the handle, or to exit with it, which marks its slot.
const LEAVING: [fn(Queue); 2] = [drop, |jobs| {
    std::mem::forget(jobs);
    // SAFETY: the child's only thread.
    unsafe { libc::exit(0) }
}];

#[test]
fn a_process_that_is_killed_while_it_detaches_does_not_affect_others() {
    own_process(|| {
        let [dropped, exited] = LEAVING;
        killed_while_it_leaves(2, dropped);
        // The mark is one store.
        killed_while_it_leaves(1, exited);
    });
}

fn killed_while_it_leaves(least: u64, leave: fn(Queue)) {
    in_directory("left", |directory| {
        at_each_step("leave", least, |step| {
            let (up, go) = (Bell::new(), Bell::new());
            let other = fork(|| {
                let jobs = jobs();
                up.ring();
                go.hear();
                assert_eq!(jobs.get_vec(NOWAIT).unwrap(), b"job");
                assert!(Path::new(directory).join("shoal.jobs").exists());
            });
            up.hear();
            let mut leaver = fork(|| {
                let jobs = jobs();
                jobs.put(b"job", NOWAIT).unwrap();
                crash::arm(step);
                leave(jobs);
                crash::disarm();
            });
            let lived = lived(&mut leaver);
            go.ring();
            other.ends_well();
            is_clean(directory);
            lived
        });
    });
}

#[test]
fn the_last_process_killed_while_it_detaches_leaves_no_object() {
    own_process(|| {
        in_directory("last", |directory| {
            for leave in LEAVING {
                at_each_step("leave", 2, |step| {
                    let jobs = RefCell::new(None);
                    let lived = lives(step, || {
                        crash::disarm();
                        *jobs.borrow_mut() = Some(self::jobs());
                        crash::arm(step);
                        jobs.take().into_iter().for_each(leave);
                    });
                    fork(|| assert!(matches!(Queue::open("jobs"), Err(Error::NotFound { .. }))))
                        .ends_well();
                    is_clean(directory);
                    lived
                });
            }
        });
    });
}

#[test]
fn a_process_that_is_killed_while_it_removes_an_unused_object_leaves_it_or_none() {
    own_process(|| {
        in_directory("unused", |directory| {
            at_each_step("removal", 1, |step| {
                let lived = lives(step, || {
                    crash::disarm();
                    let jobs = Queue::with_options(Some("jobs"), &tiny().persistent()).unwrap();
                    let _has_fifo = jobs.fd().unwrap();
                    crash::arm(step);
                    assert_eq!(jobs.unlink_if_unused(), Ok(true));
                });
                fork(|| {
                    let jobs = self::jobs();
                    jobs.put(b"m", NOWAIT).unwrap();
                    assert!(jobs.fd().is_ok());
                    assert_eq!(jobs.get_vec(NOWAIT).unwrap(), b"m");
                    let _ = Queue::unlink("jobs");
                })
                .ends_well();
                is_clean(directory);
                lived
            });
        });
    });
}

#[test]
fn a_parent_or_child_that_is_killed_in_a_fork_does_not_affect_others() {
    own_process(|| {
        in_directory("forked", |directory| {
            at_each_step("fork", 5, |step| {
                let (mut told, tell) = std::io::pipe().unwrap();
                let mut parent = fork(|| {
                    let lock = Lock::with_options(Some("guard"), &Options::create()).unwrap();
                    let held = lock.lock(NOWAIT).unwrap();
                    crash::arm(step);
                    // Either may die in the hooks of the fork.
                    let mut child = fork(|| {
                        crash::disarm();
                        // From the parent, or from the dead process.
                        drop(lock.lock(FOREVER).unwrap());
                        let info = shoal::stat("guard").unwrap();
                        let own = std::process::id();
                        assert!(info.participants.iter().any(|it| it.pid == own), "{info:?}");
                        (&tell).write_all(b"c").unwrap();
                    });
                    crash::disarm();
                    drop(held);
                    let status = child.wait();
                    assert!(status == 0 || libc::WIFSIGNALED(status));
                    drop(lock.lock(FOREVER).unwrap());
                    (&tell).write_all(b"p").unwrap();
                });
                drop(tell);
                // Until the last of them has ended.
                let mut said = String::new();
                told.read_to_string(&mut said).unwrap();
                let parent_lived = lived(&mut parent);
                assert_eq!(parent_lived, said.contains('p'));
                is_clean(directory);
                said == "cp"
            });
        });
    });
}

#[test]
fn a_killed_process_is_known_to_be_dead_by_those_that_share_its_liveness_file() {
    own_process(|| {
        in_directory("related", |directory| {
            at_each_step("open", 3, |step| {
                let lock = Lock::with_options(Some("guard"), &Options::create()).unwrap();
                // The child reaches the lock at some step of the fork, of opening or of locking.
                let mut child = killed_at(step, || {
                    let again = Lock::open("guard").unwrap();
                    std::mem::forget(again.lock(NOWAIT).unwrap());
                    std::mem::forget(again);
                });
                let lived = lived(&mut child);
                drop(lock.lock(FOREVER).unwrap());
                assert_eq!(shoal::stat("guard").unwrap().participants.len(), 1);
                lived
            });
            is_clean(directory);
        });
    });
}
