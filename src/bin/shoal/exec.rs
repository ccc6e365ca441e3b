//! How a program replaces this process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process by the program. Returns only if that failed.
pub(crate) fn replace(command: &mut Command) -> io::Error {
    let err = command.exec();
    // The standard library has set its default action, for the program. The message about the error shall not
    // end this process where nobody reads it.
    // SAFETY: no handler is installed, and this thread is the only one that changes this signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    err
}
