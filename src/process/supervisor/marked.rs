//! Finding what workers have started, when the guardian that was its ancestor is gone.
//!
//! Each supervisor has a random number, which its workers have in their environment and hand on to what
//! they start. A process that has it descends from one of them, whatever its group, session and parent
//! are; unless it has cleared its environment.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys::pidfd;
use crate::sys::process;

/// The environment variable.
pub(super) const VARIABLE: &str = "SHOAL_SUPERVISOR";

/// A number that no other supervisor has.
pub(super) fn new() -> String {
    let [number] = process::random();
    format!("{number:016x}")
}

/// How often to look: a process may start others while it is being found.
const PASSES: usize = 200;

/// Kills every process that has this number, and waits a moment for their ends. What cannot be read, as
/// that of another user, is left alone.
pub(super) fn kill(number: &str) {
    // In a /proc of another pid namespace the numbers would be those of other processes.
    if !process::has_own_proc() {
        return;
    }
    let setting = format!("{VARIABLE}={number}").into_bytes();
    for _ in 0..PASSES {
        let Ok(all) = fs::read_dir("/proc") else {
            return;
        };
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut found = false;
        for pid in pids {
            // The descriptor comes first: then what is read is of this process, or it has ended, and
            // nothing gets the signal.
            let Some(fd) = pidfd::of_any(pid) else {
                continue;
            };
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|it| it == setting) {
                found |= pidfd::signal(fd.as_fd(), libc::SIGKILL).is_ok();
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
