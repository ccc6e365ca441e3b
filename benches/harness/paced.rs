//! Messages one way at a fixed rate: how long after it was due each of them arrived, and how much of
//! the cores it takes.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{self, Channel};
use super::failure::Failure;
use super::link::Link;
use super::load::{Topology, Transport};
use super::payload::{Touch, read, write};
use super::stage::Stage;
use super::times::Stopwatch;
use super::waited::Window;
use super::workers::{self, Workers};

/// How the sender keeps to its times.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Pace {
    /// So many a second. It sleeps until each is due.
    Asleep(f64),
    /// So many a second. It sleeps only if there is much time left.
    Awake(f64),
    /// As fast as it goes.
    Full,
}

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    link: Link,
    size: usize,
    /// A receiver has none.
    pace: Option<Pace>,
}

/// Waking up takes the kernel less than this, mostly.
const SHORT: u64 = 100_000;

const RECEIVER: usize = 1;

pub(super) fn window(
    transport: Transport,
    size: usize,
    pace: Pace,
    ring: Option<u64>,
    length: Duration,
) -> Result<Window, Failure> {
    let ring = channel::ring(size, ring);
    let mut channel = Channel::new(transport, size, Topology::PAIR, ring)??;
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for (link, pace) in [(channel.putting()?, Some(pace)), (channel.taking()?, None)] {
        let fds = link.fds();
        processes.add(None, fds, &Part { link, size, pace })?;
    }
    channel.started();
    processes.start(length / 10)?;
    let measured = processes.measure(length)?;
    processes.join(0, RECEIVER)?;
    stage.end();
    channel.finish(1)?;
    processes.join_all()?;
    let received = &measured.counts[RECEIVER..];
    Ok(Window::counted(&measured, received).with_times(&stage))
}

impl workers::Part for Part {
    const NAME: &str = "paced";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        match self.pace {
            Some(pace) => self.send(stage, pace),
            None => self.receive(stage),
        }
    }
}

impl Part {
    fn send(&self, stage: &Stage, pace: Pace) -> Result<(), Failure> {
        let mut wire = self.link.open()?;
        let mut buf = vec![1u8; self.size];
        // SAFETY: a system call: sleeps end when they are to, and not some time after.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        stage.wait_for_start();
        let began = now();
        for number in 0u64.. {
            let at = |rate: f64| began + (number as f64 / rate * 1e9) as u64;
            // Those that are late go all at once, and count from when they were due.
            let due = match pace {
                Pace::Asleep(rate) => wait_until(at(rate), 0, stage),
                Pace::Awake(rate) => wait_until(at(rate), SHORT, stage),
                Pace::Full => now(),
            };
            if stage.is_stopped() {
                break;
            }
            // The first word says when it was due.
            write(&mut buf, due, Touch::All);
            wire.put(&buf)?;
        }
        Ok(())
    }

    fn receive(&self, stage: &Stage) -> Result<(), Failure> {
        let mut wire = self.link.open()?;
        let (mut buf, mut expected) = (vec![1u8; self.size], vec![1u8; self.size]);
        let tally = stage.tally(RECEIVER);
        let mut stopwatch = Stopwatch::new()?;
        let mut count = 0;
        stage.wait_for_start();
        while wire.get(&mut buf)? {
            let (sum, now) = (read(&buf, Touch::All), now());
            let due = u64::from_ne_bytes(*buf.first_chunk().ok_or("it has no first word")?);
            if sum != write(&mut expected, due, Touch::All) {
                return Err("a message arrived changed".into());
            }
            count += 1;
            tally.messages.store(count, Ordering::Release);
            // What the window's end found under way counts too: it may be the latest.
            if stage.has_begun() {
                stopwatch.record(Duration::from_nanos(now.saturating_sub(due)))?;
                stage.has_result();
            }
        }
        stopwatch.share(stage);
        Ok(())
    }
}

/// Of a clock that all processes see alike, in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the time, of a clock that every kernel has.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until then, unless it is nearer than `short`; then it looks at the clock. Returns `due`.
fn wait_until(due: u64, short: u64, stage: &Stage) -> u64 {
    loop {
        let left = due.saturating_sub(now());
        if left == 0 || stage.is_stopped() {
            return due;
        }
        if left < short {
            spin_loop();
            continue;
        }
        let time = libc::timespec {
            tv_sec: (due / 1_000_000_000) as libc::time_t,
            tv_nsec: (due % 1_000_000_000) as libc::c_long,
        };
        let (clock, absolute) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
        // SAFETY: a valid time.
        unsafe { libc::clock_nanosleep(clock, absolute, &time, std::ptr::null_mut()) };
    }
}
