//! Processes that use a map in every way are killed at random. Each time the map is compared with a model in which
//! the operation during which they died happened wholly or not at all.
//!
//! Each worker has keys of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::common::company::{LEAST_DONE, LEAST_KILLS, Words};
use crate::common::progress::{Progress, Replica};
use crate::common::{Child, FOREVER, Random, alone, fork, soak_length};
use shoal::{Map, Options};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const WORKERS: usize = 3;
const LONG: Duration = Duration::from_secs(10_000);

/// The operations, each of one worker's keys.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Set,
    /// The first keys of the worker, which are in many shards of the map.
    SetMany,
    SetFor,
    /// With no time to live: as if it was removed.
    SetOver,
    SetUnderView,
    Swap,
    SwapVersion,
    Insert,
    Append,
    Add,
    AddFloat,
    Expire,
    Purge,
    Remove,
    Take,
}

/// What worker `worker` does as its step `number`.
fn step(worker: usize, number: u64) -> (Operation, Vec<u8>, Vec<u8>) {
    use Operation::*;
    let mut random = Random((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ worker as u64);
    random.next();
    let all = [
        Set,
        Set,
        SetMany,
        SetFor,
        SetOver,
        SetUnderView,
        Swap,
        SwapVersion,
        Insert,
        Append,
        Append,
        Add,
        AddFloat,
        Expire,
        Purge,
        Remove,
        Take,
    ];
    let operation = all[random.below(all.len() as u64) as usize];
    let name = random.below(30) as u8;
    let name = match operation {
        // Counters have their own keys, which no other operation sets.
        Add => 100 + name % 4,
        AddFloat => 200 + name % 4,
        _ => name,
    };
    let key = vec![worker as u8, name];
    let len = match random.below(40) {
        0 => 250_000 + random.below(100_000),
        1..4 => random.below(50_000),
        _ => random.below(300),
    };
    (operation, key, vec![number as u8; len as usize])
}

fn apply(map: &Map, worker: usize, number: u64) {
    let (operation, key, value) = step(worker, number);
    match operation {
        Operation::Set => map.set(&key, &value).unwrap(),
        Operation::SetFor => map.set_for(&key, &value, LONG).unwrap(),
        Operation::SetUnderView => {
            let view = map.view(&key).unwrap();
            let was = view.as_ref().map(|view| view.to_vec());
            map.set(&key, &value).unwrap();
            assert!(view.as_ref().map(|view| view.to_vec()) == was);
        }
        Operation::SwapVersion => {
            let version = map.version_of(&key).unwrap();
            assert!(
                map.compare_swap_version(&key, version, Some(&value))
                    .unwrap()
            );
        }
        Operation::Insert => drop(map.insert(&key, &value).unwrap()),
        Operation::SetMany => map.set_many(&many(worker, number)).unwrap(),
        Operation::SetOver => map.set_for(&key, &value, Duration::ZERO).unwrap(),
        Operation::Swap => {
            let was = map.get_vec(&key).unwrap();
            let swapped = map.compare_swap(&key, was.as_deref(), Some(&value));
            assert!(swapped.unwrap());
        }
        Operation::Add => drop(map.add(&key, number as i64).unwrap()),
        Operation::AddFloat => drop(map.add_f64(&key, number as f64).unwrap()),
        Operation::Purge => drop(map.purge().unwrap()),
        Operation::Append => {
            let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"x"].concat());
            map.update(&key, append).unwrap();
        }
        Operation::Expire => drop(
            map.expire(&key, number.is_multiple_of(2).then_some(LONG))
                .unwrap(),
        ),
        Operation::Remove => drop(map.remove(&key).unwrap()),
        Operation::Take => drop(map.take(&key).unwrap()),
    }
}

/// What is set together in one step.
fn many(worker: usize, number: u64) -> Vec<(Vec<u8>, [u8; 8])> {
    let key = |name| vec![worker as u8, name];
    (0..10).map(|it| (key(it), number.to_le_bytes())).collect()
}

