//! `shoal_process`: shims over [`Spawn`], [`fork`](crate::process::fork) and [`Process`].

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;

use super::args::{self, Out};
use super::handle::{self, opaque};
use super::options::{self, Sized, check_flags};
use super::status::guard;
use crate::error::{Error, Result, Status};
use crate::process::{self, ExitKind, ForkOptions, Process, Spawn, Stdio};

/// A child process.
pub struct ProcessHandle {
    _opaque: [u8; 0],
}

opaque!(ProcessHandle, Process, b"shl.proc", "process handle");

/// The child leads a process group of its own: `shoal_process_signal_group` reaches all of
/// it, and the terminal's Ctrl-C does not.
pub const SHOAL_SPAWN_NEW_GROUP: u64 = 1;

/// The child leads a session of its own, without a terminal, and a group.
pub const SHOAL_SPAWN_NEW_SESSION: u64 = 2;

/// The kernel kills the child when this process ends, however it ends.
pub const SHOAL_SPAWN_DIE_WITH_PARENT: u64 = 4;

/// Ignored signals stay ignored and blocked ones blocked, instead of starting afresh.
pub const SHOAL_SPAWN_KEEP_SIGNALS: u64 = 8;

/// In `stdio`: the same as this process's. For descriptor n write SHOAL_STDIO_FD(n).
pub const SHOAL_STDIO_INHERIT: i32 = 0;

/// In `stdio`: reads find the end, writes vanish.
pub const SHOAL_STDIO_NULL: i32 = -1;

/// In `stdio`: a pipe, whose other end `shoal_process_stdio` gives.
pub const SHOAL_STDIO_PIPE: i32 = -2;

/// In `shoal_exit.kind`: the process ended by itself; `code` is its exit code, 0 to 255.
pub const SHOAL_EXIT_EXITED: u32 = 0;

/// In `shoal_exit.kind`: a signal killed it; `code` is the signal.
pub const SHOAL_EXIT_SIGNALED: u32 = 1;

/// In `shoal_exit.kind`: it is gone, but something else collected its exit; `code` is -1.
pub const SHOAL_EXIT_UNKNOWN: u32 = 2;

/// A descriptor for a child.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FdMap {
    /// The descriptor in this process; it stays yours.
    pub from: i32,
    /// Its number in the child, 3 to 1023.
    pub to: i32,
}

/// A child to be started. All zero but `size` and `file`, or `argv`, is a child like any
/// other.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SpawnOptions {
    /// `sizeof(shoal_spawn_options)`.
    pub size: usize,
    /// The program; without a '/' it is looked for in the PATH the child will have. NULL is
    /// `argv[0]`.
    pub file: *const c_char,
    /// What the program gets as its argv, its name first, NULL last. NULL is just `file`.
    pub argv: *const *const c_char,
    /// Its whole environment, as "NAME=value", NULL last. NULL is that of this process.
    pub envp: *const *const c_char,
    /// Variables set on top, as "NAME=value", NULL last; or NULL.
    pub env_set: *const *const c_char,
    /// Names of variables removed then, NULL last; or NULL.
    pub env_unset: *const *const c_char,
    /// The directory it starts in; NULL is that of this process.
    pub cwd: *const c_char,
    /// Its standard input, output and error: SHOAL_STDIO_INHERIT (0), SHOAL_STDIO_NULL,
    /// SHOAL_STDIO_PIPE or SHOAL_STDIO_FD(n).
    pub stdio: [i32; 3],
    /// How many `fds` there are.
    pub n_fds: u32,
    /// Descriptors to give it beside 0, 1 and 2. All others are closed in it.
    pub fds: *const FdMap,
    /// SHOAL_SPAWN_NEW_GROUP, ...
    pub flags: u64,
    /// The family of devices that `device_mask` is about, such as "cuda"; NULL leaves the
    /// child with the devices of this process.
    pub device_family: *const c_char,
    /// The devices of that family the child sees, counted in what this process sees: "0,2";
    /// "" hides all.
    pub device_mask: *const c_char,
}

// SAFETY: integers and pointers, the first a `usize`.
unsafe impl Sized for SpawnOptions {
    const WHAT: &'static str = "shoal_spawn_options.size";
    const FIRST: usize = 112;
}

/// The end of a process.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// SHOAL_EXIT_EXITED, SHOAL_EXIT_SIGNALED or SHOAL_EXIT_UNKNOWN.
    pub kind: u32,
    /// The exit code, the number of the signal, or -1.
    pub code: i32,
}

