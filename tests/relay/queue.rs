//! A queue with a relay, as programs and as the relay sees it.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, alone, beside_others, fork, millis};
use crate::{attach, relayed};
use shoal::{
    Error, Options, Queue, QueueRelay, RelayOptions, Settlement, SettlementKind, Waitable, wait_any,
};

fn settled(relay: &QueueRelay) -> Settlement {
    relay.next_settlement(millis(5_000)).unwrap()
}

#[test]
fn every_put_becomes_a_request_in_order() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let large = vec![7; 300_000];
    queue.put(b"put", NOWAIT).unwrap();
    queue.put(b"", NOWAIT).unwrap();
    queue.put(&large, NOWAIT).unwrap();
    assert_eq!(queue.put_many(&[b"one", b"two"], NOWAIT), Ok(2));
    let mut room = queue.reserve(5, NOWAIT).unwrap();
    room.copy_from_slice(b"place");
    assert_eq!(
        room.as_ptr().addr() % 64,
        0,
        "as aligned as without a relay"
    );
    room.commit_first(4).unwrap();
    queue.reserve(10, NOWAIT).unwrap().discard();

    assert!(queue.is_empty());
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    let expected: [&[u8]; 6] = [b"put", b"", &large, b"one", b"two", b"plac"];
    for (number, expected) in (1..).zip(expected) {
        let request = relay.next_request(NOWAIT).unwrap();
        assert_eq!((&request[..], request.id().number), (expected, number));
        assert_eq!(request.attempts(), 1);
        request.done().unwrap();
    }
    assert!(matches!(relay.next_request(NOWAIT), Err(Error::Timeout)));
}

#[test]
fn a_request_keeps_its_id_when_it_is_returned() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    queue.put(b"a", NOWAIT).unwrap();
    queue.put(b"b", NOWAIT).unwrap();
    let first = relay.next_request(NOWAIT).unwrap();
    let id = first.id();
    first.retry(Duration::ZERO).unwrap();
    let again = relay.next_request(NOWAIT).unwrap();
    assert_eq!(
        (again.id(), &again[..], again.attempts()),
        (id, &b"a"[..], 2)
    );
    drop(again);
    let again = relay.next_request(NOWAIT).unwrap();
    assert_eq!((again.id(), again.attempts()), (id, 3));
    again.done().unwrap();
    assert_ne!(relay.next_request(NOWAIT).unwrap().id(), id);
}

#[test]
fn extensions_do_not_pile_up_while_no_relay_runs() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    relay.deliver(b"long work", 0, b"token", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    drop(relay);
    for _ in 0..100 {
        lease.extend(Duration::from_secs(60)).unwrap();
    }
    lease.ack().unwrap();
    let next = attach(&queue);
    let settlement = settled(&next);
    assert_eq!(settlement.kind(), SettlementKind::Done);
    settlement.done().unwrap();
    assert!(next.next_settlement(NOWAIT).is_err());
}

