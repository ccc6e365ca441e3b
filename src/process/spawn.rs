//! The description of a child, and its start.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use super::handle::Process;
use super::lookup::{self, Environment, c_string};
use super::{detached, spawner};
use crate::device::lease::{Lease, Mode};
use crate::error::{Error, Result};
use crate::sys::fd::{duplicate, pipe, remote};
use crate::sys::fork::hold_off;
use crate::sys::limits;
use crate::sys::spawn::{self as sys, Failure, MAX_FD, Plan};

/// Where one of a child's three standard streams leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// To where this process's own stream leads, even if that is marked close-on-exec. If this process has
    /// closed it: to `/dev/null`, since otherwise the first file that the child opens would take its number.
    #[default]
    Inherit,
    /// To `/dev/null`.
    Null,
    /// To a pipe, whose other end [`Process::take_stdin`], [`Process::take_stdout`] and
    /// [`Process::take_stderr`] return.
    Pipe,
    /// To this descriptor, which remains the caller's and must be open when the child is spawned.
    Fd(RawFd),
}

const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// A child to be started: the program, its arguments, and its surroundings.
///
/// Nothing happens before [`spawn`](Self::spawn), and one description can be spawned many times. That call
/// reports anything wrong with it, before a process exists.
///
/// ```
/// use shoal::{Spawn, Stdio, Timeout};
/// use std::io::Read;
///
/// let child = Spawn::new("sh")
///     .args(["-c", "echo $GREETING from $PWD"])
///     .env("GREETING", "hello")
///     .cwd("/")
///     .stdout(Stdio::Pipe)
///     .spawn()?;
/// let mut said = String::new();
/// std::fs::File::from(child.take_stdout().unwrap()).read_to_string(&mut said).unwrap();
/// assert_eq!(said, "hello from /\n");
/// assert!(child.join(Timeout::Infinite)?.success());
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spawn {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    clear: bool,
    /// `None` removes the variable.
    env: BTreeMap<OsString, Option<OsString>>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) stdio: [Stdio; 3],
    pub(super) fds: Vec<(RawFd, RawFd)>,
    group: bool,
    session: bool,
    keep_signals: bool,
    die_with_parent: bool,
    devices: Vec<(String, String)>,
    leases: Vec<LeasePart>,
}

/// A child's part of a lease.
#[derive(Debug, Clone)]
pub struct LeasePart {
    /// The lease.
    pub lease: Lease,
    /// Which of its devices the child sees.
    pub mode: Mode,
    /// The child's number among those that share the lease, from 0.
    pub worker: usize,
    /// How many share it.
    pub workers: usize,
}

