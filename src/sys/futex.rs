//! The kernel's wait queue on a shared 32-bit word.
//!
//! Never `FUTEX_PRIVATE_FLAG`: the waiter and the waker are different processes.

use std::sync::atomic::AtomicU32;

use super::{clock, errno};

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// A waker chose this thread, or the word no longer had the expected value.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `*word == expected`, until woken or until `until_ns` of [`clock::now_ns`].
pub(crate) fn wait(word: &AtomicU32, expected: u32, until_ns: u64) -> Waited {
    let until = clock::timespec(until_ns);
    // SAFETY: `word` outlives the call and `until` is a valid timespec. WAIT_BITSET takes an
    // absolute time on CLOCK_MONOTONIC.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            &until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    match rc {
        0 => Waited::Woken,
        _ => match errno() {
            libc::ETIMEDOUT => Waited::TimedOut,
            libc::EINTR => Waited::Interrupted,
            // EAGAIN: the word has changed already. Nothing else can happen to a mapped word.
            _ => Waited::Woken,
        },
    }
}

/// Wakes at most `count` sleepers of `word` and returns how many there were.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> usize {
    // SAFETY: `word` outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    rc.max(0) as usize
}