/// # Safety
/// As [`args::text_or_null`].
unsafe fn os_text<'a>(text: *const c_char) -> Option<&'a OsStr> {
    // SAFETY: not NULL, and the caller's contract.
    (!text.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

/// The strings of an array that ends with NULL.
///
/// # Safety
/// `array` is NULL, or ends with NULL and each element before is a string.
unsafe fn strings<'a>(
    what: &'static str,
    array: *const *const c_char,
) -> Result<Option<Vec<&'a OsStr>>> {
    if array.is_null() {
        return Ok(None);
    }
    args::checked(what, array)?;
    // SAFETY: the caller's contract: every element up to the NULL is there.
    let each = (0..).map_while(|i| unsafe { os_text(*array.add(i)) });
    Ok(Some(each.collect()))
}

/// Splits "NAME=value".
fn assignment<'a>(what: &'static str, text: &'a OsStr) -> Result<(&'a OsStr, &'a OsStr)> {
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|&byte| byte == b'=') else {
        return Err(Error::invalid(what, format!("{text:?} has no '='")));
    };
    let (name, value) = (&bytes[..at], &bytes[at + 1..]);
    Ok((OsStr::from_bytes(name), OsStr::from_bytes(value)))
}

fn stdio(code: i32) -> Result<Stdio> {
    match code {
        SHOAL_STDIO_INHERIT => Ok(Stdio::Inherit),
        SHOAL_STDIO_NULL => Ok(Stdio::Null),
        SHOAL_STDIO_PIPE => Ok(Stdio::Pipe),
        1.. => Ok(Stdio::Fd(code - 1)),
        _ => Err(Error::invalid("stdio", format!("{code} stands for nothing"))),
    }
}

/// # Safety
/// As [`args::text_or_null`], for both.
unsafe fn devices(options: &SpawnOptions) -> Result<Option<(String, String)>> {
    // SAFETY: the same contract.
    let family = unsafe { args::text_or_null("device_family", options.device_family) }?;
    // SAFETY: the same contract.
    let mask = unsafe { args::text_or_null("device_mask", options.device_mask) }?;
    match (family, mask) {
        (None, None) => Ok(None),
        (Some(family), Some(mask)) => Ok(Some((family.to_owned(), mask.to_owned()))),
        (Some(_), None) => Err(Error::invalid("device_mask", "it is NULL, the family is not")),
        (None, Some(_)) => Err(Error::invalid("device_family", "it is NULL, the mask is not")),
    }
}

/// The description of a child in Rust.
///
/// # Safety
/// Every pointer is as the documentation of its field says.
unsafe fn description(options: &SpawnOptions) -> Result<Spawn> {
    let known = SHOAL_SPAWN_NEW_GROUP
        | SHOAL_SPAWN_NEW_SESSION
        | SHOAL_SPAWN_DIE_WITH_PARENT
        | SHOAL_SPAWN_KEEP_SIGNALS;
    check_flags(options.flags, known)?;
    // SAFETY: the caller's contract.
    let argv = unsafe { strings("argv", options.argv) }?.unwrap_or_default();
    // SAFETY: the caller's contract.
    let file = unsafe { os_text(options.file) }.or(argv.first().copied());
    let file = file.ok_or_else(|| Error::invalid("file", "it is NULL, and so is argv[0]"))?;

    let mut spawn = Spawn::new(file);
    if let Some((name, rest)) = argv.split_first() {
        spawn.arg0(name).args(rest);
    }
    // SAFETY: the caller's contract.
    if let Some(envp) = unsafe { strings("envp", options.envp) }? {
        spawn.env_clear();
        for text in envp {
            let (name, value) = assignment("envp", text)?;
            spawn.env(name, value);
        }
    }
    // SAFETY: the caller's contract.
    for text in unsafe { strings("env_set", options.env_set) }?.unwrap_or_default() {
        let (name, value) = assignment("env_set", text)?;
        spawn.env(name, value);
    }
    // SAFETY: the caller's contract.
    for name in unsafe { strings("env_unset", options.env_unset) }?.unwrap_or_default() {
        spawn.env_remove(name);
    }
    // SAFETY: the caller's contract.
    if let Some(cwd) = unsafe { os_text(options.cwd) } {
        spawn.cwd(cwd);
    }
    spawn.stdin(stdio(options.stdio[0])?);
    spawn.stdout(stdio(options.stdio[1])?);
    spawn.stderr(stdio(options.stdio[2])?);
    // SAFETY: the caller's contract.
    let fds = unsafe { args::array_mut("fds", options.fds.cast_mut(), options.n_fds as usize) }?;
    for fd in fds {
        spawn.fd(fd.from, fd.to);
    }
    // SAFETY: the caller's contract.
    if let Some((family, mask)) = unsafe { devices(options) }? {
        spawn.devices(family, mask);
    }
    let has = |flag| options.flags & flag != 0;
    if has(SHOAL_SPAWN_NEW_GROUP) {
        spawn.new_group();
    }
    if has(SHOAL_SPAWN_NEW_SESSION) {
        spawn.new_session();
    }
    if has(SHOAL_SPAWN_DIE_WITH_PARENT) {
        spawn.die_with_parent();
    }
    if has(SHOAL_SPAWN_KEEP_SIGNALS) {
        spawn.keep_signals();
    }
    Ok(spawn)
}

