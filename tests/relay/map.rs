//! A map with a relay, as programs and as the relay sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, alone, beside_others, fork, millis};
use crate::{Server, attach_map, relayed_map};
use shoal::{Error, Map, MapChange, MapRelay, Options, RelayOptions, SwapTo};

/// Runs `program` beside a relay that serves it.
fn served<T: Send>(relay: &MapRelay, program: impl FnOnce() -> T + Send) -> T {
    let mut server = Server::default();
    served_by(&mut server, relay, program)
}

fn served_by<T: Send>(
    server: &mut Server,
    relay: &MapRelay,
    program: impl FnOnce() -> T + Send,
) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                server.serve_all(relay, millis(5));
            }
        });
        // A panic of the test has to end the server too.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _over = Over(&over);
        program()
    })
}

#[test]
fn every_change_becomes_a_request_and_the_map_does_not_change() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let large = vec![9; 400_000];
    map.set(b"a", b"1").unwrap();
    map.set_for(b"b", b"2", Duration::from_secs(3000)).unwrap();
    map.set(b"large", &large).unwrap();
    map.set_many(&[(b"c", b"3"), (b"d", b"4")]).unwrap();
    assert_eq!(map.len(), Ok(0));

    let request = relay.next_request(NOWAIT).unwrap();
    let set = MapChange::Set {
        value: b"1",
        life: None,
    };
    assert_eq!((request.key(), request.change()), (&b"a"[..], set));
    assert!(!request.is_asking());
    let first = request.id();
    request.done().unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    assert_ne!(request.id(), first);
    let MapChange::Set {
        value: b"2",
        life: Some(life),
    } = request.change()
    else {
        panic!("{:?}", request.change())
    };
    assert!(life <= Duration::from_secs(3000) && life > Duration::from_secs(2000));
    request.done().unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    assert_eq!(
        request.change(),
        MapChange::Set {
            value: &large,
            life: None
        }
    );
    request.done().unwrap();
    let mut many: Vec<_> = (0..2)
        .map(|_| {
            let request = relay.next_request(NOWAIT).unwrap();
            let key = request.key().to_vec();
            request.done().unwrap();
            key
        })
        .collect();
    many.sort();
    assert_eq!(many, [b"c", b"d"]);
    relay.deliver(b"a", b"1", 1, None).unwrap();
    relay.deliver(b"b", b"2", 2, None).unwrap();
    map.clear().unwrap();
    let mut cleared: Vec<_> = (0..2)
        .map(|_| {
            let request = relay.next_request(NOWAIT).unwrap();
            assert_eq!(request.change(), MapChange::Remove);
            let key = request.key().to_vec();
            request.done().unwrap();
            key
        })
        .collect();
    cleared.sort();
    assert_eq!(cleared, [b"a", b"b"]);
    assert_eq!(map.len(), Ok(2));
    map.verify().unwrap();
}

#[test]
fn a_delivered_value_has_its_revision_and_no_older_one_replaces_it() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let large = vec![1; 300_000];
    assert_eq!(relay.deliver(b"k", b"ten", 10, None), Ok(true));
    assert_eq!(map.version_of(b"k"), Ok(10));
    assert_eq!(relay.deliver(b"k", b"nine", 9, None), Ok(false));
    assert_eq!(relay.deliver(b"k", b"again", 10, None), Ok(false));
    assert_eq!(relay.remove(b"k", 10), Ok(false));
    assert_eq!(map.get_versioned(b"k"), Ok(Some((b"ten".to_vec(), 10))));
    // Another key of a lower revision, wherever it lies.
    for number in 0..500u64 {
        let key = number.to_le_bytes();
        assert_eq!(relay.deliver(&key, b"x", 1000 - number, None), Ok(true));
        assert_eq!(map.version_of(&key), Ok(1000 - number));
    }
    assert_eq!(
        relay.deliver(b"k", &large, 11, Some(Duration::from_secs(9000))),
        Ok(true)
    );
    assert_eq!(map.get_versioned(b"k"), Ok(Some((large, 11))));
    assert!(map.time_left(b"k").unwrap().unwrap().unwrap() > Duration::from_secs(8000));
    assert_eq!(relay.remove(b"k", 12), Ok(true));
    assert_eq!(map.get_vec(b"k"), Ok(None));
    assert_eq!(relay.remove(b"k", 13), Ok(true), "there was nothing newer");
    for bad in [0, 1 << 63, u64::MAX] {
        assert!(matches!(
            relay.deliver(b"k", b"", bad, None),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(
            relay.remove(b"k", bad),
            Err(Error::Invalid { .. })
        ));
    }
    map.verify().unwrap();
}

