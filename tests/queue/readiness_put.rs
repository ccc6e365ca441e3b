//! That a put makes the descriptors of all processes readable itself, before it returns.

use std::time::Duration;

use crate::common::ready::{NOT_AT_ALL, UNTIL_IT_IS, fd, is_readable, poll};
use crate::common::{Bell, Child, FOREVER, NOWAIT, alone, fixed, fork};
use shoal::{Error, Queue};

type Put = fn(&Queue);

/// The calls that make a message available.
const PUTS: [Put; 4] = [
    |queue| queue.put(b"x", FOREVER).unwrap(),
    |queue| assert_eq!(queue.put_many(&[b"x"], FOREVER), Ok(1)),
    |queue| {
        let mut room = queue.reserve(1, FOREVER).unwrap();
        room.copy_from_slice(b"x");
        room.commit().unwrap();
    },
    |queue| {
        queue.put(b"x", FOREVER).unwrap();
        let lease = queue.lease(FOREVER).unwrap();
        lease.nack(Duration::ZERO).unwrap();
    },
];

#[test]
fn a_put_makes_the_descriptor_of_another_process_readable_before_it_returns() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    let (go, done) = (Bell::new(), Bell::new());
    for inherits in [false, true] {
        assert!(!is_readable(&queue));
        let putter = fork(|| {
            let own = (!inherits).then(|| Queue::open(queue.name()).unwrap());
            for put in PUTS.into_iter().cycle().take(200) {
                go.hear();
                put(own.as_ref().unwrap_or(&queue));
                done.ring();
            }
        });
        for _ in 0..200 {
            go.ring();
            done.hear();
            assert!(is_readable(&queue));
            assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"x");
            assert!(!is_readable(&queue));
        }
        putter.ends_well();
    }
}

#[test]
fn descriptors_stay_correct_while_the_process_that_made_them_is_stopped() {
    let _alone = alone();
    const COUNT: usize = 500;
    let queues = [fixed(4096), fixed(4096)];
    let (go, done) = (Bell::new(), Bell::new());
    let maker = fork(|| {
        let fds = queues.each_ref().map(fd);
        // The children have no thread that could correct a descriptor.
        let answer = |from: usize| {
            go.hear();
            for _ in 0..COUNT {
                poll(fds[from], UNTIL_IT_IS);
                queues[from].get_vec(NOWAIT).unwrap();
                assert!(!poll(fds[from], NOT_AT_ALL));
                assert_eq!(queues[from].get_vec(NOWAIT), Err(Error::Timeout));
                queues[1 - from].put(b"answer", NOWAIT).unwrap();
            }
            done.ring();
        };
        let children = [0, 1].map(|from| fork(|| answer(from)));
        // SAFETY: stops this process, which holds no lock.
        unsafe { libc::raise(libc::SIGSTOP) };
        children.into_iter().for_each(Child::ends_well);
    });
    maker.wait_stopped();
    queues[0].put(b"question", NOWAIT).unwrap();
    go.ring_times(2);
    done.hear();
    done.hear();
    maker.signal(libc::SIGCONT);
    maker.ends_well();
}

#[test]
fn puts_and_takes_of_many_processes_lose_no_signal() {
    let _alone = alone();
    const COUNT: usize = 2000;
    let queue = fixed(1 << 16);
    let done = Bell::new();
    let maker = fork(|| {
        let fd = fd(&queue);
        let reader = || {
            loop {
                poll(fd, UNTIL_IT_IS);
                match queue.get_vec(NOWAIT) {
                    Ok(message) if message.is_empty() => break,
                    Ok(_) | Err(Error::Timeout) => {}
                    Err(err) => panic!("{err}"),
                }
            }
            done.ring();
        };
        let children = [(); 3].map(|()| fork(reader));
        // SAFETY: stops this process, which holds no lock.
        unsafe { libc::raise(libc::SIGSTOP) };
        children.into_iter().for_each(Child::ends_well);
    });
    maker.wait_stopped();
    let putters =
        [(); 2].map(|()| fork(|| (0..COUNT).for_each(|_| queue.put(b"x", FOREVER).unwrap())));
    putters.into_iter().for_each(Child::ends_well);
    for _ in 0..3 {
        queue.put(b"", FOREVER).unwrap();
        done.hear();
    }
    maker.signal(libc::SIGCONT);
    maker.ends_well();
}
