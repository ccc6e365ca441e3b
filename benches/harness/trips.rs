//! Messages there and back: how long one takes, each timed by itself.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::channel::{self, Channel, Transport};
use super::crew::{Crew, Role};
use super::payload::{Touch, read, write};
use super::report::{Gap, RoundTrip, Skipped, Spread};
use super::stage::Stage;
use super::wire::Link;
use super::{Failure, Options, Topology, cores, floor};

/// What one worker does: the caller's message goes out `there` and comes `back`.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    caller: bool,
    there: Link,
    back: Link,
    size: usize,
}

/// Round trips in one window with processes of its own.
pub(super) fn window(
    transport: Transport,
    size: usize,
    options: &Options,
) -> Result<Result<Times, Skipped>, Failure> {
    let gap = |outcome, why| Skipped {
        what: "round trip",
        outcome,
        transport,
        size: Some(size),
        topology: Topology::PAIR.to_string(),
        why,
    };
    let ring = channel::ring(size, options.ring);
    let channel = || Channel::new(transport, size, Topology::PAIR, ring);
    let pair = match (channel()?, channel()?) {
        (Ok(there), Ok(back)) => [there, back],
        (Err(why), _) | (_, Err(why)) => return Ok(Err(gap(Gap::Skipped, why))),
    };
    // Beside each other in time as well: cores of a virtual machine are close to each other
    // at one moment and far apart at the next, which halves or doubles both.
    let clock_ns = floor::clock();
    let line = floor::cache_line(options.window / 4, clock_ns)?;
    let theirs = pair[0].program().is_some();
    match once(pair, size, options.window) {
        Ok(times) => Ok(Ok(Times {
            lines: (times.median_ns - clock_ns).max(1.0) / line,
            ..times
        })),
        // What another project's workers cannot do is no reason to measure nothing else.
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

fn once(
    [mut there, mut back]: [Channel; 2],
    size: usize,
    length: Duration,
) -> Result<Times, Failure> {
    let stage = Stage::new()?;
    let mut crew = Crew::new(&stage);
    for caller in [true, false] {
        let core = cores::pair().map(|cores| cores[usize::from(!caller)]);
        if let (Some(there), Some(back)) = (there.program(), back.program()) {
            let role = if caller { "call" } else { "echo" };
            crew.hire_program(core, &there.trips(role, &stage, back, size))?;
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
        crew.hire(core, fds, Role::Trip(part))?;
    }
    there.started();
    back.started();
    crew.start(length / 10)?;
    crew.measure(length)?;
    // The caller ends after its last trip, and the echo at the end of the channel.
    crew.join(0, 1)?;
    stage.end();
    there.finish(1)?;
    crew.join_all()?;
    Ok(Times::told(&stage))
}

impl Part {
    pub(super) fn work(&self, stage: &Stage) -> Result<(), Failure> {
        let (mut there, mut back) = (self.there.open()?, self.back.open()?);
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
            if stage.is_measuring() {
                stopwatch.record(took)?;
                stage.has_result();
            }
            seed += 1;
        }
        stopwatch.tell(stage);
        Ok(())
    }
}

/// Times of single trips, in nanoseconds. Three digits are more than they are good for.
pub(super) struct Stopwatch(Histogram<u64>);

impl Stopwatch {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(Histogram::new_with_bounds(1, 60_000_000_000, 3)?))
    }

    #[inline]
    pub(super) fn record(&mut self, took: Duration) -> Result<(), Failure> {
        Ok(self.0.record((took.as_nanos() as u64).max(1))?)
    }

    /// Leaves the result for the parent.
    pub(super) fn tell(&self, stage: &Stage) {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64;
        stage.tell(&[at(0.5), at(0.99), self.0.len() as f64]);
    }
}

/// What a worker's stopwatch said.
pub(super) struct Times {
    pub(super) median_ns: f64,
    pub(super) p99_ns: f64,
    pub(super) count: u64,
    /// The median without the clock, in round trips of a cache line just before.
    lines: f64,
}

impl Times {
    pub(super) fn told(stage: &Stage) -> Self {
        Self {
            median_ns: stage.told(0),
            p99_ns: stage.told(1),
            count: stage.told(2) as u64,
            lines: 0.0,
        }
    }
}
