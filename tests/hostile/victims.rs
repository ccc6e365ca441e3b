//! The objects that are corrupted: how each is made, where its fields are, and all of its operations.
//!
//! No call here waits for long, and every result is accepted: what matters is that the call returns.

use std::hint::black_box;
use std::time::Duration;

use shoal::{
    Array, Barrier, End, Error, Event, Kind, List, Lock, Map, Options, Pipe, Queue, Result, RwLock,
    Semaphore,
};

use crate::common::corruption::Anatomy;
use crate::common::{NOWAIT, Random, millis};
use crate::relatives::Waiters;

/// An object to be corrupted.
pub(crate) trait Victim: Sized + Sync {
    /// A new object with some content.
    fn make(name: &str, random: &mut Random) -> Self;

    /// Another handle on it.
    fn open(name: &str) -> Result<Self>;

    fn anatomy() -> Anatomy;

    /// Calls every operation, some of them several times.
    fn use_everything(&self, random: &mut Random);
}

/// What is done with each kind of object.
pub(crate) trait Visitor {
    fn visit<V: Victim>(&self);
}

/// Calls the visitor with the type of this kind.
pub(crate) fn visit(kind: Kind, visitor: &impl Visitor) {
    match kind {
        Kind::Queue => visitor.visit::<Queue>(),
        Kind::Map => visitor.visit::<Map>(),
        Kind::List => visitor.visit::<List>(),
        Kind::Pipe => visitor.visit::<Ends>(),
        Kind::Array => visitor.visit::<Array>(),
        Kind::Lock => visitor.visit::<Lock>(),
        Kind::Semaphore => visitor.visit::<Semaphore>(),
        Kind::Event => visitor.visit::<Event>(),
        Kind::Condition => visitor.visit::<Waiters>(),
        Kind::Barrier => visitor.visit::<Barrier>(),
        Kind::RwLock => visitor.visit::<RwLock>(),
        other => panic!("nobody corruptions a {other}"),
    }
}

pub(crate) const KINDS: [Kind; 11] = [
    Kind::Queue,
    Kind::Map,
    Kind::List,
    Kind::Pipe,
    Kind::Array,
    Kind::Lock,
    Kind::Semaphore,
    Kind::Event,
    Kind::Condition,
    Kind::Barrier,
    Kind::RwLock,
];

/// Bytes of a ring at most, so that it soon is full.
const LARGEST: u64 = 1 << 14;
/// Where a ring begins in a queue's data.
const RING: u64 = 4096;
/// Blocks of the message store behind such a ring.
const STORE_BLOCKS: u64 = (LARGEST + (192 << 10)) / 1024 + 4;

fn ring_options() -> Options {
    Options::create().capacity(4096).max_capacity(LARGEST)
}

/// See `src/queue/header.rs`.
fn queue_anatomy() -> Anatomy {
    // A message more of 48 bytes, in 64 bytes of the ring: both copies of the counts.
    let put = [(256, 64), (200, 1), (208, 48), (216, 1), (224, 48)];
    let taken = [(512, 64), (456, 1), (464, 48), (472, 1), (480, 48)];
    let seen = [(192, 64), (448, 64), (232, 1)];
    let all = [&put[..], &taken, &seen].concat();
    Anatomy {
        head: 1152 + 704,
        locks: vec![128..192, 384..448, 1152..1216],
        groups: vec![
            put.to_vec(),
            taken.to_vec(),
            all,
            vec![(256, 16), (448, 16)],
            vec![(512, 16), (192, 16)],
            // Capacities: twice as many bytes.
            vec![(0, 4096), (16, 4096)],
            vec![(0, LARGEST), (8, LARGEST)],
            // The content of the message store.
            vec![(1152 + 672, 1), (1152 + 680, 1)],
        ],
        block_maps: vec![(RING + LARGEST, Some(RING + LARGEST + store_map()))],
    }
}

/// Bytes of the block map of such a message store.
fn store_map() -> u64 {
    (STORE_BLOCKS * 24).next_multiple_of(4096)
}

/// Bytes of one of the queues of a pipe.
fn way_size() -> u64 {
    (RING + LARGEST + store_map() + STORE_BLOCKS * 1024).next_multiple_of(4096)
}

impl Victim for Queue {
    fn make(name: &str, random: &mut Random) -> Self {
        let mut options = ring_options();
        options.max_attempts = random.below(3) as u8 * 4;
        let queue = Queue::with_options(Some(name), &options).unwrap();
        queue.put_many(&[[1; 500]; 5], NOWAIT).unwrap();
        for _ in 0..random.below(4) {
            // In the message store: written, leased, given back, too late.
            std::mem::forget(queue.reserve(300, NOWAIT).unwrap());
            std::mem::forget(queue.lease(NOWAIT).unwrap());
            queue.put(&[2; 48], NOWAIT).unwrap();
            let late = queue.lease_for(Duration::from_nanos(1), NOWAIT).unwrap();
            std::mem::forget(late);
            queue.put(&[2; 48], NOWAIT).unwrap();
            queue.lease(NOWAIT).unwrap().nack(Duration::ZERO).unwrap();
        }
        queue
    }

