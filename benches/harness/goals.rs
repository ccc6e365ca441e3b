//! What Shoal sets out to reach, and whether it did in this run.

use super::BATCH;
use super::channel::Transport;
use super::map::Operation;
use super::report::{Goal, Outcome, Report};

/// What a goal is about. Messages have 64 bytes unless it says otherwise.
enum Of {
    /// Million messages a second of a topology, in batches of so many.
    Rate(&'static str, usize),
    /// The same, in times what a peer has one at a time.
    Beside(Transport, &'static str, usize),
    /// Large messages between two, in place, in times what a peer has.
    LargeBeside(Transport, usize),
    /// The same, in percent of bare memory.
    LargeOfMemory(usize),
    /// How many times as much the luckiest process of a topology had as the least lucky.
    Luck(&'static str),
    /// A round trip, in round trips of a cache line.
    Trip,
    /// A round trip's 99th percentile, in medians.
    TripTail,
    /// A peer's round trip, in ours.
    TripBeside(Transport),
    /// 64 KiB messages carried, in percent of memcpy.
    Copied,
    /// Million operations a second of one process, among so many keys.
    Map(Operation, u64),
    /// Committed KiB.
    EmptyQueue,
    EmptyMap,
    /// Milliseconds of a core a second, of queues and readers that wait.
    Idle,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

use Bound::{AtLeast, AtMost, Below};
use Transport::{Boost, Iceoryx2};

type Aim = (&'static str, Of, Bound, &'static str);

const fn rate(what: &'static str, topology: &'static str, batch: usize, million: f64) -> Aim {
    (what, Of::Rate(topology, batch), AtLeast(million), "M/s")
}

const fn beside(what: &'static str, of: Of, times: f64) -> Aim {
    (what, of, AtLeast(times), "x")
}

const fn luck(what: &'static str, topology: &'static str) -> Aim {
    (what, Of::Luck(topology), AtMost(4.0), "x")
}

const fn map(what: &'static str, operation: Operation, keys: u64, million: f64) -> Aim {
    (what, Of::Map(operation, keys), AtLeast(million), "M/s")
}

const GOALS: [Aim; 35] = [
    rate("64 B, 1x1, one at a time", "1x1", 1, 12.0),
    rate("64 B, 1x1, batches of 32", "1x1", BATCH, 30.0),
    (
        "64 B there and back, in cache lines",
        Of::Trip,
        AtMost(3.5),
        "x",
    ),
    (
        "the same, 99th percentile to median",
        Of::TripTail,
        AtMost(2.0),
        "x",
    ),
    (
        "64 KiB, 1x1, copied in and out",
        Of::Copied,
        AtLeast(45.0),
        "% of memcpy",
    ),
    (
        "64 KiB, 1x1, in place",
        Of::LargeOfMemory(64 << 10),
        AtLeast(90.0),
        "% of bare memory",
    ),
    (
        "1 MiB, 1x1, in place",
        Of::LargeOfMemory(1 << 20),
        AtLeast(90.0),
        "% of bare memory",
    ),
    rate("64 B, 4x4", "4x4", 1, 8.0),
    rate("64 B, 8x1", "8x1", 1, 8.0),
    rate("64 B, 1x8", "1x8", 1, 8.0),
    luck("64 B, 2x2, luckiest to least lucky", "2x2"),
    luck("64 B, 4x4, luckiest to least lucky", "4x4"),
    luck("64 B, 8x1, luckiest to least lucky", "8x1"),
    luck("64 B, 1x8, luckiest to least lucky", "1x8"),
    luck("64 B, 20x20, luckiest to least lucky", "20x20"),
    luck("64 B, 20x3, luckiest to least lucky", "20x3"),
    beside(
        "64 B, 1x1, beside iceoryx2",
        Of::Beside(Iceoryx2, "1x1", 1),
        4.0,
    ),
    beside(
        "the same, batches of 32",
        Of::Beside(Iceoryx2, "1x1", BATCH),
        8.0,
    ),
    beside(
        "64 B there and back, beside iceoryx2",
        Of::TripBeside(Iceoryx2),
        3.0,
    ),
    beside(
        "64 KiB, in place, beside iceoryx2",
        Of::LargeBeside(Iceoryx2, 64 << 10),
        3.0,
    ),
    beside(
        "1 MiB, in place, beside iceoryx2",
        Of::LargeBeside(Iceoryx2, 1 << 20),
        3.0,
    ),
    beside("64 B, 1x1, beside Boost", Of::Beside(Boost, "1x1", 1), 1.5),
    beside("64 B, 2x2, beside Boost", Of::Beside(Boost, "2x2", 1), 2.5),
    beside("64 B, 4x4, beside Boost", Of::Beside(Boost, "4x4", 1), 2.5),
    beside("64 B, 8x1, beside Boost", Of::Beside(Boost, "8x1", 1), 2.5),
    beside("64 B, 1x8, beside Boost", Of::Beside(Boost, "1x8", 1), 2.5),
    beside(
        "64 B, 20x20, beside Boost",
        Of::Beside(Boost, "20x20", 1),
        2.5,
    ),
    beside(
        "64 B, 20x3, beside Boost",
        Of::Beside(Boost, "20x3", 1),
        2.5,
    ),
    map("map get, 1000 keys", Operation::Get, 1_000, 10.0),
    map("map get, 1000000 keys", Operation::Get, 1_000_000, 2.0),
    map("map set, 1000 keys", Operation::Set, 1_000, 3.0),
    map("map set, 1000000 keys", Operation::Set, 1_000_000, 0.8),
    ("an empty queue", Of::EmptyQueue, Below(128.0), "KiB"),
    ("an empty map", Of::EmptyMap, Below(128.0), "KiB"),
    (
        "1000 idle queues, 100 readers",
        Of::Idle,
        Below(50.0),
        "ms/s",
    ),
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
        let rate = |transport: Transport, size: usize, topology: &str, batch: usize| {
            report.throughput.iter().find(|it| {
                (it.transport, it.size, it.batch) == (transport, size, batch)
                    && it.topology == topology
            })
        };
        let own = |topology: &str, batch| rate(Transport::Shoal, 64, topology, batch);
        let large = |transport, size| Some(rate(transport, size, "1x1", 1)?.million.median);
        let trip = |transport| {
            let mut trips = report.round_trips.iter();
            trips.find(|it| it.transport == transport && it.size == 64)
        };
        let memory = report.memory.as_ref();
        match *self {
            Of::Rate(topology, batch) => Some(own(topology, batch)?.million.median),
            Of::Beside(peer, topology, batch) => {
                let theirs = rate(peer, 64, topology, 1)?.million.median;
                Some(own(topology, batch)?.million.median / theirs)
            }
            Of::LargeBeside(peer, size) => {
                Some(large(Transport::InPlace, size)? / large(peer, size)?)
            }
            Of::LargeOfMemory(size) => {
                let (ours, bare) = (
                    large(Transport::InPlace, size)?,
                    large(Transport::Bare, size)?,
                );
                Some(ours / bare * 100.0)
            }
            // More processes than cores take turns, and each has to have had some.
            Of::Luck(_) if report.window_seconds < FAIR_WINDOW => None,
            Of::Luck(topology) => {
                let luck = own(topology, 1)?.luckiest_to_least_lucky;
                Some(luck.unwrap_or(f64::INFINITY))
            }
            Of::Trip => Some(trip(Transport::Shoal)?.cache_lines.median),
            Of::TripTail => {
                let own = trip(Transport::Shoal)?;
                Some(own.p99_ns.median / own.median_ns.median)
            }
            Of::TripBeside(peer) => {
                Some(trip(peer)?.median_ns.median / trip(Transport::Shoal)?.median_ns.median)
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
            Of::Idle => Some(report.idle.as_ref()?.cpu_ms_per_second),
        }
    }
}
