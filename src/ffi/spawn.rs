//! `shoal_spawn_options`: how C describes a child.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;

use super::args;
use super::handle;
use super::lease::{self, LeaseHandle};
use super::options::{check_flags, sized};
use crate::error::{Error, Result};
use crate::process::{ForkOptions, LeasePart, Spawn, Stdio};

/// In `shoal_spawn_options.flags`: the child leads a process group of its own: `shoal_process_signal` with
/// `group` reaches all of it, and the terminal's Ctrl-C does not.
pub const SHOAL_SPAWN_NEW_GROUP: u64 = 1;

/// In `flags`: the child leads a session of its own, without a terminal, and a group.
pub const SHOAL_SPAWN_NEW_SESSION: u64 = 2;

/// In `flags`: the kernel kills the child when this process ends, however it ends, and when it executes another
/// program. Children of the child are not covered, nor is a program that changes its user.
pub const SHOAL_SPAWN_DIE_WITH_PARENT: u64 = 4;

/// In `flags`: ignored signals stay ignored and blocked signals stay blocked, instead of being reset.
pub const SHOAL_SPAWN_KEEP_SIGNALS: u64 = 8;

/// In `stdio`: the same as this process's, also where that is marked close-on-exec; as
/// SHOAL_STDIO_NULL where this process has closed it. For descriptor n write SHOAL_STDIO_FD(n).
pub const SHOAL_STDIO_INHERIT: i32 = 0;

/// In `stdio`: the null device.
pub const SHOAL_STDIO_NULL: i32 = -1;

/// In `stdio`: a pipe, whose other end `shoal_process_stdio` gives.
pub const SHOAL_STDIO_PIPE: i32 = -2;

/// SHOAL_STDIO_FD(n) is n with this bit reversed, so that the -1 of an `open` that failed is none of the above, and
/// is refused.
pub const SHOAL_STDIO_IS_FD: i32 = 0x4000_0000;

/// A descriptor for a child.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct FdMap {
    /// The descriptor in this process; it stays yours.
    pub from: i32,
    /// Its number in the child, 3 to 1023.
    pub to: i32,
}

/// A child to be started. Fields that are zero have the defaults; only `size`, and `file` or `argv`, must be
/// set.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SpawnOptions {
    /// `sizeof(shoal_spawn_options)`.
    pub size: usize,
    /// The program; a name without '/' is searched in the PATH that the child will have. NULL is `argv[0]`.
    pub file: *const c_char,
    /// The program's argv: its name first, NULL last. NULL means only `file`.
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
    /// Descriptors to give the child in addition to 0, 1 and 2. All others are closed in the child, except
    /// those of its `lease`, which have numbers from 700 on, or lower ones where few descriptors are allowed.
    pub fds: *const FdMap,
    /// SHOAL_SPAWN_NEW_GROUP, ...
    pub flags: u64,
    /// The family of devices that `device_mask` is about, such as "cuda"; NULL leaves the
    /// child with the devices of this process.
    pub device_family: *const c_char,
    /// The devices of that family the child sees, counted in what this process sees: "0,2";
    /// "" hides all.
    pub device_mask: *const c_char,
    /// A lease of devices that the child has too, and whose devices it sees; or NULL.
    pub lease: *mut LeaseHandle,
    /// What it sees of them: SHOAL_LEASE_EXCLUSIVE (0), ...
    pub lease_mode: u32,
    /// Which of the children that share the lease it is, from 0 on,
    pub worker: u32,
    /// of how many; 0 is one.
    pub workers: u32,
    /// 0.
    pub reserved: u32,
}

sized!(SpawnOptions, "shoal_spawn_options.size", 104);

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

fn stdio(what: &'static str, code: i32) -> Result<Stdio> {
    match code {
        SHOAL_STDIO_INHERIT => Ok(Stdio::Inherit),
        SHOAL_STDIO_NULL => Ok(Stdio::Null),
        SHOAL_STDIO_PIPE => Ok(Stdio::Pipe),
        // The number of a descriptor itself: what it would stand for is beyond all descriptors.
        1..=0xf_ffff => {
            let why = format!("{code} has no meaning; a descriptor is SHOAL_STDIO_FD({code})");
            Err(Error::invalid(what, why))
        }
        1.. | ..=-0x4000_0001 => Ok(Stdio::Fd(code ^ SHOAL_STDIO_IS_FD)),
        _ => {
            let why = format!(
                "{code} is none of SHOAL_STDIO_INHERIT, SHOAL_STDIO_NULL, SHOAL_STDIO_PIPE and SHOAL_STDIO_FD(n)"
            );
            Err(Error::invalid(what, why))
        }
    }
}

