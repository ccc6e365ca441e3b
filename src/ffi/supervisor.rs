//! Supervisor
//!
//! Workers that are supervised: started together, restarted when they fail, and ended together, also when
//! this process is killed.
//!
//! Killed: The guardian kills the workers and every process that they have started.
//!
//! ```c
//! const char *argv[] = {"python3", "work.py", NULL};
//! shoal_spawn_options program = {.size = sizeof program, .argv = argv,
//!                                .device_family = "cuda", .device_mask = "0-3"};
//! shoal_supervisor_options options = {.size = sizeof options, .program = &program,
//!                                     .workers = 4, .restart = SHOAL_RESTART_ON_FAILURE};
//! shoal_supervisor *s;
//! shoal_outcome outcome;
//! if (shoal_supervisor_start(&options, &s) == SHOAL_OK) {
//!     if (shoal_supervisor_wait(s, SHOAL_FOREVER, &outcome) == SHOAL_OK
//!         && outcome.kind == SHOAL_OUTCOME_SUCCEEDED)
//!         puts("done");
//!     shoal_supervisor_free(s);
//! }
//! ```
//!
//! The workers are children of another process, the guardian, which shares this process's memory and shows
//! its command line. A `wait` of this process for any child sees none of them. When this process ends, however
//! it ends, the guardian kills them and all that they have started. In a forked child every function on the
//! handle fails with SHOAL_ERR_INVALID.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use super::args::{self, Out};
use super::handle::{self, Inner, opaque};
use super::options::{self, check_flags, sized};
use super::process::{self, SHOAL_EXIT_EXITED, SHOAL_EXIT_UNKNOWN};
use super::spawn::{self, SpawnOptions};
use super::status::{Failure, cut, guard, guard_shielded, guard_step};
use crate::error::{Error, Result, Status};
use crate::process::{
    EventKind, Exit, FIRST_DELAY, GRACE, HEALTHY, LONGEST_DELAY, Outcome, Output, Restart,
    Supervisor, WorkerState, Workers,
};

/// Workers that run under supervision.
pub struct SupervisorHandle {
    _opaque: [u8; 0],
}

opaque!(SupervisorHandle, Supervisor, b"shl.supv");

impl Inner for Supervisor {}

/// In `shoal_supervisor_options.restart`: no worker is started again.
pub const SHOAL_RESTART_NEVER: u32 = 0;

/// In `restart`: workers that failed (an exit code other than 0, or a signal) are started again.
pub const SHOAL_RESTART_ON_FAILURE: u32 = 1;

/// In `restart`: all workers are started again, also after exit code 0.
pub const SHOAL_RESTART_ALWAYS: u32 = 2;

/// In `shoal_supervisor_options.flags`: when a worker has failed for good, the others are not stopped.
pub const SHOAL_SUPERVISOR_KEEP_GOING: u64 = 1;

/// In `flags`: what workers write is passed on as it is. Else each line has the worker's number before it
/// (`[3] loaded`), and lines of different workers never mix.
pub const SHOAL_SUPERVISOR_PLAIN: u64 = 2;

/// In place of a worker's number: every worker.
pub const SHOAL_EVERY_WORKER: i64 = -1;

