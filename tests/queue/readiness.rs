//! That a queue's descriptor says when there is something to take, and only then.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::ready::{NOT_AT_ALL, UNTIL_IT_IS, is_readable, poll_any, wait_readable};
use crate::common::{Bell, FOREVER, NOWAIT, Name, Random, alone, fixed, fork, holder, tiny};
use shoal::{Error, Options, Queue};

/// As an event loop takes: whenever the descriptor says so, and until there is no more.
fn take(queue: &Queue, count: usize) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        wait_readable(queue);
        while taken.len() < count
            && let Ok(message) = queue.get_vec(NOWAIT)
        {
            taken.push(message);
        }
    }
    taken
}

#[test]
fn a_descriptor_is_readable_once_another_process_has_put() {
    let _alone = alone();
    let queue = fixed(4096);
    assert!(!is_readable(&queue));
    let go = Bell::new();
    let putter = fork(|| {
        for _ in 0..100 {
            go.hear();
            queue.put(b"news", FOREVER).unwrap();
        }
    });
    for _ in 0..100 {
        go.ring();
        wait_readable(&queue);
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"news");
        assert!(!is_readable(&queue));
        assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
        assert!(!is_readable(&queue));
    }
    putter.ends_well();
}

#[test]
fn a_descriptor_is_readable_at_once_for_a_message_put_before() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"early", NOWAIT).unwrap();
    assert!(is_readable(&queue));
}

#[test]
fn it_stays_readable_until_the_last_message_is_taken() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put_many(&[[1]; 5], NOWAIT).unwrap();
    assert!(is_readable(&queue));
    queue.get_vec(NOWAIT).unwrap();
    assert!(is_readable(&queue));
    let (mut buf, mut lens) = (Vec::new(), Vec::new());
    assert_eq!(queue.get_many(&mut buf, &mut lens, 3, NOWAIT), Ok(3));
    assert!(is_readable(&queue));
    assert_eq!(queue.get(&mut [0], NOWAIT), Ok(1));
    assert!(!is_readable(&queue));
}

#[test]
fn a_closed_queue_stays_readable() {
    let _alone = alone();
    let queue = fixed(4096);
    assert!(!is_readable(&queue));
    let closer = fork(|| {
        queue.put(b"last", NOWAIT).unwrap();
        queue.close().unwrap();
    });
    assert_eq!(take(&queue, 1), [b"last"]);
    closer.ends_well();
    wait_readable(&queue);
    for _ in 0..3 {
        assert_eq!(queue.get_vec(NOWAIT), Err(Error::Closed));
        assert!(is_readable(&queue));
    }
}

#[test]
fn edge_triggered_epoll_reports_every_time_it_becomes_readable() {
    let _alone = alone();
    let queue = fixed(4096);
    // SAFETY: no pointers; the new descriptor is ours.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    let mut event = libc::epoll_event {
        events: (libc::EPOLLIN | libc::EPOLLET) as u32,
        u64: 7,
    };
    let fd = queue.fd().unwrap().as_raw_fd();
    // SAFETY: an event to copy.
    let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    assert_eq!(added, 0);
    let putter = fork(|| {
        for index in 0..200u8 {
            queue.put(&[index], FOREVER).unwrap();
            if index % 3 == 0 {
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        }
    });
    let mut taken = Vec::new();
    while taken.len() < 200 {
        // SAFETY: room for one event.
        let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &mut event, 1, -1) };
        assert_eq!((ready, { event.u64 }), (1, 7));
        while let Ok(message) = queue.get_vec(NOWAIT) {
            taken.push(message[0]);
        }
    }
    assert!(taken.into_iter().eq(0..200));
    putter.ends_well();
}

