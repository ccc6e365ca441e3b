//! Relays that die, and those that take over.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::{Bell, FOREVER, NOWAIT, alone, fork, millis};
use crate::{attach, attach_map, relayed, relayed_map};
use shoal::{Error, MapRelay, QueueRelay, RelayOptions, SettlementKind};

/// A process that is the relay of the queue, and has taken a request and a settlement.
fn other_relay(queue: &Arc<shoal::Queue>) -> crate::common::Child {
    let ready = Bell::new();
    let child = fork(|| {
        let relay = attach(queue);
        let _request = relay.next_request(FOREVER).unwrap();
        let _settlement = relay.next_settlement(FOREVER).unwrap();
        ready.ring();
        loop {
            thread::park();
        }
    });
    ready.hear();
    child
}

#[test]
fn the_second_relay_waits_and_takes_over_unfinished_requests() {
    let _turn = alone();
    let (queue, relay) = relayed();
    queue.put(b"request", NOWAIT).unwrap();
    relay.deliver(b"done", 0, b"token", NOWAIT).unwrap();
    relay.deliver(b"waits", 0, b"other token", NOWAIT).unwrap();
    queue.lease(NOWAIT).unwrap().ack().unwrap();
    let id = relay.next_request(NOWAIT).unwrap().id();
    drop(relay);
    let first = other_relay(&queue);
    let attach_within =
        |timeout| QueueRelay::attach(Arc::clone(&queue), &RelayOptions::new(), timeout);
    assert_eq!(attach_within(NOWAIT).map(drop), Err(Error::Timeout));
    assert_eq!(attach_within(millis(20)).map(drop), Err(Error::Timeout));
    let relay = thread::scope(|scope| {
        let second = scope.spawn(|| attach_within(FOREVER).unwrap());
        thread::sleep(Duration::from_millis(20));
        assert!(!second.is_finished());
        first.kill();
        second.join().unwrap()
    });
    assert!(relay.took_over());
    // At most a tenth of a second later the next check finds the dead relay's leases.
    let request = relay.next_request(FOREVER).unwrap();
    assert_eq!((request.id(), &request[..]), (id, &b"request"[..]));
    assert!(request.attempts() > 1);
    let settlement = relay.next_settlement(FOREVER).unwrap();
    assert_eq!(settlement.token(), b"token");
    assert_eq!(settlement.kind(), SettlementKind::Done);
    let outstanding = relay.outstanding().unwrap();
    assert_eq!(outstanding.len(), 1);
    assert_eq!(outstanding[0].token, b"other token");
    assert!(!outstanding[0].is_leased);
}

#[test]
fn a_relay_after_one_that_detached_did_not_take_over() {
    let _turn = alone();
    let (queue, relay) = relayed();
    assert!(!relay.took_over());
    drop(relay);
    let relay = attach(&queue);
    assert!(!relay.took_over());
}

#[test]
fn puts_while_the_relay_is_dead_wait_within_the_bounds() {
    let _turn = alone();
    let (queue, relay) = relayed();
    drop(relay);
    let options = RelayOptions::new().max_requests(3);
    let detached = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
    detached.detach(FOREVER).unwrap();
    let ready = Bell::new();
    let child = fork(|| {
        let _relay = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
        ready.ring();
        loop {
            thread::park();
        }
    });
    ready.hear();
    child.kill();
    for number in 0..3u8 {
        queue.put(&[number], NOWAIT).unwrap();
    }
    let full = queue.put(&[3], NOWAIT).unwrap_err();
    assert!(matches!(full, Error::RelayBehind { .. }));
    assert!(full.to_string().contains(".relay\""), "{full}");
    assert!(!queue.relay().unwrap().unwrap().is_running);
    let relay = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
    for number in 0..3u8 {
        let request = relay.next_request(FOREVER).unwrap();
        assert_eq!(request[..], [number]);
        request.done().unwrap();
    }
}

#[test]
fn the_relay_of_a_map_is_taken_over_with_its_requests_and_its_revision() {
    let _turn = alone();
    let (map, relay) = relayed_map();
    relay.deliver(b"key", b"value", 7, None).unwrap();
    relay.set_revision(7).unwrap();
    drop(relay);
    map.set(b"key", b"new").unwrap();
    let ready = Bell::new();
    let first = fork(|| {
        let relay = attach_map(&map);
        let _request = relay.next_request(FOREVER).unwrap();
        ready.ring();
        loop {
            thread::park();
        }
    });
    ready.hear();
    let second = MapRelay::attach(Arc::clone(&map), &RelayOptions::new(), NOWAIT);
    assert_eq!(second.map(drop), Err(Error::Timeout));
    first.kill();
    let relay = attach_map(&map);
    assert!(relay.took_over());
    assert_eq!(relay.revision(), 7);
    let request = relay.next_request(FOREVER).unwrap();
    assert_eq!((request.key(), request.attempts()), (&b"key"[..], 2));
    assert_eq!(map.get_versioned(b"key"), Ok(Some((b"value".to_vec(), 7))));
}

#[test]
fn ending_the_waits_of_a_handle_ends_its_wait_for_the_role() {
    let _turn = alone();
    let ((queue, relay), (map, map_relay)) = (relayed(), relayed_map());
    let other = Arc::new(shoal::Queue::open(queue.name()).unwrap());
    let other_map = Arc::new(shoal::Map::open(map.name()).unwrap());
    thread::scope(|scope| {
        let queues = Arc::clone(&other);
        let waits =
            scope.spawn(|| QueueRelay::attach(queues, &RelayOptions::new(), FOREVER).map(drop));
        let maps = Arc::clone(&other_map);
        let maps_wait =
            scope.spawn(|| MapRelay::attach(maps, &RelayOptions::new(), FOREVER).map(drop));
        thread::sleep(Duration::from_millis(20));
        other.end_waits();
        other_map.end_waits();
        assert_eq!(waits.join().unwrap(), Err(Error::Detached));
        assert_eq!(maps_wait.join().unwrap(), Err(Error::Detached));
    });
    drop((relay, map_relay));
    // What need not wait goes on.
    drop(attach(&other));
    drop(attach_map(&other_map));
}
