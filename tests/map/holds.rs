//! Keys that are locked and values that are read in place, by the living and the dead.

use crate::common::{Bell, Child, FOREVER, NOWAIT, alone, beside_others, fork, millis};
use std::thread;
use std::time::Duration;

use shoal::{Error, Map, Options, Timeout};

fn map() -> Map {
    Map::anonymous().unwrap()
}

fn bytes_in_use(map: &Map) -> u64 {
    shoal::stat(map.name()).unwrap().committed
}

/// A process that has locked `k`.
fn locks_until_killed(map: &Map) -> Child {
    let locked = Bell::new();
    let other = fork(|| {
        let _guard = map.lock_key(b"k", NOWAIT).unwrap();
        locked.ring();
        loop {
            std::thread::park();
        }
    });
    locked.hear();
    other
}

#[test]
fn a_locked_key_keeps_others_from_locking_it_and_from_nothing_else() {
    let _alone = alone();
    let map = map();
    let (locked, done) = (Bell::new(), Bell::new());
    let other = fork(|| {
        let guard = map.lock_key(b"k", NOWAIT).unwrap();
        assert!(!guard.owner_died());
        locked.ring();
        done.hear();
    });
    locked.hear();
    assert_eq!(map.lock_key(b"k", NOWAIT).unwrap_err(), Error::Timeout);
    assert_eq!(map.lock_key(b"k", millis(5)).unwrap_err(), Error::Timeout);
    drop(map.lock_key(b"another", NOWAIT).unwrap());
    map.set(b"k", b"v").unwrap();
    done.ring();
    let guard = map.lock_key(b"k", FOREVER).unwrap();
    assert!(!guard.owner_died());
    other.ends_well();
    drop(guard);
    map.verify().unwrap();
}

#[test]
fn a_thread_that_locks_a_key_twice_gets_an_error_and_another_waits() {
    let _alone = alone();
    let map = map();
    let guard = map.lock_key(b"k", FOREVER).unwrap();
    let err = map.lock_key(b"k", FOREVER).unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }), "{err}");
    let err = map.update(b"k", |_| None).unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }), "{err}");
    thread::scope(|scope| {
        let other = scope.spawn(|| map.lock_key(b"k", NOWAIT).map(drop));
        assert_eq!(other.join().unwrap(), Err(Error::Timeout));
        // By any thread.
        scope.spawn(move || drop(guard)).join().unwrap();
    });
    drop(map.lock_key(b"k", NOWAIT).unwrap());
}

#[test]
fn the_lock_of_a_killed_process_goes_to_the_next_with_owner_died() {
    let _alone = alone();
    let map = map();
    let other = locks_until_killed(&map);
    let mut waiter = fork(|| assert!(map.lock_key(b"k", FOREVER).unwrap().owner_died()));
    waiter.wait_asleep();
    other.kill();
    waiter.ends_well();
    // The waiter has released it by then.
    assert!(!map.lock_key(b"k", NOWAIT).unwrap().owner_died());
}

/// Longer than a waiter sleeps before it looks again, and reserves the lock.
const ANOTHER_LOOK: Duration = Duration::from_millis(250);

#[test]
fn a_waiter_that_got_the_lock_of_a_dead_process_reserves_it_no_more() {
    let _alone = alone();
    let map = map();
    let other = locks_until_killed(&map);
    let mut waiter = fork(|| assert!(map.lock_key(b"k", FOREVER).unwrap().owner_died()));
    waiter.wait_asleep();
    std::thread::sleep(ANOTHER_LOOK);
    other.kill();
    waiter.ends_well();
    drop(map.lock_key(b"k", NOWAIT).unwrap());
}

#[test]
fn a_waiter_whose_wait_timed_out_reserves_the_lock_no_more() {
    let _alone = alone();
    let map = map();
    let guard = map.lock_key(b"k", NOWAIT).unwrap();
    fork(|| {
        let gave_up = map.lock_key(b"k", Timeout::Val(ANOTHER_LOOK));
        assert_eq!(gave_up.unwrap_err(), Error::Timeout);
    })
    .ends_well();
    drop(guard);
    fork(|| drop(map.lock_key(b"k", NOWAIT).unwrap())).ends_well();
}

#[test]
fn a_forked_child_has_no_lock_of_its_parents() {
    let _alone = alone();
    let map = map();
    let guard = map.lock_key(b"k", NOWAIT).unwrap();
    fork(|| {
        // SAFETY: the child's own copy, which nothing else drops: it leaves without cleaning up.
        drop(unsafe { std::ptr::read(&guard) });
    })
    .ends_well();
    fork(|| assert_eq!(map.lock_key(b"k", NOWAIT).unwrap_err(), Error::Timeout)).ends_well();
}

