//! The worker processes: this same program, executed again with a job in its environment.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, STUCK_AFTER, Stuck};
use super::stage::Stage;
use super::{cores, cputime};

/// The environment variable with the job of a worker. Internal: users do not set it.
pub(super) const JOB: &str = "SHOAL_BENCH_WORKER";

/// What one worker of a measurement does.
pub(super) trait Part: Serialize + DeserializeOwned {
    /// Distinguishes it from the parts of other measurements.
    const NAME: &str;

    fn work(self, stage: &Stage) -> Result<(), Failure>;
}

#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) stage: RawFd,
    pub(super) core: Option<usize>,
    /// The name of its part, and the part.
    pub(super) name: String,
    pub(super) part: serde_json::Value,
}

/// How often the parent polls: rarely enough to leave its core to the workers.
const POLL: Duration = Duration::from_millis(1);

/// What the workers did in one window.
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// Processor time of all of them.
    pub(super) cpu_seconds: f64,
    /// How much each of them counted.
    pub(super) counts: Vec<u64>,
}

/// Makes the process of `command` end with this one, so that an interrupted benchmark leaves nothing behind.
pub(super) fn ends_with_us(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: the closure makes only system calls, none of which allocates or takes a lock.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() as u32 != parent {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            Ok(())
        })
    }
}

/// The workers of one measurement. Dropping it ends those that still run.
pub(super) struct Workers<'a> {
    stage: &'a Stage,
    workers: Vec<Child>,
    /// Some are other projects' programs, which may get stuck.
    watched: bool,
}

impl<'a> Workers<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self {
            stage,
            workers: Vec::new(),
            watched: false,
        }
    }

    /// Starts one more worker, on `core` if one is given, with the descriptors `fds`.
    pub(super) fn add<P: Part>(
        &mut self,
        core: Option<usize>,
        fds: Vec<RawFd>,
        part: &P,
    ) -> Result<(), Failure> {
        let job = serde_json::to_string(&Job {
            stage: self.stage.fd(),
            core,
            name: P::NAME.to_owned(),
            part: serde_json::to_value(part)?,
        })?;
        self.spawn(None, fds, Command::new("/proc/self/exe").env(JOB, job))
    }

    /// Starts another program as a worker, on `core` if one is given.
    pub(super) fn add_program(
        &mut self,
        core: Option<usize>,
        words: &[OsString],
    ) -> Result<(), Failure> {
        let (program, args) = words.split_first().ok_or("there is no program")?;
        self.watched = true;
        self.spawn(core, Vec::new(), Command::new(program).args(args))
    }

    fn spawn(
        &mut self,
        core: Option<usize>,
        mut fds: Vec<RawFd>,
        command: &mut Command,
    ) -> Result<(), Failure> {
        fds.push(self.stage.fd());
        command.stdin(Stdio::null());
        // SAFETY: the closure makes only system calls, none of which allocates or takes a lock.
        unsafe {
            command.pre_exec(move || {
                for &fd in &fds {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                }
                core.map_or(Ok(()), cores::pin)
            })
        };
        self.workers.push(ends_with_us(command).spawn()?);
        Ok(())
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(Child::id).collect()
    }

    /// Starts the workers once all of them are ready; returns after `warm` more.
    pub(super) fn start(&mut self, warm: Duration) -> Result<(), Failure> {
        self.wait(|stage, ended| stage.ready() >= ended.len())?;
        self.stage.start();
        std::thread::sleep(warm);
        Ok(())
    }

    /// Lets those that time themselves continue for `length`, and then until there is a result: other
    /// programs may keep them from their cores for longer than a short window.
    pub(super) fn measure(&mut self, length: Duration) -> Result<Measured, Failure> {
        let pids = self.pids();
        self.stage.measure();
        let (used, (began, before)) = (cputime::used(&pids)?, self.stage.counts(pids.len()));
        std::thread::sleep(length);
        self.wait(|stage, _| stage.has_result())?;
        let (used_by_then, (ended, after)) = (cputime::used(&pids)?, self.stage.counts(pids.len()));
        self.stage.stop();
        let counts = after.iter().zip(&before);
        Ok(Measured {
            seconds: (ended - began).as_secs_f64(),
            cpu_seconds: (used_by_then - used).as_secs_f64(),
            counts: counts.map(|(now, then)| now - then).collect(),
        })
    }

    /// Waits for workers `from..to` to end. Fails as soon as any worker has failed.
    pub(super) fn join(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        self.wait(|_, ended| ended[from..to].iter().all(|ended| *ended))
    }

    /// Waits for all workers.
    pub(super) fn join_all(&mut self) -> Result<(), Failure> {
        self.join(0, self.workers.len())
    }

    /// Polls until `done` is true of the workers that have ended.
    fn wait(&mut self, done: impl Fn(&Stage, &[bool]) -> bool) -> Result<(), Failure> {
        let (mut before, mut since) = (None, Instant::now());
        loop {
            let ended = self.check()?;
            if done(self.stage, &ended) {
                return Ok(());
            }
            if self.watched {
                let now = Some((self.stage.progress(ended.len()), ended));
                if now != before {
                    (before, since) = (now, Instant::now());
                } else if since.elapsed() > STUCK_AFTER {
                    return Err(Stuck.into());
                }
            }
            std::thread::sleep(POLL);
        }
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

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // This fails for workers that have ended, as nearly all have.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}
