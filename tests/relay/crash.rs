//! What a relay and those who use a relayed object do, killed at every crash point.
//!
//! A forked child runs the operation and dies at step N. The survivor then takes the role and accounts for
//! every message and every change. N grows until the child completes the operation.

use std::sync::Arc;
use std::time::Duration;

use crate::common::company::Words;
use crate::common::crash::lives;
use crate::common::{FOREVER, NOWAIT, alone, millis};
use shoal::{Error, Map, MapRelay, Options, Queue, QueueRelay, RelayOptions, SettlementKind};

pub(crate) fn queue() -> Arc<Queue> {
    let options = Options::create()
        .capacity(4096)
        .max_capacity(1 << 16)
        .max_attempts(3);
    crate::new_queue(&options)
}

pub(crate) fn options() -> RelayOptions {
    RelayOptions::new().max_bytes(1 << 16)
}

pub(crate) fn attach(queue: &Arc<Queue>) -> QueueRelay {
    QueueRelay::attach(Arc::clone(queue), &options(), FOREVER).unwrap()
}

/// Runs `operation` with a kill at each step, and `check` after each, which is told whether it lived.
pub(crate) fn at_each_step<T>(
    prepare: impl Fn() -> T,
    operation: impl Fn(&T),
    at_least: u64,
    check: impl Fn(u64, bool, T),
) {
    let _alone = alone();
    for step in 1..4000 {
        let stage = prepare();
        let lived = lives(step, || operation(&stage));
        check(step, lived, stage);
        crate::MINE.with_borrow_mut(crate::Mine::remove);
        if lived {
            assert!(step > at_least, "{step} steps");
            return;
        }
    }
    panic!("the operation never ends");
}

/// All requests, which are done.
pub(crate) fn requests(relay: &QueueRelay) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while relay.queue().relay().unwrap().unwrap().requests > 0 {
        match relay.next_request(millis(5)) {
            Ok(request) => {
                all.push(request.to_vec());
                request.done().unwrap();
            }
            Err(Error::Timeout) => {}
            Err(err) => panic!("{err}"),
        }
    }
    all
}

/// All settlements, which are done: the token, and how it ended.
fn settlements(relay: &QueueRelay) -> Vec<(Vec<u8>, char)> {
    let mut all = Vec::new();
    while relay.queue().relay().unwrap().unwrap().settlements > 0 {
        match relay.next_settlement(millis(5)) {
            Ok(settlement) => {
                let kind = match settlement.kind() {
                    SettlementKind::Done => 'd',
                    SettlementKind::Returned { .. } => 'r',
                    SettlementKind::Exhausted { payload } => {
                        assert_eq!(payload, b"job");
                        'x'
                    }
                    other => panic!("{other:?}"),
                };
                all.push((settlement.token().to_vec(), kind));
                settlement.done().unwrap();
            }
            Err(Error::Timeout) => {}
            Err(err) => panic!("{err}"),
        }
    }
    all
}

#[test]
fn a_relay_that_is_killed_while_it_attaches_leaves_a_queue_that_works() {
    at_each_step(
        || {
            let queue = queue();
            queue.put(b"before", NOWAIT).unwrap();
            queue
        },
        |queue| drop(attach(queue)),
        20,
        |step, _, queue| {
            let program = Queue::open(queue.name()).unwrap();
            let relayed = program.is_relayed();
            program.put(b"between", NOWAIT).unwrap();
            let relay = attach(&queue);
            program.put(b"after", NOWAIT).unwrap();
            let expected: &[&[u8]] = match relayed {
                true => &[b"between", b"after"],
                false => &[b"after"],
            };
            assert_eq!(requests(&relay), expected, "step {step}");
            assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"before");
            assert_eq!(queue.len(), usize::from(!relayed), "step {step}");
        },
    );
}

/// The files of objects whose names begin so.
pub(crate) fn files(name: &str) -> Vec<String> {
    let files = std::fs::read_dir("/dev/shm").unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|file| file.contains(name)).collect()
}

