//! Relays, workers and producers that are killed at random, and an account of every message and of every
//! sum.
//!
//! The relay of a queue forwards each request, with its id, to an object in place of a server, and delivers the
//! messages from there that are not outstanding. It removes a message from the server once it is settled as done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::company::Words;
use crate::common::{Child, FOREVER, NOWAIT, Random, alone, fork, millis, soak_length};
use crate::{attach, attach_map};
use shoal::{
    Error, Map, MapChange, MapRelay, Options, Queue, QueueRelay, RelayOptions, SettlementKind,
    SwapTo,
};

/// An object in place of a server: its messages by the ids of their requests, and all ids that it has seen.
struct Server {
    messages: Map,
    seen: Map,
}

impl Server {
    fn new() -> Self {
        Self {
            messages: Map::anonymous().unwrap(),
            seen: Map::anonymous().unwrap(),
        }
    }

    /// Accepts a message, once for each id.
    fn publish(&self, id: &str, message: &[u8]) {
        if !self.seen.contains(id.as_bytes()).unwrap() {
            self.messages.set(id.as_bytes(), message).unwrap();
            self.seen.set(id.as_bytes(), b"").unwrap();
        }
    }
}

struct Stage {
    queue: Arc<Queue>,
    server: Server,
    /// How many each producer has put, and whether each worker is about to get a message without a lease.
    words: Words,
    /// Each message that a worker has processed.
    worked: Map,
}

/// The most messages that the server takes.
const FULL: usize = 1000;
const PRODUCERS: u64 = 2;
const WORKERS: u64 = 2;

impl Stage {
    fn new() -> Self {
        let options = Options::create().max_capacity(1 << 20);
        let queue = crate::new_queue(&options);
        // All relays have the bounds of the first.
        let bounds = RelayOptions::new().max_requests(50);
        drop(QueueRelay::attach(Arc::clone(&queue), &bounds, FOREVER).unwrap());
        Self {
            queue,
            server: Server::new(),
            words: Words::new((PRODUCERS + WORKERS) as usize),
            worked: Map::anonymous().unwrap(),
        }
    }

    /// Puts numbered messages, and reports the number after each.
    fn produce(&self, producer: u64) {
        loop {
            let number = self.words.get(producer as usize);
            let message = [producer.to_le_bytes(), number.to_le_bytes()].concat();
            match self.queue.put(&message, millis(200)) {
                Ok(()) => self.words.set(producer as usize, number + 1),
                Err(Error::RelayBehind { .. }) => {}
                Err(err) => panic!("{err}"),
            }
        }
    }

    fn work(&self, worker: u64, mut random: Random) {
        let gets = (PRODUCERS + worker) as usize;
        loop {
            match random.below(8) {
                0 => {
                    self.words.set(gets, 1);
                    if let Ok(message) = self.queue.get_vec(millis(100)) {
                        self.worked.add(&message, 1).unwrap();
                    }
                    self.words.set(gets, 0);
                }
                _ => {
                    let Ok(job) = self.queue.lease(millis(100)) else {
                        continue;
                    };
                    self.worked.add(&job, 1).unwrap();
                    match random.below(10) {
                        0 => job.nack(Duration::from_millis(1)).unwrap(),
                        1 => drop(job),
                        _ => job.ack().unwrap(),
                    }
                }
            }
        }
    }

    fn relay(&self) {
        let relay = attach(&self.queue);
        let mut outstanding: BTreeSet<Vec<u8>> = relay
            .outstanding()
            .unwrap()
            .into_iter()
            .map(|it| it.token)
            .collect();
        loop {
            self.relay_once(&relay, &mut outstanding);
        }
    }

    /// Moves the messages that are there; true if there was any.
    fn relay_once(&self, relay: &QueueRelay, outstanding: &mut BTreeSet<Vec<u8>>) -> bool {
        let mut moved = false;
        while let Ok(settlement) = relay.next_settlement(NOWAIT) {
            let token = settlement.token().to_vec();
            if settlement.kind() == SettlementKind::Done {
                self.server.messages.remove(&token).unwrap();
            }
            outstanding.remove(&token);
            settlement.done().unwrap();
            moved = true;
        }
        for _ in 0..20 {
            if self.server.messages.len().unwrap() >= FULL {
                break;
            }
            let Ok(request) = relay.next_request(millis(1)) else {
                break;
            };
            self.server.publish(&request.id().to_string(), &request);
            request.done().unwrap();
            moved = true;
        }
        for entry in self.server.messages.iter().take(50) {
            let (token, message) = entry.unwrap();
            if outstanding.len() < 20 && !outstanding.contains(&token) {
                relay.deliver(&message, 0, &token, FOREVER).unwrap();
                outstanding.insert(token);
                moved = true;
            }
        }
        moved
    }

