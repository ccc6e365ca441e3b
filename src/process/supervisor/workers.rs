//! The description of workers, and their start.

use std::collections::BTreeMap;
use std::env;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Job, Worker};
use super::handle::Supervisor;
use super::output;
use super::restart::{Policy, Restart};
use crate::device::Mask;
use crate::device::lease::{Lease, Mode};
use crate::error::{Error, Result};
use crate::process::spawn::{Spawn, Stdio};
use crate::sys::fd::{Kept, duplicate};

/// How many workers one supervisor has at most.
pub const MOST_WORKERS: usize = 4096;

/// The defaults of [`Workers::backoff`], [`Workers::healthy_after`] and [`Workers::grace`].
pub(crate) const FIRST_DELAY: Duration = Duration::from_millis(100);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(10);
pub(crate) const HEALTHY: Duration = Duration::from_secs(10);
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// How a worker's standard output and error are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub enum Output {
    /// They go where the worker's [`Spawn`] says, line by line, each with the worker's index before it: `[3]
    /// loaded`. Lines of different workers never mix. Bytes are not changed. An incomplete line is held back;
    /// a line of more than 64 KiB is split.
    #[default]
    Labelled = 0,
    /// They go where the worker's [`Spawn`] says, as they are.
    Plain = 1,
}

/// Describes workers to supervise: what they run, and what happens when one ends.
///
/// Nothing happens before [`start`](Self::start). The defaults: the workers share the devices of this
/// process, none is restarted, the first failure stops the others, and each line of their output is labelled.
///
/// Each worker has the environment variables `SHOAL_WORKER` (its index, from 0), `SHOAL_WORKERS` (how
/// many there are) and `SHOAL_WORKER_RESTARTS` (how often it was started again). It leads a process
/// group. It reads from `/dev/null`, unless its [`Spawn`] gives it a descriptor.
///
/// ```
/// use shoal::{Restart, Spawn, Timeout, Workers};
///
/// let mut program = Spawn::new("sh");
/// program.args(["-c", "echo worker $SHOAL_WORKER of $SHOAL_WORKERS sees $CUDA_VISIBLE_DEVICES"]);
/// let mut workers = Workers::new(&program, 2);
/// workers.devices("cuda", "0-3").restart(Restart::OnFailure);
/// let outcome = workers.start()?.wait(Timeout::Infinite)?;
/// assert!(outcome.success());
/// // [0] worker 0 of 2 sees 0,1
/// // [1] worker 1 of 2 sees 2,3
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Workers {
    /// At most as many as the limit if `new` has made them: `start` refuses a larger `count`.
    spawns: Vec<Spawn>,
    count: usize,
    devices: Vec<(String, String)>,
    leases: Vec<(Lease, Mode)>,
    policy: Policy,
    keep_going: bool,
    output: Output,
    grace: Duration,
}

impl Workers {
    /// Describes `count` workers that all run the same program.
    pub fn new(program: &Spawn, count: usize) -> Workers {
        Workers {
            count,
            ..Workers::of(vec![program.clone(); count.min(MOST_WORKERS)])
        }
    }

    /// Describes workers that each run a program of their own.
    pub fn of(programs: Vec<Spawn>) -> Workers {
        Workers {
            count: programs.len(),
            spawns: programs,
            devices: Vec::new(),
            leases: Vec::new(),
            policy: Policy {
                restart: Restart::Never,
                limit: 10,
                first_delay: FIRST_DELAY,
                longest_delay: LONGEST_DELAY,
                healthy: HEALTHY,
            },
            keep_going: false,
            output: Output::Labelled,
            grace: GRACE,
        }
    }

    /// Spreads devices over the workers. Indices count within what this process sees.
    ///
    /// If there are as many devices as workers or more, each worker gets its own part of the list, of equal
    /// sizes as far as that is possible. Otherwise they are assigned in turn: with devices `0,1`, worker 0
    /// and worker 2 share device 0. `"none"` hides all of them from each worker. Once per family.
    pub fn devices(&mut self, family: impl Into<String>, mask: impl Into<String>) -> &mut Self {
        self.devices.push((family.into(), mask.into()));
        self
    }

