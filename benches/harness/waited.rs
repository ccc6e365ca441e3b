//! What waiting was found to cost: the windows, and the rows of the table.

use std::fmt;

use serde::Serialize;

use super::crew::Measured;
use super::report::{Report, Spread};
use super::stage::Stage;
use super::table::short;
use super::times::Shared;

/// What the workers did in one window.
#[derive(Clone, Copy)]
pub(super) struct Window {
    operations: u64,
    seconds: f64,
    cpu_seconds: f64,
    /// Median, 99th and 99.9th percentile and longest, in microseconds.
    times: Option<[f64; 4]>,
    luck: Option<f64>,
}

impl Window {
    /// What was counted is `counts`, of equal processes.
    pub(super) fn counted(measured: &Measured, counts: &[u64]) -> Self {
        let (least, most) = (counts.iter().min(), counts.iter().max());
        let lucky = least.zip(most).filter(|_| counts.len() > 1);
        Self {
            operations: counts.iter().sum(),
            seconds: measured.seconds,
            cpu_seconds: measured.cpu_seconds,
            times: None,
            luck: lucky.map(|(&least, &most)| most as f64 / least.max(1) as f64),
        }
    }

    /// Operations a second.
    pub(super) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// The same, after the workers have timed each operation and ended.
    pub(super) fn with_times(self, stage: &Stage) -> Self {
        let shared = Shared::of(stage);
        let times = [0.5, 0.99, 0.999, 1.0].map(|quantile| shared.at_quantile(quantile) / 1e3);
        Self {
            times: Some(times),
            ..self
        }
    }
}

/// One row: what was done, by which means, beside how many programs that compute.
#[derive(Serialize)]
pub(crate) struct Waited {
    pub(crate) busy: u8,
    /// Each of two processes had a core of its own.
    pub(crate) pinned: bool,
    pub(crate) what: String,
    pub(crate) who: String,
    /// Operations a second.
    pub(crate) rate: Spread,
    /// None where single operations were not timed.
    pub(crate) times: Option<WaitTimes>,
    /// What the workers used of the cores for an operation: seconds for a million of them.
    pub(crate) cpu_us: Spread,
    pub(crate) cpu_ms_per_second: Spread,
    /// Among equal processes, in the worst window. A process that got nothing counts as if it
    /// had got one.
    pub(crate) luckiest_to_least_lucky: Option<f64>,
    pub(crate) beside: Option<Compared>,
}

/// How long single operations took, in microseconds.
#[derive(Serialize)]
pub(crate) struct WaitTimes {
    pub(crate) median_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p999_us: Spread,
    pub(crate) longest_us: Spread,
}

/// How many times as much as a peer's in the same round.
#[derive(Serialize)]
pub(crate) struct Compared {
    pub(crate) with: String,
    pub(crate) rate: Spread,
    pub(crate) times: Option<ComparedTimes>,
    pub(crate) cpu: Spread,
}

#[derive(Serialize)]
pub(crate) struct ComparedTimes {
    pub(crate) median: Spread,
    pub(crate) p99: Spread,
    pub(crate) longest: Spread,
}

/// What is measured, and where.
pub(super) struct At<'a> {
    pub(super) busy: u8,
    pub(super) pinned: bool,
    pub(super) what: &'a str,
}

impl Waited {
    pub(super) fn of(at: &At, who: String, windows: &[Window]) -> Self {
        let spread =
            |value: &dyn Fn(&Window) -> f64| Spread::of(windows.iter().map(value).collect());
        let timed = windows.iter().all(|window| window.times.is_some());
        let times = |index: usize| spread(&|it| it.times.map_or(0.0, |times| times[index]));
        Self {
            busy: at.busy,
            pinned: at.pinned,
            what: at.what.to_owned(),
            who,
            rate: spread(&Window::rate),
            times: timed.then(|| WaitTimes {
                median_us: times(0),
                p99_us: times(1),
                p999_us: times(2),
                longest_us: times(3),
            }),
            cpu_us: spread(&|it| it.cpu_seconds / it.operations.max(1) as f64 * 1e6),
            cpu_ms_per_second: spread(&|it| it.cpu_seconds / it.seconds * 1e3),
            luckiest_to_least_lucky: windows.iter().filter_map(|it| it.luck).reduce(f64::max),
            beside: None,
        }
    }

    pub(super) fn compare(&mut self, peer: &Self) {
        let times = self.times.as_ref().zip(peer.times.as_ref());
        self.beside = Some(Compared {
            with: peer.who.clone(),
            rate: self.rate.over(&peer.rate),
            times: times.map(|(own, peer)| ComparedTimes {
                median: own.median_us.over(&peer.median_us),
                p99: own.p99_us.over(&peer.p99_us),
                longest: own.longest_us.over(&peer.longest_us),
            }),
            cpu: self.cpu_us.over(&peer.cpu_us),
        });
    }
}

impl Report {
    /// The row of what was measured there by these means.
    pub(super) fn waited(&self, busy: u8, pinned: bool, what: &str, who: &str) -> Option<&Waited> {
        let mut rows = self.waits.iter();
        rows.find(|it| (it.busy, it.pinned) == (busy, pinned) && it.what == what && it.who == who)
    }

    pub(super) fn waiting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.waits.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nWaiting, beside so many busy programs that compute, in {} session: us; cpu: us of \
             a core for an operation, and ms a second;\nhow many times as much as the peer, by \
             rounds: the median, and the worst of them",
            match self.busy_session {
                super::Session::Own => "a different",
                super::Session::Same => "the same",
            }
        )?;
        writeln!(
            f,
            "  busy  cores  {:24}  {:12}  {:>10}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>6}  \
             {:12}  {:>14}  {:>14}  {:>14}  {:>14}  {:>14}",
            "what",
            "by",
            "a second",
            "p50",
            "p99",
            "p99.9",
            "longest",
            "cpu",
            "cpu ms/s",
            "lucky",
            "beside",
            "rate",
            "p50",
            "p99",
            "longest",
            "cpu"
        )?;
        for it in &self.waits {
            it.row(f)?;
        }
        Ok(())
    }
}

impl Waited {
    fn row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = if self.pinned { "own" } else { "any" };
        let (busy, what, who, rate) = (self.busy, &self.what, &self.who, short(self.rate.median));
        write!(f, "  {busy:>4}  {cores:5}  {what:24}  {who:12}  {rate:>10}")?;
        let times = self.times.as_ref().map_or([""; 4].map(String::from), |it| {
            [&it.median_us, &it.p99_us, &it.p999_us, &it.longest_us].map(|it| short(it.median))
        });
        for time in times {
            write!(f, "  {time:>8}")?;
        }
        let lucky = self.luckiest_to_least_lucky.map(short).unwrap_or_default();
        let (cpu, all) = (
            short(self.cpu_us.median),
            short(self.cpu_ms_per_second.median),
        );
        write!(f, "  {cpu:>8}  {all:>8}  {lucky:>6}")?;
        let Some(beside) = &self.beside else {
            return writeln!(f);
        };
        write!(f, "  {:12}", beside.with)?;
        let worst = |it: &Spread, worst: f64| format!("{} ({})", short(it.median), short(worst));
        let most = |it: &Spread| worst(it, it.most);
        write!(f, "  {:>14}", worst(&beside.rate, beside.rate.least))?;
        let times = beside
            .times
            .as_ref()
            .map_or([""; 3].map(String::from), |it| {
                [&it.median, &it.p99, &it.longest].map(most)
            });
        for time in times {
            write!(f, "  {time:>14}")?;
        }
        writeln!(f, "  {:>14}", most(&beside.cpu))
    }
}
