//! Waits beside other programs that compute: whatever the scheduler does, nothing is lost or hangs.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use crate::common::company::Words;
use crate::common::group::Group;
use crate::common::{Child, FOREVER, alone, fork};
use shoal::{Event, Lock, Map, Pipe, Queue, RwLock, Semaphore};

/// A process that computes: `pause` after it has computed for `work`, and so on.
fn neighbour(work: Duration, pause: Duration, prepare: impl Fn()) -> Child {
    fork(|| {
        prepare();
        loop {
            let start = Instant::now();
            while start.elapsed() < work {
                spin_loop();
            }
            std::thread::sleep(pause);
        }
    })
}

fn neighbours(count: usize) -> Vec<Child> {
    let all = Duration::from_secs(3600);
    (0..count)
        .map(|_| neighbour(all, Duration::ZERO, || {}))
        .collect()
}

/// There and back through every kind of object, so many times.
fn dialogues(trips: u64) {
    let queues = [(); 2].map(|()| Queue::anonymous().unwrap());
    let events = [(); 2].map(|()| Event::anonymous().unwrap());
    let (pipe, there) = Pipe::pair().unwrap();
    let map = Map::anonymous().unwrap();
    map.set(b"turn", &0u64.to_ne_bytes()).unwrap();
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let turn = || number(&map.get_vec(b"turn").unwrap().unwrap());
    // The number is even while it is the caller's turn.
    let take_turn = |mine: u64| {
        loop {
            let version = map.version();
            let now = turn();
            if now % 2 == mine {
                return map.set(b"turn", &(now + 1).to_ne_bytes()).unwrap();
            }
            map.wait_change(version, FOREVER).unwrap();
        }
    };
    let echo = fork(|| {
        for _ in 0..trips {
            let message = queues[0].get_vec(FOREVER).unwrap();
            queues[1].put(&message, FOREVER).unwrap();
            let message = there.recv_vec(FOREVER).unwrap();
            there.send(&message, FOREVER).unwrap();
            events[0].wait(FOREVER).unwrap();
            events[0].clear();
            events[1].set();
            take_turn(1);
        }
    });
    for trip in 0..trips {
        let message = trip.to_ne_bytes();
        queues[0].put(&message, FOREVER).unwrap();
        assert_eq!(queues[1].get_vec(FOREVER).unwrap(), message);
        pipe.send(&message, FOREVER).unwrap();
        assert_eq!(pipe.recv_vec(FOREVER).unwrap(), message);
        events[0].set();
        events[1].wait(FOREVER).unwrap();
        events[1].clear();
        take_turn(0);
    }
    echo.ends_well();
    assert_eq!(turn(), 2 * trips);
}

/// Eight processes that want the same thing: `hold` takes it, runs what it is given, and gives it
/// back.
fn contend(turns: u64, hold: impl Fn(&dyn Fn())) {
    const PROCESSES: usize = 8;
    let inside = Words::new(2);
    let work = || {
        assert_eq!(inside.add(0, 1), 0, "two have it");
        inside.set(1, inside.get(1) + 1);
        inside.set(0, 0);
    };
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            fork(|| {
                for _ in 0..turns {
                    hold(&work);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(Child::ends_well);
    assert_eq!(inside.get(1), turns * PROCESSES as u64);
}

fn everything() {
    dialogues(300);
    let lock = Lock::anonymous().unwrap();
    contend(300, |work| {
        let _guard = lock.lock(FOREVER).unwrap();
        work();
    });
    let permit = Semaphore::with_options(None, 1, &shoal::Options::create()).unwrap();
    contend(300, |work| {
        permit.acquire(FOREVER).unwrap();
        work();
        permit.release(1).unwrap();
    });
    let lock = RwLock::anonymous().unwrap();
    contend(300, |work| {
        let _ = lock.write(FOREVER).unwrap();
        work();
        lock.release_write().unwrap();
    });
    let map = Map::anonymous().unwrap();
    contend(300, |work| {
        let _guard = map.lock_key(b"key", FOREVER).unwrap();
        work();
    });
}

#[test]
fn nothing_is_lost_beside_more_programs_than_cores() {
    let _alone = alone();
    let _others = neighbours(4);
    everything();
}

#[test]
fn nothing_is_lost_while_the_machine_is_alternately_idle_and_busy() {
    let _alone = alone();
    let tenth = Duration::from_millis(100);
    let _others: Vec<_> = (0..4).map(|_| neighbour(tenth, tenth, || {})).collect();
    // Long enough for several changes.
    let start = Instant::now();
    while start.elapsed() < 8 * tenth {
        everything();
    }
}

#[test]
fn nothing_is_lost_beside_neighbours_of_lower_priority() {
    let _alone = alone();
    let all = Duration::from_secs(3600);
    let idle = || {
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: a system call for this very process, and a valid parameter.
        let rc = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &none) };
        assert_eq!(rc, 0);
    };
    let nice = || {
        // SAFETY: a system call for this very process.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    };
    let _idle = [(); 2].map(|()| neighbour(all, Duration::ZERO, idle));
    let _nice = [(); 2].map(|()| neighbour(all, Duration::ZERO, nice));
    everything();
}

#[test]
fn nothing_is_lost_on_one_core_for_all() {
    let _alone = alone();
    fork(|| {
        // SAFETY: an all-zero set is empty; the calls read and write it, for this very process.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&set), &mut set);
            let first = (0..libc::CPU_SETSIZE as usize).find(|&core| libc::CPU_ISSET(core, &set));
            libc::CPU_ZERO(&mut set);
            libc::CPU_SET(first.unwrap(), &mut set);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
        }
        everything();
        let _others = neighbours(1);
        everything();
    })
    .ends_well();
}

#[test]
fn nothing_is_lost_in_a_group_with_a_quota_of_a_core() {
    let _alone = alone();
    // A fifth of the time of one core.
    let Some(quota) = Group::new("cpu", "cpu.max", "20000 100000")
        .or_else(|| Group::new("cpu", "cpu.cfs_quota_us", "20000"))
    else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    fork(|| {
        quota.enter();
        everything();
    })
    .ends_well();
}

#[test]
fn a_lock_that_its_owner_retakes_continuously_goes_to_waiters() {
    let _alone = alone();
    let (lock, words) = (Lock::anonymous().unwrap(), Words::new(2));
    let greedy = fork(|| {
        let mut count = 0;
        loop {
            let _guard = lock.lock(FOREVER).unwrap();
            count += 1;
            words.set(0, count);
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(200) {
                spin_loop();
            }
        }
    });
    // While another process waits, the greedy owner gets the lock few times. Without the hand-off it
    // would get it hundreds or thousands of times. A waiter that loses its core before it can say that
    // it waits says nothing about that: a quarter of them may have.
    let mut all = [(); 100].map(|()| {
        let before = words.get(0);
        drop(lock.lock(FOREVER).unwrap());
        words.get(0) - before
    });
    greedy.kill();
    all.sort_unstable();
    assert!(all[74] < 200, "{all:?} turns while another one waited");
}