    /// Gives the workers a lease of devices, as [`Spawn::lease`] does: with as many workers as devices, each
    /// worker has one; fewer workers have several each, and more share them in turn.
    ///
    /// Each worker has the lease until it ends, even if this process ends earlier.
    pub fn lease(&mut self, lease: &Lease, mode: Mode) -> &mut Self {
        self.leases.push((lease.clone(), mode));
        self
    }

    /// Sets which workers are restarted. The default is none.
    pub fn restart(&mut self, restart: Restart) -> &mut Self {
        self.policy.restart = restart;
        self
    }

    /// Sets how many times in a row a worker is restarted without a [healthy](Self::healthy_after) run in
    /// between. After one more short run it counts as being in a crash loop and has failed. `u32::MAX` is no
    /// limit. The default is 10.
    pub fn max_restarts(&mut self, limit: u32) -> &mut Self {
        self.policy.limit = limit;
        self
    }

    /// Sets how long to wait before a worker is restarted: `first`, and twice as long after each further
    /// short run, up to `longest`. The default is 100 ms up to 10 s.
    pub fn backoff(&mut self, first: Duration, longest: Duration) -> &mut Self {
        self.policy.first_delay = first.min(longest);
        self.policy.longest_delay = longest;
        self
    }

    /// Sets how long a run must last to be healthy: after such a run, the count and the delays begin again.
    /// The default is 10 s.
    pub fn healthy_after(&mut self, healthy: Duration) -> &mut Self {
        self.policy.healthy = healthy;
        self
    }

    /// Leaves the other workers running when one has failed for good. By default they are stopped.
    pub fn keep_going(&mut self) -> &mut Self {
        self.keep_going = true;
        self
    }

    /// Sets how the workers' output is passed on. The default is [`Output::Labelled`].
    pub fn output(&mut self, output: Output) -> &mut Self {
        self.output = output;
        self
    }

    /// Sets how long workers have to end after `SIGTERM` before they are killed, when another one has failed
    /// or the [`Supervisor`] is dropped. The default is 10 s.
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }

    /// Starts the workers, one after the other, and returns once all of their programs run.
    ///
    /// Workers get the environment, the working directory and the descriptors of this moment, even when they
    /// are restarted later: descriptors are duplicated, and the caller may close its own.
    ///
    /// The workers are children of another process, the *guardian*, which shares this process's memory and
    /// shows its command line. They are killed when this process ends, however it ends, and with them all
    /// processes that they have started. They have the user, the limits and the parent-death signal of this
    /// moment. A `wait` of this process for any child does not see them.
    ///
    /// # Errors
    ///
    /// Those of [`Spawn::spawn`] if a worker cannot be started; the others are killed then. Also
    /// [`Error::Invalid`]: there are no workers, or a stream that would be a pipe of the caller.
    /// [`Error::TooMany`]: more than [`MOST_WORKERS`]. [`Error::Unsupported`]: a sandbox or emulator does
    /// not let a child share this process's memory. [`Error::Os`]: no thread, process or descriptor is
    /// available. [`Error::GuardianKilled`]: the other process was killed meanwhile.
    pub fn start(&self) -> Result<Supervisor> {
        let supervisor = self.begin()?;
        supervisor.wait_started().map(|()| supervisor)
    }

    /// As [`start`](Self::start), without waiting until the programs run: for programs that pass signals on
    /// meanwhile.
    #[doc(hidden)]
    pub fn begin(&self) -> Result<Supervisor> {
        let count = self.count;
        if count == 0 {
            let why = "there must be at least one";
            return Err(Error::invalid("number of workers", why));
        }
        if count > MOST_WORKERS {
            return Err(Error::TooMany {
                what: "number of workers",
                count: count as u64,
                limit: MOST_WORKERS as u64,
            });
        }
        let mut held = Held::default();
        let mut workers = Vec::with_capacity(count);
        for (index, spawn) in self.spawns.iter().enumerate() {
            let mut spawn = spawn.clone();
            for (family, mask) in &self.devices {
                spawn.devices(family, part_of(mask, index, count)?);
            }
            for (lease, mode) in &self.leases {
                spawn.lease(lease, *mode, index, count);
            }
            if let Ok(here) = env::current_dir() {
                let directory = spawn
                    .cwd
                    .as_ref()
                    .map_or(here.clone(), |cwd| here.join(cwd));
                spawn.cwd(directory);
            }
            for (from, _) in &mut spawn.fds {
                *from = held.hold(*from, "descriptor for a child")?;
            }
            let lines_to = self.streams(&mut spawn, &mut held)?;
            workers.push(Worker { spawn, lines_to });
        }
        Supervisor::start(Job {
            workers,
            policy: self.policy,
            keep_going: self.keep_going,
            grace: self.grace,
            env: env::vars_os().collect(),
            held: Arc::new(held.0.into_values().collect()),
        })
    }

    /// Replaces streams to be labelled by pipes, and returns where their lines go.
    fn streams(&self, spawn: &mut Spawn, held: &mut Held) -> Result<[Option<RawFd>; 2]> {
        if spawn.stdio.contains(&Stdio::Pipe) {
            let why = "it is a pipe, which no caller could read or write: use a descriptor";
            return Err(Error::invalid("stream of a worker", why));
        }
        let mut lines_to = [None; 2];
        for (stream, stdio) in spawn.stdio.iter_mut().enumerate() {
            if let Stdio::Fd(fd) = stdio {
                *fd = held.hold(*fd, "stream of a worker")?;
            }
            let to = match (stream, *stdio) {
                (0, Stdio::Inherit) => {
                    *stdio = Stdio::Null;
                    continue;
                }
                (0, _) | (_, Stdio::Null | Stdio::Pipe) => continue,
                (_, Stdio::Inherit) => stream as RawFd,
                (_, Stdio::Fd(fd)) => fd,
            };
            // A stream that this process has closed leads to `/dev/null`, as in every child.
            if self.output == Output::Labelled && output::is_open(to) {
                lines_to[stream - 1] = Some(to);
                *stdio = Stdio::Pipe;
            }
        }
        Ok(lines_to)
    }
}

