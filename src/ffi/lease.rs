//! Lease
//!
//! Devices that no other program has at the same time, as long as all of them ask for leases. A lease ends
//! with the last process that has it: this process, which gives it up by `shoal_lease_free` or by its end, or
//! a child to which it was given. So a worker whose parent died keeps its devices, and the devices are free as
//! soon as the last holder ends, whatever the cause.
//!
//! Killed: What the process had leased is free as soon as no child has it either. Its place in the queue of
//! requests is given up.
//!
//! ```c
//! shoal_lease_options options = {.size = sizeof options, .count = 2, .min_free = 10ull << 30};
//! shoal_lease *lease;
//! if (shoal_lease_acquire(&options, SHOAL_FOREVER, &lease) == SHOAL_OK) {
//!     const char *argv[] = {"python3", "train.py", NULL};
//!     shoal_spawn_options child = {.size = sizeof child, .argv = argv, .lease = lease};
//!     shoal_process *p;
//!     if (shoal_process_spawn(&child, &p) == SHOAL_OK)
//!         shoal_process_free(p);
//!     shoal_lease_free(lease);
//! }
//! ```
//!
//! Requests that could get the same devices are served in the order in which they came; those of processes
//! that ended are skipped. A request gets all of its devices at once. Under a lease, which the variable
//! SHOAL_LEASE names, a process leases parts of that lease.
//!
//! The leases of a machine are files in `/dev/shm/shoal-leases`, or in the directory that SHOAL_LEASE_DIR
//! names, which must be the same for all programs that are to respect each other. It is created with mode
//! 1777 so that all users can take part. A program that requests no lease is noticed only by the memory and the
//! time of a device that it uses (`min_free`, `min_idle`).

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use super::args::{self, Out};
use super::handle::{self, Inner, opaque};
use super::options::{self, sized};
use super::status::guard_shielded;
use crate::device::lease::{HolderState, Lease, Mode, Request, Share, Ticket, holders};
use crate::device::{EnvEdit, Found, Machine};
use crate::error::{Error, Result, Status};
use crate::sync::{EndWaits, Waits};
use crate::sys::clock::Timeout;

/// A request for devices, and the lease once it has them.
pub struct LeaseHandle {
    _opaque: [u8; 0],
}

opaque!(LeaseHandle, Leasing, b"shl.leas");

/// The Rust value behind the handle.
pub(super) struct Leasing {
    ticket: Option<Ticket>,
    lease: OnceLock<Lease>,
    waits: Waits,
}

impl Leasing {
    fn of(request: &Request, timeout: Option<Timeout>) -> Result<Self> {
        let new = |ticket, lease: Option<Lease>| Self {
            ticket,
            lease: lease.map_or_else(OnceLock::new, OnceLock::from),
            waits: Waits::new(),
        };
        Ok(match timeout {
            None => new(Some(request.queue()?), None),
            Some(timeout) => new(None, Some(request.acquire(timeout)?)),
        })
    }

    /// The lease.
    pub(super) fn lease(&self) -> Result<&Lease> {
        self.lease
            .get()
            .ok_or_else(|| Error::invalid("lease handle", "its request still waits for devices"))
    }

    fn wait(&self, timeout: Timeout) -> Result<()> {
        let (None, Some(ticket)) = (self.lease.get(), &self.ticket) else {
            return Ok(());
        };
        self.waits.enter()?;
        match ticket.wait_then(timeout, |lease| drop(self.lease.set(lease))) {
            Ok(()) => Ok(()),
            // Another thread got it meanwhile.
            Err(_) if self.lease.get().is_some() => Ok(()),
            Err(err) => Err(err),
        }
    }
}

impl EndWaits for Leasing {
    fn end_waits(&self) {
        self.waits.end([]);
        if let Some(ticket) = &self.ticket {
            ticket.cancel();
        }
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        // A forked child has none of the threads that were counted.
        if self.ticket.as_ref().is_none_or(Ticket::is_ours) {
            see(&self.waits);
        }
    }
}

impl Inner for Leasing {}

/// In `shoal_spawn_options.lease_mode`: a worker sees its own devices and no others.
pub const SHOAL_LEASE_EXCLUSIVE: u32 = 0;