/// Workers to be started. Fields that are zero have the defaults; only `size`, `program` and `workers` must
/// be set.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SupervisorOptions {
    /// `sizeof(shoal_supervisor_options)`.
    pub size: usize,
    /// What each worker runs. Its devices, or those of its lease, are spread over the workers; its `worker`
    /// and `workers` are not used. Pipes (SHOAL_STDIO_PIPE) are refused. A standard input that is inherited
    /// is the null device. Descriptors are duplicated: you may close yours after the call.
    pub program: *const SpawnOptions,
    /// How many, 1 to 4096.
    pub workers: usize,
    /// SHOAL_RESTART_NEVER, SHOAL_RESTART_ON_FAILURE or SHOAL_RESTART_ALWAYS.
    pub restart: u32,
    /// How many times in a row a worker is started again without a run of `healthy_ns` in between. After one
    /// more short run it is in a crash loop and is given up. 0 is 10, UINT32_MAX is without limit.
    pub max_restarts: u32,
    /// How long to wait before the first restart; it doubles with each further one. 0 is 100 ms.
    pub backoff_ns: i64,
    /// The longest such wait. 0 is 10 s.
    pub max_backoff_ns: i64,
    /// A run of this length begins the count of restarts again. 0 is 10 s.
    pub healthy_ns: i64,
    /// How long workers have to end after SIGTERM before they are killed, when another one has failed or
    /// the handle is freed. 0 is 10 s; SHOAL_FOREVER never kills.
    pub grace_ns: i64,
    /// SHOAL_SUPERVISOR_KEEP_GOING, SHOAL_SUPERVISOR_PLAIN.
    pub flags: u64,
}

sized!(SupervisorOptions, "shoal_supervisor_options.size", 72);

/// In `shoal_outcome.kind`: each worker ended with exit code 0.
pub const SHOAL_OUTCOME_SUCCEEDED: u32 = 0;

/// In `shoal_outcome.kind`: at least one worker failed for good.
pub const SHOAL_OUTCOME_FAILED: u32 = 1;

/// In `shoal_outcome.kind`: the workers were stopped, and none had failed before.
pub const SHOAL_OUTCOME_STOPPED: u32 = 2;

/// How all workers together have ended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WorkersOutcome {
    /// SHOAL_OUTCOME_SUCCEEDED, SHOAL_OUTCOME_FAILED or SHOAL_OUTCOME_STOPPED.
    pub kind: u32,
    /// How the last run of the first worker that failed has ended: as `kind` of a `shoal_exit`. Else
    /// SHOAL_EXIT_EXITED,
    pub exit_kind: u32,
    /// and as its `code`. Else 0.
    pub exit_code: i32,
    /// 0.
    pub reserved: u32,
    /// The first worker that failed, or -1.
    pub worker: i64,
}

/// In `shoal_worker_status.state`: it is not started yet.
pub const SHOAL_WORKER_WAITING: u32 = 0;

/// In `state`: it runs.
pub const SHOAL_WORKER_RUNNING: u32 = 1;

/// In `state`: it has ended, and is restarted after a delay.
pub const SHOAL_WORKER_RESTARTING: u32 = 2;

/// In `state`: it has ended for good, with success or because the workers were stopped.
pub const SHOAL_WORKER_ENDED: u32 = 3;

/// In `state`: it has failed for good.
pub const SHOAL_WORKER_FAILED: u32 = 4;

/// One worker at one moment.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WorkerStatus {
    /// `sizeof(shoal_worker_status)`.
    pub size: usize,
    /// SHOAL_WORKER_WAITING, ...
    pub state: u32,
    /// Its process while it runs, else 0. It may have ended meanwhile: signal it by
    /// `shoal_supervisor_signal`.
    pub pid: i32,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last run ended, as `kind` of a `shoal_exit`: SHOAL_EXIT_UNKNOWN if none has,
    pub exit_kind: u32,
    /// and as its `code`.
    pub exit_code: i32,
    /// 0.
    pub reserved: u32,
}

sized!(WorkerStatus, "shoal_worker_status.size", 32);

/// In `shoal_worker_event.kind`: a worker runs.
pub const SHOAL_WORKER_EVENT_STARTED: u32 = 0;

/// In `shoal_worker_event.kind`: a worker has ended.
pub const SHOAL_WORKER_EVENT_EXITED: u32 = 1;

/// In `shoal_worker_event.kind`: a worker will be started again.
pub const SHOAL_WORKER_EVENT_RESTARTING: u32 = 2;

