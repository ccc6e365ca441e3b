//! Shoal's goals for waits, and for a busy machine.

use super::figures;
use super::goals::{Bound, Subject, goal, rates};
use super::load::{BATCH, LARGE, Transport};
use super::report::{Goal, Report, Throughput};
use super::waits::{INSIDE, QUIET, TICKETS, TRIP, handed_over, quiet};

use Bound::{AtLeast, AtMost};

/// Judges the figures. The number of busy programs is part of each goal.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut add = |what: String, measured: Option<f64>, bound: Bound, unit| {
        if measured.is_some() {
            goals.push(goal(what, measured, &bound, unit));
        }
    };
    trips(report, &mut add);
    handovers(report, &mut add);
    messages(report, &mut add);
    throughput(report, &mut add);
    goals
}

type Add<'a> = &'a mut dyn FnMut(String, Option<f64>, Bound, &'static str);

fn trips(report: &Report, add: Add) {
    for busy in [1, 2, 4] {
        let own = report.waited(busy, false, TRIP, "shoal queue");
        let beside = own.and_then(|it| it.beside.as_ref());
        let times = beside.and_then(|it| it.times.as_ref());
        for (of, measured, bound) in [
            ("rate", beside.map(|it| it.rate.median), AtLeast(1.0)),
            ("p50", times.map(|it| it.median.median), AtMost(1.1)),
            ("p99", times.map(|it| it.p99.median), AtMost(1.2)),
            (
                "rate of the worst round",
                beside.map(|it| it.rate.least),
                AtLeast(0.5),
            ),
        ] {
            let what = format!("{TRIP}, {busy} busy, {of} beside unix socket");
            add(what, measured, bound, "x");
        }
    }
    let pinned = |who: &str| report.waited(0, true, TRIP, who)?.times.as_ref();
    if let (Some(own), Some(bare)) = (pinned("shoal queue"), pinned("bare memory")) {
        let measured = own.median_us.over(&bare.median_us).median;
        let what = format!("{TRIP}, 0 busy, pinned, p50 beside bare memory");
        add(what, Some(measured), AtMost(1.4), "x");
        let measured = own.p99_us.over(&own.median_us).median;
        let what = format!("{TRIP}, 0 busy, pinned, p99 to p50");
        add(what, Some(measured), AtMost(3.0), "x");
    }
}

/// The longest wait of all rounds, and of all times inside.
fn handovers(report: &Report, add: Add) {
    for busy in [0, 1, 2, 4] {
        for who in [
            "shoal lock",
            "shoal semaphore",
            "shoal rwlock",
            "shoal map key",
        ] {
            let longest = |what: &str, who: &str| {
                let row = report.waited(busy, false, what, who)?;
                Some(row.times.as_ref()?.longest_us.most)
            };
            let all = INSIDE.iter().filter_map(|&inside| {
                let what = handed_over(inside);
                let own = longest(&what, who)?;
                match busy {
                    0 | 1 => Some(own / 1e3),
                    _ => Some(own / longest(&what, TICKETS)?),
                }
            });
            let measured = all.reduce(f64::max);
            let what = format!("{who} handed over, {busy} busy, longest wait");
            match busy {
                0 | 1 => add(what, measured, AtMost(50.0), "ms"),
                _ => {
                    let what = format!("{what} beside {TICKETS}");
                    add(what, measured, AtMost(2.0), "x");
                }
            }
        }
    }
}

fn messages(report: &Report, add: Add) {
    for rate in QUIET {
        for who in ["shoal queue", "shoal pipe"] {
            let own = report.waited(0, false, &quiet(rate), who);
            let measured = own.and_then(|it| Some(it.beside.as_ref()?.cpu.median));
            let what = format!("{}, 0 busy, {who}, cpu beside unix socket", quiet(rate));
            add(what, measured, AtMost(1.0), "x");
        }
    }
}

/// The least of fewer windows than this is not a meaningful figure.
const WINDOWS: usize = 9;

/// Figures of queues, which the part `queue` measured beside programs that compute.
fn throughput(report: &Report, add: Add) {
    let busy = report.busy;
    let times = match busy {
        2 => 2.0,
        4 => 1.2,
        _ => return,
    };
    for topology in ["1x1", "2x2", "4x4", "8x1", "1x8"] {
        let beside = rates(Transport::Boost, topology, 64, 1, times);
        let what = format!("64 B, {topology}, {busy} busy, beside boost mq");
        add(what, beside.measured(report), AtLeast(times), "x");
        let what = format!("64 B, {topology}, {busy} busy, most to least");
        add(
            what,
            Subject::Fairness(topology).measured(report),
            AtMost(4.0),
            "x",
        );
    }
    let own = |size: usize, topology: &str, batch: usize| -> Option<&Throughput> {
        let mut all = report.throughput.iter();
        all.find(|it| {
            (it.transport, it.size, it.batch) == (Transport::Shoal, size, batch)
                && it.topology == topology
        })
    };
    let copied = own(LARGE, "1x1", 1).map(|it| &it.million);
    let copied = copied.filter(|_| report.repeated >= WINDOWS);
    let measured = copied.map(|it| it.least / it.median * 100.0);
    let what = format!("64 KiB, 1x1, {busy} busy, copied, least window to median");
    add(what, measured, AtLeast(60.0), "%");
    let sizes = report.throughput.iter().map(|it| it.size);
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let both = own(size, "1x1", BATCH).zip(own(size, "1x1", 1));
        let measured = both.map(|(batches, one)| batches.million.beside(&one.million));
        let size = figures::size(size);
        let what = format!("{size}, 1x1, {busy} busy, batches beside one at a time");
        add(what, measured, AtLeast(1.0), "x");
    }
    let both = own(1 << 10, "4x4", 1).zip(own(1 << 10, "2x2", 1));
    let measured = both.map(|(many, few)| many.million.median / few.million.median);
    let what = format!("1 KiB, {busy} busy, 4x4 beside 2x2");
    add(what, measured, AtLeast(0.5), "x");
}