#[test]
fn watchers_see_a_delivery_as_a_change() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let before = map.version();
    thread::scope(|scope| {
        let key = scope.spawn(|| map.wait_key(b"k", 0, FOREVER).unwrap());
        let any = scope.spawn(|| map.wait_change(before, FOREVER).unwrap());
        thread::sleep(Duration::from_millis(10));
        relay.deliver(b"k", b"v", 77, None).unwrap();
        assert_eq!(key.join().unwrap(), 77);
        assert_ne!(any.join().unwrap(), before);
    });
    let (_, watched) = map.get_watched(b"k", &mut [0]).unwrap().unwrap();
    let watched = watched.unwrap();
    assert!(watched.is_current());
    relay.deliver(b"k", b"w", 78, None).unwrap();
    assert!(!watched.is_current());
}

#[test]
fn changes_that_depend_on_the_old_value_wait_for_the_answer() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    served(&relay, || {
        assert_eq!(map.insert(b"k", b"1"), Ok(true));
        assert_eq!(map.insert(b"k", b"2"), Ok(false));
        assert_eq!(map.get_vec(b"k"), Ok(Some(b"1".to_vec())));
        assert_eq!(map.compare_swap(b"k", Some(b"0"), Some(b"3")), Ok(false));
        assert_eq!(map.compare_swap(b"k", Some(b"1"), Some(b"3")), Ok(true));
        let (value, version) = map.get_versioned(b"k").unwrap().unwrap();
        assert_eq!(value, b"3");
        assert_eq!(
            map.compare_swap_version(b"k", version + 1, Some(b"4")),
            Ok(false)
        );
        assert_eq!(
            map.compare_swap_version(b"k", version, Some(b"4")),
            Ok(true)
        );
        assert_eq!(map.take(b"k"), Ok(Some(b"4".to_vec())));
        assert_eq!(map.take(b"k"), Ok(None));
        assert_eq!(map.remove(b"k"), Ok(false));
        assert_eq!(map.add(b"n", 5), Ok(5));
        assert_eq!(map.add(b"n", -7), Ok(-2));
        assert_eq!(map.add_f64(b"f", 0.5), Ok(0.5));
        assert_eq!(map.add_f64(b"f", 0.25), Ok(0.75));
        assert_eq!(map.remove(b"n"), Ok(true));
        assert_eq!(map.remove(b"n"), Ok(false));
        let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"x"].concat());
        assert_eq!(map.update(b"log", append), Ok(Some(b"x".to_vec())));
        assert_eq!(map.update(b"log", append), Ok(Some(b"xx".to_vec())));
        assert_eq!(map.expire(b"log", Some(Duration::from_secs(5))), Ok(true));
        assert_eq!(map.expire(b"none", None), Ok(false));
        let mut small = [0; 1];
        let refused = map.take_into(b"log", &mut small);
        assert_eq!(
            refused,
            Err(Error::BufferTooSmall {
                needed: 2,
                capacity: 1
            })
        );
        let mut buf = [0; 3];
        assert_eq!(map.take_into(b"log", &mut buf), Ok(Some(2)));
        assert_eq!(&buf, b"xx\0");
    });
    map.verify().unwrap();
    assert_eq!(answers_of(&map).len(), Ok(0));
}

fn answers_of(map: &Map) -> Map {
    Map::open(&format!("{}.answers", map.name())).unwrap()
}

#[test]
fn a_process_sees_its_own_set_in_a_dependent_change() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    served(&relay, || {
        for round in 0..50u8 {
            map.set(b"k", &[round]).unwrap();
            assert_eq!(map.compare_swap(b"k", Some(&[round]), Some(b"x")), Ok(true));
            map.set(b"k", &[round]).unwrap();
            assert_eq!(map.remove(b"k"), Ok(true), "round {round}");
            map.set(b"k", &[round]).unwrap();
            assert_eq!(map.take(b"k"), Ok(Some(vec![round])));
        }
    });
}

#[test]
fn sets_wait_if_the_relay_requests_it() {
    let _turn = beside_others();
    let map = crate::new_map(&Options::create());
    let options = RelayOptions::new().sets_wait();
    let relay = MapRelay::attach(Arc::clone(&map), &options, FOREVER).unwrap();
    served(&relay, || {
        for round in 0..100u8 {
            map.set(b"k", &[round]).unwrap();
            assert_eq!(map.get_vec(b"k"), Ok(Some(vec![round])));
        }
    });
}

