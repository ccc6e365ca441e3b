//! What semaphores, events, conditions, barriers and read-write locks promise to live processes.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Bell, FOREVER, NOWAIT, Name, alone, fork, millis};
use shoal::{
    Acquisition, Array, Barrier, Condition, Error, Event, Lock, Options, Queue, RwLock, Semaphore,
};

fn new() -> Options {
    Options::create()
}

fn semaphore(permits: u64) -> Semaphore {
    Semaphore::with_options(None, permits, &new()).unwrap()
}

fn barrier(parties: u64) -> Barrier {
    Barrier::with_options(None, parties, &new()).unwrap()
}

#[test]
fn a_semaphore_admits_as_many_as_it_has_permits() {
    let _alone = alone();
    let places = semaphore(2);
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..300 {
                    places.acquire(FOREVER).unwrap();
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    places.release(1).unwrap();
                }
            });
        }
    });
    assert_eq!(places.available(), Ok(2));
    places.acquire(NOWAIT).unwrap();
    places.acquire(NOWAIT).unwrap();
    assert_eq!(places.acquire(NOWAIT), Err(Error::Timeout));
    assert_eq!(places.acquire(millis(10)), Err(Error::Timeout));
}

#[test]
fn permits_are_signals_between_processes_that_only_take_and_those_that_only_release() {
    let _alone = alone();
    let signals = semaphore(0);
    let taker = fork(|| {
        for _ in 0..500 {
            signals.acquire(FOREVER).unwrap();
        }
    });
    for _ in 0..500 {
        signals.release(1).unwrap();
    }
    taker.ends_well();
    // What the taker had not seen answered came back with its death: no other process holds any.
    let mut back = 0;
    while signals.acquire(NOWAIT).is_ok() {
        back += 1;
    }
    assert!(back <= 500);
    signals.release(3).unwrap();
    assert_eq!(signals.available(), Ok(3));
}

#[test]
fn permits_that_are_kept_stay_taken_until_they_are_released() {
    let _alone = alone();
    let items = semaphore(3);
    let take = |kept: bool| {
        let taker = fork(|| {
            items.acquire(NOWAIT).unwrap();
            if kept {
                items.keep().unwrap();
                assert_eq!(items.held(), Ok(0));
            }
        });
        taker.ends_well();
    };
    take(true);
    take(false);
    assert_eq!(items.available(), Ok(2));
    // A release takes kept permits before those of a live process, whose death then counts.
    let holder = fork(|| {
        items.acquire(NOWAIT).unwrap();
        loop {
            std::thread::park();
        }
    });
    while items.available() != Ok(1) {
        std::thread::yield_now();
    }
    items.release(1).unwrap();
    assert_eq!(items.available(), Ok(2));
    drop(holder);
    assert_eq!(items.available(), Ok(3));
}

#[test]
fn kept_permits_can_be_released_and_the_bound_holds() {
    let _alone = alone();
    let places = Semaphore::bounded(None, 2, &new()).unwrap();
    places.acquire(NOWAIT).unwrap();
    places.acquire(NOWAIT).unwrap();
    assert_eq!(places.held(), Ok(2));
    places.keep().unwrap();
    places.keep().unwrap();
    assert_eq!(places.acquire(NOWAIT), Err(Error::Timeout));
    places.release(2).unwrap();
    assert!(matches!(places.release(1), Err(Error::Invalid { .. })));
    assert_eq!(places.available(), Ok(2));
}

#[test]
fn a_release_of_several_wakes_several() {
    let _alone = alone();
    let signals = semaphore(0);
    let mut children: Vec<_> = (0..3)
        .map(|_| fork(|| signals.acquire(FOREVER).unwrap()))
        .collect();
    children.iter_mut().for_each(|it| it.wait_asleep());
    signals.release(3).unwrap();
    children.into_iter().for_each(|it| it.ends_well());
}