    /// Whether a worker that was killed may have had a message that went with it.
    fn had_one(&self, worker: u64) -> bool {
        let gets = (PRODUCERS + worker) as usize;
        let had = self.words.get(gets) == 1;
        self.words.set(gets, 0);
        had
    }

    /// Processes the remaining messages, and checks that at most `gone` are missing.
    fn check(&self, gone: u64) -> u64 {
        let relay = attach(&self.queue);
        let mut outstanding = BTreeSet::new();
        for delivered in relay.outstanding().unwrap() {
            outstanding.insert(delivered.token);
        }
        loop {
            let moved = self.relay_once(&relay, &mut outstanding);
            let info = self.queue.relay().unwrap().unwrap();
            let mut worked = false;
            while let Ok(job) = self.queue.lease(millis(5)) {
                self.worked.add(&job, 1).unwrap();
                job.ack().unwrap();
                worked = true;
            }
            let left = info.requests + info.settlements + self.queue.unfinished().unwrap();
            if !moved && !worked && left == 0 && self.server.messages.is_empty().unwrap() {
                break;
            }
        }
        assert!(outstanding.is_empty(), "{outstanding:?}");
        let (mut all, mut missing) = (0, Vec::new());
        for producer in 0..PRODUCERS {
            for number in 0..self.words.get(producer as usize) {
                let message = [producer.to_le_bytes(), number.to_le_bytes()].concat();
                if !self.worked.contains(&message).unwrap() {
                    missing.push((producer, number));
                }
                all += 1;
            }
        }
        assert!(missing.len() as u64 <= gone, "{missing:?} are lost");
        all
    }
}

fn kill_relays_and_workers(length: Duration) -> (u64, u64) {
    let (stage, mut random) = (Stage::new(), Random(0x5eed));
    let start = |which: u64, seed: u64| {
        fork(|| match which {
            0 | 1 => stage.relay(),
            2 | 3 => stage.produce(which - 2),
            _ => stage.work(which - 2 - PRODUCERS, Random(seed | 1)),
        })
    };
    let count = 2 + PRODUCERS + WORKERS;
    let mut children: Vec<Option<Child>> =
        (0..count).map(|which| Some(start(which, which))).collect();
    let (began, mut kills, mut gone) = (Instant::now(), 0, 0);
    while began.elapsed() < length || kills < 10 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let victim = random.below(count);
        children[victim as usize].take().unwrap().kill();
        if let Some(worker) = victim.checked_sub(2 + PRODUCERS) {
            gone += u64::from(stage.had_one(worker));
        }
        children[victim as usize] = Some(start(victim, random.next()));
        kills += 1;
    }
    children.into_iter().flatten().for_each(Child::kill);
    gone += (0..WORKERS)
        .map(|it| u64::from(stage.had_one(it)))
        .sum::<u64>();
    (kills, stage.check(gone))
}

#[test]
fn no_message_is_lost_whichever_processes_are_killed() {
    let _turn = alone();
    let (_, done) = kill_relays_and_workers(Duration::from_millis(1500));
    assert!(done > 0);
}

#[test]
#[ignore = "a soak: for as many seconds as SHOAL_SOAK_SECONDS says"]
fn soak_relays_of_queues_that_are_killed() {
    let _turn = alone();
    let (kills, done) = kill_relays_and_workers(soak_length());
    println!("{kills} processes were killed, and {done} messages accounted for");
}

/// The keys of the server of a map, with their revisions, and what it did for which request.
struct Keys(Map);