/// In `lease_mode`: a worker sees all devices of the lease, its own ones first.
pub const SHOAL_LEASE_ROTATE: u32 = 1;

/// In `lease_mode`: the mask stays as it is, and only the variable SHOAL_DEVICE_INDEX tells a worker the
/// numbers of its devices.
pub const SHOAL_LEASE_INDEX_ONLY: u32 = 2;

/// The devices that a request is for. Fields that are zero have the defaults; only `size` must be set.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LeaseOptions {
    /// `sizeof(shoal_lease_options)`.
    pub size: usize,
    /// How many devices; 0 is one.
    pub count: usize,
    /// Their family, such as "cuda"; NULL is the only one that this machine has devices of.
    pub family: *const c_char,
    /// The devices to be preferred, the first ones most: numbers that count in what this process sees, or
    /// unique ids, separated by commas. NULL has no preference.
    pub order: *const c_char,
    /// What others read as the command that has the lease; NULL is that of this process.
    pub command: *const c_char,
    /// How many bytes of a device's memory must be free now, whichever processes use the rest.
    pub min_free: u64,
    /// To lease parts of devices: how many bytes of the memory of each.
    pub share_memory: u64,
    /// To lease parts of devices: how many slots of each,
    pub share_slots: u32,
    /// and how many slots a device is divided into for this purpose: 1 of 4 is a quarter.
    pub share_of: u32,
    /// The percentage of the time for which a device must be idle.
    pub min_idle: u32,
    /// 0.
    pub reserved: u32,
}

sized!(LeaseOptions, "shoal_lease_options.size", 72);

/// # Safety
/// The strings are as [`args::text_or_null`] wants them.
unsafe fn request(options: &LeaseOptions) -> Result<Request> {
    let mut request = Request::new(options.count.max(1));
    // SAFETY: the caller's contract.
    if let Some(family) = unsafe { args::text_or_null("family", options.family) }? {
        request = request.family(family);
    }
    // SAFETY: the caller's contract.
    if let Some(order) = unsafe { args::text_or_null("order", options.order) }? {
        request = request.order(order.split(',').filter(|it| !it.is_empty()));
    }
    // SAFETY: the caller's contract.
    if let Some(command) = unsafe { args::text_or_null("command", options.command) }? {
        request = request.command(command);
    }
    if options.min_free > 0 {
        request = request.min_free(options.min_free);
    }
    if options.min_idle > 100 {
        let why = format!("{} is more than 100 percent", options.min_idle);
        return Err(Error::invalid("min_idle", why));
    }
    if options.min_idle > 0 {
        request = request.max_utilisation(100 - options.min_idle as u8);
    }
    if options.reserved != 0 {
        return Err(Error::invalid("reserved", "it is not 0"));
    }
    let (slots, of) = (options.share_slots, options.share_of);
    match (options.share_memory, slots | of) {
        (0, 0) => Ok(request),
        (0, _) => Ok(request.share(Share::Slots { slots, of })),
        (bytes, 0) => Ok(request.share(Share::Memory(bytes))),
        _ => Err(Error::invalid("share", "it is of memory and of slots")),
    }
}

/// # Safety
/// As [`options::read`] and [`request`].
unsafe fn asked(options: *const LeaseOptions) -> Result<Request> {
    // SAFETY: the caller's contract.
    match unsafe { options::read(options) }? {
        // SAFETY: the caller's contract.
        Some(options) => unsafe { request(&options) },
        None => Ok(Request::new(1)),
    }
}

/// Leases devices, all of them at once, and waits for them. With SHOAL_NOWAIT it gets devices only if no other
/// request waits for them.
///
/// `options`: NULL asks for one device.
/// Ownership: `*out` is yours until `shoal_lease_free`.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INVALID (an option, or more than the devices have);
/// SHOAL_ERR_TOO_LARGE (more devices than this process sees); SHOAL_ERR_NOT_FOUND (family; a device of
/// `order`; no device at all); SHOAL_ERR_PERMISSION, SHOAL_ERR_UNSUPPORTED and SHOAL_ERR_NO_SPACE (the
/// directory of leases); SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_acquire(
    options: *const LeaseOptions,
    timeout_ns: i64,
    out: *mut *mut LeaseHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let request = unsafe { asked(options) }?;
        let timeout = args::timeout(timeout_ns);
        out.set(handle::new(Leasing::of(&request, Some(timeout))?));
        Ok(())
    })
}

