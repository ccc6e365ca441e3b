//! A child process: joining it, signalling it, its pipes.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::child::Child;
use super::detached;
use crate::error::{Error, Result};
use crate::sync::{EndWaits, Nap, Slept, Waits};
use crate::sys::clock::{Deadline, IntoTimeout};
use crate::sys::pidfd::{self, Reaped};
use crate::sys::poll;
use crate::sys::spawn::discard;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub enum ExitKind {
    /// It exited, with an exit code.
    Exited = 0,
    /// A signal killed it.
    Signaled = 1,
    /// It has ended, but its exit is not known: something else collected it, such as the kernel if `SIGCHLD`
    /// is ignored. That hides the exit of every child before Linux 6.15, and since then only of a forked
    /// child that ends at once.
    Unknown = 2,
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exit {
    /// How it ended.
    pub kind: ExitKind,
    /// The exit code (0 to 255), the number of the signal, or -1 if unknown.
    pub code: i32,
}

impl Exit {
    const UNKNOWN: Exit = Exit {
        kind: ExitKind::Unknown,
        code: -1,
    };

    /// Whether the process exited with code 0.
    ///
    /// ```
    /// use shoal::{Spawn, Timeout};
    ///
    /// assert!(Spawn::new("true").spawn()?.join(Timeout::Infinite)?.success());
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn success(&self) -> bool {
        (self.kind, self.code) == (ExitKind::Exited, 0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ExitKind::Exited => write!(f, "exited with code {}", self.code),
            ExitKind::Signaled => write!(f, "killed by signal {}", self.code),
            ExitKind::Unknown => f.write_str("gone, exit unknown"),
        }
    }
}

/// A child process.
///
/// Every method may be called from any thread. Dropping a `Process` does not end the child:
/// it is detached, and its exit is collected later. A forked copy of this process is not the
/// child's parent: it can signal the child and wait for it, but the exit is
/// [`ExitKind::Unknown`].
///
/// ```
/// use shoal::{ExitKind, Spawn, Timeout};
/// use std::time::Duration;
///
/// let child = Spawn::new("sleep").arg("600").spawn()?;
/// assert!(child.join(Timeout::Val(Duration::from_millis(1))).is_err());
/// child.terminate()?;
/// assert_eq!(child.join(Timeout::Infinite)?.kind, ExitKind::Signaled);
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    /// `None` if something else collected the child before it could be opened.
    child: Option<Child>,
    /// The process that created the child, the only one that can reap it.
    creator: u32,
    leads_group: bool,
    /// Set once the child is reaped. Held only across calls that do not wait.
    exit: Mutex<Option<Exit>>,
    pipes: Mutex<[Option<OwnedFd>; 3]>,
    waits: Waits,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// The unreaped child `pid`, with its descriptor if that came with it.
    pub(super) fn new(
        pid: libc::pid_t,
        pidfd: Option<OwnedFd>,
        leads_group: bool,
        pipes: [Option<OwnedFd>; 3],
    ) -> Result<Process> {
        // Without a descriptor the child cannot be returned, and must not continue to run.
        let pidfd = match pidfd {
            Some(pidfd) => Some(pidfd),
            None => pidfd::open(pid).inspect_err(|_| discard(pid))?,
        };
        let exit = Mutex::new(pidfd.is_none().then_some(Exit::UNKNOWN));
        Ok(Process {
            pid,
            child: pidfd.map(|fd| Child::new(pid, fd)),
            creator: std::process::id(),
            leads_group,
            exit,
            pipes: Mutex::new(pipes),
            waits: Waits::new(),
        })
    }

    /// Its process number. After a join the number may belong to another process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its process descriptor, which polls readable when the process has ended.
    ///
    /// This value owns it: do not close it, and do not reap through it. If the program has closed it
    /// nevertheless, it is opened again. `None` if the process was joined, or if something else collected the
    /// child before it was opened (in a host that ignores `SIGCHLD`).
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor().ok()?
    }

    /// [`pidfd`](Self::pidfd), with the error.
    ///
    /// # Errors
    /// `Os`: it must be opened again, and no descriptor is left.
    pub(crate) fn descriptor(&self) -> Result<Option<BorrowedFd<'_>>> {
        let Some(child) = &self.child else {
            return Ok(None);
        };
        if let Some(fd) = child.fd() {
            return Ok(Some(fd));
        }
        if self.creator != std::process::id() {
            return Ok(None);
        }
        // Locked so that no thread reaps the child, which would free its number.
        let exit = lock(&self.exit);
        match *exit {
            Some(_) => Ok(None),
            None => child.open_again(),
        }
    }

    /// Waits until the process has ended, and returns how. Later calls return the same at once.
    ///
    /// `Timeout::Val(Duration::ZERO)` does not wait. Several threads may join one process. The pipes remain
    /// open; a child that fills a pipe which no process reads never ends.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]: it still runs. [`Error::Interrupted`]: a signal handler ran while
    /// waiting; call again to continue. [`Error::Detached`]: see [`end_waits`](Self::end_waits).
    pub fn join(&self, timeout: impl IntoTimeout) -> Result<Exit> {
        let (deadline, mut nap) = (Deadline::after(timeout), Nap::FIRST);
        loop {
            if let Some(exit) = self.try_join()? {
                return Ok(exit);
            }
            // If there is none, it has ended meanwhile.
            let Some(pidfd) = self.descriptor()? else {
                continue;
            };
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            self.waits.enter()?;
            let until_ns = deadline.slice(nap.ns());
            poll::readable(&[pidfd], Deadline::At(until_ns))?;
            nap.ended(Slept::TimedOut);
        }
    }

    /// Ends the waits through this handle, as [`Queue::end_waits`](crate::Queue::end_waits) does, a
    /// tenth of a second later at most.
    pub fn end_waits(&self) {
        self.waits.end([]);
    }

    /// The waits of threads for its end.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// How the process ended, or `None` while it runs. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::Os`]: the program has closed the descriptor, and no other is left.
    ///
    /// ```
    /// let child = shoal::Spawn::new("sleep").arg("600").spawn()?;
    /// assert_eq!(child.try_join()?, None);
    /// child.kill()?;
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn try_join(&self) -> Result<Option<Exit>> {
        if self.creator != std::process::id() {
            // A forked copy: the mutex may have been held at the fork, so leave it alone.
            let ended = match self.descriptor()? {
                Some(pidfd) => poll::readable(&[pidfd], Deadline::Now)?,
                None => true,
            };
            return Ok(ended.then_some(Exit::UNKNOWN));
        }
        let Some(pidfd) = self.descriptor()? else {
            // It was joined, or something else collected it.
            let mut exit = lock(&self.exit);
            return Ok(Some(*exit.get_or_insert(Exit::UNKNOWN)));
        };
        let mut exit = lock(&self.exit);
        if exit.is_none() {
            *exit = match pidfd::reap(pidfd)? {
                Reaped::Running => None,
                Reaped::Exited(code) => Some(Exit {
                    kind: ExitKind::Exited,
                    code,
                }),
                Reaped::Signaled(code) => Some(Exit {
                    kind: ExitKind::Signaled,
                    code,
                }),
                Reaped::NotOurs => Some(Exit::UNKNOWN),
            };
        }
        Ok(*exit)
    }

    /// Sends a signal. If the process has ended, sends nothing and succeeds.
    ///
    /// Signal 0 sends nothing and only checks the permission.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is no such signal. [`Error::Permission`]: the child runs as
    /// another user now.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pidfd = self.descriptor()?;
        let sent = pidfd.map_or(Ok(()), |fd| pidfd::signal(fd, signal));
        sent.map_err(|err| self.refused(err, signal))
    }

    /// Asks the process to end (`SIGTERM`). As [`signal`](Self::signal).
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn terminate(&self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Ends the process at once (`SIGKILL`). As [`signal`](Self::signal).
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to the process and to all its descendants that stayed in its group.
    ///
    /// The child must have been started as the leader of a new group or session, and must not have been
    /// joined: after that its number may name another group.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: it leads no group, was joined, or there is no such signal. [`Error::Permission`]:
    /// this process may signal no process of the group.
    ///
    /// ```
    /// use shoal::{Spawn, Timeout};
    ///
    /// let shell = Spawn::new("sh").args(["-c", "sleep 600 & wait"]).new_group().spawn()?;
    /// shell.signal_group(9)?;
    /// assert_eq!(shell.join(Timeout::Infinite)?.code, 9);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn signal_group(&self, signal: i32) -> Result<()> {
        let refuse = |why| Err(Error::invalid("process group", why));
        if !self.leads_group {
            return refuse("the process was not started in a group of its own");
        }
        if self.creator != std::process::id() {
            return refuse("the process is not a child of this one");
        }
        // Locked so that no thread reaps the leader, which would free its number.
        let exit = lock(&self.exit);
        if exit.is_some() {
            return refuse("its leader was joined, so its number may name another group");
        }
        pidfd::signal_group(self.pid, signal).map_err(|err| self.refused(err, signal))
    }

    fn refused(&self, err: Error, signal: i32) -> Error {
        match err {
            Error::Os {
                errno: libc::EINVAL,
                ..
            } => Error::invalid("signal", format!("there is no signal {signal}")),
            Error::Os {
                errno: libc::EPERM, ..
            } => Error::Permission {
                name: format!("process {}", self.pid),
                why: "it runs as another user".to_owned(),
            },
            err => err,
        }
    }

    /// The writing end of its standard input. `None` if that is not a pipe, or was taken already.
    ///
    /// The caller owns it; the child reads end of file once it is closed. Pipes that are
    /// never taken are closed with the `Process`.
    pub fn take_stdin(&self) -> Option<OwnedFd> {
        self.take_pipe(0)
    }

    /// The reading end of its standard output. As [`take_stdin`](Self::take_stdin).
    pub fn take_stdout(&self) -> Option<OwnedFd> {
        self.take_pipe(1)
    }

    /// The reading end of its standard error. As [`take_stdin`](Self::take_stdin).
    pub fn take_stderr(&self) -> Option<OwnedFd> {
        self.take_pipe(2)
    }

    fn take_pipe(&self, stream: usize) -> Option<OwnedFd> {
        if self.creator == std::process::id() {
            return lock(&self.pipes)[stream].take();
        }
        // A forked copy: if another thread had the mutex at the fork, that thread took the pipe.
        match self.pipes.try_lock() {
            Ok(mut pipes) => pipes[stream].take(),
            Err(_) => None,
        }
    }
}

impl EndWaits for Process {
    fn end_waits(&self) {
        Process::end_waits(self);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        // A forked copy has none of the threads that were counted.
        if self.creator == std::process::id() {
            see(&self.waits);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let reaped = self.exit.get_mut().is_ok_and(|exit| exit.is_some());
        if let Some(child) = self.child.take()
            && !reaped
            && self.creator == std::process::id()
        {
            detached::adopt(child);
        }
    }
}
