//! Shoal's goals, and whether this run reached them.

use super::figures::size;
use super::load::{BATCH, LARGE, Transport};
use super::options::FAIR_WINDOW;
use super::report::{Goal, Outcome, Report};
use super::stores::{Operation, Store};

/// The subject of a goal. Messages have 64 bytes unless a goal names another size.
pub(super) enum Subject {
    /// Million messages a second of a topology, in batches of this size.
    Rate(&'static str, usize),
    /// The quotient of the messages of a topology's busiest and least busy process.
    Fairness(&'static str),
    /// A round trip, in round trips of a cache line.
    Trip,
    /// 64 KiB messages carried, in percent of memcpy.
    Copied,
    /// Million operations a second of one process, on this many keys.
    Map(Operation, u64),
    /// The rate of two processes together, divided by the rate of one, on 100 000 keys.
    Together(Operation),
    /// Committed KiB.
    EmptyQueue,
    EmptyMap,
    /// Committed bytes for each stored byte of this many entries.
    PerByte(u64),
    /// A get of one of this many keys, in dependent reads of as much memory.
    Reads(u64),
    /// Milliseconds of processor time a second, of idle queues and their sleeping readers.
    Idle,
    /// Large messages in place between two processes, in percent of bare memory.
    InPlace(usize),
    /// A round trip's 99th percentile, in medians.
    TripTail,
}

pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

use Bound::{AtLeast, AtMost, Below};

const GOALS: [(&str, Subject, Bound, &str); 29] = [
    (
        "64 B, 1x1, one at a time",
        Subject::Rate("1x1", 1),
        AtLeast(12.0),
        "M/s",
    ),
    (
        "64 B, 1x1, batches of 32",
        Subject::Rate("1x1", BATCH),
        AtLeast(30.0),
        "M/s",
    ),
    (
        "64 B there and back, in cache lines",
        Subject::Trip,
        AtMost(2.6),
        "x",
    ),
    (
        "64 KiB, 1x1, copied in and out",
        Subject::Copied,
        AtLeast(45.0),
        "% of memcpy",
    ),
    ("64 B, 4x4", Subject::Rate("4x4", 1), AtLeast(8.0), "M/s"),
    ("64 B, 8x1", Subject::Rate("8x1", 1), AtLeast(8.0), "M/s"),
    ("64 B, 1x8", Subject::Rate("1x8", 1), AtLeast(8.0), "M/s"),
    (
        "64 B, 4x4, most to least",
        Subject::Fairness("4x4"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 8x1, most to least",
        Subject::Fairness("8x1"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 1x8, most to least",
        Subject::Fairness("1x8"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 2x2, most to least",
        Subject::Fairness("2x2"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 20x20, most to least",
        Subject::Fairness("20x20"),
        AtMost(4.0),
        "x",
    ),
    (
        "64 B, 20x3, most to least",
        Subject::Fairness("20x3"),
        AtMost(4.0),
        "x",
    ),
    (
        "map get, 1000 keys",
        Subject::Map(Operation::Get, 1_000),
        AtLeast(10.0),
        "M/s",
    ),
    (
        "map get, 1000000 keys",
        Subject::Map(Operation::Get, 1_000_000),
        AtLeast(2.0),
        "M/s",
    ),
    (
        "map set, 1000 keys",
        Subject::Map(Operation::Set, 1_000),
        AtLeast(3.0),
        "M/s",
    ),
    (
        "map set, 1000000 keys",
        Subject::Map(Operation::Set, 1_000_000),
        AtLeast(0.8),
        "M/s",
    ),
    (
        "map get, two processes to one",
        Subject::Together(Operation::Get),
        AtLeast(1.7),
        "x",
    ),
    (
        "map 90/10, two processes to one",
        Subject::Together(Operation::Mix),
        AtLeast(1.4),
        "x",
    ),
    ("an empty queue", Subject::EmptyQueue, Below(128.0), "KiB"),
    ("an empty map", Subject::EmptyMap, Below(128.0), "KiB"),
    (
        "memory of 45000 entries, for each byte",
        Subject::PerByte(45_000),
        AtMost(1.6),
        "B",
    ),
    (
        "memory of 1000000 entries, for each byte",
        Subject::PerByte(1_000_000),
        AtMost(1.6),
        "B",
    ),
    (
        "memory of 10000000 entries, for each byte",
        Subject::PerByte(10_000_000),
        AtMost(1.6),
        "B",
    ),
    (
        "map get, 10000000 keys, in dependent reads",
        Subject::Reads(10_000_000),
        AtMost(3.0),
        "x",
    ),
    (
        "1000 idle queues, 100 readers",
        Subject::Idle,
        Below(50.0),
        "ms/s",
    ),
    (
        "64 B there and back, p99 to median",
        Subject::TripTail,
        AtMost(2.0),
        "x",
    ),
    (
        "64 KiB, 1x1, in place",
        Subject::InPlace(64 << 10),
        AtLeast(90.0),
        "% of bare memory",
    ),
    (
        "1 MiB, 1x1, in place",
        Subject::InPlace(1 << 20),
        AtLeast(90.0),
        "% of bare memory",
    ),
];

/// By how much Shoal is faster than another project's queue in the same run: in round trips, or in what a
/// topology carries of such messages in such batches. The peer always sends single messages.
pub(super) struct Beside {
    peer: Transport,
    what: &'static str,
    topology: &'static str,
    size: usize,
    batch: usize,
    times: f64,
}

const BESIDE: [Beside; 12] = [
    trips(Transport::Iceoryx2, 3.0),
    rates(Transport::Iceoryx2, "1x1", 64, 1, 4.0),
    rates(Transport::Iceoryx2, "1x1", 64, BATCH, 8.0),
    rates(Transport::Iceoryx2, "1x1", 64 << 10, 1, 3.0),
    rates(Transport::Iceoryx2, "1x1", 1 << 20, 1, 3.0),
    rates(Transport::Boost, "1x1", 64, 1, 1.5),
    rates(Transport::Boost, "2x2", 64, 1, 2.5),
    rates(Transport::Boost, "4x4", 64, 1, 2.5),
    rates(Transport::Boost, "8x1", 64, 1, 2.5),
    rates(Transport::Boost, "1x8", 64, 1, 2.5),
    rates(Transport::Boost, "20x20", 64, 1, 2.5),
    rates(Transport::Boost, "20x3", 64, 1, 2.5),
];

const fn trips(peer: Transport, times: f64) -> Beside {
    Beside {
        peer,
        what: "round trip",
        topology: "1x1",
        size: 64,
        batch: 1,
        times,
    }
}

pub(super) const fn rates(
    peer: Transport,
    topology: &'static str,
    size: usize,
    batch: usize,
    times: f64,
) -> Beside {
    Beside {
        peer,
        what: "throughput",
        topology,
        size,
        batch,
        times,
    }
}

/// Judges every goal. A goal without figures in this run counts as not measured. Goals beside a peer
/// that this machine does not have are left out.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    let own = GOALS.iter().map(|(what, of, bound, unit)| {
        let measured = of.measured(report);
        goal((*what).to_owned(), measured, bound, unit)
    });
    let beside = BESIDE.iter().filter(|it| report.peers.contains(&it.peer));
    let beside = beside.map(|it| {
        let (size, peer) = (size(it.size), it.peer);
        let how = match (it.what, it.batch) {
            _ if it.size >= LARGE => format!("{}, in place", it.topology),
            ("round trip", _) => "there and back".to_owned(),
            (_, 1) => it.topology.to_owned(),
            (_, batch) => format!("{}, by {batch}", it.topology),
        };
        let what = format!("{size}, {how}, beside {peer}");
        goal(what, it.measured(report), &AtLeast(it.times), "x")
    });
    let stores = STORES
        .iter()
        .filter_map(|&(operation, keys, processes, store, times)| {
            let measured = report.map_ratio(store, operation, keys, processes)?;
            let (what, who) = (
                operation.name(),
                if processes == 1 {
                    ""
                } else {
                    ", two processes"
                },
            );
            let what = format!("map {what}, {keys} keys{who}, beside {store}");
            Some(goal(what, Some(measured), &AtLeast(times), "x"))
        });
    own.chain(beside).chain(stores).collect()
}

/// By how much Shoal is faster than another store.
const STORES: [(Operation, u64, usize, Store, f64); 16] = [
    (Operation::Get, 1_000, 1, Store::Boost, 1.0),
    (Operation::Get, 1_000, 1, Store::Lmdb, 3.0),
    (Operation::Get, 1_000_000, 1, Store::Boost, 1.3),
    (Operation::Get, 1_000_000, 1, Store::Lmdb, 3.5),
    (Operation::Get, 1_000, 1, Store::Redis, 300.0),
    (Operation::Get, 1_000_000, 1, Store::Redis, 300.0),
    (Operation::Get, 100_000, 2, Store::Boost, 4.0),
    (Operation::Mix, 100_000, 2, Store::Boost, 4.0),
    (Operation::Set, 1_000, 1, Store::Boost, 1.5),
    (Operation::Set, 1_000, 1, Store::Lmdb, 2.5),
    (Operation::Set, 1_000_000, 1, Store::Boost, 1.5),
    (Operation::Set, 1_000_000, 1, Store::Lmdb, 2.5),
    (Operation::Set, 1_000, 2, Store::Boost, 3.0),
    (Operation::Set, 1_000, 2, Store::Lmdb, 3.0),
    (Operation::Set, 1_000_000, 2, Store::Boost, 3.0),
    (Operation::Set, 1_000_000, 2, Store::Lmdb, 3.0),
];

pub(super) fn goal(what: String, measured: Option<f64>, bound: &Bound, unit: &'static str) -> Goal {
    // A missing figure compares as not reached; it is distinguished below.
    let value = measured.unwrap_or(f64::NAN);
    let (words, bound, reached) = match *bound {
        AtLeast(bound) => ("at least", bound, value >= bound),
        AtMost(bound) => ("at most", bound, value <= bound),
        Below(bound) => ("below", bound, value < bound),
    };
    Goal {
        what,
        words: words.into(),
        bound,
        unit: unit.into(),
        measured,
        outcome: match measured {
            None => Outcome::NotMeasured,
            Some(_) if reached => Outcome::Reached,
            Some(_) => Outcome::Missed,
        },
    }
}

impl Beside {
    pub(super) fn measured(&self, report: &Report) -> Option<f64> {
        if self.size >= LARGE {
            // Single messages, as the peer sends them.
            return in_place(report, self.size, self.peer);
        }
        let peer = self.peer.to_string();
        let mut ratios = report.ratios.iter();
        let ratio = ratios.find(|it| {
            (it.what.as_ref(), it.size, it.batch) == (self.what, self.size, self.batch)
                && it.topology == self.topology
                && it.with == peer
        });
        Some(ratio?.shoal_is_faster_by)
    }
}

/// How many times as much as `other` our messages in place carry, one writer to one reader.
fn in_place(report: &Report, size: usize, other: Transport) -> Option<f64> {
    let rate = |transport: Transport| {
        let mut all = report.throughput.iter().filter(|it| it.topology == "1x1");
        let it = all.find(|it| (it.transport, it.size) == (transport, size));
        Some(&it?.million)
    };
    Some(rate(Transport::InPlace)?.beside(rate(other)?))
}

impl Subject {
    pub(super) fn measured(&self, report: &Report) -> Option<f64> {
        let rate = |size: usize, topology: &str, batch: usize| {
            report.throughput.iter().find(|it| {
                it.transport == Transport::Shoal
                    && it.size == size
                    && it.batch == batch
                    && it.topology == topology
            })
        };
        let memory = report.memory.as_ref();
        let stored = |entries| memory?.map.iter().find(|it| it.entries == entries);
        match *self {
            Subject::Rate(topology, batch) => Some(rate(64, topology, batch)?.million.median),
            // With more processes than cores, each must have carried some messages.
            Subject::Fairness(_) if report.window_seconds < FAIR_WINDOW => None,
            Subject::Fairness(topology) => {
                let ratio = rate(64, topology, 1)?.most_to_least;
                Some(ratio.unwrap_or(f64::INFINITY))
            }
            Subject::Trip => {
                let mut trips = report.round_trips.iter();
                let own = trips.find(|it| it.transport == Transport::Shoal && it.size == 64);
                Some(own?.cache_lines.median)
            }
            Subject::Copied => {
                let copied = report.copied.as_ref()?;
                Some(copied.gigabytes / report.memcpy(copied.size)? * 100.0)
            }
            Subject::Map(operation, keys) => {
                let own = report.map.iter().filter(|it| it.store == Store::Shoal);
                let alone = own.filter(|it| it.processes == 1);
                let mut same = alone.filter(|it| it.operation == operation && it.keys == keys);
                Some(same.next()?.million.median)
            }
            Subject::Together(operation) => {
                let own = report.map.iter().filter(|it| it.store == Store::Shoal);
                let rate = |processes| {
                    let mut same = own
                        .clone()
                        .filter(|it| (it.operation, it.keys) == (operation, 100_000));
                    Some(same.find(|it| it.processes == processes)?.million.median)
                };
                Some(rate(2)? / rate(1)?)
            }
            Subject::EmptyQueue => Some(memory?.empty_queue as f64 / 1024.0),
            Subject::EmptyMap => Some(memory?.empty_map as f64 / 1024.0),
            Subject::PerByte(entries) => Some(stored(entries)?.committed_per_stored_byte),
            Subject::Reads(keys) => {
                let it = stored(keys)?;
                Some(it.get_ns.median / it.read_ns.median)
            }
            Subject::Idle => Some(report.idle.as_ref()?.cpu_ms_per_second),
            Subject::InPlace(size) => Some(in_place(report, size, Transport::Bare)? * 100.0),
            Subject::TripTail => {
                let mut trips = report.round_trips.iter();
                let own = trips.find(|it| it.transport == Transport::Shoal && it.size == 64)?;
                Some(own.p99_ns.median / own.median_ns.median)
            }
        }
    }
}