#[test]
fn a_swap_that_lost_against_another_machine_is_decided_again() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    relay.deliver(b"n", &1i64.to_le_bytes(), 5, None).unwrap();
    thread::scope(|scope| {
        let adds = scope.spawn(|| map.add(b"n", 10));
        let request = relay.next_request(FOREVER).unwrap();
        assert!(request.is_asking());
        let new = SwapTo::Value {
            value: &11i64.to_le_bytes(),
            life: None,
        };
        assert_eq!(request.change(), MapChange::Swap { version: 5, new });
        // Another machine has set it to 100 meanwhile. The answer arrives before the delivery of that value.
        request.conflict().unwrap();
        thread::sleep(Duration::from_millis(5));
        relay.deliver(b"n", &100i64.to_le_bytes(), 8, None).unwrap();
        let request = loop {
            let request = relay.next_request(FOREVER).unwrap();
            match request.change() {
                MapChange::Swap { version: 8, .. } => break request,
                _ => request.conflict().unwrap(),
            }
        };
        relay.deliver(b"n", &110i64.to_le_bytes(), 9, None).unwrap();
        request.done().unwrap();
        assert_eq!(adds.join().unwrap(), Ok(110));
    });
}

#[test]
fn a_call_without_an_answer_ends_in_time_and_names_the_companion() {
    let _turn = beside_others();
    let map = crate::new_map(&Options::create());
    let options = RelayOptions::new()
        .wait(Duration::from_millis(30))
        .max_requests(3)
        .max_payload(1000);
    let relay = MapRelay::attach(Arc::clone(&map), &options, FOREVER).unwrap();
    let behind = |suffix| Error::RelayBehind {
        name: format!("{}.{suffix}", map.name()),
    };
    assert_eq!(map.add(b"n", 1), Err(behind("answers")));
    map.set(b"k", b"1").unwrap();
    map.set(b"k", b"2").unwrap();
    assert_eq!(map.set(b"k", b"3"), Err(behind("relay")));
    assert!(matches!(
        map.set(b"k", &[0; 1001]),
        Err(Error::TooLarge {
            what: "value",
            size: 1001,
            limit: 1000
        })
    ));
    // Its answer comes too late, and expires.
    let request = relay.next_request(NOWAIT).unwrap();
    request.done().unwrap();
    let answers = answers_of(&map);
    assert_eq!((answers.len(), answers.expiring()), (Ok(1), 1));
}

#[test]
fn a_refusal_of_the_relay_is_an_error_with_the_reason() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    thread::scope(|scope| {
        let inserts = scope.spawn(|| map.insert(b"k", b"v"));
        let request = relay.next_request(FOREVER).unwrap();
        request
            .refuse("the server takes no keys that begin with k")
            .unwrap();
        let err = inserts.join().unwrap().unwrap_err();
        assert!(matches!(err, Error::Unsupported { .. }));
        assert!(err.to_string().contains("keys that begin with k"), "{err}");
    });
}

#[test]
fn an_unknown_outcome_is_no_conflict() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let asks: [fn(&Map) -> shoal::Result<bool>; 2] = [
        |map| map.insert(b"k", b"v"),
        |map| map.compare_swap_version(b"k", 0, Some(b"v")),
    ];
    for ask in asks {
        thread::scope(|scope| {
            let asks = scope.spawn(|| ask(&map));
            relay.next_request(FOREVER).unwrap().unknown().unwrap();
            let err = asks.join().unwrap().unwrap_err();
            assert!(matches!(err, Error::RelayBehind { .. }), "{err}");
        });
    }
}

#[test]
fn locks_of_keys_are_refused() {
    let _turn = beside_others();
    let (map, _relay) = relayed_map();
    let err = map.lock_key(b"k", FOREVER).unwrap_err();
    assert!(matches!(err, Error::Unsupported { .. }));
    assert!(err.to_string().contains("compare_swap_version"), "{err}");
}

#[test]
fn a_map_with_keys_becomes_relayed_only_if_they_may_be_discarded() {
    let _turn = beside_others();
    let map = crate::new_map(&Options::create());
    map.set(b"old", b"1").unwrap();
    let refused = MapRelay::attach(Arc::clone(&map), &RelayOptions::new(), FOREVER).unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    assert!(!map.is_relayed());
    map.set(b"more", b"2").unwrap();
    assert_eq!(map.len(), Ok(2));
    for name in ["relay", "answers"] {
        assert!(shoal::stat(&format!("{}.{name}", map.name())).is_err());
    }
    let options = RelayOptions::new().discard();
    let relay = MapRelay::attach(Arc::clone(&map), &options, FOREVER).unwrap();
    assert_eq!(map.len(), Ok(0));
    assert_eq!(relay.revision(), 0);
    relay.deliver(b"old", b"new", 1, None).unwrap();
    drop(relay);
    // It is relayed already: its keys were delivered, and stay.
    let relay = MapRelay::attach(Arc::clone(&map), &options, FOREVER).unwrap();
    assert_eq!(map.version_of(b"old"), Ok(1));
    drop(relay);
}