#[test]
fn a_put_into_a_relayed_queue_outlives_its_processes_wherever_they_are_killed() {
    let name = format!("test-relay-crash-{}", std::process::id());
    let options = Options::create().capacity(4096).max_capacity(1 << 16);
    let open = || Arc::new(Queue::with_options(Some(&name), &options).unwrap());
    at_each_step(
        || Words::new(1),
        |has_put| {
            let (program, queue) = (open(), open());
            let relay = attach(&queue);
            program.put(b"kept", NOWAIT).unwrap();
            has_put.set(0, 1);
            drop((relay, queue, program));
        },
        40,
        |step, lived, has_put| {
            shoal::gc(false).unwrap();
            assert!(!lived || has_put.get(0) == 1);
            let queue = open();
            let relay = attach(&queue);
            queue.put(b"new", NOWAIT).unwrap();
            let sent = requests(&relay);
            let all = [&b"kept"[..], b"new"];
            assert!(
                sent == all || has_put.get(0) == 0 && sent == all[1..],
                "step {step}: {sent:?}"
            );
            relay.detach(FOREVER).unwrap();
            drop(queue);
            // A program that collects beside this test may have a file locked, which is then left to it.
            let is_clean = || {
                shoal::gc(false).unwrap();
                files(&name).is_empty()
            };
            let mut clean = (0..1000).map(|_| is_clean());
            assert!(clean.any(|it| it), "step {step}: {:?}", files(&name));
        },
    );
}

fn finish_or_detach(queue: &Arc<Queue>) {
    if !QueueRelay::finish_detach(Arc::clone(queue), FOREVER).unwrap() && queue.is_relayed() {
        attach(queue).detach(FOREVER).unwrap();
    }
}

#[test]
fn a_relay_that_is_killed_while_it_detaches_loses_no_request() {
    at_each_step(
        || {
            let queue = queue();
            let relay = attach(&queue);
            relay.deliver(b"job", 0, b"token", NOWAIT).unwrap();
            for number in 0..3u8 {
                queue.put(&[number], NOWAIT).unwrap();
            }
            drop(relay);
            queue
        },
        |queue| attach(queue).detach(FOREVER).unwrap(),
        40,
        |step, lived, queue| {
            assert!(!lived || !queue.is_relayed());
            // The next one completes the removal first, or starts again.
            match step % 2 {
                0 => attach(&queue).detach(FOREVER).unwrap(),
                _ => finish_or_detach(&queue),
            }
            queue.put(b"last", NOWAIT).unwrap();
            let mut got = Vec::new();
            while let Ok(message) = queue.get_vec(millis(10)) {
                got.push(message);
            }
            assert!(got.len() <= 6, "step {step}: {got:?}");
            got.sort();
            got.dedup();
            assert_eq!(got, [&[0][..], &[1], &[2], b"job", b"last"], "step {step}");
            for suffix in ["relay", "settled"] {
                assert!(shoal::stat(&format!("{}.{suffix}", queue.name())).is_err());
            }
        },
    );
}

#[test]
fn a_put_through_a_killed_relay_happens_or_does_not() {
    for len in [5, 100_000] {
        let message = vec![7; len];
        at_each_step(
            || {
                let options = Options::create().max_attempts(3);
                let queue = crate::new_queue(&options);
                let relay = QueueRelay::attach(Arc::clone(&queue), &RelayOptions::new(), FOREVER);
                (queue, relay.unwrap())
            },
            |(queue, _)| queue.put(&message, NOWAIT).unwrap(),
            8,
            |step, lived, (queue, relay)| {
                let got = requests(&relay);
                assert!(got.is_empty() || got == [&message[..]], "step {step}");
                assert!(!lived || got.len() == 1);
                queue.put(b"next", NOWAIT).unwrap();
                assert_eq!(requests(&relay), [b"next"]);
                assert!(queue.is_empty());
            },
        );
    }
}

