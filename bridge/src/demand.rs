//! The credit: how many messages the bridge prefetches into the local queue.
//!
//! A prefetched message that no worker here takes could be processed on another machine. So the number of
//! prefetched messages is about the number that the workers of this machine take during one round trip to the
//! server, and 0 if they take none. It grows while workers find the queue empty, and shrinks while messages wait.

use std::time::Duration;

/// The time between two calls of [`Demand::tick`] while a message is wanted or waits here.
const TICK: Duration = Duration::from_millis(20);
/// The same for a queue that has been unused for long. A new worker waits up to this long for its first message,
/// and these ticks are the cost of a bridge without work.
const QUIET_TICK: Duration = Duration::from_millis(50);
/// For how many ticks messages may wait before the credit is halved.
const SHRINK_AFTER: u32 = 5;
/// After how many ticks without a wanted or finished message the waiting messages are returned.
const RETURN_AFTER: u32 = 2 * 50;

/// The demand of the workers of one queue.
#[derive(Debug)]
pub(crate) struct Demand {
    /// How many messages may wait here for a worker.
    ahead: usize,
    most: usize,
    /// Ticks during which messages have waited and none was finished.
    waiting_ticks: u32,
    /// Ticks since a message was wanted or finished.
    quiet: u32,
    is_wanted: bool,
}

impl Demand {
    /// `most` is the largest number of messages here, leased or not.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            ahead: 0,
            most,
            waiting_ticks: 0,
            quiet: RETURN_AFTER,
            is_wanted: false,
        }
    }

    /// How many more messages to request, if `held` are here and `unleased` of them are not leased.
    pub(crate) fn credit(&self, held: usize, unleased: usize) -> usize {
        let ahead = self.ahead.max(usize::from(self.is_wanted));
        ahead
            .saturating_sub(unleased)
            .min(self.most.saturating_sub(held))
    }

    /// A worker has finished a message while `unleased` others waited.
    pub(crate) fn finished(&mut self, unleased: usize) {
        self.quiet = 0;
        self.waiting_ticks = 0;
        if unleased * 4 <= self.ahead {
            // One more for each finished message doubles the number with each round trip.
            self.ahead = (self.ahead + 1).min(self.most);
        }
    }

    /// The time until the next tick, if `unleased` messages wait.
    pub(crate) fn pause(&self, unleased: usize) -> Duration {
        match self.is_quiet() && unleased == 0 {
            true => QUIET_TICK,
            false => TICK,
        }
    }

    /// Whether no message was wanted or finished for long.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet >= RETURN_AFTER
    }

    /// Called after each [pause](Self::pause). `is_wanted`: a worker found the queue empty, or waits. Returns whether
    /// the waiting messages are to be returned.
    pub(crate) fn tick(&mut self, is_wanted: bool, unleased: usize) -> bool {
        self.is_wanted = is_wanted;
        self.quiet = if is_wanted {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        self.waiting_ticks = if unleased == 0 {
            0
        } else {
            self.waiting_ticks + 1
        };
        if self.waiting_ticks >= SHRINK_AFTER {
            self.waiting_ticks = 0;
            self.ahead /= 2;
        }
        if self.is_quiet() {
            self.ahead = 0;
            return unleased > 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_workers_no_message_is_requested() {
        let mut demand = Demand::new(100);
        for _ in 0..10_000 {
            assert_eq!(demand.credit(0, 0), 0);
            assert!(!demand.tick(false, 0));
        }
    }

    #[test]
    fn a_worker_that_waits_gets_one_message() {
        let mut demand = Demand::new(100);
        demand.tick(true, 0);
        assert_eq!(demand.credit(0, 0), 1);
        assert_eq!(demand.credit(1, 1), 0);
        demand.tick(false, 0);
        assert_eq!(
            demand.credit(1, 0),
            0,
            "it works for long, so no other message is prefetched"
        );
    }

    #[test]
    fn credit_grows_with_fast_workers_up_to_the_bound() {
        let mut demand = Demand::new(100);
        demand.tick(true, 0);
        for _ in 0..1000 {
            demand.finished(0);
        }
        assert_eq!(demand.credit(0, 0), 100);
        assert_eq!(demand.credit(90, 30), 10);
        assert_eq!(demand.credit(100, 30), 0);
    }

    #[test]
    fn credit_shrinks_while_messages_wait() {
        let mut demand = Demand::new(100);
        for _ in 0..1000 {
            demand.finished(0);
        }
        for _ in 0..SHRINK_AFTER * 8 {
            demand.tick(false, 50);
        }
        assert_eq!(demand.credit(0, 0), 0);
    }

    #[test]
    fn waiting_messages_are_returned_when_all_workers_are_gone() {
        let mut demand = Demand::new(100);
        demand.finished(0);
        let ticks = (0..).take_while(|_| !demand.tick(false, 3)).count();
        assert_eq!(ticks as u32 + 1, RETURN_AFTER);
        assert!(!demand.tick(false, 0));
    }
}
