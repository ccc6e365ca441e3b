//! Processes that are killed at every crash point of a wait or a wake-up, and the effect on others that wait.
//!
//! The killed operation finds the queue full or empty, so it sleeps, is woken and wakes the next one. Another process
//! waits for the same thing meanwhile, and has to get it.

use std::os::fd::AsRawFd;

use crate::common::crash::{killed_at, lived};
use crate::common::{Bell, Child, FOREVER, NOWAIT, alone, fixed, fork};
use shoal::{Queue, Waitable, wait_any};

/// Runs `round` with step 1, 2, 3 … until the child lives, and returns the last step.
///
/// How often a waiter sleeps depends on timing, so a few children in a row have to survive.
fn at_every_step(round: impl Fn(u64) -> bool) -> u64 {
    let _alone = alone();
    let mut lived = 0;
    for step in 1..500 {
        lived = if round(step) { lived + 1 } else { 0 };
        if lived == 3 {
            return step - 3;
        }
    }
    panic!("the operation never ends");
}

fn drain(queue: &Queue) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| queue.get_vec(NOWAIT).ok()).collect()
}

#[test]
fn a_waiting_put_happens_or_does_not_and_blocks_no_other() {
    let steps = at_every_step(|step| {
        let queue = fixed(4096);
        while queue.put(&[0; 240], NOWAIT).is_ok() {}
        let before = queue.len();
        let mut dying = killed_at(step, || queue.put(&[1; 240], FOREVER).unwrap());
        let mut bystander = fork(|| queue.put(&[2; 240], FOREVER).unwrap());
        dying.wait_asleep();
        bystander.wait_asleep();
        for _ in 0..before {
            assert_eq!(queue.get_vec(FOREVER).unwrap(), [0; 240]);
        }
        bystander.ends_well();
        let lived = lived(&mut dying);
        let (len, rest) = (queue.len(), drain(&queue));
        assert_eq!(len, rest.len(), "step {step}");
        let count = |byte| rest.iter().filter(|it| **it == [byte; 240]).count();
        assert_eq!(count(2), 1, "step {step}");
        assert!(count(1) == 1 || !lived && count(1) == 0, "step {step}");
        assert_eq!(rest.len(), count(1) + count(2));
        lived
    });
    assert!(steps >= 8, "{steps}");
}

#[test]
fn a_waiting_get_takes_one_message_or_none_and_blocks_no_other() {
    let steps = at_every_step(|step| {
        let (queue, taken) = (fixed(4096), Bell::new());
        let mut dying = killed_at(step, || drop(queue.get_vec(FOREVER).unwrap()));
        let mut bystander = fork(|| {
            queue.get_vec(FOREVER).unwrap();
            taken.ring();
        });
        dying.wait_asleep();
        bystander.wait_asleep();
        // One for each; if the dying process takes none, one is left at the end.
        queue.put_many(&[[1; 100]; 2], FOREVER).unwrap();
        taken.hear();
        bystander.ends_well();
        let lived = lived(&mut dying);
        let (len, rest) = (queue.len(), drain(&queue));
        assert_eq!(len, rest.len(), "step {step}");
        assert!(len == 0 || !lived && len == 1, "step {step}: {len}");
        lived
    });
    assert!(steps >= 4, "{steps}");
}

#[test]
fn a_waker_that_dies_leaves_no_sleeper_asleep() {
    // The one that dies puts; two others have gone to sleep for what it puts.
    let steps = at_every_step(|step| {
        let queue = fixed(4096);
        let mut sleepers = [(); 2].map(|()| fork(|| drop(queue.get_vec(FOREVER).unwrap())));
        sleepers.iter_mut().for_each(Child::wait_asleep);
        let mut dying = killed_at(step, || {
            queue.put(&[1; 10], NOWAIT).unwrap();
            queue.put(&[1; 10], NOWAIT).unwrap();
        });
        let lived = lived(&mut dying);
        // This process puts the messages that it did not put.
        if !lived {
            (0..2).for_each(|_| queue.put(&[2; 10], NOWAIT).unwrap());
        }
        sleepers.into_iter().for_each(Child::ends_well);
        let left = queue.len();
        assert!(left <= 2 && (!lived || left == 0), "step {step}: {left}");
        assert_eq!(drain(&queue).len(), left);
        lived
    });
    assert!(steps >= 12, "{steps}");
}

#[test]
fn pollers_notice_a_message_although_its_producer_died() {
    let steps = at_every_step(|step| {
        let queue = fixed(4096);
        let mut polled = libc::pollfd {
            fd: queue.fd().unwrap().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let waits = || assert_eq!(wait_any(&[Waitable::Queue(&queue)], FOREVER), Ok(0));
        let mut waiter = fork(waits);
        waiter.wait_asleep();
        let mut dying = killed_at(step, || queue.put(&[1; 10], NOWAIT).unwrap());
        let lived = lived(&mut dying);
        if queue.is_empty() {
            assert!(!lived);
            queue.put(&[2; 10], NOWAIT).unwrap();
        }
        // SAFETY: one descriptor; it waits until that is readable.
        assert_eq!(unsafe { libc::poll(&mut polled, 1, -1) }, 1);
        waiter.ends_well();
        assert_eq!(drain(&queue).len(), 1);
        // SAFETY: as above; it does not wait.
        assert_eq!(unsafe { libc::poll(&mut polled, 1, 0) }, 0);
        lived
    });
    assert!(steps >= 6, "{steps}");
}

#[test]
fn a_consumer_that_dies_making_room_leaves_no_producer_asleep() {
    let steps = at_every_step(|step| {
        let queue = fixed(4096);
        while queue.put(&[0; 240], NOWAIT).is_ok() {}
        let before = queue.len();
        let mut sleepers = [(); 2].map(|()| fork(|| queue.put(&[1; 240], FOREVER).unwrap()));
        sleepers.iter_mut().for_each(Child::wait_asleep);
        let mut dying = killed_at(step, || {
            (0..before).for_each(|_| drop(queue.get_vec(NOWAIT).unwrap()));
        });
        let lived = lived(&mut dying);
        if !lived {
            (0..2).for_each(|_| drop(queue.get_vec(FOREVER).unwrap()));
        }
        sleepers.into_iter().for_each(Child::ends_well);
        let (len, rest) = (queue.len(), drain(&queue));
        assert_eq!(len, rest.len());
        // In order: first the messages that were there, then those that waited for room.
        assert!(rest.is_sorted_by_key(|it| it[0]), "step {step}");
        lived
    });
    assert!(steps >= 12, "{steps}");
}

#[test]
fn closing_reaches_all_sleepers_although_the_closer_dies() {
    at_every_step(|step| {
        let queue = fixed(4096);
        let mut sleepers = [(); 2].map(|()| fork(|| drop(queue.get_vec(FOREVER).unwrap_err())));
        sleepers.iter_mut().for_each(Child::wait_asleep);
        let mut dying = killed_at(step, || queue.close().unwrap());
        let lived = lived(&mut dying);
        if !queue.is_closed() {
            assert!(!lived);
            queue.close().unwrap();
        }
        sleepers.into_iter().for_each(Child::ends_well);
        lived
    });
}