/// Takes a place in the queue, and does not wait for devices: `shoal_lease_wait` does. It may be called several
/// times, and the place is kept in between. Another thread ends its wait by `shoal_end_waits`.
///
/// `options`: NULL asks for one device.
/// Ownership: `*out` is yours until `shoal_lease_free`, which gives up the place.
///
/// Errors: as `shoal_lease_acquire`, except SHOAL_ERR_TIMEOUT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_request(
    options: *const LeaseOptions,
    out: *mut *mut LeaseHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let request = unsafe { asked(options) }?;
        out.set(handle::new(Leasing::of(&request, None)?));
        Ok(())
    })
}

/// Waits until the request has its devices. Returns at once if it has them.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_CLOSED (`shoal_end_waits`); SHOAL_ERR_INVALID (a forked child, which
/// does not have its parent's place); SHOAL_ERR_TOO_LARGE and SHOAL_ERR_NOT_FOUND (devices that are gone
/// meanwhile).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_wait(lease: *mut LeaseHandle, timeout_ns: i64) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        unsafe { handle::get(lease) }?.wait(args::timeout(timeout_ns))
    })
}

/// Runs a call that makes a text of a lease, and copies it out.
///
/// # Safety
/// As [`handle::get`], [`args::buffer`] and [`Out::new`].
unsafe fn text_of(
    lease: *mut LeaseHandle,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
    text: impl FnOnce(&Lease) -> Result<String>,
) -> Status {
    // SAFETY: the same contract.
    let text = || Ok(text(unsafe { handle::get(lease) }?.lease()?)?.into_bytes());
    // SAFETY: the same contract.
    guard_shielded(|| unsafe { args::text_to(buf, capacity, len, text) })
}

/// The devices of a lease as `device_mask` of a child takes them: "1,3".
///
/// `buf`, `capacity`, `*len`: a text that ends with NUL, and its length without the NUL.
///
/// Errors: SHOAL_ERR_INVALID (the request still waits); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_mask(
    lease: *mut LeaseHandle,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    // SAFETY: the caller's contract.
    unsafe { text_of(lease, buf, capacity, len, |lease| Ok(lease.mask())) }
}

/// The name of a lease among the others, as the variable SHOAL_LEASE has it.
///
/// `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
///
/// Errors: as `shoal_lease_mask`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_id(
    lease: *mut LeaseHandle,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    // SAFETY: the caller's contract.
    unsafe { text_of(lease, buf, capacity, len, |lease| Ok(lease.id())) }
}

/// The devices of a lease, as `shoal_device_discover` describes them, one line for each. Behind that follow
/// the number of the device in this process, and the part of it that the lease has: 1 is the whole.
///
/// `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
///
/// Errors: as `shoal_lease_mask`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_devices(
    lease: *mut LeaseHandle,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let lines = |lease: &Lease| {
        let each = lease.devices().iter().zip(lease.shares());
        let lines =
            each.map(|(it, share)| format!("{}\t{}\t{share}\n", line(&it.found), it.logical));
        Ok(lines.collect())
    };
    // SAFETY: the caller's contract.
    unsafe { text_of(lease, buf, capacity, len, lines) }
}

/// What changes in the environment of a child that is to run under a lease, for programs that start their
/// children themselves. The child must also get the descriptor of `shoal_lease_fd`.
///
/// `mode`: SHOAL_LEASE_EXCLUSIVE, ... `worker`, `workers`: which of how many children that share the devices;
/// 0 and 1 for a single one.
/// `buf`, `capacity`, `*len`: as for `shoal_device_environment`.
///
/// Errors: SHOAL_ERR_INVALID (no such worker or mode; the request still waits; the environment of this
/// process has changed and does not show the devices); SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_environment(
    lease: *mut LeaseHandle,
    mode: u32,
    worker: usize,
    workers: usize,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let edits = |lease: &Lease| {
        let edits = lease.environment(self::mode(mode)?, worker, workers)?;
        Ok(entries(&edits))
    };
    // SAFETY: the caller's contract.
    unsafe { text_of(lease, buf, capacity, len, edits) }
}

