//! What to measure, and the defaults.

use std::time::Duration;

use super::busy::Session;
use super::load::{Topology, Transport};

/// What to measure, and how long.
pub(crate) struct Options {
    pub(crate) window: Duration,
    pub(crate) repeat: usize,
    /// Multiples of 8.
    pub(crate) sizes: Vec<usize>,
    pub(crate) topologies: Vec<Topology>,
    /// Far more processes than cores, with messages of 64 B alone.
    pub(crate) oversubscribed: Vec<Topology>,
    pub(crate) peers: bool,
    /// Only these transports; all if it is empty.
    pub(crate) transports: Vec<Transport>,
    pub(crate) only: Option<Only>,
    /// Bytes of every ring; if not set, a size that suits the messages.
    pub(crate) ring: Option<u64>,
    /// How many other programs compute meanwhile: one number, except for waits and curves, which are measured
    /// beside each of several. If everything is measured, only waits and curves are measured beside them.
    pub(crate) busy: Vec<u8>,
    /// The session of those programs; if not set, the default of each measurement.
    pub(crate) busy_session: Option<Session>,
    /// Whether waiting is measured with pinned processes as well, beside any programs.
    pub(crate) pinned: bool,
    /// Only these kinds of waits; all if it is empty.
    pub(crate) waits: Vec<Waits>,
}

/// One part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// Queues, and the baseline to compare them with
    Queue,
    /// Maps
    Map,
    /// The machine's baseline
    Baseline,
    /// Committed memory, and the cost of a map's memory for its reader
    Memory,
    /// The cost of waiting
    Idle,
    /// Instructions of a call
    Steps,
    /// Latency at fixed rates, from 10 to 90 % of capacity
    Curves,
    /// The cost of calls as objects grow
    Growth,
    /// Waiting beside programs that compute
    Waits,
}

/// One kind of waiting.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Waits {
    /// Messages and events there and back
    Latency,
    /// Four processes that take a lock and release it immediately
    Locks,
    /// Eight processes that take a lock and compute with it: how long each has to wait
    Handover,
    /// Two processes that use the same keys of a map
    Maps,
    /// Few messages one way: how much processor time they take
    Quiet,
    /// Many messages at a fixed rate: how late they are
    Load,
}

/// The default numbers of computing programs beside which waiting is measured.
pub(crate) const BUSY: [u8; 4] = [0, 1, 2, 4];
/// The same where latency at fixed rates is measured, or everything: an idle machine and a busy one.
pub(crate) const IDLE_AND_BUSY: [u8; 2] = [0, 2];

/// The default measurements.
pub(crate) const SIZES: [usize; 5] = [8, 64, 1 << 10, 64 << 10, 1 << 20];
pub(crate) const TOPOLOGIES: [Topology; 5] = [
    Topology::PAIR,
    Topology::of(2, 2),
    Topology::of(4, 4),
    Topology::of(8, 1),
    Topology::of(1, 8),
];
pub(crate) const OVERSUBSCRIBED: [Topology; 2] = [Topology::of(20, 20), Topology::of(20, 3)];

/// Windows shorter than this, in seconds, show nothing about fairness: a scheduler gives each process a
/// few milliseconds at a time.
pub(super) const FAIR_WINDOW: f64 = 0.1;
