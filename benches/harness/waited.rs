//! The results about waiting: the windows, and the rows of the table.

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use super::stage::Stage;
use super::times::Shared;
use super::workers::Measured;

/// The reported quantiles of the times of a window; the last is the longest time.
pub(super) const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// What the workers did in one window.
#[derive(Clone, Copy)]
pub(super) struct Window {
    operations: u64,
    seconds: f64,
    cpu_seconds: f64,
    /// In microseconds, at each of [`QUANTILES`].
    times: Option<[f64; QUANTILES.len()]>,
    /// The entries of the process with most, divided by those of the process with least.
    most_to_least: Option<f64>,
}

impl Window {
    /// Makes a window from `counts`, the counts of equal processes.
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

    /// Processor time for one operation, in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu_seconds / self.operations.max(1) as f64 * 1e6
    }

    /// This window, with how long operations took: after the workers have timed each operation and ended.
    pub(super) fn with_times(self, stage: &Stage) -> Self {
        let shared = Shared::of(stage);
        let times = QUANTILES.map(|quantile| shared.at_quantile(quantile) / 1e3);
        Self {
            times: Some(times),
            ..self
        }
    }
}

/// One row: the operation, the object, and the number of computing programs beside it.
#[derive(Serialize, Deserialize)]
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
    /// Processor time of the workers for an operation, in microseconds.
    pub(crate) cpu_us: Spread,
    pub(crate) cpu_ms_per_second: Spread,
    /// Among equal processes, in the worst window. A process that got nothing counts as if it
    /// had got one.
    pub(crate) most_to_least: Option<f64>,
    pub(crate) beside: Option<Compared>,
}

/// How long single operations took, in microseconds.
#[derive(Serialize, Deserialize)]
pub(crate) struct WaitTimes {
    pub(crate) median_us: Spread,
    pub(crate) p90_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p999_us: Spread,
    pub(crate) p9999_us: Spread,
    pub(crate) longest_us: Spread,
}

impl WaitTimes {
    /// Of windows in which single operations were timed.
    pub(super) fn of(windows: &[Window]) -> Option<Self> {
        let all: Vec<_> = windows
            .iter()
            .map(|window| window.times)
            .collect::<Option<_>>()?;
        let spread = |index: usize| Spread::of(all.iter().map(|times| times[index]).collect());
        Some(Self {
            median_us: spread(0),
            p90_us: spread(1),
            p99_us: spread(2),
            p999_us: spread(3),
            p9999_us: spread(4),
            longest_us: spread(5),
        })
    }

    /// Each of them with its name.
    pub(super) fn all(&self) -> [(&'static str, &Spread); QUANTILES.len()] {
        [
            ("p50", &self.median_us),
            ("p90", &self.p90_us),
            ("p99", &self.p99_us),
            ("p99.9", &self.p999_us),
            ("p99.99", &self.p9999_us),
            ("longest", &self.longest_us),
        ]
    }
}

/// The quotient with a peer's figure in the same round.
#[derive(Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) with: String,
    pub(crate) rate: Spread,
    pub(crate) times: Option<ComparedTimes>,
    pub(crate) cpu: Spread,
}

#[derive(Serialize, Deserialize)]
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
        Self {
            busy: at.busy,
            pinned: at.pinned,
            what: at.what.to_owned(),
            who,
            rate: spread(&Window::rate),
            times: WaitTimes::of(windows),
            cpu_us: spread(&Window::cpu_us),
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
