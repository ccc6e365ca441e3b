//! The handle of a running supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::engine::{self, Job, Request, Shared, State};
use super::report::{Event, Outcome, OutputFailure, WorkerStatus};
use crate::error::{Error, Result};
use crate::sync::{EndWaits, Waits};
use crate::sys::clock::{Deadline, IntoTimeout, Timeout, now_ns};
use crate::sys::futex::{self, Waited};
use crate::sys::thread;

/// How long a call sleeps before it checks whether the waits of its handle were ended.
const SLICE_NS: u64 = 100_000_000;

/// The largest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// Supervises running workers; made by [`Workers::start`](super::Workers::start).
///
/// A thread of this process restarts and stops workers, whether or not the program calls anything. Every
/// method may be called from any thread. Dropping the supervisor stops the workers, as [`stop`](Self::stop)
/// does with the [`grace`](super::Workers::grace) period, and waits for that. If this process ends in another
/// way, even by `SIGKILL`, the workers are killed at once, and so are all processes that they have started.
/// In a forked child, every call on the copy of this value is `Invalid`.
///
/// ```
/// use shoal::{Spawn, Timeout, Workers};
/// use std::time::Duration;
///
/// let supervisor = Workers::new(Spawn::new("sleep").arg("600"), 3).start()?;
/// assert_eq!(supervisor.workers()?.len(), 3);
/// supervisor.stop(Timeout::Val(Duration::from_secs(5)))?;
/// assert!(supervisor.workers()?.iter().all(|worker| worker.pid == 0));
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Supervisor {
    shared: Arc<Shared>,
    grace: Duration,
    /// The process that has the engine.
    creator: u32,
    waits: Waits,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

impl Supervisor {
    pub(super) fn start(job: Job) -> Result<Self> {
        let shared = Arc::new(Shared::new(job.workers.len()));
        let supervisor = Self {
            shared: Arc::clone(&shared),
            grace: job.grace,
            creator: std::process::id(),
            waits: Waits::new(),
        };
        let started = thread::start("shoal-supervise", move || engine::run(&job, &shared));
        if let Err(err) = started {
            // There is no engine that the drop could wait for.
            supervisor.shared.state().outcome = Some(Outcome::Stopped);
            return Err(err);
        }
        Ok(supervisor)
    }

    /// Waits until all workers were started, or why not; once, after [`Workers::begin`](super::Workers::begin).
    #[doc(hidden)]
    pub fn wait_started(&self) -> Result<()> {
        self.sleep_until(Deadline::Never, false, |state| state.started.take())?
    }

    /// Waits until all workers have ended for good, and returns how. Later calls return the same at once.
    ///
    /// `Timeout::Val(Duration::ZERO)` does not wait. When this returns, all output of the workers was passed
    /// on, and no process that they have started is left.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]: a worker still runs, or will be started again. [`Error::Interrupted`]: a signal
    /// handler ran while waiting; call again to continue. [`Error::Detached`]: see
    /// [`end_waits`](Self::end_waits). [`Error::Invalid`]: in a forked copy of the process.
    pub fn wait(&self, timeout: impl IntoTimeout) -> Result<Outcome> {
        self.sleep_until(Deadline::after(timeout), true, |state| state.outcome)
    }

    /// Takes the next event, and waits for it if there is none. `None` once all workers have ended for
    /// good and every event was taken.
    ///
    /// At least the latest 1024 events are kept; older ones that are never taken are dropped.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use shoal::{EventKind, Spawn, Timeout, Workers};
    ///
    /// let supervisor = Workers::new(&Spawn::new("true"), 1).start()?;
    /// let first = supervisor.next_event(Timeout::Infinite)?.unwrap();
    /// assert_eq!((first.kind, first.worker), (EventKind::Started, Some(0)));
    /// let second = supervisor.next_event(Timeout::Infinite)?.unwrap();
    /// assert!(second.to_string().ends_with("exited with code 0"));
    /// assert_eq!(supervisor.next_event(Timeout::Infinite)?, None);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn next_event(&self, timeout: impl IntoTimeout) -> Result<Option<Event>> {
        self.sleep_until(Deadline::after(timeout), true, |state| {
            match state.events.pop_front() {
                Some(event) => Some(Some(event)),
                None => state.outcome.map(|_| None),
            }
        })
    }

    /// The first failure to pass on the workers' output. `None` while a worker runs, and if only the reader
    /// of the output has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: in a forked copy of the process.
    pub fn output_failure(&self) -> Result<Option<OutputFailure>> {
        Ok(self.own()?.state().output_failed)
    }

    /// Sends a signal to the process group of every running worker. Does not wait: signals are sent later, in
    /// order.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is no such signal, or this is a forked copy of the process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.ask_signal(None, signal)
    }

    /// As [`signal`](Self::signal), to one worker. Sends nothing if that worker does not run.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal); also if there is no such worker.
    pub fn signal_worker(&self, worker: usize, signal: i32) -> Result<()> {
        let count = self.own()?.state().workers.len();
        if worker >= count {
            let why = format!("there is no worker {worker}: the last one is {}", count - 1);
            return Err(Error::invalid("worker", why));
        }
        self.ask_signal(Some(worker), signal)
    }

    /// Waits until every signal that was requested so far was sent: for a program that is about to stop
    /// itself (`SIGSTOP`), which stops all its threads. Returns at once if all workers have ended.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_sent(&self, timeout: impl IntoTimeout) -> Result<()> {
        let asked = self.own()?.state().asked;
        self.sleep_until(Deadline::after(timeout), true, |state| {
            (state.served >= asked || state.outcome.is_some()).then_some(())
        })
    }

    fn ask_signal(&self, worker: Option<usize>, signal: i32) -> Result<()> {
        check_signal(signal)?;
        self.own()?.ask(Request::Signal { worker, signal });
        Ok(())
    }

    /// Ends all workers: sends `SIGTERM`, kills after `grace` those that still run, and waits until they and
    /// all processes that they have started have ended. No worker is restarted.
    ///
    /// With `Timeout::Val(Duration::ZERO)` they are killed at once; with `Timeout::Infinite` never. A second
    /// call, even from another thread, can only make the deadline earlier.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]: a signal handler ran; the stop goes on. [`Error::Detached`] and
    /// [`Error::Invalid`]: as [`wait`](Self::wait).
    pub fn stop(&self, grace: impl IntoTimeout) -> Result<()> {
        self.begin_stop(libc::SIGTERM, grace)?;
        self.wait(Timeout::Infinite).map(drop)
    }

    /// As [`stop`](Self::stop), with another first signal, and without waiting.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn begin_stop(&self, signal: i32, grace: impl IntoTimeout) -> Result<()> {
        check_signal(signal)?;
        let deadline = match Deadline::after(grace) {
            // The engine checks it later, when it has passed.
            Deadline::Now => Deadline::At(now_ns()),
            deadline => deadline,
        };
        self.own()?.ask(Request::Stop { signal, deadline });
        Ok(())
    }

    /// What each worker is doing. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: in a forked copy of the process.
    pub fn workers(&self) -> Result<Vec<WorkerStatus>> {
        Ok(self.own()?.state().workers.clone())
    }

    /// Ends the waits through this handle, as [`Queue::end_waits`](crate::Queue::end_waits) does, a tenth of
    /// a second later at most. The workers continue.
    pub fn end_waits(&self) {
        self.waits.end([]);
    }

    fn own(&self) -> Result<&Shared> {
        if self.creator != std::process::id() {
            let why = "it belongs to the process that started it, of which this is a forked copy";
            return Err(Error::invalid("supervisor", why));
        }
        Ok(&self.shared)
    }

    fn sleep_until<T>(
        &self,
        deadline: Deadline,
        can_be_interrupted: bool,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let shared = self.own()?;
        loop {
            let seen = shared.changed.load(Ordering::Acquire);
            if let Some(found) = find(&mut shared.state()) {
                return Ok(found);
            }
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            self.waits.count();
            if can_be_interrupted {
                self.waits.check()?;
            }
            let waited = sleep(&shared.changed, seen, deadline);
            if waited == Waited::Interrupted && can_be_interrupted {
                return Err(Error::Interrupted);
            }
        }
    }
}

fn sleep(word: &AtomicU32, seen: u32, deadline: Deadline) -> Waited {
    futex::wait(word, seen, deadline.slice(SLICE_NS))
}

fn check_signal(signal: i32) -> Result<()> {
    if (1..=LAST_SIGNAL).contains(&signal) {
        return Ok(());
    }
    let why = format!("there is no signal {signal}: they go from 1 to {LAST_SIGNAL}");
    Err(Error::invalid("signal", why))
}

impl EndWaits for Supervisor {
    fn end_waits(&self) {
        Supervisor::end_waits(self);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        // A forked copy has none of the threads that were counted.
        if self.creator == std::process::id() {
            see(&self.waits);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self
            .begin_stop(libc::SIGTERM, Timeout::Val(self.grace))
            .is_ok()
        {
            let _ = self.sleep_until(Deadline::Never, false, |state| state.outcome);
        }
    }
}
