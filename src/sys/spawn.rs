//! Starting a program: `posix_spawn`, and fork + exec for what it cannot do.
//!
//! Everything that can fail for the caller's reasons or that allocates happens before, in
//! the making of a [`Plan`]. Both ways then do the same in the child, in this order:
//!
//! ```text
//! signals to default ─ (die with parent) ─ session / group ─ dup2 each fd ─ chdir
//!   ─ close the rest ─ signal mask ─ exec
//! ```
//!
//! `posix_spawn` shares the parent's memory until the exec, so its cost does not grow with
//! the parent; fork copies the page tables.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::{Error, Result};

/// The highest descriptor a child can be given, so that gaps below it can be closed one by one.
pub(crate) const MAX_FD: RawFd = 1023;

/// All that a child is made from.
pub(crate) struct Plan {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) cwd: Option<CString>,
    /// `(to, from)`: the child has `from` as `to`. P1: every `from` is above every `to`, so
    /// that no dup2 overwrites a descriptor that is still needed. P2: each `to` once.
    pub(crate) fds: Vec<(RawFd, OwnedFd)>,
    pub(crate) session: bool,
    pub(crate) group: bool,
    pub(crate) keep_signals: bool,
    /// The signals blocked in the child.
    pub(crate) mask: libc::sigset_t,
}

impl Plan {
    /// The first descriptor that is closed in the child, with everything above it.
    fn first_closed(&self) -> RawFd {
        self.fds
            .iter()
            .map(|(to, _)| to + 1)
            .max()
            .unwrap_or(0)
            .max(3)
    }

    /// What lies between the descriptors that are kept. 0, 1 and 2 are always kept.
    fn gaps(&self) -> impl Iterator<Item = RawFd> + '_ {
        (3..self.first_closed()).filter(|fd| self.fds.iter().all(|(to, _)| to != fd))
    }
}

/// Why no child was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// The call that failed; `"exec"` covers all that `posix_spawn` does not tell apart.
    pub(crate) call: &'static str,
    pub(crate) errno: i32,
}

/// NULL-terminated, borrowed from the strings.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    let each = strings.iter().map(|s| s.as_ptr().cast_mut());
    each.chain([ptr::null_mut()]).collect()
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

/// Replaces the calling thread's signal mask and returns the old one; `None` only asks.
pub(crate) fn thread_signal_mask(new: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut old = signal_set(false);
    let new = new.map_or(ptr::null(), |set| set as *const _);
    // SAFETY: both point to sets or are null; it cannot fail with a valid `how`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, new, &mut old) };
    old
}

/// Whether this process may execute the file.
pub(crate) fn is_executable(path: &CStr) -> bool {
    // SAFETY: a NUL-terminated path and integers.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// A close-on-exec duplicate of `fd`, numbered `above` or higher; `None` if `fd` is not open.
pub(crate) fn duplicate(fd: RawFd, above: RawFd) -> Result<Option<OwnedFd>> {
    // SAFETY: fcntl takes integers; a descriptor that is not open is an error.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) } {
        -1 => match Error::last_os("fcntl") {
            Error::Os {
                errno: libc::EBADF, ..
            } => Ok(None),
            err => Err(err),
        },
        // SAFETY: the kernel just made this descriptor for us.
        new => Ok(Some(unsafe { OwnedFd::from_raw_fd(new) })),
    }
}

/// A close-on-exec pipe: the end to read from, the end to write to.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(Error::last_os("pipe2"));
    }
    // SAFETY: the kernel just made these descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The attributes and file actions of one `posix_spawn`, freed with it.
struct Attributes(libc::posix_spawnattr_t, libc::posix_spawn_file_actions_t);

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: both were initialised when the value was made.
        unsafe {
            libc::posix_spawnattr_destroy(&mut self.0);
            libc::posix_spawn_file_actions_destroy(&mut self.1);
        }
    }
}

