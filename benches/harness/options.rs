//! What to measure, and what of it is measured unless something else is asked for.

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
    /// Only these ways of transport; if there are none, all.
    pub(crate) transports: Vec<Transport>,
    pub(crate) only: Option<Only>,
    /// Bytes of every ring; if there are none, what suits the size of the messages.
    pub(crate) ring: Option<u64>,
    /// How many other programs compute meanwhile: one number, but for waits and curves, which are
    /// measured beside each of several. If everything is measured, these two alone are beside them.
    pub(crate) busy: Vec<u8>,
    /// Whose session those are in, if not what suits what is measured.
    pub(crate) busy_session: Option<Session>,
    /// Whether waiting is measured with pinned processes as well, beside any programs.
    pub(crate) pinned: bool,
    /// Only these kinds of waits; if there are none, all.
    pub(crate) waits: Vec<Waits>,
}

/// One part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// Queues, and the baseline to compare them with
    Queue,
    /// Maps
    Map,
    /// What the machine itself can do
    Baseline,
    /// Committed memory, and what a map's memory costs its reader
    Memory,
    /// What waiting costs
    Idle,
    /// Instructions of a call
    Steps,
    /// Latency at fixed rates, from 10 to 90 % of capacity
    Curves,
    /// What calls cost as there is more of everything
    Growth,
    /// Waiting beside programs that compute
    Waits,
}

/// Of waiting, one kind.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Waits {
    /// Messages and events there and back
    Latency,
    /// Four processes that take a lock and release it at once
    Locks,
    /// Eight that take a lock and compute with it: how long each has to wait
    Handover,
    /// Two that use the same keys of a map
    Maps,
    /// Few messages one way: how much of the cores that takes
    Quiet,
    /// Many messages at a fixed rate: how late they are
    Load,
}

/// Beside how many computing programs waiting is measured, unless something else is asked for.
pub(crate) const BUSY: [u8; 4] = [0, 1, 2, 4];
/// The same where latency at fixed rates is measured, or everything: an idle machine and a busy one.
pub(crate) const IDLE_AND_BUSY: [u8; 2] = [0, 2];

/// What is measured unless something else is asked for.
pub(crate) const SIZES: [usize; 5] = [8, 64, 1 << 10, 64 << 10, 1 << 20];
pub(crate) const TOPOLOGIES: [Topology; 5] = [
    Topology::PAIR,
    Topology::of(2, 2),
    Topology::of(4, 4),
    Topology::of(8, 1),
    Topology::of(1, 8),
];
pub(crate) const OVERSUBSCRIBED: [Topology; 2] = [Topology::of(20, 20), Topology::of(20, 3)];

/// Windows shorter than this, in seconds, say nothing about fairness: a scheduler gives each process a
/// few milliseconds at a time.
pub(super) const FAIR_WINDOW: f64 = 0.1;
