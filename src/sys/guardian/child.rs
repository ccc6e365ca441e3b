//! The guardian's side. All of it runs in the guardian, except for [`set_liveness_mapping`].

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::shared::{GUARDIAN, HOST, NONE, Order, READY, SLICE_NS, Shared, WAKE};
use crate::sys::spawn::signal_set;
use crate::sys::{clock, errno, futex};

/// The kernel sends this when the thread that made the guardian has ended, and so the host has.
const HOST_DIED: libc::c_int = libc::SIGUSR2;

/// How long the guardian waits for killed descendants to end. A process in an uninterruptible sleep may take
/// longer; it ends after that sleep, and init reaps it.
const REAPING_NS: u64 = 10_000_000_000;

/// How long the thread that made the guardian may take to reach its `wait4`.
const PARKING_NS: u64 = 10_000_000_000;

/// The mapping that keeps the host's liveness lock, if there is one. The guardian unmaps it after the host's
/// death, so that others see at once that the host is dead.
static LIVENESS: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(0), AtomicUsize::new(0));

/// Sets where the mapping of the liveness lock is; a length of 0 for none.
pub(crate) fn set_liveness_mapping(base: usize, len: usize) {
    LIVENESS.1.store(0, Ordering::Release);
    LIVENESS.0.store(base, Ordering::Release);
    LIVENESS.1.store(len, Ordering::Release);
}