/// In `shoal_worker_event.kind`: a worker could not be started again.
pub const SHOAL_WORKER_EVENT_START_FAILED: u32 = 3;

/// In `shoal_worker_event.kind`: a worker is in a crash loop, and is not started any more.
pub const SHOAL_WORKER_EVENT_GAVE_UP: u32 = 4;

/// In `shoal_worker_event.kind`: all workers are asked to end.
pub const SHOAL_WORKER_EVENT_STOPPING: u32 = 5;

/// In `shoal_worker_event.kind`: their time to end is over, and they are killed.
pub const SHOAL_WORKER_EVENT_KILLING: u32 = 6;

/// In `shoal_worker_event.kind`: the guardian was killed, and the workers with it.
pub const SHOAL_WORKER_EVENT_GUARDIAN_LOST: u32 = 7;

/// Something that has happened to a worker.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WorkerEvent {
    /// `sizeof(shoal_worker_event)`.
    pub size: usize,
    /// The worker, or SHOAL_EVERY_WORKER.
    pub worker: i64,
    /// SHOAL_WORKER_EVENT_STARTED, ... A newer library may have more.
    pub kind: u32,
    /// Its process, where there is one, else 0.
    pub pid: i32,
    /// How it ended, where it did, as `kind` of a `shoal_exit`; else SHOAL_EXIT_UNKNOWN,
    pub exit_kind: u32,
    /// and as its `code`.
    pub exit_code: i32,
    /// A sentence about it that ends with NUL.
    pub text: [c_char; 256],
}

sized!(WorkerEvent, "shoal_worker_event.size", 288);

fn state_of(state: WorkerState) -> u32 {
    match state {
        WorkerState::Waiting => SHOAL_WORKER_WAITING,
        WorkerState::Running => SHOAL_WORKER_RUNNING,
        WorkerState::Restarting => SHOAL_WORKER_RESTARTING,
        WorkerState::Ended => SHOAL_WORKER_ENDED,
        WorkerState::Failed => SHOAL_WORKER_FAILED,
    }
}

fn kind_of(kind: EventKind) -> u32 {
    match kind {
        EventKind::Started => SHOAL_WORKER_EVENT_STARTED,
        EventKind::Exited => SHOAL_WORKER_EVENT_EXITED,
        EventKind::Restarting => SHOAL_WORKER_EVENT_RESTARTING,
        EventKind::StartFailed => SHOAL_WORKER_EVENT_START_FAILED,
        EventKind::GaveUp => SHOAL_WORKER_EVENT_GAVE_UP,
        EventKind::Stopping => SHOAL_WORKER_EVENT_STOPPING,
        EventKind::Killing => SHOAL_WORKER_EVENT_KILLING,
        EventKind::GuardianLost => SHOAL_WORKER_EVENT_GUARDIAN_LOST,
    }
}

/// The kind and the code of an exit.
fn exit_of(exit: Option<Exit>) -> (u32, i32) {
    let exit = exit.map(process::Exit::from);
    exit.map_or((SHOAL_EXIT_UNKNOWN, -1), |it| (it.kind, it.code))
}

/// A duration of the options, which is a default if it is 0.
fn duration(ns: i64, default: Duration) -> Duration {
    match ns {
        0 => default,
        ns => args::duration(ns),
    }
}