#[test]
fn a_killed_delivery_happens_or_does_not() {
    at_each_step(
        || {
            let queue = queue();
            drop(attach(&queue));
            queue
        },
        |queue| attach(queue).deliver(b"job", 1, b"token", NOWAIT).unwrap(),
        20,
        |step, lived, queue| {
            let relay = attach(&queue);
            let outstanding = relay.outstanding().unwrap();
            assert!(outstanding.len() <= 1, "step {step}");
            assert!(!lived || outstanding.len() == 1);
            assert_eq!(queue.len(), outstanding.len(), "step {step}");
            if let [delivered] = &outstanding[..] {
                assert_eq!(
                    (&delivered.token[..], delivered.attempts),
                    (&b"token"[..], 1)
                );
                let job = queue.lease(NOWAIT).unwrap();
                assert_eq!((&job[..], job.attempts()), (&b"job"[..], 2));
                job.ack().unwrap();
                assert_eq!(settlements(&relay), [(b"token".to_vec(), 'd')]);
            }
        },
    );
}

#[test]
fn a_message_that_a_killed_relay_withdraws_is_still_here_or_the_relay_had_it() {
    at_each_step(
        || {
            let queue = queue();
            attach(&queue).deliver(b"job", 1, b"token", NOWAIT).unwrap();
            queue
        },
        |queue| {
            let withdrawn = attach(queue).withdraw().unwrap().unwrap();
            assert_eq!(
                (&withdrawn.payload[..], &withdrawn.token[..]),
                (&b"job"[..], &b"token"[..])
            );
            assert_eq!(withdrawn.attempts, 1);
        },
        20,
        |step, lived, queue| {
            let relay = attach(&queue);
            // A process that waits for a message checks whether the holders of leases are alive.
            let left = loop {
                let left = queue.lease(millis(100)).map(|job| {
                    assert_eq!(&job[..], b"job");
                    job.ack().unwrap();
                });
                // A wait may lose its core for so long that it ends without a check.
                if left != Err(Error::Timeout) || queue.unfinished().unwrap() == 0 {
                    break left;
                }
            };
            assert!(left.is_err() || !lived, "step {step}");
            let told = settlements(&relay);
            let allowed = match left {
                // With its token, or without it: then no relay gets a report.
                Ok(()) => 'd',
                // Given back to the relay, or withdrawn.
                Err(Error::Timeout) => 'r',
                Err(why) => panic!("step {step}: {why}"),
            };
            match &told[..] {
                [] => {}
                [(_, kind)] => assert_eq!(*kind, allowed, "step {step}: {told:?}"),
                _ => panic!("step {step}: {told:?}"),
            }
            let left = (queue.len(), relay.outstanding().unwrap());
            assert_eq!(left, (0, Vec::new()), "step {step}: {told:?}");
        },
    );
}

/// Runs what a worker does with a delivered message, and then settles it once more if it is still there.
/// `allowed`: what the relay may be told, first if nothing was killed. A worker that is killed before it has
/// leased the message leaves it to the other, which acks it.
fn worker_is_killed(attempts: u32, work: impl Fn(&Queue), allowed: &[&str]) {
    at_each_step(
        || {
            let queue = queue();
            let relay = attach(&queue);
            relay.deliver(b"job", attempts, b"token", NOWAIT).unwrap();
            (queue, relay)
        },
        |(queue, _)| work(queue),
        15,
        |step, lived, (queue, relay)| {
            // Another worker processes the remaining messages.
            while queue.unfinished().unwrap() > 0 {
                match queue.lease(millis(5)) {
                    Ok(job) => {
                        assert_eq!(&job[..], b"job");
                        job.ack().unwrap();
                    }
                    Err(Error::Timeout) => {}
                    Err(err) => panic!("{err}"),
                }
            }
            let told = settlements(&relay);
            assert!(told.iter().all(|(token, _)| token == b"token"));
            let told: String = told.iter().map(|(_, kind)| kind).collect();
            assert!(allowed.contains(&&told[..]), "step {step}: {told:?}");
            assert!(!lived || told == allowed[0], "step {step}: {told:?}");
            assert!(relay.outstanding().unwrap().is_empty());
            assert!(queue.dead_letters().unwrap().is_empty());
        },
    );
}

