//! Facts about processes.

use super::{clock, errno};

/// The process id. Not cached: a forked child has another one.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The user whose objects the process may open.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: geteuid has no conditions.
    unsafe { libc::geteuid() }
}

/// Whether the program runs with rights that the user who started it does not have (such as set-user-ID), so
/// that its environment is untrusted.
pub(crate) fn has_others_rights() -> bool {
    // SAFETY: getauxval reads a value that the kernel gave the process, and has no conditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The short name of process `pid`, for messages; empty if /proc does not show it.
pub(crate) fn command(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

/// Whether `/proc` is that of this pid namespace.
pub(crate) fn has_own_proc() -> bool {
    let own = std::fs::read_link("/proc/self");
    own.is_ok_and(|it| it.as_os_str() == self::pid().to_string().as_str())
}

/// The program of process `pid` and its arguments, for messages; empty if /proc does not show them.
pub(crate) fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim_end().chars().take(1024).collect()
}

/// Whether process `pid` exists and began by `since` on [`clock::since_boot_ns`], so that it is not a later
/// process with the same number. True if that cannot be determined.
pub(crate) fn is_older(pid: u32, since: u64) -> bool {
    let Ok(id) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: it only asks whether there is such a process.
    if unsafe { libc::kill(id, 0) } != 0 && errno() == libc::ESRCH {
        return false;
    }
    // In a /proc of another pid namespace, the number would name another process.
    if !has_own_proc() {
        return true;
    }
    let Some(stat) = Stat::of(pid) else {
        return true;
    };
    // A zombie: its parent has not reaped it.
    if matches!(stat.field(0), Some("Z" | "X")) && stat.number(17).is_none_or(|it| it <= 1) {
        return false;
    }
    // SAFETY: sysconf has no conditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let start = stat.number(19);
    start.is_none_or(|start| start.saturating_mul(1_000_000_000 / ticks) <= since)
}

/// Whether a signal or a debugger has stopped process `pid`.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = Stat::of(pid);
    stat.is_some_and(|stat| matches!(stat.field(0), Some("T" | "t")))
}

/// The environment of another process.
pub(crate) enum Environment {
    /// The environment at the start of its program: `NAME=value`, each followed by a NUL.
    Whole(Vec<u8>),
    /// The process is in an exec, or was while this was read.
    Changing,
    /// It may not be read, or the process has ended, or it is a kernel thread.
    Unknown,
}

impl Environment {
    pub(crate) fn of(pid: u32) -> Self {
        let read = std::fs::read(format!("/proc/{pid}/environ"));
        // A process without a program, such as a kernel thread, has no environment.
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        let (Ok(text), Ok(_), Some(stat)) = (read, program, Stat::of(pid)) else {
            return Self::Unknown;
        };
        // During an exec, its bounds are not set yet, or are equal; the kernel sets the beginning of the code
        // after them. A read may also end early, with the old program.
        match (stat.number(23), stat.number(47), stat.number(48)) {
            (Some(code), Some(start), Some(end))
                if code > 0 && end > 0 && end - start.min(end) == text.len() as u64 =>
            {
                Self::Whole(text)
            }
            _ => Self::Changing,
        }
    }
}

/// The fields of /proc/PID/stat behind the process's name, which may contain any characters: 0 is the state,
/// 17 the number of threads, 19 the start time, 23 where its code begins in memory, 47 and 48 the bounds of its
/// environment there.
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

/// The number of the pid namespace: ids of processes and threads have no meaning in another one. Zero if the
/// system does not tell.
pub(crate) fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |it| it.ino())
}

/// Random words from the kernel, 32 at most.
pub(crate) fn random<const N: usize>() -> [u64; N] {
    let mut words = [0u64; N];
    let bytes = size_of_val(&words);
    // SAFETY: this many writable bytes. Requests of up to 256 bytes are always filled.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), bytes, 0) };
    if got == bytes as isize {
        return words;
    }
    // A kernel without the call, or a filter that forbids it: names only have to be unlikely to collide, and
    // creation is exclusive anyway.
    words.map(|_| clock::now_ns() ^ (u64::from(pid()) << 40))
}

/// Kills this process, or stops it, at this instruction.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_or_stop_self(stop: bool) {
    let signal = if stop { libc::SIGSTOP } else { libc::SIGKILL };
    // SAFETY: a signal to the calling thread, which has its effect before this returns.
    unsafe { libc::raise(signal) };
}