fn imagine(model: &mut Model, worker: usize, number: u64) {
    let (operation, key, value) = step(worker, number);
    let word = |model: &Model| model.get(&key).map(|it| it[..].try_into().unwrap());
    match operation {
        Operation::Expire | Operation::Purge => {}
        Operation::SetMany => {
            let items = many(worker, number).into_iter();
            model.extend(items.map(|(key, value)| (key, value.to_vec())));
        }
        Operation::Add => {
            let sum = word(model).map_or(0, i64::from_le_bytes) + number as i64;
            model.insert(key, sum.to_le_bytes().to_vec());
        }
        Operation::AddFloat => {
            let sum = word(model).map_or(0.0, f64::from_le_bytes) + number as f64;
            model.insert(key, sum.to_le_bytes().to_vec());
        }
        Operation::SetOver => drop(model.remove(&key)),
        Operation::Insert => drop(model.entry(key).or_insert(value)),
        Operation::Append => model.entry(key).or_default().push(b'x'),
        Operation::Remove | Operation::Take => drop(model.remove(&key)),
        _ => drop(model.insert(key, value)),
    }
}

fn contents(map: &Map, worker: usize) -> Model {
    let all = map.iter().map(Result::unwrap);
    all.filter(|(key, _)| key[0] == worker as u8).collect()
}

/// For so long, half of the time on a map that keeps the order of insertion.
fn kill_for(length: Duration) -> (u64, u64) {
    let plain = kill_users_of(&Options::create(), length / 2);
    let ordered = kill_users_of(&Options::create().ordered().compact(), length / 2);
    (plain.0 + ordered.0, plain.1 + ordered.1)
}

fn kill_users_of(options: &Options, length: Duration) -> (u64, u64) {
    let map = Map::with_options(None, options).unwrap();
    let words = Words::new(2 * WORKERS);
    let mut random = Random(0x5eed);
    let mut replicas = vec![Replica::<Model>::default(); WORKERS];
    let start = |worker: usize| {
        fork(|| Progress::of(&words, worker).work(|number| apply(&map, worker, number)))
    };
    let mut workers: Vec<Option<Child>> = (0..WORKERS).map(|it| Some(start(it))).collect();
    let (began, mut kills) = (Instant::now(), 0);
    let done = || -> u64 {
        let each = (0..WORKERS).map(|it| Progress::of(&words, it).done());
        each.sum()
    };
    while began.elapsed() < length || kills <= LEAST_KILLS || done() <= LEAST_DONE {
        std::thread::sleep(Duration::from_micros(1000 + random.below(12_000)));
        let victim = random.below(WORKERS as u64) as usize;
        workers[victim].take().unwrap().kill();
        kills += 1;
        // Its lock goes to the next process that asks.
        let (_, key, _) = step(victim, replicas[victim].next());
        drop(map.lock_key(&key, FOREVER).unwrap());
        let (progress, found) = (Progress::of(&words, victim), contents(&map, victim));
        let replica = &mut replicas[victim];
        let under_way = replica.follow(&progress, &found, |model, number| {
            imagine(model, victim, number);
        });
        if let Some((number, before)) = under_way {
            let (model, what) = (&mut replica.model, step(victim, number).0);
            if let Operation::SetMany = what {
                // Each key is set or is not.
                let keys = before.keys().chain(model.keys());
                let wholly = |key: &Vec<u8>| {
                    [&before, &*model]
                        .map(|it| it.get(key))
                        .contains(&found.get(key))
                };
                assert!(
                    keys.clone().all(wholly),
                    "step {number}, {what:?}, a key by half"
                );
                assert!(found.keys().all(|key| keys.clone().any(|it| it == key)));
                *model = found.clone();
            }
            let wholly = found == *model;
            assert!(wholly, "{what:?} as step {number} was done by half");
        }
        workers[victim] = Some(start(victim));
    }
    workers.into_iter().flatten().for_each(Child::kill);
    map.verify().unwrap();
    map.clear().unwrap();
    // Processes that died reading in place, or writing, hold nothing any more.
    for shard_of in 0..2000u32 {
        drop(map.lock_key(&shard_of.to_le_bytes(), FOREVER).unwrap());
    }
    map.verify().unwrap();
    (kills, done())
}

#[test]
fn a_call_of_a_killed_process_happened_wholly_or_not_at_all() {
    let _alone = alone();
    let (kills, steps) = kill_for(Duration::from_secs(2));
    assert!(
        kills > LEAST_KILLS && steps > LEAST_DONE,
        "{kills} kills, {steps} steps"
    );
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test map kills::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let (kills, steps) = kill_for(soak_length());
    println!("{kills} kills, {steps} operations");
}
