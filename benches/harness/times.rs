//! How long single calls took, in nanoseconds: one worker's, and those of all workers together.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::failure::Failure;
use super::stage::{Stage, TIMES};

/// The times of one worker. Three digits are more than are significant.
pub(super) struct Stopwatch(Histogram<u64>);

impl Stopwatch {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    #[inline]
    pub(super) fn record(&mut self, took: Duration) -> Result<(), Failure> {
        let nanoseconds = (took.as_nanos() as u64).clamp(1, LONGEST);
        Ok(self.0.record(nanoseconds)?)
    }

    /// Leaves the result of the only worker that has one for the parent.
    pub(super) fn report(&self, stage: &Stage) {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64;
        stage.report(&[at(0.5), at(0.99), self.0.len() as f64]);
    }

    /// Adds what this worker measured to what the others did.
    pub(super) fn share(&self, stage: &Stage) {
        for it in self.0.iter_recorded() {
            let place = &stage.times()[place(it.value_iterated_to())];
            place.fetch_add(it.count_at_value(), Ordering::Release);
        }
    }
}

/// The figures of the only worker with a stopwatch.
pub(super) struct Times {
    pub(super) median_ns: f64,
    pub(super) p99_ns: f64,
    pub(super) count: u64,
    /// The median without the clock, in round trips of a cache line just before.
    pub(super) lines: f64,
}

impl Times {
    pub(super) fn reported(stage: &Stage) -> Self {
        Self {
            median_ns: stage.reported(0),
            p99_ns: stage.reported(1),
            count: stage.reported(2) as u64,
            lines: 0.0,
        }
    }
}

/// A minute; longer calls count as this.
const LONGEST: u64 = 60_000_000_000;

/// The binary logarithm of the number of buckets for each power of two: a length is known to 1 in 128.
const FINE: u32 = 7;

const _: () = assert!(place(LONGEST) < TIMES);

/// The bucket of calls of this length.
const fn place(nanoseconds: u64) -> usize {
    let shift = (u64::BITS - 1 - FINE).saturating_sub(nanoseconds.leading_zeros());
    ((shift as usize) << FINE) + (nanoseconds >> shift) as usize
}

/// The longest length of a bucket.
const fn longest_at(place: usize) -> u64 {
    let shift = (place >> FINE).saturating_sub(1);
    (((place - (shift << FINE)) as u64 + 1) << shift) - 1
}

/// The histogram of all workers, once they have ended.
pub(super) struct Shared(Vec<u64>);

impl Shared {
    pub(super) fn of(stage: &Stage) -> Self {
        let counts = stage.times().iter();
        Self(counts.map(|it| it.load(Ordering::Acquire)).collect())
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that at least this share of the calls did not exceed.
    pub(super) fn at_quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.count() as f64).ceil() as u64;
        let mut so_far = 0;
        let place = self.0.iter().position(|count| {
            so_far += count;
            so_far >= rank.max(1)
        });
        place.map_or(0.0, |place| longest_at(place) as f64)
    }
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn a_bucket_gives_the_lengths_in_it_to_one_in_128() {
        use super::{LONGEST, longest_at, place};
        for ns in [1, 127, 128, 255, 256, 257, 511, 512, 1_000_000, LONGEST] {
            let longest = longest_at(place(ns));
            assert!(ns <= longest && longest - ns <= ns / 128, "{ns}: {longest}");
            assert_eq!(place(longest), place(ns));
            assert_eq!(place(longest + 1), place(ns) + 1);
        }
    }
}
