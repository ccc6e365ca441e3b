//! Facts about processes.

use super::{clock, errno};

/// The process id. Not cached: a forked child has another one.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The user whose objects the process may open.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// Whether the program runs with rights that the user who started it does not have (set-user-ID and
/// its like), so that the environment is not to be trusted.
pub(crate) fn has_others_rights() -> bool {
    // SAFETY: it only asks.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The short name of process `pid`, for people to read; empty where /proc does not tell.
pub(crate) fn command(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

/// Whether `/proc` shows the processes of this pid namespace, by their numbers here.
pub(crate) fn has_own_proc() -> bool {
    let own = std::fs::read_link("/proc/self");
    own.is_ok_and(|it| it.as_os_str() == self::pid().to_string().as_str())
}

/// The program of process `pid` and its arguments, for people to read; empty where /proc does not tell.
pub(crate) fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim_end().chars().take(1024).collect()
}

/// Whether process `pid` exists and began at `since` on [`clock::since_boot_ns`] or before: it is not
/// another one that got the number later. True where that cannot be told.
pub(crate) fn is_older(pid: u32, since: u64) -> bool {
    let Ok(id) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: it only asks whether there is such a process.
    if unsafe { libc::kill(id, 0) } != 0 && errno() == libc::ESRCH {
        return false;
    }
    // A /proc of another pid namespace would tell of another process.
    if !has_own_proc() {
        return true;
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // The name in parentheses may hold anything. Behind it are: 1 state, 18 threads, 20 start.
    let fields: Vec<&str> = match stat.rsplit_once(')') {
        Some((_, rest)) => rest.split_ascii_whitespace().collect(),
        None => return true,
    };
    let number = |index: usize| fields.get(index).and_then(|it| it.parse::<u64>().ok());
    // Its parent has not waited for it.
    if matches!(fields.first(), Some(&("Z" | "X"))) && number(17).is_none_or(|it| it <= 1) {
        return false;
    }
    // SAFETY: it only asks.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    number(19).is_none_or(|start| start.saturating_mul(1_000_000_000 / ticks) <= since)
}

/// Identifies the pid namespace: participants and holds carry the ids of processes and threads, which
/// mean nothing in another one. Zero when the system does not tell.
pub(crate) fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |it| it.ino())
}

/// Random words from the kernel, 32 at most.
pub(crate) fn random<const N: usize>() -> [u64; N] {
    let mut words = [0u64; N];
    let bytes = size_of_val(&words);
    // SAFETY: as many writable bytes. Up to 256 of them never come back short.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), bytes, 0) };
    if got == bytes as isize {
        return words;
    }
    // A kernel without the call, or a filter that forbids it: names need only be unlikely
    // to meet, and creation is exclusive anyway.
    words.map(|_| clock::now_ns() ^ (u64::from(pid()) << 40))
}

/// Dies by SIGKILL, at this instruction.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_self() -> ! {
    // SAFETY: sends a signal to the process itself.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    loop {
        std::hint::spin_loop();
    }
}