/// The guardian, on a stack of its own.
pub(super) extern "C" fn guard(arg: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone` was given this pointer, to a value that lives until this process has ended.
    let shared = unsafe { &*arg.cast::<Shared>() };
    // SAFETY: this is that process.
    unsafe {
        watch(shared);
        libc::_exit(0)
    }
}

/// # Safety
/// Only in the guardian. No allocation, no lock, no panic.
unsafe fn watch(shared: &Shared) {
    // SAFETY: system calls on integers and on places of this stack. The signal actions are this process's
    // own.
    unsafe {
        // If memory cannot be shared with a child, this never changes, and the child ends.
        let until_ns = clock::now_ns() + PARKING_NS;
        while shared.parked.load(Ordering::Acquire) == 0 {
            if clock::now_ns() >= until_ns || libc::getppid() != shared.host {
                return;
            }
            libc::syscall(libc::SYS_sched_yield);
        }
        // The host may ignore SIGCHLD, and then the kernel would reap the workers.
        let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGCHLD, &default, ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"shoal-guardian".as_ptr());
        // A signal to the host's group must not reach the guardian.
        libc::setpgid(0, 0);
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) != 0
            || libc::prctl(libc::PR_SET_PDEATHSIG, HOST_DIED) != 0
        {
            shared.errno.store(errno(), Ordering::Relaxed);
            return;
        }
        shared.set_state(READY);

        let mut host_died = false;
        while !host_died && !shared.stop.load(Ordering::Acquire) {
            // The host may have died before the prctl: then there was no signal.
            if libc::getppid() != shared.host {
                host_died = true;
                break;
            }
            execute_order(shared);
            reap(shared);
            host_died = sleep(shared.host, SLICE_NS);
        }
        if host_died {
            // What others wait for is released before the workers end: the ends of the host's pipes, and its
            // locks. The table is copied first, because the host may be alive (after an exec).
            libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, UNSHARE);
            if libc::getppid() != shared.host {
                let (base, len) = (
                    LIVENESS.0.load(Ordering::Acquire),
                    LIVENESS.1.load(Ordering::Acquire),
                );
                if len > 0 {
                    libc::munmap(base as *mut libc::c_void, len);
                }
            }
        } else {
            // A descriptor is needed to find the children, and the host may have used all.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, UNSHARE);
        }
        kill_all(shared);
        shared.has_killed_all.store(true, Ordering::Release);
    }
}

/// `CLOSE_RANGE_UNSHARE`.
const UNSHARE: libc::c_uint = 1 << 1;

/// Sleeps until there may be something to do. True if the host has died.
///
/// # Safety
/// As [`watch`].
unsafe fn sleep(host: libc::pid_t, ns: u64) -> bool {
    let mut set = signal_set(false);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let time = clock::timespec(ns);
    // SAFETY: places of this stack; the C library's set is larger than the 8 bytes that the kernel reads.
    unsafe {
        for signal in [WAKE, HOST_DIED, libc::SIGCHLD] {
            libc::sigaddset(&mut set, signal);
        }
        let got = libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &set,
            info.as_mut_ptr(),
            &time,
            8usize,
        );
        // Also sent after an exec of the host: its number is then unchanged, but the thread has ended.
        got == i64::from(HOST_DIED) && info.assume_init_ref().si_pid() == host
    }
}

/// Executes the host's order, if there is one.
///
/// # Safety
/// As [`watch`].
unsafe fn execute_order(shared: &Shared) {
    // SYNC: observe(order)
    if shared.owner.load(Ordering::Acquire) != GUARDIAN {
        return;
    }
    // SAFETY: G1: the order and the answer are this side's now. A host that waits for the answer keeps
    // `start` alive; a host that was killed leaves its memory as it is.
    unsafe {
        *shared.answer.get() = match *shared.order.get() {
            Order::Start { slot, start } => (*start).run(false).map(|(pid, _)| {
                if let Some(slot) = shared.slots.get(slot) {
                    slot.pid.store(pid, Ordering::Relaxed);
                }
                pid
            }),
            Order::Signal { slot, signal } => {
                let pid = shared
                    .slots
                    .get(slot)
                    .map_or(NONE, |slot| slot.pid.load(Ordering::Relaxed));
                // Not reaped, since the guardian is here: the number is the worker's and its group's.
                if pid != NONE && libc::kill(-pid, signal) != 0 {
                    libc::kill(pid, signal);
                }
                Ok(pid)
            }
        };
    }
    // SYNC: publish(answer)
    shared.owner.store(HOST, Ordering::Release);
    futex::wake(&shared.owner, i32::MAX);
}

/// Reaps children that have ended, and reports the workers among them. True if children are left.
///
/// # Safety
/// As [`watch`].
unsafe fn reap(shared: &Shared) -> bool {
    // SAFETY: system calls on integers and places of this stack.
    unsafe {
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            let usage = ptr::null_mut::<libc::c_void>();
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            if libc::syscall(
                libc::SYS_waitid,
                libc::P_ALL,
                0,
                info.as_mut_ptr(),
                options,
                usage,
            ) != 0
            {
                return errno() != libc::ECHILD;
            }
            let pid = info.assume_init_ref().si_pid();
            if pid == 0 {
                return true;
            }
            let slot = shared
                .slots
                .iter()
                .find(|it| it.pid.load(Ordering::Relaxed) == pid);
            if slot.is_some() {
                // While its leader is not reaped, the group's number cannot be reused.
                libc::kill(-pid, libc::SIGKILL);
            }
            let mut status = 0;
            libc::syscall(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, usage);
            if let Some(slot) = slot {
                slot.pid.store(NONE, Ordering::Relaxed);
                slot.status.store(status, Ordering::Relaxed);
                // SYNC: publish(status)
                slot.ended.store(true, Ordering::Release);
                shared.wake();
            }
        }
    }
}

/// Kills every descendant. A descendant that loses its parent becomes a child of this process: so those
/// outside the workers' groups and sessions are found too.
///
/// # Safety
/// As [`watch`]; the descriptors are this process's own.
unsafe fn kill_all(shared: &Shared) {
    let until_ns = clock::now_ns() + REAPING_NS;
    // SAFETY: the numbers are those of this process's children, which it has not reaped.
    unsafe {
        loop {
            for slot in &shared.slots {
                let pid = slot.pid.load(Ordering::Relaxed);
                if pid != NONE {
                    libc::kill(-pid, libc::SIGKILL);
                    libc::kill(pid, libc::SIGKILL);
                }
            }
            each_child(|child| {
                libc::kill(child, libc::SIGKILL);
            });
            if !reap(shared) || clock::now_ns() >= until_ns {
                return;
            }
            sleep(shared.host, 10_000_000);
        }
    }
}

/// Calls `act` with each child of this process, as far as `/proc` tells.
///
/// # Safety
/// As [`watch`].
unsafe fn each_child(mut act: impl FnMut(libc::pid_t)) {
    let mut buf = [0u8; 512];
    // SAFETY: paths that end with NUL, and places of this stack with their sizes.
    unsafe {
        // In a /proc of another pid namespace, the numbers would name other processes.
        let own = libc::syscall(
            libc::SYS_readlinkat,
            libc::AT_FDCWD,
            c"/proc/self".as_ptr(),
            buf.as_mut_ptr(),
            buf.len(),
        );
        let own = buf.get(..own.max(0) as usize).unwrap_or_default();
        if own
            .iter()
            .fold(0, |number, &digit| add_digit(number, digit))
            != libc::getpid()
        {
            return;
        }
        let path = c"/proc/thread-self/children".as_ptr();
        let fd = libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path,
            libc::O_RDONLY | libc::O_CLOEXEC,
        ) as i32;
        if fd < 0 {
            return;
        }
        let mut number = 0;
        loop {
            let got = libc::syscall(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len());
            let Some(piece) = buf
                .get(..got.max(0) as usize)
                .filter(|piece| !piece.is_empty())
            else {
                break;
            };
            for &byte in piece {
                if byte.is_ascii_digit() {
                    number = add_digit(number, byte);
                    continue;
                }
                // Never 0, -1 or 1, which mean groups or init.
                if let child @ 2.. = std::mem::take(&mut number) {
                    act(child);
                }
            }
        }
        libc::syscall(libc::SYS_close, fd);
    }
}

fn add_digit(number: libc::pid_t, digit: u8) -> libc::pid_t {
    number
        .wrapping_mul(10)
        .wrapping_add(libc::pid_t::from(digit.wrapping_sub(b'0')))
}