impl Attributes {
    fn new(plan: &Plan) -> Result<Self, Failure> {
        let mut attr = MaybeUninit::uninit();
        let mut actions = MaybeUninit::uninit();
        // SAFETY: both calls initialise what they are given; glibc's cannot fail.
        let mut this = unsafe {
            libc::posix_spawnattr_init(attr.as_mut_ptr());
            libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
            Attributes(attr.assume_init(), actions.assume_init())
        };
        let Attributes(attr, actions) = &mut this;

        let mut flags = libc::POSIX_SPAWN_SETSIGMASK;
        for (wanted, flag) in [
            (!plan.keep_signals, libc::POSIX_SPAWN_SETSIGDEF),
            (plan.session, libc::c_int::from(libc::POSIX_SPAWN_SETSID)),
            (plan.group, libc::POSIX_SPAWN_SETPGROUP),
        ] {
            flags |= if wanted { flag } else { 0 };
        }
        let all = signal_set(true);
        let done = |errno| match errno {
            0 => Ok(()),
            errno => Err(Failure {
                call: "posix_spawn_file_actions",
                errno,
            }),
        };
        // SAFETY: `attr` and `actions` are initialised; the sets and paths outlive the calls,
        // which copy them; the rest are integers.
        unsafe {
            done(libc::posix_spawnattr_setsigmask(attr, &plan.mask))?;
            done(libc::posix_spawnattr_setsigdefault(attr, &all))?;
            done(libc::posix_spawnattr_setpgroup(attr, 0))?;
            done(libc::posix_spawnattr_setflags(attr, flags as libc::c_short))?;
            for (to, from) in &plan.fds {
                let from = from.as_raw_fd();
                done(libc::posix_spawn_file_actions_adddup2(actions, from, *to))?;
            }
            if let Some(cwd) = &plan.cwd {
                done(libc::posix_spawn_file_actions_addchdir_np(
                    actions,
                    cwd.as_ptr(),
                ))?;
            }
            for fd in plan.gaps() {
                done(libc::posix_spawn_file_actions_addclose(actions, fd))?;
            }
            let first = plan.first_closed();
            done(libc::posix_spawn_file_actions_addclosefrom_np(
                actions, first,
            ))?;
        }
        Ok(this)
    }
}