#[test]
fn each_end_of_a_delivered_message_is_settled_with_its_token() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let deliver = |what: &str| {
        relay
            .deliver(what.as_bytes(), 0, what.as_bytes(), NOWAIT)
            .unwrap()
    };
    let next = |token: &str, kind: SettlementKind<'_>| {
        let settlement = settled(&relay);
        assert_eq!(settlement.token(), token.as_bytes());
        assert_eq!((settlement.kind(), settlement.attempts()), (kind, 1));
        settlement.done().unwrap();
    };

    deliver("acked");
    queue.lease(NOWAIT).unwrap().ack().unwrap();
    next("acked", SettlementKind::Done);

    let delay = Duration::from_millis(1500);
    deliver("nacked");
    queue.lease(NOWAIT).unwrap().nack(delay).unwrap();
    next("nacked", SettlementKind::Returned { delay });

    deliver("dropped");
    drop(queue.lease(NOWAIT).unwrap());
    let delay = Duration::ZERO;
    next("dropped", SettlementKind::Returned { delay });

    deliver("extended");
    let lease = queue.lease(NOWAIT).unwrap();
    let visible = Duration::from_secs(7);
    lease.extend(visible).unwrap();
    next("extended", SettlementKind::Extended { visible });
    lease.ack().unwrap();
    next("extended", SettlementKind::Done);

    deliver("late");
    let lease = queue.lease_for(Duration::from_millis(1), NOWAIT).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(
        queue.get_vec(NOWAIT),
        Err(Error::Timeout),
        "it is the relay's again"
    );
    next("late", SettlementKind::Returned { delay });
    assert_eq!(lease.ack(), Err(Error::Expired));

    deliver("got");
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"got");
    next("got", SettlementKind::Done);

    let (mut buf, mut lens) = (Vec::new(), Vec::new());
    deliver("many 1");
    deliver("many 2");
    assert_eq!(queue.get_many(&mut buf, &mut lens, 9, NOWAIT), Ok(2));
    assert_eq!((&buf[..], &lens[..]), (&b"many 1many 2"[..], &[6, 6][..]));
    next("many 1", SettlementKind::Done);
    next("many 2", SettlementKind::Done);

    assert_eq!(queue.unfinished(), Ok(0));
    assert!(relay.outstanding().unwrap().is_empty());
    assert!(relay.next_settlement(NOWAIT).is_err());
}

#[test]
fn attempts_continue_from_the_number_of_the_relay() {
    let _turn = beside_others();
    let options = Options::create().max_attempts(4);
    let queue = crate::new_queue(&options);
    let relay = attach(&queue);
    relay.deliver(b"job", 2, b"t", NOWAIT).unwrap();
    let job = queue.lease(NOWAIT).unwrap();
    assert_eq!(job.attempts(), 3);
    drop(job);
    let settlement = settled(&relay);
    assert_eq!(settlement.attempts(), 3);
    assert!(matches!(settlement.kind(), SettlementKind::Returned { .. }));
    settlement.done().unwrap();

    relay.deliver(b"job", 3, b"t", NOWAIT).unwrap();
    drop(queue.lease(NOWAIT).unwrap());
    let settlement = settled(&relay);
    assert_eq!(settlement.attempts(), 4);
    assert_eq!(
        settlement.kind(),
        SettlementKind::Exhausted { payload: b"job" }
    );
    assert!(queue.dead_letters().unwrap().is_empty(), "the relay has it");
    assert_eq!(queue.unfinished(), Ok(0));

    relay.deliver(b"job", 1_000, b"t", NOWAIT).unwrap();
    assert_eq!(queue.lease(NOWAIT).unwrap().attempts(), 255);
}

#[test]
fn the_message_of_a_worker_that_dies_goes_back_to_the_relay() {
    let _turn = alone();
    let (queue, relay) = relayed();
    relay.deliver(b"job", 0, b"token", NOWAIT).unwrap();
    let holder = crate::common::holder(&queue);
    let [outstanding] = &relay.outstanding().unwrap()[..] else {
        panic!("one is outstanding")
    };
    assert_eq!(
        (&outstanding.token[..], outstanding.attempts),
        (&b"token"[..], 1)
    );
    assert!(outstanding.is_leased);
    holder.kill();
    // Some process has to check the queue. A wait may lose its core for so long that it ends without a check.
    while queue.relay().unwrap().unwrap().settlements == 0 {
        assert_eq!(queue.get_vec(millis(200)), Err(Error::Timeout));
    }
    let settlement = settled(&relay);
    assert_eq!(settlement.token(), b"token");
    assert!(matches!(settlement.kind(), SettlementKind::Returned { .. }));
    assert!(relay.outstanding().unwrap().is_empty());
}

