//! How a program replaces this process, and the exit codes if a program cannot be started.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal::{Error, Spawn};

/// Whether the caller of this program ignores SIGPIPE. The standard library ignores it before `main`.
static IGNORES_PIPE: AtomicBool = AtomicBool::new(false);

/// Runs before the standard library does anything.
#[used]
// The section has functions of this type. This one makes a system call only.
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

extern "C" fn note() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` has room for one. All of its bytes may be zero, as they are if the call fails.
    let action = unsafe {
        libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    IGNORES_PIPE.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
}

/// A shell's exit codes for a program that it cannot find, and for one that it cannot run.
pub(crate) const NOT_FOUND: u8 = 127;
pub(crate) const NOT_RUNNABLE: u8 = 126;
/// The exit code of `env`, `timeout` and similar programs when they fail themselves.
pub(crate) const REFUSED: u8 = 125;

fn on_pipe(action: libc::sighandler_t) {
    // SAFETY: integers. It may be called at any time, and no handler of this signal is lost.
    unsafe { libc::signal(libc::SIGPIPE, action) };
}

/// Replaces this process by the program, which ignores the signals that the caller of this one ignores.
/// Returns only if that failed.
pub(crate) fn replace(program: &Spawn) -> Error {
    if !IGNORES_PIPE.load(Ordering::Relaxed) {
        on_pipe(libc::SIG_DFL);
    }
    let err = program.replace_process();
    // So that writing the error message cannot end this process if its reader has closed the pipe.
    on_pipe(libc::SIG_IGN);
    err
}

/// The exit code if a program could not be started.
pub(crate) fn code_of(err: &Error) -> u8 {
    match err {
        Error::NotFound { what, .. } if *what == "program" => NOT_FOUND,
        // The name is empty.
        Error::Invalid { what, .. } if what == "program" => NOT_FOUND,
        Error::Invalid { what, .. } if what.starts_with("program ") => NOT_RUNNABLE,
        Error::Permission { .. } | Error::Os { call: "exec", .. } => NOT_RUNNABLE,
        _ => REFUSED,
    }
}
