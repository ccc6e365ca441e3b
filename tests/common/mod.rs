//! What tests with several processes share: unique names, children, a watchdog.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses some of it, and none uses all"
)]

pub(crate) mod company;
pub(crate) mod corruption;
#[cfg(feature = "crash-points")]
pub(crate) mod crash;
pub(crate) mod group;
pub(crate) mod progress;
pub(crate) mod ready;
pub(crate) mod shm;
pub(crate) mod turn;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shoal::{Options, Queue, Timeout};

pub(crate) use turn::{alone, beside_others, only, own_process, watchdog};
use turn::{children, hangs_seconds};

pub(crate) const NOWAIT: Timeout = Timeout::Val(Duration::ZERO);
pub(crate) const FOREVER: Timeout = Timeout::Infinite;

pub(crate) fn millis(count: u64) -> Timeout {
    Timeout::Val(Duration::from_millis(count))
}

/// How long a soak runs: `SHOAL_SOAK_SECONDS` seconds, or a minute.
pub(crate) fn soak_length() -> Duration {
    Duration::from_secs(turn::soak_seconds().unwrap_or(60).into())
}

/// A name that no other test uses. When it is dropped, no file of that name may be left.
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("test-{what}-{}-{count}", std::process::id()))
    }

    pub(crate) fn path(&self) -> String {
        format!("/dev/shm/shoal.{}", self.0)
    }

    pub(crate) fn has_file(&self) -> bool {
        std::fs::exists(self.path()).unwrap()
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let left = std::fs::remove_file(self.path()).is_ok();
        if !std::thread::panicking() {
            assert!(!left, "{} stayed behind", self.path());
        }
    }
}

/// A forked child. It is killed and reaped when dropped.
pub(crate) struct Child {
    pid: libc::pid_t,
    status: Option<i32>,
}

/// Runs `work` in a forked child, which then calls `_exit`: with 0, or with 101 if `work` panicked.
pub(crate) fn fork(work: impl FnOnce()) -> Child {
    fork_until(work, || {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    })
}

/// Like [`fork`], but the child calls `exit`, as a C program does that returns from `main`.
pub(crate) fn fork_and_exit(work: impl FnOnce()) -> Child {
    fork_until(work, || {
        // SAFETY: the child's only thread.
        unsafe { libc::exit(0) }
    })
}

fn fork_until(work: impl FnOnce(), end: impl FnOnce()) -> Child {
    let (mut children, seconds) = (children(), hangs_seconds());
    // SAFETY: the child takes no lock another thread may hold, but for `malloc`'s, which are
    // made for it, and leaves this function only by ending.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // The child waits for its own children.
        children.clear();
        drop(children);
        // SAFETY: a watchdog for the child, and a death that needs no lock.
        unsafe { libc::alarm(seconds) };
        if catch_unwind(AssertUnwindSafe(work)).is_ok() {
            end();
        }
        // SAFETY: as above.
        unsafe { libc::_exit(101) };
    }
    children.push(pid);
    Child { pid, status: None }
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    pub(crate) fn signal(&self, signal: i32) {
        assert!(self.status.is_none());
        // SAFETY: our own child, not yet waited for.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits for its end and returns the raw status.
    pub(crate) fn wait(&mut self) -> i32 {
        let pid = self.pid;
        *self.status.get_or_insert_with(|| {
            let mut status = 0;
            // SAFETY: our own child, not yet waited for, and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            children().retain(|&it| it != pid);
            status
        })
    }

    /// Waits until a SIGSTOP has reached it.
    pub(crate) fn wait_stopped(&self) {
        let mut status = 0;
        // SAFETY: our own child, which is not reaped by this unless it has ended.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::WUNTRACED) };
        assert!(pid == self.pid && libc::WIFSTOPPED(status));
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: as in `wait`.
            if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid {
                children().retain(|&it| it != self.pid);
                self.status = Some(status);
            }
        }
        self.status.is_some()
    }

    /// Waits until it sleeps, or has ended.
    pub(crate) fn wait_asleep(&mut self) {
        let mut quiet = 0;
        while quiet < 3 && !self.has_ended() {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
            let (_, state) = stat.rsplit_once(") ").unwrap();
            // A page fault sleeps as well, but not for as long.
            quiet = if state.starts_with('S') { quiet + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end, which has to be a success.
    #[track_caller]
    pub(crate) fn ends_well(mut self) {
        let status = self.wait();
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "a child ended with status {status:#x}"
        );
    }

    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        assert!(libc::WIFSIGNALED(self.wait()));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(libc::SIGKILL);
            self.wait();
        }
    }
}

/// A signal from one process to another, made before the fork.
pub(crate) struct Bell(PipeReader, PipeWriter);

impl Bell {
    pub(crate) fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self(reader, writer)
    }

    pub(crate) fn descriptors(&self) -> [i32; 2] {
        [self.0.as_raw_fd(), self.1.as_raw_fd()]
    }

    pub(crate) fn ring(&self) {
        self.ring_times(1);
    }

    pub(crate) fn ring_times(&self, count: usize) {
        (&self.1).write_all(&vec![1; count]).unwrap();
    }

    /// Discards all rings so far.
    pub(crate) fn forget(&self) {
        let mut rung: libc::c_int = 0;
        // SAFETY: an open pipe, and a place for the number of bytes in it.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONREAD, &mut rung) };
        assert_eq!(rc, 0);
        (&self.0).read_exact(&mut vec![0; rung as usize]).unwrap();
    }

    /// Waits for one ring, and consumes it.
    pub(crate) fn hear(&self) {
        (&self.0).read_exact(&mut [0]).unwrap();
    }
}

/// A queue that cannot grow.
pub(crate) fn fixed(capacity: u64) -> Queue {
    let options = Options::create().capacity(capacity).max_capacity(capacity);
    Queue::with_options(None, &options).unwrap()
}

/// Options for an object as small as can be.
pub(crate) fn tiny() -> Options {
    Options::create().capacity(4096).max_capacity(4096)
}

/// A small generator with a seed, so that a failure can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A process that has leased the first message, and holds the lease until it is killed.
pub(crate) fn holder(queue: &Queue) -> Child {
    let leased = Bell::new();
    let holder = fork(|| {
        let _lease = queue.lease(FOREVER).unwrap();
        leased.ring();
        loop {
            std::thread::park();
        }
    });
    leased.hear();
    holder
}
