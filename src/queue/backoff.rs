//! How long a consumer that is as fast as its producers pauses between messages.
//!
//! Such a consumer catches up after every message. It then reads the tail's cache line just when the producer
//! wants to write to it, and the line moves between the two cores twice for every message. If the consumer
//! pauses a little after it has caught up, the producer puts several messages undisturbed, and the line moves
//! once for all of them.
//!
//! But a single message, such as the answer in a dialogue, must not wait for others that never come. So a
//! consumer pauses only while that pays. Each time it has waited and then found several messages, it pauses
//! twice as long the next time; each time it found one, half as long. In a dialogue it finds one every time,
//! and never pauses.
//!
//! Measured with messages of 64 bytes from one producer to one consumer on two cores, in rings of 1 MiB:
//! pauses of half this length carried 1.3 times as many as none between near cores, and 1.4 times as many
//! where a cache line took 400 ns there and back; pauses of this length carried another 1.25 times as many.
//! Round trips did not change. Batches of 32 were 3 % slower. Pauses twice as long carried 5 % more of 64 B
//! and 3 % less of 1 KiB. In rings of 8 MiB (see `auto_grow`) an eighth of the pause is nearly as good
//! between near cores.

use std::sync::atomic::{AtomicU32, Ordering};

/// In iterations of a spin loop, each 24 to 37 ns on the machines measured: some 8 us.
const LONGEST: u32 = 255;

/// How long to pause.
#[derive(Default)]
pub(super) struct Backoff(AtomicU32);

impl Backoff {
    /// The consumer has caught up and is about to wait.
    #[inline]
    pub(super) fn pause(&self) {
        for _ in 0..self.0.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }

    /// Whether pauses have paid lately: then there is a stream, and not a dialogue.
    pub(super) fn is_pausing(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// The consumer has waited, and found one message or `several`.
    #[inline]
    pub(super) fn found(&self, several: bool) {
        let pause = self.0.load(Ordering::Relaxed);
        let next = if several {
            (pause * 2 + 1).min(LONGEST)
        } else {
            pause / 2
        };
        if next != pause {
            // Threads that share the handle may lose each other's updates, which does not matter.
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_never_pauses_and_a_stream_soon_does() {
        let backoff = Backoff::default();
        (0..100).for_each(|_| backoff.found(false));
        assert_eq!(backoff.0.load(Ordering::Relaxed), 0);
        (0..100).for_each(|_| backoff.found(true));
        assert_eq!(backoff.0.load(Ordering::Relaxed), LONGEST);
        (0..8).for_each(|_| backoff.found(false));
        assert_eq!(backoff.0.load(Ordering::Relaxed), 0);
    }
}
