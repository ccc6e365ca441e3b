//! Ctrl-C and similar signals end a command in order: the terminal is restored, shared objects are left
//! consistent, and the shell sees that a signal ended the command.
//!
//! The first signal sets a flag, which every loop and every wait of a command checks. A second one ends the
//! process at once, in case the first is not noticed; shared memory stays consistent then, too.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use shoal::Timeout;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::failure::Failure;
use crate::streams;

/// How long a sleep lasts before it checks for a signal.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
/// The same for a wait of the library. A signal ends such a wait, unless it comes between the check and the wait.
const WAIT: Duration = Duration::from_secs(1);

/// See [`code_of`].
const SIGNALED: i32 = 128;

static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// The signals that end a command.
pub(crate) const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// Whether a signal ends the first process of a container at once. See [`end_at_once`].
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes the signals set the flag from now on, unless they are ignored.
pub(crate) fn install() {
    let signal = SIGNAL.get_or_init(Arc::default);
    let once = Arc::new(AtomicBool::new(false));
    unblock(&ENDING);
    for which in not_ignored(&ENDING) {
        // In this order: the first signal finds the flag unset. Where a handler cannot be installed, the
        // signal ends the process.
        let _ = match is_first_process() {
            true => {
                let code = i32::from(code_of(which));
                signal_hook::flag::register_conditional_shutdown(which, code, Arc::clone(&once))
            }
            false => signal_hook::flag::register_conditional_default(which, Arc::clone(&once)),
        };
        let _ = signal_hook::flag::register(which, Arc::clone(&once));
        let _ = signal_hook::flag::register_usize(which, Arc::clone(signal), which as usize);
    }
}

/// Makes the signals end this process as they end others, for commands that do not handle them: the first process
/// of a container has no default actions. A program that replaces this one has no handlers.
pub(crate) fn end_at_once() {
    if !is_first_process() {
        return;
    }
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for which in not_ignored(&ENDING) {
        let code = i32::from(code_of(which));
        let at_once = Arc::clone(at_once);
        let _ = signal_hook::flag::register_conditional_shutdown(which, code, at_once);
    }
}

/// Takes [`end_at_once`] back, for a command that handles the signals from now on.
pub(crate) fn end_no_more_at_once() {
    if let Some(at_once) = AT_ONCE.get() {
        at_once.store(false, Ordering::Relaxed);
    }
}

/// Lets this thread, and those that it starts, get these signals, which the caller of this program may have
/// blocked.
pub(crate) fn unblock(signals: &[i32]) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set; the rest are numbers of signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Those of `signals` that the caller of this program, such as `nohup`, does not ignore.
pub(crate) fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_ignored = |signal: i32| ignored.unwrap_or(0) & 1 << (signal - 1) != 0;
    let all = signals.iter().copied();
    all.filter(|&signal| !is_ignored(signal)).collect()
}

/// The signal that asked the command to end.
pub(crate) fn signal() -> Option<i32> {
    let signal = SIGNAL.get()?.load(Ordering::SeqCst);
    (signal != 0).then_some(signal as i32)
}

/// Fails once a signal has come.
pub(crate) fn check() -> Result<(), Failure> {
    signal().map_or(Ok(()), |it| Err(Failure::Signal(it)))
}

/// Ends the process by the signal, or returns the exit code for it.
pub(crate) fn end_by(signal: i32) -> ExitCode {
    if !is_first_process() {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    ExitCode::from(code_of(signal))
}

/// Whether this is process 1 of a container. It cannot be killed by a signal that it sends to itself: the kernel
/// drops those that have no handler.
fn is_first_process() -> bool {
    std::process::id() == 1
}

/// A shell's exit code for a program that the signal ended.
pub(crate) fn code_of(signal: i32) -> u8 {
    u8::try_from(SIGNALED + signal).unwrap_or(u8::MAX)
}

/// Sleeps, until a signal comes.
pub(crate) fn sleep(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(SLICE));
    }
}

/// Waits by `wait`, which is given the time that it may take, for `limit` at most; `None` means forever.
pub(crate) fn wait<T>(
    limit: Option<Duration>,
    wait: impl FnMut(Timeout) -> shoal::Result<T>,
) -> Result<T, Failure> {
    wait_while(check, limit, wait)
}

/// The same, for a command that then prints something: it also ends when nobody can read that.
pub(crate) fn wait_to_print<T>(
    limit: Option<Duration>,
    wait: impl FnMut(Timeout) -> shoal::Result<T>,
) -> Result<T, Failure> {
    wait_while(check_reader, limit, wait)
}

/// Fails once a signal has come, or nobody reads the standard output.
pub(crate) fn check_reader() -> Result<(), Failure> {
    check()?;
    match streams::has_no_reader() {
        true => Err(Failure::NoReader),
        false => Ok(()),
    }
}

fn wait_while<T>(
    check: impl Fn() -> Result<(), Failure>,
    limit: Option<Duration>,
    mut wait: impl FnMut(Timeout) -> shoal::Result<T>,
) -> Result<T, Failure> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        check()?;
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let slice = left.map_or(WAIT, |left| left.min(WAIT));
        match wait(Timeout::Val(slice)) {
            Err(shoal::Error::Timeout) if left.is_none_or(|left| !left.is_zero()) => {}
            Err(shoal::Error::Interrupted) => {}
            done => return Ok(done?),
        }
    }
}
