//! What Shoal sets out to reach where it waits, and on a busy machine.

use super::goals::{Bound, goal};
use super::report::{Goal, Report};
use super::waits::TRIP;

use Bound::{AtLeast, AtMost};

/// Judges what was measured; beside how many programs is part of each goal.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    trips(report, &mut goals);
    goals
}

fn trips(report: &Report, goals: &mut Vec<Goal>) {
    let unpinned = report.waits.iter().filter(|it| {
        (it.pinned, it.busy > 0) == (false, true) && it.what == TRIP && it.who == "shoal queue"
    });
    for own in unpinned {
        let Some((beside, times)) = own
            .beside
            .as_ref()
            .and_then(|it| Some((it, it.times.as_ref()?)))
        else {
            continue;
        };
        for (of, measured, bound) in [
            ("rate", beside.rate.median, AtLeast(1.0)),
            ("p50", times.median.median, AtMost(1.1)),
            ("p99", times.p99.median, AtMost(1.2)),
            ("rate of the worst round", beside.rate.least, AtLeast(0.5)),
        ] {
            let what = format!("{TRIP}, {} busy, {of} beside {}", own.busy, beside.with);
            goals.push(goal(what, Some(measured), &bound, "x"));
        }
    }
    let row = |who: &str| report.waited(0, true, TRIP, who)?.times.as_ref();
    if let (Some(own), Some(bare)) = (row("shoal queue"), row("bare memory")) {
        let measured = own.median_us.over(&bare.median_us).median;
        let what = format!("{TRIP}, pinned, 0 busy, p50 beside bare memory");
        goals.push(goal(what, Some(measured), &AtMost(1.4), "x"));
        let measured = own.p99_us.over(&own.median_us).median;
        let what = format!("{TRIP}, pinned, 0 busy, p99 to p50");
        goals.push(goal(what, Some(measured), &AtMost(3.0), "x"));
    }
}
