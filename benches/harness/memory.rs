//! The memory of objects in `/dev/shm`, and the cost of a get in a map larger than every cache: how
//! many dependent reads a get waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shoal::{Array, Error, Map, Queue};

use super::entries::{KEY, VALUE, key, random, value};
use super::failure::Failure;
use super::options::{FAIR_WINDOW, Options};
use super::report::{Memory, Stored};
use super::spread::Spread;

/// Numbers of entries: the one above 10 000 that leaves most memory unused, and two much larger ones. The last is
/// not part of a quick run.
const STORED: [u64; 3] = [45_000, 1_000_000, 10_000_000];
/// The size of a cache line.
const LINE: u64 = 64;
/// Reads between two reads of the clock.
const READS: u32 = 1000;

pub(super) fn measure(options: &Options) -> Result<Memory, Failure> {
    let committed = |name: &str| shoal::stat(name).map(|info| info.committed);
    let (queue, map) = (Queue::anonymous()?, Map::anonymous()?);
    let (empty_queue, empty_map) = (committed(queue.name())?, committed(map.name())?);
    let (mut rows, mut stored) = (Vec::new(), 0);
    let sizes = match options.window.as_secs_f64() < FAIR_WINDOW {
        true => &STORED[..2],
        false => &STORED,
    };
    for &entries in sizes {
        for index in stored..entries {
            map.set(&key(index), &value(&key(index)))?;
        }
        stored = entries;
        let used = committed(map.name())?.saturating_sub(empty_map);
        let chain = match Chain::new(used) {
            Ok(chain) => chain,
            Err(Error::NoSpace { .. }) => break,
            other => other?,
        };
        let (mut gets, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..options.repeat {
            gets.push(get(&map, entries, options.window)?);
            reads.push(chain.read(options.window));
        }
        rows.push(Stored {
            entries,
            committed_per_stored_byte: used as f64 / (entries * (KEY + VALUE) as u64) as f64,
            get_ns: Spread::of(gets),
            read_ns: Spread::of(reads),
        });
    }
    Ok(Memory {
        empty_queue,
        empty_map,
        map: rows,
    })
}

/// The nanoseconds of a get of a random key.
fn get(map: &Map, keys: u64, window: Duration) -> Result<f64, Failure> {
    let mut found = [0; VALUE];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let (start, mut gets) = (Instant::now(), 0);
    while start.elapsed() < window {
        for _ in 0..READS {
            let key = key(random(&mut state) % keys);
            if map.get(&key, &mut found)? != Some(VALUE) || found[..KEY] != key[..] {
                return Err("a key has another value than it was given".into());
            }
        }
        gets += READS;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(gets))
}

/// Cache lines in shared memory, each of which holds the position of the next.
struct Chain {
    array: Array,
    lines: u64,
}

impl Chain {
    /// A cycle through all lines of this many bytes, in an order that no prefetcher can predict.
    fn new(bytes: u64) -> Result<Self, Error> {
        let lines = (bytes / LINE).max(2);
        let array = Array::with_options(None, LINE, lines, "", &shoal::Options::create())?;
        let chain = Self { array, lines };
        let mut order: Vec<u64> = (0..lines).collect();
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for at in (1..order.len()).rev() {
            order.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
        }
        for (at, line) in order.iter().enumerate() {
            let next = order[(at + 1) % order.len()];
            chain.line(*line).store(next, Ordering::Relaxed);
        }
        Ok(chain)
    }

    fn line(&self, number: u64) -> &AtomicU64 {
        assert!(number < self.lines);
        let line = self.array.as_ptr().cast::<[u64; 8]>();
        // SAFETY: the assertion above keeps the line within the array, whose items are aligned to a line.
        unsafe { AtomicU64::from_ptr(line.add(number as usize).cast()) }
    }

    /// The nanoseconds of a read that depends on the one before it.
    fn read(&self, window: Duration) -> f64 {
        let (start, mut reads, mut at) = (Instant::now(), 0, 0);
        while start.elapsed() < window {
            for _ in 0..READS {
                at = self.line(at).load(Ordering::Relaxed);
            }
            reads += READS;
        }
        start.elapsed().as_nanos() as f64 / f64::from(reads)
    }
}