impl Spawn {
    /// Describes a child that runs `program` with no arguments.
    ///
    /// A name without a slash is looked up in the `PATH` that the child will have. A relative
    /// path is relative to the directory the child starts in. A script without a `#!` line is run by
    /// `/bin/sh`.
    pub fn new(program: impl AsRef<OsStr>) -> Spawn {
        Spawn {
            program: program.as_ref().to_owned(),
            arg0: None,
            args: Vec::new(),
            clear: false,
            env: BTreeMap::new(),
            cwd: None,
            stdio: [Stdio::Inherit; 3],
            fds: Vec::new(),
            group: false,
            session: false,
            keep_signals: false,
            die_with_parent: false,
            devices: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// Sets the program's own name, `argv[0]`. The default is `program`.
    pub fn arg0(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(name.as_ref().to_owned());
        self
    }

    /// Adds an argument. The program's name precedes them automatically.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Sets a variable in the child.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let value = Some(value.as_ref().to_owned());
        self.env.insert(name.as_ref().to_owned(), value);
        self
    }

    /// Removes a variable from the child.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Starts from an empty environment. Drops variables that were set before this call, too.
    pub fn env_clear(&mut self) -> &mut Self {
        self.clear = true;
        self.env.clear();
        self
    }

    /// Starts the child in this directory.
    pub fn cwd(&mut self, directory: impl Into<PathBuf>) -> &mut Self {
        self.cwd = Some(directory.into());
        self
    }

    /// Sets where the child's standard input comes from.
    pub fn stdin(&mut self, from: Stdio) -> &mut Self {
        self.stdio[0] = from;
        self
    }

    /// Sets where the child's standard output goes.
    pub fn stdout(&mut self, to: Stdio) -> &mut Self {
        self.stdio[1] = to;
        self
    }

    /// Sets where the child's standard error goes.
    pub fn stderr(&mut self, to: Stdio) -> &mut Self {
        self.stdio[2] = to;
        self
    }

    /// Gives the child the descriptor `from` as its descriptor `to` (3 to 1023).
    ///
    /// `from` remains the caller's and must be open when the child is spawned. All other descriptors are
    /// closed in the child.
    ///
    /// ```
    /// use shoal::{Spawn, Timeout};
    /// use std::os::fd::AsRawFd;
    ///
    /// let file = std::fs::File::open("/dev/null").unwrap();
    /// let child = Spawn::new("sh").args(["-c", "cat <&7"]).fd(file.as_raw_fd(), 7).spawn()?;
    /// assert!(child.join(Timeout::Infinite)?.success());
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn fd(&mut self, from: RawFd, to: RawFd) -> &mut Self {
        self.fds.push((from, to));
        self
    }

    /// Makes the child the leader of a new process group, so that it can be signalled with
    /// its descendants ([`Process::signal_group`]) and does not get the terminal's Ctrl-C.
    pub fn new_group(&mut self) -> &mut Self {
        self.group = true;
        self
    }

    /// Makes the child the leader of a new session without a terminal, and of a new group.
    pub fn new_session(&mut self) -> &mut Self {
        self.session = true;
        self
    }

    /// Leaves ignored signals ignored and blocked signals blocked, as a plain exec would.
    ///
    /// By default a child starts with no signal ignored or blocked, whatever the settings of this
    /// process and the calling thread are.
    pub fn keep_signals(&mut self) -> &mut Self {
        self.keep_signals = true;
        self
    }

    /// Makes the kernel kill the child (`SIGKILL`) when this process ends, however it ends.
    ///
    /// The child is also killed when this process executes another program. Its own children are not covered, and
    /// neither is a program that changes its user on exec. The first such spawn starts a thread, `shoal-spawner`,
    /// which exists as long as the process and starts these children one at a time.
    pub fn die_with_parent(&mut self) -> &mut Self {
        self.die_with_parent = true;
        self
    }

    /// Restricts the devices of a family that the child sees, as [`crate::device`] explains.
    ///
    /// Indices count within what the child would see otherwise: under this process's own mask, or under the
    /// one that [`env`](Self::env) sets. Once per family; families that share a variable cannot be combined.
    ///
    /// ```
    /// use shoal::{Error, Spawn};
    ///
    /// let mut child = Spawn::new("true");
    /// child.env("CUDA_VISIBLE_DEVICES", "2,3").devices("cuda", "5");
    /// assert!(matches!(child.spawn(), Err(Error::Invalid { .. })));
    /// ```
    pub fn devices(&mut self, family: impl Into<String>, mask: impl Into<String>) -> &mut Self {
        self.devices.push((family.into(), mask.into()));
        self
    }

    /// Gives the child a lease of devices: it sees them as worker number `worker` of `workers`
    /// ([`Lease::environment`]), and has the lease until it ends, even if this process ends earlier. So do
    /// its own children that inherit its descriptors, but not those that get [others](Self::fd) instead.
    ///
    /// This description also has the lease while it exists.
    ///
    /// ```
    /// use shoal::device::{Machine, lease::{Mode, Request}};
    /// use shoal::{Spawn, Timeout};
    ///
    /// # let place = std::env::temp_dir().join(format!("doc-spawn-lease-{}", std::process::id()));
    /// let mut machine = Machine::from_environment();
    /// # machine.leases = place.clone();
    /// machine.fake = Some("cuda:2".to_owned());
    /// let lease = Request::new(1).machine(machine).acquire(Timeout::Infinite)?;
    /// let child = Spawn::new("sh")
    ///     .args(["-c", "test \"$CUDA_VISIBLE_DEVICES\" = 0"])
    ///     .lease(&lease, Mode::Exclusive, 0, 1)
    ///     .spawn()?;
    /// assert!(child.join(Timeout::Infinite)?.success());
    /// # drop(lease);
    /// # std::fs::remove_dir_all(&place).unwrap();
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn lease(&mut self, lease: &Lease, mode: Mode, worker: usize, workers: usize) -> &mut Self {
        self.leases.push(LeasePart {
            lease: lease.clone(),
            mode,
            worker,
            workers,
        });
        self
    }

    /// Starts the child.
    ///
    /// Returns once the program has replaced the child's image, so a failed exec is an error of this call,
    /// and no child is left behind. Until then the calling thread runs no signal handler. If the child has
    /// pipes, forks by other threads wait meanwhile, so that their children get no copies of the child's ends.
    ///
    /// # Errors
    ///
    /// - [`Error::NotFound`]: there is no such program, working directory or device family.
    /// - [`Error::Permission`]: the program may not be executed.
    /// - [`Error::Invalid`]: a mask, name, argument or descriptor is wrong, or the file is not
    ///   a program.
    /// - [`Error::Unsupported`]: a family's devices cannot all be hidden.
    /// - [`Error::Os`]: no process, memory or descriptor is available.
    pub fn spawn(&self) -> Result<Process> {
        detached::sweep();
        let mut plan = self.plan(|| std::env::vars_os().collect())?;
        let file = plan.program.clone();
        let _signals = sys::Blocked::new();
        let has_pipes = self.stdio.contains(&Stdio::Pipe);
        // Forks wait: no other child may get a copy of the pipes' ends or of a lease.
        let forks = (has_pipes || !self.leases.is_empty())
            .then(hold_off)
            .transpose()?;
        let pipes;
        (plan.fds, pipes) = self.descriptors()?;
        let started = if self.die_with_parent {
            spawner::run(plan)?
        } else {
            let started = sys::start(&plan);
            drop(plan);
            started
        };
        // The child's ends of its pipes are closed here.
        drop(forks);
        let (pid, pidfd) = started.map_err(|failure| self.explain(failure, file))?;
        Process::new(pid, pidfd, self.group || self.session, pipes)
    }

    /// Replaces this process by the program, with its arguments and environment. All else that is described here
    /// has no effect: descriptors, signals and the directory stay as they are. Returns only the error.
    #[doc(hidden)]
    pub fn replace_process(&self) -> Error {
        match self.plan(|| std::env::vars_os().collect()) {
            Ok(plan) => self.explain(sys::replace(&plan), plan.program),
            Err(err) => err,
        }
    }

    pub(super) fn explain(&self, failure: Failure, file: CString) -> Error {
        match failure {
            Failure {
                call: "exec",
                errno,
            } => lookup::exec_error(&self.program, file, self.cwd.as_deref(), errno),
            Failure { call, errno } => Error::Os { call, errno },
        }
    }

    /// The plan of the child, except its descriptors. `inherited` returns the environment to start from,
    /// unless that is empty.
    pub(super) fn plan(
        &self,
        inherited: impl FnOnce() -> BTreeMap<OsString, OsString>,
    ) -> Result<Plan> {
        let mut env = self.environment(inherited)?;
        env.mask(&self.devices)?;
        for leased in &self.leases {
            env.lease(leased.mode, leased.worker, leased.workers, &leased.lease)?;
        }
        if let Some(cwd) = &self.cwd {
            lookup::check_directory(cwd)?;
        }
        let program = lookup::find(&self.program, &env, self.cwd.as_deref())?;
        let arg0 = self.arg0.as_ref().unwrap_or(&self.program);
        let argv = std::iter::once(arg0).chain(&self.args);
        let cwd = self.cwd.as_ref();
        Ok(Plan {
            program,
            argv: argv
                .map(|arg| c_string(arg, "argument"))
                .collect::<Result<_>>()?,
            envp: env.to_exec()?,
            cwd: cwd
                .map(|cwd| c_string(cwd.as_os_str(), "working directory"))
                .transpose()?,
            fds: Vec::new(),
            session: self.session,
            // A session leader already leads a group, and may not start another.
            group: self.group && !self.session,
            keep_signals: self.keep_signals,
            die_with_parent: self.die_with_parent,
            mask: if self.keep_signals {
                sys::thread_signal_mask(None)
            } else {
                sys::signal_set(false)
            },
        })
    }

    fn environment(
        &self,
        inherited: impl FnOnce() -> BTreeMap<OsString, OsString>,
    ) -> Result<Environment> {
        let mut env = Environment(match self.clear {
            true => BTreeMap::new(),
            false => inherited(),
        });
        for (name, value) in &self.env {
            lookup::check_name(name)?;
            match value {
                Some(value) => env.0.insert(name.clone(), value.clone()),
                None => env.0.remove(name),
            };
        }
        Ok(env)
    }

    /// The child's descriptors, moved above all their targets (P1), and this process's ends of pipes.
    #[allow(clippy::type_complexity)]
    pub(super) fn descriptors(&self) -> Result<(Vec<(RawFd, OwnedFd)>, [Option<OwnedFd>; 3])> {
        let most = limits::descriptors();
        let leases = self.lease_fds(most)?;
        let above = self.above_targets(leases.iter().copied(), most)?;
        let raise = |fd: RawFd, what: &'static str| {
            duplicate(fd, above)?
                .ok_or_else(|| Error::invalid(what, format!("descriptor {fd} is not open")))
        };
        let mut fds = Vec::new();
        let mut pipes = [None, None, None];
        for (to, &stdio) in self.stdio.iter().enumerate() {
            let from = match stdio {
                Stdio::Inherit => continue,
                Stdio::Fd(fd) => raise(fd, STREAMS[to])?,
                Stdio::Null => {
                    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
                    let null = null.map_err(|err| Error::Os {
                        call: "open(/dev/null)",
                        errno: err.raw_os_error().unwrap_or(libc::EINVAL),
                    })?;
                    raise(null.as_raw_fd(), STREAMS[to])?
                }
                Stdio::Pipe => {
                    let (reader, writer) = pipe()?;
                    let (ours, theirs) = if to == 0 {
                        (writer, reader)
                    } else {
                        (reader, writer)
                    };
                    pipes[to] = Some(ours);
                    raise(theirs.as_raw_fd(), STREAMS[to])?
                }
            };
            fds.push((to as RawFd, from));
        }
        for &(from, to) in &self.fds {
            fds.push((to, raise(from, "descriptor for a child")?));
        }
        for (leased, to) in self.leases.iter().zip(leases) {
            fds.push((to, leased.lease.copy(above)?));
        }
        Ok((fds, pipes))
    }

