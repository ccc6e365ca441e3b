//! Owners of a lock, killed at every step.

use crate::common::crash::{lived, lives};
use crate::common::{Bell, FOREVER, NOWAIT, alone, fork, millis};
use shoal::{Acquisition, Error, Lock, Options, crash};

fn both() -> [Lock; 2] {
    let options = Options::create();
    [
        Lock::with_options(None, &options).unwrap(),
        Lock::recursive(None, &options).unwrap(),
    ]
}

/// A lock that is free for all: taken cleanly, in depth if it is recursive, and released.
fn is_sound(lock: &Lock) {
    assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean));
    if lock.is_recursive() {
        assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean));
        assert_eq!(lock.depth(), Ok(2));
        lock.release().unwrap();
    }
    assert_eq!(lock.is_mine(), Ok(true));
    lock.release().unwrap();
    assert!(!lock.is_held());
    assert!(matches!(lock.release(), Err(Error::Invalid { .. })));
}

#[test]
fn a_process_that_dies_while_taking_or_releasing_a_lock_leaves_it_to_the_next() {
    let _alone = alone();
    for lock in both() {
        for step in 1.. {
            let (done, held) = (
                lives(step, || {
                    let _ = lock.acquire(FOREVER).unwrap();
                    lock.release().unwrap();
                }),
                lock.is_held(),
            );
            let expected = if held {
                Acquisition::OwnerDied
            } else {
                Acquisition::Clean
            };
            assert_eq!(lock.acquire(NOWAIT), Ok(expected), "step {step}");
            lock.release().unwrap();
            is_sound(&lock);
            if done {
                assert!(!held && step > 3);
                break;
            }
        }
    }
}

#[test]
fn the_death_of_an_owner_is_reported_to_one_process_which_holds_the_lock() {
    let _alone = alone();
    for lock in both() {
        fork(|| drop(lock.acquire(FOREVER).map(|_| lock.depth()))).ends_well();
        let guard = lock.lock(FOREVER).unwrap();
        assert!(guard.owner_died());
        assert_eq!(lock.is_mine(), Ok(true));
        fork(|| assert_eq!(lock.acquire(millis(5)), Err(Error::Timeout))).ends_well();
        drop(guard);
        is_sound(&lock);
    }
}

#[test]
fn a_recoverer_killed_at_every_step_has_a_recoverer() {
    let _alone = alone();
    for lock in both() {
        for step in 1.. {
            fork(|| {
                let _ = lock.acquire(FOREVER).unwrap();
                if lock.is_recursive() {
                    let _ = lock.acquire(FOREVER).unwrap();
                }
            })
            .ends_well();
            let done = lives(step, || {
                assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::OwnerDied));
            });
            assert_eq!(
                lock.acquire(FOREVER),
                Ok(Acquisition::OwnerDied),
                "step {step}"
            );
            assert_eq!(lock.depth(), Ok(1));
            lock.release().unwrap();
            is_sound(&lock);
            if done {
                assert!(step > 2);
                break;
            }
        }
    }
}

#[test]
fn a_sleeper_notices_that_the_owner_was_killed() {
    let _alone = alone();
    for lock in both() {
        let (taken, got) = (Bell::new(), Bell::new());
        let owner = fork(|| {
            let _guard = lock.lock(FOREVER).unwrap();
            taken.ring();
            loop {
                std::thread::park();
            }
        });
        taken.hear();
        let mut recoverers: Vec<_> = (0..2)
            .map(|_| {
                fork(|| {
                    if lock.lock(FOREVER).unwrap().owner_died() {
                        got.ring();
                    }
                })
            })
            .collect();
        for recoverer in &mut recoverers {
            recoverer.wait_asleep();
        }
        owner.kill();
        for recoverer in recoverers {
            recoverer.ends_well();
        }
        // One of the two.
        got.hear();
        got.ring();
        got.hear();
        is_sound(&lock);
    }
}

/// Kills a waiter at every step that it takes after it was woken. Once it sleeps, the owner does
/// `meanwhile`.
fn a_waiter_is_killed_at_every_step(meanwhile: impl Fn(&Lock)) {
    for lock in both() {
        for step in 1.. {
            let _ = lock.acquire(FOREVER).unwrap();
            let mut waiter = fork(|| {
                crash::arm(step);
                assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::Clean));
                lock.release().unwrap();
                crash::disarm();
            });
            waiter.wait_asleep();
            meanwhile(&lock);
            let mut other = fork(|| {
                let _ = lock.acquire(FOREVER).unwrap();
                lock.release().unwrap();
            });
            other.wait_asleep();
            lock.release().unwrap();
            other.ends_well();
            let done = lived(&mut waiter);
            let _ = lock.acquire(FOREVER).unwrap();
            lock.release().unwrap();
            is_sound(&lock);
            if done {
                assert!(step > 3);
                break;
            }
        }
    }
}

#[test]
fn a_sleeper_killed_at_every_step_does_not_affect_others() {
    let _alone = alone();
    a_waiter_is_killed_at_every_step(|_| ());
}

#[test]
fn a_waiter_killed_while_the_lock_is_reserved_for_it_does_not_affect_others() {
    let _alone = alone();
    a_waiter_is_killed_at_every_step(|lock| {
        // Acquisition again before the waiter is awake, most of the time: it claims the lock.
        for _ in 0..3 {
            lock.release().unwrap();
            let _ = lock.acquire(FOREVER).unwrap();
        }
    });
}

#[test]
fn a_handle_that_is_freed_releases_its_lock() {
    let _alone = alone();
    let lock = Lock::anonymous().unwrap();
    let other = Lock::open(lock.name()).unwrap();
    let _ = other.acquire(FOREVER).unwrap();
    drop(other);
    assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::OwnerDied));
}
