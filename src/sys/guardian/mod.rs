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
//! **Why a process.** A thread ends with its process. `PR_SET_PDEATHSIG` alone reaches neither what workers
//! start nor a worker that changes its user. The guardian is not killed with the host. As a subreaper, it is
//! the ancestor of everything that its workers start, even of processes that start a new session or lose
//! their parent.
//!
//! **Why it shares the memory.** A library has no program of its own to execute. A fork would copy the page
//! tables of the host, and keep a copy of each page that the host then writes. The guardian runs on a stack
//! of its own, and uses the thread-local variables of the thread that made it, which meanwhile executes only
//! `wait4`. It neither allocates nor takes a lock: the host may be killed while one of its threads holds that
//! lock. Orders and reports are passed by atomics.
//!
//! **Why it is the parent.** Only the guardian reaps the workers, so a number that it signals cannot belong
//! to another process, and no `wait` of the host for any child takes a worker's exit. The host's `wait` does
//! not see the guardian either: it has no exit signal.
//!
//! # What a kill leaves
//!
//! The host can be killed at any instruction, and so can the guardian.
//!
//! | killed | what happens |
//! |---|---|
//! | host, before the guardian has asked for a signal at the host's death | the guardian sees another parent, and ends; there is no worker yet |
//! | host, later | the kernel signals the guardian; it kills all its descendants, reaps them, and ends |
//! | host, while the guardian starts a worker | the guardian sleeps until the program runs or has failed, and then does as above |
//! | guardian, before a worker has asked for a signal at the guardian's death | the worker sees another parent, and ends before its program begins; until then it uses the host's memory, so the host kills it and waits for that |
//! | guardian, later | the kernel kills each worker; the host notices, since its thread's `wait4` returns |
//!
//! # Limits
//! - If the guardian is killed, the kernel kills the workers, but not one that has changed its user, and not
//!   what they have started: the host has to find those (`process/supervisor/marked.rs`). If host and
//!   guardian are killed, those remain. The out-of-memory killer kills both at once: it ends all processes
//!   that share the host's memory.
//! - A host that executes another program remains the parent of the guardian. The guardian kills the workers
//!   and ends, and is a zombie until that program ends.
//! - A descendant that runs as another user (such as by `sudo`) cannot be signalled.
//! - Without `/proc` of this pid namespace, only the workers and their process groups are found.

mod child;
mod shared;

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use self::child::guard;
pub(crate) use self::child::set_liveness_mapping;
use self::shared::{
    ENDED, GUARDIAN, HOST, NONE, Order, READY, SLICE_NS, STARTING, Shared, Slot, WAKE,
};
use super::spawn::{Failure, Plan, Start, clone};
use super::{clock, errno, futex, pidfd, thread};
use crate::error::{Error, Result};

/// The guardian's stack in units of its alignment: 64 KiB.
const STACK: usize = 4096;

/// The host's side. Used by one thread at a time.
pub(crate) struct Guardian {
    shared: Arc<Shared>,
}

