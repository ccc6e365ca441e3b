//! Messages one way at a fixed rate: how long after it was due each of them arrived, and how much of
//! the cores it takes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::channel::{self, Channel};
use super::failure::Failure;
use super::link::Link;
use super::load::{Topology, Transport};
use super::pace::{Pace, now, sleep_exactly};
use super::payload::{Touch, read, write};
use super::report::{Gap, Skipped};
use super::stage::Stage;
use super::times::Stopwatch;
use super::waited::Window;
use super::workers::{self, Workers};

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    link: Link,
    size: usize,
    /// None for a receiver.
    pace: Option<Pace>,
}

const RECEIVER: usize = 1;

/// One window of a transport that every machine has.
pub(super) fn window(
    transport: Transport,
    size: usize,
    pace: Pace,
    ring: Option<u64>,
    length: Duration,
) -> Result<Window, Failure> {
    let ring = channel::ring(size, ring);
    let channel = Channel::new(transport, size, Topology::PAIR, ring)??;
    once(channel, size, pace, length)
}

/// The same of a transport that the machine may lack, or that may fail.
pub(super) fn attempt(
    transport: Transport,
    size: usize,
    pace: Pace,
    ring: u64,
    length: Duration,
) -> Result<Result<Window, Skipped>, Failure> {
    let gap = |outcome, why| Skipped {
        what: "latency at fixed rates".into(),
        outcome,
        transport,
        size: Some(size),
        topology: Topology::PAIR.to_string(),
        why,
    };
    let channel = match Channel::new(transport, size, Topology::PAIR, ring)? {
        Ok(channel) => channel,
        Err(why) => return Ok(Err(gap(Gap::Skipped, why))),
    };
    let theirs = channel.program().is_some();
    match once(channel, size, pace, length) {
        Ok(window) => Ok(Ok(window)),
        // A failure of another project's workers does not end the measurement.
        Err(why) if theirs => Ok(Err(gap(Gap::of(&why), why.to_string()))),
        Err(why) => Err(why),
    }
}

fn once(
    mut channel: Channel,
    size: usize,
    pace: Pace,
    length: Duration,
) -> Result<Window, Failure> {
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    if let Some(program) = channel.program() {
        for (worker, role) in ["pace", "due"].into_iter().enumerate() {
            processes.add_program(None, &program.paced(role, &stage, worker, size, pace))?;
        }
    } else {
        for (link, pace) in [(channel.putting()?, Some(pace)), (channel.taking()?, None)] {
            let fds = link.fds();
            processes.add(None, fds, &Part { link, size, pace })?;
        }
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
        sleep_exactly();
        stage.wait_for_start();
        let began = now();
        for number in 0u64.. {
            let due = pace.wait(began, number, stage);
            if stage.is_stopped() {
                break;
            }
            // The first word is the time at which the message was due.
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
            // A message that had not arrived at the end of the window counts too: it may be the latest.
            if stage.has_begun() {
                stopwatch.record(Duration::from_nanos(now.saturating_sub(due)))?;
                stage.announce_result();
            }
        }
        stopwatch.share(stage);
        Ok(())
    }
}