    fn open(name: &str) -> Result<Self> {
        Queue::open(name)
    }

    fn anatomy() -> Anatomy {
        queue_anatomy()
    }

    fn use_everything(&self, random: &mut Random) {
        let mut buf = vec![0; 3000];
        let timeout = |random: &mut Random| match random.below(8) {
            0 => millis(1),
            _ => NOWAIT,
        };
        let data = vec![5; random.below(2500) as usize];
        let _ = self.put(&data, timeout(random));
        let _ = self.put_many(&[&data[..], b"x"], timeout(random));
        if let Ok(len) = self.get(&mut buf, timeout(random)) {
            assert!(len <= buf.len());
        }
        if let Ok(message) = self.get_vec(timeout(random)) {
            assert!(message.len() as u64 <= LARGEST);
        }
        let (mut all, mut lens) = (Vec::new(), Vec::new());
        if let Ok(count) = self.get_many(&mut all, &mut lens, 4, NOWAIT) {
            assert_eq!((count, lens.iter().sum()), (lens.len(), all.len()));
        }
        let _ = self.get_many_into(&mut buf, &mut [0; 3], NOWAIT);
        if let Ok(mut room) = self.reserve(data.len(), timeout(random)) {
            room.fill(6);
            let _ = room.commit_first(random.below(2500) as usize);
        }
        for visible in [Duration::from_nanos(1), Duration::from_secs(1)] {
            let Ok(lease) = self.lease_for(visible, timeout(random)) else {
                continue;
            };
            assert!(lease.len() as u64 <= LARGEST);
            black_box(lease.to_vec());
            let _ = match random.below(4) {
                0 => lease.ack(),
                1 => lease.nack(Duration::ZERO),
                2 => lease.nack(Duration::from_millis(1)),
                _ => lease.extend(visible),
            };
        }
        let _ = (self.unfinished(), self.leased(), self.join(NOWAIT));
        let _ = (self.len(), self.bytes(), self.capacity());
        let _ = (self.is_closed(), self.max_message());
    }
}

/// Both ends of a pipe.
pub(crate) struct Ends(Pipe, Option<Pipe>);

impl Victim for Ends {
    fn make(name: &str, random: &mut Random) -> Self {
        let first = Pipe::with_options(Some(name), End::First, true, &ring_options()).unwrap();
        let second = Pipe::open(name, End::Second).unwrap();
        for end in [&first, &second] {
            for _ in 0..random.below(6) {
                end.send(&[3; 200], NOWAIT).unwrap();
            }
        }
        Self(first, Some(second))
    }

    fn open(name: &str) -> Result<Self> {
        Ok(Self(Pipe::open(name, End::First)?, None))
    }

    fn anatomy() -> Anatomy {
        let way = |at: u64| queue_anatomy().moved(at);
        way(4096).and(way(4096 + way_size()))
    }

    fn use_everything(&self, random: &mut Random) {
        let mut buf = vec![0; 3000];
        for end in [Some(&self.0), self.1.as_ref()].into_iter().flatten() {
            let data = vec![5; random.below(2500) as usize];
            let _ = end.send(&data, NOWAIT);
            let _ = end.poll(millis(random.below(2)));
            if let Ok(mut room) = end.reserve(data.len(), NOWAIT) {
                room.fill(6);
                let _ = room.commit_first(random.below(2500) as usize);
            }
            if let Ok(len) = end.recv(&mut buf, millis(random.below(2))) {
                assert!(len <= buf.len());
            }
            if let Ok(message) = end.recv_vec(NOWAIT) {
                assert!(message.len() as u64 <= LARGEST);
            }
            if let Ok(lease) = end.lease(NOWAIT) {
                assert!(lease.len() as u64 <= LARGEST);
                black_box(lease.to_vec());
                let _ = lease.ack();
            }
            let _ = (end.is_readable(), end.is_writable());
        }
    }
}

/// Keys of a map that is corrupted.
const KEYS: u64 = 50;

impl Victim for Map {
    fn make(name: &str, random: &mut Random) -> Self {
        let mut options = Options::create().max_capacity(64 << 20);
        options.ordered = random.below(2) == 0;
        // Without a further random number, which would change the cases of the corpus.
        options.compact = options.ordered;
        let map = Map::with_options(Some(name), &options).unwrap();
        for i in 0..KEYS {
            let value = vec![i as u8; i as usize * 25];
            map.set(&i.to_le_bytes(), &value).unwrap();
        }
        map.set(b"large", &[1; 70_000]).unwrap();
        for i in 0..random.below(KEYS / 3) {
            let _ = map.remove(&(i * 2).to_le_bytes()).unwrap();
        }
        map
    }

    fn open(name: &str) -> Result<Self> {
        Map::open(name)
    }