impl Guardian {
    /// Makes a guardian for `slots` workers. `wake_word` changes, and its sleepers are woken, when a worker
    /// or the guardian has ended.
    ///
    /// # Errors
    /// `Os` if no thread or process can be made; `Unsupported` if a child cannot share memory.
    pub(crate) fn new(slots: usize, wake_word: &Arc<AtomicU32>) -> Result<Self> {
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
            owner: AtomicU32::new(HOST),
            order: UnsafeCell::new(Order::Signal { slot: 0, signal: 0 }),
            answer: UnsafeCell::new(Ok(0)),
            stop: AtomicBool::new(false),
            has_killed_all: AtomicBool::new(false),
            slots: std::iter::repeat_with(slot).take(slots).collect(),
            wake_word: Arc::clone(wake_word),
        });
        let shared_by_thread = Arc::clone(&shared);
        thread::start("shoal-guardian", move || run(&shared_by_thread))?;
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

    /// Whether the guardian is running. Without it, there are no workers either.
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
        // Valid for this call, which does not return before the guardian and the child have finished with it: a
        // guardian that is killed counts as ended only after that.
        let start = ptr::from_ref(&start).cast::<Start<'static>>();
        self.shared.slots[slot]
            .ended
            .store(false, Ordering::Relaxed);
        self.give(Order::Start { slot, start })
    }

    /// Signals the group of a worker, if it runs.
    pub(crate) fn signal(&self, slot: usize, signal: libc::c_int) -> Result<()> {
        self.give(Order::Signal { slot, signal }).map(drop)
    }

    /// The wait status of a slot's worker, if it has ended since it was started. Returned once.
    pub(crate) fn take_ended(&self, slot: usize) -> Option<i32> {
        let slot = &self.shared.slots[slot];
        // SYNC: observe(status)
        let ended = slot.ended.swap(false, Ordering::Acquire);
        ended.then(|| slot.status.load(Ordering::Relaxed))
    }

    fn give(&self, order: Order) -> Result<Result<libc::pid_t, Failure>> {
        let shared = &*self.shared;
        if !self.is_there() {
            return Err(Error::GuardianKilled);
        }
        // SAFETY: G1: the order is the host's, and only this thread gives orders.
        unsafe { *shared.order.get() = order };
        // SYNC: publish(order)
        shared.owner.store(GUARDIAN, Ordering::Release);
        self.send(WAKE);
        let limit = clock::now_ns() + SLICE_NS;
        loop {
            // SYNC: observe(answer)
            if shared.owner.load(Ordering::Acquire) == HOST {
                // SAFETY: G1.
                return Ok(unsafe { *shared.answer.get() });
            }
            if !self.is_there() {
                return Err(Error::GuardianKilled);
            }
            futex::wait(&shared.owner, GUARDIAN, clock::now_ns() + SLICE_NS / 10);
            self.resume_after(limit);
        }
    }

    fn send(&self, signal: libc::c_int) {
        // While the state is READY, the guardian is not reaped, except between the `wait4` of its thread and the
        // store of ENDED. The kernel does not reuse a number that soon. SAFETY: integers.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// A guardian that has not answered by then may be stopped (`SIGSTOP`): it is continued, so that no call waits
    /// for it for ever.
    fn resume_after(&self, limit: u64) {
        if clock::now_ns() > limit {
            self.send(libc::SIGCONT);
        }
    }

    /// Kills what the workers have left, ends the guardian, and waits for its end. False if the guardian was killed
    /// before it had done that.
    pub(crate) fn finish(&self) -> bool {
        let shared = &*self.shared;
        shared.stop.store(true, Ordering::Release);
        let limit = clock::now_ns() + SLICE_NS;
        while self.is_there() {
            self.send(WAKE);
            futex::wait(&shared.state, READY, clock::now_ns() + SLICE_NS / 10);
            self.resume_after(limit);
        }
        shared.has_killed_all.load(Ordering::Acquire)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread that makes the guardian and waits for its end.
fn run(shared: &Arc<Shared>) {
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(STACK);
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let arg = Arc::as_ptr(shared).cast_mut().cast();
    // No exit signal: the host's `wait` for any child does not see the guardian.
    let flags = libc::CLONE_VM | libc::CLONE_FILES;
    // SAFETY: the stack is aligned and large enough for `guard`. This frame keeps it, and a share of what
    // `arg` points to, until the guardian has ended. All signals are blocked. Until then this thread executes
    // only `park`, so that only the guardian uses the thread-local variables.
    let pid = unsafe { clone(guard, top.cast(), flags, arg) };
    if pid < 0 {
        shared.errno.store(errno(), Ordering::Relaxed);
    } else {
        shared.pid.store(pid, Ordering::Relaxed);
        // SAFETY: `pid` is a child of this process that no other thread reaps: it has no exit signal, and
        // nothing else waits for children without one.
        unsafe { park(pid, shared.parked.as_ptr()) };
        end_started(shared);
    }
    drop(stack);
    shared.set_state(ENDED);
}

/// Ends the child that a killed guardian was starting, and waits for its end: it runs on memory that `start` frees
/// once the guardian counts as ended, and with the thread-local variables of this thread.
fn end_started(shared: &Shared) {
    // SYNC: observe(order)
    if shared.owner.load(Ordering::Acquire) != GUARDIAN {
        return;
    }
    // SAFETY: G1: the order was the guardian's, which has ended, and `give` gives no other before the state
    // changes.
    let Order::Start { start, .. } = (unsafe { *shared.order.get() }) else {
        return;
    };
    // SAFETY: `give` has not returned, so the start exists; this word of it is atomic.
    let running = unsafe { (*start).running() };
    loop {
        // SYNC: the kernel clears it when the child no longer uses the memory.
        let pid = running.load(Ordering::Acquire);
        if pid == 0 {
            return;
        }
        // If `running` still has the number after that, the descriptor is the child's and not that of another
        // process with the same number. Without a descriptor the child ends by itself, unless it is stopped.
        if let Some(child) = pidfd::of_any(pid.cast_signed())
            && running.load(Ordering::Acquire) == pid
        {
            let _ = pidfd::signal(child.as_fd(), libc::SIGKILL);
        }
        futex::wait(running, pid, clock::now_ns() + SLICE_NS / 100);
    }
}

/// Sets `*parked` and waits for the end of a child, without using a thread-local variable.
///
/// # Safety
/// `parked` is a place that other threads only read; `pid` is a child to be reaped here.
unsafe fn park(pid: libc::pid_t, parked: *mut u32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a store to the caller's place and `wait4` without buffers, which is repeated after a signal
    // handler of the C library has interrupted it.
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