#[test]
fn without_a_live_relay_returned_messages_are_delivered_here() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    relay.deliver(b"job", 0, b"token", NOWAIT).unwrap();
    drop(relay);
    assert!(queue.is_relayed());
    assert!(!queue.relay().unwrap().unwrap().is_running);
    drop(queue.lease(NOWAIT).unwrap());
    let job = queue.lease_for(Duration::from_millis(1), NOWAIT).unwrap();
    assert_eq!(job.attempts(), 2);
    thread::sleep(Duration::from_millis(5));
    // The copy of a message whose worker was too slow has the token too.
    let copy = queue.lease(millis(1000)).unwrap();
    assert_eq!((&copy[..], copy.attempts()), (&b"job"[..], 3));
    assert_eq!(job.ack(), Err(Error::Expired));
    copy.ack().unwrap();

    let relay = attach(&queue);
    let settlement = settled(&relay);
    assert_eq!(
        (settlement.token(), settlement.attempts()),
        (&b"token"[..], 3)
    );
    assert_eq!(settlement.kind(), SettlementKind::Done);
}

#[test]
fn messages_without_a_token_and_those_from_before_are_plain_ones() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create());
    queue.put(b"before", NOWAIT).unwrap();
    let relay = attach(&queue);
    relay.deliver(b"plain", 0, b"", NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"before");
    let job = queue.lease(NOWAIT).unwrap();
    drop(job);
    assert_eq!(queue.lease(NOWAIT).unwrap().attempts(), 2);
    assert!(relay.next_settlement(NOWAIT).is_err());
    assert!(relay.outstanding().unwrap().is_empty());
}

#[test]
fn a_full_companion_is_an_error_that_names_it_and_room_ends_the_wait_of_a_put() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create());
    let options = RelayOptions::new().max_requests(2).max_payload(100);
    let relay = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
    queue.put(b"1", NOWAIT).unwrap();
    queue.put(b"2", NOWAIT).unwrap();
    let behind = Error::RelayBehind {
        name: format!("{}.relay", queue.name()),
    };
    assert_eq!(behind.status(), shoal::Status::ErrTimeout);
    let full = Err(behind);
    assert_eq!(queue.put(b"3", NOWAIT), full);
    assert_eq!(queue.put(b"3", millis(5)), full);
    assert_eq!(queue.put_many(&[b"3"], millis(5)).map(drop), full);
    assert_eq!(queue.reserve(1, millis(5)).map(drop), full);
    let too_large = queue.put(&[0; 101], NOWAIT).unwrap_err();
    assert_eq!(
        too_large.to_string(),
        "message of 101 bytes is larger than the limit of 100 bytes"
    );
    assert_eq!(queue.reserve(101, NOWAIT).map(drop), Err(too_large));
    thread::scope(|scope| {
        scope.spawn(|| queue.put(b"3", FOREVER).unwrap());
        for expected in [b"1", b"2", b"3"] {
            let request = relay.next_request(FOREVER).unwrap();
            assert_eq!(&request[..], expected);
            request.done().unwrap();
        }
    });
}

#[test]
fn a_message_that_can_never_fit_the_companion_is_refused_with_both_sizes() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create());
    let options = RelayOptions::new().max_bytes(4096);
    let _relay = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
    let expected = Err(Error::TooLarge {
        what: "message",
        size: 5000,
        limit: 4096 - 16 - 64,
    });
    assert_eq!(queue.put(&[0; 5000], NOWAIT), expected);
    assert_eq!(queue.reserve(5000, NOWAIT).map(drop), expected);
    queue.put(&[0; 4096 - 16 - 64], NOWAIT).unwrap();
}

