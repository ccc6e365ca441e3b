//! How a program replaces this process, and the exit codes if a program cannot be started.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use shoal::Error;

/// A shell's exit codes for a program that it cannot find, and for one that it cannot run.
pub(crate) const NOT_FOUND: u8 = 127;
pub(crate) const NOT_RUNNABLE: u8 = 126;
/// The exit code of `env`, `timeout` and similar programs when they fail themselves.
pub(crate) const REFUSED: u8 = 125;

/// Replaces this process by the program. Returns only if that failed: the exit code, and why.
pub(crate) fn replace(command: &mut Command) -> (u8, String) {
    let err = command.exec();
    // The standard library has set its default action, for the program. The message about the error shall not
    // end this process where nobody reads it.
    // SAFETY: no handler is installed, and this thread is the only one that changes this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let program = command.get_program();
    match err.raw_os_error() {
        Some(libc::ENOENT) if is_there(program) => {
            let why = "it exists, but the interpreter or loader it names does not";
            (NOT_RUNNABLE, why.to_owned())
        }
        Some(libc::ENOENT | libc::ENOTDIR) => (NOT_FOUND, err.to_string()),
        _ => (NOT_RUNNABLE, err.to_string()),
    }
}

/// Whether there is a file of this name, in `PATH` if it has no slash.
fn is_there(program: &OsStr) -> bool {
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
