//! Which process has locked a byte of a file, for messages.
//!
//! The kernel does not say who has a lock of an open file description. But it lists such locks with the descriptors
//! of each process.

use std::fs;

use super::process;

/// The process that has locked `byte` of the file with this inode, and whether it is stopped; `None` if /proc does
/// not show it.
pub(crate) fn of_lock(inode: u64, byte: u64) -> Option<String> {
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|&pid| has_locked(pid, inode, byte))?;
    let stopped = match process::is_stopped(pid) {
        true => ", which is stopped,",
        false => "",
    };
    Some(format!(
        "process {pid} ({}){stopped}",
        process::command(pid)
    ))
}

fn has_locked(pid: u32, inode: u64, byte: u64) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    descriptors.flatten().any(|it| {
        let facts = fs::read_to_string(it.path()).unwrap_or_default();
        facts.lines().any(|line| is_lock(line, inode, byte))
    })
}

/// Whether a line is `lock: 1: OFDLCK ADVISORY WRITE -1 00:1a:INODE BYTE BYTE`.
fn is_lock(line: &str, inode: u64, byte: u64) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [kind, file, first] = [2, 6, 7].map(|at| words.get(at).copied().unwrap_or_default());
    let found = file.rsplit(':').next().and_then(|it| it.parse().ok());
    kind == "OFDLCK" && found == Some(inode) && first.parse() == Ok(byte)
}
