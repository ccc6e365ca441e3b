//! How a program replaces this process, and the exit codes if a program cannot be started.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal::Error;

/// Whether the caller of this program ignores SIGPIPE. The standard library ignores it before `main`, and sets
/// its default action before it executes a program.
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

fn ignore_pipe() {
    // SAFETY: integers. It may be called at any time, and no handler of this signal is lost.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Replaces this process by the program, which ignores the signals that the caller of this one ignores.
/// Returns only if that failed: the exit code, and why.
pub(crate) fn replace(command: &mut Command) -> (u8, String) {
    if IGNORES_PIPE.load(Ordering::Relaxed) {
        let restore = || {
            ignore_pipe();
            Ok(())
        };
        // SAFETY: it runs in this process, right before the exec, and calls only `signal`.
        unsafe { command.pre_exec(restore) };
    }
    let err = command.exec();
    // So that writing the error message cannot end this process if its reader has closed the pipe.
    ignore_pipe();
    let program = command.get_program();
    match err.raw_os_error() {
        Some(libc::ENOENT) if exists(program) => {
            let why = "it exists, but the interpreter or loader it names does not";
            (NOT_RUNNABLE, why.to_owned())
        }
        Some(libc::ENOENT | libc::ENOTDIR) => (NOT_FOUND, err.to_string()),
        _ => (NOT_RUNNABLE, err.to_string()),
    }
}

/// Whether there is a file of this name, in `PATH` if it has no slash.
fn exists(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&path).any(|it| it.join(program).is_file())
}

/// The exit code if workers could not be started: that of [`replace`] if the reason is their program.
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
