//! Admission: many processes at one end of a queue, and those of them that are killed or stopped.
//!
//! Each process that should be admitted has so much to do that it needs more than one quantum. If it is
//! never admitted, the watchdog ends the test.

use crate::common::company::Words;
use crate::common::{Bell, Child, FOREVER, alone, fixed, fork, millis};
use shoal::Queue;

/// More than a quantum has.
const MUCH: usize = 20_000;

/// A process that works until the queue is closed, and the bell it rings whenever it has done
/// [`MUCH`].
struct Worker {
    child: Child,
    bell: Bell,
}

impl Worker {
    fn new(mut work: impl FnMut() -> shoal::Result<()>) -> Self {
        let bell = Bell::new();
        let child = fork(|| {
            for done in 1usize.. {
                if work().is_err() {
                    return;
                }
                if done.is_multiple_of(MUCH) {
                    bell.ring();
                }
            }
        });
        Self { child, bell }
    }

    fn producer(queue: &Queue) -> Self {
        Self::new(|| queue.put(&[1; 40], FOREVER))
    }

    fn consumer(queue: &Queue) -> Self {
        Self::new(|| queue.get_vec(FOREVER).map(drop))
    }

    /// Waits until it has made much more progress.
    fn gets_on(&self) {
        self.bell.forget();
        self.bell.hear();
        self.bell.hear();
    }
}

fn end(queue: &Queue, workers: impl IntoIterator<Item = Worker>) {
    queue.close().unwrap();
    for worker in workers {
        worker.child.ends_well();
    }
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

#[test]
fn no_process_is_starved_while_others_are_served() {
    let _alone = alone();
    for (producers, consumers) in [(4, 4), (6, 1), (1, 6)] {
        let queue = fixed(1 << 16);
        let mut workers: Vec<Worker> = (0..producers).map(|_| Worker::producer(&queue)).collect();
        workers.extend((0..consumers).map(|_| Worker::consumer(&queue)));
        // No process leaves before each has had its share.
        workers.iter().for_each(Worker::gets_on);
        end(&queue, workers);
    }
}

#[test]
fn equal_processes_on_one_core_get_equal_shares() {
    let _alone = alone();
    const EACH: usize = 4;
    let queue = fixed(1 << 20);
    let counts = Words::new(2 * EACH);
    let work = |worker: usize| {
        let mut message = [1; 1000];
        let mut once = || match worker < EACH {
            true => queue.put(&message, FOREVER),
            false => queue.get(&mut message, FOREVER).map(drop),
        };
        while once().is_ok() {
            counts.add(worker, 1);
        }
    };
    let start = |worker| {
        fork(|| {
            stay_on_one_core();
            work(worker);
        })
    };
    let workers: Vec<Child> = (0..2 * EACH).map(start).collect();
    let counted = |workers: std::ops::Range<usize>| -> Vec<u64> {
        workers.map(|it| counts.get(it)).collect()
    };
    // Some of them have begun before the others.
    let begun = MUCH as u64;
    while counted(0..2 * EACH).iter().sum::<u64>() < begun {
        std::thread::yield_now();
    }
    let before = counted(0..2 * EACH);
    // Another program may take the core from one of them for a while. Over a longer time this
    // evens out, unlike a share that the queue withholds.
    let mut done = Vec::new();
    let is_fair = (1..=4).any(|times| {
        while counted(0..EACH).iter().sum::<u64>() < begun + times * 50 * MUCH as u64 {
            std::thread::yield_now();
        }
        let after = counted(0..2 * EACH);
        done = before.iter().zip(&after).map(|(a, b)| b - a).collect();
        done.chunks(EACH).all(|end| {
            let fair = end.iter().sum::<u64>() / EACH as u64;
            // If a quantum ended without an offer to the others, one of them would get a thirtieth.
            end.iter().all(|&it| it > fair / 8)
        })
    });
    queue.close().unwrap();
    workers.into_iter().for_each(Child::ends_well);
    assert!(is_fair, "shares: {done:?}");
}

fn stay_on_one_core() {
    // SAFETY: a set of the caller's own, as large as is said.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&cores), &mut cores);
        let first = (0..libc::CPU_SETSIZE as usize).find(|&core| libc::CPU_ISSET(core, &cores));
        libc::CPU_ZERO(&mut cores);
        libc::CPU_SET(first.unwrap_or(0), &mut cores);
        libc::sched_setaffinity(0, size_of_val(&cores), &cores);
    }
}

#[test]
fn parked_processes_enter_when_the_admitted_ones_are_killed() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    let consumer = Worker::consumer(&queue);
    let mut producers: Vec<Worker> = (0..6).map(|_| Worker::producer(&queue)).collect();
    producers.iter().for_each(Worker::gets_on);
    // One process is admitted at any time, and eventually it is one of these.
    for victim in producers.drain(..4) {
        consumer.bell.hear();
        victim.child.kill();
    }
    producers.iter().for_each(Worker::gets_on);
    end(&queue, producers.into_iter().chain([consumer]));
}

#[test]
fn a_stopped_process_delays_no_other() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    let producer = Worker::producer(&queue);
    let consumers: Vec<Worker> = (0..5).map(|_| Worker::consumer(&queue)).collect();
    consumers.iter().for_each(Worker::gets_on);
    // Outside the lock: inside it all others would have to wait, as the documentation says.
    let stopped = loop {
        let stopped = &consumers[0].child;
        stopped.signal(libc::SIGSTOP);
        stopped.wait_stopped();
        // The producer continues, so a process that gets the lock soon gets a message.
        if queue.get_vec(millis(200)).is_ok() {
            break stopped;
        }
        // It is not stopped again before it has made progress.
        stopped.signal(libc::SIGCONT);
        consumers[0].gets_on();
    };
    consumers[1..].iter().for_each(Worker::gets_on);
    stopped.signal(libc::SIGCONT);
    consumers.iter().for_each(Worker::gets_on);
    end(&queue, consumers.into_iter().chain([producer]));
}

#[test]
fn no_process_parks_where_the_work_is_slow() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    let did = Bell::new();
    let consumers: Vec<Child> = (0..3)
        .map(|_| {
            fork(|| {
                let mut first = true;
                while let Ok(message) = queue.get_vec(FOREVER) {
                    if message == [2] {
                        std::thread::sleep(std::time::Duration::from_millis(3));
                        if std::mem::take(&mut first) {
                            did.ring();
                        }
                    }
                }
            })
        })
        .collect();
    // A stream, for which one consumer is enough: the others begin to park.
    for _ in 0..10 * MUCH {
        queue.put(&[1], FOREVER).unwrap();
    }
    // Work for all three, until each of them has some.
    std::thread::scope(|scope| {
        scope.spawn(|| while queue.put(&[2], FOREVER).is_ok() {});
        consumers.iter().for_each(|_| did.hear());
        queue.close().unwrap();
        while queue.get_vec(FOREVER).is_ok() {}
    });
    consumers.into_iter().for_each(Child::ends_well);
}
