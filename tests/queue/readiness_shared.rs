//! That the descriptors of a queue say the same in all processes, and the truth: from when the call
//! is over that took the last message, none is readable.

use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::common::company::{Words, wait_until};
use crate::common::ready::{NOT_AT_ALL, UNTIL_IT_IS, fd, is_readable, poll, wait_readable};
use crate::common::{Bell, Child, FOREVER, NOWAIT, Name, Random, alone, fixed, fork, tiny};
use shoal::{End, Error, Lock, Pipe, Queue};

/// Reads as programs do that share an end: polls, takes the lock, asks the descriptor again, and then
/// takes without fear of waiting. Ends with an empty message, and counts the others.
fn read_politely(queue: &Queue, lock: &Lock, taken: impl Fn()) {
    let fd = fd(queue);
    loop {
        poll(fd, UNTIL_IT_IS);
        let _ = lock.acquire(FOREVER).unwrap();
        let message = poll(fd, NOT_AT_ALL).then(|| queue.get_vec(NOWAIT));
        lock.release().unwrap();
        if let Some(message) = message {
            if message.expect("the descriptor told the truth").is_empty() {
                break;
            }
            taken();
        }
    }
}

fn count(words: &Words) {
    words.add(0, 1);
}

#[test]
fn a_take_by_another_handle_or_process_makes_it_unreadable() {
    let _alone = alone();
    for asked_first in [true, false] {
        let queue = fixed(4096);
        let (go, done) = (Bell::new(), Bell::new());
        if asked_first {
            assert!(!is_readable(&queue));
        }
        let other = fork(|| {
            assert!(!is_readable(&queue));
            done.ring();
            for _ in 0..50 {
                go.hear();
                wait_readable(&queue);
                queue.get_vec(NOWAIT).unwrap();
                assert!(!is_readable(&queue));
                done.ring();
            }
        });
        done.hear();
        assert!(!is_readable(&queue));
        for round in 0..50 {
            queue.put(b"for whom?", NOWAIT).unwrap();
            if round % 2 == 0 {
                wait_readable(&queue);
            }
            go.ring();
            done.hear();
            assert!(!is_readable(&queue));
        }
        other.ends_well();
    }
}

#[test]
fn a_take_by_a_process_without_a_descriptor_makes_those_of_others_unreadable() {
    let _alone = alone();
    let queue = fixed(4096);
    assert!(!is_readable(&queue));
    let (go, done) = (Bell::new(), Bell::new());
    type Take = fn(&Queue);
    let ways: [Take; 4] = [
        |queue| drop(queue.get_vec(FOREVER).unwrap()),
        |queue| assert_eq!(queue.get(&mut [0; 10], FOREVER), Ok(5)),
        |queue| queue.lease(FOREVER).unwrap().ack().unwrap(),
        |queue| {
            let (mut bytes, mut lens) = (Vec::new(), Vec::new());
            let taken = queue.get_many(&mut bytes, &mut lens, 9, FOREVER);
            assert_eq!(taken, Ok(1));
        },
    ];
    let taker = fork(|| {
        // A separate handle, which inherits nothing.
        let queue = Queue::open(queue.name()).unwrap();
        for take in ways {
            go.hear();
            take(&queue);
            done.ring();
        }
    });
    for _ in ways {
        queue.put(b"hello", NOWAIT).unwrap();
        wait_readable(&queue);
        go.ring();
        done.hear();
        assert!(!is_readable(&queue));
    }
    taker.ends_well();
}

