//! Maps: operations a second, and memory.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shoal::Map;

use super::entries::{KEY, VALUE, Writes, key, shuffled, value};
use super::failure::{Failure, Why};
use super::options::Options;
use super::report::{MapRate, Report};
use super::rounds::in_turns;
use super::spread::Spread;
use super::stage::Stage;
use super::stores::{Operation, Store};
use super::times::Stopwatch;
use super::waited::Window;
use super::workers::{self, Workers};
use super::{cores, cputime, peers};

/// Numbers of keys: all in the cache, mostly in it, and mostly outside.
const KEYS: [u64; 3] = [1_000, 100_000, 1_000_000];

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    name: String,
    keys: u64,
    operation: Operation,
    worker: usize,
    workers: usize,
    /// Whether it times every call.
    timed: bool,
}

/// A filled store.
#[expect(clippy::large_enum_variant, reason = "there are four at a time")]
enum Filled {
    Own(Map),
    Program(peers::Program),
}

impl Filled {
    /// Filled in another order than keys are read: entries lie in memory as they were
    /// inserted, and reading them in that order is faster by half or more than in a real program.
    fn new(store: Store, keys: u64) -> Result<Result<Self, Why>, Failure> {
        if store != Store::Shoal {
            let program = match peers::Program::store(store) {
                Ok(program) => program,
                Err(why) => return Ok(Err(why)),
            };
            program.fill(keys)?;
            return Ok(Ok(Self::Program(program)));
        }
        Ok(Ok(Self::Own(own(keys)?)))
    }
}

/// A map of Shoal with this many keys.
fn own(keys: u64) -> Result<Map, Failure> {
    let map = Map::anonymous()?;
    for index in 0..keys {
        map.set(&key(index), &value(&key(index)))?;
    }
    Ok(map)
}

/// Measures every store, and reports why some cannot be measured.
pub(super) fn measure(
    options: &Options,
    stores: &[Store],
    report: &mut Report,
) -> Result<(), Failure> {
    for keys in KEYS {
        let mut filled = Vec::new();
        for &store in stores {
            match Filled::new(store, keys)? {
                Ok(there) => filled.push((store, there)),
                Err(why) if keys == KEYS[0] => report.no_stores.push((store, why)),
                Err(_) => {}
            }
        }
        // Mixtures show the cost of locks, and not of memory.
        let operations: &[_] = match keys {
            100_000 => &[Operation::Get, Operation::Mix, Operation::Half],
            _ => &[Operation::Get, Operation::Set, Operation::Overwrite],
        };
        for &operation in operations {
            // One process and two in turn: the speed of memory changes within seconds.
            let able: Vec<_> = filled
                .iter()
                .filter(|(store, _)| store.knows(operation))
                .flat_map(|(store, filled)| [1, 2].map(|workers| (*store, filled, workers)))
                .collect();
            let window = |&(_, filled, workers): &(Store, &Filled, usize)| {
                together(filled, keys, operation, workers, options).map(Ok)
            };
            let windows = in_turns(&able, options.repeat, window)?;
            let rates = able.iter().zip(windows);
            let rates = rates.filter_map(|(&(store, _, processes), windows)| {
                windows.ok().map(|windows| MapRate {
                    store,
                    operation,
                    keys,
                    processes,
                    pinned: cores::pair().is_some(),
                    million: Spread::of(windows.iter().map(|it| it.0).collect()),
                    cpu_ns: Spread::of(windows.iter().map(|it| it.1).collect()),
                })
            });
            let mut rates: Vec<_> = rates.collect();
            rates.sort_by_key(|rate| rate.processes);
            report.map.append(&mut rates);
        }
        for (_, filled) in &filled {
            if let Filled::Own(map) = filled
                && map.len()? as u64 != keys
            {
                return Err(format!("a map of {keys} keys has {} now", map.len()?).into());
            }
        }
    }
    Ok(())
}

/// Million operations a second of several processes together, and nanoseconds of the cores for each.
fn together(
    store: &Filled,
    keys: u64,
    operation: Operation,
    workers: usize,
    options: &Options,
) -> Result<(f64, f64), Failure> {
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for worker in 0..workers {
        let core = cores::pair().map(|cores| cores[worker % 2]);
        let map = match store {
            Filled::Own(map) => map,
            Filled::Program(program) => {
                let words = program.keys(operation.name(), stage.fd(), worker, workers, keys);
                processes.add_program(core, &words)?;
                continue;
            }
        };
        let part = Part {
            name: map.name().to_owned(),
            keys,
            operation,
            worker,
            workers,
            timed: false,
        };
        processes.add(core, Vec::new(), &part)?;
    }
    processes.start(options.window.max(Duration::from_millis(20)) / 4)?;
    let mut pids = processes.pids();
    if let Filled::Program(program) = store {
        pids.extend(program.server());
    }
    let (used, (began, before)) = (cputime::used(&pids)?, stage.counts(workers));
    std::thread::sleep(options.window);
    let ((ended, after), used_by_then) = (stage.counts(workers), cputime::used(&pids)?);
    let done = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    stage.stop();
    processes.join_all()?;
    let cpu = (used_by_then - used).as_nanos() as f64 / done.max(1) as f64;
    Ok((done as f64 / (ended - began).as_secs_f64() / 1e6, cpu))
}

/// This many processes on any cores, which use the same keys of a map of Shoal and time every call.
pub(super) fn timed(
    keys: u64,
    operation: Operation,
    workers: usize,
    length: Duration,
) -> Result<Window, Failure> {
    let map = own(keys)?;
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for worker in 0..workers {
        let part = Part {
            name: map.name().to_owned(),
            keys,
            operation,
            worker,
            workers,
            timed: true,
        };
        processes.add(None, Vec::new(), &part)?;
    }
    processes.start(length / 10)?;
    let measured = processes.measure(length)?;
    processes.join_all()?;
    Ok(Window::counted(&measured, &measured.counts).with_times(&stage))
}

impl workers::Part for Part {
    const NAME: &str = "map";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let map = Map::open(&self.name)?;
        let order = shuffled(self.keys, self.worker, self.workers);
        let tally = stage.tally(self.worker);
        let writes = Writes::of(self.operation.name());
        let mut found = [0u8; VALUE];
        let mut stopwatch = Stopwatch::new()?;
        stage.wait_for_start();
        for (done, key) in (0..).zip(order.iter().cycle()) {
            let start = self.timed.then(Instant::now);
            if writes.next(done) {
                map.set(key, &value(key))?;
            } else if map.get(key, &mut found)? != Some(VALUE) || found[..KEY] != key[..] {
                return Err("a key has another value than it was given".into());
            }
            if let Some(start) = start
                && stage.has_begun()
            {
                stopwatch.record(start.elapsed())?;
            }
            if done % 64 == 0 {
                tally.messages.store(done, Ordering::Release);
                if stage.is_stopped() {
                    break;
                }
                if stage.is_measuring() {
                    stage.announce_result();
                }
            }
        }
        stopwatch.share(stage);
        Ok(())
    }
}
