//! The benchmark: queues and maps beside the kernel's own ways and the machine's floor.
//!
//! - [`crew`], [`stage`], [`cores`]: worker processes, the page they share, where they run.
//! - [`channel`], [`wire`], [`payload`]: ways of transport, one end of one, what goes over it.
//! - [`bare`], [`mapping`]: memory with as little as can be around it, as a floor.
//! - [`peers`]: other projects' queues and stores, used by programs of their own.
//! - [`traffic`], [`trips`], [`map`] of [`entries`], [`memory`], [`idle`], [`steps`], [`floor`]: what is
//!   measured.
//! - [`waits`]: waiting on a busy machine, by [`trips`], [`handover`] of [`guards`], [`paced`]
//!   messages; [`waited`]: what came out of it.
//! - [`times`], [`cputime`]: how long single calls took, and how much of the cores.
//! - [`report`], [`ratios`], [`table`], [`goals`], [`goals_busy`]: what came out, for programs and for
//!   people.
//!
//! Workers are real processes: this program executed afresh, opening what it measures by name.
//! Every message is written whole before it is put and read whole after it was taken, and in
//! the end all messages and their sums are accounted for; if they are not, the run fails.
//! Rates are of what arrived within a window of time, so that starting and draining do not
//! count. With one producer and one consumer, and in round trips, each end has a core of its
//! own; larger topologies are left to the scheduler.
//!
//! Peers do the same work: they write and read as many bytes, have room for about as many
//! messages, and their messages are accounted for in the same way. What they do besides, or
//! do not, is in the programs' own words and in `benches/README.md`.

mod bare;
mod channel;
mod cores;
mod cputime;
mod crew;
mod entries;
mod floor;
mod goals;
mod goals_busy;
mod guards;
mod handover;
mod idle;
mod map;
mod mapping;
mod memory;
mod paced;
mod payload;
mod peers;
mod ratios;
mod report;
mod stage;
mod steps;
mod table;
mod times;
mod traffic;
mod trips;
mod waited;
mod waits;
mod wire;

use std::time::Duration;

use payload::Touch;
use report::Skipped;

pub(crate) use channel::Transport;
pub(crate) use crew::{Session, worker};
pub(crate) use report::Report;
pub(crate) use waits::{BUSY, Waits};

/// What went wrong with the measurement itself.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What to measure, and how long.
pub(crate) struct Options {
    pub(crate) window: Duration,
    pub(crate) repeat: usize,
    /// Multiples of 8.
    pub(crate) sizes: Vec<usize>,
    pub(crate) topologies: Vec<Topology>,
    /// Far more processes than cores, with messages of 64 B alone.
    pub(crate) crowds: Vec<Topology>,
    pub(crate) peers: bool,
    /// Only these ways of transport; if there are none, all.
    pub(crate) transports: Vec<Transport>,
    pub(crate) only: Option<Only>,
    /// Bytes of every ring; if there are none, what suits the size of the messages.
    pub(crate) ring: Option<u64>,
    /// How many other programs compute meanwhile: one number, but for waits, which are measured
    /// beside each of several.
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
    /// Queues, and the floor to compare them with
    Queue,
    /// Maps
    Map,
    /// The machine's own floor
    Floor,
    /// Committed memory, and what a map's memory costs its reader
    Memory,
    /// What waiting costs
    Idle,
    /// Instructions of a call
    Steps,
    /// Waiting beside programs that compute; only if it is asked for
    Waits,
}

/// How many processes put and how many take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Topology {
    producers: usize,
    consumers: usize,
}

impl Topology {
    const PAIR: Self = Self::of(1, 1);

    const fn of(producers: usize, consumers: usize) -> Self {
        Self {
            producers,
            consumers,
        }
    }
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
pub(crate) const TOPOLOGIES: [Topology; 5] = [
    Topology::PAIR,
    Topology::of(2, 2),
    Topology::of(4, 4),
    Topology::of(8, 1),
    Topology::of(1, 8),
];
pub(crate) const CROWDS: [Topology; 2] = [Topology::of(20, 20), Topology::of(20, 3)];
const CROWDS_SIZE: usize = 64;
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
        ring: options.ring,
        ..Report::default()
    };
    if options.only == Some(Only::Waits) {
        report.busy_session = options.busy_session.unwrap_or(Session::Same);
        report.waits = waits::measure(options, progress)?;
        report.goals = goals::judge(&report);
        return Ok(report);
    }
    report.busy = options.busy.first().copied().unwrap_or(0);
    report.busy_session = options.busy_session.unwrap_or(Session::Own);
    let stage = stage::Stage::new()?;
    let _others = crew::Crew::computing(&stage, report.busy, report.busy_session)?;
    if wanted(Only::Floor) || wanted(Only::Queue) {
        progress("the machine's floor");
        report.floor = Some(floor::measure(options)?);
    }
    if wanted(Only::Queue) {
        queues(options, progress, &mut report)?;
    }
    if wanted(Only::Map) {
        progress("maps");
        let peers: &[_] = match options.peers {
            true => &[
                map::Store::Shoal,
                map::Store::Boost,
                map::Store::Lmdb,
                map::Store::Redis,
            ],
            false => &[map::Store::Shoal],
        };
        map::measure(options, peers, &mut report)?;
    }
    if wanted(Only::Memory) {
        progress("memory");
        report.memory = Some(memory::measure(options)?);
    }
    if wanted(Only::Idle) {
        progress("a thousand queues, and a hundred readers asleep");
        report.idle = Some(idle::measure(options.window)?);
    }
    if wanted(Only::Steps) {
        progress("instructions");
        report.steps = steps::measure()?;
    }
    report.compare();
    report.goals = goals::judge(&report);
    Ok(report)
}