/// Starts a program.
///
/// Returns once the program runs, so one that cannot be executed is an error here. Whatever
/// is wrong with the options, device masks included, is an error before a process exists.
///
/// Blocking, threads, fork: waits for the exec only; safe everywhere. With
/// SHOAL_SPAWN_DIE_WITH_PARENT the first call starts a thread that stays.
/// Ownership: `options` and what it points to are copied. `*out` is yours until
/// `shoal_process_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_NOT_FOUND (program, directory or device family); SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_INVALID (an option, mask, name or descriptor; or the file is no program);
/// SHOAL_ERR_UNSUPPORTED (a family whose devices cannot all be hidden); SHOAL_ERR_OS.
///
/// ```c
/// const char *argv[] = {"python3", "work.py", NULL};
/// shoal_spawn_options options = {0};
/// options.size = sizeof options;
/// options.argv = argv;
/// options.device_family = "cuda";
/// options.device_mask = "0";
/// shoal_process *child;
/// shoal_status status = shoal_process_spawn(&options, &child);
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_spawn(
    options: *const SpawnOptions,
    out: *mut *mut ProcessHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::read(options) }?;
        let options = options.ok_or_else(|| Error::invalid("options", "it is NULL"))?;
        // SAFETY: the caller's contract.
        out.set(handle::new(unsafe { description(&options) }?.spawn()?));
        Ok(())
    })
}

/// Copies this process; the copy runs `entry(arg)` and exits with the low 8 bits of what it
/// returns.
///
/// Buffered output is flushed before the fork. The child leaves without running this
/// process's exit handlers. `entry` must not throw, and must not jump out with longjmp.
///
/// `options`: NULL, or a struct in which only `device_family`, `device_mask` and of the flags
/// SHOAL_SPAWN_NEW_GROUP and SHOAL_SPAWN_DIE_WITH_PARENT (which here is tied to the calling
/// thread) may be set.
/// Blocking, threads, fork: does not wait. Only the calling thread exists in the child: if
/// there are others, `entry` must not use what they may have locked, but for this library
/// and malloc.
/// Ownership: `arg` is passed on untouched. `*out` is yours until `shoal_process_free`; NULL
/// after a failure. In the child it stays NULL.
///
/// Errors: SHOAL_ERR_INVALID (NULL `entry`, an option or mask); SHOAL_ERR_NOT_FOUND (device
/// family); SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_OS.
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
            Some(options) => unsafe { fork_options(&options) }?,
            None => ForkOptions::default(),
        };
        // SAFETY: the caller answers for what `entry` does in the child.
        let child = unsafe { process::fork(&options, || entry(arg)) }?;
        out.set(handle::new(child));
        Ok(())
    })
}

/// # Safety
/// The device strings are as the documentation of their fields says.
unsafe fn fork_options(options: &SpawnOptions) -> Result<ForkOptions> {
    check_flags(options.flags, SHOAL_SPAWN_NEW_GROUP | SHOAL_SPAWN_DIE_WITH_PARENT)?;
    let arrays = [options.argv, options.envp, options.env_set, options.env_unset];
    let unused = options.file.is_null()
        && options.cwd.is_null()
        && arrays.iter().all(|array| array.is_null())
        && options.stdio == [SHOAL_STDIO_INHERIT; 3]
        && options.n_fds == 0;
    if !unused {
        let why = "a forked child takes only devices, SHOAL_SPAWN_NEW_GROUP and \
                   SHOAL_SPAWN_DIE_WITH_PARENT";
        return Err(Error::invalid("options", why));
    }
    Ok(ForkOptions {
        // SAFETY: the caller's contract.
        devices: unsafe { devices(options) }?.into_iter().collect(),
        die_with_parent: options.flags & SHOAL_SPAWN_DIE_WITH_PARENT != 0,
        new_group: options.flags & SHOAL_SPAWN_NEW_GROUP != 0,
    })
}