#[test]
fn a_child_that_drops_its_parents_guard_keeps_what_it_has_locked_itself() {
    let _alone = alone();
    let map = map();
    let mut guard = Some(map.lock_key(b"k", NOWAIT).unwrap());
    let (unlocked, locked, done) = (Bell::new(), Bell::new(), Bell::new());
    let child = fork(|| {
        unlocked.hear();
        let _own = map.lock_key(b"k", NOWAIT).unwrap();
        drop(guard.take());
        locked.ring();
        done.hear();
    });
    drop(guard.take());
    unlocked.ring();
    locked.hear();
    let taken = map.lock_key(b"k", NOWAIT).map(drop);
    assert_eq!(taken.unwrap_err(), Error::Timeout);
    done.ring();
    child.ends_well();
}

#[test]
fn a_child_that_is_forked_in_an_update_does_not_change_the_value() {
    let _alone = alone();
    let map = map();
    map.set(b"n", b"old").unwrap();
    let mut is_child = false;
    let updated = map.update(b"n", |_| {
        // SAFETY: the child ends when the call has returned.
        let pid = unsafe { libc::fork() };
        is_child = pid == 0;
        if is_child {
            return Some(b"of the child".to_vec());
        }
        let mut status = 0;
        // SAFETY: our own child, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        Some(b"new".to_vec())
    });
    if is_child {
        let is_refused = matches!(updated, Err(Error::Invalid { .. }));
        // SAFETY: ends the child here and now.
        unsafe { libc::_exit((!is_refused).into()) }
    }
    assert_eq!(updated.unwrap().unwrap(), b"new");
    assert_eq!(map.get_vec(b"n").unwrap().unwrap(), b"new");
}

#[test]
fn updates_of_a_key_by_many_processes_are_all_counted() {
    let _alone = alone();
    let map = map();
    const TIMES: u64 = 300;
    let count = |old: Option<&[u8]>| {
        let old = old.map_or(0, |old| u64::from_le_bytes(old.try_into().unwrap()));
        Some((old + 1).to_le_bytes().to_vec())
    };
    let workers: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..TIMES {
                    map.update(b"n", count).unwrap();
                }
            })
        })
        .collect();
    workers
        .into_iter()
        .for_each(crate::common::Child::ends_well);
    assert_eq!(
        map.get_vec(b"n").unwrap().unwrap(),
        (4 * TIMES).to_le_bytes()
    );
}

#[test]
fn an_update_sees_a_value_that_others_set_meanwhile() {
    let _alone = alone();
    let map = map();
    let mut seen = Vec::new();
    let new = map.update(b"k", |old| {
        seen.push(old.map(<[u8]>::to_vec));
        if seen.len() == 1 {
            map.set(b"k", b"theirs").unwrap();
        }
        Some(b"ours".to_vec())
    });
    assert_eq!(new.unwrap().as_deref(), Some(&b"ours"[..]));
    assert_eq!(seen, [None, Some(b"theirs".to_vec())]);
    assert_eq!(map.update(b"k", |_| None).unwrap(), None);
    assert!(!map.contains(b"k").unwrap());
}

#[test]
fn locks_beyond_the_capacity_of_a_shard_wait() {
    let _turn = beside_others();
    let map = map();
    let mut guards = Vec::new();
    let (key, err) = loop {
        let key = guards.len().to_le_bytes();
        match map.lock_key(&key, FOREVER) {
            Ok(guard) => guards.push(guard),
            Err(err) => break (key, err),
        }
    };
    // Otherwise this thread would wait for itself.
    assert_eq!(
        err.to_string(),
        "no more than 12 locks of one thread in this part of the map fit"
    );
    assert!(guards.len() >= 12);
    thread::scope(|scope| {
        let at_once = scope.spawn(|| map.lock_key(&key, NOWAIT).map(drop));
        assert_eq!(at_once.join().unwrap(), Err(Error::Timeout));
        let waits = scope.spawn(|| map.lock_key(&key, FOREVER).map(drop));
        guards.clear();
        waits.join().unwrap().unwrap();
    });
    drop(map.lock_key(&key, NOWAIT).unwrap());
}

#[test]
fn a_view_does_not_change_when_its_key_changes() {
    let _alone = alone();
    let map = map();
    let change: [&dyn Fn(); 4] = [
        &|| map.set(b"k", b"new").unwrap(),
        &|| assert!(map.remove(b"k").unwrap()),
        &|| map.clear().unwrap(),
        &|| {
            for _ in 0..50 {
                map.set(b"k", &[9; 700]).unwrap();
            }
        },
    ];
    for len in [0, 40, 700, 100_000, 1 << 20] {
        for change in change {
            let value = vec![len as u8 | 1; len];
            map.set(b"k", &value).unwrap();
            let first = map.view(b"k").unwrap().unwrap();
            let second = map.view(b"k").unwrap().unwrap();
            assert_eq!(first.version(), map.version_of(b"k").unwrap());
            change();
            // New values must not be written where they read.
            for i in 0..20u8 {
                map.set(&[i], &vec![0xEE; len]).unwrap();
            }
            map.verify().unwrap();
            assert!(first[..] == value[..] && second[..] == value[..]);
            drop(first);
            map.verify().unwrap();
            assert!(second[..] == value[..]);
            drop(second);
            map.verify().unwrap();
        }
    }
    assert!(map.view(b"absent").unwrap().is_none());
}

