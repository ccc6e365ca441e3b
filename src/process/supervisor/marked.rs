//! Finding the processes that workers have started, after the death of the guardian that was their ancestor.
//!
//! Each supervisor has a random number, which its workers have in their environment and pass to what they
//! start. A process with that number descends from one of them, whatever its group, session and parent are.
//! Only a process that has cleared its environment is not found.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys::clock::{Deadline, Timeout};
use crate::sys::pidfd;
use crate::sys::process::{self, Environment};

/// The environment variable.
pub(super) const VARIABLE: &str = "SHOAL_SUPERVISOR";

/// A number that no other supervisor has.
pub(super) fn new() -> String {
    let [number] = process::random();
    format!("{number:016x}")
}

/// How long to search at most: a process may start others during the search.
const LONGEST: Duration = Duration::from_secs(5);

/// Kills every process that has this number, and waits for their ends. Processes whose environment cannot be
/// read, such as another user's, are left alone.
pub(super) fn kill(number: &str) {
    // In a /proc of another pid namespace, the numbers would name other processes.
    if !process::has_own_proc() {
        return;
    }
    let setting = format!("{VARIABLE}={number}").into_bytes();
    let deadline = Deadline::after(Timeout::Val(LONGEST));
    while !deadline.passed() {
        let Ok(all) = fs::read_dir("/proc") else {
            return;
        };
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut found = false;
        for pid in pids {
            // The descriptor is opened first: the environment read next is then this process's, or the
            // process has ended, and no other gets the signal.
            let Some(fd) = pidfd::of_any(pid as libc::pid_t) else {
                continue;
            };
            match Environment::of(pid) {
                Environment::Whole(text)
                    if text.split(|&byte| byte == 0).any(|it| it == setting) =>
                {
                    found |= pidfd::signal(fd.as_fd(), libc::SIGKILL).is_ok();
                }
                // Checked again in the next round.
                Environment::Changing => found = true,
                Environment::Whole(_) | Environment::Unknown => {}
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_while_it_executes_another_program() {
        let script = std::env::temp_dir().join(format!("shoal-marked-{}", std::process::id()));
        fs::write(&script, format!("exec sh {}", script.display())).unwrap();
        for _ in 0..40 {
            let number = new();
            let mut child = Command::new("sh")
                .arg(&script)
                .env(VARIABLE, &number)
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(2));
            kill(&number);
            // A killed process may take some time to end.
            let ended = (0..5000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                child.try_wait().unwrap().is_some()
            });
            let _ = child.kill();
            child.wait().unwrap();
            assert!(ended);
        }
        fs::remove_file(script).unwrap();
    }
}
