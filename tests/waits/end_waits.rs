//! Ending the waits of a handle wakes the threads that wait through it, and no others.

use std::ops::Deref;
use std::thread;
use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, alone, beside_others, fork, millis, ready};
use shoal::{
    Array, Barrier, Condition, Error, Event, Lock, Map, Options, Pipe, Queue, Result, RwLock,
    Semaphore, Spawn, Waitable, wait_any,
};

/// Ends the waits while another thread is in `wait`, and again before it is called.
fn detaches<T>(object: T, end: impl Fn(&T), wait: impl Fn(&T) -> Result<()> + Sync)
where
    T: Sync,
{
    thread::scope(|scope| {
        let waiters = [0, 1].map(|_| scope.spawn(|| wait(&object)));
        thread::sleep(Duration::from_millis(30));
        let finished = waiters.iter().any(|it| it.is_finished());
        end(&object);
        assert!(!finished);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(Error::Detached));
        }
    });
    assert_eq!(wait(&object), Err(Error::Detached));
}

/// The same where the calling thread need not wait.
fn elsewhere<T: Sync>(object: T, end: impl Fn(&T), wait: impl Fn(&T) -> Result<()> + Sync) {
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&object));
        thread::sleep(Duration::from_millis(30));
        let finished = waiter.is_finished();
        end(&object);
        assert!(!finished);
        assert_eq!(waiter.join().unwrap(), Err(Error::Detached));
    });
}

/// A handle whose lock is held by another thread.
struct Acquisition<T>(T);

impl<T> Deref for Acquisition<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

fn taken<T: Send + Sync>(object: T, take: impl Fn(&T) + Sync) -> Acquisition<T> {
    thread::scope(|scope| scope.spawn(|| take(&object)).join().unwrap());
    Acquisition(object)
}

fn small() -> Queue {
    let options = Options {
        capacity: 4096,
        max_capacity: 4096,
        max_items: 1,
        ..Options::create()
    };
    let queue = Queue::with_options(None, &options).unwrap();
    queue.put(b"full", NOWAIT).unwrap();
    queue
}

fn empty() -> Queue {
    Queue::anonymous().unwrap()
}

#[test]
fn every_call_of_a_queue_that_waits_ends() {
    let _alone = alone();
    detaches(empty(), Queue::end_waits, |it| {
        it.get(&mut [], FOREVER).map(drop)
    });
    detaches(empty(), Queue::end_waits, |it| {
        it.get_vec(millis(600_000)).map(drop)
    });
    detaches(empty(), Queue::end_waits, |it| it.lease(FOREVER).map(drop));
    detaches(small(), Queue::end_waits, |it| it.put(b"more", FOREVER));
    detaches(small(), Queue::end_waits, |it| {
        it.put_many(&[b"more"], FOREVER).map(drop)
    });
    detaches(small(), Queue::end_waits, |it| {
        it.reserve(8, FOREVER).map(drop)
    });
    detaches(small(), Queue::end_waits, |it| it.join(FOREVER));
    detaches(empty(), Queue::end_waits, |it| {
        wait_any(&[Waitable::Queue(it)], FOREVER).map(drop)
    });
}

#[test]
fn every_call_of_a_pipe_that_waits_ends() {
    let _alone = alone();
    let full = || {
        let options = Options {
            max_items: 1,
            ..Options::create()
        };
        let ends = Pipe::pair_with_options(true, &options).unwrap();
        ends.0.send(b"full", NOWAIT).unwrap();
        ends
    };
    type Ends = (Pipe, Pipe);
    let end = |ends: &Ends| ends.0.end_waits();
    detaches(full(), end, |it| it.0.send(b"more", FOREVER));
    detaches(full(), end, |it| it.0.reserve(8, FOREVER).map(drop));
    detaches(full(), end, |it| it.0.recv_vec(FOREVER).map(drop));
    detaches(full(), end, |it| it.0.lease(FOREVER).map(drop));
    detaches(full(), end, |it| it.0.poll(FOREVER).map(drop));
    // The other side did not notice.
    let (here, there) = full();
    here.end_waits();
    assert_eq!(there.recv_vec(FOREVER).unwrap(), b"full");
    there.send(b"back", FOREVER).unwrap();
    assert_eq!(here.recv_vec(FOREVER).unwrap(), b"back");
}

#[test]
fn every_call_of_a_map_that_waits_ends() {
    let _alone = alone();
    let map = || Map::anonymous().unwrap();
    detaches(map(), Map::end_waits, |it| {
        it.wait_key(b"k", 0, FOREVER).map(drop)
    });
    detaches(map(), Map::end_waits, |it| {
        it.wait_change(it.version(), FOREVER).map(drop)
    });
    let map = taken(map(), |it| std::mem::forget(it.lock_key(b"k", FOREVER)));
    detaches(
        map,
        |it| it.end_waits(),
        |it| it.lock_key(b"k", FOREVER).map(drop),
    );
}

