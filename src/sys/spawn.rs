//! Starting a program: a child that shares this process's memory until its exec.
//!
//! Everything that allocates, or can fail because of the caller's arguments, happens before, when a [`Plan`]
//! is made. The child then does, in this order:
//!
//! ```text
//! signals to default - (die with parent) - session / group - dup2 each fd
//!   - standard streams that are left as they are - chdir - close the rest - signal mask - exec
//! ```
//!
//! As in `posix_spawn` the child is made by `CLONE_VM | CLONE_VFORK`: no page table is copied, so the cost
//! does not grow with the parent, and the calling thread sleeps until the child has executed the program or
//! ended. So the kernel tells when the exec succeeded, and a child that failed leaves the reason in this
//! process's memory. No pipe is used for that: its end could be copied into a process that another thread
//! forks, and would stay open while that process exists. `posix_spawn` itself cannot make the kernel kill the
//! child when its parent ends, and does not report which step failed.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU32;

use super::errno;
use super::fd::off_streams;

unsafe extern "C" {
    /// `clone` under its other name: ThreadSanitizer replaces `clone` by a function that takes the child to
    /// have memory of its own. Then both would change the sanitizer's tables for the child.
    #[link_name = "__clone"]
    pub(super) fn clone(
        child: extern "C" fn(*mut libc::c_void) -> libc::c_int,
        stack: *mut libc::c_void,
        flags: libc::c_int,
        arg: *mut libc::c_void,
        ...
    ) -> libc::c_int;
}

/// The highest descriptor a child can be given: most systems allow no more than 1024.
pub(crate) const MAX_FD: RawFd = 1023;

/// Everything that a child is made from.
pub(crate) struct Plan {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) cwd: Option<CString>,
    /// `(to, from)`: the child has `from` as `to`. P1: every `from` is above every `to` and
    /// above 2, so that no dup2 overwrites a descriptor that is still needed. P2: each `to`
    /// once.
    pub(crate) fds: Vec<(RawFd, OwnedFd)>,
    pub(crate) session: bool,
    pub(crate) group: bool,
    pub(crate) keep_signals: bool,
    pub(crate) die_with_parent: bool,
    /// The signals blocked in the child.
    pub(crate) mask: libc::sigset_t,
}

impl Plan {
    fn gives(&self, fd: RawFd) -> bool {
        self.fds.iter().any(|(to, _)| *to == fd)
    }

    /// The standard streams that the child inherits. A child always has all three: one that the parent has
    /// marked close-on-exec stays open, and one that the parent has closed leads to `/dev/null`. Otherwise
    /// the first file that the program opens would become its output.
    fn inherited(&self) -> impl Iterator<Item = RawFd> {
        (0..3).filter(|&stream| !self.gives(stream))
    }

    /// The ranges of descriptors to close in the child: all but the standard streams and the given ones.
    fn closed(&self) -> Vec<(libc::c_uint, libc::c_uint)> {
        let mut given: Vec<_> = self.fds.iter().map(|(to, _)| to.cast_unsigned()).collect();
        given.sort_unstable();
        let mut ranges = Vec::new();
        let mut first = 3;
        for to in given.into_iter().filter(|&to| to >= 3) {
            if first < to {
                ranges.push((first, to - 1));
            }
            first = to + 1;
        }
        ranges.push((first, libc::c_uint::MAX));
        ranges
    }
}

/// Why no child was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// The call that failed.
    pub(crate) call: &'static str,
    pub(crate) errno: i32,
}

/// A NULL-terminated array of pointers to the strings.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    let each = strings.iter().map(|s| s.as_ptr().cast_mut());
    each.chain([ptr::null_mut()]).collect()
}

/// The shell that runs scripts without a `#!` line.
const SHELL: &CStr = c"/bin/sh";