#[test]
fn a_bounded_semaphore_refuses_a_release_beyond_its_bound() {
    let _alone = alone();
    let places = Semaphore::bounded(None, 2, &new()).unwrap();
    assert!(matches!(places.release(1), Err(Error::Invalid { .. })));
    places.acquire(NOWAIT).unwrap();
    fork(|| places.release(1).unwrap()).ends_well();
    assert!(matches!(places.release(1), Err(Error::Invalid { .. })));
    assert_eq!(places.available(), Ok(2));
    assert!(Semaphore::bounded(None, 0, &new()).is_err());
    assert!(Semaphore::with_options(None, 1 << 31, &new()).is_err());
    assert!(matches!(
        semaphore(i32::MAX as u64).release(1),
        Err(Error::TooMany { .. })
    ));
}

#[test]
fn all_waiters_for_an_event_are_woken_even_if_it_is_cleared_at_once() {
    let _alone = alone();
    let event = Event::anonymous().unwrap();
    assert_eq!(event.wait(millis(5)), Err(Error::Timeout));
    for _ in 0..5 {
        let mut children: Vec<_> = (0..3)
            .map(|_| fork(|| event.wait(FOREVER).unwrap()))
            .collect();
        children.iter_mut().for_each(|it| it.wait_asleep());
        event.set();
        event.clear();
        children.into_iter().for_each(|it| it.ends_well());
        assert!(!event.is_set());
    }
    event.set();
    event.set();
    assert!(event.is_set() && event.wait(NOWAIT).is_ok());
    event.clear();
    event.clear();
    assert_eq!(event.wait(NOWAIT), Err(Error::Timeout));
}

#[test]
fn a_notification_wakes_one_and_a_broadcast_all() {
    let _alone = alone();
    let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let woken = Bell::new();
    let waiter = || {
        let _guard = lock.lock(FOREVER).unwrap();
        assert!(changed.wait(&lock, FOREVER).unwrap().notified);
        assert!(lock.is_mine().unwrap());
        woken.ring();
    };
    let mut children: Vec<_> = (0..4).map(|_| fork(waiter)).collect();
    while changed.waiting().unwrap() < 4 {
        std::thread::yield_now();
    }
    changed.notify(1).unwrap();
    woken.hear();
    assert_eq!(changed.waiting(), Ok(3));
    changed.notify(2).unwrap();
    woken.hear();
    woken.hear();
    assert_eq!(changed.waiting(), Ok(1));
    changed.notify_all().unwrap();
    woken.hear();
    children.drain(..).for_each(|it| it.ends_well());
    changed.notify_all().unwrap();
    let _guard = lock.lock(FOREVER).unwrap();
    assert!(!changed.wait(&lock, millis(5)).unwrap().notified);
}

#[test]
fn a_wait_releases_a_recursive_lock_completely_and_restores_its_depth() {
    let _alone = alone();
    let lock = Lock::recursive(None, &new()).unwrap();
    let changed = Condition::anonymous().unwrap();
    assert!(matches!(
        changed.wait(&lock, NOWAIT),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(changed.waiting(), Ok(0));
    for _ in 0..3 {
        assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::Clean));
    }
    let other = fork(|| {
        let _guard = lock.lock(FOREVER).unwrap();
        changed.notify(1).unwrap();
    });
    assert!(changed.wait(&lock, FOREVER).unwrap().notified);
    assert_eq!(lock.depth(), Ok(3));
    other.ends_well();
}

#[test]
fn a_barrier_opens_when_all_have_arrived_in_each_round() {
    let _alone = alone();
    let barrier = barrier(3);
    let (inside, actions) = (AtomicU32::new(0), AtomicU32::new(0));
    let indexes = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..100 {
                    inside.fetch_add(1, Ordering::SeqCst);
                    let action = || _ = actions.fetch_add(1, Ordering::SeqCst);
                    let index = barrier.wait_with(FOREVER, action).unwrap();
                    indexes.fetch_add(index, Ordering::SeqCst);
                    assert!(inside.load(Ordering::SeqCst) >= (round + 1) * 3);
                    assert!(actions.load(Ordering::SeqCst) > round);
                }
            });
        }
    });
    assert_eq!(actions.into_inner(), 100);
    assert_eq!(indexes.into_inner(), 300);
    assert_eq!((barrier.waiting(), barrier.parties()), (Ok(0), 3));
}

