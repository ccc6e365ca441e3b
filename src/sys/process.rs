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
    let Some(stat) = Stat::of(pid) else {
        return true;
    };
    // Its parent has not waited for it.
    if matches!(stat.field(0), Some("Z" | "X")) && stat.number(17).is_none_or(|it| it <= 1) {
        return false;
    }
    // SAFETY: it only asks.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let start = stat.number(19);
    start.is_none_or(|start| start.saturating_mul(1_000_000_000 / ticks) <= since)
}

/// The environment of another process.
pub(crate) enum Environment {
    /// With which its program began: `NAME=value`, each with a NUL behind it.
    Whole(Vec<u8>),
    /// It is amid an exec, or was while this was read.
    Changing,
    /// It may not be read; or the process has ended, or is a thread of the kernel.
    Unknown,
}

impl Environment {
    pub(crate) fn of(pid: u32) -> Self {
        let read = std::fs::read(format!("/proc/{pid}/environ"));
        // What has no program has no environment either.
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        let (Ok(text), Ok(_), Some(stat)) = (read, program, Stat::of(pid)) else {
            return Self::Unknown;
        };
        // Amid an exec there is no end of it yet. It is read in pieces, which end with the old program.
        match (stat.number(47), stat.number(48)) {
            (Some(start), Some(end)) if end > 0 && end - start.min(end) == text.len() as u64 => {
                Self::Whole(text)
            }
            _ => Self::Changing,
        }
    }
}

/// What /proc tells of a process behind its name, which may hold anything: 0 state, 17 threads, 19 start,
/// 47 and 48 where in its memory its environment begins and ends, and others.
struct Stat(String);

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        Some(Self(rest.to_owned()))
    }

    fn field(&self, index: usize) -> Option<&str> {
        self.0.split_ascii_whitespace().nth(index)
    }

    fn number(&self, index: usize) -> Option<u64> {
        self.field(index)?.parse().ok()
    }
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
