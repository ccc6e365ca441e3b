//! Promises about children: how they start, how they end, and how a fork differs.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod forks;
mod meanwhile;
mod starts;
mod streams;
mod supervisor;
mod supervisor_kills;
mod supervisor_output;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use shoal::{Error, Exit, ExitKind, ForkOptions, Process, Queue, Spawn, Stdio, Timeout, fork};

/// One test at a time, so that each can assert that it leaves no child behind.
struct Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

fn alone() -> Alone {
    Alone(common::alone())
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(!has_children(), "a child was left behind");
        }
    }
}

/// Whether this process has any child, running or not.
fn has_children() -> bool {
    // SAFETY: siginfo_t is plain data, and `info` is room for one.
    let found = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(
            libc::P_ALL,
            0,
            &mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    found == 0
}

fn sh(script: &str) -> Spawn {
    let mut spawn = Spawn::new("sh");
    spawn.args(["-c", script]);
    spawn
}

fn join(child: &Process) -> Exit {
    child.join(Timeout::Infinite).unwrap()
}

fn exited(code: i32) -> Exit {
    Exit {
        kind: ExitKind::Exited,
        code,
    }
}

fn signaled(code: i32) -> Exit {
    Exit {
        kind: ExitKind::Signaled,
        code,
    }
}

/// What a child writes to its standard output; it must succeed.
fn output(spawn: &mut Spawn) -> String {
    let child = spawn.stdout(Stdio::Pipe).spawn().unwrap();
    let mut text = String::new();
    File::from(child.take_stdout().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(join(&child), exited(0), "{text}");
    text
}

fn forked(options: &ForkOptions, entry: impl FnOnce() -> i32) -> Process {
    // SAFETY: the entries here use malloc, this library and system calls; the other threads
    // of the test harness hold no lock of theirs.
    unsafe { fork(options, entry).unwrap() }
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which have no other owner.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

/// A fresh directory, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-test-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Both ways of starting a program promise the same.
fn both_ways(mut test: impl FnMut(&mut dyn FnMut(&mut Spawn))) {
    test(&mut |_| {});
    test(&mut |spawn| {
        spawn.die_with_parent();
    });
}
