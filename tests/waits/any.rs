//! A wait for several things ends once one of them is ready, and not before.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::shm::allow_descriptors;
use crate::common::{
    Bell, Child, FOREVER, NOWAIT, alone, beside_others, fixed, fork, holder, millis,
};
use shoal::Waitable::{Fd, Process as P, Queue as Q};
use shoal::{Error, Queue, Spawn, wait_any};

#[test]
fn the_index_is_that_of_the_first_thing_that_is_ready() {
    let _alone = alone();
    let queues = [(); 5].map(|()| fixed(4096));
    let things = queues.each_ref().map(Q);
    for ready in [[4, 2], [3, 1], [0, 4]] {
        for index in ready {
            queues[index].put(b"x", NOWAIT).unwrap();
        }
        for index in [ready[0].min(ready[1]), ready[0].max(ready[1])] {
            assert_eq!(wait_any(&things, NOWAIT), Ok(index));
            assert_eq!(wait_any(&things, FOREVER), Ok(index));
            queues[index].get_vec(NOWAIT).unwrap();
        }
        assert_eq!(wait_any(&things, NOWAIT), Err(Error::Timeout));
    }
}

#[test]
fn a_message_of_another_process_ends_the_wait_for_any_of_many() {
    let _alone = alone();
    let queues: Vec<Queue> = (0..20).map(|_| fixed(4096)).collect();
    let things: Vec<_> = queues.iter().map(Q).collect();
    let go = Bell::new();
    let putter = fork(|| {
        for round in 0..100 {
            go.hear();
            if round % 4 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            queues[round * 7 % 20].put(b"x", FOREVER).unwrap();
        }
    });
    for round in 0..100 {
        go.ring();
        let index = wait_any(&things, FOREVER).unwrap();
        assert_eq!(index, round * 7 % 20);
        assert_eq!(queues[index].get_vec(NOWAIT).unwrap(), b"x");
    }
    putter.ends_well();
}

/// A message that is given back is the first, though the ring begins with the padding before others.
#[test]
fn a_returned_message_is_ready_before_padding_in_the_ring() {
    let _alone = alone();
    let queue = Queue::with_options(None, &shoal::Options::create().capacity(4096)).unwrap();
    for number in 1..=2 {
        queue.put(&[number; 1500], NOWAIT).unwrap();
    }
    let first = queue.lease(NOWAIT).unwrap();
    queue.lease(NOWAIT).unwrap().ack().unwrap();
    // It does not fit before the end of the ring.
    queue.put(&[3; 1500], NOWAIT).unwrap();
    first.nack(std::time::Duration::ZERO).unwrap();
    for number in [1, 3] {
        assert_eq!(wait_any(&[Q(&queue)], FOREVER), Ok(0));
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), [number; 1500]);
    }
    assert_eq!(wait_any(&[Q(&queue)], NOWAIT), Err(Error::Timeout));
}

#[test]
fn a_process_that_ends_ends_the_wait_and_can_still_be_joined() {
    let _alone = alone();
    let queue = fixed(4096);
    let sleeper = Spawn::new("sleep").arg("600").spawn().unwrap();
    let short = Spawn::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let things = [Q(&queue), P(&sleeper), P(&short)];
    assert_eq!(wait_any(&things, FOREVER), Ok(2));
    assert_eq!(wait_any(&things, NOWAIT), Ok(2));
    assert_eq!(short.join(FOREVER).unwrap().code, 3);
    assert_eq!(wait_any(&things, FOREVER), Ok(2));
    assert_eq!(wait_any(&things[..2], NOWAIT), Err(Error::Timeout));
    sleeper.kill().unwrap();
    assert_eq!(wait_any(&things[..2], FOREVER), Ok(1));
    assert_eq!(wait_any(&[P(&sleeper)], FOREVER), Ok(0));
    assert_eq!(sleeper.join(NOWAIT).unwrap().code, libc::SIGKILL);
}

