//! Throughput: messages a second, and the messages of each process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{self, Channel};
use super::failure::Failure;
use super::link::Link;
use super::load::{BATCH, Load, Topology};
use super::options::Options;
use super::payload::{Touch, read, write};
use super::report::{Gap, Skipped, Throughput};
use super::spread::Spread;
use super::stage::Stage;
use super::workers::{self, Workers};
use super::{baseline, cores, cputime};

/// Why this load has no figure.
fn gap(load: &Load, outcome: Gap, why: String) -> Skipped {
    Skipped {
        what: "throughput".into(),
        outcome,
        transport: load.transport,
        size: Some(load.size),
        topology: load.topology.to_string(),
        why,
    }
}

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    link: Link,
    produce: bool,
    worker: usize,
    size: usize,
    batch: usize,
    touch: Touch,
    in_place: bool,
}

/// Long enough to see how far apart two cores are at the moment.
const SHORT: Duration = Duration::from_millis(10);

/// What happened in one window with processes of its own.
pub(super) fn window(load: &Load, options: &Options) -> Result<Result<Window, Skipped>, Failure> {
    let ring = channel::ring(load.size, options.ring);
    let channel = match Channel::new(load.transport, load.size, load.topology, ring)? {
        Ok(channel) => channel,
        Err(why) => return Ok(Err(gap(load, Gap::Skipped, why))),
    };
    let line = match pins(load.topology) {
        Some(_) => Some(baseline::cache_line(SHORT, baseline::clock())?),
        None => None,
    };
    let theirs = channel.program().is_some();
    match once(load, channel, options.window) {
        Ok(window) => Ok(Ok(Window { line, ..window })),
        // A failure of another project's workers does not end the measurement.
        Err(why) if theirs => Ok(Err(gap(load, Gap::of(&why), why.to_string()))),
        Err(why) => Err(why),
    }
}

/// Messages a second over these windows.
pub(super) fn rate(load: &Load, windows: &[Window]) -> Throughput {
    let (mut unfair, mut got_nothing) = (1.0f64, 0);
    for window in windows {
        let all = window.put.iter().chain(&window.taken);
        got_nothing = got_nothing.max(all.filter(|done| **done == 0).count());
        for side in [&window.put, &window.taken] {
            if let (Some(&least), Some(&most)) = (side.iter().min(), side.iter().max()) {
                unfair = unfair.max(most as f64 / least.max(1) as f64);
            }
        }
    }
    let million = Spread::of(windows.iter().map(|window| window.rate / 1e6).collect());
    let lines: Vec<f64> = windows.iter().filter_map(|window| window.line).collect();
    Throughput {
        transport: load.transport,
        size: load.size,
        topology: load.topology.to_string(),
        pinned: pins(load.topology).is_some(),
        batch: load.batch,
        gigabytes: million.median * load.size as f64 / 1e3,
        million,
        cpu_ns: Spread::of(windows.iter().map(|window| window.cpu_ns).collect()),
        most_to_least: (got_nothing == 0).then_some(unfair),
        cache_line_ns: (!lines.is_empty()).then(|| Spread::of(lines)),
        got_nothing,
    }
}

/// A core for each end, if there is one each.
fn pins(topology: Topology) -> Option<[usize; 2]> {
    let alone = topology.producers == 1 && topology.consumers == 1;
    cores::pair().filter(|_| alone)
}

/// What happened in one window.
pub(super) struct Window {
    /// Messages that arrived, a second.
    rate: f64,
    /// Processor time of all processes for each of them.
    cpu_ns: f64,
    /// What each producer put, and each consumer took.
    put: Vec<u64>,
    taken: Vec<u64>,
    /// How far apart the two cores were just before, if each end had its own.
    line: Option<f64>,
}