pub(super) fn mode(mode: u32) -> Result<Mode> {
    match mode {
        SHOAL_LEASE_EXCLUSIVE => Ok(Mode::Exclusive),
        SHOAL_LEASE_ROTATE => Ok(Mode::Rotate),
        SHOAL_LEASE_INDEX_ONLY => Ok(Mode::IndexOnly),
        _ => {
            let why = format!(
                "{mode} is none of SHOAL_LEASE_EXCLUSIVE, SHOAL_LEASE_ROTATE and SHOAL_LEASE_INDEX_ONLY"
            );
            Err(Error::invalid("lease_mode", why))
        }
    }
}

/// The descriptor of a lease: a process that has a copy of it has the lease. It is close-on-exec.
///
/// Ownership: the descriptor is the handle's. Do not close it; a copy (`dup`, `SCM_RIGHTS`) is yours.
///
/// Errors: SHOAL_ERR_INVALID (the request still waits; or this is a forked child that was not given the
/// lease).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_fd(lease: *mut LeaseHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, lease) = unsafe { (Out::new("out", out)?, handle::get(lease)?) };
        out.set(lease.lease()?.fd()?);
        Ok(())
    })
}

/// Keeps a lease, or not, when this process executes another program in its place.
///
/// Errors: as `shoal_lease_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_keep_on_exec(lease: *mut LeaseHandle, keep: bool) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        unsafe { handle::get(lease) }?.lease()?.keep_on_exec(keep)
    })
}

/// Every lease of this machine, and every request that waits for one, in the order in which they came: one
/// line for each. Its fields are separated by tabs; what is not known is "-", and more may follow in later
/// versions:
///
/// 1. the id, which begins with those of the leases that it is a part of;
/// 2. "held" or "waiting";
/// 3. the number of the user;
/// 4. the process that made the request, as its owner states: by now perhaps only its children have the lease;
/// 5. since when, in seconds since 1970;
/// 6. the devices: unique ids, each with '=' and the part that is leased, separated by commas. Of a request
///    that waits, those that it could get, with 0;
/// 7. the command, as its owner states.
///
/// `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
///
/// Errors: SHOAL_ERR_PERMISSION and SHOAL_ERR_INVALID (the directory of leases);
/// SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_holders(
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    let text = || {
        let mut text = String::new();
        for it in holders(&Machine::from_environment())? {
            let state = match it.state {
                HolderState::Held => "held",
                HolderState::Waiting => "waiting",
            };
            let since = it
                .since
                .and_then(|it| it.duration_since(std::time::UNIX_EPOCH).ok());
            let devices = it.devices.iter().map(|(id, share)| format!("{id}={share}"));
            text += &format!(
                "{}\t{state}\t{}\t{}\t{}\t{}\t{}\n",
                it.id,
                it.uid,
                known(it.pid),
                known(since.map(|it| it.as_secs())),
                devices.collect::<Vec<_>>().join(","),
                it.command,
            );
        }
        Ok(text.into_bytes())
    };
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { args::text_to(buf, capacity, len, text) })
}

/// A device as a line of `shoal_device_discover`, without its end.
pub(super) fn line(found: &Found) -> String {
    let name = found.name.replace(char::is_control, " ");
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}",
        found.id,
        found.family.name(),
        found.index,
        if name.is_empty() { "-" } else { &name },
        known(found.memory_total),
        known(found.memory_free),
        known(found.utilisation),
    )
}

fn known(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

/// Frees the handle; see "Freeing". The process gives up its part of the lease, or its place in the queue.
/// Children that have the lease keep it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_free(lease: *mut LeaseHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(lease) }
}

/// Changes of an environment as a text of entries, each of which ends with NUL: `NAME=value` sets a variable, and
/// `NAME` removes it.
pub(super) fn entries(edits: &[EnvEdit]) -> String {
    let each = edits.iter().map(|edit| match edit {
        EnvEdit::Set(name, value) => format!("{name}={value}\0"),
        EnvEdit::Unset(name) => format!("{name}\0"),
    });
    each.collect()
}
