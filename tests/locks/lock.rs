//! What a lock promises while no process dies.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Bell, FOREVER, NOWAIT, Name, alone, fork, millis};
use shoal::{Acquisition, Condition, Error, Lock, Map, Options};

fn recursive() -> Lock {
    Lock::recursive(None, &Options::create()).unwrap()
}

#[test]
fn one_of_many_threads_is_inside_at_a_time() {
    let _alone = alone();
    for lock in [Lock::anonymous().unwrap(), recursive()] {
        let count = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let own = Lock::open(lock.name()).unwrap();
                    for i in 0..2000 {
                        let lock = if i % 2 == 0 { &lock } else { &own };
                        let guard = lock.lock(FOREVER).unwrap();
                        assert!(!guard.owner_died());
                        // Not one operation: two at a time would lose some.
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 8000);
        assert!(!lock.is_held());
    }
}

#[test]
fn one_of_many_processes_is_inside_at_a_time() {
    let _alone = alone();
    let (lock, map) = (Lock::anonymous().unwrap(), Map::anonymous().unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                for _ in 0..1000 {
                    let _guard = lock.lock(FOREVER).unwrap();
                    let count = map.get_vec(b"count").unwrap().unwrap_or(vec![0; 8]);
                    let count = u64::from_le_bytes(count.try_into().unwrap()) + 1;
                    map.set(b"count", &count.to_le_bytes()).unwrap();
                }
            })
        })
        .collect();
    for child in children {
        child.ends_well();
    }
    assert_eq!(
        map.get_vec(b"count").unwrap().unwrap(),
        3000u64.to_le_bytes()
    );
}

#[test]
fn a_wait_for_a_taken_lock_ends_at_the_deadline() {
    let _alone = alone();
    let lock = Lock::anonymous().unwrap();
    let same = Lock::open(lock.name()).unwrap();
    let _guard = lock.lock(NOWAIT).unwrap();
    assert_eq!(same.acquire(NOWAIT), Err(Error::Timeout));
    assert_eq!(same.acquire(millis(20)), Err(Error::Timeout));
    // Even by the thread that has it: it is not recursive.
    assert_eq!(lock.acquire(millis(5)), Err(Error::Timeout));
    assert_eq!(lock.try_acquire(), Ok(None));
}

#[test]
fn a_plain_lock_is_released_by_any_thread_through_the_handle_that_took_it() {
    let _alone = alone();
    let lock = Lock::anonymous().unwrap();
    let same = Lock::open(lock.name()).unwrap();
    assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::Clean));
    let refused = |lock: &Lock| {
        let err = lock.release().unwrap_err();
        assert!(
            err.to_string().contains("another handle or process"),
            "{err}"
        );
    };
    refused(&same);
    fork(|| {
        refused(&lock);
        refused(&same);
        // A condition does not release it for one that does not have it either.
        let condition = Condition::anonymous().unwrap();
        let waited = condition.wait(&lock, NOWAIT).unwrap_err();
        assert!(matches!(waited, Error::Invalid { .. }), "{waited:?}");
        assert_eq!(condition.waiting(), Ok(0));
    })
    .ends_well();
    assert_eq!(lock.is_mine(), Ok(true));
    std::thread::scope(|scope| {
        scope.spawn(|| lock.release().unwrap());
    });
    assert!(matches!(lock.release(), Err(Error::Invalid { .. })));
}

#[test]
fn a_plain_lock_is_released_by_any_process_that_does_not_ask_for_its_owner() {
    let _alone = alone();
    let lock = Lock::anonymous().unwrap();
    let same = Lock::open(lock.name()).unwrap();
    assert_eq!(lock.acquire(FOREVER), Ok(Acquisition::Clean));
    fork(|| lock.release_any().unwrap()).ends_well();
    assert!(!lock.is_held());
    assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean));
    same.release_any().unwrap();
    assert!(matches!(same.release_any(), Err(Error::Invalid { .. })));
    let lock = recursive();
    assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean));
    fork(|| assert!(lock.release_any().is_err())).ends_well();
    lock.release_any().unwrap();
    assert!(!lock.is_held());
}

#[test]
fn a_recursive_lock_is_released_by_its_owner_as_often_as_it_was_taken() {
    let _alone = alone();
    let lock = recursive();
    assert!(matches!(lock.release(), Err(Error::Invalid { .. })));
    for depth in 1..=3 {
        assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean));
        assert_eq!(lock.depth(), Ok(depth));
    }
    let others = || {
        assert_eq!(lock.acquire(NOWAIT), Err(Error::Timeout));
        assert!(matches!(lock.release(), Err(Error::Invalid { .. })));
        assert_eq!((lock.is_mine(), lock.depth()), (Ok(false), Ok(0)));
    };
    std::thread::scope(|scope| {
        scope.spawn(others);
    });
    fork(others).ends_well();
    for _ in 0..3 {
        assert!(lock.is_held() && lock.is_mine().unwrap());
        lock.release().unwrap();
    }
    assert!(!lock.is_held());
}

#[test]
fn a_lock_keeps_the_kind_with_which_it_was_created() {
    let _alone = alone();
    let name = Name::new("lock");
    let lock = Lock::recursive(Some(&name), &Options::create()).unwrap();
    assert!(Lock::create(&name).unwrap().is_recursive());
    assert!(matches!(Map::open(&name), Err(Error::WrongKind { .. })));
    assert!(matches!(Map::unlink(&name), Err(Error::WrongKind { .. })));
    drop(lock);
    assert!(!name.has_file());
}

#[test]
fn a_sleeper_gets_a_lock_that_is_released() {
    let _alone = alone();
    let (lock, taken) = (Lock::anonymous().unwrap(), Bell::new());
    let guard = lock.lock(FOREVER).unwrap();
    let mut child = fork(|| {
        let _guard = lock.lock(FOREVER).unwrap();
        taken.ring();
    });
    child.wait_asleep();
    drop(guard);
    taken.hear();
    child.ends_well();
}

#[test]
fn a_guard_that_a_forked_child_drops_releases_nothing() {
    let _alone = alone();
    for lock in [Lock::anonymous().unwrap(), recursive()] {
        let mut guard = Some(lock.lock(NOWAIT).unwrap());
        fork(|| drop(guard.take())).ends_well();
        let other = Lock::open(lock.name()).unwrap();
        assert_eq!(other.acquire(NOWAIT), Err(Error::Timeout));
        // Nor what the child has taken itself by then.
        let (free, dropped, done) = (Bell::new(), Bell::new(), Bell::new());
        let child = fork(|| {
            free.hear();
            let _own = lock.lock(NOWAIT).unwrap();
            drop(guard.take());
            dropped.ring();
            done.hear();
        });
        drop(guard.take());
        free.ring();
        dropped.hear();
        assert_eq!(other.acquire(NOWAIT), Err(Error::Timeout));
        done.ring();
        child.ends_well();
    }
}