/// # Safety
/// As [`args::text_or_null`], for both.
unsafe fn devices(options: &SpawnOptions) -> Result<Devices> {
    // SAFETY: the same contract.
    let family = unsafe { args::text_or_null("device_family", options.device_family) }?;
    // SAFETY: the same contract.
    let mask = unsafe { args::text_or_null("device_mask", options.device_mask) }?;
    match (family, mask) {
        (None, None) => Ok(None),
        (Some(family), Some(mask)) => Ok(Some((family.to_owned(), mask.to_owned()))),
        (Some(_), None) => Err(Error::invalid(
            "device_mask",
            "it is NULL, the family is not",
        )),
        (None, Some(_)) => Err(Error::invalid(
            "device_family",
            "it is NULL, the mask is not",
        )),
    }
}

/// The lease of a child, and which worker of how many it is.
///
/// # Safety
/// As [`handle::get`] for a lease that is not NULL.
unsafe fn leased(options: &SpawnOptions) -> Result<Option<LeasePart>> {
    if options.reserved != 0 {
        return Err(Error::invalid("reserved", "it is not 0"));
    }
    if options.lease.is_null() {
        let of_lease = [
            ("lease_mode", options.lease_mode),
            ("worker", options.worker),
            ("workers", options.workers),
        ];
        return match of_lease.iter().find(|(_, value)| *value != 0) {
            None => Ok(None),
            Some((what, _)) => Err(Error::invalid(*what, "it is not 0, and lease is NULL")),
        };
    }
    // SAFETY: the caller's contract.
    let lease = unsafe { handle::get(options.lease) }?.lease()?.clone();
    Ok(Some(LeasePart {
        lease,
        mode: lease::mode(options.lease_mode)?,
        worker: options.worker as usize,
        workers: options.workers.max(1) as usize,
    }))
}

/// A family of devices and a mask.
type Devices = Option<(String, String)>;

/// The description of a program, without its devices and its lease, and these.
///
/// # Safety
/// As [`spawn`].
pub(super) unsafe fn program(
    options: &SpawnOptions,
) -> Result<(Spawn, Devices, Option<LeasePart>)> {
    let alone = SpawnOptions {
        device_family: std::ptr::null(),
        device_mask: std::ptr::null(),
        lease: std::ptr::null_mut(),
        lease_mode: 0,
        worker: 0,
        workers: 0,
        ..*options
    };
    // SAFETY: the same contract.
    unsafe { Ok((spawn(&alone)?, devices(options)?, leased(options)?)) }
}

/// The description of a child in Rust.
///
/// # Safety
/// Every pointer is as the documentation of its field says.
pub(super) unsafe fn spawn(options: &SpawnOptions) -> Result<Spawn> {
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
    spawn.stdin(stdio("stdio[0]", options.stdio[0])?);
    spawn.stdout(stdio("stdio[1]", options.stdio[1])?);
    spawn.stderr(stdio("stdio[2]", options.stdio[2])?);
    // SAFETY: the caller's contract.
    let fds = unsafe { args::array("fds", options.fds, options.n_fds as usize) }?;
    for fd in fds {
        spawn.fd(fd.from, fd.to);
    }
    // SAFETY: the caller's contract.
    if let Some((family, mask)) = unsafe { devices(options) }? {
        spawn.devices(family, mask);
    }
    // SAFETY: the caller's contract.
    if let Some(part) = unsafe { leased(options) }? {
        spawn.lease(&part.lease, part.mode, part.worker, part.workers);
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

/// # Safety
/// The device strings are as the documentation of their fields says.
pub(super) unsafe fn fork(options: &SpawnOptions) -> Result<ForkOptions> {
    check_flags(
        options.flags,
        SHOAL_SPAWN_NEW_GROUP | SHOAL_SPAWN_DIE_WITH_PARENT,
    )?;
    let arrays = [
        options.argv,
        options.envp,
        options.env_set,
        options.env_unset,
    ];
    let unused = options.file.is_null()
        && options.cwd.is_null()
        && arrays.iter().all(|array| array.is_null())
        && options.stdio == [SHOAL_STDIO_INHERIT; 3]
        && options.n_fds == 0;
    if !unused {
        let why = "a forked child takes only devices, a lease, SHOAL_SPAWN_NEW_GROUP and \
                   SHOAL_SPAWN_DIE_WITH_PARENT";
        return Err(Error::invalid("options", why));
    }
    Ok(ForkOptions {
        // SAFETY: the caller's contract.
        devices: unsafe { devices(options) }?.into_iter().collect(),
        // SAFETY: the caller's contract.
        leases: unsafe { leased(options) }?.into_iter().collect(),
        die_with_parent: options.flags & SHOAL_SPAWN_DIE_WITH_PARENT != 0,
        new_group: options.flags & SHOAL_SPAWN_NEW_GROUP != 0,
    })
}