#[test]
fn without_anything_ready_the_wait_ends_at_its_timeout() {
    let _alone = alone();
    let queue = fixed(4096);
    let process = Spawn::new("sleep").arg("600").spawn().unwrap();
    for things in [&[Q(&queue), P(&process)][..], &[Q(&queue)], &[P(&process)]] {
        assert_eq!(wait_any(things, NOWAIT), Err(Error::Timeout));
        assert_eq!(wait_any(things, millis(3)), Err(Error::Timeout));
    }
    process.kill().unwrap();
}

#[test]
fn a_wait_without_anything_to_wait_for_is_refused() {
    let _beside = beside_others();
    for timeout in [NOWAIT, FOREVER] {
        assert!(matches!(wait_any(&[], timeout), Err(Error::Invalid { .. })));
    }
}

#[test]
fn a_queue_that_is_closed_is_ready() {
    let _alone = alone();
    let (open, closed) = (fixed(4096), fixed(4096));
    let things = [Q(&open), Q(&closed)];
    let closer = fork(|| closed.close().unwrap());
    assert_eq!(wait_any(&things, FOREVER), Ok(1));
    closer.ends_well();
    assert_eq!(wait_any(&things, NOWAIT), Ok(1));
}

#[test]
fn a_signal_handler_that_runs_ends_the_wait() {
    let _alone = alone();
    extern "C" fn handle(_: i32) {}
    let (queue, ready) = (fixed(4096), Bell::new());
    let mut waiter = fork(|| {
        // SAFETY: a handler that does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        ready.ring();
        assert_eq!(wait_any(&[Q(&queue)], FOREVER), Err(Error::Interrupted));
    });
    ready.hear();
    // Until one of them comes while it waits.
    while !waiter.has_ended() {
        waiter.signal(libc::SIGUSR1);
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    waiter.ends_well();
}

#[test]
fn a_waiter_is_woken_although_the_producer_is_killed() {
    let _alone = alone();
    for round in 0..30u64 {
        let (first, second) = (fixed(4096), fixed(4096));
        let things = [Q(&first), Q(&second)];
        let putter = fork(|| while second.put(&[0; 10], FOREVER).is_ok() {});
        for _ in 0..round * 20 {
            assert_eq!(wait_any(&things, FOREVER), Ok(1));
            second.get_vec(NOWAIT).unwrap();
        }
        putter.kill();
        while !second.is_empty() {
            assert_eq!(wait_any(&things, FOREVER), Ok(1));
            second.get_vec(NOWAIT).unwrap();
        }
        assert_eq!(wait_any(&things, millis(1)), Err(Error::Timeout));
    }
}

#[test]
fn reserved_and_leased_messages_are_not_ready() {
    let _alone = alone();
    let queue = fixed(4096);
    let room = queue.reserve(4, NOWAIT).unwrap();
    assert_eq!(wait_any(&[Q(&queue)], NOWAIT), Err(Error::Timeout));
    room.discard();
    assert_eq!(wait_any(&[Q(&queue)], millis(1)), Err(Error::Timeout));
    queue.put(b"work", NOWAIT).unwrap();
    let holder = holder(&queue);
    assert_eq!(wait_any(&[Q(&queue)], millis(30)), Err(Error::Timeout));
    holder.kill();
    assert_eq!(wait_any(&[Q(&queue)], FOREVER), Ok(0));
    let lease = queue.lease(NOWAIT).unwrap();
    assert_eq!((&lease[..], lease.attempts()), (&b"work"[..], 2));
    assert_eq!(wait_any(&[Q(&queue)], NOWAIT), Err(Error::Timeout));
    drop(lease);
    assert_eq!(wait_any(&[Q(&queue)], NOWAIT), Ok(0));
}

#[test]
fn in_a_forked_child_waiting_works_on_the_handles_of_its_parent() {
    let _alone = alone();
    let queues = [(); 2].map(|()| fixed(4096));
    let things = queues.each_ref().map(Q);
    let process = Spawn::new("sleep").arg("600").spawn().unwrap();
    // The parent has waited before, so that there is something to inherit.
    assert_eq!(wait_any(&things, millis(1)), Err(Error::Timeout));
    let (ready, go) = (Bell::new(), Bell::new());
    let child = fork(|| {
        assert_eq!(wait_any(&things, millis(1)), Err(Error::Timeout));
        ready.ring();
        assert_eq!(wait_any(&things, FOREVER), Ok(1));
        queues[1].get_vec(NOWAIT).unwrap();
        go.hear();
        assert_eq!(wait_any(&[things[0], P(&process)], FOREVER), Ok(1));
    });
    ready.hear();
    queues[1].put(b"x", NOWAIT).unwrap();
    go.ring();
    process.kill().unwrap();
    child.ends_well();
    assert_eq!(wait_any(&things, millis(1)), Err(Error::Timeout));
}

#[test]
fn of_many_waiters_for_the_same_queues_each_message_reaches_one() {
    let _alone = alone();
    const EACH: usize = 1000;
    let queues = [(); 3].map(|()| fixed(4096));
    let taken = AtomicUsize::new(0);
    let putters = queues.each_ref().map(|queue| {
        fork(|| {
            for _ in 0..EACH {
                queue.put(&[1; 20], FOREVER).unwrap();
            }
        })
    });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let things = queues.each_ref().map(Q);
                loop {
                    let index = wait_any(&things, FOREVER).unwrap();
                    match queues[index].get_vec(NOWAIT) {
                        Ok(_) => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        Err(Error::Timeout) => {}
                        Err(err) => break assert_eq!(err, Error::Closed),
                    }
                }
            });
        }
        putters.into_iter().for_each(Child::ends_well);
        while !queues.iter().all(Queue::is_empty) {
            std::thread::yield_now();
        }
        queues[2].close().unwrap();
    });
    assert_eq!(taken.load(Ordering::Relaxed), 3 * EACH);
}

