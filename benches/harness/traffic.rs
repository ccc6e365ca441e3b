//! Messages under way: how many a second, how long there and back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::channel::{Channel, Skipped, Transport};
use super::report::{RoundTrip, Throughput};
use super::stage::{self, SAMPLES, Stage, Stand};
use super::{BATCH, Failure, Options, Topology, spread};

/// What goes where.
pub(super) struct Load {
    pub(super) transport: Transport,
    pub(super) size: usize,
    pub(super) topology: Topology,
    pub(super) batch: usize,
    /// Write and read every byte, or only the first and the last word of each message.
    pub(super) whole: bool,
}

/// Writes a message and returns the sum of what a reader will find in it.
#[inline]
fn write(message: &mut [u8], seed: u64, whole: bool) -> u64 {
    let (words, _) = message.as_chunks_mut::<8>();
    if whole {
        for (index, word) in words.iter_mut().enumerate() {
            *word = seed.wrapping_add(index as u64).to_ne_bytes();
        }
        let count = words.len() as u64;
        return seed
            .wrapping_mul(count)
            .wrapping_add(count * (count - 1) / 2);
    }
    for at in [0, words.len() - 1] {
        words[at] = seed.to_ne_bytes();
    }
    seed.wrapping_mul(2)
}

/// Reads a message and returns its sum.
#[inline]
fn read(message: &[u8], whole: bool) -> u64 {
    let (words, _) = message.as_chunks::<8>();
    let sum = |sum: u64, word: &[u8; 8]| sum.wrapping_add(u64::from_ne_bytes(*word));
    match words {
        [first, .., last] if !whole => sum(sum(0, first), last),
        words => words.iter().fold(0, sum),
    }
}

/// Messages a second over `options.repeat` windows.
pub(super) fn throughput(
    load: &Load,
    options: &Options,
) -> Result<Result<Throughput, Skipped>, Failure> {
    let (mut rates, mut unfair, mut starved) = (Vec::new(), 1.0f64, false);
    for _ in 0..options.repeat {
        let channel = match Channel::new(load.transport, load.size, load.topology)? {
            Ok(channel) => channel,
            Err(why) => return Ok(Err(why)),
        };
        let (rate, sides) = once(load, channel, options.window)?;
        rates.push(rate);
        for side in sides {
            let (least, most) = (side.iter().min(), side.iter().max());
            if let (Some(&least), Some(&most)) = (least, most) {
                starved |= least == 0;
                unfair = unfair.max(most as f64 / least.max(1) as f64);
            }
        }
    }
    let million = spread(rates.iter().map(|rate| rate / 1e6).collect());
    Ok(Ok(Throughput {
        transport: load.transport,
        size: load.size,
        topology: load.topology.to_string(),
        batch: load.batch,
        gigabytes: million.median * load.size as f64 / 1e3,
        million,
        luckiest_to_least_lucky: unfair,
        starved,
    }))
}

/// One window: the rate, and what each producer and each consumer did in it.
fn once(
    load: &Load,
    mut channel: Channel,
    window: Duration,
) -> Result<(f64, [Vec<u64>; 2]), Failure> {
    let stand = Stand::new()?;
    let Topology {
        producers,
        consumers,
    } = load.topology;
    let pinned = producers == 1 && consumers == 1 && stage::cores() > 1;
    let core = |core| pinned.then_some(core);

    let (mut putting, mut taking) = (Vec::new(), Vec::new());
    for index in 0..consumers {
        let work = || {
            channel.keep_taking();
            consume(load, &mut channel, &stand, producers + index)
        };
        taking.push(stage::worker(core(1), work)?);
    }
    for index in 0..producers {
        let work = || {
            channel.keep_putting();
            produce(load, &mut channel, &stand, index)
        };
        putting.push(stage::worker(core(0), work)?);
    }

    let counts = |from: usize, count: usize| -> Vec<u64> {
        let tallies = (from..from + count).map(|worker| stand.tally(worker));
        tallies
            .map(|tally| tally.messages.load(Ordering::Acquire))
            .collect()
    };
    stand.go(producers + consumers);
    // The first moments are for page faults and for everybody to get going.
    std::thread::sleep(window / 10);
    let (start, before) = (Instant::now(), counts(0, producers + consumers));
    std::thread::sleep(window);
    let (after, elapsed) = (counts(0, producers + consumers), start.elapsed());
    stand.stop();

    stage::join(putting)?;
    channel.finish(consumers)?;
    stage::join(taking)?;

    let total = |from: usize, count: usize| {
        let tallies = (from..from + count).map(|worker| stand.tally(worker));
        tallies.fold((0u64, 0u64), |(messages, sum), tally| {
            let tallied = tally.messages.load(Ordering::Acquire);
            (
                messages + tallied,
                sum.wrapping_add(tally.sum.load(Ordering::Acquire)),
            )
        })
    };
    let (put, taken) = (total(0, producers), total(producers, consumers));
    if put != taken {
        return Err(format!("put (messages, sum) {put:?}, but took {taken:?}").into());
    }
    let done: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    let (put, taken) = done.split_at(producers);
    let rate = taken.iter().sum::<u64>() as f64 / elapsed.as_secs_f64();
    Ok((rate, [put.to_vec(), taken.to_vec()]))
}

