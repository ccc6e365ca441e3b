//! The benchmark: queues and maps beside the transports of the kernel and the machine's baseline.
//!
//! From the bottom up; imports point up in this list, and no file imports from this one:
//!
//! - [`failure`], [`figures`], [`spread`], [`machine`], [`options`], [`rounds`]: what can go wrong,
//!   numbers, the machine, and what is requested.
//! - [`stage`], [`workers`], [`busy`], [`jobs`], [`cores`]: worker processes, the page they share, where
//!   they run, and the job of each.
//! - [`load`], [`payload`], [`pace`], [`wire`], [`link`], [`channel`]: the messages and their times, one end
//!   of a transport, how a worker finds it, both ends.
//! - [`bare`], [`mapping`]: memory with as little code as possible, as a baseline.
//! - [`stores`], [`entries`]: the stores of keys, and their entries.
//! - [`peers`]: other projects' queues and stores, used by programs of their own.
//! - [`baseline`], [`latency`], [`traffic`], [`map`], [`memory`], [`idle`], [`growth`], [`curves`]: the
//!   measurements.
//! - [`registers`], [`trace`], [`steps`], [`budget`]: instructions of calls, counted singly.
//! - [`waits`]: waiting on a busy machine, by [`latency`], [`handover`] of [`guards`], [`paced`]
//!   messages; [`waited`]: the results.
//! - [`times`], [`cputime`]: how long single calls took, and how much of the cores.
//! - [`report`], [`ratios`], [`goals`], [`goals_busy`]: the results, for programs.
//! - [`table`], [`table_ratios`], [`table_waits`] with [`layout`]: the same for people.
//! - [`charts`], [`html`], [`page`], [`page_charts`], [`page_tables`]: the same as a page, and in [`picture`] one
//!   of its charts as an image.
//! - [`measures`], [`compare`]: two reports side by side.
//!
//! Workers are real processes: this program is executed again and opens the measured objects by name.
//! Every message is written completely before it is put and read completely after it was taken. In
//! the end all messages and their sums must add up, or the run fails.
//! Rates count messages that arrived within a window of time, so that starting and draining do not
//! count. With one producer and one consumer, and in round trips, each end has a core of its
//! own; larger topologies are left to the scheduler.
//!
//! Peers do the same work: they write and read as many bytes, have room for about as many
//! messages, and their messages are checked in the same way. The comments of their programs and
//! `benches/README.md` describe what they do in addition, or do not do.

mod bare;
mod baseline;
pub(crate) mod budget;
mod busy;
mod channel;
mod charts;
mod compare;
mod cores;
mod cputime;
mod curves;
mod entries;
mod failure;
mod figures;
mod goals;
mod goals_busy;
mod growth;
mod guards;
mod handover;
mod html;
mod idle;
mod jobs;
mod latency;
mod layout;
mod link;
mod load;
mod machine;
mod map;
mod mapping;
mod measures;
mod memory;
mod options;
mod pace;
mod paced;
mod page;
mod page_charts;
mod page_tables;
mod payload;
mod peers;
mod picture;
mod ratios;
mod registers;
mod report;
mod rounds;
mod spread;
mod stage;
mod steps;
mod stores;
mod table;
mod table_ratios;
mod table_waits;
mod times;
mod trace;
mod traffic;
mod waited;
mod waits;
mod wire;
mod workers;

use failure::Failure;
use load::{BATCH, LARGE, Load};
use machine::Machine;
use payload::Touch;
use report::{Gap, Goal, Skipped, Throughput};
use rounds::in_turns;
use stores::Store;

pub(crate) use busy::Session;
pub(crate) use compare::Comparison;
pub(crate) use jobs::worker;
pub(crate) use load::{Topology, Transport};
pub(crate) use options::{
    BUSY, IDLE_AND_BUSY, OVERSUBSCRIBED, Only, Options, SIZES, TOPOLOGIES, Waits,
};
pub(crate) use page::page;
pub(crate) use picture::picture;
pub(crate) use report::{Report, json, parse};
pub(crate) use steps::measure as instructions;

const OVERSUBSCRIBED_SIZE: usize = 64;
const ROUND_TRIPS: [usize; 2] = [64, 64 << 10];

/// Runs what `options` request. `progress` is called with the name of each measurement.
pub(crate) fn run(options: &Options, progress: &dyn Fn(&str)) -> Result<Report, Failure> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut report = Report {
        format: report::FORMAT,
        machine: Machine::here(),
        cores: cores::allowed().len(),
        pinned_to: cores::pair(),
        window_seconds: options.window.as_secs_f64(),
        repeated: options.repeat,
        ring: options.ring,
        ..Report::default()
    };
    let alone = matches!(options.only, Some(Only::Waits | Only::Curves));
    if alone {
        report.busy_session = options.busy_session.unwrap_or(Session::Same);
    } else {
        report.busy = options.busy.first().copied().unwrap_or(0);
        report.busy_session = options.busy_session.unwrap_or(Session::Own);
        parts(options, progress, &mut report)?;
    }
    if wanted(Only::Curves) {
        curves(options, progress, &mut report)?;
    }
    if wanted(Only::Waits) {
        report.waits = waits::measure(options, progress)?;
    }
    report.compare();
    report.goals = judge(&report);
    report.machine.finish();
    Ok(report)
}

