//! Larger rings for streams.
//!
//! A small ring stays in the caches of both cores. After one lap of the ring, the cache lines that the producer
//! writes next are still in the cache of the consumer, which read them last, and have to be fetched from
//! there. A consumer that is close behind likewise waits for the producer's cache. From a ring that is larger
//! than both caches, the lines were evicted by then, and the cores exchange only the cursors.
//!
//! So a queue that may grow does so not only when it is full, but also while messages stream through it. When
//! nothing has come for a while, it shrinks to its first size.
//!
//! Measured with one producer and one consumer on two cores of a Zen 4 with a private cache of 1 MiB each and
//! 32 MiB in common (near: a cache line takes 100 ns there and back; far: 400 ns). Million messages a second
//! (the benchmark's `--ring` measures one such ring in each run):
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

/// Messages stream if at least this much passes in a microsecond, in the unit of quanta (see `admission`): a
/// tenth of what the slowest ring above carries between near cores.
const STREAM_PER_US: u64 = 2;

/// A ring grows for this by at most this fraction (1 / `PART`) of what is free in `/dev/shm`, since other
/// objects may need it.
pub(super) const PART: u64 = 8;

/// What had passed the consumers' side when this handle's last quantum ended.
#[derive(Default)]
pub(super) struct Throughput {
    at_ns: AtomicU64,
    taken: AtomicU64,
}

impl Throughput {
    /// Whether messages streamed since the last time, with `taken` by now.
    pub(super) fn is_streaming(&self, now_ns: u64, taken: u64) -> bool {
        // Threads that share the handle may mix up their readings; the next reading is right again.
        let took_ns = now_ns.wrapping_sub(self.at_ns.swap(now_ns, Ordering::Relaxed));
        let done = taken.wrapping_sub(self.taken.swap(taken, Ordering::Relaxed));
        done >= (took_ns / 1000).saturating_mul(STREAM_PER_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_told_from_a_trickle() {
        let throughput = Throughput::default();
        assert!(!throughput.is_streaming(1_000_000_000, 0));
        assert!(throughput.is_streaming(1_001_000_000, 8192));
        assert!(!throughput.is_streaming(1_009_000_000, 16_384));
        assert!(throughput.is_streaming(1_013_000_000, 24_576));
    }
}
