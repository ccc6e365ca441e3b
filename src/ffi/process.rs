//! Process
//!
//! Programs that are started, and copies of this process.
//!
//! Killed: A program that was being started runs or does not. Children go on, except with
//! SHOAL_SPAWN_DIE_WITH_PARENT; the system collects their exits.
//!
//! ```c
//! const char *argv[] = {"python3", "work.py", NULL};
//! shoal_spawn_options options = {.size = sizeof options, .argv = argv,
//!                                .device_family = "cuda", .device_mask = "0"};
//! shoal_process *child;
//! shoal_exit end;
//! if (shoal_process_spawn(&options, &child) == SHOAL_OK) {
//!     if (shoal_process_join(child, SHOAL_FOREVER, &end) == SHOAL_OK && end.code == 0)
//!         puts("done");
//!     shoal_process_free(child);
//! }
//! ```

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd};

use super::args::{self, Out};
use super::handle::{self, Inner, opaque};
use super::options;
use super::spawn::{self, SpawnOptions};
use super::status::{guard, guard_shielded};
use crate::error::{Error, Status};
use crate::process::{self, ExitKind, ForkOptions, Process};

/// A child process.
pub struct ProcessHandle {
    _opaque: [u8; 0],
}

opaque!(ProcessHandle, Process, b"shl.proc");

impl Inner for Process {}

/// In `shoal_exit.kind`: the process ended by itself; `code` is its exit code, 0 to 255.
pub const SHOAL_EXIT_EXITED: u32 = 0;

/// In `shoal_exit.kind`: a signal killed it; `code` is the signal.
pub const SHOAL_EXIT_SIGNALED: u32 = 1;

/// In `shoal_exit.kind`: it is gone, but its exit was collected by something else, such as a `wait` of
/// this program for any child, or the kernel where SIGCHLD is ignored; `code` is -1. Since Linux 6.15 the
/// exit is known all the same, except of a forked child that ends at once.
pub const SHOAL_EXIT_UNKNOWN: u32 = 2;

/// The end of a process.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// SHOAL_EXIT_EXITED, SHOAL_EXIT_SIGNALED or SHOAL_EXIT_UNKNOWN.
    pub kind: u32,
    /// The exit code, the number of the signal, or -1.
    pub code: i32,
}

impl From<process::Exit> for Exit {
    fn from(exit: process::Exit) -> Self {
        Self {
            kind: match exit.kind {
                ExitKind::Exited => SHOAL_EXIT_EXITED,
                ExitKind::Signaled => SHOAL_EXIT_SIGNALED,
                ExitKind::Unknown => SHOAL_EXIT_UNKNOWN,
            },
            code: exit.code,
        }
    }
}

/// Starts a program, and returns once it runs: one that cannot be executed is an error here. `/bin/sh` runs
/// a script without a `#!` line. The child always has descriptors 0, 1 and 2.
///
/// It waits for the exec only, and runs no signal handler meanwhile. If the child has pipes, a fork in
/// another thread waits for the exec too. With SHOAL_SPAWN_DIE_WITH_PARENT the first call starts a thread
/// that stays.
/// Ownership: `*out` is yours until `shoal_process_free`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (program, directory or device family); SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_INVALID (an option, mask, name or descriptor; the file is no program); SHOAL_ERR_UNSUPPORTED
/// (a family whose devices cannot all be hidden); SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_spawn(
    options: *const SpawnOptions,
    out: *mut *mut ProcessHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::read(options) }?;
        let options = options.ok_or_else(|| Error::invalid("options", "it is NULL"))?;
        // SAFETY: the caller's contract.
        out.set(handle::new(unsafe { spawn::spawn(&options) }?.spawn()?));
        Ok(())
    })
}