impl Keys {
    /// Does a request once: a compare-and-swap of a number and its revision.
    fn serve(&self, relay: &MapRelay, request: shoal::MapRequest) {
        let key = request.key().to_vec();
        let (seen, now) = (format!("seen {}", request.id()), self.now(&key));
        let revision = now.as_ref().map_or(0, |(revision, _)| *revision);
        let MapChange::Swap { version, new } = request.change() else {
            panic!("{:?}", request.change())
        };
        let repeated = self.0.contains(seen.as_bytes()).unwrap();
        let allowed = repeated || version == revision;
        if allowed && !repeated {
            // Both, or neither: a killed relay must not have done it without recording it.
            let SwapTo::Value { value, .. } = new else {
                panic!("{new:?}")
            };
            let next = self.0.add(b"revision", 1).unwrap() as u64;
            let last = seen.as_bytes();
            let entry = [&next.to_le_bytes()[..], value, last].concat();
            self.0.set(&server_key(&key), &entry).unwrap();
            self.0.set(last, b"").unwrap();
        }
        if let Some((revision, value)) = self.now(&key) {
            relay.deliver(&key, &value, revision, None).unwrap();
        }
        match allowed {
            true => request.done().unwrap(),
            false => request.conflict().unwrap(),
        }
    }

    /// The revision and the value of a key. What was cut short after the value was set is completed.
    fn now(&self, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let entry = self.0.get_vec(&server_key(key)).unwrap()?;
        let revision = u64::from_le_bytes(entry[..8].try_into().unwrap());
        self.0.set(&entry[16..], b"").unwrap();
        Some((revision, entry[8..16].to_vec()))
    }
}

fn server_key(key: &[u8]) -> Vec<u8> {
    [b"key ", key].concat()
}

fn kill_relays_of_maps(length: Duration) -> (u64, u64) {
    let map = crate::new_map(&Options::create());
    let keys = Keys(Map::anonymous().unwrap());
    drop(attach_map(&map));
    // The additions that each program has begun, and those that it has completed.
    let words = Words::new(4);
    let relay = || {
        let relay = attach_map(&map);
        loop {
            if let Ok(request) = relay.next_request(millis(50)) {
                keys.serve(&relay, request);
            }
        }
    };
    let program = |which: usize| {
        let mut last = 0;
        loop {
            words.add(2 * which, 1);
            map.add(b"sum", 1).unwrap();
            words.add(2 * which + 1, 1);
            let version = map.version_of(b"sum").unwrap();
            assert!(version >= last, "older than what was seen before");
            last = version;
        }
    };
    let start = |which: u64| {
        fork(|| match which {
            0 | 1 => relay(),
            _ => program(which as usize - 2),
        })
    };
    let mut random = Random(0xacc);
    let mut children: Vec<Option<Child>> = (0..4).map(|which| Some(start(which))).collect();
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < length || kills < 10 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let victim = random.below(4);
        children[victim as usize].take().unwrap().kill();
        children[victim as usize] = Some(start(victim));
        kills += 1;
    }
    children.into_iter().flatten().for_each(Child::kill);
    let relay = attach_map(&map);
    while map.relay().unwrap().unwrap().requests > 0 {
        if let Ok(request) = relay.next_request(millis(20)) {
            keys.serve(&relay, request);
        }
    }
    let begun = words.get(0) + words.get(2);
    let done = words.get(1) + words.get(3);
    let here = map.get_vec(b"sum").unwrap().unwrap_or(vec![0; 8]);
    let there = keys.now(b"sum").map_or(vec![0; 8], |(_, value)| value);
    assert_eq!(here, there, "the map has what the server has");
    let sum = u64::from_le_bytes(here.try_into().unwrap());
    assert!((done..=begun).contains(&sum), "{done} <= {sum} <= {begun}");
    map.verify().unwrap();
    (kills, sum)
}

#[test]
fn no_sum_is_lost_or_added_twice_whichever_processes_are_killed() {
    let _turn = alone();
    let (_, sum) = kill_relays_of_maps(Duration::from_millis(1500));
    assert!(sum > 0);
}

#[test]
#[ignore = "a soak: for as many seconds as SHOAL_SOAK_SECONDS says"]
fn soak_relays_of_maps_that_are_killed() {
    let _turn = alone();
    let (kills, sum) = kill_relays_of_maps(soak_length());
    println!("{kills} processes were killed, and the sum is {sum}");
}
