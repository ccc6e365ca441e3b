//! The thread that starts, restarts and stops workers.
//!
//! Only this thread gives orders to the guardian, which is the workers' parent (`sys/guardian/`). The handle
//! leaves requests in [`Shared`] and changes its wake word; the guardian changes that word when a worker has
//! ended.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::marked;
use super::output::Output;
use super::report::{Event, EventKind, Outcome, OutputFailure, WorkerState, WorkerStatus, exit_of};
use super::restart::{Next, Policy, look_again};
use crate::error::{Error, Result};
use crate::process::handle::{Exit, ExitKind};
use crate::process::spawn::Spawn;
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::fd::Kept;
use crate::sys::fork::hold_off;
use crate::sys::futex;
use crate::sys::guardian::Guardian;

/// How often workers that must end are killed again. Other sleeps of the engine are at most ten times as long.
const SLICE_NS: u64 = 100_000_000;

/// The exit of a worker whose guardian was killed.
const KILLED: Exit = Exit {
    kind: ExitKind::Signaled,
    code: libc::SIGKILL,
};

/// The description of one worker.
pub(super) struct Worker {
    pub(super) spawn: Spawn,
    /// Where the lines of its standard output and error go, if the supervisor labels them.
    pub(super) lines_to: [Option<RawFd>; 2],
}

/// The description of all workers.
pub(super) struct Job {
    pub(super) workers: Vec<Worker>,
    pub(super) policy: Policy,
    pub(super) keep_going: bool,
    /// How long workers have to end when one of them has failed.
    pub(super) grace: Duration,
    /// The environment that all start from.
    pub(super) env: BTreeMap<OsString, OsString>,
    /// Descriptors that workers get, kept open for restarts.
    pub(super) held: Arc<Vec<Kept>>,
}

/// A request of the handle.
pub(super) enum Request {
    Signal { worker: Option<usize>, signal: i32 },
    Stop { signal: i32, deadline: Deadline },
}

/// The state that handle and engine share.
pub(super) struct Shared {
    /// The wake word: changes when the engine has something to do.
    pub(super) wake_word: Arc<AtomicU32>,
    /// A futex word that changes when something has changed for which callers may wait.
    pub(super) changed: AtomicU32,
    state: Mutex<State>,
}

/// The state that the mutex guards. No thread waits or makes a slow call while it holds the mutex.
pub(super) struct State {
    pub(super) requests: Vec<Request>,
    /// How many requests there were, and how many of them are done.
    pub(super) asked: u64,
    pub(super) served: u64,
    pub(super) workers: Vec<WorkerStatus>,
    pub(super) events: VecDeque<Event>,
    /// The most events that are kept; the oldest are dropped first.
    most_events: usize,
    /// Whether every worker was started, or why not.
    pub(super) started: Option<Result<()>>,
    pub(super) outcome: Option<Outcome>,
    pub(super) output_failed: Option<OutputFailure>,
}

