//! Users of semaphores, events, conditions, barriers and read-write locks, killed at every step.

use std::os::unix::fs::FileExt;

use crate::common::company::Words;
use crate::common::crash::{killed_at, lived, lives};
use crate::common::{Bell, Child, FOREVER, NOWAIT, alone, fork, millis};
use shoal::crash;
use shoal::{Acquisition, Barrier, Condition, Error, Event, Lock, Options, RwLock, Semaphore};

fn new() -> Options {
    Options::create()
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// All permits can be had, and not one more.
fn has(places: &Semaphore, permits: u32) {
    for _ in 0..permits {
        places.acquire(NOWAIT).unwrap();
    }
    assert_eq!(places.acquire(NOWAIT), Err(Error::Timeout));
    places.release(permits).unwrap();
    assert_eq!(places.available(), Ok(permits.into()));
}

#[test]
fn permits_are_released_at_whichever_step_their_holder_is_killed() {
    let _alone = alone();
    for step in 1.. {
        let places = Semaphore::bounded(None, 3, &new()).unwrap();
        places.acquire(NOWAIT).unwrap();
        let done = lives(step, || {
            places.acquire(NOWAIT).unwrap();
            places.acquire(NOWAIT).unwrap();
            places.release(1).unwrap();
            places.acquire(NOWAIT).unwrap();
        });
        places.release(1).unwrap();
        has(&places, 3);
        assert!(matches!(places.release(1), Err(Error::Invalid { .. })));
        if done {
            assert!(step > 8);
            break;
        }
    }
}

#[test]
fn a_process_killed_while_it_keeps_permits_keeps_all_or_none() {
    let _alone = alone();
    for step in 1.. {
        let items = Semaphore::bounded(None, 5, &new()).unwrap();
        let done = lives(step, || {
            items.acquire(NOWAIT).unwrap();
            items.acquire(NOWAIT).unwrap();
            items.keep().unwrap();
            // One of those that are kept.
            items.release(1).unwrap();
        });
        let there = items.available().unwrap();
        assert!([3, 4, 5].contains(&there) && (!done || there == 4));
        items.release(5 - there as u32).ok();
        has(&items, 5);
        if done {
            assert!(step > 6);
            break;
        }
    }
}

#[test]
fn a_permit_is_added_or_not_at_whichever_step_a_release_is_killed() {
    let _alone = alone();
    for step in 1.. {
        let signals = Semaphore::with_options(None, 0, &new()).unwrap();
        let done = lives(step, || signals.release(1).unwrap());
        let there = signals.available().unwrap();
        assert!(there <= 1 && (!done || there == 1));
        has(&signals, there as u32);
        if done {
            assert!(step > 2);
            break;
        }
    }
}

#[test]
fn a_sleeper_gets_the_permit_of_a_killed_process() {
    let _alone = alone();
    let (places, taken) = (
        Semaphore::with_options(None, 1, &new()).unwrap(),
        Bell::new(),
    );
    let holder = fork(|| {
        places.acquire(FOREVER).unwrap();
        taken.ring();
        sleep_for_ever();
    });
    taken.hear();
    let mut sleeper = fork(|| places.acquire(FOREVER).unwrap());
    sleeper.wait_asleep();
    holder.kill();
    sleeper.ends_well();
    has(&places, 1);
}

#[test]
fn a_sleeper_killed_at_every_step_consumes_no_permit() {
    let _alone = alone();
    let mut slept = 0;
    for step in 1.. {
        let signals = Semaphore::with_options(None, 0, &new()).unwrap();
        let mut first = killed_at(step, || signals.acquire(FOREVER).unwrap());
        first.wait_asleep();
        slept += u32::from(!first.has_ended());
        let second = fork(|| signals.acquire(FOREVER).unwrap());
        // One for each; the one of the dead comes back.
        signals.release(2).unwrap();
        let done = lived(&mut first);
        second.ends_well();
        has(&signals, 2);
        if done {
            assert!(slept > 1);
            break;
        }
    }
}

#[test]
fn an_event_is_set_or_not_at_whichever_step_a_set_is_killed() {
    let _alone = alone();
    for step in 1.. {
        let event = Event::anonymous().unwrap();
        let mut waiter = fork(|| event.wait(FOREVER).unwrap());
        waiter.wait_asleep();
        let done = lives(step, || event.set());
        if event.is_set() {
            waiter.ends_well();
        } else {
            waiter.kill();
            // A dead waiter delays no process.
            event.set();
        }
        assert!(event.is_set());
        event.clear();
        assert_eq!(event.wait(NOWAIT), Err(Error::Timeout));
        if done {
            break;
        }
    }
}

/// Two processes that wait for the condition, in this order.
fn two_waiters(lock: &Lock, changed: &Condition) -> [Child; 2] {
    [1, 2].map(|count| {
        let waiter = fork(|| {
            let _guard = lock.lock(FOREVER).unwrap();
            assert!(changed.wait(lock, FOREVER).unwrap().notified);
        });
        while changed.waiting().unwrap() < count {
            std::thread::yield_now();
        }
        waiter
    })
}

#[test]
fn a_notification_skips_dead_waiters() {
    let _alone = alone();
    let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let [first, second] = two_waiters(&lock, &changed);
    first.kill();
    changed.notify(1).unwrap();
    second.ends_well();
    assert_eq!(changed.waiting(), Ok(0));
}

#[test]
fn the_notification_of_a_waiter_that_dies_goes_to_another() {
    let _alone = alone();
    let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let [first, second] = two_waiters(&lock, &changed);
    // The first gets an error, and cannot repair: the lock is taken.
    let guard = lock.lock(FOREVER).unwrap();
    changed.notify(1).unwrap();
    assert_eq!(changed.waiting(), Ok(1));
    first.kill();
    drop(guard);
    second.ends_well();
}

#[test]
fn a_waiter_killed_at_every_step_loses_no_notification() {
    let _alone = alone();
    let mut waited = 0;
    for step in 1.. {
        let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
        let mut first = killed_at(step, || {
            let _guard = lock.lock(FOREVER).unwrap();
            let _ = changed.wait(&lock, FOREVER).unwrap();
        });
        first.wait_asleep();
        let second = fork(|| {
            let _guard = lock.lock(FOREVER).unwrap();
            assert!(changed.wait(&lock, FOREVER).unwrap().notified);
        });
        let is_dead = first.has_ended();
        waited += u32::from(!is_dead);
        // The first may come to its step by itself, when a slice of its sleep is over.
        while changed.waiting().unwrap() < 1
            || (!first.has_ended() && changed.waiting().unwrap() < 2)
        {
            std::thread::yield_now();
        }
        {
            let _guard = lock.lock(FOREVER).unwrap();
            changed.notify(1).unwrap();
        }
        if lived(&mut first) {
            changed.notify(1).unwrap();
            second.ends_well();
            assert!(waited > 1);
            break;
        }
        // Either it was skipped, or its notification stays with the lock that it held.
        if lock.lock(FOREVER).unwrap().owner_died() {
            changed.notify(1).unwrap();
        }
        // If it died as the lock's owner, one of those that come next was told so.
        let mut second = second;
        while !second.has_ended() {
            changed.notify(1).unwrap();
            std::thread::yield_now();
        }
        second.ends_well();
    }
}

#[test]
fn a_waiter_killed_while_it_leaves_without_the_lock_loses_no_notification() {
    let _alone = alone();
    for step in 1.. {
        let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
        let notified = Bell::new();
        let mut first = killed_at(step, || {
            let _ = lock.acquire(FOREVER).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    notified.hear();
                    lock.end_waits();
                });
                let woken = changed.wait(&lock, FOREVER);
                assert_eq!(woken, Err(Error::Detached));
            });
        });
        while changed.waiting().unwrap() < 1 && !first.has_ended() {
            std::thread::yield_now();
        }
        let second = fork(|| {
            let _guard = lock.lock(FOREVER).unwrap();
            assert!(changed.wait(&lock, FOREVER).unwrap().notified);
        });
        while changed.waiting().unwrap() < 2 && !first.has_ended() {
            std::thread::yield_now();
        }
        while changed.waiting().unwrap() < 1 {
            std::thread::yield_now();
        }
        // The first has to wait for the lock after its notification, until its waits are ended.
        let guard = lock.lock(FOREVER).unwrap();
        changed.notify(1).unwrap();
        notified.ring();
        let done = lived(&mut first);
        drop(guard);
        second.ends_well();
        if done {
            break;
        }
    }
}