#[test]
fn no_message_is_lost_to_event_loops_that_share_a_queue_with_blocking_consumers() {
    let _alone = alone();
    const EACH: usize = 5000;
    let queue = fixed(8192);
    let results = Queue::anonymous().unwrap();
    let putters = [(); 2].map(|()| {
        fork(|| {
            for index in 0..EACH {
                queue.put(&[0; 50][..index % 50], FOREVER).unwrap();
            }
        })
    });
    let count = |consume: &dyn Fn(&mut usize)| {
        let mut taken = 0;
        consume(&mut taken);
        results.put(&taken.to_le_bytes(), FOREVER).unwrap();
    };
    let blocking = fork(|| {
        count(&|taken| {
            while queue.get_vec(FOREVER).is_ok() {
                *taken += 1;
            }
        });
    });
    let by_events = || {
        count(&|taken| {
            loop {
                wait_readable(&queue);
                match queue.get_vec(NOWAIT) {
                    Ok(_) => *taken += 1,
                    Err(Error::Timeout) => {}
                    Err(err) => break assert_eq!(err, Error::Closed),
                }
            }
        });
    };
    let in_a_child = fork(by_events);
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(by_events));
        putters
            .into_iter()
            .for_each(crate::common::Child::ends_well);
        queue.close().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    blocking.ends_well();
    in_a_child.ends_well();
    let total = (0..4).map(|_| {
        let count = results.get_vec(NOWAIT).unwrap();
        usize::from_le_bytes(count.try_into().unwrap())
    });
    assert_eq!(total.sum::<usize>(), 2 * EACH);
}

#[test]
fn a_forked_child_gets_a_descriptor_of_its_own_and_its_parents_stays_right() {
    let _alone = alone();
    let queue = fixed(4096);
    let (taken, ready) = (Bell::new(), Bell::new());
    let parents = queue.fd().unwrap().as_raw_fd();
    queue.put(b"one", NOWAIT).unwrap();
    wait_readable(&queue);
    let child = fork(|| {
        assert!(poll_any(&[parents], NOT_AT_ALL));
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"one");
        assert!(!poll_any(&[parents], NOT_AT_ALL));
        let own = queue.fd().unwrap().as_raw_fd();
        assert!(own != parents && !is_readable(&queue));
        taken.ring();
        assert!(poll_any(&[parents], UNTIL_IT_IS));
        assert_eq!(take(&queue, 1), [b"two"]);
        assert_eq!(queue.fd().unwrap().as_raw_fd(), own);
        // A grandchild inherits both.
        fork(|| {
            let third = queue.fd().unwrap().as_raw_fd();
            assert!(third != own && third != parents);
            ready.ring();
            assert_eq!(take(&queue, 1), [b"three"]);
        })
        .ends_well();
        // SAFETY: this process ends without using or dropping it once more.
        drop(unsafe { std::ptr::read(&queue) });
    });
    taken.hear();
    assert!(!is_readable(&queue));
    queue.put(b"two", NOWAIT).unwrap();
    ready.hear();
    queue.put(b"three", NOWAIT).unwrap();
    child.ends_well();
    assert!(queue.is_empty() && !is_readable(&queue));
    queue.put(b"four", NOWAIT).unwrap();
    assert_eq!(take(&queue, 1), [b"four"]);
}

/// Room for as many descriptors as the system grants.
fn allow_many_files() {
    // SAFETY: a limit to write to and to read from.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        assert!(limit.rlim_cur > 4000, "too few descriptors to test with");
    }
}

#[test]
fn each_of_a_thousand_descriptors_shows_its_own_queue() {
    let _alone = alone();
    allow_many_files();
    let queues: Vec<Queue> = (0..10)
        .map(|_| Queue::with_options(None, &tiny()).unwrap())
        .collect();
    let handles: Vec<Vec<Queue>> = queues
        .iter()
        .map(|queue| {
            (0..100)
                .map(|_| Queue::open(queue.name()).unwrap())
                .collect()
        })
        .collect();
    for handle in handles.iter().flatten() {
        assert!(!is_readable(handle));
    }
    for turn in [3, 9, 0] {
        queues[turn].put(b"x", NOWAIT).unwrap();
        handles[turn].iter().for_each(wait_readable);
        queues[turn].get_vec(NOWAIT).unwrap();
        assert!(!handles.iter().flatten().any(is_readable));
    }
}

