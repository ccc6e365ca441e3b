//! Maps: how many a second, and how much memory.

use std::time::{Duration, Instant};

use shoal::{Map, Queue};

use super::report::{MapRate, Memory};
use super::stage::{self, Stand};
use super::{Failure, spread};
use std::sync::atomic::Ordering;

/// As in the goals: keys of 16 bytes, values of 64.
const KEY: usize = 16;
const VALUE: usize = 64;
const COUNTS: [u64; 2] = [1_000, 1_000_000];

fn key(index: u64) -> [u8; KEY] {
    // Spread over all bits, as real keys are, and never the same for two indices.
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&mixed.to_ne_bytes());
    key[8..].copy_from_slice(&index.to_ne_bytes());
    key
}

/// Keys of a map with `count` of them, in an order that no cache can guess.
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

pub(super) fn measure(window: Duration) -> Result<Vec<MapRate>, Failure> {
    let mut rates = Vec::new();
    for count in COUNTS {
        let map = Map::anonymous()?;
        // Not in the order they are asked for: entries lie in memory as they were inserted, and
        // a walk along them is faster by half or more than what a program sees.
        for index in 0..count {
            map.set(&key(index), &[7; VALUE])?;
        }
        let keys = shuffled(count);
        for write in [false, true] {
            for processes in [1, 2] {
                let million = (0..3)
                    .map(|_| together(&map, &keys, write, processes, window))
                    .collect::<Result<Vec<f64>, Failure>>()?;
                let operation = if write { "set" } else { "get" };
                rates.push(MapRate {
                    operation,
                    keys: count,
                    processes,
                    million: spread(million),
                });
            }
        }
    }
    Ok(rates)
}

/// Million operations a second of several processes together.
fn together(
    map: &Map,
    keys: &[[u8; KEY]],
    write: bool,
    processes: usize,
    window: Duration,
) -> Result<f64, Failure> {
    let stand = Stand::new()?;
    let mut workers = Vec::new();
    for worker in 0..processes {
        let work = || {
            let (mut value, mut done, mut sum) = ([0u8; VALUE], 0u64, 0u64);
            // Each process begins somewhere else.
            let begin = keys.len() / processes * worker;
            let order = keys[begin..].iter().chain(&keys[..begin]).cycle();
            stand.wait_for_go();
            for key in order {
                if write {
                    value[..8].copy_from_slice(&done.to_ne_bytes());
                    map.set(key, &value)?;
                } else {
                    match map.get(key, &mut value)? {
                        Some(VALUE) => {
                            let (words, _) = value.as_chunks::<8>();
                            let add = |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(word));
                            sum = words.iter().copied().fold(sum, add);
                        }
                        found => return Err(format!("a key's value has {found:?} bytes").into()),
                    }
                }
                done += 1;
                if done.is_multiple_of(64) {
                    stand.tally(worker).messages.store(done, Ordering::Release);
                    if stand.is_stopped() {
                        break;
                    }
                }
            }
            stand.tally(worker).sum.store(sum, Ordering::Release);
            Ok(())
        };
        workers.push(stage::worker((stage::cores() > 1).then_some(worker), work)?);
    }
    let done = || -> u64 {
        let tallies = (0..processes).map(|worker| stand.tally(worker));
        tallies
            .map(|tally| tally.messages.load(Ordering::Acquire))
            .sum()
    };
    stand.go(processes);
    std::thread::sleep(window / 4);
    let (start, before) = (Instant::now(), done());
    std::thread::sleep(window);
    let (after, elapsed) = (done(), start.elapsed());
    stand.stop();
    stage::join(workers)?;
    Ok((after - before) as f64 / elapsed.as_secs_f64() / 1e6)
}

/// What objects take of `/dev/shm`.
pub(super) fn memory() -> Result<Memory, Failure> {
    let committed = |name: &str| shoal::stat(name).map(|info| info.committed);
    let (queue, map) = (Queue::anonymous()?, Map::anonymous()?);
    let (empty_queue, empty_map) = (committed(queue.name())?, committed(map.name())?);
    let mut per_byte = Vec::new();
    let mut stored = 0;
    for count in [10_000, 100_000, 1_000_000] {
        while stored < count {
            map.set(&key(stored), &[7; VALUE])?;
            stored += 1;
        }
        let used = committed(map.name())?.saturating_sub(empty_map);
        per_byte.push((count, used as f64 / (count * (KEY + VALUE) as u64) as f64));
    }
    Ok(Memory {
        empty_queue,
        empty_map,
        map_bytes_per_stored_byte: per_byte,
    })
}
