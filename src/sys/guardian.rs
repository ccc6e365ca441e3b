//! The guardian: a small process that is the parent of a supervisor's workers and ends them when the
//! process that asked for them (the *host*) ends, however it ends.
//!
//! ```text
//! host ── thread `shoal-guardian`, asleep in wait4(guardian)
//!    └─── guardian: a process that shares the host's memory and descriptors; a subreaper
//!            ├── worker 0 (leads a process group)
//!            │      └── what worker 0 starts
//!            ├── worker 1 …
//!            └── what a worker had started as its parent and that lost this parent
//! ```
//!
//! **Why a process.** A thread ends with its process. `PR_SET_PDEATHSIG` alone reaches neither what
//! workers start nor a worker that changes its user. The guardian is not killed with the host, and as a
//! subreaper it is the ancestor of everything that its workers start, also of what starts a session of its
//! own or loses its parent.
//!
//! **Why it shares the memory.** A library has no program of its own to execute. A fork would copy the
//! page tables of the host, and keep a copy of each page that the host then writes. The guardian runs on a
//! stack of its own, and uses the thread-local variables of the thread that made it, which executes nothing
//! but `wait4` meanwhile. It neither allocates nor takes a lock: the host may be killed while one of its
//! threads holds that lock. It gets its orders, and reports, by atomics.
//!
//! **Why it is the parent.** It alone reaps the workers, so a number that it signals cannot have become
//! another process's, and no `wait` of the host for any child takes a worker's exit. The host's `wait` does
//! not see the guardian either: it has no exit signal.
//!
//! # What a kill leaves
//!
//! The host can be killed at any instruction, and so can the guardian.
//!
//! | killed | what happens |
//! |---|---|
//! | host, before the guardian has asked for the host's death signal | the guardian sees another parent, and ends; there is no worker yet |
//! | host, later | the kernel signals the guardian; it kills all its descendants, reaps them, and ends |
//! | host, while the guardian starts a worker | the guardian sleeps until the program runs or has failed, and then does as above |
//! | guardian, before a worker has asked for the guardian's death signal | the worker sees another parent, and ends before its program begins |
//! | guardian, later | the kernel kills each worker; the host is told, since its thread's `wait4` returns |
//!
//! # Limits
//! - If the guardian is killed, the kernel kills the workers, but not one that has changed its user, and
//!   nothing that they have started: the host has to find that (`process/supervisor/marked.rs`). If both
//!   are killed, that stays. One SIGKILL is enough where the out-of-memory killer chooses the host: it
//!   ends all processes that share its memory.
//! - A host that executes another program is the parent of the guardian still. The guardian kills the
//!   workers and ends, and stays a zombie until that program ends.
//! - A descendant that runs as another user (such as by `sudo`) cannot be signalled.
//! - Without `/proc` of this pid namespace, only the workers and their process groups are found.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};

use super::spawn::{Failure, Plan, Start, signal_set};
use super::{clock, errno, futex, thread};
use crate::error::{Error, Result};

/// The guardian's stack in units of its alignment: 64 KiB.
const STACK: usize = 4096;

/// Wakes the guardian: there is an order.
const WAKE: libc::c_int = libc::SIGUSR1;
/// The kernel's word that the thread that made the guardian has ended, and so has the host.
const HOST_DIED: libc::c_int = libc::SIGUSR2;

/// How long the guardian sleeps at most before it looks around.
const SLICE_NS: u64 = 1_000_000_000;
/// How long it waits for killed descendants to end. One in an uninterruptible sleep may take longer;
/// it has its SIGKILL, and init reaps it.
const REAPING_NS: u64 = 10_000_000_000;

/// How long the thread that made the guardian may take to get to its `wait4`.
const PARKING_NS: u64 = 10_000_000_000;

/// `Shared::state`.
const STARTING: u32 = 0;
const READY: u32 = 1;
/// No guardian: it could not be made, or has ended.
const ENDED: u32 = 2;

/// `Shared::turn`: whose the order is.
const HOST: u32 = 0;
const GUARDIAN: u32 = 1;

