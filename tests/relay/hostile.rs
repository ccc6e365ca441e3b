//! Random bytes in the files of relayed objects and of their companions: every call returns, whatever it
//! says, and none crashes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{NOWAIT, Random, alone, fork, millis};
use shoal::{Map, MapRelay, Options, Queue, QueueRelay, RelayOptions};

/// Where an object's own data begins.
const DATA: u64 = 36_864;

fn options() -> Options {
    Options::create().capacity(4096).max_capacity(1 << 20)
}

fn bounds() -> RelayOptions {
    RelayOptions::new()
        .max_bytes(1 << 14)
        .wait(Duration::from_millis(2))
}

/// Overwrites some words of the file: of its stamp, its header, or what lies behind that.
fn corrupt(name: &str, random: &mut Random) {
    let path = format!("/dev/shm/shoal.{name}");
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    for _ in 0..=random.below(4) {
        let at = match random.below(8) {
            // The companions that it has, or the object whose companion it is.
            0 => 64,
            1 => 24,
            2..=4 => DATA + random.below(2600) / 4 * 4,
            _ => DATA + random.below(12_000) / 8 * 8,
        };
        let mut old = [0; 8];
        file.read_exact_at(&mut old, at).unwrap();
        let old = u64::from_le_bytes(old);
        let new = match random.below(6) {
            0 => random.next(),
            1 => 0,
            2 => u64::MAX,
            // One bit: a flag, say.
            3 => old ^ 1 << random.below(64),
            4 => old.wrapping_add(random.below(64)),
            _ => random.below(1 << 12),
        };
        file.write_all_at(&new.to_le_bytes(), at).unwrap();
    }
}

/// Runs `work` in children, on objects of these names that `make` made, of which one is corrupted each time.
fn corrupted(
    rounds: u64,
    suffixes: &[&str],
    make: impl Fn(&str),
    work: impl Fn(&str, &mut Random),
) {
    let _alone = alone();
    for round in 0..rounds {
        let mut random = Random(round * 2 + 0x5eed_0001);
        let name = format!("test-relay-hostile-{}-{round}", std::process::id());
        make(&name);
        let victim = suffixes[random.below(suffixes.len() as u64) as usize];
        corrupt(&format!("{name}{victim}"), &mut random);
        let child = fork(|| work(&name, &mut random));
        child.ends_well();
        // Its stamp may be corrupted, and a corrupted object may name other companions.
        let of = format!("shoal.{name}.");
        for file in fs::read_dir("/dev/shm").unwrap().flatten() {
            if format!("{}.", file.file_name().display()).starts_with(&of) {
                let _ = fs::remove_file(file.path());
            }
        }
        let _ = shoal::gc(false);
    }
}

fn use_queue(queue: &Queue, random: &mut Random) {
    let data = vec![1; random.below(3000) as usize];
    let _ = queue.put(&data, NOWAIT);
    let _ = queue.put_many(&[&data[..], b"x"], millis(1));
    if let Ok(mut room) = queue.reserve(data.len(), NOWAIT) {
        room.fill(6);
        let _ = room.commit();
    }
    let _ = (queue.get_vec(millis(1)), queue.relay(), queue.is_relayed());
    for visible in [Duration::from_nanos(1), Duration::from_secs(1)] {
        if let Ok(job) = queue.lease_for(visible, NOWAIT) {
            let _ = match random.below(4) {
                0 => job.ack(),
                1 => job.nack(Duration::ZERO),
                2 => job.extend(visible),
                _ => Ok(()),
            };
        }
    }
}

#[test]
fn every_call_on_a_relayed_queue_returns() {
    let make = |name: &str| {
        let persistent = options().persistent().max_attempts(3);
        let queue = Arc::new(Queue::with_options(Some(name), &persistent).unwrap());
        let relay = QueueRelay::attach(Arc::clone(&queue), &bounds(), NOWAIT).unwrap();
        for number in 0..4u8 {
            relay
                .deliver(&[number; 300], number.into(), b"token", NOWAIT)
                .unwrap();
            queue.put(&[number; 500], NOWAIT).unwrap();
        }
        queue.lease(NOWAIT).unwrap().ack().unwrap();
        drop(queue.lease(NOWAIT).unwrap());
    };
    let work = |name: &str, random: &mut Random| {
        let Ok(queue) = Queue::open(name).map(Arc::new) else {
            return;
        };
        use_queue(&queue, random);
        let relay = QueueRelay::attach(Arc::clone(&queue), &bounds(), millis(1));
        if let Ok(relay) = relay {
            for _ in 0..4 {
                if let Ok(request) = relay.next_request(NOWAIT) {
                    let _ = relay.deliver(&request, 1, b"again", NOWAIT);
                    let _ = (request.id(), request.done());
                }
                if let Ok(settlement) = relay.next_settlement(NOWAIT) {
                    let _ = (settlement.token().len(), settlement.kind());
                    let _ = settlement.done();
                }
            }
            let _ = (relay.outstanding(), relay.room());
            use_queue(&queue, random);
            let _ = relay.detach(millis(5));
        }
        use_queue(&queue, random);
    };
    corrupted(150, &["", ".relay", ".settled", ""], make, work);
}

fn use_map(map: &Map, random: &mut Random) {
    let value = vec![2; random.below(3000) as usize];
    let _ = map.set(b"a", &value);
    let _ = map.set_many(&[(b"b", b"1"), (b"c", b"2")]);
    let _ = (map.add(b"n", 1), map.insert(b"a", b"x"), map.remove(b"b"));
    let _ = (map.take(b"c"), map.get_vec(b"a"), map.relay(), map.clear());
    let _ = map.lock_key(b"a", NOWAIT).map(drop);
}

#[test]
fn every_call_on_a_relayed_map_returns() {
    let make = |name: &str| {
        let persistent = Options::create().max_capacity(1 << 20).persistent();
        let map = Arc::new(Map::with_options(Some(name), &persistent).unwrap());
        let relay = MapRelay::attach(Arc::clone(&map), &bounds(), NOWAIT).unwrap();
        for number in 1..20u8 {
            let key = [number];
            relay
                .deliver(&key, &[number; 100], number.into(), None)
                .unwrap();
        }
        map.set(b"a", b"1").unwrap();
        let _ = map.add(b"n", 1);
    };
    let work = |name: &str, random: &mut Random| {
        let Ok(map) = Map::open(name).map(Arc::new) else {
            return;
        };
        use_map(&map, random);
        let relay = MapRelay::attach(Arc::clone(&map), &bounds(), millis(1));
        if let Ok(relay) = relay {
            for revision in 30..34 {
                if let Ok(request) = relay.next_request(NOWAIT) {
                    let _ = relay.deliver(request.key(), b"new", revision, None);
                    let _ = (request.change(), request.is_asking());
                    let _ = request.done();
                }
            }
            let _ = (relay.remove(&[3], 99), relay.revision());
            use_map(&map, random);
            let _ = relay.detach(millis(5));
        }
        use_map(&map, random);
    };
    corrupted(100, &["", ".relay", ".answers", ""], make, work);
}
