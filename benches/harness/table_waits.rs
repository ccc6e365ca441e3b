//! The results about waiting, as people read them.

use super::busy::Session;
use super::figures::short;
use super::layout::{Left, Right, table};
use super::report::Report;
use super::spread::Spread;
use super::waited::Waited;

pub(super) fn waits(report: &Report) -> String {
    if report.waits.is_empty() {
        return String::new();
    }
    let session = match report.busy_session {
        Session::Own => "a different",
        Session::Same => "the same",
    };
    let left = ["cores", "what", "by", "beside"];
    let titles = [
        "busy", "cores", "what", "by", "a second", "p50", "p99", "p99.9", "longest", "cpu",
        "cpu ms/s", "fairness", "beside", "rate", "p50", "p99", "longest", "cpu",
    ];
    let side = |title: &str| if left.contains(&title) { Left } else { Right };
    let columns = titles.map(|title| (title, side(title)));
    format!(
        "\nWaiting, beside so many busy programs that compute, in {session} session: us; cpu: us of \
         a core for an operation, and ms a second;\nfairness: most to least; how many times as much \
         as the peer, by rounds: the median, and the worst of them\n{}",
        table(&columns, report.waits.iter().map(row))
    )
}

fn row(it: &Waited) -> Vec<String> {
    let times = it.times.as_ref().map_or([""; 4].map(String::from), |it| {
        [&it.median_us, &it.p99_us, &it.p999_us, &it.longest_us].map(|it| short(it.median))
    });
    let cores = if it.pinned { "own" } else { "any" };
    let mut row = vec![it.busy.to_string(), cores.to_owned()];
    row.extend([it.what.clone(), it.who.clone(), short(it.rate.median)]);
    row.extend(times);
    row.extend([&it.cpu_us, &it.cpu_ms_per_second].map(|it| short(it.median)));
    row.push(it.most_to_least.map(short).unwrap_or_default());
    let Some(beside) = &it.beside else {
        return row;
    };
    let worst = |it: &Spread, worst: f64| format!("{} ({})", short(it.median), short(worst));
    let most = |it: &Spread| worst(it, it.most);
    let times = beside.times.as_ref();
    let times = times.map_or([""; 3].map(String::from), |it| {
        [&it.median, &it.p99, &it.longest].map(most)
    });
    row.push(beside.with.clone());
    row.push(worst(&beside.rate, beside.rate.least));
    row.extend(times);
    row.push(most(&beside.cpu));
    row
}
