//! `shoal run --devices 0,1 -- cmd …`, and with `-n` or `--restart` a supervisor of several of them.
//!
//! A single program that is not restarted replaces this process, so that its signals, its terminal and its
//! exit code are its own. It keeps a lease across the exec.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use shoal::device::lease::{Lease, Mode, Request, Share};
use shoal::device::{self, EnvEdit, parse_bytes};
use shoal::process::{MOST_WORKERS, Output};
use shoal::{Error, EventKind, ExitKind, Outcome, Restart, Spawn, Supervisor, Timeout, Workers};
use signal_hook::consts::signal as signals;
use signal_hook::iterator::Signals;

use crate::exec::{self, REFUSED};
use crate::interrupt::{self, ENDING};
use crate::number::number;
use crate::output::{duration, say};

/// Signals that are passed on to the workers.
const PASSED_ON: [i32; 5] = [
    signals::SIGUSR1,
    signals::SIGUSR2,
    signals::SIGWINCH,
    signals::SIGCONT,
    signals::SIGTSTP,
];

/// How long a wait lasts before it checks whether to go on.
const SLICE: Duration = Duration::from_millis(100);
/// The longest wait until a signal has been sent to the workers.
const SENDING: Duration = Duration::from_secs(1);

/// A machine has no more devices of a family than have numbers in masks.
const MOST_DEVICES: usize = device::MAX_INDEX as usize + 1;

#[derive(clap::Args)]
pub(crate) struct Run {
    /// How many workers to start. Each has its number in SHOAL_WORKER, a part of the devices, and its
    /// number before each line that it writes
    #[arg(short = 'n', long, value_name = "N", value_parser = number(1..=MOST_WORKERS))]
    workers: Option<usize>,
    /// The devices the program may see, counted in those this process sees: "0,2", "none". With several
    /// workers, each gets a part of them
    #[arg(long, value_name = "MASK", allow_hyphen_values = true)]
    devices: Option<String>,
    /// The family of devices
    #[arg(long, default_value = "cuda")]
    family: String,
    /// Lease this many devices that no other lease has, and wait until they are free
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = number(1..=MOST_DEVICES),
        conflicts_with = "devices"
    )]
    lease: Option<usize>,
    /// Lease only devices with this much free memory, such as 10G
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "lease")]
    min_free: Option<u64>,
    /// Lease only devices that are busy for at most this percentage of the time
    #[arg(long, value_name = "PERCENT", value_parser = number(0..=100u8), requires = "lease")]
    max_utilisation: Option<u8>,
    /// Lease a part of each device: memory (8G) or slots (1/4)
    #[arg(long, value_name = "PART", requires = "lease")]
    share: Option<Share>,
    /// Prefer these devices, the first one most: 0,1,3,2
    #[arg(
        long,
        value_name = "DEVICES",
        value_delimiter = ',',
        requires = "lease"
    )]
    order: Vec<String>,
    /// How long to wait for the lease, such as 10m; 0 does not wait
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "lease")]
    wait: Option<Duration>,
    /// What each worker sees of the lease: exclusive, rotate or index-only
    #[arg(
        long,
        value_name = "MODE",
        default_value = "exclusive",
        requires = "lease"
    )]
    mode: Mode,
    /// Restart workers that have failed, or with "always" also those that ended with success
    #[arg(
        long,
        value_name = "WHICH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "failed",
        value_parser = restart
    )]
    restart: Option<Restart>,
    /// Give up a worker after this many restarts in a row, if it ended within 10 s of its start each time
    #[arg(
        long,
        value_name = "TIMES",
        default_value_t = 10,
        value_parser = number(0..=u32::MAX),
        requires = "restart"
    )]
    max_restarts: u32,
    /// Leave the other workers running when one has failed for good
    #[arg(long)]
    keep_going: bool,
    /// How long workers have to end before they are killed
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    grace: Duration,
    /// Pass on the output of workers unchanged, without their numbers
    #[arg(long)]
    no_labels: bool,
    /// Do not report starts, ends and restarts
    #[arg(short, long)]
    quiet: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

/// Why nothing was started.
struct Refusal {
    code: u8,
    why: String,
}