#[test]
fn freeing_watched_handles_hides_no_message_from_others() {
    let _alone = alone();
    let queue = fixed(1 << 14);
    let (taken, pause) = (AtomicUsize::new(0), std::time::Duration::from_micros(200));
    const COUNT: usize = 2000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..COUNT {
                queue.put(b"x", FOREVER).unwrap();
                std::thread::sleep(pause / 10);
            }
            queue.close().unwrap();
        });
        scope.spawn(|| {
            while queue.get_vec(FOREVER).is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut random = Random(7);
        while !queue.is_closed() {
            let handles = [(); 3].map(|()| Queue::open(queue.name()).unwrap());
            for handle in &handles {
                handle.fd().unwrap();
            }
            if random.below(3) == 0 {
                std::thread::sleep(pause);
            }
            if handles[0].get_vec(NOWAIT).is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(taken.load(Ordering::Relaxed), COUNT);
}

#[test]
fn freeing_a_queue_does_not_affect_descriptors_of_queues_mapped_in_its_place() {
    let _alone = alone();
    for round in 0..200u8 {
        let name = Name::new("place");
        let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
        assert!(!is_readable(&queue));
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        let putter = Queue::open(&name).unwrap();
        putter.put(&[round], NOWAIT).unwrap();
        assert_eq!(take(&queue, 1), [[round]]);
    }
}

#[test]
fn a_message_of_a_killed_process_makes_the_descriptor_readable() {
    let _alone = alone();
    let options = Options::create().capacity(1 << 16).max_capacity(1 << 16);
    let mut random = Random(3);
    for _ in 0..30 {
        let queue = Queue::with_options(None, &options).unwrap();
        assert!(!is_readable(&queue));
        let putter = fork(|| while queue.put(&[0; 100], FOREVER).is_ok() {});
        let some = random.below(2000) as usize;
        take(&queue, some.max(1));
        putter.kill();
        // A message that is there makes it readable, even without another live process.
        while !queue.is_empty() {
            take(&queue, 1);
        }
        queue.put(b"and on", NOWAIT).unwrap();
        assert_eq!(take(&queue, 1), [b"and on"]);
    }
}

#[test]
fn a_message_whose_holder_is_killed_makes_the_descriptor_readable() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"work", NOWAIT).unwrap();
    let holder = holder(&queue);
    assert!(!is_readable(&queue));
    holder.kill();
    assert_eq!(take(&queue, 1), [b"work"]);
}

#[test]
fn a_returned_message_makes_the_descriptor_readable() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"work", NOWAIT).unwrap();
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        let lease = queue.lease(FOREVER).unwrap();
        assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
        assert!(!is_readable(&queue));
        lease.nack(delay).unwrap();
        wait_readable(&queue);
    }
    assert_eq!(take(&queue, 1), [b"work"]);
}

#[test]
fn a_closed_queue_stays_readable_once_the_last_lease_is_acked() {
    let _alone = alone();
    let queue = fixed(4096);
    let same = Queue::open(queue.name()).unwrap();
    queue.put(b"work", NOWAIT).unwrap();
    let lease = same.lease(NOWAIT).unwrap();
    queue.close().unwrap();
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    assert!(!is_readable(&queue));
    lease.ack().unwrap();
    wait_readable(&queue);
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Closed));
    assert!(is_readable(&queue));
}

#[test]
fn a_reserved_message_makes_the_descriptor_readable_once_it_is_committed() {
    let _alone = alone();
    let queue = fixed(4096);
    assert!(!is_readable(&queue));
    let committer = fork(|| {
        for index in 0..20u8 {
            let mut room = queue.reserve(1, FOREVER).unwrap();
            room[0] = index;
            std::thread::yield_now();
            room.commit().unwrap();
        }
    });
    assert!(take(&queue, 20).concat().into_iter().eq(0..20));
    committer.ends_well();
}

