//! The cost of waiting: many idle queues, and readers asleep on some.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shoal::{Error, Queue, Timeout};

use super::cputime::used;
use super::failure::Failure;
use super::report::Idle;
use super::stage::Stage;
use super::workers::{self, Workers};

const QUEUES: usize = 1000;
const READERS: usize = 100;

/// Sleeps grow to 100 ms. After this time all sleeps have that length.
const SETTLE: Duration = Duration::from_millis(600);

/// One worker, which sleeps on a queue until the queue is closed.
#[derive(Serialize, Deserialize)]
pub(super) struct Part {
    queue: String,
}

impl workers::Part for Part {
    const NAME: &str = "idle";

    fn work(self, stage: &Stage) -> Result<(), Failure> {
        let queue = Queue::open(&self.queue)?;
        stage.wait_for_start();
        match queue.get_vec(Timeout::Infinite) {
            Err(Error::Closed) => Ok(()),
            other => Err(format!("a reader of an empty queue got {other:?}").into()),
        }
    }
}

pub(super) fn measure(length: Duration) -> Result<Idle, Failure> {
    let queues = (0..most_queues()).map(|_| Queue::anonymous());
    let queues: Vec<Queue> = queues.collect::<Result<_, _>>()?;
    let stage = Stage::new()?;
    let mut processes = Workers::new(&stage);
    for queue in queues.iter().take(READERS) {
        let queue = queue.name().to_owned();
        processes.add(None, Vec::new(), &Part { queue })?;
    }
    processes.start(SETTLE)?;
    let pids = [&processes.pids()[..], &[std::process::id()]].concat();
    let (start, before) = (Instant::now(), used(&pids)?);
    std::thread::sleep(length.max(Duration::from_millis(500)));
    let (took, after) = (start.elapsed(), used(&pids)?);
    queues.iter().try_for_each(Queue::close)?;
    processes.join_all()?;
    Ok(Idle {
        queues: queues.len(),
        readers: READERS.min(queues.len()),
        cpu_ms_per_second: (after - before).as_secs_f64() * 1e3 / took.as_secs_f64(),
    })
}

/// As many as the limit of descriptors allows: two for each queue, and some for everything else.
fn most_queues() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing, and its values are allowed.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    QUEUES.min((limit.rlim_cur as usize).saturating_sub(50) / 2)
}
