//! Forking: the child continues this program in a given function.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::detached;
use super::handle::Process;
use super::lookup::device_edits;
use super::spawn::LeasePart;
use crate::device::{self, EnvEdit};
use crate::error::Result;
use crate::sys::exit::exit_at_once;
use crate::sys::fork::{self as sys, Side};
use crate::sys::process;

/// What a forked child gets in addition to a copy of this process.
///
/// ```
/// use shoal::ForkOptions;
///
/// let options = ForkOptions { new_group: true, ..Default::default() };
/// assert!(!options.die_with_parent);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ForkOptions {
    /// Families and masks, as [`Spawn::devices`](crate::Spawn::devices) takes them. This has no effect on a
    /// vendor's runtime that is already loaded, since that has read its variable. Most runtimes do not
    /// survive a fork anyway.
    pub devices: Vec<(String, String)>,
    /// Leases that the child also has, as with [`Spawn::lease`](crate::Spawn::lease). The child has no other
    /// leases of this process.
    pub leases: Vec<LeasePart>,
    /// Makes the kernel kill the child (`SIGKILL`) when the *thread* that forked it ends, at the latest
    /// with its process. Fork from a thread that lives long enough.
    pub die_with_parent: bool,
    /// Makes the child the leader of a new process group.
    pub new_group: bool,
}

/// The exit code of a child whose entry panicked: that of a Rust program that panics.
const PANICKED: i32 = 101;

/// Copies this process; the copy runs `entry` and exits with the low 8 bits of what it
/// returns.
///
/// The caller gets the child's [`Process`]. Buffered output of this process is flushed before the fork, so
/// that it is not written twice; the child's is flushed when `entry` returns. The child leaves the shared
/// objects that it still has open, but runs no other exit handlers of this process. A panic in `entry` is
/// reported on standard error as usual and becomes exit code 101.
///
/// # Errors
///
/// Before the fork: those of [`device::environment`], and [`Error::Invalid`](crate::Error::Invalid) if two
/// masks change one variable. [`Error::Os`](crate::Error::Os): no process or memory is available.
///
/// # Safety
///
/// Only the calling thread exists in the child. If other threads run at the time of the fork, `entry` must
/// not use anything that they may have locked or half changed, except through this library and `malloc`; that
/// includes the environment, if `devices` is used. A single-threaded program has no such restriction.
///
/// ```
/// use shoal::{ForkOptions, Timeout, fork};
///
/// // SAFETY: the entry touches nothing that another thread could hold.
/// let child = unsafe { fork(&ForkOptions::default(), || 7)? };
/// assert_eq!(child.join(Timeout::Infinite)?.code, 7);
/// # Ok::<(), shoal::Error>(())
/// ```
pub unsafe fn fork(options: &ForkOptions, entry: impl FnOnce() -> i32) -> Result<Process> {
    let mut edits = device_edits(&options.devices, device::process_variable)?;
    for part in &options.leases {
        part.lease.fd()?;
        let edit = part
            .lease
            .environment(part.mode, part.worker, part.workers)?;
        edits.extend(edit);
    }
    detached::sweep();

    // Locked across the fork: if another thread had locked them, they would stay locked in the child.
    let mut stdout = std::io::stdout().lock();
    let stderr = std::io::stderr().lock();
    let _ = stdout.flush();
    sys::flush();
    let parent = process::pid();

    // SAFETY: the caller's contract covers what the child does.
    let side = with_leases(&options.leases, &mut || unsafe { sys::fork() });
    drop((stdout, stderr));
    match side? {
        // SAFETY: this is the fresh child.
        Side::Child => unsafe { child(options, &edits, parent, entry) },
        Side::Parent(pid) => {
            if options.new_group {
                // The child does the same, so that the group exists whichever process continues first.
                sys::lead_group(pid);
            }
            Process::new(pid, None, options.new_group, [None, None, None])
        }
    }
}

/// Runs `act`; a fork in it passes these leases to the child.
fn with_leases<T>(leases: &[LeasePart], act: &mut dyn FnMut() -> T) -> T {
    match leases.split_first() {
        None => act(),
        Some((part, rest)) => part.lease.pass_to_forks(|| with_leases(rest, act)),
    }
}

/// Runs the child to its end.
///
/// # Safety
///
/// Only in a new forked child; the contract of [`fork`] covers `entry`.
unsafe fn child(
    options: &ForkOptions,
    edits: &[EnvEdit],
    parent: u32,
    entry: impl FnOnce() -> i32,
) -> ! {
    if options.new_group {
        sys::lead_group(0);
    }
    if options.die_with_parent {
        sys::die_with(parent);
    }
    let code = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the only thread of this process.
        unsafe { device::apply(edits) };
        entry()
    }));
    let code = code.unwrap_or_else(|payload| {
        // Its destructor could panic again.
        std::mem::forget(payload);
        PANICKED
    });
    let _ = catch_unwind(|| std::io::stdout().flush());
    // Leaves objects that it inherited or opened and did not drop: it may be their last participant.
    let _ = catch_unwind(|| crate::segment::leave_all());
    sys::flush();
    exit_at_once(code & 0xff)
}