/// Starts the program. On failure there is no child, not even for a moment after.
pub(crate) fn posix_spawn(plan: &Plan) -> Result<libc::pid_t, Failure> {
    let attributes = Attributes::new(plan)?;
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    let mut pid = 0;
    // SAFETY: the attributes are initialised, the arrays end with NULL, and all strings they
    // point to live in `plan`.
    let errno = unsafe {
        libc::posix_spawn(
            &mut pid,
            plan.program.as_ptr(),
            &attributes.1,
            &attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    match errno {
        0 => Ok(pid),
        errno => Err(Failure {
            call: "exec",
            errno,
        }),
    }
}

unsafe extern "C" {
    /// fork() without the handlers of `pthread_atfork`: they are for children that stay.
    fn _Fork() -> libc::pid_t;
}

/// The steps of the forked child; the number of the one that failed goes back by a pipe.
const STEPS: [&str; 7] = [
    "prctl",
    "setsid",
    "setpgid",
    "dup2",
    "chdir",
    "close_range",
    "exec",
];

/// As [`posix_spawn`], for a child that the kernel kills when the calling thread ends.
///
/// All signals must be blocked in the calling thread, so that no handler runs in the child.
pub(crate) fn fork_exec(plan: &Plan) -> Result<libc::pid_t, Failure> {
    let fail = |err: Error| match err {
        Error::Os { call, errno } => Failure { call, errno },
        _ => Failure {
            call: "fork",
            errno: libc::EINVAL,
        },
    };
    let (report, low) = pipe().map_err(fail)?;
    // Out of the way of every `to`.
    let sender = duplicate(low.as_raw_fd(), plan.first_closed())
        .map_err(fail)?
        .ok_or(Failure {
            call: "fcntl",
            errno: libc::EBADF,
        })?;
    drop(low);
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    let gaps: Vec<RawFd> = plan.gaps().collect();
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };

    // SAFETY: the child runs only `child`, which allocates nothing and takes no lock.
    match unsafe { _Fork() } {
        -1 => Err(fail(Error::last_os("fork"))),
        0 => {
            // SAFETY: this is a fresh child; the arrays end with NULL and live in its copy.
            let (step, errno) = unsafe { child(plan, parent, &gaps, &argv, &envp) };
            let words = [step as i32, errno];
            // SAFETY: eight initialised bytes; a pipe takes them whole.
            unsafe {
                libc::write(sender.as_raw_fd(), words.as_ptr().cast(), 8);
                libc::_exit(127)
            }
        }
        pid => {
            drop(sender);
            match read_report(&report) {
                None => Ok(pid),
                Some([step, errno]) => {
                    collect(pid);
                    let call = STEPS.get(step as usize).copied().unwrap_or("fork");
                    Err(Failure { call, errno })
                }
            }
        }
    }
}

/// Waits for a child that is on its way out; its status is not wanted.
fn collect(pid: libc::pid_t) {
    loop {
        // SAFETY: a null status is not written.
        let done = unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        let interrupted = Error::Os {
            call: "waitpid",
            errno: libc::EINTR,
        };
        if done != -1 || Error::last_os("waitpid") != interrupted {
            return;
        }
    }
}

/// Ends a child that was started but cannot be handed out, and collects it.
pub(crate) fn discard(pid: libc::pid_t) {
    // SAFETY: integers; the child is unreaped, so the number is still its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    collect(pid);
}

/// What the child sent; `None` when its exec closed the pipe, or when it was killed before.
fn read_report(report: &OwnedFd) -> Option<[i32; 2]> {
    let mut words = [0i32; 2];
    loop {
        // SAFETY: room for eight bytes.
        let n = unsafe { libc::read(report.as_raw_fd(), words.as_mut_ptr().cast(), 8) };
        match n {
            8 => return Some(words),
            -1 if matches!(
                Error::last_os("read"),
                Error::Os {
                    errno: libc::EINTR,
                    ..
                }
            ) => {}
            _ => return None,
        }
    }
}

/// Becomes the program, or returns the step that failed and its `errno`.
///
/// # Safety
///
/// Only in a freshly forked child, with all signals blocked. Calls nothing that is not
/// async-signal-safe.
unsafe fn child(
    plan: &Plan,
    parent: libc::pid_t,
    gaps: &[RawFd],
    argv: &[*mut libc::c_char],
    envp: &[*mut libc::c_char],
) -> (usize, i32) {
    // SAFETY: errno of this thread.
    let errno = || unsafe { *libc::__errno_location() };
    // SAFETY: system calls on integers and on pointers into this process's copy of the plan.
    unsafe {
        for signal in 1..=64 {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            libc::sigaction(signal, ptr::null(), &mut action);
            if !(plan.keep_signals && action.sa_sigaction == libc::SIG_IGN) {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return (0, errno());
        }
        // The parent may have died before the line above took effect.
        if libc::getppid() != parent {
            libc::_exit(127);
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
        if let Some(cwd) = &plan.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            return (4, errno());
        }
        for fd in gaps {
            libc::close(*fd);
        }
        // Marked rather than closed: the report must survive a failing exec.
        let (first, last) = (plan.first_closed() as u32, u32::MAX);
        let cloexec = libc::CLOSE_RANGE_CLOEXEC;
        if libc::syscall(libc::SYS_close_range, first, last, cloexec) != 0 {
            return (5, errno());
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &plan.mask, ptr::null_mut());
        libc::execve(
            plan.program.as_ptr(),
            argv.as_ptr().cast(),
            envp.as_ptr().cast(),
        );
        (6, errno())
    }
}