#[test]
fn producers_that_wait_for_room_in_the_queue_go_to_the_relay_that_attaches() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create().max_items(1));
    queue.put(b"first", NOWAIT).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| queue.put(b"second", FOREVER));
        let reserves = scope.spawn(|| queue.reserve(1, FOREVER).map(|room| room.commit()));
        thread::sleep(Duration::from_millis(30));
        let relay = attach(&queue);
        waits.join().unwrap().unwrap();
        reserves.join().unwrap().unwrap().unwrap();
        let info = queue.relay().unwrap().unwrap();
        assert_eq!((info.requests, info.settlements), (2, 0));
        assert!(info.is_running);
        drop(relay);
    });
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_delivery_waits_for_room_and_a_full_queue_is_a_timeout() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create().max_items(2));
    let relay = attach(&queue);
    assert_eq!(relay.room().messages, 2);
    relay.deliver(b"1", 0, b"t", NOWAIT).unwrap();
    assert_eq!(relay.room().messages, 1);
    relay.deliver(b"2", 0, b"t", NOWAIT).unwrap();
    assert_eq!(relay.deliver(b"3", 0, b"t", NOWAIT), Err(Error::Timeout));
    assert_eq!(relay.deliver(b"3", 0, b"t", millis(5)), Err(Error::Timeout));
    thread::scope(|scope| {
        scope.spawn(|| relay.deliver(b"3", 0, b"t", FOREVER).unwrap());
        thread::sleep(Duration::from_millis(10));
        queue.get_vec(NOWAIT).unwrap();
    });
    assert_eq!(queue.len(), 2);
    let long = relay.deliver(b"", 0, &[0; 4097], NOWAIT);
    assert!(matches!(long, Err(Error::TooLarge { what: "token", .. })));
}

#[test]
fn a_closed_queue_takes_no_puts_and_no_deliveries() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    queue.put(b"1", NOWAIT).unwrap();
    queue.close().unwrap();
    assert_eq!(queue.put(b"2", FOREVER), Err(Error::Closed));
    assert_eq!(queue.reserve(1, FOREVER).map(drop), Err(Error::Closed));
    assert_eq!(relay.deliver(b"1", 0, b"", FOREVER), Err(Error::Closed));
    assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"1");
}

#[test]
fn descriptors_and_wait_any_are_ready_when_the_relay_has_work() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let [requests, settlements] = relay.companions();
    let things = [Waitable::Queue(requests), Waitable::Queue(settlements)];
    assert_eq!(wait_any(&things, NOWAIT), Err(Error::Timeout));
    let [first, second] = relay.fds().unwrap();
    assert_ne!(first.as_raw_fd(), second.as_raw_fd());
    relay.deliver(b"x", 0, b"t", NOWAIT).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(5));
            queue.get_vec(NOWAIT).unwrap();
        });
        assert_eq!(wait_any(&things, FOREVER), Ok(1));
    });
    settled(&relay).done().unwrap();
    queue.put(b"x", NOWAIT).unwrap();
    assert_eq!(wait_any(&things, FOREVER), Ok(0));
    // The queue itself too, for its consumers.
    assert_eq!(
        wait_any(&[Waitable::Queue(&queue)], NOWAIT),
        Err(Error::Timeout)
    );
}

#[test]
fn the_end_of_a_relay_waits_for_what_is_reserved_and_no_longer() {
    let _turn = beside_others();
    for commits in [true, false] {
        let (queue, relay) = relayed();
        let mut room = queue.reserve(5, NOWAIT).unwrap();
        room.copy_from_slice(b"place");
        thread::scope(|scope| {
            let detached = scope.spawn(|| relay.detach(FOREVER));
            while queue.is_relayed() {
                thread::yield_now();
            }
            match commits {
                true => room.commit_first(4).unwrap(),
                false => room.discard(),
            }
            detached.join().unwrap().unwrap();
        });
        let got = queue.get_vec(NOWAIT);
        assert_eq!(got.ok(), commits.then(|| b"plac".to_vec()));
    }
}