/// A NULL-terminated array: the shell runs the program as a script with the program's arguments.
fn shell_argv(plan: &Plan) -> Vec<*mut libc::c_char> {
    let args = plan.argv.iter().skip(1).map(|arg| arg.as_ptr());
    [SHELL.as_ptr(), plan.program.as_ptr()]
        .into_iter()
        .chain(args)
        .chain([ptr::null()])
        .map(<*const libc::c_char>::cast_mut)
        .collect()
}

/// A signal set of all signals, or of none.
pub(crate) fn signal_set(full: bool) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: either call initialises the whole set.
    unsafe {
        if full {
            libc::sigfillset(set.as_mut_ptr());
        } else {
            libc::sigemptyset(set.as_mut_ptr());
        }
        set.assume_init()
    }
}

/// Replaces the calling thread's signal mask and returns the old one; with `None`, only returns it.
pub(crate) fn thread_signal_mask(new: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut old = signal_set(false);
    let new = new.map_or(ptr::null(), |set| set as *const _);
    // SAFETY: both point to sets or are null; it cannot fail with a valid `how`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, new, &mut old) };
    old
}

/// Blocks all signals in the calling thread, and restores its mask when dropped.
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn new() -> Self {
        Self(thread_signal_mask(Some(&signal_set(true))))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        thread_signal_mask(Some(&self.0));
    }
}

/// Whether this process may execute the file.
pub(crate) fn is_executable(path: &CStr) -> bool {
    // SAFETY: a NUL-terminated path and integers.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// A child, and its descriptor (close-on-exec) if the kernel made one with the child: that refers to the
/// child even if it was reaped meanwhile.
pub(crate) type Started = (libc::pid_t, Option<OwnedFd>);

/// The steps of the child that can fail.
const STEPS: [&str; 9] = [
    "prctl",
    "setsid",
    "setpgid",
    "dup2",
    "fcntl",
    "open(/dev/null)",
    "chdir",
    "close_range",
    "exec",
];

/// The child's stack, in units of its alignment: 64 KiB. The steps need a small part of that; the dynamic
/// linker, which may resolve a function, needs up to 12 KiB.
const STACK: usize = 4096;

/// A plan and the memory that starting it takes, so that the start itself allocates nothing.
pub(crate) struct Start<'a> {
    plan: &'a Plan,
    ranges: Vec<(libc::c_uint, libc::c_uint)>,
    argv: Vec<*mut libc::c_char>,
    /// The arguments of the shell, if the program is a script without a `#!` line.
    shell_argv: Vec<*mut libc::c_char>,
    envp: Vec<*mut libc::c_char>,
    stack: UnsafeCell<Vec<MaybeUninit<u128>>>,
    /// The process that starts it, which is the child's parent.
    parent: Cell<libc::pid_t>,
    /// The step of [`STEPS`] that failed, and its `errno`. The child writes it while the
    /// parent's thread sleeps in `clone`; the parent reads it after.
    failed: Cell<Option<(usize, i32)>>,
    /// The child, for as long as it uses this process's memory; else 0. Written by the kernel, which also wakes its
    /// sleepers: so it holds if the thread that started the child is killed meanwhile.
    running: AtomicU32,
}

/// Starts the program. After a failure, the child is already reaped.
///
/// All signals must be blocked in the calling thread, so that no handler runs in the child.
/// With `die_with_parent` the kernel kills the child when the calling thread ends.
pub(crate) fn start(plan: &Plan) -> Result<Started, Failure> {
    Start::new(plan).run(true)
}

