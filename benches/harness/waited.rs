//! What waiting was found to cost: the windows, and the rows of the table.

use serde::Serialize;

use super::spread::Spread;
use super::stage::Stage;
use super::times::Shared;
use super::workers::Measured;

/// What the workers did in one window.
#[derive(Clone, Copy)]
pub(super) struct Window {
    operations: u64,
    seconds: f64,
    cpu_seconds: f64,
    /// Median, 99th and 99.9th percentile and longest, in microseconds.
    times: Option<[f64; 4]>,
    /// How much the process that got in most did so, divided by the one that did least.
    most_to_least: Option<f64>,
}

impl Window {
    /// What was counted is `counts`, of equal processes.
    pub(super) fn counted(measured: &Measured, counts: &[u64]) -> Self {
        let (least, most) = (counts.iter().min(), counts.iter().max());
        let extremes = least.zip(most).filter(|_| counts.len() > 1);
        Self {
            operations: counts.iter().sum(),
            seconds: measured.seconds,
            cpu_seconds: measured.cpu_seconds,
            times: None,
            most_to_least: extremes.map(|(&least, &most)| most as f64 / least.max(1) as f64),
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
    pub(crate) most_to_least: Option<f64>,
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
            most_to_least: windows
                .iter()
                .filter_map(|it| it.most_to_least)
                .reduce(f64::max),
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