#[test]
fn ending_the_waits_of_a_handle_ends_its_waits_for_the_relay() {
    let _turn = beside_others();
    let queue = crate::new_queue(&Options::create());
    let options = RelayOptions::new().max_requests(1);
    let relay = QueueRelay::attach(Arc::clone(&queue), &options, FOREVER).unwrap();
    let program = Queue::open(queue.name()).unwrap();
    program.put(b"1", NOWAIT).unwrap();
    thread::scope(|scope| {
        let puts = scope.spawn(|| program.put(b"2", FOREVER));
        let takes = scope.spawn(|| relay.next_settlement(FOREVER).map(drop));
        thread::sleep(Duration::from_millis(20));
        program.end_waits();
        assert_eq!(puts.join().unwrap(), Err(Error::Detached));
        relay.end_waits();
        assert_eq!(takes.join().unwrap(), Err(Error::Detached));
    });
    // A handle that has not opened the companion yet ends its waits too.
    let other = Queue::open(queue.name()).unwrap();
    other.end_waits();
    assert_eq!(other.put(b"2", FOREVER), Err(Error::Detached));
}

#[test]
fn a_forked_child_puts_through_the_relay_and_is_no_relay_itself() {
    let _turn = alone();
    let (queue, relay) = relayed();
    queue.put(b"parent", NOWAIT).unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    fork(|| {
        queue.put(b"child", NOWAIT).unwrap();
        assert!(matches!(
            relay.next_request(NOWAIT),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(
            relay.deliver(b"", 0, b"", NOWAIT),
            Err(Error::Invalid { .. })
        ));
        assert!(matches!(relay.outstanding(), Err(Error::Invalid { .. })));
        assert!(matches!(request.done(), Err(Error::Invalid { .. })));
        assert!(matches!(relay.detach(NOWAIT), Err(Error::Invalid { .. })));
    })
    .ends_well();
    let (queue, relay) = relayed();
    queue.put(b"parent", NOWAIT).unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    fork(|| drop((request, relay))).ends_well();
}

#[test]
fn hostile_bytes_in_a_companion_are_an_error_and_the_next_request_comes() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let requests = Queue::open(&format!("{}.relay", queue.name())).unwrap();
    let settlements = Queue::open(&format!("{}.settled", queue.name())).unwrap();
    let frame = |kind: u8, first: u32, rest: usize| {
        let mut bytes = vec![0; 64 + rest];
        bytes[..2].copy_from_slice(&[0xa7, kind]);
        bytes[4..8].copy_from_slice(&first.to_le_bytes());
        bytes
    };
    let bad = [
        vec![],
        vec![0xa7],
        vec![0xff; 100],
        frame(b'P', 5, 4),
        frame(b'P', u32::MAX, 100),
        frame(b'?', 0, 0),
        frame(b'S', 1, 3),
    ];
    for bytes in &bad {
        requests.put(bytes, NOWAIT).unwrap();
        settlements.put(bytes, NOWAIT).unwrap();
    }
    queue.put(b"good", NOWAIT).unwrap();
    for bytes in &bad {
        let refused = relay.next_request(NOWAIT);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{bytes:?}");
        let refused = relay.next_settlement(NOWAIT);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{bytes:?}");
    }
    assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"good");
}

#[test]
fn join_waits_until_what_was_delivered_is_finished() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    relay.deliver(b"1", 0, b"t", NOWAIT).unwrap();
    assert_eq!(queue.join(millis(5)), Err(Error::Timeout));
    thread::scope(|scope| {
        scope.spawn(|| queue.join(FOREVER).unwrap());
        // A returned message leaves this queue too.
        drop(queue.lease(NOWAIT).unwrap());
    });
}

#[test]
fn a_withdrawal_does_not_count_as_a_delivery_of_what_no_relay_delivered() {
    let _turn = beside_others();
    let options = Options::create().max_attempts(3);
    let queue = crate::new_queue(&options);
    queue.put(b"ours", NOWAIT).unwrap();
    let relay = attach(&queue);
    for _ in 0..5 {
        assert_eq!(relay.withdraw(), Ok(None));
    }
    let lease = queue.lease(NOWAIT).unwrap();
    assert_eq!((&lease[..], lease.attempts()), (&b"ours"[..], 1));
}