fn queues(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let mut transports = vec![Transport::Shoal, Transport::InPlace, Transport::Bare];
    if options.peers {
        transports.extend(Transport::PEERS);
        let (there, missing) = peers::all(&options.transports);
        transports.extend(&there);
        report.peers = there;
        report.skipped.extend(missing);
    }
    if !options.transports.is_empty() {
        transports.retain(|it| options.transports.contains(it));
        let skipped = &mut report.skipped;
        skipped.retain(|it| options.transports.contains(&it.transport));
    }
    let sizes = &options.sizes;
    let (in_place, copied): (Vec<_>, Vec<_>) = transports.iter().partition(|it| it.is_in_place());
    // Copied in and out; nothing but memory is the floor of that as well.
    let trips: Vec<_> = transports
        .iter()
        .filter(|&&it| it != Transport::InPlace)
        .collect();
    for &size in sizes.iter().filter(|size| ROUND_TRIPS.contains(size)) {
        progress(&format!("{size} B there and back"));
        let window = |&&transport: &&Transport| trips::window(transport, size, options);
        for (&transport, done) in trips.iter().zip(in_turns(&trips, options.repeat, window)?) {
            match done {
                Ok(windows) => report
                    .round_trips
                    .push(trips::trip(*transport, size, &windows)),
                Err(why) => report.skipped.push(why),
            }
        }
    }
    let crowded: Vec<usize> = sizes
        .iter()
        .copied()
        .filter(|&it| it == CROWDS_SIZE)
        .collect();
    let crowds = options.crowds.iter().map(|it| (it, &crowded));
    let all = options.topologies.iter().map(|it| (it, sizes));
    for (&topology, sizes) in all.chain(crowds) {
        for &size in sizes {
            progress(&format!("{topology}, {size} B"));
            let load = |transport, batch| traffic::Load {
                transport,
                size,
                topology,
                batch,
                touch: Touch::All,
            };
            let mut loads = Vec::new();
            if size >= LARGE && topology == Topology::PAIR {
                loads.extend(in_place.iter().map(|&transport| load(transport, 1)));
            }
            for &transport in &copied {
                loads.push(load(transport, 1));
                if transport == Transport::Shoal {
                    loads.push(load(transport, BATCH));
                }
            }
            let window = |load: &traffic::Load| traffic::window(load, options);
            for (load, done) in loads.iter().zip(in_turns(&loads, options.repeat, window)?) {
                match done {
                    Ok(windows) => report.throughput.push(traffic::rate(load, &windows)),
                    Err(why) => report.skipped.push(why),
                }
            }
        }
    }
    // What carrying costs when making and reading messages does not: against memcpy.
    let size = 64 << 10;
    let own = transports.contains(&Transport::Shoal);
    if own && sizes.contains(&size) && options.topologies.contains(&Topology::PAIR) {
        progress("64 KiB copied in and out");
        let load = traffic::Load {
            transport: Transport::Shoal,
            size,
            topology: Topology::PAIR,
            batch: 1,
            touch: Touch::Ends,
        };
        let window = |load: &traffic::Load| traffic::window(load, options);
        if let Some(Ok(windows)) = in_turns(&[load], options.repeat, window)?.first() {
            report.copied = Some(traffic::rate(&load, windows));
        }
    }
    Ok(())
}

/// Measures all of `what` in each of `repeat` rounds, so that a machine that is slow for
/// a while is so for all alike. Returns the windows of each in the order of the rounds, so that
/// those of one round can be compared, or why there are none.
fn in_turns<What, Window>(
    what: &[What],
    repeat: usize,
    window: impl Fn(&What) -> Result<Result<Window, Skipped>, Failure>,
) -> Result<Vec<Result<Vec<Window>, Skipped>>, Failure> {
    let mut all: Vec<_> = what.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..repeat {
        for (what, so_far) in what.iter().zip(&mut all) {
            if let Ok(windows) = so_far {
                match window(what)? {
                    Ok(window) => windows.push(window),
                    Err(why) => *so_far = Err(why),
                }
            }
        }
    }
    Ok(all)
}
