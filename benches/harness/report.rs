//! What was measured, as programs read it. `table.rs` is for people.

use std::borrow::Cow;

use serde::Serialize;

use super::busy::Session;
use super::failure::{Failure, Stuck};
use super::load::Transport;
use super::spread::Spread;
use super::stores::{Operation, Store};
use super::waited::Waited;

#[derive(Serialize, Default)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    /// The two cores that pairs of processes are pinned to.
    pub(crate) pinned_to: Option<[usize; 2]>,
    pub(crate) window_seconds: f64,
    pub(crate) repeated: usize,
    /// Other programs that computed meanwhile. Each row of `waits` has a number of its own.
    pub(crate) busy: u8,
    pub(crate) busy_session: Session,
    /// Bytes of every ring, if they were given.
    pub(crate) ring: Option<u64>,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) round_trips: Vec<RoundTrip>,
    pub(crate) throughput: Vec<Throughput>,
    /// 64 KiB, of which no process touches more than the ends.
    pub(crate) copied: Option<Throughput>,
    pub(crate) map: Vec<MapRate>,
    /// Stores that could not be measured, and why.
    pub(crate) no_stores: Vec<(Store, String)>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
    /// None where a process may not look at another.
    pub(crate) steps: Vec<Steps>,
    pub(crate) waits: Vec<Waited>,
    /// The other projects whose programs are there.
    pub(crate) peers: Vec<Transport>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) goals: Vec<Goal>,
}

#[derive(Serialize)]
pub(crate) struct Baseline {
    /// What timing one trip adds to it. Left out of the times of the baseline.
    pub(crate) clock_ns: f64,
    pub(crate) pinned: bool,
    pub(crate) cache_line_median_ns: Spread,
    pub(crate) cache_line_p99_ns: Spread,
    /// Per trip, of many timed in one go.
    pub(crate) cache_line_batch_mean_ns: Spread,
    pub(crate) futex_median_ns: Spread,
    pub(crate) futex_p99_ns: Spread,
    pub(crate) memcpy: Vec<Copying>,
}

#[derive(Serialize)]
pub(crate) struct Copying {
    pub(crate) size: usize,
    pub(crate) gigabytes: f64,
}

/// The clock's cost is part of these.
#[derive(Serialize)]
pub(crate) struct RoundTrip {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) pinned: bool,
    pub(crate) trips: u64,
    pub(crate) median_ns: Spread,
    pub(crate) p99_ns: Spread,
    /// The median without the clock, in round trips of a cache line just before it.
    pub(crate) cache_lines: Spread,
}

#[derive(Serialize)]
pub(crate) struct Throughput {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) topology: String,
    pub(crate) pinned: bool,
    pub(crate) batch: usize,
    /// Million messages a second.
    pub(crate) million: Spread,
    pub(crate) gigabytes: f64,
    /// Among equal processes, in the worst window; none if one of them got nothing.
    pub(crate) most_to_least: Option<f64>,
    /// A cache line there and back just before each window, if every process has its own core:
    /// how far apart the two cores were at the time.
    pub(crate) cache_line_ns: Option<Spread>,
    /// How many processes put or took nothing at all, in the worst window.
    pub(crate) got_nothing: usize,
}

#[derive(Serialize)]
pub(crate) struct MapRate {
    pub(crate) store: Store,
    pub(crate) operation: Operation,
    pub(crate) keys: u64,
    pub(crate) processes: usize,
    pub(crate) pinned: bool,
    /// Million operations a second, all processes together.
    pub(crate) million: Spread,
}

/// Committed bytes.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) empty_queue: u64,
    pub(crate) empty_map: u64,
    pub(crate) map: Vec<Stored>,
}

/// Instructions of a call.
#[derive(Serialize)]
pub(crate) struct Steps {
    pub(crate) what: Cow<'static, str>,
    /// In this program, the library included.
    pub(crate) instructions: u64,
    /// In the C library and the kernel's vDSO: that depends on the machine.
    pub(crate) elsewhere: u64,
}

/// Queues in which nothing happens, and readers asleep on some of them.
#[derive(Serialize)]
pub(crate) struct Idle {
    pub(crate) queues: usize,
    pub(crate) readers: usize,
    /// Of one core, of all processes together.
    pub(crate) cpu_ms_per_second: f64,
}

#[derive(Serialize)]
pub(crate) struct Stored {
    pub(crate) entries: u64,
    /// Beyond what an empty map takes, for each byte of keys and values.
    pub(crate) committed_per_stored_byte: f64,
    /// A get of any key.
    pub(crate) get_ns: Spread,
    /// A read anywhere in as much memory, which has to wait for the one before it.
    pub(crate) read_ns: Spread,
}

/// Something that was asked for and could not be measured.
#[derive(Serialize)]
pub(crate) struct Skipped {
    pub(crate) what: &'static str,
    pub(crate) outcome: Gap,
    pub(crate) transport: Transport,
    /// None if it is about all of them.
    pub(crate) size: Option<usize>,
    pub(crate) topology: String,
    pub(crate) why: String,
}

/// Why there is no figure.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Gap {
    /// It cannot be done, and was not tried.
    Skipped,
    /// It got nothing done any more.
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

/// How a figure of Shoal's compares with another one of the same run.
#[derive(Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: &'static str,
    pub(crate) size: usize,
    pub(crate) topology: String,
    pub(crate) batch: usize,
    pub(crate) with: String,
    /// Above one, Shoal is the faster by so much.
    pub(crate) shoal_is_faster_by: f64,
    /// The same of the 99th percentile, where single messages are timed.
    pub(crate) at_99th_percentile: Option<f64>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Reached,
    Missed,
    NotMeasured,
}

#[derive(Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    /// "at least", "at most" or "below".
    pub(crate) words: &'static str,
    pub(crate) bound: f64,
    pub(crate) unit: &'static str,
    pub(crate) measured: Option<f64>,
    pub(crate) outcome: Outcome,
}

impl Report {
    /// How fast memory is copied by one core at this size.
    pub(super) fn memcpy(&self, size: usize) -> Option<f64> {
        let mut all = self.baseline.iter().flat_map(|it| &it.memcpy);
        Some(all.find(|it| it.size == size)?.gigabytes)
    }

    /// The row of what was measured there by these means.
    pub(super) fn waited(&self, busy: u8, pinned: bool, what: &str, who: &str) -> Option<&Waited> {
        let mut rows = self.waits.iter();
        rows.find(|it| (it.busy, it.pinned) == (busy, pinned) && it.what == what && it.who == who)
    }
}