/// Waits until a process has ended, and tells how. Later calls tell the same at once.
///
/// `*out`: how it ended; NULL if you do not care.
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until it has ended or the time is over; several threads may.
/// In a forked copy of this process the exit is SHOAL_EXIT_UNKNOWN. A child that fills a pipe
/// nobody reads never ends.
///
/// Errors: SHOAL_ERR_TIMEOUT (it still runs, with SHOAL_NOWAIT too); SHOAL_ERR_INTERRUPTED;
/// SHOAL_ERR_INVALID; SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_join(
    p: *mut ProcessHandle,
    timeout_ns: i64,
    out: *mut Exit,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, process) = unsafe { (Out::optional("out", out)?, handle::get(p)?) };
        let exit = process.join(args::timeout(timeout_ns))?;
        let kind = match exit.kind {
            ExitKind::Exited => SHOAL_EXIT_EXITED,
            ExitKind::Signaled => SHOAL_EXIT_SIGNALED,
            ExitKind::Unknown => SHOAL_EXIT_UNKNOWN,
        };
        let code = exit.code;
        out.set(Exit { kind, code });
        Ok(())
    })
}

/// The process's number. After a join it may belong to another process.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
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

/// The process's descriptor, for an event loop: it polls readable once the process has ended.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the descriptor is the handle's. Do not close it, and do not wait through it.
///
/// Errors: SHOAL_ERR_NOT_FOUND (the process was gone before it could be opened);
/// SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_pidfd(p: *mut ProcessHandle, out: *mut c_int) -> Status {
    guard(|| {
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

/// Sends a signal to the process. If it has ended, nothing is sent, and that is no error.
///
/// Blocking, threads, fork: never blocks; safe everywhere. Never reaches another process that
/// was given the same number.
///
/// Errors: SHOAL_ERR_INVALID (also: no such signal); SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_signal(p: *mut ProcessHandle, signal: c_int) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(p)?.signal(signal) })
}

/// Sends a signal to the process and to its descendants that stayed in its group.
///
/// Blocking, threads, fork: never blocks; safe from any thread, not from a forked copy.
///
/// Errors: SHOAL_ERR_INVALID (it was not started with SHOAL_SPAWN_NEW_GROUP or
/// SHOAL_SPAWN_NEW_SESSION, or was joined; no such signal); SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_signal_group(
    p: *mut ProcessHandle,
    signal: c_int,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(p)?.signal_group(signal) })
}

/// Asks the process to end, with SIGTERM. As `shoal_process_signal`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_terminate(p: *mut ProcessHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(p)?.terminate() })
}

/// Ends the process at once, with SIGKILL. As `shoal_process_signal`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_kill(p: *mut ProcessHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::get(p)?.kill() })
}

/// Hands over this process's end of a pipe that was asked for with SHOAL_STDIO_PIPE.
///
/// `which`: 0 gives the end to write the child's input to, 1 and 2 those to read its output
/// and its errors from.
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: `*fd` is yours to close. Pipes that are never asked for close with the handle.
///
/// Errors: SHOAL_ERR_NOT_FOUND (it is no pipe, or was handed over already);
/// SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_stdio(
    p: *mut ProcessHandle,
    which: c_int,
    fd: *mut c_int,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (fd, process) = unsafe { (Out::new("fd", fd)?, handle::get(p)?) };
        let taken = match which {
            0 => process.take_stdin(),
            1 => process.take_stdout(),
            2 => process.take_stderr(),
            _ => return Err(Error::invalid("which", format!("{which} is not 0, 1 or 2"))),
        };
        let name = || which.to_string();
        let taken = taken.ok_or_else(|| Error::NotFound { what: "pipe", name: name() })?;
        fd.set(taken.into_raw_fd());
        Ok(())
    })
}

/// Lets go of a process. If it still runs it goes on, and its exit is collected later.
///
/// Blocking, threads, fork: does not wait. No other thread may be using the handle.
/// Ownership: `p` is gone, with its descriptor and its pipes; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_process_free(p: *mut ProcessHandle) {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::free(p) });
}