impl<'a> Start<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            ranges: plan.closed(),
            argv: pointers(&plan.argv),
            shell_argv: shell_argv(plan),
            envp: pointers(&plan.envp),
            stack: UnsafeCell::new(Vec::with_capacity(STACK)),
            parent: Cell::new(0),
            failed: Cell::new(None),
            running: AtomicU32::new(0),
        }
    }

    /// The number of the child while it uses this memory, in a start without a descriptor; else 0. A futex word.
    pub(crate) fn running(&self) -> &AtomicU32 {
        &self.running
    }

    /// As [`start`], with a descriptor of the child if `with_pidfd`. Neither allocates nor takes a lock.
    pub(crate) fn run(&self, with_pidfd: bool) -> Result<Started, Failure> {
        // SAFETY: getpid has no conditions.
        self.parent.set(unsafe { libc::getpid() });
        self.failed.set(None);
        let (pid, pidfd) = self.launch(with_pidfd)?;
        let Some((step, errno)) = self.failed.get() else {
            return Ok((pid, pidfd));
        };
        collect(pid);
        let call = STEPS.get(step).copied().unwrap_or("clone");
        Err(Failure { call, errno })
    }

    /// Makes the child and sleeps until it has executed the program, or ended.
    fn launch(&self, with_pidfd: bool) -> Result<Started, Failure> {
        // SAFETY: only this thread uses the stack; what an earlier child wrote there is not needed.
        let stack = unsafe { &mut *self.stack.get() };
        let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
        let this = ptr::from_ref(self).cast_mut().cast();
        let plain = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let running = self.running.as_ptr();
        // The kernel sets `running` before the child runs, and clears it at its exec or end.
        let noted = plain | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
        let with = plain | libc::CLONE_PIDFD;
        // Without a descriptor on the second try: emulators refuse one.
        for flags in [if with_pidfd { with } else { noted }, plain] {
            let mut fd: libc::c_int = -1;
            let place = if flags == noted {
                running.cast()
            } else {
                &raw mut fd
            };
            // SAFETY: the stack is aligned, large enough for `child`, and lives until the child no longer
            // needs it, as do `self` and all that it borrows: this thread sleeps until then. The child has a
            // copy of the descriptors and of the signal actions, and calls only what a child of vfork may
            // call. `fd` is room for a descriptor, and `running` for a number, for as long as the child.
            let pid = unsafe {
                let tls = ptr::null_mut::<libc::c_void>();
                clone(child, top.cast(), flags, this, place, tls, running)
            };
            if pid > 0 {
                // SAFETY: the kernel just made this descriptor for us.
                let pidfd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
                return Ok((pid, pidfd.map(off_streams)));
            }
            if errno() != libc::EINVAL {
                break;
            }
        }
        Err(Failure {
            call: "clone",
            errno: errno(),
        })
    }
}