/// Copies this process; the copy runs `entry(arg)` and exits with the low 8 bits of what it returns.
///
/// Buffered output is flushed before the fork. The child leaves without running this process's exit
/// handlers. `entry` must not throw, nor jump out with longjmp. Only the calling thread exists in the
/// child: if there are others, `entry` must not use what they may have locked, except this library and
/// malloc.
///
/// `options`: NULL, or a struct in which only the devices, the lease and of the flags
/// SHOAL_SPAWN_NEW_GROUP and SHOAL_SPAWN_DIE_WITH_PARENT (here tied to the calling thread) may be set.
/// Ownership: `arg` is passed on untouched. `*out` is yours until `shoal_process_free`; in the child it
/// stays NULL.
///
/// Errors: SHOAL_ERR_INVALID (NULL `entry`, an option or mask); SHOAL_ERR_NOT_FOUND (device family);
/// SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_fork(
    entry: Option<unsafe extern "C" fn(arg: *mut c_void) -> c_int>,
    arg: *mut c_void,
    options: *const SpawnOptions,
    out: *mut *mut ProcessHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        let entry = entry.ok_or_else(|| Error::invalid("entry", "it is NULL"))?;
        // SAFETY: the caller's contract.
        let options = match unsafe { options::read(options) }? {
            // SAFETY: the caller's contract.
            Some(options) => unsafe { spawn::fork(&options) }?,
            None => ForkOptions::default(),
        };
        // SAFETY: the caller answers for what `entry` does in the child.
        let child = unsafe { process::fork(&options, || entry(arg)) }?;
        out.set(handle::new(child));
        Ok(())
    })
}

/// Waits until a process has ended, and reports how. Later calls return the same at once.
///
/// `*end`: how it ended. In a forked copy of this process it is SHOAL_EXIT_UNKNOWN.
/// A child that fills a pipe which no process reads never ends.
///
/// Errors: SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_join(
    p: *mut ProcessHandle,
    timeout_ns: i64,
    end: *mut Exit,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (end, process) = unsafe { (Out::optional("end", end)?, handle::get(p)?) };
        let exit = process.join(args::timeout(timeout_ns))?;
        end.set(exit.into());
        Ok(())
    })
}

/// The number of the process. After a join it may belong to another process.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_pid(p: *mut ProcessHandle, out: *mut i32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, process) = unsafe { (Out::new("out", out)?, handle::get(p)?) };
        out.set(process.pid());
        Ok(())
    })
}

/// The descriptor of the process, for event loops: it is readable once the process has ended.
///
/// Ownership: the descriptor is the handle's. Do not close it, and do not wait through it.
///
/// Errors: SHOAL_ERR_NOT_FOUND (the process was gone before it could be opened).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_fd(p: *mut ProcessHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, process) = unsafe { (Out::new("out", out)?, handle::get(p)?) };
        let fd = process.pidfd().ok_or_else(|| Error::NotFound {
            what: "process",
            name: process.pid().to_string(),
        })?;
        out.set(fd.as_raw_fd());
        Ok(())
    })
}

/// Sends a signal to the process, or with `group` also to its descendants that stayed in its group. If the
/// process has ended, nothing is sent, which is no error. The signal never reaches another process that was
/// given the same number.
///
/// Errors: SHOAL_ERR_INVALID (no such signal; with `group`: it was not started with
/// SHOAL_SPAWN_NEW_GROUP or SHOAL_SPAWN_NEW_SESSION, was joined, or this is a forked copy of its parent);
/// SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_signal(
    p: *mut ProcessHandle,
    signal: c_int,
    group: bool,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let process = unsafe { handle::get(p) }?;
        match group {
            false => process.signal(signal),
            true => process.signal_group(signal),
        }
    })
}

/// Gives the caller this process's end of a pipe that was requested with SHOAL_STDIO_PIPE.
///
/// `which`: 0 gives the end to write the child's input to, 1 and 2 those to read its output and its errors
/// from.
/// Ownership: `*fd` is yours to close. Pipes that are never taken are closed with the handle.
///
/// Errors: SHOAL_ERR_NOT_FOUND (it is no pipe, or was given already).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_stdio(
    p: *mut ProcessHandle,
    which: c_int,
    fd: *mut c_int,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (fd, process) = unsafe { (Out::new("fd", fd)?, handle::get(p)?) };
        let (stream, taken) = match which {
            0 => ("stdin", process.take_stdin()),
            1 => ("stdout", process.take_stdout()),
            2 => ("stderr", process.take_stderr()),
            _ => return Err(Error::invalid("which", format!("{which} is not 0, 1 or 2"))),
        };
        let taken = taken.ok_or_else(|| Error::NotFound {
            what: "pipe",
            name: stream.to_owned(),
        })?;
        fd.set(taken.into_raw_fd());
        Ok(())
    })
}

/// Frees the handle, with its descriptor and its pipes; see "Freeing". A process that still runs continues,
/// and its exit is collected later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_free(p: *mut ProcessHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(p) }
}
