//! Everything that happens to a message outside the ring, killed at every crash point.
//!
//! A forked child runs the operation and dies at step N. The survivor then processes all messages that are left: each
//! unfinished message is delivered, in order and once, and no memory is lost. N grows until the child completes the
//! operation.

use std::time::Duration;

use crate::common::crash::lives;
use crate::common::{NOWAIT, alone, millis};
use shoal::{Error, Options, Queue};

/// A message, and how often it was delivered.
type Delivered = (Vec<u8>, u32);

fn message(number: u8) -> Vec<u8> {
    vec![number; 1 + usize::from(number) * 33 % 300]
}

fn fill(queue: &Queue, numbers: std::ops::Range<u8>) {
    for number in numbers {
        queue.put(&message(number), NOWAIT).unwrap();
    }
}

/// Leases and acks until no message is unfinished, including those of dead processes.
fn work_off(queue: &Queue) -> Vec<Delivered> {
    let mut done = Vec::new();
    while queue.unfinished().unwrap() > 0 {
        match queue.lease(millis(50)) {
            Ok(lease) => {
                done.push((lease.to_vec(), lease.attempts()));
                lease.ack().unwrap();
            }
            Err(Error::Timeout | Error::Closed) => {}
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!((queue.len(), queue.bytes(), queue.leased()), (0, 0, 0));
    done
}

/// How many small messages can be leased at a time.
fn room(queue: &Queue) -> usize {
    let mut leases = Vec::new();
    loop {
        queue.put(b"", NOWAIT).unwrap();
        match queue.lease(NOWAIT) {
            Ok(lease) => leases.push(lease),
            Err(Error::Exhausted { .. }) => break,
            Err(err) => panic!("{err}"),
        }
    }
    let all = leases.len();
    for lease in leases {
        lease.ack().unwrap();
    }
    queue.get_vec(NOWAIT).unwrap();
    all
}

struct Case {
    options: Options,
    /// Runs in a live process.
    prepare: fn(&Queue),
    operation: fn(&Queue),
    /// The messages that the survivor may find, and those of them that are dead letters.
    allowed: fn(done: &[u8], dead: &[u8]) -> bool,
    at_least: u64,
    /// Extents that this process holds until it ends.
    held: usize,
}

fn small() -> Options {
    Options::create().capacity(4096).max_capacity(4096)
}

impl Case {
    fn run(&self) {
        let _alone = alone();
        let all = room(&Queue::with_options(None, &self.options).unwrap());
        for step in 1..2000 {
            let queue = Queue::with_options(None, &self.options).unwrap();
            (self.prepare)(&queue);
            let lived = lives(step, || (self.operation)(&queue));
            let done = work_off(&queue);
            for (message, attempts) in &done {
                assert_eq!(*message, self::message(message[0]), "step {step}");
                assert!((1..=3).contains(attempts), "step {step}: {attempts}");
            }
            let dead = std::iter::from_fn(|| queue.dead_letters()?.get_vec(NOWAIT).ok());
            let dead: Vec<u8> = dead.map(|it| it[0]).collect();
            let numbers: Vec<u8> = done.iter().map(|(message, _)| message[0]).collect();
            let allowed = (self.allowed)(&numbers, &dead);
            assert!(allowed, "step {step}: {numbers:?} {dead:?}");
            assert_eq!(room(&queue) + self.held, all, "step {step}");
            if lived {
                assert!(step > self.at_least, "{step} steps");
                return;
            }
        }
        panic!("the operation never ends");
    }
}

/// The messages of a dead process are delivered again once its death is noticed.
fn sorted(numbers: &[u8]) -> Vec<u8> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted
}

fn all_of(numbers: std::ops::Range<u8>, done: &[u8]) -> bool {
    numbers.eq(done.iter().copied())
}

#[test]
fn a_lease_that_is_killed_takes_nothing() {
    Case {
        options: small(),
        prepare: |queue| fill(queue, 1..5),
        operation: |queue| std::mem::forget(queue.lease(NOWAIT).unwrap()),
        allowed: |done, _| all_of(1..5, &sorted(done)),
        at_least: 8,
        held: 0,
    }
    .run();
}

#[test]
fn a_killed_lease_of_a_reserved_message_takes_nothing() {
    Case {
        options: small(),
        prepare: |queue| {
            for number in 1..4 {
                let message = message(number);
                let mut room = queue.reserve(message.len(), NOWAIT).unwrap();
                room.copy_from_slice(&message);
                room.commit().unwrap();
            }
        },
        operation: |queue| std::mem::forget(queue.lease(NOWAIT).unwrap()),
        allowed: |done, _| all_of(1..4, &sorted(done)),
        at_least: 5,
        held: 0,
    }
    .run();
}

#[test]
fn an_ack_happens_or_does_not() {
    Case {
        options: small(),
        prepare: |queue| fill(queue, 1..5),
        operation: |queue| queue.lease(NOWAIT).unwrap().ack().unwrap(),
        allowed: |done, _| all_of(1..5, &sorted(done)) || all_of(2..5, done),
        at_least: 12,
        held: 0,
    }
    .run();
}

#[test]
fn a_returned_message_is_kept_whenever_its_worker_dies() {
    Case {
        options: small(),
        prepare: |queue| fill(queue, 1..5),
        operation: |queue| {
            let [first, second] = [(); 2].map(|()| queue.lease(NOWAIT).unwrap());
            second.nack(Duration::ZERO).unwrap();
            first.nack(Duration::from_millis(1)).unwrap();
        },
        allowed: |done, _| all_of(1..5, &sorted(done)),
        at_least: 25,
        held: 0,
    }
    .run();
}

#[test]
fn a_closed_queue_ends_whenever_a_process_dies_that_returns_a_message_for_ever() {
    let _alone = alone();
    for step in 1..2000 {
        let queue = Queue::with_options(None, &small()).unwrap();
        fill(&queue, 1..3);
        let lived = lives(step, || {
            let [first, second] = [(); 2].map(|()| queue.lease(NOWAIT).unwrap());
            queue.close().unwrap();
            first.nack(Duration::MAX).unwrap();
            second.nack(Duration::MAX).unwrap();
        });
        queue.close().unwrap();
        let mut taken = 0;
        let end = loop {
            match queue.get_vec(millis(30_000)) {
                Ok(_) => taken += 1,
                Err(end) => break end,
            }
        };
        // Those that do not come again stay.
        assert_eq!(end, Error::Closed, "step {step}");
        assert_eq!(queue.len() + taken, 2, "step {step}");
        if lived {
            assert_eq!((taken, queue.waiting()), (0, 2));
            assert!(step > 25, "{step} steps");
            return;
        }
    }
    panic!("the operation never ends");
}

#[test]
fn messages_that_are_returned_in_order_are_kept_whenever_their_worker_dies() {
    Case {
        options: small(),
        prepare: |queue| fill(queue, 1..6),
        operation: |queue| {
            let leases = [(); 4].map(|()| queue.lease(NOWAIT).unwrap());
            for lease in leases {
                lease.nack(Duration::ZERO).unwrap();
            }
        },
        allowed: |done, _| all_of(1..6, &sorted(done)),
        at_least: 40,
        held: 0,
    }
    .run();
}

#[test]
fn messages_of_dead_workers_are_kept_whenever_the_next_one_dies() {
    Case {
        options: small(),
        prepare: |queue| {
            fill(queue, 1..6);
            let lease = || std::mem::forget(queue.lease(NOWAIT).unwrap());
            assert!(lives(0, || [(); 3].iter().for_each(|()| lease())));
        },
        operation: |queue| std::mem::forget(queue.lease(millis(100)).unwrap()),
        allowed: |done, _| all_of(1..6, &sorted(done)),
        at_least: 8,
        held: 0,
    }
    .run();
}

#[test]
fn a_redelivered_message_is_taken_or_left() {
    Case {
        options: small(),
        prepare: |queue| {
            fill(queue, 1..4);
            drop(queue.lease(NOWAIT).unwrap());
        },
        operation: |queue| assert_eq!(queue.get_vec(NOWAIT).unwrap(), message(1)),
        allowed: |done, _| all_of(1..4, done) || all_of(2..4, done),
        at_least: 3,
        held: 0,
    }
    .run();
}

#[test]
fn a_lease_expires_into_one_message_although_the_checking_process_is_killed() {
    Case {
        options: small(),
        prepare: |queue| {
            fill(queue, 1..3);
            let lease = queue.lease_for(Duration::from_nanos(1), NOWAIT).unwrap();
            std::mem::forget(lease);
        },
        operation: |queue| {
            let lease = queue.lease(NOWAIT).unwrap();
            assert_eq!((lease[0], lease.attempts()), (1, 2));
            std::mem::forget(lease);
        },
        allowed: |done, _| all_of(1..3, &sorted(done)),
        at_least: 10,
        held: 1,
    }
    .run();
}

#[test]
fn a_dead_letter_is_never_lost() {
    Case {
        options: small().max_attempts(1),
        prepare: |queue| {
            fill(queue, 1..4);
            assert!(lives(0, || std::mem::forget(queue.lease(NOWAIT).unwrap())));
        },
        operation: |queue| {
            while queue.dead_letters().unwrap().is_empty() {
                drop(queue.lease(millis(50)).unwrap());
            }
        },
        allowed: |done, dead| {
            // A process that was killed between the two steps of moving it moved it twice.
            let mut dead = sorted(dead);
            let twice = dead.windows(2).filter(|it| it[0] == it[1]).count();
            dead.dedup();
            let all = sorted(&[done, &dead].concat());
            twice <= 1 && dead.contains(&1) && all_of(1..4, &all)
        },
        at_least: 15,
        held: 0,
    }
    .run();
}

#[test]
fn a_dead_processs_reservation_is_freed_although_the_freeing_process_is_killed() {
    Case {
        options: small(),
        prepare: |queue| {
            fill(queue, 1..3);
            let reserve = || std::mem::forget(queue.reserve(4000, NOWAIT).unwrap());
            assert!(lives(0, || [(); 16].iter().for_each(|()| reserve())));
        },
        operation: |queue| queue.reserve(4000, NOWAIT).unwrap().discard(),
        allowed: |done, _| all_of(1..3, done),
        at_least: 10,
        held: 0,
    }
    .run();
}

#[test]
fn returning_memory_while_a_message_is_leased_loses_nothing() {
    Case {
        options: small(),
        prepare: |queue| {
            fill(queue, 1..4);
            let leases = [(); 3].map(|()| queue.lease(NOWAIT).unwrap());
            let [first, second, third] = leases;
            second.ack().unwrap();
            third.ack().unwrap();
            first.nack(Duration::from_millis(20)).unwrap();
        },
        operation: |queue| {
            let _ = queue.get_vec(millis(10));
        },
        // On a slow machine it is available again in time.
        allowed: |done, _| done.is_empty() || all_of(1..2, done),
        at_least: 2,
        held: 0,
    }
    .run();
}

#[test]
fn large_extents_are_reused_in_turn_and_none_is_lost() {
    Case {
        options: Options::create().capacity(4096).max_capacity(4 << 20),
        prepare: |queue| {
            fill(queue, 1..3);
            // Nearly as much as may be cached.
            let rooms = || queue.reserve(40_000, NOWAIT).unwrap();
            drop((0..50).map(|_| rooms()).collect::<Vec<_>>());
        },
        operation: |queue| {
            // One of the cached extents; then another, which displaces the oldest.
            queue.reserve(40_000, NOWAIT).unwrap().discard();
            queue.reserve(60_000, NOWAIT).unwrap().discard();
        },
        allowed: |done, _| all_of(1..3, done),
        at_least: 25,
        held: 0,
    }
    .run();
}