/// From now on the kernel of this process knows no `futex_waitv`, as before Linux 5.16 and in
/// some sandboxes.
fn forget_futex_waitv() {
    let statement = |code: u32, k: u32, jt: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf: 0,
        k,
    };
    let mut filter = [
        // The number of the call; the comparison with it; the results for another call, and for this one.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_futex_waitv as u32,
            1,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            0,
        ),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: integers, and a program that the kernel copies.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0);
    }
}

#[test]
fn descriptors_work_without_futex_waitv() {
    let _alone = alone();
    let (queue, other, asked) = (fixed(4096), fixed(4096), Bell::new());
    let waiter = fork(|| {
        forget_futex_waitv();
        assert!(!is_readable(&other));
        asked.ring();
        for index in 0..50u8 {
            assert_eq!(take(&queue, 1), [[index]]);
        }
        assert_eq!(take(&other, 1), [b"bye"]);
    });
    for index in 0..50u8 {
        queue.put(&[index], FOREVER).unwrap();
        if index % 10 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    asked.hear();
    other.put(b"bye", NOWAIT).unwrap();
    waiter.ends_well();
}

#[test]
fn without_a_free_descriptor_it_is_an_error_and_works_once_there_is_one() {
    let _alone = alone();
    let queue = fixed(4096);
    fork(|| {
        // SAFETY: a limit to write to and to read from.
        let limit = |most: libc::rlim_t| unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
            let old = std::mem::replace(&mut limit.rlim_cur, most);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
            old
        };
        let before = limit(3);
        assert!(matches!(queue.fd(), Err(Error::Os { .. })));
        let things = [shoal::Waitable::Queue(&queue)];
        assert!(matches!(
            shoal::wait_any(&things, FOREVER),
            Err(Error::Os { .. })
        ));
        queue.put(b"x", NOWAIT).unwrap();
        assert_eq!(shoal::wait_any(&things, FOREVER), Ok(0));
        limit(before);
        assert_eq!(take(&queue, 1), [b"x"]);
    })
    .ends_well();
}

#[test]
fn a_descriptor_of_the_program_that_has_the_number_of_a_closed_one_is_spared() {
    let _alone = alone();
    let child = fork(|| {
        let (queue, unnamed) = (fixed(4096), fixed(4096));
        // Without a name it has no FIFO.
        Queue::unlink(unnamed.name()).unwrap();
        let _ = (queue.fd().unwrap(), unnamed.fd().unwrap());
        // SAFETY: closes descriptors of this process, as a daemon does, and makes others.
        let own: Vec<_> = unsafe {
            assert_eq!(libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0), 0);
            (0..8)
                .flat_map(|_| [libc::eventfd(0, libc::EFD_NONBLOCK), libc::epoll_create1(0)])
                .collect()
        };
        queue.put(b"x", NOWAIT).unwrap();
        unnamed.put(b"x", NOWAIT).unwrap();
        queue.end_waits();
        unnamed.end_waits();
        drop((queue, unnamed));
        for fd in own {
            let mut count = [0u8; 8];
            // SAFETY: an integer, and room for 8 bytes. What is no eventfd cannot be read.
            let (open, read) = unsafe {
                let open = libc::fcntl(fd, libc::F_GETFD);
                (open, libc::read(fd, count.as_mut_ptr().cast(), 8))
            };
            assert!(open >= 0 && read == -1, "{fd}");
        }
    });
    child.ends_well();
}

#[test]
fn a_descriptor_is_readable_when_the_call_that_ended_the_queue_returns() {
    let _alone = alone();
    for _ in 0..100 {
        let queue = fixed(4096);
        let other = Queue::open(queue.name()).unwrap();
        assert!(!is_readable(&queue));
        other.close().unwrap();
        assert!(is_readable(&queue));
    }
    for _ in 0..100 {
        let queue = fixed(4096);
        queue.put(b"x", NOWAIT).unwrap();
        let other = Queue::open(queue.name()).unwrap();
        let lease = other.lease(NOWAIT).unwrap();
        queue.close().unwrap();
        assert!(!is_readable(&queue));
        lease.ack().unwrap();
        assert!(is_readable(&queue));
    }
}
