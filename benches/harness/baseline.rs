//! What the machine itself can do, in the same run: nothing that shares memory is faster.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cores;
use super::failure::Failure;
use super::options::Options;
use super::report::{Baseline, Copying};
use super::spread::Spread;
use super::stage::{Stage, futex_wake};
use super::times::{Stopwatch, Times};
use super::workers::{self, Workers};

/// What two processes pass back and forth.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Medium {
    /// A word of memory that both sides poll.
    Line,
    /// A word of memory; the waiting side sleeps.
    Futex,
}

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    medium: Medium,
    caller: bool,
}

pub(super) fn measure(options: &Options) -> Result<Baseline, Failure> {
    let clock_ns = clock();
    let line = measure_rounds(Medium::Line, options)?;
    let futex = measure_rounds(Medium::Futex, options)?;
    let less = |times: Vec<f64>| {
        Spread::of(
            times
                .iter()
                .map(|time| (time - clock_ns).max(1.0))
                .collect(),
        )
    };
    Ok(Baseline {
        clock_ns,
        pinned: cores::pair().is_some(),
        cache_line_median_ns: less(line.medians),
        cache_line_p99_ns: less(line.p99s),
        cache_line_batch_mean_ns: Spread::of(line.means),
        futex_median_ns: less(futex.medians),
        futex_p99_ns: less(futex.p99s),
        memcpy: options
            .sizes
            .iter()
            .map(|&size| Copying {
                size,
                gigabytes: copying(size, options.window),
            })
            .collect(),
    })
}

/// What the clock adds to each operation that is timed singly: the median of timing an empty operation.
pub(super) fn clock() -> f64 {
    let mut times: Vec<_> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2] as f64
}

#[derive(Default)]
struct Rounds {
    medians: Vec<f64>,
    p99s: Vec<f64>,
    means: Vec<f64>,
}

fn measure_rounds(medium: Medium, options: &Options) -> Result<Rounds, Failure> {
    let mut rounds = Rounds::default();
    for _ in 0..options.repeat {
        let (times, mean) = measure_round(medium, options.window)?;
        rounds.medians.push(times.median_ns);
        rounds.p99s.push(times.p99_ns);
        rounds.means.push(mean);
    }
    Ok(rounds)
}

/// The round trip of a cache line at this moment: its median, without the clock.
pub(super) fn cache_line(length: Duration, clock_ns: f64) -> Result<f64, Failure> {
    Ok((measure_round(Medium::Line, length)?.0.median_ns - clock_ns).max(1.0))
}

fn measure_round(medium: Medium, length: Duration) -> Result<(Times, f64), Failure> {
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for caller in [true, false] {
        let core = cores::pair().map(|cores| cores[usize::from(!caller)]);
        processes.add(core, Vec::new(), &Part { medium, caller })?;
    }
    processes.start(length / 10)?;
    processes.measure(length)?;
    processes.join_all()?;
    Ok((Times::reported(&stage), stage.reported(MEAN)))
}

/// The index at which the caller reports the mean, behind the figures of its stopwatch.
const MEAN: usize = 3;
/// How many trips are timed singly, and then how many are timed together.
const TRIPS: usize = 256;

impl workers::Part for Part {
    const NAME: &str = "baseline";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let make_trip = match (self.medium, self.caller) {
            (Medium::Line, true) => line_trip,
            (Medium::Futex, true) => futex_trip,
            (Medium::Line, false) => {
                line_echo(stage);
                return Ok(());
            }
            (Medium::Futex, false) => {
                futex_echo(stage);
                return Ok(());
            }
        };
        let (mut stopwatch, mut means) = (Stopwatch::new()?, Vec::new());
        let mut trip = 0;
        stage.wait_for_start();
        while !stage.is_stopped() {
            for _ in 0..TRIPS {
                trip += 1;
                let start = Instant::now();
                make_trip(stage, trip);
                let took = start.elapsed();
                if stage.is_measuring() {
                    stopwatch.record(took)?;
                    if self.medium == Medium::Futex {
                        stage.announce_result();
                    }
                }
            }
            if self.medium == Medium::Futex {
                continue;
            }
            let start = Instant::now();
            for _ in 0..TRIPS {
                trip += 1;
                make_trip(stage, trip);
            }
            let took = start.elapsed();
            if stage.is_measuring() {
                means.push(took.as_nanos() as f64 / TRIPS as f64);
                stage.announce_result();
            }
        }
        stopwatch.report(stage);
        stage.report_at(MEAN, Spread::of(means).median);
        Ok(())
    }
}

// One cache line for each direction, as two queues have.

fn line_trip(stage: &Stage, trip: u64) {
    let (there, back) = (&stage.tally(0).messages, &stage.tally(1).messages);
    there.store(trip, Ordering::Release);
    while back.load(Ordering::Acquire) != trip && !stage.is_stopped() {
        spin_loop();
    }
}

fn line_echo(stage: &Stage) {
    let (there, back) = (&stage.tally(0).messages, &stage.tally(1).messages);
    let mut seen = 0;
    stage.wait_for_start();
    while !stage.is_stopped() {
        let now = there.load(Ordering::Acquire);
        if now != seen {
            back.store(now, Ordering::Release);
            seen = now;
        }
        spin_loop();
    }
}

// The turn is 1 when the echo has to act, and 0 when the caller has to.

fn futex_trip(stage: &Stage, _: u64) {
    hand_over(stage, 1);
    wait_for(stage, 0);
}

fn futex_echo(stage: &Stage) {
    stage.wait_for_start();
    while !stage.is_stopped() {
        wait_for(stage, 1);
        hand_over(stage, 0);
    }
}

fn hand_over(stage: &Stage, turn: u32) {
    stage.turn().store(turn, Ordering::Release);
    futex_wake(stage.turn(), 1);
}

fn wait_for(stage: &Stage, turn: u32) {
    // Long enough for the process to sleep. The timeout only lets it notice the end.
    let (tv_sec, tv_nsec) = (0, 10_000_000);
    let slice = libc::timespec { tv_sec, tv_nsec };
    let (word, wait) = (stage.turn(), libc::FUTEX_WAIT);
    while word.load(Ordering::Acquire) != turn && !stage.is_stopped() {
        // SAFETY: the word is mapped, and the relative timeout is valid.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                AtomicU32::as_ptr(word),
                wait,
                1 - turn,
                &slice,
            )
        };
    }
}

/// `memcpy` on one core between two blocks that were touched before, in GB/s.
///
/// Both begin at a page, where the C library's `memcpy` is fastest. At some other distances it is much slower on
/// processors whose string instructions are slow there.
fn copying(size: usize, window: Duration) -> f64 {
    let aligned = |block: &[u8]| block.as_ptr().align_offset(4096);
    let (source, mut target) = (vec![1u8; size + 4096], vec![0u8; size + 4096]);
    let (from, to) = (aligned(&source), aligned(&target));
    let (from, to) = (&source[from..from + size], &mut target[to..to + size]);
    let between_clocks = ((1 << 20) / size).clamp(1, 4096);
    // The best of several rounds counts: other programs of the machine only make rounds slower.
    let round = || {
        let (start, mut copied) = (Instant::now(), 0u64);
        loop {
            for _ in 0..between_clocks {
                black_box(&mut *to).copy_from_slice(black_box(from));
            }
            copied += (between_clocks * size) as u64;
            let took = start.elapsed();
            if took >= window / 20 {
                return copied as f64 / took.as_secs_f64() / 1e9;
            }
        }
    };
    std::iter::repeat_with(round).take(7).fold(0.0, f64::max)
}
