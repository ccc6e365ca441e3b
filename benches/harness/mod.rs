//! The benchmark: queues and maps beside the kernel's own ways and the machine's baseline.
//!
//! From the bottom up; imports point up in this list, and no file imports from this one:
//!
//! - [`failure`], [`figures`], [`spread`], [`options`], [`rounds`]: what can go wrong, numbers, what is
//!   asked for.
//! - [`stage`], [`workers`], [`busy`], [`jobs`], [`cores`]: worker processes, the page they share, where
//!   they run, and what each does.
//! - [`load`], [`payload`], [`wire`], [`link`], [`channel`]: what is carried, one end of a transport, how a
//!   worker finds it, both ends.
//! - [`bare`], [`mapping`]: memory with as little as can be around it, as a baseline.
//! - [`stores`], [`entries`]: where keys are, and what is stored.
//! - [`peers`]: other projects' queues and stores, used by programs of their own.
//! - [`baseline`], [`latency`], [`traffic`], [`map`], [`memory`], [`idle`], [`steps`]: what is measured.
//! - [`waits`]: waiting on a busy machine, by [`latency`], [`handover`] of [`guards`], [`paced`]
//!   messages; [`waited`]: what came out of it.
//! - [`times`], [`cputime`]: how long single calls took, and how much of the cores.
//! - [`report`], [`ratios`], [`goals`], [`goals_busy`], [`table`], [`table_ratios`], [`table_waits`] with
//!   [`layout`]: what came out, for programs and for
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
mod baseline;
mod busy;
mod channel;
mod cores;
mod cputime;
mod entries;
mod failure;
mod figures;
mod goals;
mod goals_busy;
mod guards;
mod handover;
mod idle;
mod jobs;
mod latency;
mod layout;
mod link;
mod load;
mod map;
mod mapping;
mod memory;
mod options;
mod paced;
mod payload;
mod peers;
mod ratios;
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
use payload::Touch;
use report::{Gap, Goal, Skipped};
use rounds::in_turns;
use stores::Store;

pub(crate) use busy::Session;
pub(crate) use jobs::worker;
pub(crate) use load::{Topology, Transport};
pub(crate) use options::{BUSY, OVERSUBSCRIBED, Only, Options, SIZES, TOPOLOGIES, Waits};
pub(crate) use report::Report;

const OVERSUBSCRIBED_SIZE: usize = 64;
const ROUND_TRIPS: [usize; 2] = [64, 64 << 10];

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
        report.goals = judge(&report);
        return Ok(report);
    }
    report.busy = options.busy.first().copied().unwrap_or(0);
    report.busy_session = options.busy_session.unwrap_or(Session::Own);
    let stage = stage::Stage::new()?;
    let _others = busy::start(&stage, report.busy, report.busy_session)?;
    if wanted(Only::Baseline) || wanted(Only::Queue) {
        progress("the machine's baseline");
        report.baseline = Some(baseline::measure(options)?);
    }
    if wanted(Only::Queue) {
        queues(options, progress, &mut report)?;
    }
    if wanted(Only::Map) {
        progress("maps");
        let peers: &[_] = match options.peers {
            true => &[Store::Shoal, Store::Boost, Store::Lmdb, Store::Redis],
            false => &[Store::Shoal],
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
    report.goals = judge(&report);
    Ok(report)
}

fn queues(options: &Options, progress: &dyn Fn(&str), report: &mut Report) -> Result<(), Failure> {
    let mut transports = vec![Transport::Shoal, Transport::InPlace, Transport::Bare];
    if options.peers {
        transports.extend(Transport::PEERS);
        let (there, missing) = peers::all(&options.transports);
        transports.extend(&there);
        report.peers = there;
        let skipped = |(transport, why)| Skipped {
            what: "peer",
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
    let sizes = &options.sizes;
    let (in_place, copied): (Vec<_>, Vec<_>) = transports.iter().partition(|it| it.is_in_place());
    // Copied in and out; nothing but memory is the baseline of that as well.
    let trips: Vec<_> = transports
        .iter()
        .filter(|&&it| it != Transport::InPlace)
        .collect();
    for &size in sizes.iter().filter(|size| ROUND_TRIPS.contains(size)) {
        progress(&format!("{size} B there and back"));
        let window = |&&transport: &&Transport| latency::window(transport, size, options);
        for (&transport, done) in trips.iter().zip(in_turns(&trips, options.repeat, window)?) {
            match done {
                Ok(windows) => report
                    .round_trips
                    .push(latency::trip(*transport, size, &windows)),
                Err(why) => report.skipped.push(why),
            }
        }
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
            let load = |transport, batch| Load {
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
            let window = |load: &Load| traffic::window(load, options);
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
        let load = Load {
            transport: Transport::Shoal,
            size,
            topology: Topology::PAIR,
            batch: 1,
            touch: Touch::Ends,
        };
        let window = |load: &Load| traffic::window(load, options);
        if let Some(Ok(windows)) = in_turns(&[load], options.repeat, window)?.first() {
            report.copied = Some(traffic::rate(&load, windows));
        }
    }
    Ok(())
}

/// Judges every goal that this run measured something for. Waits are measured alone.
fn judge(report: &Report) -> Vec<Goal> {
    let mut goals = match report.waits.is_empty() {
        true => goals::judge(report),
        false => Vec::new(),
    };
    goals.extend(goals_busy::judge(report));
    goals
}
