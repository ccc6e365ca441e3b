//! Processes that are killed at every crash point of what makes the descriptors of a queue say what is
//! so, and what the descriptors of the others say then.

use std::fs;
use std::os::fd::AsRawFd;

use crate::common::crash::lives;
use crate::common::shm::in_directory;
use crate::common::{FOREVER, NOWAIT, fixed, own_process, tiny};
use shoal::{Queue, Result};

const NOT_AT_ALL: i32 = 0;
const UNTIL_IT_IS: i32 = -1;

fn poll(queue: &Queue, wait: i32) -> bool {
    let mut polled = libc::pollfd {
        fd: queue.fd().unwrap().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one descriptor.
    let ready = unsafe { libc::poll(&mut polled, 1, wait) };
    assert!(ready >= 0);
    ready > 0
}

/// Runs `round` with step 1, 2, 3 … until it says that the child lived, and returns that step.
fn at_every_step(round: impl Fn(u64) -> bool) -> u64 {
    (1..500)
        .find(|&step| round(step))
        .expect("the operation never ends")
}

/// What takes the last message, and how many steps that has at least.
type Take = (fn(&Queue) -> Result<()>, u64);

#[test]
fn a_consumer_that_dies_leaves_no_descriptor_readable_without_a_message() {
    own_process(|| {
        let takes: [Take; 5] = [
            (|queue| queue.get_vec(NOWAIT).map(drop), 5),
            (|queue| queue.get(&mut [0; 10], NOWAIT).map(drop), 5),
            (
                |queue| {
                    queue
                        .get_many(&mut Vec::new(), &mut Vec::new(), 9, NOWAIT)
                        .map(drop)
                },
                5,
            ),
            (|queue| queue.lease(NOWAIT)?.ack(), 10),
            (
                |queue| {
                    queue.lease(NOWAIT)?.nack(std::time::Duration::ZERO)?;
                    queue.get_vec(NOWAIT).map(drop)
                },
                15,
            ),
        ];
        for (take, least) in takes {
            for inherits in [true, false] {
                let steps = at_every_step(|step| {
                    let queue = fixed(4096);
                    queue.put(b"last", NOWAIT).unwrap();
                    assert!(poll(&queue, UNTIL_IT_IS));
                    let name = queue.name().to_owned();
                    let lived = lives(step, || {
                        let own = (!inherits).then(|| Queue::open(&name).unwrap());
                        take(own.as_ref().unwrap_or(&queue)).unwrap();
                        // It ends without detaching, as the others do that die.
                        std::mem::forget(own);
                    });
                    if poll(&queue, NOT_AT_ALL) {
                        assert!(!lived && queue.get_vec(NOWAIT).is_ok(), "step {step}");
                    }
                    // Messages that are there make it readable. Counting them takes the lock, and so
                    // repairs what the dead process left.
                    while queue.unfinished().unwrap() > 0 || poll(&queue, NOT_AT_ALL) {
                        if poll(&queue, NOT_AT_ALL) {
                            let _ = queue.get_vec(NOWAIT);
                        }
                        std::thread::yield_now();
                    }
                    queue.put(b"next", NOWAIT).unwrap();
                    assert!(poll(&queue, UNTIL_IT_IS));
                    assert_eq!(queue.get_vec(FOREVER).unwrap(), b"next", "step {step}");
                    assert!(!poll(&queue, NOT_AT_ALL), "step {step}");
                    lived
                });
                assert!(steps > least, "{steps}");
            }
        }
    });
}

/// What puts a message, and how many steps that has at least.
type Put = (fn(&Queue) -> Result<()>, u64);

#[test]
fn a_producer_that_dies_leaves_descriptors_that_say_what_is_there() {
    own_process(|| {
        let puts: [Put; 3] = [
            (|queue| queue.put(b"new", NOWAIT), 5),
            (|queue| queue.put_many(&[b"new"], NOWAIT).map(drop), 5),
            (
                |queue| {
                    queue.put(b"new", NOWAIT)?;
                    queue.lease(NOWAIT)?.nack(std::time::Duration::ZERO)
                },
                15,
            ),
        ];
        for (put, least) in puts {
            for inherits in [true, false] {
                let steps = at_every_step(|step| {
                    let queue = fixed(4096);
                    assert!(!poll(&queue, NOT_AT_ALL));
                    let name = queue.name().to_owned();
                    let lived = lives(step, || {
                        let own = (!inherits).then(|| Queue::open(&name).unwrap());
                        put(own.as_ref().unwrap_or(&queue)).unwrap();
                        std::mem::forget(own);
                    });
                    assert!(!lived || poll(&queue, NOT_AT_ALL), "step {step}");
                    // Counting takes the lock, and so repairs what the dead process left.
                    while queue.unfinished().unwrap() > 0 || poll(&queue, NOT_AT_ALL) {
                        if poll(&queue, NOT_AT_ALL) {
                            let _ = queue.get_vec(NOWAIT);
                        }
                        std::thread::yield_now();
                    }
                    // The dead process may have left a word that says that the descriptor is readable already. The
                    // next check of the thread behind it finds that out.
                    queue.put(b"next", NOWAIT).unwrap();
                    assert!(poll(&queue, UNTIL_IT_IS), "step {step}");
                    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"next", "step {step}");
                    assert!(!poll(&queue, NOT_AT_ALL), "step {step}");
                    lived
                });
                assert!(steps > least, "{steps}");
            }
        }
    });
}

#[test]
fn a_process_that_dies_opening_a_descriptor_does_not_affect_others() {
    own_process(|| {
        in_directory("asking", |directory| {
            let steps = at_every_step(|step| {
                let queue = Queue::with_options(Some("jobs"), &tiny()).unwrap();
                queue.put(b"x", NOWAIT).unwrap();
                let lived = lives(step, || assert!(poll(&queue, UNTIL_IT_IS)));
                let same = Queue::open("jobs").unwrap();
                for handle in [&queue, &same] {
                    assert!(poll(handle, UNTIL_IT_IS), "step {step}");
                }
                same.get_vec(NOWAIT).unwrap();
                for handle in [&queue, &same] {
                    assert!(!poll(handle, NOT_AT_ALL), "step {step}");
                }
                drop((queue, same));
                let left = fs::read_dir(directory).unwrap().flatten();
                assert_eq!(left.map(|it| it.path()).next(), None, "step {step}");
                lived
            });
            assert!(steps > 5, "{steps}");
        });
    });
}

#[test]
fn a_process_that_dies_as_the_last_to_leave_leaves_nothing_that_is_not_collected() {
    own_process(|| {
        in_directory("leaving", |directory| {
            let steps = at_every_step(|step| {
                let lived = lives(step, || {
                    let queue = Queue::with_options(Some("jobs"), &tiny()).unwrap();
                    assert!(!poll(&queue, NOT_AT_ALL));
                    drop(queue);
                });
                shoal::gc(false).unwrap();
                let left = fs::read_dir(directory).unwrap().flatten();
                assert_eq!(left.map(|it| it.path()).next(), None, "step {step}");
                lived
            });
            assert!(steps > 10, "{steps}");
        });
    });
}