/// `Slot::pid` of a slot without a process.
const NONE: i32 = 0;

/// The mapping by which the host's liveness lock is kept, if there is one. The guardian removes it from
/// the memory of a dead host, so that others see at once that the host is dead.
static LIVENESS: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(0), AtomicUsize::new(0));

/// Says where the mapping of the liveness lock is; a length of 0: nowhere.
pub(crate) fn set_liveness_mapping(base: usize, len: usize) {
    LIVENESS.1.store(0, Ordering::Release);
    LIVENESS.0.store(base, Ordering::Release);
    LIVENESS.1.store(len, Ordering::Release);
}

/// A worker, as both sides see it.
struct Slot {
    /// Written by the guardian only.
    pid: AtomicI32,
    /// As `wait` tells it; published by [`Slot::ended`].
    status: AtomicI32,
    ended: AtomicBool,
}

/// What the guardian is asked to do.
#[derive(Clone, Copy)]
enum Order {
    Start {
        slot: usize,
        start: *const Start<'static>,
    },
    Signal {
        slot: usize,
        signal: libc::c_int,
    },
}

/// What host and guardian share. G1: `order` and `answer` are the guardian's while `turn` is
/// `GUARDIAN`, and else the host's.
struct Shared {
    host: libc::pid_t,
    state: AtomicU32,
    /// Why there is no guardian, while that is so.
    errno: AtomicI32,
    pid: AtomicI32,
    /// Set by the thread that made the guardian, once it uses its thread-local variables no more.
    parked: AtomicU32,
    turn: AtomicU32,
    order: UnsafeCell<Order>,
    answer: UnsafeCell<Result<libc::pid_t, Failure>>,
    /// The host wants no workers any more.
    stop: AtomicBool,
    slots: Box<[Slot]>,
    /// Changes whenever there is something for the host to see.
    bell: Arc<AtomicU32>,
}

// SAFETY: G1 says which side may touch the cells; everything else is atomic.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, i32::MAX);
    }

    fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        futex::wake(&self.state, i32::MAX);
        self.ring();
    }
}

/// The host's side. For one thread at a time.
pub(crate) struct Guardian {
    shared: Arc<Shared>,
}

impl Guardian {
    /// Makes the guardian, for so many workers. `bell` changes, and its sleepers are woken, when a
    /// worker or the guardian has ended.
    ///
    /// # Errors
    /// `Os` if there can be no thread or process; `Unsupported` where a child cannot share memory.
    pub(crate) fn new(slots: usize, bell: &Arc<AtomicU32>) -> Result<Self> {
        let slot = || Slot {
            pid: AtomicI32::new(NONE),
            status: AtomicI32::new(0),
            ended: AtomicBool::new(false),
        };
        let shared = Arc::new(Shared {
            // SAFETY: getpid has no conditions.
            host: unsafe { libc::getpid() },
            state: AtomicU32::new(STARTING),
            errno: AtomicI32::new(0),
            pid: AtomicI32::new(0),
            parked: AtomicU32::new(0),
            turn: AtomicU32::new(HOST),
            order: UnsafeCell::new(Order::Signal { slot: 0, signal: 0 }),
            answer: UnsafeCell::new(Ok(0)),
            stop: AtomicBool::new(false),
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            bell: Arc::clone(bell),
        });
        let theirs = Arc::clone(&shared);
        thread::start("shoal-guardian", move || keep(&theirs))?;
        while shared.state.load(Ordering::Acquire) == STARTING {
            let until_ns = clock::now_ns() + SLICE_NS;
            futex::wait(&shared.state, STARTING, until_ns);
        }
        if shared.state.load(Ordering::Acquire) == READY {
            return Ok(Self { shared });
        }
        Err(match shared.errno.load(Ordering::Relaxed) {
            0 => Error::unsupported(
                "a child process that shares this process's memory: an emulator or a sandbox forbids it",
            ),
            errno => Error::Os {
                call: "clone",
                errno,
            },
        })
    }

    /// Whether there is a guardian. Without one there are no workers either.
    pub(crate) fn is_there(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == READY
    }

