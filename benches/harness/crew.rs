//! The worker processes: this same program, executed afresh with a job in its environment.

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stage::Stage;
use super::{Failure, cores, floor, map, traffic, trips};

/// Where a worker finds its job. Not for people to set.
const JOB: &str = "SHOAL_BENCH_WORKER";

/// What a worker is to do.
#[derive(Serialize, Deserialize)]
pub(super) enum Role {
    Traffic(traffic::Part),
    Trip(trips::Part),
    Floor(floor::Part),
    Map(map::Part),
}

#[derive(Serialize, Deserialize)]
struct Job {
    stage: RawFd,
    core: Option<usize>,
    role: Role,
}

/// If this process is a worker: does its job and ends. Returns in every other process.
pub(crate) fn worker() {
    let Some(job) = std::env::var_os(JOB) else {
        return;
    };
    let code = match work(&job.to_string_lossy()) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("a benchmark's worker failed: {why}");
            1
        }
    };
    std::process::exit(code);
}

fn work(job: &str) -> Result<(), Failure> {
    let job: Job = serde_json::from_str(job)?;
    let stage = Stage::inherited(job.stage)?;
    if let Some(core) = job.core {
        cores::pin(core)?;
    }
    match job.role {
        Role::Traffic(part) => part.work(&stage),
        Role::Trip(part) => part.work(&stage),
        Role::Floor(part) => part.work(&stage),
        Role::Map(part) => part.work(&stage),
    }
}

/// The workers of one measurement. Dropping it ends those that still run.
pub(super) struct Crew<'a> {
    stage: &'a Stage,
    workers: Vec<Child>,
}

impl<'a> Crew<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        let workers = Vec::new();
        Self { stage, workers }
    }

    /// Starts one more worker, on `core` if one is given, with the descriptors `fds`.
    pub(super) fn hire(
        &mut self,
        core: Option<usize>,
        mut fds: Vec<RawFd>,
        role: Role,
    ) -> Result<(), Failure> {
        let stage = self.stage.fd();
        let job = serde_json::to_string(&Job { stage, core, role })?;
        fds.push(stage);
        let parent = std::process::id();
        let mut command = Command::new("/proc/self/exe");
        command.env(JOB, job).stdin(Stdio::null());
        // SAFETY: system calls only, none of which allocates or takes a lock.
        unsafe {
            command.pre_exec(move || {
                for &fd in &fds {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                }
                // Nothing outlives us: an interrupted benchmark leaves no workers behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() as u32 != parent {
                    return Err(std::io::ErrorKind::Interrupted.into());
                }
                Ok(())
            })
        };
        self.workers.push(command.spawn()?);
        Ok(())
    }

    /// Lets the workers go once all of them are ready; returns after `warm` more.
    pub(super) fn start(&mut self, warm: Duration) -> Result<(), Failure> {
        while self.stage.ready() < self.workers.len() {
            self.check()?;
            std::thread::sleep(Duration::from_micros(200));
        }
        self.stage.start();
        std::thread::sleep(warm);
        Ok(())
    }

    /// Lets the one that times itself go on for `length`, and then until it has a result: other
    /// programs may keep it from its core for longer than a short window.
    pub(super) fn measure(&mut self, length: Duration) -> Result<(), Failure> {
        self.stage.measure();
        std::thread::sleep(length);
        while !self.stage.is_result() {
            self.check()?;
            std::thread::sleep(Duration::from_micros(200));
        }
        self.stage.stop();
        Ok(())
    }

    /// Waits for workers `from..to` to end. Fails as soon as any worker has.
    pub(super) fn join(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        while self.check()?[from..to].contains(&false) {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Waits for everybody.
    pub(super) fn join_all(&mut self) -> Result<(), Failure> {
        self.join(0, self.workers.len())
    }

    /// Which workers have ended.
    fn check(&mut self) -> Result<Vec<bool>, Failure> {
        let ended = |worker: &mut Child| match worker.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(format!("a worker ended with {status}").into()),
        };
        self.workers.iter_mut().map(ended).collect()
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // Fails for one that has ended, as nearly all have.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}