#[test]
fn a_waiter_for_many_queues_shares_messages_with_waiters_for_one() {
    let _alone = alone();
    let (queue, other) = (fixed(4096), fixed(4096));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A wake-up of the process that waits for many, and does not take, is passed on.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = wait_any(&[Q(&other), Q(&queue)], millis(5));
            }
        });
        for _ in 0..300 {
            let taker = scope.spawn(|| queue.get_vec(FOREVER).unwrap());
            queue.put(b"x", NOWAIT).unwrap();
            assert_eq!(taker.join().unwrap(), b"x");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_thing_that_is_there_many_times_is_waited_for_once() {
    let _alone = alone();
    let queue = fixed(4096);
    fork(|| {
        allow_descriptors(64);
        let things = [Q(&queue); 200];
        assert_eq!(wait_any(&things, millis(1)), Err(Error::Timeout));
        std::thread::scope(|scope| {
            scope.spawn(|| queue.put(b"x", FOREVER).unwrap());
            assert_eq!(wait_any(&things, FOREVER), Ok(0));
        });
    })
    .ends_well();
}

#[test]
fn more_descriptors_than_the_limit_are_an_error_that_names_it() {
    let _alone = alone();
    fork(|| {
        let pipes: Vec<_> = (0..20).map(|_| std::io::pipe().unwrap()).collect();
        let things: Vec<_> = pipes.iter().map(|(it, _)| Fd(it.as_fd())).collect();
        allow_descriptors(10);
        let err = wait_any(&things, FOREVER).unwrap_err();
        assert!(
            matches!(
                err,
                Error::TooMany {
                    count: 20,
                    limit: 10,
                    ..
                }
            ),
            "{err:?}"
        );
        assert!(err.to_string().contains("ulimit -n"), "{err}");
    })
    .ends_well();
}
