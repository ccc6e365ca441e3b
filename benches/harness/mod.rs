//! The benchmark: queues and maps beside the kernel's own ways and the machine's floor.
//!
//! - [`crew`], [`stage`], [`cores`]: worker processes, the page they share, where they run.
//! - [`channel`], [`wire`], [`payload`]: ways of transport, one end of one, what goes over it.
//! - [`bare`]: memory with as little as can be around it, as a floor.
//! - [`peers`]: other projects' queues, whose ends are programs of their own.
//! - [`traffic`], [`trips`], [`map`], [`idle`], [`floor`]: what is measured.
//! - [`report`], [`table`], [`goals`]: what came out, for programs and for people.
//!
//! Workers are real processes: this program executed afresh, opening what it measures by name.
//! Every message is written whole before it is put and read whole after it was taken, and in
//! the end all messages and their sums are accounted for; if they are not, the run fails.
//! Rates are of what arrived within a window of time, so that starting and draining do not
//! count. With one producer and one consumer, and in round trips, each end has a core of its
//! own; larger topologies are left to the scheduler.

mod bare;
mod channel;
mod cores;
mod crew;
mod floor;
mod goals;
mod idle;
mod map;
mod payload;
mod peers;
mod report;
mod stage;
mod table;
mod traffic;
mod trips;
mod wire;

use std::time::Duration;

use channel::Transport;
use payload::Touch;

pub(crate) use crew::worker;
pub(crate) use report::Report;

/// What went wrong with the measurement itself.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What to measure, and how long.
pub(crate) struct Options {
    pub(crate) window: Duration,
    pub(crate) repeat: usize,
    /// Multiples of 8.
    pub(crate) sizes: Vec<usize>,
    pub(crate) topologies: Vec<Topology>,
    pub(crate) peers: bool,
    pub(crate) only: Option<Only>,
}

/// One part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// Queues, and the floor to compare them with
    Queue,
    /// Maps
    Map,
    /// The machine's own floor
    Floor,
    /// Committed memory
    Memory,
    /// What waiting costs
    Idle,
}

/// How many processes put and how many take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Topology {
    producers: usize,
    consumers: usize,
}

impl Topology {
    const PAIR: Self = Self {
        producers: 1,
        consumers: 1,
    };
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}x{}", self.producers, self.consumers))
    }
}

/// How many processes either side may have: all of them find a place on the stage.
const SIDE: usize = stage::WORKERS / 2;

impl std::str::FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|count| (1..=SIDE).contains(count));
        text.split_once('x')
            .and_then(|(producers, consumers)| {
                Some(Self {
                    producers: side(producers)?,
                    consumers: side(consumers)?,
                })
            })
            .ok_or_else(|| format!("{text:?} is not like 4x4, with 1 to {SIDE} on each side"))
    }
}

/// What is measured unless something else is asked for.
pub(crate) const SIZES: [usize; 5] = [8, 64, 1 << 10, 64 << 10, 1 << 20];
pub(crate) const TOPOLOGIES: [&str; 7] = ["1x1", "2x2", "4x4", "8x1", "1x8", "20x20", "20x3"];
/// More processes than this have messages of [`CROWDS`] only.
const CROWD: usize = 16;
const CROWDS: usize = 64;
/// From this size on it is worth while to write and read messages in place.
const LARGE: usize = 64 << 10;
const ROUND_TRIPS: [usize; 2] = [64, 64 << 10];

/// How many messages a batch has.
const BATCH: usize = 32;

/// Runs what `options` ask for. `progress` is told what is being measured.
pub(crate) fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, Failure> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut report = Report {
        cores: cores::allowed().len(),
        pinned_to: cores::pair(),
        window_seconds: options.window.as_secs_f64(),
        repeated: options.repeat,
        ..Report::default()
    };
    if wanted(Only::Floor) || wanted(Only::Queue) {
        progress("the machine's floor");
        report.floor = Some(floor::measure(options)?);
    }
    if wanted(Only::Queue) {
        queues(options, progress, &mut report)?;
    }
    if wanted(Only::Map) {
        progress("maps");
        report.map = map::measure(options)?;
    }
    if wanted(Only::Memory) {
        progress("memory");
        report.memory = Some(map::memory()?);
    }
    if wanted(Only::Idle) {
        progress("a thousand queues, and a hundred readers asleep");
        report.idle = Some(idle::measure(options.window)?);
    }
    report.compare();
    report.goals = goals::judge(&report);
    Ok(report)
}

fn queues(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let mut transports = vec![Transport::Shoal, Transport::InPlace, Transport::Bare];
    if options.peers {
        transports.extend(Transport::PEERS);
        let (there, missing) = peers::all();
        transports.extend(there);
        report.skipped.extend(missing);
    }
    let sizes = &options.sizes;
    for &size in sizes.iter().filter(|size| ROUND_TRIPS.contains(size)) {
        for &transport in transports.iter().filter(|it| !it.is_in_place()) {
            progress(&format!("{size} B there and back, {transport}"));
            match trips::measure(transport, size, options)? {
                Ok(trip) => report.round_trips.push(trip),
                Err(why) => report.skipped.push(why),
            }
        }
    }
    for &topology in &options.topologies {
        for &size in sizes {
            if size != CROWDS && topology.producers + topology.consumers > CROWD {
                continue;
            }
            for &transport in &transports {
                if transport.is_in_place() && (size < LARGE || topology != Topology::PAIR) {
                    continue;
                }
                for batch in [1, BATCH] {
                    if batch > 1 && transport != Transport::Shoal {
                        continue;
                    }
                    progress(&format!("{topology}, {size} B, {transport}, by {batch}"));
                    let touch = Touch::All;
                    let load = traffic::Load {
                        transport,
                        size,
                        topology,
                        batch,
                        touch,
                    };
                    match traffic::measure(&load, options)? {
                        Ok(rate) => report.throughput.push(rate),
                        Err(why) => report.skipped.push(why),
                    }
                }
            }
        }
    }
    // What carrying costs when making and reading messages does not: against memcpy.
    let size = 64 << 10;
    if sizes.contains(&size) && options.topologies.contains(&Topology::PAIR) {
        progress("64 KiB copied in and out");
        let load = traffic::Load {
            transport: Transport::Shoal,
            size,
            topology: Topology::PAIR,
            batch: 1,
            touch: Touch::Ends,
        };
        report.copied = traffic::measure(&load, options)?.ok();
    }
    Ok(())
}