impl Refusal {
    /// The program could not be started.
    fn of_start(err: Error) -> Self {
        Refusal {
            code: exec::code_of(&err),
            why: err.to_string(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        Refusal {
            code: REFUSED,
            why: err.to_string(),
        }
    }
}

impl Run {
    /// Runs the program: in place of this process, unless there are workers to supervise.
    pub(crate) fn run(self) -> ExitCode {
        let ran = match self.workers.is_some() || self.restart.is_some() {
            true => self.supervise(),
            false => self.replace(),
        };
        ran.unwrap_or_else(|refusal| {
            say(&refusal.why);
            ExitCode::from(refusal.code)
        })
    }

    /// Replaces this process by the program, so that the program gets all signals and sets the exit code.
    fn replace(&self) -> Result<ExitCode, Refusal> {
        let lease = self.acquire()?;
        let edits = match (&lease, &self.devices) {
            (Some(lease), _) => {
                lease.keep_on_exec(true)?;
                lease.environment(self.mode, 0, 1)?
            }
            (None, Some(mask)) => device::environment(&self.family, mask, variable)?,
            (None, None) => Vec::new(),
        };
        let mut program = self.program();
        for edit in edits {
            match edit {
                EnvEdit::Set(name, value) => program.env(name, value),
                EnvEdit::Unset(name) => program.env_remove(name),
            };
        }
        Err(Refusal::of_start(exec::replace(&program)))
    }

    fn program(&self) -> Spawn {
        let mut program = Spawn::new(&self.command[0]);
        program.args(&self.command[1..]);
        program
    }

    /// The lease that the options ask for.
    fn acquire(&self) -> Result<Option<Lease>, Refusal> {
        let Some(count) = self.lease else {
            return Ok(None);
        };
        let words = self.command.iter().map(|word| word.to_string_lossy());
        let mut request = Request::new(count)
            .family(&self.family)
            .share(self.share.unwrap_or_default())
            .order(self.order.clone())
            .command(words.collect::<Vec<_>>().join(" "));
        if let Some(bytes) = self.min_free {
            request = request.min_free(bytes);
        }
        if let Some(percent) = self.max_utilisation {
            request = request.max_utilisation(percent);
        }
        let now = Timeout::Val(Duration::ZERO);
        let timeout = self.wait.map_or(Timeout::Infinite, Timeout::Val);
        let lease = match request.acquire(now) {
            Err(Error::Timeout) if self.wait != Some(Duration::ZERO) => {
                if !self.quiet {
                    say(format_args!(
                        "waiting for {count} {} to be free",
                        devices(count)
                    ));
                }
                request.acquire(timeout)
            }
            lease => lease,
        };
        let lease = lease.map_err(|err| match err {
            Error::Timeout => Refusal {
                code: REFUSED,
                why: match count {
                    1 => "1 device was not free in time".to_owned(),
                    _ => format!("{count} devices were not free in time"),
                },
            },
            err => err.into(),
        })?;
        Ok(Some(lease))
    }

    /// Starts the workers and supervises them until they have ended.
    fn supervise(&self) -> Result<ExitCode, Refusal> {
        let lease = self.acquire()?;
        let workers = self.described(&self.program(), lease.as_ref());
        // Installed before the workers start, so that no worker misses a signal that ends this program.
        let mut arriving = Signals::new(handled()).map_err(|err| Refusal {
            code: REFUSED,
            why: format!("signals cannot be handled: {err}"),
        })?;
        interrupt::unblock(&handled());
        interrupt::end_no_more_at_once();
        let supervisor = Arc::new(workers.begin().map_err(Refusal::of_start)?);
        // The workers hold the lease. It is free once the last of them has ended.
        drop((workers, lease));
        let handle = arriving.handle();
        let stopped = AtomicBool::new(false);
        let (ended_by, started) = std::thread::scope(|scope| {
            let (supervisor, stopped) = (&supervisor, &stopped);
            let ended = scope.spawn(move || {
                let started = supervisor.wait_started();
                if started.is_ok() {
                    let reported = self.report(supervisor);
                    while let Err(Error::Interrupted) = supervisor.wait(Timeout::Infinite) {}
                    // A signal ends the wait for messages that are not printed yet.
                    while reported.recv_timeout(SLICE) == Err(RecvTimeoutError::Timeout)
                        && !stopped.load(Ordering::Relaxed)
                    {}
                }
                handle.close();
                started
            });
            // Also while workers are started, which takes a millisecond for each.
            let ended_by = self.forward(supervisor, &mut arriving, stopped);
            (ended_by, ended.join())
        });
        started.unwrap_or(Ok(())).map_err(Refusal::of_start)?;
        exit_code(&supervisor, ended_by)
    }

    /// The workers that the options describe.
    fn described(&self, spawn: &Spawn, lease: Option<&Lease>) -> Workers {
        let mut workers = Workers::new(spawn, self.workers.unwrap_or(1));
        workers
            .restart(self.restart.unwrap_or_default())
            .max_restarts(self.max_restarts)
            .grace(self.grace);
        if let Some(lease) = lease {
            workers.lease(lease, self.mode);
        }
        if let Some(mask) = &self.devices {
            workers.devices(&self.family, mask);
        }
        if self.keep_going {
            workers.keep_going();
        }
        if self.no_labels {
            workers.output(Output::Plain);
        }
        workers
    }

    /// Prints what happens to the workers, until they have ended; then the returned channel is disconnected.
    /// This runs in its own thread, because it blocks while no process reads its output.
    fn report(&self, supervisor: &Arc<Supervisor>) -> Receiver<()> {
        let (reports, reported) = mpsc::channel();
        let (quiet, restarts) = (self.quiet, self.restart.is_some());
        let supervisor = Arc::clone(supervisor);
        std::thread::spawn(move || {
            let _reports: Sender<()> = reports;
            loop {
                match supervisor.next_event(Timeout::Infinite) {
                    Ok(Some(event)) => {
                        let is_news = match event.kind {
                            EventKind::Started => restarts,
                            EventKind::Exited => !event.exit.is_some_and(|exit| exit.success()),
                            _ => true,
                        };
                        if is_news && !quiet {
                            say(event);
                        }
                    }
                    Err(Error::Interrupted) => {}
                    Ok(None) | Err(_) => break,
                }
            }
            if let Ok(Some(failure)) = supervisor.output_failure() {
                say(failure);
            }
        });
        reported
    }

    /// Passes signals on until all workers have ended. Returns the first signal that ended them.
    fn forward(
        &self,
        supervisor: &Supervisor,
        arriving: &mut Signals,
        stopped: &AtomicBool,
    ) -> Option<i32> {
        let mut ended_by = None;
        for signal in arriving.forever() {
            if !ENDING.contains(&signal) {
                let _ = supervisor.signal(signal);
                if signal == signals::SIGTSTP {
                    // Ctrl-Z: this process stops as well, but only after the signal has been sent to the workers.
                    // The SIGCONT that continues it is passed on like the others.
                    let _ = supervisor.wait_sent(Timeout::Val(SENDING));
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                continue;
            }
            // A second Ctrl-C kills the workers at once.
            let again = ended_by.is_some() && signal == signals::SIGINT;
            let grace = if again { Duration::ZERO } else { self.grace };
            ended_by.get_or_insert(signal);
            stopped.store(true, Ordering::Relaxed);
            let _ = supervisor.begin_stop(signal, Timeout::Val(grace));
        }
        ended_by
    }
}

/// The signals to handle: those that the caller of this program, such as `nohup`, does not ignore.
fn handled() -> Vec<i32> {
    let all: Vec<i32> = ENDING.into_iter().chain(PASSED_ON).collect();
    interrupt::not_ignored(&all)
}

/// The exit code after the workers' end; ends this process if they ended by a signal.
fn exit_code(supervisor: &Supervisor, ended_by: Option<i32>) -> Result<ExitCode, Refusal> {
    let outcome = loop {
        match supervisor.wait(Timeout::Infinite) {
            Err(Error::Interrupted) => {}
            outcome => break outcome?,
        }
    };
    let lost = supervisor.output_failure()?;
    Ok(match outcome {
        Outcome::Succeeded if lost.is_some() => ExitCode::FAILURE,
        Outcome::Succeeded => ExitCode::SUCCESS,
        Outcome::Failed { exit, .. } => match exit.kind {
            // A crash loop of runs that ended with success is a failure.
            _ if exit.success() => ExitCode::FAILURE,
            ExitKind::Exited => code(exit.code),
            ExitKind::Signaled => ExitCode::from(interrupt::code_of(exit.code)),
            ExitKind::Unknown => ExitCode::from(REFUSED),
        },
        // Ends by the signal, so that the shell sees the reason.
        Outcome::Stopped => interrupt::end_by(ended_by.unwrap_or(signals::SIGTERM)),
    })
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn devices(count: usize) -> &'static str {
    if count == 1 { "device" } else { "devices" }
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "failed" => Ok(Restart::OnFailure),
        "always" => Ok(Restart::Always),
        _ => Err("it is \"failed\" or \"always\"".to_owned()),
    }
}

/// A variable of this process, lossy if it is not text: reading the mask then fails.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