#[test]
fn the_notification_of_a_dead_waiter_is_passed_on_before_its_slot_is_reused() {
    let _alone = alone();
    let condition = Condition::anonymous().unwrap();
    let enlisted = Bell::new();
    let crowd = fork(|| {
        // All slots but one.
        (1..1024).for_each(|_| _ = condition.enlist().unwrap());
        enlisted.ring();
        sleep_for_ever();
    });
    enlisted.hear();
    let alive = condition.enlist().unwrap();
    condition.notify(1).unwrap();
    crowd.kill();
    let late = condition.enlist().unwrap();
    condition.sleep(alive, NOWAIT).unwrap();
    assert!(condition.leave(alive).unwrap() && !condition.leave(late).unwrap());
}

#[test]
fn a_notifier_killed_at_every_step_leaves_a_condition_that_works() {
    let _alone = alone();
    for step in 1.. {
        let (lock, changed) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
        let waiters = [(); 2].map(|()| {
            fork(|| {
                let _guard = lock.lock(FOREVER).unwrap();
                assert!(changed.wait(&lock, FOREVER).unwrap().notified);
            })
        });
        while changed.waiting().unwrap() < 2 {
            std::thread::yield_now();
        }
        let done = lives(step, || changed.notify_all().unwrap());
        if !done {
            changed.notify_all().unwrap();
        }
        waiters.into_iter().for_each(|it| it.ends_well());
        assert_eq!(changed.waiting(), Ok(0));
        if done {
            assert!(step > 2);
            break;
        }
    }
}