    /// See `src/map/core.rs` and `src/map/store.rs`.
    fn anatomy() -> Anatomy {
        let shards = (0..64).map(|shard| 4096 + shard * 640);
        let mut locks: Vec<_> = shards.clone().map(|at| at..at + 64).collect();
        locks.push(64..128);
        // Of each shard its version, counts and the number that readers look at.
        let store = |at: u64| (1..5).map(move |word| (at + 64 + word * 8, 2));
        Anatomy {
            head: 4096 + 64 * 640 + 8192,
            locks,
            groups: shards.map(|at| store(at).collect()).collect(),
            block_maps: vec![(4096 + 64 * 640, None)],
        }
    }

    fn use_everything(&self, random: &mut Random) {
        let mut buf = [0; 4096];
        for i in 0..KEYS {
            let key = i.to_le_bytes();
            let _ = self.get(&key, &mut buf);
            match random.below(14) {
                0 => drop(self.set(&key, &buf[..random.below(4000) as usize])),
                1 => drop(self.remove(&key)),
                2 => drop(self.add(&key, 1)),
                3 => drop(self.take(&key)),
                4 => drop(self.set(&key, &vec![1; random.below(90_000) as usize])),
                5 => drop(self.set(&key, &vec![1; 256 << 10])),
                6 => drop(self.view(&key).map(|view| view.map(|view| view.to_vec()))),
                7 => drop(self.update(&key, |_| Some(b"y".to_vec()))),
                8 => drop(self.set_for(&key, b"z", Duration::ZERO)),
                9 => drop(self.expire(&key, Some(Duration::from_secs(9)))),
                10 => drop(self.wait_key(&key, 0, NOWAIT)),
                11 => drop(self.get_versioned(&key)),
                12 => drop(self.lock_key(&key, NOWAIT)),
                _ => drop(self.insert(&key, b"x")),
            }
        }
        let keys: Vec<_> = (0..KEYS).map(u64::to_le_bytes).collect();
        let _ = self.get_many(&keys);
        let _ = self.set_many(&[(keys[0], b"a"), (keys[1], b"b")]);
        let _ = self.purge();
        let _ = self.wait_change(self.version(), NOWAIT);
        let _ = self.iter().take(2000).count();
        let _ = self.len();
        let _ = self.verify();
        if random.below(2) == 0 {
            let _ = self.clear();
        }
        let _ = self.set(b"k", b"v");
    }
}

impl Victim for List {
    fn make(name: &str, random: &mut Random) -> Self {
        let options = Options::create().max_capacity(64 << 20);
        let list = List::with_options(Some(name), &options).unwrap();
        for i in 0..150u64 {
            list.append(&vec![i as u8; i as usize * 9]).unwrap();
        }
        let from = random.below(100) as usize;
        list.remove(from..from + 10).unwrap();
        list.append(&[1; 70_000]).unwrap();
        list
    }

    fn open(name: &str) -> Result<Self> {
        List::open(name)
    }

    /// See `src/list/core.rs`, `store.rs` and `view.rs`.
    fn anatomy() -> Anatomy {
        let view = |at: u64| [(at + 8, 1), (at + 16, 1), (at + 24, 1)];
        let (one, two) = (view(704 + 64), view(704 + 96));
        let lock = 64..128;
        Anatomy {
            head: 4096 + 4096,
            locks: vec![lock],
            groups: vec![
                [one, two].concat(),
                // The gap moves, and takes from the length what it grows by.
                vec![(one[1].0, 1), (two[1].0, 1)],
                vec![(one[0].0, u64::MAX), (one[2].0, 1)],
                vec![(two[0].0, u64::MAX), (two[2].0, 1)],
                // The table, and how long it is: half a word each.
                vec![(704 + 64, 1 << 32 | 1), (704 + 96, 1 << 32 | 1)],
                // The other view counts.
                vec![(704, 1)],
            ],
            block_maps: vec![(4096, None)],
        }
    }

    fn use_everything(&self, random: &mut Random) {
        let mut buf = [0; 4096];
        for _ in 0..60 {
            let at = random.below(150) as usize;
            let _ = self.get(at, &mut buf);
            let len = random.below(4000) as usize;
            match random.below(10) {
                0 => drop(self.set(at, &buf[..len])),
                1 => drop(self.pop()),
                2 => drop(self.pop_at(at)),
                3 => drop(self.insert(at, &buf[..len])),
                4 => drop(self.append(&vec![1; len * 20])),
                5 => drop(self.splice(at..at + 9, &[&buf[..len], b"x"])),
                6 => drop(self.swap(at, at / 2)),
                7 => drop(self.remove(at..at + 3)),
                8 => drop(self.reverse()),
                // Bytes that are overwritten meanwhile have no order.
                _ => drop(self.sort_by(|a, b| a.cmp(b))),
            }
        }
        let _ = self.iter().take(2000).count();
        let _ = self.len();
        let _ = self.verify();
        if random.below(2) == 0 {
            let _ = self.clear();
        }
        let _ = self.append(b"v");
    }
}

/// Whether the answer to a process that opens a corrupted object is one of those that are promised.
pub(crate) fn is_refusal(err: &Error) -> bool {
    matches!(
        err,
        Error::Corrupt { .. } | Error::Poisoned { .. } | Error::Exhausted { .. }
    )
}