    /// The guardian's number.
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.shared.pid.load(Ordering::Relaxed)
    }

    /// Starts the program in a slot that has no process. It leads a group and dies with the guardian.
    ///
    /// # Errors
    /// The outer one if the guardian has ended.
    pub(crate) fn start(
        &self,
        slot: usize,
        plan: &mut Plan,
    ) -> Result<Result<libc::pid_t, Failure>> {
        plan.die_with_parent = true;
        plan.group = !plan.session;
        let start = Start::new(plan);
        // The lifetime is that of this call, which does not return before the guardian is done with it.
        let start = ptr::from_ref(&start).cast::<Start<'static>>();
        self.shared.slots[slot]
            .ended
            .store(false, Ordering::Relaxed);
        self.give(Order::Start { slot, start })
    }

    /// Signals the group of a worker, if that runs.
    pub(crate) fn signal(&self, slot: usize, signal: libc::c_int) -> Result<()> {
        self.give(Order::Signal { slot, signal }).map(drop)
    }

    /// The status of a slot's worker, as `wait` tells it, if it has ended since it was started. Once.
    pub(crate) fn take_ended(&self, slot: usize) -> Option<i32> {
        let slot = &self.shared.slots[slot];
        // SYNC: observe(status)
        let ended = slot.ended.swap(false, Ordering::Acquire);
        ended.then(|| slot.status.load(Ordering::Relaxed))
    }

    fn give(&self, order: Order) -> Result<Result<libc::pid_t, Failure>> {
        let shared = &*self.shared;
        let lost = || Error::Internal {
            what: "the process that guards the workers was killed".to_owned(),
        };
        if !self.is_there() {
            return Err(lost());
        }
        // SAFETY: G1: it is the host's turn, and this is the one thread that gives orders.
        unsafe { *shared.order.get() = order };
        // SYNC: publish(order)
        shared.turn.store(GUARDIAN, Ordering::Release);
        self.wake();
        loop {
            // SYNC: observe(answer)
            if shared.turn.load(Ordering::Acquire) == HOST {
                // SAFETY: G1.
                return Ok(unsafe { *shared.answer.get() });
            }
            if !self.is_there() {
                return Err(lost());
            }
            futex::wait(&shared.turn, GUARDIAN, clock::now_ns() + SLICE_NS / 10);
        }
    }

    fn wake(&self) {
        // While the state is READY the guardian is not reaped, but for the moment between its `wait4` and
        // the store of ENDED. A number is not used again that soon.
        // SAFETY: integers.
        unsafe { libc::kill(self.pid(), WAKE) };
    }

    /// Kills all that the workers have left and ends the guardian. Waits for that.
    pub(crate) fn finish(&self) {
        let shared = &*self.shared;
        shared.stop.store(true, Ordering::Release);
        while self.is_there() {
            self.wake();
            futex::wait(&shared.state, READY, clock::now_ns() + SLICE_NS / 10);
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread that makes the guardian and waits for its end.
fn keep(shared: &Arc<Shared>) {
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(STACK);
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let arg = Arc::as_ptr(shared).cast_mut().cast();
    // No exit signal: the host's `wait` for any child does not see it.
    let flags = libc::CLONE_VM | libc::CLONE_FILES;
    // SAFETY: the stack is aligned and large enough for `guard`. This frame has it, and a share of what
    // `arg` points to, until the guardian has ended. All signals are blocked. Until then this thread
    // executes `park` only, so that the guardian has the thread-local variables for itself.
    let pid = unsafe { libc::clone(guard, top.cast(), flags, arg) };
    if pid < 0 {
        shared.errno.store(errno(), Ordering::Relaxed);
    } else {
        shared.pid.store(pid, Ordering::Relaxed);
        // SAFETY: `pid` is a child of this process that no other thread reaps: it has no exit signal, and
        // nothing else asks for children without one.
        unsafe { park(pid, shared.parked.as_ptr()) };
    }
    drop(stack);
    shared.set_state(ENDED);
}

/// Sets `*parked` and waits for the end of a child, without touching a thread-local variable.
///
/// # Safety
/// `parked` is a place that other threads only read; `pid` is a child to be reaped here.
unsafe fn park(pid: libc::pid_t, parked: *mut u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a store to the caller's place and `wait4`, which is given no memory; it is called again
    // after a handler of the C library's own has interrupted it.
    unsafe {
        std::arch::asm!(
            "mov dword ptr [{parked}], 1",
            "2:",
            "mov eax, {wait4}",
            "syscall",
            "cmp rax, -4",
            "je 2b",
            parked = in(reg) parked,
            wait4 = const libc::SYS_wait4,
            in("rdi") i64::from(pid),
            in("rsi") 0,
            in("rdx") libc::__WALL,
            in("r10") 0,
            out("rax") _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "mov {one:w}, #1",
            "str {one:w}, [{parked}]",
            "2:",
            "mov x0, {pid}",
            "svc #0",
            "cmn x0, #4",
            "b.eq 2b",
            parked = in(reg) parked,
            pid = in(reg) i64::from(pid),
            one = out(reg) _,
            out("x0") _,
            in("x1") 0,
            in("x2") libc::__WALL,
            in("x3") 0,
            in("x8") libc::SYS_wait4,
            options(nostack),
        );
    }
}

/// The guardian's whole life, on a stack of its own.
extern "C" fn guard(arg: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone` was given this pointer, and what it points to lives until this process has ended.
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
        // Where a child cannot share the memory it never sees this, and ends.
        let until_ns = clock::now_ns() + PARKING_NS;
        while shared.parked.load(Ordering::Acquire) == 0 {
            if clock::now_ns() >= until_ns || libc::getppid() != shared.host {
                return;
            }
            libc::syscall(libc::SYS_sched_yield);
        }
        // The host may ignore it, and then there would be no exits to collect.
        let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(libc::SIGCHLD, &default, ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"shoal-guardian".as_ptr());
        // A signal to the host's group is none for the guardian.
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
            // The host may have died before the prctl, and the signal can be lost to nobody else.
            if libc::getppid() != shared.host {
                host_died = true;
                break;
            }
            obey(shared);
            reap(shared);
            host_died = sleep(shared.host, SLICE_NS);
        }
        if host_died {
            // What others wait for must not wait for the workers to end: the ends of the host's pipes, and
            // its locks. The table is copied first, should the host live after all (after an exec).
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
            // A descriptor is needed to find the children, and the host may have none left.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, UNSHARE);
        }
        kill_all(shared);
    }
}

/// `CLOSE_RANGE_UNSHARE`.
const UNSHARE: libc::c_uint = 1 << 1;

/// Sleeps until there may be something to do. Whether the host has died.
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
        // Also after an exec of the host: then its number is still the parent's, but the thread is gone.
        got == i64::from(HOST_DIED) && info.assume_init_ref().si_pid() == host
    }
}

/// Does what the host has asked for, if anything.
///
/// # Safety
/// As [`watch`].
unsafe fn obey(shared: &Shared) {
    // SYNC: observe(order)
    if shared.turn.load(Ordering::Acquire) != GUARDIAN {
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
    shared.turn.store(HOST, Ordering::Release);
    futex::wake(&shared.turn, i32::MAX);
}

/// Reaps what has ended and reports the workers among it. Whether children are left.
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
                // While its leader is not reaped, the number of the group cannot be another's.
                libc::kill(-pid, libc::SIGKILL);
            }
            let mut status = 0;
            libc::syscall(libc::SYS_wait4, pid, &raw mut status, libc::__WALL, usage);
            if let Some(slot) = slot {
                slot.pid.store(NONE, Ordering::Relaxed);
                slot.status.store(status, Ordering::Relaxed);
                // SYNC: publish(status)
                slot.ended.store(true, Ordering::Release);
                shared.ring();
            }
        }
    }
}

/// Kills every descendant. What has lost its parent becomes a child of this process, which is how those
/// are found that no group or session leads to.
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
        // In a /proc of another pid namespace the numbers would be those of other processes.
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
                // Never 0, -1 or init, which stand for others.
                match std::mem::take(&mut number) {
                    child @ 2.. => act(child),
                    _ => {}
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
