//! Round trips of messages, each timed singly.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::channel::{self, Channel};
use super::failure::Failure;
use super::link::Link;
use super::load::{Topology, Transport};
use super::options::Options;
use super::payload::{Touch, read, write};
use super::report::{Gap, RoundTrip, Skipped};
use super::spread::Spread;
use super::stage::Stage;
use super::times::{Stopwatch, Times};
use super::waited::Window;
use super::workers::{self, Workers};
use super::{baseline, cores};

/// The job of one worker: the caller's message goes out through `there` and returns through `back`.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    caller: bool,
    there: Link,
    back: Link,
    size: usize,
}

/// The index of the worker that is the caller.
const CALLER: usize = 0;

/// Round trips in one window with processes of its own.
pub(super) fn window(
    transport: Transport,
    size: usize,
    options: &Options,
) -> Result<Result<Times, Skipped>, Failure> {
    let gap = |outcome, why| Skipped {
        what: "round trip".into(),
        outcome,
        transport,
        size: Some(size),
        topology: Topology::PAIR.to_string(),
        why,
    };
    let ring = channel::ring(size, options.ring);
    let pair = match Channel::pair(transport, size, ring)? {
        Ok(pair) => pair,
        Err(why) => return Ok(Err(gap(Gap::Skipped, why))),
    };
    // The cache line is measured directly before the round trips: cores of a virtual machine are close to each
    // other at one moment and far apart at the next, which halves or doubles both.
    let clock_ns = baseline::clock();
    let line = baseline::cache_line(options.window / 4, clock_ns)?;
    let theirs = pair[0].program().is_some();
    match once(pair, size, options.window, cores::pair()) {
        Ok((times, _)) => Ok(Ok(Times {
            lines: (times.median_ns - clock_ns).max(1.0) / line,
            ..times
        })),
        // A failure of another project's workers does not end the measurement.
        Err(why) if theirs => Ok(Err(gap(Gap::of(&why), why.to_string()))),
        Err(why) => Err(why),
    }
}

/// The round trips of these windows.
pub(super) fn trip(transport: Transport, size: usize, windows: &[Times]) -> RoundTrip {
    let spread = |value: fn(&Times) -> f64| Spread::of(windows.iter().map(value).collect());
    RoundTrip {
        transport,
        size,
        pinned: cores::pair().is_some(),
        trips: windows.iter().map(|times| times.count).sum(),
        median_ns: spread(|times| times.median_ns),
        p99_ns: spread(|times| times.p99_ns),
        cache_lines: spread(|times| times.lines),
    }
}

/// Round trips through two channels that both ends can use, each end on a core of its own if the
/// machine has enough.
pub(super) fn once(
    [mut there, mut back]: [Channel; 2],
    size: usize,
    length: Duration,
    pins: Option<[usize; 2]>,
) -> Result<(Times, Window), Failure> {
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for caller in [true, false] {
        let core = pins.map(|cores| cores[usize::from(!caller)]);
        if let (Some(there), Some(back)) = (there.program(), back.program()) {
            let role = if caller { "call" } else { "echo" };
            processes.add_program(core, &there.trips(role, &stage, back, size))?;
            continue;
        }
        let part = Part {
            caller,
            there: if caller {
                there.putting()?
            } else {
                there.taking()?
            },
            back: if caller {
                back.taking()?
            } else {
                back.putting()?
            },
            size,
        };
        let fds = [part.there.fds(), part.back.fds()].concat();
        processes.add(core, fds, &part)?;
    }
    there.started();
    back.started();
    processes.start(length / 10)?;
    let measured = processes.measure(length)?;
    // The caller ends after its last trip, and the echo at the end of the channel.
    processes.join(0, 1)?;
    stage.end();
    there.finish(1)?;
    back.finish(1)?;
    processes.join_all()?;
    let trips = &measured.counts[CALLER..=CALLER];
    let window = Window::counted(&measured, trips).with_times(&stage);
    Ok((Times::reported(&stage), window))
}

impl workers::Part for Part {
    const NAME: &str = "latency";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let [mut there, mut back] = Link::open_both(&self.there, &self.back)?;
        let mut buf = vec![1u8; self.size];
        if !self.caller {
            let mut sum = 0u64;
            stage.wait_for_start();
            while there.get(&mut buf)? {
                sum = sum.wrapping_add(read(&buf, Touch::All));
                back.put(&buf)?;
            }
            std::hint::black_box(sum);
            return Ok(());
        }
        let (mut stopwatch, mut seed) = (Stopwatch::new()?, 0u64);
        stage.wait_for_start();
        while !stage.is_stopped() {
            let start = Instant::now();
            let sum = write(&mut buf, seed, Touch::All);
            there.put(&buf)?;
            let same = back.get(&mut buf)? && read(&buf, Touch::All) == sum;
            let took = start.elapsed();
            if !same {
                return Err("a message came back changed".into());
            }
            seed += 1;
            stage.tally(CALLER).messages.store(seed, Ordering::Release);
            // A trip that was not over at the end of the window counts too: it may be the longest.
            if stage.has_begun() {
                stopwatch.record(took)?;
                stage.announce_result();
            }
        }
        stopwatch.report(stage);
        stopwatch.share(stage);
        Ok(())
    }
}