impl Shared {
    pub(super) fn new(workers: usize) -> Self {
        let status = WorkerStatus {
            state: WorkerState::Waiting,
            pid: 0,
            restarts: 0,
            exit: None,
        };
        Self {
            wake_word: Arc::new(AtomicU32::new(0)),
            changed: AtomicU32::new(0),
            state: Mutex::new(State {
                requests: Vec::new(),
                asked: 0,
                served: 0,
                workers: vec![status; workers],
                events: VecDeque::new(),
                most_events: (4 * workers).max(1024),
                started: None,
                outcome: None,
                output_failed: None,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(&self, request: Request) {
        {
            let mut state = self.state();
            // No worker runs to which it could apply.
            if state.outcome.is_some() {
                return;
            }
            state.requests.push(request);
            state.asked += 1;
        }
        self.wake_word.fetch_add(1, Ordering::Release);
        futex::wake(&self.wake_word, i32::MAX);
    }

    pub(super) fn announce(&self) {
        self.changed.fetch_add(1, Ordering::Release);
        futex::wake(&self.changed, i32::MAX);
    }
}

/// What a worker is doing, and since or until when.
#[derive(Clone, Copy)]
enum Phase {
    /// To be started at this time.
    Due(u64),
    /// Running since then.
    Running(u64),
    Over,
}

struct Engine<'a> {
    job: &'a Job,
    shared: &'a Shared,
    guardian: Guardian,
    /// See [`marked`].
    number: String,
    output: Option<Output>,
    phases: Vec<Phase>,
    /// Short runs in a row, for each worker.
    short: Vec<u32>,
    /// The first worker that failed for good.
    failed: Option<(usize, Exit)>,
    /// Why a worker could not be started for the first time.
    refused: Option<Error>,
    stop: Option<Deadline>,
    killing: bool,
}

/// Runs until all workers have ended for good. Makes the threads and the guardian first, so that the caller
/// gets the error if that fails.
pub(super) fn run(job: &Job, shared: &Shared) {
    let labels = job.workers.iter().any(|it| it.lines_to != [None, None]);
    let made = Guardian::new(job.workers.len(), &shared.wake_word).and_then(|guardian| {
        Ok((
            guardian,
            labels
                .then(|| Output::start(Arc::clone(&job.held)))
                .transpose()?,
        ))
    });
    match made {
        Ok((guardian, output)) => {
            let engine = Engine {
                job,
                shared,
                guardian,
                number: marked::new(),
                output,
                phases: vec![Phase::Due(0); job.workers.len()],
                short: vec![0; job.workers.len()],
                failed: None,
                refused: None,
                stop: None,
                killing: false,
            };
            engine.run();
        }
        Err(err) => {
            let mut state = shared.state();
            state.started = Some(Err(err));
            state.outcome = Some(Outcome::Stopped);
        }
    }
    shared.announce();
}

impl Engine<'_> {
    fn run(mut self) {
        loop {
            let wake_word = self.shared.wake_word.load(Ordering::Acquire);
            self.serve();
            self.collect();
            let due = self.start_one();
            self.report_started();
            self.enforce_deadline();
            if self.phases.iter().all(|phase| matches!(phase, Phase::Over)) {
                break;
            }
            let now = now_ns();
            if due > now {
                let slice = if self.stop.is_some() {
                    SLICE_NS
                } else {
                    10 * SLICE_NS
                };
                futex::wait(&self.shared.wake_word, wake_word, due.min(now + slice));
            }
        }
        // Ends what the workers have left in other groups and sessions, also if the guardian was killed after the
        // last `collect`.
        if !self.guardian.finish() {
            marked::kill(&self.number);
        }
        if let Some(output) = &self.output {
            let earliest = now_ns() + SLICE_NS;
            output.finish(|| self.output_deadline(earliest));
        }
        let output_failed = self.output.as_ref().and_then(Output::failed);
        let outcome = match (self.failed, self.stop) {
            (Some((worker, exit)), _) => Outcome::Failed { worker, exit },
            (None, Some(_)) => Outcome::Stopped,
            (None, None) => Outcome::Succeeded,
        };
        let mut state = self.shared.state();
        state.output_failed = output_failed;
        state.outcome = Some(outcome);
    }

    /// Until when the rest of the output may be written: without limit, unless the supervisor is stopped.
    fn output_deadline(&self, earliest: u64) -> Deadline {
        let is_stop = |it: &Request| matches!(it, Request::Stop { .. });
        match self.stop {
            Some(Deadline::Never) => Deadline::Never,
            Some(Deadline::At(at)) => Deadline::At(at.max(earliest)),
            Some(Deadline::Now) => Deadline::At(earliest),
            None if self.shared.state().requests.iter().any(is_stop) => Deadline::Now,
            None => Deadline::Never,
        }
    }

    /// Carries out the handle's requests.
    fn serve(&mut self) {
        let requests = std::mem::take(&mut self.shared.state().requests);
        if requests.is_empty() {
            return;
        }
        let count = requests.len() as u64;
        for request in requests {
            match request {
                Request::Signal { worker, signal } => self.signal(worker, signal),
                Request::Stop { signal, deadline } => self.stop(signal, deadline),
            }
        }
        self.shared.state().served += count;
        self.shared.announce();
    }

    /// Signals running workers, unless their guardian was killed.
    fn signal(&self, worker: Option<usize>, signal: i32) {
        for (index, phase) in self.phases.iter().enumerate() {
            let is_target = worker.is_none_or(|it| it == index);
            if is_target && matches!(phase, Phase::Running(_)) {
                let _ = self.guardian.signal(index, signal);
            }
        }
    }

    /// Asks every worker to end, and starts no more. A later call can only make the deadline earlier.
    fn stop(&mut self, signal: i32, deadline: Deadline) {
        let earlier = |old: Deadline| match (old, deadline) {
            (Deadline::Now, _) | (_, Deadline::Now) => Deadline::Now,
            (Deadline::Never, other) | (other, Deadline::Never) => other,
            (Deadline::At(old), Deadline::At(new)) => Deadline::At(old.min(new)),
        };
        let is_first = self.stop.is_none();
        self.stop = Some(self.stop.map_or(deadline, earlier));
        for index in 0..self.phases.len() {
            if matches!(self.phases[index], Phase::Due(_)) {
                self.phases[index] = Phase::Over;
                self.status(index, |it| it.state = WorkerState::Ended);
            }
        }
        let runs = self.running();
        if is_first && runs > 0 {
            let text = format!("stopping {} by signal {signal}", workers(runs));
            self.event(EventKind::Stopping, None, 0, None, text);
        }
        self.signal(None, signal);
        // A stopped worker (SIGSTOP) could not end.
        self.signal(None, libc::SIGCONT);
    }

    fn running(&self) -> usize {
        let running = |phase: &&Phase| matches!(phase, Phase::Running(_));
        self.phases.iter().filter(running).count()
    }

    /// Kills workers that run past the deadline of a stop.
    fn enforce_deadline(&mut self) {
        if !self.stop.is_some_and(Deadline::passed) {
            return;
        }
        let runs = self.running();
        if runs > 0 && !self.killing {
            self.killing = true;
            let text = format!("killing {} that did not end in time", workers(runs));
            self.event(EventKind::Killing, None, 0, None, text);
        }
        self.signal(None, libc::SIGKILL);
    }

    /// Notices which workers have ended.
    fn collect(&mut self) {
        let is_there = self.guardian.is_there();
        for index in 0..self.phases.len() {
            let Phase::Running(since) = self.phases[index] else {
                continue;
            };
            // Read after `is_there`: what the guardian reported before its death is not lost.
            let exit = match self.guardian.take_ended(index) {
                Some(status) => exit_of(status),
                None if !is_there => KILLED,
                None => continue,
            };
            self.ended(index, since, exit);
        }
        if is_there {
            return;
        }
        // The kernel kills the workers with their guardian, but not what they have started.
        marked::kill(&self.number);
        let text = "the guardian of the workers was killed, and they were with it";
        self.event(EventKind::GuardianLost, None, 0, None, text.to_owned());
        match Guardian::new(self.phases.len(), &self.shared.wake_word) {
            Ok(guardian) => self.guardian = guardian,
            Err(err) => {
                for index in 0..self.phases.len() {
                    if matches!(self.phases[index], Phase::Due(_)) {
                        self.start_failed(index, &err);
                        self.fail(index, KILLED, WorkerState::Failed);
                    }
                }
            }
        }
    }

    fn ended(&mut self, index: usize, since: u64, exit: Exit) {
        let pid = self.shared.state().workers[index].pid;
        self.status(index, |it| {
            it.pid = 0;
            it.exit = Some(exit);
        });
        let text = format!("worker {index} (pid {pid}) {exit}");
        self.event(EventKind::Exited, Some(index), pid, Some(exit), text);
        self.next(index, exit, Duration::from_nanos(now_ns() - since));
    }

    /// Decides whether a worker that has ended is restarted.
    fn next(&mut self, index: usize, exit: Exit, run: Duration) {
        self.phases[index] = Phase::Over;
        if self.stop.is_some() {
            self.status(index, |it| it.state = WorkerState::Ended);
            return;
        }
        let short = &mut self.short[index];
        match self.job.policy.next(exit.success(), run, short) {
            Next::Done => self.status(index, |it| it.state = WorkerState::Ended),
            Next::Failed => self.fail(index, exit, WorkerState::Failed),
            Next::GaveUp => {
                let said = self.job.policy.giving_up(*short, exit);
                let text = format!("worker {index} {said}");
                self.event(EventKind::GaveUp, Some(index), 0, Some(exit), text);
                self.fail(index, exit, WorkerState::Failed);
            }
            Next::After(delay) => {
                self.phases[index] =
                    Phase::Due(Deadline::after(Timeout::Val(delay)).slice(u64::MAX));
                self.status(index, |it| it.state = WorkerState::Restarting);
                let text = format!("worker {index} is started again in {delay:?}");
                self.event(EventKind::Restarting, Some(index), 0, Some(exit), text);
            }
        }
    }

    fn fail(&mut self, index: usize, exit: Exit, state: WorkerState) {
        self.phases[index] = Phase::Over;
        self.status(index, |it| it.state = state);
        self.failed.get_or_insert((index, exit));
        if !self.job.keep_going {
            self.stop(libc::SIGTERM, Deadline::after(Timeout::Val(self.job.grace)));
        }
    }

    /// Starts one worker that is due; one at a time, so that requests are served in between. Returns when the
    /// next one is due.
    fn start_one(&mut self) -> u64 {
        let now = now_ns();
        let due = |phase: &Phase| match phase {
            Phase::Due(at) => *at,
            Phase::Running(_) | Phase::Over => u64::MAX,
        };
        let first = self.phases.iter().position(|phase| due(phase) <= now);
        if let Some(index) = first {
            self.start(index);
        }
        let next = self.phases.iter().map(due).min().unwrap_or(u64::MAX);
        look_again(self.stop, next, now, SLICE_NS)
    }

    fn start(&mut self, index: usize) {
        let restarts = {
            let state = self.shared.state();
            let status = &state.workers[index];
            if status.exit.is_some() || status.state == WorkerState::Restarting {
                status.restarts + 1
            } else {
                0
            }
        };
        match self.launch(index, restarts) {
            Ok(pid) => {
                self.phases[index] = Phase::Running(now_ns());
                self.status(index, |it| {
                    it.state = WorkerState::Running;
                    it.pid = pid;
                    it.restarts = restarts;
                });
                let text = match restarts {
                    0 => format!("worker {index} runs with pid {pid}"),
                    _ => format!("worker {index} runs again with pid {pid}"),
                };
                self.event(EventKind::Started, Some(index), pid, None, text);
            }
            Err(err) if restarts == 0 => {
                self.phases[index] = Phase::Over;
                self.status(index, |it| it.state = WorkerState::Failed);
                self.refused = Some(err);
                self.stop(libc::SIGKILL, Deadline::Now);
            }
            Err(err) => {
                self.start_failed(index, &err);
                let unknown = Exit {
                    kind: ExitKind::Unknown,
                    code: -1,
                };
                self.status(index, |it| it.restarts = restarts);
                self.next(index, unknown, Duration::ZERO);
            }
        }
    }

    fn start_failed(&self, index: usize, err: &Error) {
        let text = format!("worker {index} could not be started again: {err}");
        self.event(EventKind::StartFailed, Some(index), 0, None, text);
    }

    /// Starts a worker's program.
    fn launch(&self, index: usize, restarts: u32) -> Result<i32> {
        let worker = &self.job.workers[index];
        if self.job.held.iter().any(|fd| fd.get().is_none()) {
            let why =
                "this program has closed a descriptor that the supervisor keeps for its workers";
            return Err(Error::invalid("descriptor for a worker", why));
        }
        let mut spawn = worker.spawn.clone();
        spawn
            .env("SHOAL_WORKER", index.to_string())
            .env("SHOAL_WORKERS", self.job.workers.len().to_string())
            .env("SHOAL_WORKER_RESTARTS", restarts.to_string())
            .env(marked::VARIABLE, &self.number);
        let mut plan = spawn.plan(|| self.job.env.clone())?;
        let file = plan.program.clone();
        // The worker's ends of its pipes must not be copied into a child that another thread forks.
        let forks = hold_off()?;
        let pipes;
        (plan.fds, pipes) = spawn.descriptors()?;
        let started = self.guardian.start(index, &mut plan);
        drop(plan);
        drop(forks);
        let pid = started?.map_err(|failure| spawn.explain(failure, file))?;
        if let Some(output) = &self.output {
            if restarts > 0 {
                output.close(index);
            }
            let [_, stdout, stderr] = pipes;
            for (pipe, to) in [stdout, stderr].into_iter().zip(worker.lines_to) {
                if let (Some(pipe), Some(to)) = (pipe, to) {
                    output.add(index, pipe, to)?;
                }
            }
        }
        Ok(pid)
    }

    /// Reports to the handle, once, that every worker was started, or why one could not be.
    fn report_started(&mut self) {
        let mut state = self.shared.state();
        if state.started.is_some() {
            return;
        }
        let is_waiting = |it: &WorkerStatus| it.state == WorkerState::Waiting;
        if let Some(err) = self.refused.take() {
            // Reported at the end, when those that were started have ended.
            if self
                .phases
                .iter()
                .any(|phase| !matches!(phase, Phase::Over))
            {
                self.refused = Some(err);
                return;
            }
            state.started = Some(Err(err));
        } else if self.stop.is_some() || !state.workers.iter().any(is_waiting) {
            state.started = Some(Ok(()));
        } else {
            return;
        }
        drop(state);
        self.shared.announce();
    }

    fn status(&self, index: usize, change: impl FnOnce(&mut WorkerStatus)) {
        change(&mut self.shared.state().workers[index]);
        self.shared.announce();
    }

    fn event(
        &self,
        kind: EventKind,
        worker: Option<usize>,
        pid: i32,
        exit: Option<Exit>,
        text: String,
    ) {
        let mut state = self.shared.state();
        if state.events.len() >= state.most_events {
            state.events.pop_front();
        }
        state.events.push_back(Event {
            kind,
            worker,
            pid,
            exit,
            text,
        });
        drop(state);
        self.shared.announce();
    }
}

fn workers(count: usize) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}
