//! Finding what workers have started, when the guardian that was its ancestor is gone.
//!
//! Each supervisor has a random number, which its workers have in their environment and hand on to what
//! they start. A process that has it descends from one of them, whatever its group, session and parent
//! are; unless it has cleared its environment.

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

/// For how long to look: a process may start others while it is being found.
const LONGEST: Duration = Duration::from_secs(5);

/// Kills every process that has this number, and waits a moment for their ends. What cannot be read, as
/// that of another user, is left alone.
pub(super) fn kill(number: &str) {
    // In a /proc of another pid namespace the numbers would be those of other processes.
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
            // The descriptor comes first: then what is read is of this process, or it has ended, and
            // nothing gets the signal.
            let Some(fd) = pidfd::of_any(pid as libc::pid_t) else {
                continue;
            };
            match Environment::of(pid) {
                Environment::Whole(text)
                    if text.split(|&byte| byte == 0).any(|it| it == setting) =>
                {
                    found |= pidfd::signal(fd.as_fd(), libc::SIGKILL).is_ok();
                }
                // It is looked at again.
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
            // It may be on its way out.
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