#[test]
fn every_wait_for_a_lock_ends() {
    let _alone = alone();
    let lock = taken(Lock::anonymous().unwrap(), |it| drop(it.acquire(FOREVER)));
    detaches(
        lock,
        |it| it.end_waits(),
        |it| it.acquire(FOREVER).map(drop),
    );
    let lock = Lock::recursive(None, &Options::create()).unwrap();
    // By a thread that stays: another may get the number of one that has ended.
    let _ = lock.acquire(FOREVER).unwrap();
    elsewhere(lock, Lock::end_waits, |it| it.acquire(FOREVER).map(drop));
    let array = Array::with_options(None, 8, 1, "d", &Options::create()).unwrap();
    let _ = array.acquire(FOREVER).unwrap();
    elsewhere(array, Array::end_waits, |it| it.acquire(FOREVER).map(drop));
    let read = || taken(RwLock::anonymous().unwrap(), |it| drop(it.read(FOREVER)));
    detaches(
        read(),
        |it| it.end_waits(),
        |it| it.write(FOREVER).map(drop),
    );
    let written = || taken(RwLock::anonymous().unwrap(), |it| drop(it.write(FOREVER)));
    detaches(
        written(),
        |it| it.end_waits(),
        |it| it.read(FOREVER).map(drop),
    );
    // A writer whose wait has ended blocks no reader.
    let lock = read();
    thread::scope(|scope| {
        let writer = scope.spawn(|| lock.write(FOREVER));
        thread::sleep(Duration::from_millis(30));
        lock.end_waits();
        assert_eq!(writer.join().unwrap(), Err(Error::Detached));
    });
    let other = RwLock::open(lock.name()).unwrap();
    let _ = other.read(FOREVER).unwrap();
}

#[test]
fn every_wait_for_an_event_or_notification_ends() {
    let _alone = alone();
    let none = Semaphore::with_options(None, 0, &Options::create()).unwrap();
    detaches(none, Semaphore::end_waits, |it| it.acquire(FOREVER));
    detaches(Event::anonymous().unwrap(), Event::end_waits, |it| {
        it.wait(FOREVER)
    });
    let both = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    type Both = (Lock, Condition);
    let end = |it: &Both| it.1.end_waits();
    detaches(both, end, |(lock, changed)| {
        let guard = lock.lock(FOREVER)?;
        let woken = changed.wait(lock, FOREVER);
        assert!(lock.is_held() && changed.waiting()? <= 1);
        drop(guard);
        woken.map(drop)
    });
    let both = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let end = |it: &Both| it.0.end_waits();
    detaches(both, end, |(lock, changed)| {
        let _ = lock.acquire(FOREVER)?;
        let woken = changed.wait(lock, FOREVER);
        assert!(!lock.is_held() && changed.waiting()? <= 1);
        woken.map(drop)
    });
}

#[test]
fn every_wait_for_a_process_ends() {
    let _alone = alone();
    let sleeps = || Spawn::new("sleep").arg("600").spawn().unwrap();
    let (joined, awaited) = (sleeps(), sleeps());
    detaches(
        &joined,
        |it| it.end_waits(),
        |it| it.join(FOREVER).map(drop),
    );
    detaches(
        &awaited,
        |it| it.end_waits(),
        |it| wait_any(&[Waitable::Process(it)], FOREVER).map(drop),
    );
    for child in [joined, awaited] {
        child.kill().unwrap();
        // Once it has ended, no thread has to wait.
        while child.try_join().unwrap().is_none() {
            thread::yield_now();
        }
        child.join(FOREVER).unwrap();
    }
}

#[test]
fn a_thread_that_leaves_a_barrier_breaks_it_for_its_waiters() {
    let _alone = alone();
    let barrier = Barrier::with_options(None, 3, &Options::create()).unwrap();
    let same = Barrier::open(barrier.name()).unwrap();
    thread::scope(|scope| {
        let leaver = scope.spawn(|| barrier.wait(FOREVER));
        let other = scope.spawn(|| same.wait(FOREVER));
        while barrier.waiting().unwrap() < 2 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(30));
        barrier.end_waits();
        assert_eq!(leaver.join().unwrap(), Err(Error::Detached));
        assert!(matches!(other.join().unwrap(), Err(Error::Poisoned { .. })));
    });
    same.reset().unwrap();
    assert_eq!(same.waiting(), Ok(0));
}

#[test]
fn the_notification_of_a_thread_that_leaves_goes_to_another() {
    let _alone = alone();
    for _ in 0..200 {
        let lock = Lock::anonymous().unwrap();
        let leaver = Condition::anonymous().unwrap();
        let stayer = Condition::open(leaver.name()).unwrap();
        let waits = |changed: &Condition| {
            let _guard = lock.lock(FOREVER)?;
            changed.wait(&lock, FOREVER)
        };
        thread::scope(|scope| {
            let first = scope.spawn(|| waits(&leaver));
            while leaver.waiting().unwrap() < 1 {
                thread::yield_now();
            }
            let second = scope.spawn(|| waits(&stayer));
            while leaver.waiting().unwrap() < 2 {
                thread::yield_now();
            }
            let guard = lock.lock(FOREVER).unwrap();
            stayer.notify(1).unwrap();
            leaver.end_waits();
            drop(guard);
            if first.join().unwrap().is_ok() {
                stayer.notify(1).unwrap();
            }
            assert!(second.join().unwrap().unwrap().notified);
        });
    }
}