/// The child before the program, on a stack of its own.
extern "C" fn child(start: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone` was given this pointer, and the thread that owns it sleeps.
    let start = unsafe { &*start.cast::<Start<'_>>() };
    // SAFETY: this is that child, and all signals are blocked.
    start.failed.set(Some(unsafe { start.become_program() }));
    // SAFETY: it ends the child, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Reaps a child that is ending; its status is not needed.
fn collect(pid: libc::pid_t) {
    loop {
        // By a direct system call: the C library's function is a cancellation point. SAFETY: null pointers
        // are not written to.
        let done = unsafe {
            let (status, usage) = (
                ptr::null_mut::<libc::c_int>(),
                ptr::null_mut::<libc::c_void>(),
            );
            libc::syscall(libc::SYS_wait4, pid, status, 0, usage)
        };
        if done != -1 || errno() != libc::EINTR {
            return;
        }
    }
}

/// Kills and reaps a child that was started but cannot be returned.
pub(crate) fn discard(pid: libc::pid_t) {
    // SAFETY: integers; the child is unreaped, so the number is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    collect(pid);
}

impl Start<'_> {
    /// Becomes the program, or returns the step that failed and its `errno`.
    ///
    /// # Safety
    ///
    /// Only in the child, with all signals blocked. It shares the parent's memory: it
    /// allocates nothing, takes no lock, and calls nothing that could end a thread that is
    /// being cancelled.
    unsafe fn become_program(&self) -> (usize, i32) {
        let plan = self.plan;
        // SAFETY: system calls on integers and on pointers into the plan. The child's signal
        // actions and descriptors are its own.
        unsafe {
            for signal in 1..=64 {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                if plan.keep_signals {
                    libc::sigaction(signal, ptr::null(), &mut action);
                }
                if action.sa_sigaction != libc::SIG_IGN {
                    action.sa_sigaction = libc::SIG_DFL;
                    libc::sigaction(signal, &action, ptr::null_mut());
                }
            }
            if plan.die_with_parent {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return (0, errno());
                }
                // The parent may have ended before the line above took effect.
                if libc::getppid() != self.parent.get() {
                    libc::_exit(127);
                }
            }
            if plan.session && libc::setsid() < 0 {
                return (1, errno());
            }
            if plan.group && libc::setpgid(0, 0) != 0 {
                return (2, errno());
            }
            for (to, from) in &plan.fds {
                if libc::dup2(from.as_raw_fd(), *to) < 0 {
                    return (3, errno());
                }
            }
            // In ascending order, so that a new descriptor gets the missing number, which is the lowest free
            // one.
            for stream in plan.inherited() {
                if libc::syscall(libc::SYS_fcntl, stream, libc::F_SETFD, 0) == 0 {
                    continue;
                }
                if errno() != libc::EBADF {
                    return (4, errno());
                }
                let (at, null) = (libc::AT_FDCWD, c"/dev/null".as_ptr());
                if libc::syscall(libc::SYS_openat, at, null, libc::O_RDWR) < 0 {
                    return (5, errno());
                }
            }
            if let Some(cwd) = &plan.cwd
                && libc::chdir(cwd.as_ptr()) != 0
            {
                return (6, errno());
            }
            for (first, last) in &self.ranges {
                if libc::syscall(libc::SYS_close_range, *first, *last, 0) != 0 {
                    return (7, errno());
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &plan.mask, ptr::null_mut());
            let failed = execute(&plan.program, &self.argv, &self.shell_argv, &self.envp);
            (8, failed)
        }
    }
}

/// Replaces this process by the plan's program. Descriptors, signals and the directory stay as they are. Returns
/// only if that failed.
pub(crate) fn replace(plan: &Plan) -> Failure {
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    // SAFETY: the arrays are of this plan, and end with NULL.
    let errno = unsafe { execute(&plan.program, &argv, &shell_argv(plan), &envp) };
    Failure {
        call: "exec",
        errno,
    }
}

/// Executes the program, or the shell if it is a script without a `#!` line. Returns the `errno`.
///
/// # Safety
///
/// The arrays point to strings and end with NULL. It may be called where [`Start::become_program`] is.
unsafe fn execute(
    program: &CStr,
    argv: &[*mut libc::c_char],
    shell_argv: &[*mut libc::c_char],
    envp: &[*mut libc::c_char],
) -> i32 {
    let envp = envp.as_ptr().cast();
    // SAFETY: system calls on strings and arrays that end as `execve` expects.
    unsafe {
        libc::execve(program.as_ptr(), argv.as_ptr().cast(), envp);
        let failed = errno();
        // As shells do, and `execvp`, which takes every file for a script.
        if failed == libc::ENOEXEC && may_be_script(program) {
            libc::execve(SHELL.as_ptr(), shell_argv.as_ptr().cast(), envp);
        }
        // If there is no shell, the error is that of the program.
        failed
    }
}

/// Whether a file may be a script: its first line is text. A program for another kind of machine is not a
/// script, and neither is a file that may not be read.
///
/// # Safety
///
/// As [`Start::become_program`].
unsafe fn may_be_script(file: &CStr) -> bool {
    let mut start = [0u8; 256];
    // SAFETY: system calls on a path that ends with NUL, and on a place of this stack with its size.
    let len = unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let fd = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, file.as_ptr(), flags);
        if fd < 0 {
            return false;
        }
        let len = libc::syscall(libc::SYS_read, fd, start.as_mut_ptr(), start.len());
        libc::syscall(libc::SYS_close, fd);
        len
    };
    let Some(start) = usize::try_from(len).ok().and_then(|len| start.get(..len)) else {
        return false;
    };
    start
        .iter()
        .take_while(|&&byte| byte != b'\n')
        .all(|&byte| byte != 0)
}