#[test]
fn detaching_applies_pending_requests_locally_and_answers() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    relay.deliver(b"n", &5i64.to_le_bytes(), 70, None).unwrap();
    map.set(b"k", b"v").unwrap();
    thread::scope(|scope| {
        let adds = scope.spawn(|| map.add(b"n", 1));
        while map.relay().unwrap().unwrap().requests < 2 {
            thread::yield_now();
        }
        relay.detach(FOREVER).unwrap();
        assert_eq!(adds.join().unwrap(), Ok(6));
    });
    assert!(!map.is_relayed());
    assert_eq!(map.relay(), Ok(None));
    assert_eq!(map.get_vec(b"k"), Ok(Some(b"v".to_vec())));
    let version = map.version_of(b"n").unwrap();
    assert!(
        version > 70,
        "local versions go on above what was delivered"
    );
    map.set(b"n", b"x").unwrap();
    assert!(map.version_of(b"n").unwrap() > version);
    map.lock_key(b"n", NOWAIT).unwrap();
    map.verify().unwrap();
}

#[test]
fn an_ordered_map_keeps_the_order_in_which_keys_were_first_delivered() {
    let _turn = beside_others();
    let map = crate::new_map(&Options::create().ordered());
    let relay = attach_map(&map);
    for (revision, key) in (1..).zip([b"b", b"a", b"c", b"b"]) {
        relay.deliver(key, b"v", revision, None).unwrap();
    }
    let large = vec![0; 300_000];
    relay.deliver(b"d", &large, 9, None).unwrap();
    let keys: Vec<_> = map.iter().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys, [b"b", b"a", b"c", b"d"]);
    map.verify().unwrap();
}

#[test]
fn a_forked_child_asks_the_relay_like_its_parent() {
    let _turn = alone();
    let (map, relay) = relayed_map();
    let child = fork(|| {
        assert_eq!(map.insert(b"k", b"child"), Ok(true));
        assert!(matches!(
            relay.deliver(b"x", b"", 1, None),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(
            relay.next_request(NOWAIT),
            Err(Error::Invalid { .. })
        ));
    });
    let mut server = Server::default();
    server.serve(&relay, relay.next_request(FOREVER).unwrap());
    child.ends_well();
    assert_eq!(map.get_vec(b"k"), Ok(Some(b"child".to_vec())));
}

#[test]
fn ending_the_waits_of_a_map_ends_its_waits_for_the_relay() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let program = Map::open(map.name()).unwrap();
    thread::scope(|scope| {
        let adds = scope.spawn(|| program.add(b"n", 1));
        let takes = scope.spawn(|| {
            drop(relay.next_request(FOREVER));
            relay.next_request(FOREVER).map(drop)
        });
        thread::sleep(Duration::from_millis(20));
        program.end_waits();
        assert_eq!(adds.join().unwrap(), Err(Error::Detached));
        relay.end_waits();
        let _ = takes.join().unwrap();
    });
}

#[test]
fn a_signal_handler_that_runs_ends_no_wait_for_an_answer() {
    let _turn = alone();
    extern "C" fn handle(_: i32) {}
    let (map, relay) = relayed_map();
    let mut asker = fork(|| {
        // SAFETY: a handler that does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        assert_eq!(map.add(b"n", 1), Ok(1));
    });
    let request = relay.next_request(FOREVER).unwrap();
    for _ in 0..20 {
        asker.signal(libc::SIGUSR1);
        thread::sleep(Duration::from_millis(3));
    }
    assert!(!asker.has_ended());
    Server::default().serve(&relay, request);
    asker.ends_well();
}

#[test]
fn hostile_bytes_among_the_answers_are_an_error() {
    let _turn = beside_others();
    let (map, relay) = relayed_map();
    let answers = answers_of(&map);
    let requests = shoal::Queue::open(&format!("{}.relay", map.name())).unwrap();
    thread::scope(|scope| {
        let adds = scope.spawn(|| map.add(b"n", 1));
        let mut frame = [0; 64];
        while requests.peek(0, &mut [0; 200]).unwrap().is_none() {
            thread::yield_now();
        }
        let mut buf = [0; 200];
        requests.peek(0, &mut buf).unwrap();
        frame.copy_from_slice(&buf[..64]);
        answers.set(&frame[24..40], b"nonsense").unwrap();
        assert!(matches!(adds.join().unwrap(), Err(Error::Corrupt { .. })));
    });
    drop(relay);
}