#[test]
fn the_memory_that_a_view_kept_is_freed_with_it() {
    let _alone = alone();
    let map = map();
    map.set(b"k", &vec![1; 4 << 20]).unwrap();
    let view = map.view(b"k").unwrap().unwrap();
    assert!(map.remove(b"k").unwrap());
    let kept = bytes_in_use(&map);
    drop(view);
    assert!(bytes_in_use(&map) + (3 << 20) < kept);
    map.verify().unwrap();
}

/// A process that has a view of the key "k" until it is killed.
fn viewer(map: &Map) -> Child {
    let viewed = Bell::new();
    let viewer = fork(|| {
        let _view = map.view(b"k").unwrap().unwrap();
        viewed.ring();
        loop {
            std::thread::park();
        }
    });
    viewed.hear();
    viewer
}

#[test]
fn the_views_of_a_killed_process_are_released() {
    let _alone = alone();
    let map = map();
    map.set(b"k", &vec![1; 4 << 20]).unwrap();
    let reader = viewer(&map);
    map.set(b"k", b"small").unwrap();
    let kept = bytes_in_use(&map);
    reader.kill();
    drop(map.view(b"k").unwrap().unwrap());
    assert!(bytes_in_use(&map) + (3 << 20) < kept);
    map.verify().unwrap();
}

#[test]
fn the_holds_of_dead_processes_are_released_when_slots_are_needed() {
    let _alone = alone();
    let large = vec![1; 1_040_000];
    let writes: [fn(&Map, &[u8]); 4] = [
        |map, value| map.set(b"other", value).unwrap(),
        |map, value| map.set_many(&[(b"other", value)]).unwrap(),
        |map, value| assert!(map.insert(b"other", value).unwrap()),
        // Below the size from which values are written without the lock.
        |map, value| {
            let mut parts = value.chunks(200_000).zip(0u64..);
            parts.all(|(part, at)| map.set(&at.to_le_bytes(), part).is_ok());
            assert_eq!(map.len().unwrap(), 8);
        },
    ];
    for write in writes {
        let options = Options::create().max_capacity(2 << 20);
        let map = Map::with_options(None, &options).unwrap();
        map.set(b"k", &large).unwrap();
        map.set(b"more", &large[..100_000]).unwrap();
        let reader = viewer(&map);
        map.set(b"k", b"small").unwrap();
        let err = map.set(b"other", &large).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        reader.kill();
        write(&map, &large);
        map.verify().unwrap();
    }
}

#[test]
fn a_shard_with_too_many_views_returns_an_error() {
    let _alone = alone();
    let map = map();
    map.set(b"k", b"v").unwrap();
    let views: Vec<_> = (0..12).map(|_| map.view(b"k").unwrap().unwrap()).collect();
    let err = map.view(b"k").unwrap_err();
    assert!(matches!(err, Error::Exhausted { limit: 12, .. }), "{err}");
    // Large values are then written and read under the lock.
    map.set(b"k", &vec![3; 1 << 20]).unwrap();
    assert!(map.get_vec(b"k").unwrap().unwrap() == vec![3; 1 << 20]);
    assert!(views.iter().all(|view| view[..] == *b"v"));
    drop(views);
    drop(map.view(b"k").unwrap().unwrap());
    map.verify().unwrap();
}

#[test]
fn a_large_value_that_does_not_fit_leaves_the_old_one() {
    let _alone = alone();
    let options = Options::create().max_capacity(2 << 20);
    let map = Map::with_options(None, &options).unwrap();
    map.set(b"k", &vec![1; 900_000]).unwrap();
    map.set(b"j", &vec![2; 900_000]).unwrap();
    let err = map.set(b"k", &vec![3; 900_000]).unwrap_err();
    assert!(matches!(err, Error::NoSpace { .. }), "{err}");
    assert!(map.get_vec(b"k").unwrap().unwrap() == vec![1; 900_000]);
    map.verify().unwrap();
    assert!(map.remove(b"j").unwrap());
    map.set(b"k", &vec![3; 900_000]).unwrap();
    map.verify().unwrap();
}

#[test]
fn values_that_dead_processes_held_are_freed_by_clear_and_by_purge() {
    let _alone = alone();
    for free in [|map: &Map| map.clear(), |map: &Map| map.purge().map(drop)] {
        let map = map();
        map.set(b"k", &vec![1; 4 << 20]).unwrap();
        let viewed = Bell::new();
        let reader = fork(|| {
            let _view = map.view(b"k").unwrap().unwrap();
            viewed.ring();
            loop {
                std::thread::park();
            }
        });
        viewed.hear();
        assert!(map.remove(b"k").unwrap());
        reader.kill();
        // Nothing else asks about the dead reader.
        assert!(bytes_in_use(&map) > 4 << 20);
        free(&map).unwrap();
        assert!(bytes_in_use(&map) < 1 << 20);
        map.verify().unwrap();
    }
}
