//! Facts about the calling process.

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

/// The process's short name, for people to read; zeros behind it.
pub(crate) fn command() -> [u8; 16] {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes. It is a plain system call, so it may
    // also be made in a forked child.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Identifies the pid namespace: participants and holds carry the ids of processes and threads, which
/// mean nothing in another one. Zero when the system does not tell.
pub(crate) fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |it| it.ino())
}

/// 64 random bits from the kernel.
pub(crate) fn random() -> u64 {
    let mut bits = 0u64;
    // SAFETY: `bits` is eight writable bytes. Eight bytes never come back short.
    let got = unsafe { libc::getrandom((&raw mut bits).cast(), size_of::<u64>(), 0) };
    if got == size_of::<u64>() as isize {
        return bits;
    }
    // A kernel without the call, or a filter that forbids it: names need only be unlikely
    // to meet, and creation is exclusive anyway.
    super::clock::now_ns() ^ (u64::from(pid()) << 40)
}

/// Dies as if somebody had said `kill -9`, at this very instruction.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_self() -> ! {
    // SAFETY: sends a signal to the process itself.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    loop {
        std::hint::spin_loop();
    }
}