fn is_broken<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Poisoned { .. })), "{result:?}");
}

fn opens_for_two(barrier: &Barrier) {
    let other = fork(|| _ = barrier.wait(FOREVER).unwrap());
    barrier.wait(FOREVER).unwrap();
    other.ends_well();
}

#[test]
fn a_killed_waiter_breaks_the_barrier_until_a_reset() {
    let _alone = alone();
    let barrier = Barrier::with_options(None, 3, &new()).unwrap();
    let first = fork(|| drop(barrier.wait(FOREVER)));
    let mut second = fork(|| is_broken(barrier.wait(FOREVER)));
    while barrier.waiting().unwrap() < 2 {
        std::thread::yield_now();
    }
    second.wait_asleep();
    first.kill();
    second.ends_well();
    is_broken(barrier.wait(FOREVER));
    barrier.reset().unwrap();
    let others = [(); 2].map(|()| fork(|| _ = barrier.wait(FOREVER).unwrap()));
    barrier.wait(FOREVER).unwrap();
    others.into_iter().for_each(|it| it.ends_well());
}

#[test]
fn the_last_party_notices_that_another_is_dead() {
    let _alone = alone();
    let barrier = Barrier::with_options(None, 2, &new()).unwrap();
    let first = fork(|| drop(barrier.wait(FOREVER)));
    while barrier.waiting().unwrap() < 1 {
        std::thread::yield_now();
    }
    first.kill();
    is_broken(barrier.wait(FOREVER));
}

#[test]
fn a_process_killed_at_every_step_opens_the_barrier_or_breaks_it() {
    let _alone = alone();
    for step in 1.. {
        let barrier = Barrier::with_options(None, 2, &new()).unwrap();
        let (opened, over) = (Bell::new(), Words::new(1));
        let mut other = fork(|| {
            let place = barrier.arrive(FOREVER).unwrap().place;
            // Its timeout does not begin before the other process has acted.
            let waited = loop {
                let is_over = over.get(0) != 0;
                match barrier.sleep(place, millis(200)) {
                    Err(Error::Timeout) if !is_over => {}
                    Err(Error::Timeout) => break barrier.give_up(place),
                    waited => break waited,
                }
            };
            match waited {
                Ok(()) => opened.ring(),
                waited => is_broken(waited),
            }
        });
        while barrier.waiting().unwrap() < 1 {
            std::thread::yield_now();
        }
        other.wait_asleep();
        let done = lives(step, || _ = barrier.wait(FOREVER).unwrap());
        over.set(0, 1);
        other.ends_well();
        if barrier.is_broken() {
            is_broken(barrier.wait(FOREVER));
            barrier.reset().unwrap();
        } else {
            opened.hear();
        }
        opens_for_two(&barrier);
        if done {
            assert!(step > 3);
            break;
        }
    }
}