#[test]
fn calls_that_do_not_wait_still_succeed() {
    let _alone = alone();
    let queue = empty();
    queue.end_waits();
    queue.end_waits();
    queue.put(b"one", FOREVER).unwrap();
    queue.put(b"two", FOREVER).unwrap();
    let lease = queue.lease(FOREVER).unwrap();
    assert_eq!(queue.get_vec(FOREVER).unwrap(), b"two");
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.get_vec(millis(1)), Err(Error::Detached));
    lease.ack().unwrap();
    queue.close().unwrap();
    assert_eq!(queue.get_vec(FOREVER), Err(Error::Closed));
    let lock = Lock::anonymous().unwrap();
    lock.end_waits();
    drop(lock.lock(FOREVER).unwrap());
    let _guard = lock.lock(FOREVER).unwrap();
    assert_eq!(lock.acquire(NOWAIT), Err(Error::Timeout));
    assert_eq!(lock.acquire(FOREVER), Err(Error::Detached));
}

#[test]
fn waits_through_another_handle_of_the_process_continue() {
    let _alone = alone();
    let queue = empty();
    let same = Queue::open(queue.name()).unwrap();
    let event = Event::anonymous().unwrap();
    let same_event = Event::open(event.name()).unwrap();
    thread::scope(|scope| {
        let consumer = scope.spawn(|| same.get_vec(FOREVER));
        let waiter = scope.spawn(|| same_event.wait(FOREVER));
        let leavers = [0, 1].map(|_| scope.spawn(|| queue.get_vec(FOREVER)));
        thread::sleep(Duration::from_millis(30));
        queue.end_waits();
        event.end_waits();
        for leaver in leavers {
            assert_eq!(leaver.join().unwrap(), Err(Error::Detached));
        }
        thread::sleep(Duration::from_millis(30));
        assert!(!consumer.is_finished() && !waiter.is_finished());
        queue.put(b"for the other", FOREVER).unwrap();
        event.set();
        assert_eq!(consumer.join().unwrap().unwrap(), b"for the other");
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_message_that_comes_while_a_consumer_leaves_goes_to_another() {
    let _alone = alone();
    for _ in 0..300 {
        let queue = empty();
        let same = Queue::open(queue.name()).unwrap();
        thread::scope(|scope| {
            let leaver = scope.spawn(|| queue.get_vec(FOREVER));
            let stayer = scope.spawn(|| same.get_vec(FOREVER));
            thread::sleep(Duration::from_micros(200));
            let ender = scope.spawn(|| queue.end_waits());
            same.put(b"one", FOREVER).unwrap();
            ender.join().unwrap();
            if leaver.join().unwrap().is_ok() {
                same.put(b"one more", FOREVER).unwrap();
            }
            stayer.join().unwrap().unwrap();
        });
    }
}

#[test]
fn a_child_that_frees_a_handle_wakes_none_of_its_parents_threads() {
    let _alone = alone();
    let queue = empty();
    let lock = taken(Lock::anonymous().unwrap(), |it| drop(it.acquire(FOREVER)));
    thread::scope(|scope| {
        let consumer = scope.spawn(|| queue.get_vec(FOREVER));
        let waiter = scope.spawn(|| lock.acquire(FOREVER));
        thread::sleep(Duration::from_millis(30));
        let mut child = fork(|| {
            queue.end_waits();
            lock.end_waits();
            assert_eq!(queue.get_vec(FOREVER), Err(Error::Detached));
            assert_eq!(lock.acquire(FOREVER), Err(Error::Detached));
        });
        assert_eq!(child.wait(), 0);
        thread::sleep(Duration::from_millis(30));
        assert!(!consumer.is_finished() && !waiter.is_finished());
        queue.put(b"on", FOREVER).unwrap();
        lock.release().unwrap();
        assert_eq!(consumer.join().unwrap().unwrap(), b"on");
        let _ = waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_descriptor_that_is_waited_for_becomes_readable() {
    let _alone = alone();
    let queue = empty();
    let fd = queue.fd().unwrap();
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut polled = libc::pollfd {
                fd: std::os::fd::AsRawFd::as_raw_fd(&fd),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            unsafe { libc::poll(&mut polled, 1, -1) }
        });
        thread::sleep(Duration::from_millis(30));
        assert!(!poller.is_finished());
        queue.end_waits();
        assert_eq!(poller.join().unwrap(), 1);
    });
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
}

#[test]
fn a_descriptor_that_is_made_after_the_end_is_readable() {
    let _turn = beside_others();
    let queue = empty();
    queue.end_waits();
    ready::wait_readable(&queue);
}