fn produce(
    load: &Load,
    channel: &mut Channel,
    stage: &Stage,
    worker: usize,
) -> Result<(), Failure> {
    let mut messages = vec![vec![0u8; load.size]; load.batch];
    let (mut count, mut sum) = (0u64, 0u64);
    let mut seed = (worker as u64) << 48;
    stage.wait_for_go();
    while !stage.is_stopped() {
        for message in &mut messages {
            sum = sum.wrapping_add(write(message, seed, load.whole));
            seed += 1;
        }
        if let [message] = &messages[..] {
            channel.put(message)?;
        } else {
            let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
            batch
                .iter_mut()
                .zip(&messages)
                .for_each(|(place, message)| *place = message);
            channel.put_many(&batch)?;
        }
        count += load.batch as u64;
        stage.tally(worker).messages.store(count, Ordering::Release);
    }
    stage.tally(worker).sum.store(sum, Ordering::Release);
    Ok(())
}

fn consume(
    load: &Load,
    channel: &mut Channel,
    stage: &Stage,
    worker: usize,
) -> Result<(), Failure> {
    let mut buf = vec![0u8; load.size * load.batch];
    let mut lens = vec![0; load.batch];
    let (mut count, mut sum) = (0u64, 0u64);
    stage.wait_for_go();
    loop {
        match &mut *channel {
            Channel::Shoal(queue) if load.batch > 1 => {
                match queue.get_many_into(&mut buf, &mut lens, shoal::Timeout::Infinite) {
                    Ok(taken) => {
                        for message in buf[..taken * load.size].chunks_exact(load.size) {
                            sum = sum.wrapping_add(read(message, load.whole));
                        }
                        count += taken as u64;
                    }
                    Err(shoal::Error::Closed) => break,
                    Err(err) => return Err(err.into()),
                }
            }
            channel => {
                if !channel.get(&mut buf)? {
                    break;
                }
                sum = sum.wrapping_add(read(&buf, load.whole));
                count += 1;
            }
        }
        stage.tally(worker).messages.store(count, Ordering::Release);
    }
    stage.tally(worker).sum.store(sum, Ordering::Release);
    Ok(())
}

/// How long a message takes there and back, each trip timed by itself.
pub(super) fn round_trip(
    transport: Transport,
    size: usize,
    window: Duration,
) -> Result<Result<RoundTrip, Skipped>, Failure> {
    let topology = Topology {
        producers: 1,
        consumers: 1,
    };
    let stand = Stand::new()?;
    let channel = || Channel::new(transport, size, topology);
    let (mut there, mut back) = match (channel()?, channel()?) {
        (Ok(there), Ok(back)) => (there, back),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
    };
    let core = |core| (stage::cores() > 1).then_some(core);

    let echo = stage::worker(core(1), || {
        there.keep_taking();
        back.keep_putting();
        let mut buf = vec![0u8; size];
        stand.wait_for_go();
        while there.get(&mut buf)? {
            back.put(&buf)?;
        }
        Ok(())
    })?;
    let caller = stage::worker(core(0), || {
        there.keep_putting();
        back.keep_taking();
        let (mut buf, mut taken, mut seed) = (vec![0u8; size], 0usize, 0u64);
        stand.wait_for_go();
        while !stand.is_stopped() && taken < SAMPLES {
            let sum = write(&mut buf, seed, true);
            let start = Instant::now();
            there.put(&buf)?;
            if !back.get(&mut buf)? || read(&buf, true) != sum {
                return Err("a message came back changed".into());
            }
            let nanoseconds = start.elapsed().as_nanos();
            stand.samples[taken].store(nanoseconds.min(u32::MAX.into()) as u32, Ordering::Relaxed);
            (taken, seed) = (taken + 1, seed + 1);
        }
        stand.taken.store(taken as u64, Ordering::Release);
        Ok(())
    })?;
    stand.go(2);
    std::thread::sleep(window * 2);
    stand.stop();
    stage::join(vec![caller])?;
    there.finish(1)?;
    stage::join(vec![echo])?;

    let taken = stand.taken.load(Ordering::Acquire) as usize;
    let samples = stand.samples[..taken]
        .iter()
        .map(|it| it.load(Ordering::Relaxed))
        .collect();
    let (median, p99) = percentiles(samples);
    Ok(Ok(RoundTrip {
        transport,
        size,
        median_ns: median,
        p99_ns: p99,
    }))
}

/// Median and 99th percentile. The first tenth, while caches and pages warm up, is left out.
pub(super) fn percentiles(mut samples: Vec<u32>) -> (f64, f64) {
    samples.drain(..samples.len() / 10);
    samples.sort_unstable();
    let at = |percent: usize| {
        samples
            .get(samples.len() * percent / 100)
            .copied()
            .unwrap_or(0)
    };
    (at(50).into(), at(99).into())
}
