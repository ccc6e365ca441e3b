//! Equal processes with one critical section: how often each enters, and how long each has to wait.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cputime::own_thread;
use super::failure::Failure;
use super::guards::{Entry, GuardKind, make};
use super::stage::{Stage, WORKERS};
use super::times::Stopwatch;
use super::waited::Window;
use super::workers::{self, Workers};

/// What one worker does.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    guard: Entry,
    worker: usize,
    /// How long it computes inside.
    inside: Duration,
    /// Whether it times how long it waits.
    timed: bool,
}

/// The process inside counts here without an atomic addition: two inside at a time would lose counts.
const ACCOUNT: usize = WORKERS - 1;

/// This many processes, which enter again as soon as they have left, in one window.
pub(super) fn window(
    kind: GuardKind,
    workers: usize,
    inside: Duration,
    timed: bool,
    length: Duration,
) -> Result<Window, Failure> {
    let (guard, _kept) = make(kind)?;
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for worker in 0..workers {
        let part = Part {
            guard: guard.clone(),
            worker,
            inside,
            timed,
        };
        processes.add(None, guard.fd.into_iter().collect(), &part)?;
    }
    processes.start(length / 10)?;
    let measured = processes.measure(length)?;
    processes.join_all()?;
    let messages = |worker| stage.tally(worker).messages.load(Ordering::Acquire);
    let (all, account) = ((0..workers).map(messages).sum::<u64>(), messages(ACCOUNT));
    if all != account {
        return Err(
            format!("{kind}: entered {all} times, but counted {account} entries inside").into(),
        );
    }
    let window = Window::counted(&measured, &measured.counts);
    Ok(if timed {
        window.with_times(&stage)
    } else {
        window
    })
}

impl workers::Part for Part {
    const NAME: &str = "hand-over";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let guard = self.guard.open()?;
        let mut stopwatch = Stopwatch::new()?;
        let (tally, account) = (stage.tally(self.worker), stage.tally(ACCOUNT));
        let (mut count, mut has_reported) = (0, false);
        stage.wait_for_start();
        while !stage.is_stopped() {
            let start = self.timed.then(Instant::now);
            let (mut waited, mut computed) = (Duration::ZERO, Ok(()));
            guard.hold(&mut || {
                waited = start.map_or(waited, |start| start.elapsed());
                let so_far = account.messages.load(Ordering::Relaxed);
                account.messages.store(so_far + 1, Ordering::Relaxed);
                computed = compute(self.inside);
            })?;
            computed?;
            count += 1;
            tally.messages.store(count, Ordering::Release);
            // A wait that was not over at the end of the window counts too: it may be the longest.
            if stage.has_begun() {
                if self.timed {
                    stopwatch.record(waited)?;
                }
                if !has_reported {
                    stage.announce_result();
                    has_reported = true;
                }
            }
        }
        stopwatch.share(stage);
        Ok(())
    }
}

/// Uses this much processor time, however long it takes to get it.
fn compute(time: Duration) -> std::io::Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    let start = own_thread()?;
    while own_thread()? - start < time {
        spin_loop();
    }
    Ok(())
}