#[test]
fn a_process_killed_at_any_step_while_it_leaves_a_barrier_blocks_no_other() {
    let _alone = alone();
    for all_arrive in [false, true] {
        for step in 1.. {
            let barrier = Barrier::with_options(None, 2, &new()).unwrap();
            let (arrived, leave) = (Bell::new(), Bell::new());
            let mut leaver = fork(|| {
                let place = barrier.arrive(NOWAIT).unwrap().place;
                arrived.ring();
                leave.hear();
                crash::arm(step);
                barrier.leave(place).unwrap();
                crash::disarm();
            });
            arrived.hear();
            let last = all_arrive.then(|| barrier.arrive(NOWAIT).unwrap());
            leave.ring();
            let done = lived(&mut leaver);
            if let Some(last) = last {
                barrier.release(last.place).unwrap();
            } else if barrier.arrive(NOWAIT).map(|it| barrier.leave(it.place)) != Ok(Ok(())) {
                // It was killed before it had left.
                assert!(!done);
                barrier.reset().unwrap();
            }
            assert_eq!((barrier.waiting(), barrier.is_broken()), (Ok(0), false));
            opens_for_two(&barrier);
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_place_that_was_left_is_free_again_at_whichever_step_the_round_s_last_is_killed() {
    let _alone = alone();
    for step in 1.. {
        let barrier = Barrier::with_options(None, 2, &new()).unwrap();
        let (arrived, open) = (Bell::new(), Bell::new());
        let place = barrier.arrive(NOWAIT).unwrap().place;
        let mut last = fork(|| {
            let last = barrier.arrive(NOWAIT).unwrap().place;
            arrived.ring();
            open.hear();
            crash::arm(step);
            barrier.release(last).unwrap();
            crash::disarm();
        });
        arrived.hear();
        barrier.leave(place).unwrap();
        open.ring();
        let done = lived(&mut last);
        match barrier.arrive(NOWAIT) {
            Ok(arrived) => {
                assert_eq!(arrived.place, place);
                barrier.leave(place).unwrap();
            }
            broken => {
                // It was killed before it had ended the round.
                is_broken(broken);
                barrier.reset().unwrap();
            }
        }
        opens_for_two(&barrier);
        if done {
            assert!(step > 3);
            break;
        }
    }
}

#[test]
fn a_process_killed_at_any_step_of_a_reset_or_abort_leaves_a_barrier_that_works() {
    let _alone = alone();
    type Act = fn(&Barrier) -> shoal::Result<()>;
    for act in [Barrier::reset as Act, Barrier::abort] {
        for step in 1.. {
            let barrier = Barrier::with_options(None, 2, &new()).unwrap();
            let mut waiter = fork(|| drop(barrier.wait(FOREVER)));
            waiter.wait_asleep();
            let done = lives(step, || act(&barrier).unwrap());
            // If it was not done, it is done now: the waiter is notified in any case.
            act(&barrier).unwrap();
            waiter.ends_well();
            barrier.reset().unwrap();
            assert!(!barrier.is_broken() && barrier.waiting() == Ok(0));
            opens_for_two(&barrier);
            if done {
                assert!(step > 1);
                break;
            }
        }
    }
}

#[test]
fn a_reader_killed_at_every_step_blocks_no_other() {
    let _alone = alone();
    for step in 1.. {
        let lock = RwLock::anonymous().unwrap();
        let done = lives(step, || {
            let _ = lock.read(FOREVER).unwrap();
            let _ = lock.read(FOREVER).unwrap();
            lock.release_read().unwrap();
        });
        assert_eq!(lock.write(NOWAIT), Ok(Acquisition::Clean));
        lock.release_write().unwrap();
        assert_eq!(lock.holders(), Ok((0, false)));
        if done {
            assert!(step > 4);
            break;
        }
    }
}

#[test]
fn a_writer_killed_at_every_step_is_reported_if_it_held_the_lock() {
    let _alone = alone();
    for step in 1.. {
        let lock = RwLock::anonymous().unwrap();
        let done = lives(step, || {
            let _ = lock.write(FOREVER).unwrap();
            lock.release_write().unwrap();
        });
        // The word that names the writer: in an object's own bytes, which begin at 36864, the 16th.
        let mut writer = [0; 8];
        let file = std::fs::File::open(format!("/dev/shm/shoal.{}", lock.name())).unwrap();
        file.read_exact_at(&mut writer, 36_864 + 128).unwrap();
        let expected = match writer == [0; 8] {
            false => Acquisition::OwnerDied,
            true => Acquisition::Clean,
        };
        assert_eq!(lock.holders(), Ok((0, false)), "the dead hold nothing");
        // Readers get an error, and cannot repair; the first writer does.
        for _ in 0..2 {
            assert_eq!(lock.read(NOWAIT), Ok(expected), "step {step}");
            lock.release_read().unwrap();
        }
        assert_eq!(lock.write(NOWAIT), Ok(expected));
        lock.release_write().unwrap();
        assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean));
        if done {
            assert_eq!(expected, Acquisition::Clean);
            assert!(step > 2);
            break;
        }
    }
}

#[test]
fn a_waiting_writer_killed_at_every_step_blocks_no_other() {
    let _alone = alone();
    for step in 1.. {
        let lock = RwLock::anonymous().unwrap();
        assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean));
        let done = lives(step, || {
            assert_eq!(lock.write(millis(5)), Err(Error::Timeout));
        });
        fork(|| assert_eq!(lock.read(NOWAIT), Ok(Acquisition::Clean))).ends_well();
        lock.release_read().unwrap();
        assert_eq!(lock.write(NOWAIT), Ok(Acquisition::Clean));
        if done {
            assert!(step > 2);
            break;
        }
    }
}
