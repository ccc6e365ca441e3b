//! When each message is due, by the clock that all processes share.
//!
//! A separate file, because peers written in Rust include it.

use std::hint::spin_loop;

use serde::{Deserialize, Serialize};

use super::stage::Stage;

/// How the sender keeps its schedule.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Pace {
    /// This many a second. The sender sleeps until each is due.
    Asleep(f64),
    /// This many a second. The sender sleeps only if much time is left.
    Awake(f64),
    /// As fast as possible.
    Full,
}

/// A wake-up by the kernel usually takes less than this.
const SHORT: u64 = 100_000;

impl Pace {
    /// Waits until the message `number` of those since `began` is due, or until the workers are stopped. Returns
    /// when it was due. Late messages are sent immediately, and count from when they were due.
    pub(super) fn wait(self, began: u64, number: u64, stage: &Stage) -> u64 {
        let at = |rate: f64| began + (number as f64 / rate * 1e9) as u64;
        match self {
            Pace::Asleep(rate) => wait_until(at(rate), 0, stage),
            Pace::Awake(rate) => wait_until(at(rate), SHORT, stage),
            Pace::Full => now(),
        }
    }
}

/// In nanoseconds.
pub(super) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing, and every kernel has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Makes the calling thread's sleeps end without the kernel's timer slack.
pub(super) fn sleep_exactly() {
    // SAFETY: this is only a system call.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Sleeps until `due`, or polls the clock if `due` is nearer than `short`. Returns `due`.
fn wait_until(due: u64, short: u64, stage: &Stage) -> u64 {
    loop {
        let left = due.saturating_sub(now());
        if left == 0 || stage.is_stopped() {
            return due;
        }
        if left < short {
            spin_loop();
            continue;
        }
        let time = libc::timespec {
            tv_sec: (due / 1_000_000_000) as libc::time_t,
            tv_nsec: (due % 1_000_000_000) as libc::c_long,
        };
        let (clock, absolute) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
        // SAFETY: the time is valid.
        unsafe { libc::clock_nanosleep(clock, absolute, &time, std::ptr::null_mut()) };
    }
}
