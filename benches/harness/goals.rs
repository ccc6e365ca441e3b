//! What Shoal sets out to reach, and whether it did in this run.

use super::channel::Transport;
use super::report::{Goal, Report, Throughput};

/// Judges every goal the run measured something for.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut at_least = |what: String, goal: f64, measured: Option<f64>, unit: &'static str| {
        if let Some(measured) = measured {
            goals.push(Goal {
                what,
                goal,
                measured,
                unit,
                reached: measured >= goal,
            });
        }
    };
    let rate = |topology: &str, batch: usize| find(report, topology, batch);
    let million = |topology, batch| rate(topology, batch).map(|it| it.million.median);
    at_least(
        "64 B, 1x1, one at a time".into(),
        12.0,
        million("1x1", 1),
        "M/s",
    );
    at_least(
        "64 B, 1x1, batches of 32".into(),
        30.0,
        million("1x1", 32),
        "M/s",
    );
    for topology in ["4x4", "8x1", "1x8"] {
        at_least(
            format!("64 B, {topology}"),
            8.0,
            million(topology, 1),
            "M/s",
        );
        let fed = rate(topology, 1).map(|it| if it.starved { 0.0 } else { 1.0 });
        at_least(format!("64 B, {topology}: nobody starved"), 1.0, fed, "");
    }
    for (operation, keys, goal) in [
        ("get", 1_000, 10.0),
        ("get", 1_000_000, 2.0),
        ("set", 1_000, 3.0),
        ("set", 1_000_000, 0.8),
    ] {
        let mut rates = report.map.iter();
        let found =
            rates.find(|it| it.operation == operation && it.keys == keys && it.processes == 1);
        let what = format!("map {operation}, {keys} keys, one process");
        at_least(what, goal, found.map(|it| it.million.median), "M/s");
    }
    if let Some(floor) = &report.floor {
        let memcpy = floor.copying.iter().find(|it| it.size == 64 << 10);
        let share = report.copied.as_ref().zip(memcpy);
        let share = share.map(|(copied, memcpy)| copied.gigabytes / memcpy.gigabytes * 100.0);
        at_least(
            "64 KiB copied in and out, of memcpy".into(),
            45.0,
            share,
            "%",
        );
    }

    let mut at_most = |what: &str, goal: f64, measured: Option<f64>, unit: &'static str| {
        if let Some(measured) = measured {
            let reached = measured <= goal;
            goals.push(Goal {
                what: what.to_owned(),
                goal,
                measured,
                unit,
                reached,
            });
        }
    };
    let mut trips = report.round_trips.iter();
    let trip = trips.find(|it| it.transport == Transport::Shoal && it.size == 64);
    let lines = trip.zip(report.floor.as_ref()).map(|(trip, floor)| {
        (trip.median_ns - floor.clock_ns).max(1.0) / floor.cache_line_median_ns
    });
    at_most(
        "round trip of 64 B, in round trips of a cache line",
        3.5,
        lines,
        "x",
    );
    let kib = |bytes: u64| Some(bytes as f64 / 1024.0);
    at_most(
        "memory of an empty queue",
        128.0,
        kib(report.memory.empty_queue),
        "KiB",
    );
    at_most(
        "memory of an empty map",
        128.0,
        kib(report.memory.empty_map),
        "KiB",
    );
    goals
}

fn find<'a>(report: &'a Report, topology: &str, batch: usize) -> Option<&'a Throughput> {
    report.throughput.iter().find(|it| {
        it.transport == Transport::Shoal
            && it.size == 64
            && it.batch == batch
            && it.topology == topology
    })
}
