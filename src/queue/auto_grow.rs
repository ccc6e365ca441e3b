//! Larger rings for streams.
//!
//! A small ring stays in the caches of both cores. When the producer has gone round it, the lines it
//! is to write are still in the cache of the consumer, which read them last, and have to be fetched
//! from there; and when the consumer is close behind, it waits for the producer's cache in turn. In a
//! ring that is larger than both caches the lines have left them, and the cores exchange only the
//! cursors.
//!
//! So a queue that may grow does so not only when it is full, but also while messages stream through
//! it. Once nothing came for a while it has its first size again.
//!
//! Measured with one producer and one consumer on two cores of a Zen 4 with 1 MiB of their own each
//! and 32 MiB in common (near: a cache line takes 100 ns there and back; far: 400 ns). Million
//! messages a second, medians of 3 to 10 alternating windows (the benchmark's `--ring` has the same
//! rings, one in each run):
//!
//! | ring    | 64 B, near | 64 B, far | 32 x 64 B, near | 1 KiB, near | 1 KiB, far |
//! |---------|------------|-----------|-----------------|-------------|------------|
//! | 64 KiB  | 22         | 3.6       | 37              | 5.6         | 1.4        |
//! | 1 MiB   | 28         | 3.9       | 68              | 8.7         | 1.5        |
//! | 4 MiB   | 38         | 6.7       | 133             | 24          | 1.5        |
//! | 8 MiB   | 39         | 11        | 132             | 23          | 2.9        |
//! | 16 MiB  | 39         | 21        | 125             | 18          | 3.7        |
//! | 32 MiB  | 37         | 28        | 110             | 9.2         | 4.7        |

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a ring grows for this.
pub(super) const STREAM_CAPACITY: u64 = 8 << 20;

/// At least this much passes in a microsecond, as quanta are measured (see `admission`): a tenth of what
/// the slowest ring above carries between near cores. Not tuned.
const BRISK_PER_US: u64 = 2;

/// A ring does not grow for this by more than a part of what `/dev/shm` has left: others may need it.
pub(super) const PART: u64 = 8;

/// What this handle saw of the consumers' side when its last quantum ended.
#[derive(Default)]
pub(super) struct Throughput {
    at_ns: AtomicU64,
    taken: AtomicU64,
}

impl Throughput {
    /// Whether messages streamed since the last time, with `taken` by now.
    pub(super) fn is_brisk(&self, now_ns: u64, taken: u64) -> bool {
        // Threads that share the handle may mix up their readings; the next one is right again.
        let took_ns = now_ns.wrapping_sub(self.at_ns.swap(now_ns, Ordering::Relaxed));
        let done = taken.wrapping_sub(self.taken.swap(taken, Ordering::Relaxed));
        done >= (took_ns / 1000).saturating_mul(BRISK_PER_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_told_from_a_trickle() {
        let throughput = Throughput::default();
        assert!(!throughput.is_brisk(1_000_000_000, 0));
        assert!(throughput.is_brisk(1_001_000_000, 8192));
        assert!(!throughput.is_brisk(1_009_000_000, 16_384));
        assert!(throughput.is_brisk(1_013_000_000, 24_576));
    }
}