#[test]
fn a_worker_that_is_killed_anywhere_leaves_a_message_that_is_settled() {
    // Killed between the two steps of an ack, the message is given back after it was acked.
    let work = |queue: &Queue| queue.lease(NOWAIT).unwrap().ack().unwrap();
    worker_is_killed(0, work, &["d", "r", "dr"]);
}

#[test]
fn a_worker_that_is_killed_while_it_returns_a_message_settles_at_least_once() {
    let work = |queue: &Queue| queue.lease(NOWAIT).unwrap().nack(Duration::ZERO).unwrap();
    worker_is_killed(0, work, &["r", "rr", "d"]);
}

#[test]
fn a_process_that_is_killed_in_a_get_leaves_the_message_or_has_settled_it() {
    let work = |queue: &Queue| drop(queue.get_vec(NOWAIT).unwrap());
    worker_is_killed(0, work, &["d", "dd"]);
}

#[test]
fn a_worker_that_is_killed_at_the_last_attempt_leaves_a_dead_letter_for_the_relay() {
    let work = |queue: &Queue| drop(queue.lease(NOWAIT).unwrap());
    worker_is_killed(2, work, &["x", "xx", "d"]);
}

#[test]
fn a_slow_worker_and_a_process_killed_while_it_checks_it_settle_at_least_once() {
    at_each_step(
        || {
            let queue = queue();
            let relay = attach(&queue);
            relay.deliver(b"job", 0, b"token", NOWAIT).unwrap();
            (queue, relay)
        },
        |(queue, _)| {
            let slow = queue.lease_for(Duration::from_millis(1), NOWAIT).unwrap();
            std::thread::sleep(Duration::from_millis(12));
            assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
            assert_eq!(slow.ack(), Err(Error::Expired));
        },
        15,
        |step, lived, (queue, relay)| {
            while queue.unfinished().unwrap() > 0 {
                match queue.get_vec(millis(5)) {
                    // Killed before it had leased it.
                    Ok(job) => assert_eq!(job, b"job"),
                    got => assert_eq!(got, Err(Error::Timeout), "step {step}"),
                }
            }
            let told: String = settlements(&relay).iter().map(|(_, kind)| kind).collect();
            assert!(
                ["r", "rr", "d"].contains(&&told[..]),
                "step {step}: {told:?}"
            );
            assert!(!lived || told == "r");
            assert_eq!(queue.leased(), 0);
        },
    );
}

fn map() -> Arc<Map> {
    let options = Options::create().max_capacity(1 << 20);
    crate::new_map(&options)
}

fn attach_map(map: &Arc<Map>) -> MapRelay {
    let options = options().discard();
    MapRelay::attach(Arc::clone(map), &options, FOREVER).unwrap()
}

#[test]
fn a_relay_of_a_map_that_is_killed_while_it_attaches_leaves_a_map_that_works() {
    at_each_step(
        map,
        |map| drop(attach_map(map)),
        20,
        |step, _, map| {
            map.set(b"between", b"1").unwrap();
            let relayed = map.is_relayed();
            let relay = attach_map(&map);
            map.set(b"after", b"2").unwrap();
            let mut keys = Vec::new();
            while let Ok(request) = relay.next_request(NOWAIT) {
                keys.push(request.key().to_vec());
                request.done().unwrap();
            }
            let expected: &[&[u8]] = match relayed {
                true => &[b"between", b"after"],
                false => &[b"after"],
            };
            assert_eq!(keys, expected, "step {step}");
            assert_eq!(map.len(), Ok(0), "step {step}");
            map.verify().unwrap();
        },
    );
}

