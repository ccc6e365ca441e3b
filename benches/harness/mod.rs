//! The benchmark: queues and maps beside the kernel's own ways and the machine's floor.
//!
//! Real processes, made by `fork`. Every message is written whole before it is put and read
//! whole after it was taken, and in the end all messages and their sums are accounted for;
//! if they are not, the run fails. Rates are of what arrived within a window of time, so that
//! starting and draining do not count. With one producer and one consumer, and in round
//! trips, each end has a core of its own; larger topologies are left to the scheduler, as
//! there are more processes than cores.

mod channel;
mod floor;
mod goals;
mod map;
mod report;
mod stage;
mod traffic;

use std::time::Duration;

use channel::Transport;
use report::{Report, Spread};

/// What went wrong with the measurement itself.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What to measure, and how long.
pub(crate) struct Options {
    pub(crate) window: Duration,
    pub(crate) repeat: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) topologies: Vec<Topology>,
    pub(crate) peers: bool,
    pub(crate) part: Part,
}

/// One part of the benchmark, or all.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    All,
    Queue,
    Map,
}

/// How many processes put and how many take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Topology {
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}x{}", self.producers, self.consumers))
    }
}

impl std::str::FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (producers, consumers) = text.split_once('x')?;
            Some(Self {
                producers: producers.parse().ok()?,
                consumers: consumers.parse().ok()?,
            })
        };
        parse()
            .filter(|it| (1..=64).contains(&it.producers) && (1..=64).contains(&it.consumers))
            .ok_or_else(|| format!("{text:?} is not like 4x4, with 1 to 64 on each side"))
    }
}

/// Sizes and topologies that are measured unless others are asked for.
pub(crate) const SIZES: [usize; 5] = [8, 64, 1 << 10, 64 << 10, 1 << 20];
pub(crate) const TOPOLOGIES: [&str; 5] = ["1x1", "2x2", "4x4", "8x1", "1x8"];

/// How many messages a batch has.
const BATCH: usize = 32;

/// Runs what `options` ask for. `progress` is told what is being measured.
pub(crate) fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, Failure> {
    let mut report = Report::new(options);
    progress("the machine's floor");
    report.floor = Some(floor::measure(&options.sizes, options.window)?);
    if options.part != Part::Map {
        queues(options, progress, &mut report)?;
    }
    if options.part != Part::Queue {
        progress("maps");
        report.map = map::measure(options.window)?;
    }
    progress("memory");
    report.memory = map::memory()?;
    report.goals = goals::judge(&report);
    Ok(report)
}

fn queues(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let kernel = [Transport::Pipe, Transport::Unix, Transport::Mq];
    let peers = if options.peers { &kernel[..] } else { &[] };
    let transports = || std::iter::once(&Transport::Shoal).chain(peers);

    for &size in options
        .sizes
        .iter()
        .filter(|&&size| size == 64 || size == 64 << 10)
    {
        for &transport in transports() {
            progress(&format!("round trip of {size} B, {transport}"));
            match traffic::round_trip(transport, size, options.window)? {
                Ok(trip) => report.round_trips.push(trip),
                Err(why) => report.skipped.push(why),
            }
        }
    }
    for &topology in &options.topologies {
        for &size in &options.sizes {
            for &transport in transports() {
                let batches = if transport == Transport::Shoal {
                    &[1, BATCH][..]
                } else {
                    &[1]
                };
                for &batch in batches {
                    progress(&format!(
                        "{topology} of {size} B, {transport}, batches of {batch}"
                    ));
                    let load = traffic::Load {
                        transport,
                        size,
                        topology,
                        batch,
                        whole: true,
                    };
                    match traffic::throughput(&load, options)? {
                        Ok(rate) => report.throughput.push(rate),
                        Err(why) => report.skipped.push(why),
                    }
                }
            }
        }
    }
    // How fast bytes get through when nobody touches more than their ends: against memcpy.
    let (size, topology) = (
        64 << 10,
        Topology {
            producers: 1,
            consumers: 1,
        },
    );
    if options.sizes.contains(&size) {
        progress("64 KiB copied in and out");
        let load = traffic::Load {
            transport: Transport::Shoal,
            size,
            topology,
            batch: 1,
            whole: false,
        };
        report.copied = traffic::throughput(&load, options)?.ok();
    }
    Ok(())
}

/// Median, least and most of several measurements.
fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    Spread {
        median: at(values.len() / 2),
        least: at(0),
        most: at(values.len().saturating_sub(1)),
    }
}