#[test]
fn a_barrier_is_broken_by_a_timeout_until_a_reset() {
    let _alone = alone();
    let barrier = barrier(3);
    let broken = |result| assert!(matches!(result, Err(Error::Poisoned { .. })));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait(FOREVER));
        broken(barrier.wait(millis(20)));
        broken(other.join().unwrap());
    });
    assert!(barrier.is_broken());
    broken(barrier.wait(FOREVER));
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    std::thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| barrier.wait(FOREVER).unwrap()));
        let own = barrier.wait(FOREVER).unwrap();
        let sum: u32 = others.into_iter().map(|it| it.join().unwrap()).sum();
        assert_eq!(sum + own, 3);
    });
}

/// Two processes meet at a barrier for two.
fn opens(barrier: &Barrier) {
    let other = fork(|| _ = barrier.wait(FOREVER).unwrap());
    barrier.wait(FOREVER).unwrap();
    other.ends_well();
}

#[test]
fn one_that_leaves_a_barrier_takes_its_arrival_back() {
    let _alone = alone();
    let barrier = barrier(2);
    let place = barrier.arrive(NOWAIT).unwrap().place;
    barrier.leave(place).unwrap();
    assert!(barrier.waiting() == Ok(0) && !barrier.is_broken());
    assert!(matches!(barrier.leave(place), Err(Error::Invalid { .. })));
    opens(&barrier);
}

#[test]
fn one_that_leaves_a_barrier_after_all_have_arrived_lets_the_others_pass() {
    let _alone = alone();
    let barrier = barrier(3);
    let end_round: [fn(&Barrier, u32); 2] = [
        |barrier, last| barrier.release(last).unwrap(),
        |barrier, last| assert!(barrier.give_up(last).is_err()),
    ];
    for (number, end_round) in end_round.into_iter().enumerate() {
        let [first, second, last] = [(); 3].map(|()| barrier.arrive(NOWAIT).unwrap());
        barrier.leave(first.place).unwrap();
        assert!(last.last && barrier.waiting() == Ok(2));
        // The place is not free: another one cannot be the last, too.
        assert_eq!(barrier.arrive(NOWAIT), Err(Error::Timeout));
        assert!(barrier.give_up(first.place).is_err() && !barrier.is_broken());
        end_round(&barrier, last.place);
        let is_broken = barrier.sleep(second.place, NOWAIT).is_err();
        assert_eq!((is_broken, barrier.is_broken()), (number == 1, number == 1));
        // The place is free again.
        if number == 0 {
            assert_eq!(barrier.arrive(NOWAIT).unwrap().place, first.place);
            barrier.leave(first.place).unwrap();
        }
        assert_eq!(barrier.waiting(), Ok(0));
    }
}

#[test]
fn a_signal_interrupts_a_wait_only_before_all_have_arrived() {
    let _alone = alone();
    extern "C" fn handle(_: i32) {}
    let barrier = barrier(2);
    let mut other = fork(|| {
        // SAFETY: a handler that does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        assert_eq!(barrier.wait(FOREVER), Err(Error::Interrupted));
        assert!(!barrier.is_broken());
        barrier.wait(FOREVER).unwrap();
    });
    while barrier.waiting() == Ok(0) {
        std::thread::yield_now();
    }
    other.wait_asleep();
    other.signal(libc::SIGUSR1);
    other.wait_asleep();
    barrier
        .wait_with(FOREVER, || {
            other.signal(libc::SIGUSR1);
            other.wait_asleep();
        })
        .unwrap();
    other.ends_well();
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let _alone = alone();
    let lock = RwLock::anonymous().unwrap();
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (own, inside) = (RwLock::open(lock.name()).unwrap(), &inside);
            scope.spawn(move || {
                for i in 0..200 {
                    if (thread + i) % 4 == 0 {
                        assert_eq!(own.write(FOREVER), Ok(Acquisition::Clean));
                        assert_eq!(inside.fetch_add(100, Ordering::SeqCst), 0);
                        inside.fetch_sub(100, Ordering::SeqCst);
                        own.release_write().unwrap();
                    } else {
                        assert_eq!(own.read(FOREVER), Ok(Acquisition::Clean));
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 100);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        own.release_read().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(lock.holders(), Ok((0, false)));
    assert!(lock.release_read().is_err() && lock.release_write().is_err());
}

#[test]
fn a_waiting_writer_blocks_new_readers_but_not_present_ones() {
    let _alone = alone();
    let lock = RwLock::anonymous().unwrap();
    assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean));
    let mut writer = fork(|| {
        assert_eq!(lock.write(FOREVER), Ok(Acquisition::Clean));
        lock.release_write().unwrap();
    });
    writer.wait_asleep();
    fork(|| assert_eq!(lock.read(NOWAIT), Err(Error::Timeout))).ends_well();
    assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean));
    lock.release_read().unwrap();
    lock.release_read().unwrap();
    writer.ends_well();
    // A waiter whose wait has ended blocks no other.
    assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean));
    fork(|| assert_eq!(lock.write(millis(5)), Err(Error::Timeout))).ends_well();
    fork(|| assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean))).ends_well();
}