/// Everything that is measured beside one number of busy programs.
fn parts(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let stage = stage::Stage::new()?;
    let _others = busy::start(&stage, report.busy, report.busy_session)?;
    if wanted(Only::Baseline) || wanted(Only::Queue) {
        progress("the machine's baseline");
        report.baseline = Some(baseline::measure(options)?);
    }
    if wanted(Only::Queue) {
        queues(options, progress, report)?;
    }
    if wanted(Only::Map) {
        progress("maps");
        let peers: &[_] = match options.peers {
            true => &[Store::Shoal, Store::Boost, Store::Lmdb, Store::Redis],
            false => &[Store::Shoal],
        };
        map::measure(options, peers, report)?;
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
    if wanted(Only::Growth) {
        progress("the cost of calls as objects grow");
        report.growth = growth::measure(options)?;
    }
    Ok(())
}

/// Latency at fixed rates, of transports that copy: they work for every size of message.
fn curves(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let mut all = transports(options, report);
    all.retain(|it| !it.is_in_place() || *it == Transport::Bare);
    let (curves, skipped) = curves::measure(options, &all, progress)?;
    report.curves = curves;
    report.skipped.extend(skipped);
    Ok(())
}

/// The requested transports that this machine has. Those that it lacks are noted in the report.
fn transports(options: &Options, report: &mut Report) -> Vec<Transport> {
    let mut transports = vec![Transport::Shoal, Transport::InPlace, Transport::Bare];
    if options.peers {
        transports.extend(Transport::PEERS);
        let (there, missing) = peers::all(&options.transports);
        transports.extend(&there);
        report.peers = there;
        // Both parts that use transports need them.
        report.skipped.retain(|it| it.what != "peer");
        let skipped = |(transport, why)| Skipped {
            what: "peer".into(),
            outcome: Gap::Skipped,
            transport,
            size: None,
            topology: "any".to_owned(),
            why,
        };
        report.skipped.extend(missing.into_iter().map(skipped));
    }
    if !options.transports.is_empty() {
        transports.retain(|it| options.transports.contains(it));
        let skipped = &mut report.skipped;
        skipped.retain(|it| options.transports.contains(&it.transport));
    }
    transports
}

fn queues(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let transports = transports(options, report);
    let sizes = &options.sizes;
    for &size in sizes.iter().filter(|size| ROUND_TRIPS.contains(size)) {
        progress(&format!("{size} B there and back"));
        round_trips(size, &transports, options, report)?;
    }
    let eligible: Vec<usize> = sizes
        .iter()
        .copied()
        .filter(|&it| it == OVERSUBSCRIBED_SIZE)
        .collect();
    let oversubscribed = options.oversubscribed.iter().map(|it| (it, &eligible));
    let all = options.topologies.iter().map(|it| (it, sizes));
    for (&topology, sizes) in all.chain(oversubscribed) {
        for &size in sizes {
            progress(&format!("{topology}, {size} B"));
            throughput(size, topology, &transports, options, report)?;
        }
    }
    let own = transports.contains(&Transport::Shoal);
    if own && sizes.contains(&COPIED) && options.topologies.contains(&Topology::PAIR) {
        progress("64 KiB copied in and out");
        report.copied = copied(options)?;
    }
    Ok(())
}

fn round_trips(
    size: usize,
    transports: &[Transport],
    options: &Options,
    report: &mut Report,
) -> Result<(), Failure> {
    // Messages that are copied have bare memory as their baseline too.
    let mut trips = transports.to_vec();
    trips.retain(|&it| it != Transport::InPlace);
    let window = |&transport: &Transport| latency::window(transport, size, options);
    for (&transport, done) in trips.iter().zip(in_turns(&trips, options.repeat, window)?) {
        match done {
            Ok(windows) => report
                .round_trips
                .push(latency::trip(transport, size, &windows)),
            Err(why) => report.skipped.push(why),
        }
    }
    Ok(())
}

fn throughput(
    size: usize,
    topology: Topology,
    transports: &[Transport],
    options: &Options,
    report: &mut Report,
) -> Result<(), Failure> {
    let load = |transport, batch| Load {
        transport,
        size,
        topology,
        batch,
        touch: Touch::All,
    };
    let (in_place, copied): (Vec<_>, Vec<_>) = transports.iter().partition(|it| it.is_in_place());
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
    let window = |load: &Load| traffic::window(load, options);
    for (load, done) in loads.iter().zip(in_turns(&loads, options.repeat, window)?) {
        match done {
            Ok(windows) => report.throughput.push(traffic::rate(load, &windows)),
            Err(why) => report.skipped.push(why),
        }
    }
    Ok(())
}

/// The bytes of a message of [`copied`].
const COPIED: usize = 64 << 10;

/// The cost of carrying messages without that of writing and reading them, against memcpy.
fn copied(options: &Options) -> Result<Option<Throughput>, Failure> {
    let load = Load {
        transport: Transport::Shoal,
        size: COPIED,
        topology: Topology::PAIR,
        batch: 1,
        touch: Touch::Ends,
    };
    let window = |load: &Load| traffic::window(load, options);
    let done = in_turns(&[load], options.repeat, window)?;
    let windows = done.first().and_then(|it| it.as_ref().ok());
    Ok(windows.map(|windows| traffic::rate(&load, windows)))
}

/// Judges every goal for which this run has figures. Waits are measured alone.
fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = match report.waits.is_empty() {
        true => goals::judge(report),
        false => Vec::new(),
    };
    goals.extend(goals_busy::judge(report));
    goals
}
