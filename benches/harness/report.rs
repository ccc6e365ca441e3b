//! The results, as programs read them. `table.rs` is for people.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::busy::Session;
use super::failure::{Failure, Stuck};
use super::growth::Growth;
use super::load::Transport;
use super::machine::Machine;
use super::spread::{self, Spread};
use super::stores::{Operation, Store};
use super::waited::{WaitTimes, Waited};

/// The version of a report's JSON, which `benches/README.md` describes. It increases when a field changes
/// its meaning or is removed.
pub(crate) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
pub(crate) struct Report {
    /// The version of this report: [`FORMAT`].
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) cores: usize,
    /// The two cores that pairs of processes are pinned to.
    pub(crate) pinned_to: Option<[usize; 2]>,
    pub(crate) window_seconds: f64,
    pub(crate) repeated: usize,
    /// The number of other programs that computed meanwhile. Each row of `waits` has its own number.
    pub(crate) busy: u8,
    pub(crate) busy_session: Session,
    /// Bytes of every ring, if they were given.
    pub(crate) ring: Option<u64>,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) round_trips: Vec<RoundTrip>,
    pub(crate) throughput: Vec<Throughput>,
    /// Messages of 64 KiB, of which processes touch only the first and the last word.
    pub(crate) copied: Option<Throughput>,
    pub(crate) map: Vec<MapRate>,
    /// Stores that could not be measured, with the reason.
    pub(crate) no_stores: Vec<(Store, String)>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
    /// Empty where a process may not trace another.
    pub(crate) steps: Vec<Steps>,
    pub(crate) waits: Vec<Waited>,
    pub(crate) curves: Vec<Curve>,
    pub(crate) growth: Vec<Growth>,
    /// The other projects whose programs were found.
    pub(crate) peers: Vec<Transport>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) goals: Vec<Goal>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The cost of timing one trip. The times of the baseline do not contain it.
    pub(crate) clock_ns: f64,
    pub(crate) pinned: bool,
    pub(crate) cache_line_median_ns: Spread,
    pub(crate) cache_line_p99_ns: Spread,
    /// Per trip, of many that were timed together.
    pub(crate) cache_line_batch_mean_ns: Spread,
    pub(crate) futex_median_ns: Spread,
    pub(crate) futex_p99_ns: Spread,
    pub(crate) memcpy: Vec<Copying>,
}

impl Baseline {
    /// What was timed, with its name.
    pub(crate) fn timed(&self) -> [(&'static str, &Spread); 5] {
        [
            (
                "a cache line there and back, median",
                &self.cache_line_median_ns,
            ),
            ("the same, 99th percentile", &self.cache_line_p99_ns),
            (
                "the same, mean of many in one go",
                &self.cache_line_batch_mean_ns,
            ),
            ("a futex wake there and back, median", &self.futex_median_ns),
            ("the same, 99th percentile", &self.futex_p99_ns),
        ]
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Copying {
    pub(crate) size: usize,
    pub(crate) gigabytes: f64,
}

/// These contain the cost of the clock.
#[derive(Serialize, Deserialize)]
pub(crate) struct RoundTrip {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) pinned: bool,
    pub(crate) trips: u64,
    pub(crate) median_ns: Spread,
    pub(crate) p99_ns: Spread,
    /// The median without the cost of the clock, in round trips of a cache line just before.
    pub(crate) cache_lines: Spread,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Throughput {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) topology: String,
    pub(crate) pinned: bool,
    pub(crate) batch: usize,
    /// Million messages a second.
    pub(crate) million: Spread,
    /// Processor time of all processes together for a message, in nanoseconds.
    pub(crate) cpu_ns: Spread,
    pub(crate) gigabytes: f64,
    /// The quotient among equal processes, in the worst window; none if one of them got nothing.
    pub(crate) most_to_least: Option<f64>,
    /// The round trip of a cache line just before each window, if every process has its own core:
    /// how far apart the two cores were at the time.
    pub(crate) cache_line_ns: Option<Spread>,
    /// How many processes put or took nothing at all, in the worst window.
    pub(crate) got_nothing: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MapRate {
    pub(crate) store: Store,
    pub(crate) operation: Operation,
    pub(crate) keys: u64,
    pub(crate) processes: usize,
    pub(crate) pinned: bool,
    /// Million operations a second, all processes together.
    pub(crate) million: Spread,
    /// Processor time of all processes together for an operation, in nanoseconds, that of a server
    /// included.
    pub(crate) cpu_ns: Spread,
}

/// Committed bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) empty_queue: u64,
    pub(crate) empty_map: u64,
    pub(crate) map: Vec<Stored>,
}

/// Instructions of a call.
#[derive(Serialize, Deserialize)]
pub(crate) struct Steps {
    pub(crate) what: Cow<'static, str>,
    /// In this program, the library included.
    pub(crate) instructions: u64,
    /// In the C library and the kernel's vDSO: that depends on the machine.
    pub(crate) elsewhere: u64,
}

/// How late messages are at fixed rates: one transport beside a number of programs that compute.
#[derive(Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) busy: u8,
    /// Messages a second at full speed, both ends reading the clock for each.
    pub(crate) capacity: Spread,
    pub(crate) points: Vec<Point>,
}

/// The same at one rate.
#[derive(Serialize, Deserialize)]
pub(crate) struct Point {
    /// Of the capacity.
    pub(crate) percent: u32,
    /// Messages that were due, a second.
    pub(crate) offered: Spread,
    /// Messages that arrived, a second.
    pub(crate) carried: Spread,
    /// From when a message was due until it was read.
    pub(crate) late: WaitTimes,
    /// Processor time of both ends for a message, in microseconds.
    pub(crate) cpu_us: Spread,
}

/// Idle queues, and readers asleep on some of them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) queues: usize,
    pub(crate) readers: usize,
    /// Of one core, of all processes together.
    pub(crate) cpu_ms_per_second: f64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) entries: u64,
    /// Bytes beyond those of an empty map, for each byte of keys and values.
    pub(crate) committed_per_stored_byte: f64,
    /// A get of a random key.
    pub(crate) get_ns: Spread,
    /// A dependent read at a random place in as much memory.
    pub(crate) read_ns: Spread,
}