/// # Safety
/// Every pointer is as the documentation of its field says.
unsafe fn workers(options: &SupervisorOptions) -> Result<Workers> {
    check_flags(
        options.flags,
        SHOAL_SUPERVISOR_KEEP_GOING | SHOAL_SUPERVISOR_PLAIN,
    )?;
    // SAFETY: the caller's contract.
    let program = unsafe { options::read(options.program) }?;
    let program = program.ok_or_else(|| Error::invalid("program", "it is NULL"))?;
    // SAFETY: the caller's contract.
    let (spawn, devices, part) = unsafe { spawn::program(&program) }?;
    let mut workers = Workers::new(&spawn, options.workers);
    workers
        .restart(match options.restart {
            SHOAL_RESTART_NEVER => Restart::Never,
            SHOAL_RESTART_ON_FAILURE => Restart::OnFailure,
            SHOAL_RESTART_ALWAYS => Restart::Always,
            other => {
                let why = format!(
                    "{other} is none of SHOAL_RESTART_NEVER, SHOAL_RESTART_ON_FAILURE and SHOAL_RESTART_ALWAYS"
                );
                return Err(Error::invalid("restart", why));
            }
        })
        .backoff(
            duration(options.backoff_ns, FIRST_DELAY),
            duration(options.max_backoff_ns, LONGEST_DELAY),
        )
        .healthy_after(duration(options.healthy_ns, HEALTHY))
        .grace(duration(options.grace_ns, GRACE));
    if options.max_restarts != 0 {
        workers.max_restarts(options.max_restarts);
    }
    if options.flags & SHOAL_SUPERVISOR_KEEP_GOING != 0 {
        workers.keep_going();
    }
    if options.flags & SHOAL_SUPERVISOR_PLAIN != 0 {
        workers.output(Output::Plain);
    }
    if let Some((family, mask)) = devices {
        workers.devices(family, mask);
    }
    if let Some(part) = part {
        workers.lease(&part.lease, part.mode);
    }
    Ok(workers)
}

/// Starts workers, one after the other, and returns once all of their programs run.
///
/// Each worker has the environment variables SHOAL_WORKER (its number, from 0), SHOAL_WORKERS (how many there
/// are) and SHOAL_WORKER_RESTARTS. Workers that are restarted have the environment, directory and descriptors
/// of this call. The call starts threads of this library, which end with the workers, and the guardian.
/// Ownership: `*out` is yours until `shoal_supervisor_free`.
///
/// Errors: as `shoal_process_spawn`, if a worker cannot be started: the others are killed then;
/// SHOAL_ERR_TOO_LARGE (more than 4096 workers); SHOAL_ERR_UNSUPPORTED (a sandbox or an emulator does not
/// let a child share this process's memory).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_start(
    options: *const SupervisorOptions,
    out: *mut *mut SupervisorHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::read(options) }?;
        let options = options.ok_or_else(|| Error::invalid("options", "it is NULL"))?;
        // SAFETY: the caller's contract.
        out.set(handle::new(unsafe { workers(&options) }?.start()?));
        Ok(())
    })
}

/// Waits until all workers have ended for good. Later calls return the same at once.
///
/// By then everything that the workers wrote has been passed on, and no process that they started is left.
/// `*end`: how they ended.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_wait(
    s: *mut SupervisorHandle,
    timeout_ns: i64,
    end: *mut WorkersOutcome,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (end, supervisor) = unsafe { (Out::optional("end", end)?, handle::get(s)?) };
        let (kind, worker, exit) = match supervisor.wait(args::timeout(timeout_ns))? {
            Outcome::Succeeded => (SHOAL_OUTCOME_SUCCEEDED, -1, None),
            Outcome::Stopped => (SHOAL_OUTCOME_STOPPED, -1, None),
            Outcome::Failed { worker, exit } => (SHOAL_OUTCOME_FAILED, worker as i64, Some(exit)),
        };
        let (exit_kind, exit_code) =
            exit.map_or((SHOAL_EXIT_EXITED, 0), |exit| exit_of(Some(exit)));
        end.set(WorkersOutcome {
            kind,
            exit_kind,
            exit_code,
            reserved: 0,
            worker,
        });
        Ok(())
    })
}

/// Ends all workers: sends them SIGTERM, kills those that still run after `grace_ns`, and waits until they
/// and every process that they started are gone. No worker is restarted.
///
/// `grace_ns`: 0 kills them at once, SHOAL_FOREVER never. A second call, also from another thread, can only
/// make the time shorter.
///
/// Errors: SHOAL_ERR_INTERRUPTED, SHOAL_ERR_CLOSED: the workers are still stopped, but the call does not wait
/// for that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_stop(s: *mut SupervisorHandle, grace_ns: i64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(s) }?.stop(args::timeout(grace_ns)))
}

