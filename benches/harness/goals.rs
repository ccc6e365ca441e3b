//! What Shoal sets out to reach, and whether it did in this run.

use super::BATCH;
use super::channel::Transport;
use super::map::Operation;
use super::report::{Goal, Outcome, Report};

/// What a goal is about. Messages have 64 bytes unless it says otherwise.
enum Of {
    /// Million messages a second of a topology, in batches of so many.
    Rate(&'static str, usize),
    /// How many times as much the luckiest process of a topology had as the least lucky.
    Luck(&'static str),
    /// A round trip, in round trips of a cache line.
    Trip,
    /// 64 KiB messages carried, in percent of memcpy.
    Copied,
    /// Million operations a second of one process, among so many keys.
    Map(Operation, u64),
    /// Committed KiB.
    EmptyQueue,
    EmptyMap,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

use Bound::{AtLeast, AtMost, Below};

const GOALS: [(&str, Of, Bound, &str); 16] = [
    (
        "64 B, 1x1, one at a time",
        Of::Rate("1x1", 1),
        AtLeast(12.0),
        "M/s",
    ),
    (
        "64 B, 1x1, batches of 32",
        Of::Rate("1x1", BATCH),
        AtLeast(30.0),
        "M/s",
    ),
    (
        "64 B there and back, in cache lines",
        Of::Trip,
        AtMost(3.5),
        "x",
    ),
    (
        "64 KiB, 1x1, copied in and out",
        Of::Copied,
        AtLeast(45.0),
        "% of memcpy",
    ),
    ("64 B, 4x4", Of::Rate("4x4", 1), AtLeast(8.0), "M/s"),
    ("64 B, 8x1", Of::Rate("8x1", 1), AtLeast(8.0), "M/s"),
    ("64 B, 1x8", Of::Rate("1x8", 1), AtLeast(8.0), "M/s"),
    (
        "64 B, 4x4, luckiest to least lucky",
        Of::Luck("4x4"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 8x1, luckiest to least lucky",
        Of::Luck("8x1"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 1x8, luckiest to least lucky",
        Of::Luck("1x8"),
        AtMost(4.0),
        "x",
    ),
    (
        "map get, 1000 keys",
        Of::Map(Operation::Get, 1_000),
        AtLeast(10.0),
        "M/s",
    ),
    (
        "map get, 1000000 keys",
        Of::Map(Operation::Get, 1_000_000),
        AtLeast(2.0),
        "M/s",
    ),
    (
        "map set, 1000 keys",
        Of::Map(Operation::Set, 1_000),
        AtLeast(3.0),
        "M/s",
    ),
    (
        "map set, 1000000 keys",
        Of::Map(Operation::Set, 1_000_000),
        AtLeast(0.8),
        "M/s",
    ),
    ("an empty queue", Of::EmptyQueue, Below(128.0), "KiB"),
    ("an empty map", Of::EmptyMap, Below(128.0), "KiB"),
];

/// Seconds; a scheduler gives each process a few milliseconds at a time.
pub(super) const FAIR_WINDOW: f64 = 0.1;

/// Judges every goal; those the run measured nothing for are not measured.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    GOALS
        .iter()
        .map(|(what, of, bound, unit)| {
            let measured = of.measured(report);
            // Nothing measured compares as not reached, and is told apart below.
            let value = measured.unwrap_or(f64::NAN);
            let (words, bound, reached) = match *bound {
                AtLeast(bound) => ("at least", bound, value >= bound),
                AtMost(bound) => ("at most", bound, value <= bound),
                Below(bound) => ("below", bound, value < bound),
            };
            Goal {
                what,
                words,
                bound,
                unit,
                measured,
                outcome: match measured {
                    None => Outcome::NotMeasured,
                    Some(_) if reached => Outcome::Reached,
                    Some(_) => Outcome::Missed,
                },
            }
        })
        .collect()
}

impl Of {
    fn measured(&self, report: &Report) -> Option<f64> {
        let rate = |size: usize, topology: &str, batch: usize| {
            report.throughput.iter().find(|it| {
                it.transport == Transport::Shoal
                    && it.size == size
                    && it.batch == batch
                    && it.topology == topology
            })
        };
        let memory = report.memory.as_ref();
        match *self {
            Of::Rate(topology, batch) => Some(rate(64, topology, batch)?.million.median),
            // More processes than cores take turns, and each has to have had some.
            Of::Luck(_) if report.window_seconds < FAIR_WINDOW => None,
            Of::Luck(topology) => {
                let luck = rate(64, topology, 1)?.luckiest_to_least_lucky;
                Some(luck.unwrap_or(f64::INFINITY))
            }
            Of::Trip => {
                let mut trips = report.round_trips.iter();
                let own = trips.find(|it| it.transport == Transport::Shoal && it.size == 64);
                Some(own?.cache_lines.median)
            }
            Of::Copied => {
                let copied = report.copied.as_ref()?;
                Some(copied.gigabytes / report.memcpy(copied.size)? * 100.0)
            }
            Of::Map(operation, keys) => {
                let alone = report.map.iter().filter(|it| it.processes == 1);
                let mut same = alone.filter(|it| it.operation == operation && it.keys == keys);
                Some(same.next()?.million.median)
            }
            Of::EmptyQueue => Some(memory?.empty_queue as f64 / 1024.0),
            Of::EmptyMap => Some(memory?.empty_map as f64 / 1024.0),
        }
    }
}
