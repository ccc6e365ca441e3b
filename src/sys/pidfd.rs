//! Process descriptors: reaping a process, and sending it signals.
//!
//! A pidfd stays bound to its process after the process has ended, so nothing here can reach another process
//! that got the same number.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::cancel::Shield;
use super::clock::Deadline;
use super::fd::off_streams;
use super::poll;
use crate::error::{Error, Result};

/// The result of reaping a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// It still runs.
    Running,
    /// It ended by itself with this code. The process is reaped.
    Exited(i32),
    /// This signal ended it. The process is reaped.
    Signaled(i32),
    /// It is not a child of this process, or it was reaped elsewhere and the kernel has no record.
    NotOurs,
}

/// `struct pidfd_info` of the kernel, in its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    /// In: the requested fields. Out: the valid ones.
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    /// The wait status.
    status: i32,
}

/// In `Info::mask`: how the process ended.
const EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, Info)`.
const GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<Info>() as libc::c_ulong) << 16) | (0xff << 8) | 11;

const _: () = assert!(size_of::<Info>() == 64);

/// A descriptor (close-on-exec) of this process's unreaped child `pid`.
///
/// `None` if there is no such child any more: with `SIGCHLD` ignored, the kernel reaps children.
pub(crate) fn open(pid: libc::pid_t) -> Result<Option<OwnedFd>> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return match Error::last_os("pidfd_open") {
            Error::Os {
                errno: libc::ESRCH, ..
            } => Ok(None),
            err => Err(err),
        };
    }
    // SAFETY: the kernel just made this descriptor for us; a descriptor fits an i32.
    let fd = off_streams(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    // The number may have been reused if another thread reaped the child: checked before it is trusted.
    let ours = wait_id(fd.as_fd(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?;
    Ok((ours != Reaped::NotOurs).then_some(fd))
}

/// A descriptor (close-on-exec) of any process. `None` if there is no such process, or no descriptor.
pub(crate) fn of_any(pid: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: the kernel just made this descriptor for us; a descriptor fits an i32.
    (fd >= 0).then(|| off_streams(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Reaps the process if it has ended. Does not wait.
pub(crate) fn reap(fd: BorrowedFd<'_>) -> Result<Reaped> {
    match wait_id(fd, libc::WEXITED | libc::WNOHANG)? {
        Reaped::NotOurs => recorded(fd),
        reaped => Ok(reaped),
    }
}

/// [`record`], repeated for a while: when the kernel reaps a process by itself, it wakes waiters before it
/// records the exit.
fn recorded(fd: BorrowedFd<'_>) -> Result<Reaped> {
    for _ in 0..TRIES {
        match record(fd) {
            Some(Reaped::NotOurs) if poll::readable(&[fd], Deadline::Now)? => {}
            Some(reaped) => return Ok(reaped),
            None => break,
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(Reaped::NotOurs)
}

/// Some milliseconds: a process that has ended and is not reaped yet has no record either.
const TRIES: u32 = 100;

/// How a process ended that another thread, or the kernel itself, has reaped. Linux 6.15 and later record
/// this while a descriptor of the process is open; `None` on earlier ones. `NotOurs` for a process that was
/// not reaped.
fn record(fd: BorrowedFd<'_>) -> Option<Reaped> {
    let mut info = Info {
        mask: EXIT,
        ..Info::default()
    };
    // SAFETY: the call writes one `Info`, whose size is part of its number.
    let asked = unsafe { libc::ioctl(fd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    let known = (info.mask & EXIT != 0).then(|| end_of(info.status));
    (asked == 0).then(|| known.unwrap_or(Reaped::NotOurs))
}

/// Decodes the wait status of a process that has ended.
pub(crate) fn end_of(status: i32) -> Reaped {
    if libc::WIFEXITED(status) {
        Reaped::Exited(libc::WEXITSTATUS(status))
    } else {
        Reaped::Signaled(libc::WTERMSIG(status))
    }
}

fn wait_id(fd: BorrowedFd<'_>, options: i32) -> Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = fd.as_raw_fd() as libc::id_t;
    let _shield = Shield::new();
    // SAFETY: `info` is room for one siginfo_t.
    if unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), options) } != 0 {
        return match Error::last_os("waitid") {
            Error::Os {
                errno: libc::ECHILD,
                ..
            } => Ok(Reaped::NotOurs),
            err => Err(err),
        };
    }
    // SAFETY: siginfo_t is plain data, zeroed above and filled by waitid.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves the zeros of a running child.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match info.si_code {
        _ if pid == 0 => Reaped::Running,
        libc::CLD_EXITED => Reaped::Exited(status),
        _ => Reaped::Signaled(status),
    })
}

/// Sends a signal. Succeeds without effect if the process has ended.
pub(crate) fn signal(fd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: a null info asks the kernel to fill in an ordinary kill().
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            info,
            0u32,
        )
    };
    match done {
        0 => Ok(()),
        _ => match Error::last_os("pidfd_send_signal") {
            Error::Os {
                errno: libc::ESRCH, ..
            } => Ok(()),
            err => Err(err),
        },
    }
}

/// Sends a signal to every process of a group.
///
/// The caller's unreaped child must lead the group, so that its number is not reused.
pub(crate) fn signal_group(group: libc::pid_t, signal: i32) -> Result<()> {
    // SAFETY: killpg takes two integers.
    match unsafe { libc::killpg(group, signal) } {
        0 => Ok(()),
        _ => match Error::last_os("killpg") {
            Error::Os {
                errno: libc::ESRCH, ..
            } => Ok(()),
            err => Err(err),
        },
    }
}