    /// The lowest number above all targets of the child's descriptors, of which `leases` are those of leases.
    /// Fails unless the targets are valid and this process may have a descriptor of that number: it may have
    /// `most`.
    fn above_targets(&self, leases: impl Iterator<Item = RawFd>, most: u64) -> Result<RawFd> {
        for (i, &(_, to)) in self.fds.iter().enumerate() {
            if !(3..=MAX_FD).contains(&to) {
                let why = format!("{to} is not within 3 and {MAX_FD}");
                return Err(Error::invalid("descriptor for a child", why));
            }
            if self.fds[..i].iter().any(|&(_, earlier)| earlier == to) {
                let why = format!("{to} is given twice");
                return Err(Error::invalid("descriptor for a child", why));
            }
        }
        let all = self.fds.iter().map(|&(_, to)| to).chain(leases);
        let highest = all.max().unwrap_or(2);
        let above = highest + 1;
        if u64::from(above.unsigned_abs()) < most {
            return Ok(above);
        }
        if highest <= 2 {
            let why = format!(
                "`ulimit -n` allows only {most}, from 0 on, and to start a child takes one above the \
                 standard streams"
            );
            return Err(Error::invalid("limit of descriptors", why));
        }
        let why = format!(
            "{highest} is too high: this process needs a descriptor above it, and `ulimit -n` \
             allows only {most}, from 0 on"
        );
        Err(Error::invalid("descriptor for a child", why))
    }

    /// Descriptor numbers for the leases in the child. This process needs a descriptor above them.
    fn lease_fds(&self, most: u64) -> Result<Vec<RawFd>> {
        let first = remote(most);
        let is_free = |to: &RawFd| self.fds.iter().all(|(_, taken)| taken != to);
        let count = self.leases.len();
        let numbers: Vec<_> = (first..=MAX_FD).filter(is_free).take(count).collect();
        if numbers.len() < count {
            let why = format!(
                "{count} leases need as many numbers from {first} to {MAX_FD}, of which {} are free: give the \
                 child fewer descriptors there",
                numbers.len()
            );
            return Err(Error::invalid("descriptor for a child", why));
        }
        Ok(numbers)
    }
}