/// Duplicates of the caller's descriptors, by the caller's numbers.
#[derive(Default)]
struct Held(BTreeMap<RawFd, Kept>);

impl Held {
    fn hold(&mut self, fd: RawFd, what: &'static str) -> Result<RawFd> {
        if let Some(held) = self.0.get(&fd) {
            return Ok(held.number().as_raw_fd());
        }
        let copy = duplicate(fd, 3)?;
        let copy =
            copy.ok_or_else(|| Error::invalid(what, format!("descriptor {fd} is not open")))?;
        let number = copy.as_raw_fd();
        self.0.insert(fd, Kept::new(copy));
        Ok(number)
    }
}

/// The part of a mask that one of `count` workers gets.
fn part_of(mask: &str, index: usize, count: usize) -> Result<String> {
    let mask: Mask = mask.parse()?;
    let Mask::List(devices) = &mask else {
        return Ok(mask.to_string());
    };
    let all = devices.len();
    let part = match all {
        0 => &devices[..],
        _ if all < count => &devices[index % all..][..1],
        _ => &devices[index * all / count..(index + 1) * all / count],
    };
    Ok(Mask::List(part.to_vec()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_spread_evenly_and_in_order() {
        let spread = |mask: &str, count: usize| -> Vec<String> {
            (0..count)
                .map(|index| part_of(mask, index, count).unwrap())
                .collect()
        };
        assert_eq!(spread("0-7", 3), ["0,1", "2,3,4", "5,6,7"]);
        assert_eq!(spread("3,1", 2), ["3", "1"]);
        assert_eq!(spread("GPU-aa,GPU-bb", 3), ["GPU-aa", "GPU-bb", "GPU-aa"]);
        assert_eq!(spread("0-3", 1), ["0,1,2,3"]);
        assert_eq!(
            spread("none", 2),
            [Mask::NONE.to_string(), Mask::NONE.to_string()]
        );
        assert!(part_of("0,0", 0, 1).is_err());
    }
}
