//! The worker processes: this same program, executed afresh with a job in its environment.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::stage::Stage;
use super::{Failure, cores, cputime, floor, handover, idle, map, paced, traffic, trips};

/// Where a worker finds its job. Not for people to set.
const JOB: &str = "SHOAL_BENCH_WORKER";

/// What a worker is to do.
#[derive(Serialize, Deserialize)]
pub(super) enum Role {
    Traffic(traffic::Part),
    Trip(trips::Part),
    Floor(floor::Part),
    Map(map::Part),
    Idle(idle::Part),
    Inside(handover::Part),
    Paced(paced::Part),
    /// Computes until it is stopped, and has nothing to do with the others.
    Busy(Session),
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
        Role::Idle(part) => part.work(&stage),
        Role::Inside(part) => part.work(&stage),
        Role::Paced(part) => part.work(&stage),
        Role::Busy(session) => compute(session),
    }
}

/// Whose session a computing program is in. The scheduler may share the cores out among sessions
/// before it does among processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Session {
    /// One of its own, as another terminal's program is
    #[default]
    Own,
    /// The benchmark's, as a process is that the same program forked
    Same,
}

fn compute(session: Session) -> ! {
    if session == Session::Own {
        // SAFETY: a system call.
        unsafe { libc::setsid() };
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Workers of another project's that get nothing done for this long are stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the parent looks: seldom enough to leave its core to the workers.
const LOOK: Duration = Duration::from_millis(1);

/// What the workers did in one window.
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// What all of them used of the cores.
    pub(super) cpu_seconds: f64,
    /// How much each of them counted.
    pub(super) counts: Vec<u64>,
}

/// Nobody got anything done for as long as [`PATIENCE`].
#[derive(Debug)]
pub(super) struct Stuck;

impl std::error::Error for Stuck {}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "nothing moved for {} s, so it was stopped",
            PATIENCE.as_secs()
        )
    }
}

/// Has a process that is about to be started end when this one does: an interrupted benchmark
/// leaves nothing behind.
pub(super) fn ends_with_us(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: system calls only, none of which allocates or takes a lock.
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
pub(super) struct Crew<'a> {
    stage: &'a Stage,
    workers: Vec<Child>,
    /// Some are other projects' programs, which may get stuck.
    watched: bool,
}

impl<'a> Crew<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self {
            stage,
            workers: Vec::new(),
            watched: false,
        }
    }

    /// So many programs that compute, until this is dropped.
    pub(super) fn computing(
        stage: &'a Stage,
        count: u8,
        session: Session,
    ) -> Result<Self, Failure> {
        let mut others = Self::new(stage);
        for _ in 0..count {
            others.hire(None, Vec::new(), Role::Busy(session))?;
        }
        Ok(others)
    }

    /// Starts one more worker, on `core` if one is given, with the descriptors `fds`.
    pub(super) fn hire(
        &mut self,
        core: Option<usize>,
        fds: Vec<RawFd>,
        role: Role,
    ) -> Result<(), Failure> {
        let stage = self.stage.fd();
        let job = serde_json::to_string(&Job { stage, core, role })?;
        self.spawn(None, fds, Command::new("/proc/self/exe").env(JOB, job))
    }

    /// Starts one more worker that is a program of its own, on `core` if one is given.
    pub(super) fn hire_program(
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
        // SAFETY: system calls only, none of which allocates or takes a lock.
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

    /// Lets the workers go once all of them are ready; returns after `warm` more.
    pub(super) fn start(&mut self, warm: Duration) -> Result<(), Failure> {
        self.wait(|stage, ended| stage.ready() >= ended.len())?;
        self.stage.start();
        std::thread::sleep(warm);
        Ok(())
    }

    /// Lets those that time themselves go on for `length`, and then until there is a result: other
    /// programs may keep them from their cores for longer than a short window.
    pub(super) fn measure(&mut self, length: Duration) -> Result<Measured, Failure> {
        let pids = self.pids();
        self.stage.measure();
        let (used, (began, before)) = (cputime::used(&pids)?, self.stage.counts(pids.len()));
        std::thread::sleep(length);
        self.wait(|stage, _| stage.is_result())?;
        let (used_by_then, (ended, after)) = (cputime::used(&pids)?, self.stage.counts(pids.len()));
        self.stage.stop();
        let counts = after.iter().zip(&before);
        Ok(Measured {
            seconds: (ended - began).as_secs_f64(),
            cpu_seconds: (used_by_then - used).as_secs_f64(),
            counts: counts.map(|(now, then)| now - then).collect(),
        })
    }

    /// Waits for workers `from..to` to end. Fails as soon as any worker has.
    pub(super) fn join(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        self.wait(|_, ended| ended[from..to].iter().all(|ended| *ended))
    }

    /// Waits for everybody.
    pub(super) fn join_all(&mut self) -> Result<(), Failure> {
        self.join(0, self.workers.len())
    }

    /// Looks again and again, until `done` is true of which workers have ended.
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
                } else if since.elapsed() > PATIENCE {
                    return Err(Stuck.into());
                }
            }
            std::thread::sleep(LOOK);
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

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // Fails for one that has ended, as nearly all have.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}