fn once(load: &Load, mut channel: Channel, length: Duration) -> Result<Window, Failure> {
    let Topology {
        producers,
        consumers,
    } = load.topology;
    let workers = producers + consumers;
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    let pins = pins(load.topology);
    for worker in 0..workers {
        let produce = worker < producers;
        let core = pins.map(|cores| cores[usize::from(!produce)]);
        if let Some(program) = channel.program() {
            let role = if produce { "put" } else { "take" };
            processes.add_program(core, &program.traffic(role, &stage, worker, load))?;
            continue;
        }
        let link = if produce {
            channel.putting()?
        } else {
            channel.taking()?
        };
        let part = Part {
            produce,
            worker,
            size: load.size,
            batch: load.batch,
            touch: load.touch,
            in_place: load.transport.is_in_place(),
            link,
        };
        processes.add(core, part.link.fds(), &part)?;
    }
    channel.started();

    // During the warm-up, pages fault and all workers begin.
    processes.start(length / 10)?;
    let pids = processes.pids();
    let (used, (began, before)) = (cputime::used(&pids)?, stage.counts(workers));
    std::thread::sleep(length);
    let ((ended, after), used_by_then) = (stage.counts(workers), cputime::used(&pids)?);
    stage.stop();
    processes.join(0, producers)?;
    stage.end();
    channel.finish(consumers)?;
    processes.join_all()?;

    let total = |workers: std::ops::Range<usize>| {
        workers.fold((0u64, 0u64), |(messages, sum), worker| {
            let tally = stage.tally(worker);
            (
                messages + tally.messages.load(Ordering::Acquire),
                sum.wrapping_add(tally.sum.load(Ordering::Acquire)),
            )
        })
    };
    let (put, taken) = (total(0..producers), total(producers..workers));
    if put != taken {
        let what = format!("{} of {} B", load.transport, load.size);
        return Err(format!("{what}: put (messages, sum) {put:?}, but took {taken:?}").into());
    }
    let mut put: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(now, then)| now - then)
        .collect();
    let taken = put.split_off(producers);
    let arrived = taken.iter().sum::<u64>();
    let rate = arrived as f64 / (ended - began).as_secs_f64();
    Ok(Window {
        rate,
        cpu_ns: (used_by_then - used).as_nanos() as f64 / arrived.max(1) as f64,
        put,
        taken,
        line: None,
    })
}

impl workers::Part for Part {
    const NAME: &str = "traffic";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let (messages, sum) = if self.produce {
            self.produce(stage)?
        } else {
            self.consume(stage)?
        };
        let tally = stage.tally(self.worker);
        tally.sum.store(sum, Ordering::Release);
        tally.messages.store(messages, Ordering::Release);
        Ok(())
    }
}

impl Part {
    /// Puts until it is stopped; returns how many messages, and their sum.
    fn produce(&self, stage: &Stage) -> Result<(u64, u64), Failure> {
        let mut wire = self.link.open()?;
        // The bytes are not zero: pages of zeros would fault when first used, within the window.
        let mut messages = vec![1u8; self.size * self.batch];
        let (mut count, mut sum) = (0u64, 0u64);
        let mut seed = (self.worker as u64) << 48;
        let tally = stage.tally(self.worker);
        stage.wait_for_start();
        if self.in_place {
            while !stage.is_stopped() {
                wire.put_in_place(self.size, &mut |place| {
                    sum = sum.wrapping_add(write(place, seed, self.touch));
                })?;
                (seed, count) = (seed + 1, count + 1);
                tally.messages.store(count, Ordering::Release);
            }
            return Ok((count, sum));
        }
        if self.batch == 1 {
            while !stage.is_stopped() {
                sum = sum.wrapping_add(write(&mut messages, seed, self.touch));
                wire.put(&messages)?;
                (seed, count) = (seed + 1, count + 1);
                tally.messages.store(count, Ordering::Release);
            }
            return Ok((count, sum));
        }
        while !stage.is_stopped() {
            let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
            for (place, message) in batch.iter_mut().zip(messages.chunks_exact_mut(self.size)) {
                sum = sum.wrapping_add(write(message, seed, self.touch));
                *place = message;
                seed += 1;
            }
            wire.put_many(&batch[..self.batch])?;
            count += self.batch as u64;
            tally.messages.store(count, Ordering::Release);
        }
        Ok((count, sum))
    }

    /// Takes until the end of the channel; returns how many messages, and their sum.
    fn consume(&self, stage: &Stage) -> Result<(u64, u64), Failure> {
        let mut wire = self.link.open()?;
        let mut buf = vec![1u8; self.size * self.batch];
        let mut lens = vec![0; self.batch];
        let (mut count, mut sum) = (0u64, 0u64);
        let tally = stage.tally(self.worker);
        stage.wait_for_start();
        if self.in_place {
            while wire.get_in_place(&mut |place| {
                sum = sum.wrapping_add(read(place, self.touch));
            })? {
                count += 1;
                tally.messages.store(count, Ordering::Release);
            }
            return Ok((count, sum));
        }
        if self.batch == 1 {
            while wire.get(&mut buf)? {
                sum = sum.wrapping_add(read(&buf, self.touch));
                count += 1;
                tally.messages.store(count, Ordering::Release);
            }
            return Ok((count, sum));
        }
        loop {
            let taken = wire.get_many(&mut buf, &mut lens)?;
            if taken == 0 {
                return Ok((count, sum));
            }
            for message in buf[..taken * self.size].chunks_exact(self.size) {
                sum = sum.wrapping_add(read(message, self.touch));
            }
            count += taken as u64;
            tally.messages.store(count, Ordering::Release);
        }
    }
}
