//! Maps: how many operations a second, and how much memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shoal::{Map, Queue};

use super::crew::{Crew, Role};
use super::report::{MapRate, Memory, Spread, Stored};
use super::stage::Stage;
use super::{Failure, Options, cores};

/// As in the goals: keys of 16 bytes, values of 64.
const KEY: usize = 16;
const VALUE: usize = 64;
/// All in the cache, and mostly out of it.
const KEYS: [u64; 2] = [1_000, 1_000_000];
const STORED: [u64; 2] = [10_000, 1_000_000];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Get,
    Set,
}

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    name: String,
    keys: u64,
    operation: Operation,
    worker: usize,
    workers: usize,
}

fn key(index: u64) -> [u8; KEY] {
    // Spread over all bits, as real keys are, and never the same for two indices.
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&mixed.to_ne_bytes());
    key[8..].copy_from_slice(&index.to_ne_bytes());
    key
}

/// A value says whose it is.
fn value(key: &[u8; KEY]) -> [u8; VALUE] {
    let mut value = [7; VALUE];
    value[..KEY].copy_from_slice(key);
    value
}

/// The keys of a map with `count` of them, in an order that no cache can guess.
fn shuffled(count: u64) -> Vec<[u8; KEY]> {
    let mut keys: Vec<_> = (0..count).map(key).collect();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for at in (1..keys.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        keys.swap(at, (state % (at as u64 + 1)) as usize);
    }
    keys
}

pub(super) fn measure(options: &Options) -> Result<Vec<MapRate>, Failure> {
    let mut rates = Vec::new();
    for keys in KEYS {
        let map = Map::anonymous()?;
        // Not in the order they are asked for: entries lie in memory as they were inserted, and
        // a walk along them is faster by half or more than what a program sees.
        for index in 0..keys {
            map.set(&key(index), &value(&key(index)))?;
        }
        for operation in [Operation::Get, Operation::Set] {
            for workers in [1, 2] {
                let million = together(&map, keys, operation, workers, options)?;
                rates.push(MapRate {
                    operation,
                    keys,
                    processes: workers,
                    pinned: cores::pair().is_some(),
                    million,
                });
            }
        }
        if map.len()? as u64 != keys {
            return Err(format!("a map of {keys} keys has {} now", map.len()?).into());
        }
    }
    Ok(rates)
}

/// Million operations a second of several processes together.
fn together(
    map: &Map,
    keys: u64,
    operation: Operation,
    workers: usize,
    options: &Options,
) -> Result<Spread, Failure> {
    let stage = Stage::new()?;
    let mut crew = Crew::new(&stage);
    for worker in 0..workers {
        let part = Part {
            name: map.name().to_owned(),
            keys,
            operation,
            worker,
            workers,
        };
        let core = cores::pair().map(|cores| cores[worker % 2]);
        crew.hire(core, Vec::new(), Role::Map(part))?;
    }
    crew.start(options.window.max(Duration::from_millis(20)) / 4)?;
    let mut rates = Vec::new();
    for _ in 0..options.repeat {
        let (began, before) = stage.counts(workers);
        std::thread::sleep(options.window);
        let (ended, after) = stage.counts(workers);
        let done = after.iter().sum::<u64>() - before.iter().sum::<u64>();
        rates.push(done as f64 / (ended - began).as_secs_f64() / 1e6);
    }
    stage.stop();
    crew.join_all()?;
    Ok(Spread::of(rates))
}

impl Part {
    pub(super) fn work(&self, stage: &Stage) -> Result<(), Failure> {
        let (map, keys) = (Map::open(&self.name)?, shuffled(self.keys));
        // Each process begins somewhere else.
        let (late, early) = keys.split_at(keys.len() / self.workers * self.worker);
        let order = early.iter().chain(late).cycle();
        let tally = stage.tally(self.worker);
        let (mut found, mut done) = ([0u8; VALUE], 0u64);
        stage.wait_for_start();
        for key in order {
            match self.operation {
                Operation::Set => map.set(key, &value(key))?,
                Operation::Get => {
                    if map.get(key, &mut found)? != Some(VALUE) || found[..KEY] != key[..] {
                        return Err("a key has another value than it was given".into());
                    }
                }
            }
            done += 1;
            if done.is_multiple_of(64) {
                tally.messages.store(done, Ordering::Release);
                if stage.is_stopped() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What objects take of `/dev/shm`.
pub(super) fn memory() -> Result<Memory, Failure> {
    let committed = |name: &str| shoal::stat(name).map(|info| info.committed);
    let (queue, map) = (Queue::anonymous()?, Map::anonymous()?);
    let (empty_queue, empty_map) = (committed(queue.name())?, committed(map.name())?);
    let (mut per_byte, mut stored) = (Vec::new(), 0);
    for entries in STORED {
        for index in stored..entries {
            map.set(&key(index), &value(&key(index)))?;
        }
        stored = entries;
        let bytes = entries * (KEY + VALUE) as u64;
        let used = committed(map.name())?.saturating_sub(empty_map);
        per_byte.push(Stored {
            entries,
            committed_per_stored_byte: used as f64 / bytes as f64,
        });
    }
    Ok(Memory {
        empty_queue,
        empty_map,
        map: per_byte,
    })
}
