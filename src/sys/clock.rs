//! Monotonic deadlines. This library never uses the wall clock.

use std::time::Duration;

pub(crate) use raw_sync::Timeout;

/// How long a call waits: a [`Timeout`], a `Duration`, or an optional `Duration`, where `None` is without limit.
///
/// ```
/// use std::time::Duration;
///
/// let queue = shoal::Queue::anonymous()?;
/// let soon = Duration::from_millis(5);
/// assert_eq!(queue.get_vec(soon).unwrap_err().status(), shoal::Status::ErrTimeout);
/// queue.put(b"hello", None::<Duration>)?;
/// assert_eq!(queue.get_vec(shoal::Timeout::Infinite)?, b"hello");
/// # Ok::<(), shoal::Error>(())
/// ```
pub trait IntoTimeout {
    /// The same as a `Timeout`. A duration of zero does not wait.
    fn into_timeout(self) -> Timeout;
}

impl IntoTimeout for Timeout {
    #[inline]
    fn into_timeout(self) -> Timeout {
        self
    }
}

impl IntoTimeout for Duration {
    #[inline]
    fn into_timeout(self) -> Timeout {
        Timeout::Val(self)
    }
}

impl IntoTimeout for Option<Duration> {
    #[inline]
    fn into_timeout(self) -> Timeout {
        self.map_or(Timeout::Infinite, Timeout::Val)
    }
}

/// A point on `CLOCK_MONOTONIC`, in nanoseconds since the machine started.
pub(crate) fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since the machine started, including suspension: the clock of the kernel's process start
/// times.
pub(crate) fn since_boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

/// Processor time that the calling thread has used, in nanoseconds.
pub(crate) fn thread_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place to write a timespec; the clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When a call gives up waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The call must not wait at all.
    Now,
    /// At this time of [`now_ns`].
    At(u64),
    /// The call waits without limit.
    Never,
}

impl Deadline {
    /// The deadline of a public timeout that begins now. A timeout too long for the clock never ends.
    pub(crate) fn after(timeout: impl IntoTimeout) -> Self {
        match timeout.into_timeout() {
            Timeout::Infinite => Deadline::Never,
            Timeout::Val(Duration::ZERO) => Deadline::Now,
            Timeout::Val(wait) => u64::try_from(wait.as_nanos())
                .ok()
                .and_then(|wait| now_ns().checked_add(wait))
                .map_or(Deadline::Never, Deadline::At),
        }
    }

    /// The earlier of this deadline and `slice_ns` from now.
    pub(crate) fn slice(self, slice_ns: u64) -> u64 {
        let slice = now_ns().saturating_add(slice_ns);
        match self {
            Deadline::Now => 0,
            Deadline::At(at) => at.min(slice),
            Deadline::Never => slice,
        }
    }

    /// The time that is left.
    pub(crate) fn left(self) -> Timeout {
        match self {
            Deadline::Now => Timeout::Val(Duration::ZERO),
            Deadline::At(at) => Timeout::Val(Duration::from_nanos(at.saturating_sub(now_ns()))),
            Deadline::Never => Timeout::Infinite,
        }
    }

    pub(crate) fn passed(self) -> bool {
        match self {
            Deadline::Now => true,
            Deadline::At(at) => now_ns() >= at,
            Deadline::Never => false,
        }
    }
}

/// Converts `ns` of [`now_ns`] to a `timespec`.
pub(crate) fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_beyond_the_clock_waits_forever() {
        assert_eq!(
            Deadline::after(Timeout::Val(Duration::MAX)),
            Deadline::Never
        );
        assert_eq!(Deadline::after(Timeout::Infinite), Deadline::Never);
        assert_eq!(Deadline::after(Timeout::Val(Duration::ZERO)), Deadline::Now);
    }

    #[test]
    fn a_slice_never_outlasts_the_deadline() {
        let soon = now_ns() + 1_000;
        assert!(Deadline::At(soon).slice(1_000_000_000) <= soon);
        assert!(Deadline::At(soon).slice(0) <= now_ns());
        assert!(Deadline::Now.passed() && !Deadline::Never.passed());
    }
}