#[test]
fn what_is_created_without_a_name_is_checked_as_with_the_option() {
    let _alone = alone();
    let open = Options::open();
    for refused in [
        Barrier::with_options(None, 0, &open).map(drop),
        Semaphore::bounded(None, 0, &open).map(drop),
        Array::with_options(None, 0, 1, "", &open).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(Barrier::with_options(None, 1, &open).unwrap().parties(), 1);
    let one = Semaphore::bounded(None, 1, &open).unwrap();
    assert!(one.release(1).is_err());
}

#[test]
fn an_object_that_is_only_opened_is_never_created() {
    let _alone = alone();
    let name = Name::new("missing");
    // The option has a meaning only for what is created.
    let options = Options {
        exclusive: true,
        ..Options::open()
    };
    for missing in [
        Barrier::with_options(Some(&name), 0, &options).map(drop),
        Semaphore::bounded(Some(&name), 0, &options).map(drop),
        Array::with_options(Some(&name), 0, 0, "", &options).map(drop),
        Queue::with_options(Some(&name), &options).map(drop),
    ] {
        assert!(
            matches!(missing, Err(Error::NotFound { .. })),
            "{missing:?}"
        );
    }
    assert!(!name.has_file());
}

#[test]
fn dead_processes_count_neither_as_waiters_nor_as_holders() {
    let _alone = alone();
    let (condition, barrier) = (Condition::anonymous().unwrap(), barrier(3));
    let (lock, places) = (RwLock::anonymous().unwrap(), semaphore(2));
    let queue = Queue::anonymous().unwrap();
    queue.put(b"job", NOWAIT).unwrap();
    let (ready, never) = (Bell::new(), Bell::new());
    let _ = condition.enlist().unwrap();
    let child = fork(|| {
        let _ = (condition.enlist().unwrap(), barrier.arrive(NOWAIT).unwrap());
        let _ = lock.read(NOWAIT).unwrap();
        places.acquire(NOWAIT).unwrap();
        let _job = queue.lease(NOWAIT).unwrap();
        ready.ring();
        never.hear();
    });
    ready.hear();
    assert_eq!((condition.waiting(), barrier.waiting()), (Ok(2), Ok(1)));
    assert_eq!(
        (lock.holders(), places.available()),
        (Ok((1, false)), Ok(1))
    );
    assert_eq!((queue.leased(), queue.len()), (1, 0));
    child.kill();
    assert_eq!((condition.waiting(), barrier.waiting()), (Ok(1), Ok(0)));
    assert_eq!(
        (lock.holders(), places.available()),
        (Ok((0, false)), Ok(2))
    );
    while queue.leased() != 0 {
        std::thread::yield_now();
    }
    assert_eq!(queue.len(), 1);

    let child = fork(|| {
        let _ = lock.write(NOWAIT).unwrap();
        ready.ring();
        never.hear();
    });
    ready.hear();
    assert_eq!(lock.holders(), Ok((0, true)));
    child.kill();
    assert_eq!(lock.holders(), Ok((0, false)));
    assert_eq!(lock.read(NOWAIT), Ok(Acquisition::OwnerDied));
    lock.release_read().unwrap();
}
