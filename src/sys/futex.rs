//! The kernel's wait queue on a shared 32-bit word.
//!
//! Never `FUTEX_PRIVATE_FLAG`: the waiter and the waker are different processes.

use std::sync::atomic::AtomicU32;

use super::{clock, errno};

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// A waker chose this thread, or the word did not have the expected value.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `*word == expected`, until woken or until `until_ns` of [`clock::now_ns`].
pub(crate) fn wait(word: &AtomicU32, expected: u32, until_ns: u64) -> Waited {
    wait_marked(
        word,
        expected,
        until_ns,
        libc::FUTEX_BITSET_MATCH_ANY as u32,
    )
}

/// [`wait`], such that [`wake_marked`] finds the sleeper by any bit of `mark`, which is not 0.
pub(crate) fn wait_marked(word: &AtomicU32, expected: u32, until_ns: u64, mark: u32) -> Waited {
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
            mark,
        )
    };
    match rc {
        0 => Waited::Woken,
        _ => match errno() {
            libc::ETIMEDOUT => Waited::TimedOut,
            libc::EINTR => Waited::Interrupted,
            // EAGAIN: the word has already changed. A mapped word has no other error.
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

/// Wakes all sleepers of `word` that have one of these bits in their mark.
pub(crate) fn wake_marked(word: &AtomicU32, mark: u32) {
    // SAFETY: `word` outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            i32::MAX,
            std::ptr::null::<libc::timespec>(),
            std::ptr::null::<u32>(),
            mark,
        );
    }
}

/// One of several words to sleep on: the kernel's `struct futex_waitv`.
#[repr(C)]
pub(crate) struct OneOf {
    expected: u64,
    word: u64,
    flags: u32,
    reserved: u32,
}

/// How many words one call sleeps on at most: `FUTEX_WAITV_MAX`.
pub(crate) const MOST: usize = 128;

/// `FUTEX2_SIZE_U32`, and not private.
const SHARED_WORD: u32 = 2;

impl OneOf {
    /// Sleep while the word is `expected`. If it is no longer mapped by then, [`wait_any`] does not sleep.
    pub(crate) fn new(word: &AtomicU32, expected: u32) -> Self {
        Self {
            expected: expected.into(),
            word: word.as_ptr() as u64,
            flags: SHARED_WORD,
            reserved: 0,
        }
    }
}

/// Sleeps while all of at most [`MOST`] words are as expected, until one is woken or until
/// `until_ns` of [`clock::now_ns`]. More than one of them may have been woken.
///
/// `None` if the kernel does not know the call (before Linux 5.16, some sandboxes).
pub(crate) fn wait_any(words: &[OneOf], until_ns: u64) -> Option<Waited> {
    let until = clock::timespec(until_ns);
    // SAFETY: `words` and `until` outlive the call. The kernel only reads the words, and returns EFAULT for
    // one that is not mapped.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            words.as_ptr(),
            words.len(),
            0u32,
            &until,
            libc::CLOCK_MONOTONIC,
        )
    };
    Some(match rc {
        0.. => Waited::Woken,
        _ => match errno() {
            libc::ETIMEDOUT => Waited::TimedOut,
            libc::EINTR => Waited::Interrupted,
            // A word has changed, or its object was closed meanwhile: the caller checks again.
            libc::EAGAIN | libc::EFAULT => Waited::Woken,
            _ => return None,
        },
    })
}