#[test]
fn a_delivery_to_a_map_that_is_killed_has_happened_or_not() {
    let large = vec![1; 10_000];
    for value in [&b"small"[..], &large] {
        at_each_step(
            || {
                let map = map();
                let relay = attach_map(&map);
                relay.deliver(b"key", b"old", 100, None).unwrap();
                relay.deliver(b"gone", b"x", 101, None).unwrap();
                drop(relay);
                map
            },
            |map| {
                let relay = attach_map(map);
                relay.deliver(b"key", value, 200, None).unwrap();
                relay.remove(b"gone", 201).unwrap();
                relay.set_revision(201).unwrap();
            },
            15,
            |step, lived, map| {
                map.verify().unwrap();
                let relay = attach_map(&map);
                let (now, version) = map.get_versioned(b"key").unwrap().unwrap();
                match version {
                    100 => assert_eq!(now, b"old"),
                    200 => assert_eq!(now, value),
                    other => panic!("step {step}: version {other}"),
                }
                let done = relay.revision() == 201;
                assert!(!done || version == 200 && map.version_of(b"gone") == Ok(0));
                assert!(!lived || done);
                // The next relay delivers again from the position of this one, with the same result.
                relay.deliver(b"key", value, 200, None).unwrap();
                relay.remove(b"gone", 201).unwrap();
                assert_eq!(map.get_versioned(b"key"), Ok(Some((value.to_vec(), 200))));
                assert_eq!(map.len(), Ok(1));
                map.verify().unwrap();
            },
        );
    }
}

#[test]
fn an_answer_that_a_kill_interrupts_is_given_by_the_next_relay() {
    at_each_step(
        || {
            let map = map();
            drop(attach_map(&map));
            map
        },
        |map| {
            let map = Arc::clone(map);
            let asks = std::thread::spawn({
                let map = Arc::clone(&map);
                move || map.insert(b"key", b"value")
            });
            let relay = attach_map(&map);
            let request = relay.next_request(FOREVER).unwrap();
            relay.deliver(b"key", b"value", 1, None).unwrap();
            request.done().unwrap();
            assert_eq!(asks.join().unwrap(), Ok(true));
        },
        20,
        |step, lived, map| {
            let relay = attach_map(&map);
            // The request is done or still pending.
            let mut again = 0;
            while relay.map().relay().unwrap().unwrap().requests > 0 {
                if let Ok(request) = relay.next_request(millis(5)) {
                    assert_eq!(request.key(), b"key");
                    relay.deliver(b"key", b"value", 1, None).unwrap();
                    request.done().unwrap();
                    again += 1;
                }
            }
            assert!(again <= 1, "step {step}");
            assert!(!lived || again == 0);
            map.verify().unwrap();
        },
    );
}

#[test]
fn a_relay_of_a_map_that_is_killed_while_it_detaches_loses_no_change() {
    at_each_step(
        || {
            let map = map();
            let relay = attach_map(&map);
            relay.deliver(b"kept", b"0", 5, None).unwrap();
            map.set(b"a", b"1").unwrap();
            map.set(b"b", b"2").unwrap();
            drop(relay);
            map
        },
        |map| attach_map(map).detach(FOREVER).unwrap(),
        40,
        |step, _, map| {
            // With existing keys: none of this empties a map that is not relayed any more.
            if map.is_relayed() {
                attach_map(&map).detach(FOREVER).unwrap();
            } else if step % 2 == 0 {
                MapRelay::finish_detach(Arc::clone(&map), FOREVER).unwrap();
                let companion = format!("{}.relay", map.name());
                assert!(shoal::stat(&companion).is_err(), "step {step}");
            } else {
                let again = MapRelay::attach(Arc::clone(&map), &options(), FOREVER);
                assert!(matches!(again, Err(Error::Invalid { .. })), "step {step}");
            }
            assert!(!map.is_relayed());
            let value = |key| map.get_vec(key).unwrap();
            assert_eq!(value(b"a").as_deref(), Some(&b"1"[..]), "step {step}");
            assert_eq!(value(b"b").as_deref(), Some(&b"2"[..]), "step {step}");
            assert_eq!(value(b"kept").as_deref(), Some(&b"0"[..]), "step {step}");
            map.verify().unwrap();
        },
    );
}
