//! How much processor time processes have used.

use std::time::Duration;

/// What these processes have used so far, in user mode and in the kernel, all threads. It is exact, whereas
/// `/proc/PID/stat` counts ticks.
pub(super) fn used(pids: &[u32]) -> std::io::Result<Duration> {
    pids.iter().map(|&pid| one(pid)).sum()
}

fn one(pid: u32) -> std::io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is valid for writing.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => read(clock),
        code => Err(std::io::Error::from_raw_os_error(code)),
    }
}

/// What the calling thread has used.
pub(super) fn own_thread() -> std::io::Result<Duration> {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> std::io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