/// As `shoal_supervisor_stop`, with another first signal than SIGTERM, and without waiting.
///
/// Errors: SHOAL_ERR_INVALID (no such signal).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_begin_stop(
    s: *mut SupervisorHandle,
    signal: c_int,
    grace_ns: i64,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(s) }?.begin_stop(signal, args::timeout(grace_ns)))
}

/// Sends a signal to the process group of a worker, or with SHOAL_EVERY_WORKER to those of all workers. A
/// worker that does not run gets no signal, which is no error. Does not wait.
///
/// Errors: SHOAL_ERR_INVALID (no such worker or signal).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_signal(
    s: *mut SupervisorHandle,
    worker: i64,
    signal: c_int,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let supervisor = unsafe { handle::get(s) }?;
        match worker {
            SHOAL_EVERY_WORKER => supervisor.signal(signal),
            _ => supervisor.signal_worker(number(worker)?, signal),
        }
    })
}

fn number(worker: i64) -> Result<usize> {
    let why = || Error::invalid("worker", format!("there is no worker {worker}"));
    usize::try_from(worker).map_err(|_| why())
}

/// What one worker is doing. Does not wait.
///
/// Errors: SHOAL_ERR_INVALID (no such worker).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_worker(
    s: *mut SupervisorHandle,
    worker: i64,
    out: *mut WorkerStatus,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe {
        let all = handle::get(s)?.workers()?;
        options::write(out, || {
            let status = all.get(number(worker)?).ok_or_else(|| {
                let why = format!(
                    "there is no worker {worker}: the last one is {}",
                    all.len() - 1
                );
                Error::invalid("worker", why)
            })?;
            let (exit_kind, exit_code) = exit_of(status.exit);
            Ok(WorkerStatus {
                size: 0,
                state: state_of(status.state),
                pid: status.pid,
                restarts: status.restarts,
                exit_kind,
                exit_code,
                reserved: 0,
            })
        })
    })
}

/// Takes the next event, and waits for it if there is none. At least the latest 1024 are kept.
///
/// Errors: SHOAL_ERR_END (all workers have ended for good, and every event was taken).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_event(
    s: *mut SupervisorHandle,
    timeout_ns: i64,
    out: *mut WorkerEvent,
) -> Status {
    guard_step(|| {
        // SAFETY: the caller's contract.
        let supervisor = unsafe { handle::get(s) }?;
        let mut is_over = false;
        // The place is checked before the event is taken.
        let make = || {
            let Some(event) = supervisor.next_event(args::timeout(timeout_ns))? else {
                is_over = true;
                // Not written: the call fails.
                return Err(Error::Timeout);
            };
            let mut text = [0; 256];
            let sentence = event.to_string();
            let shown = cut(&sentence, text.len() - 1);
            for (to, from) in text.iter_mut().zip(shown.bytes()) {
                *to = from as c_char;
            }
            let (exit_kind, exit_code) = exit_of(event.exit);
            Ok(WorkerEvent {
                size: 0,
                worker: event
                    .worker
                    .map_or(SHOAL_EVERY_WORKER, |worker| worker as i64),
                kind: kind_of(event.kind),
                pid: event.pid,
                exit_kind,
                exit_code,
                text,
            })
        };
        // SAFETY: the caller's contract.
        let done = unsafe { options::write(out, make) };
        if is_over {
            return Err(Failure::End);
        }
        Ok(done?)
    })
}

/// Stops the workers with `grace_ns` of the options, waits for that, and frees the handle; see "Freeing". In a
/// forked child only the child's copy is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_supervisor_free(s: *mut SupervisorHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(s) }
}