#[test]
fn readers_that_poll_again_under_a_lock_never_wait_with_it() {
    let _alone = alone();
    const COUNT: u64 = 3000;
    let (queue, lock, words) = (fixed(1 << 16), Lock::anonymous().unwrap(), Words::new(1));
    let readers = [(); 3].map(|()| fork(|| read_politely(&queue, &lock, || count(&words))));
    for index in 0..COUNT {
        queue.put(b"x", FOREVER).unwrap();
        if index % 8 == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    (0..3).for_each(|_| queue.put(b"", FOREVER).unwrap());
    readers.into_iter().for_each(Child::ends_well);
    assert_eq!(words.get(0), COUNT);
}

#[test]
fn killed_readers_leave_others_a_correct_descriptor() {
    let _alone = alone();
    let (queue, lock, words) = (fixed(1 << 14), Lock::anonymous().unwrap(), Words::new(1));
    let reader = || fork(|| read_politely(&queue, &lock, || count(&words)));
    let survivor = reader();
    let mut random = Random(11);
    for _ in 0..40 {
        let victim = reader();
        for _ in 0..random.below(60) {
            queue.put(b"x", FOREVER).unwrap();
        }
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        victim.kill();
        let before = words.get(0);
        queue.put(b"x", FOREVER).unwrap();
        wait_until(|| words.get(0) > before || queue.is_empty());
    }
    wait_until(|| queue.is_empty());
    queue.put(b"", FOREVER).unwrap();
    survivor.ends_well();
}

#[test]
fn the_descriptors_of_both_ends_of_a_pipe_are_independent() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let also = Pipe::open(here.name(), End::First).unwrap();
    let fds = [&here, &also, &there].map(|it| it.fd().unwrap().as_raw_fd());
    let say = || fds.map(|fd| poll(fd, NOT_AT_ALL));
    assert_eq!(say(), [false; 3]);
    there.send(b"to the first", NOWAIT).unwrap();
    poll(fds[0], UNTIL_IT_IS);
    assert_eq!(say(), [true, true, false]);
    here.send(b"to the second", NOWAIT).unwrap();
    poll(fds[2], UNTIL_IT_IS);
    also.recv_vec(NOWAIT).unwrap();
    assert_eq!(say(), [false, false, true]);
    there.recv_vec(NOWAIT).unwrap();
    assert_eq!(say(), [false; 3]);
    drop(there);
    fds[..2]
        .iter()
        .for_each(|&fd| assert!(poll(fd, UNTIL_IT_IS)));
}

#[test]
fn a_leased_message_does_not_make_the_descriptor_readable() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"work", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    assert!(!poll(fd(&queue), 250));
    lease.ack().unwrap();
}

#[test]
fn a_queue_that_takes_the_name_of_one_in_use_has_a_fifo_of_its_own() {
    let _alone = alone();
    let name = Name::new("twice");
    let old = Queue::with_options(Some(&name), &tiny()).unwrap();
    let same = Queue::open(&name).unwrap();
    assert!(!is_readable(&old));
    Queue::unlink(&name).unwrap();
    let new = Queue::with_options(Some(&name), &tiny()).unwrap();
    assert!(!is_readable(&new));
    old.put(b"old", NOWAIT).unwrap();
    wait_readable(&old);
    assert!(!is_readable(&new));
    // This handle cannot open the FIFO any more; it is notified anyway.
    wait_readable(&same);
    same.get_vec(NOWAIT).unwrap();
    assert!(!is_readable(&same));
    while is_readable(&old) {
        std::thread::yield_now();
    }
    new.put(b"new", NOWAIT).unwrap();
    wait_readable(&new);
    assert!(!is_readable(&old) && !is_readable(&same));
    // The old one's last process leaves the new one's FIFO alone.
    drop((old, same));
    let also = Queue::open(&name).unwrap();
    assert!(is_readable(&also));
    also.get_vec(NOWAIT).unwrap();
    assert!(!is_readable(&new));
}

#[test]
fn where_no_fifo_can_be_made_each_handle_has_a_descriptor_of_its_own() {
    let _alone = alone();
    let name = Name::new("apart");
    let queues = [(); 2].map(|()| Queue::with_options(Some(&name), &tiny()).unwrap());
    Queue::unlink(&name).unwrap();
    let [one, two] = &queues;
    assert!(!is_readable(one) && !is_readable(two));
    for (taker, other) in [(one, two), (two, one)].into_iter().cycle().take(20) {
        taker.put(b"x", NOWAIT).unwrap();
        wait_readable(one);
        wait_readable(two);
        taker.get_vec(NOWAIT).unwrap();
        assert!(!is_readable(taker));
        // By its own thread, or by its own check, unless the check finds the lock taken.
        while is_readable(other) {
            assert_eq!(other.get_vec(NOWAIT), Err(Error::Timeout));
        }
        taker.put(b"y", NOWAIT).unwrap();
        wait_readable(other);
        taker.get_vec(NOWAIT).unwrap();
        while is_readable(other) {
            std::thread::yield_now();
        }
    }
}