/// A measurement that was requested and could not be made.
#[derive(Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) what: Cow<'static, str>,
    pub(crate) outcome: Gap,
    pub(crate) transport: Transport,
    /// None if it concerns all of them.
    pub(crate) size: Option<usize>,
    pub(crate) topology: String,
    pub(crate) why: String,
}

/// Why there is no figure.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Gap {
    /// It cannot be done, and was not tried.
    Skipped,
    /// It stopped making progress.
    Stuck,
    Failed,
}

impl Gap {
    /// What happened to another project's workers.
    pub(super) fn of(why: &Failure) -> Self {
        if why.is::<Stuck>() {
            Gap::Stuck
        } else {
            Gap::Failed
        }
    }
}

/// How a figure of Shoal compares with another one of the same run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) what: Cow<'static, str>,
    pub(crate) size: usize,
    pub(crate) topology: String,
    pub(crate) batch: usize,
    pub(crate) with: String,
    /// Above one, Shoal is faster by this factor.
    #[serde(deserialize_with = "spread::number")]
    pub(crate) shoal_is_faster_by: f64,
    /// The same in each round; none if the two were not measured in the same rounds.
    pub(crate) rounds: Option<Spread>,
    /// The same of the 99th percentile, where single messages are timed.
    pub(crate) at_99th_percentile: Option<f64>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Reached,
    Missed,
    NotMeasured,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    /// "at least", "at most" or "below".
    pub(crate) words: Cow<'static, str>,
    pub(crate) bound: f64,
    pub(crate) unit: Cow<'static, str>,
    pub(crate) measured: Option<f64>,
    pub(crate) outcome: Outcome,
}

/// The text before and after a report's JSON in a page.
pub(super) const AROUND_JSON: [&str; 2] = [
    "<script type=\"application/json\" id=\"report\">",
    "</script>",
];

/// A report as JSON, which [`parse`] reads.
pub(crate) fn json(report: &Report) -> String {
    // It fails only for maps whose keys are not text, and a report has none.
    serde_json::to_string(report).unwrap_or_default() + "\n"
}

/// The report of a JSON text, or of a page.
pub(crate) fn parse(text: &str) -> Result<Report, Failure> {
    let [before, after] = AROUND_JSON;
    let inside = text
        .split_once(before)
        .and_then(|(_, text)| text.split_once(after));
    let text = inside.map_or(text, |(json, _)| json);
    let wrong = |why: serde_json::Error| format!("this is not a report of the benchmark: {why}");
    let any: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    let Some(format) = any.get("format").and_then(serde_json::Value::as_u64) else {
        return Err("this is not a report of the benchmark: it names no format".into());
    };
    if format != u64::from(FORMAT) {
        return Err(format!(
            "its format is {format}, and this program knows {FORMAT}: measure it again"
        )
        .into());
    }
    let report: Report = serde_json::from_str(text).map_err(wrong)?;
    // Everything else may be missing: a part of the benchmark, or what an older program did not measure.
    if report.cores == 0 {
        return Err("this is not a report of the benchmark: it names no number of cores".into());
    }
    Ok(report)
}

impl Report {
    /// The speed at which one core copies blocks of this size.
    pub(super) fn memcpy(&self, size: usize) -> Option<f64> {
        let mut all = self.baseline.iter().flat_map(|it| &it.memcpy);
        Some(all.find(|it| it.size == size)?.gigabytes)
    }

    /// The row of a load and a transport.
    pub(super) fn waited(&self, busy: u8, pinned: bool, what: &str, who: &str) -> Option<&Waited> {
        let mut rows = self.waits.iter();
        rows.find(|it| (it.busy, it.pinned) == (busy, pinned) && it.what == what && it.who == who)
    }
}
