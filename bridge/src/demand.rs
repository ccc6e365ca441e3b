//! The credit: how many messages the bridge prefetches into the local queue.
//!
//! A prefetched message that no worker here takes could be processed on another machine. So the number of
//! prefetched messages is about the number that the workers of this machine take during one round trip to the
//! server, and 0 if they take none. It grows while workers find the queue empty, and shrinks while messages wait.
//!
//! A message that no worker takes is returned. A program that calls again and again without waiting takes the message
//! that one of its calls has requested with the next call. So for such a program a message is kept for as long as its
//! next call may take.

use std::time::Duration;

/// The time between two calls of [`Demand::tick`] while a message is wanted or waits here.
const TICK: Duration = Duration::from_millis(20);
/// The same for a queue that has been unused for long. A new worker waits up to this long for its first message,
/// and these ticks are the cost of a bridge without work.
const QUIET_TICK: Duration = Duration::from_millis(50);
/// For how many ticks messages may wait before the credit is halved.
const SHRINK_AFTER: u32 = 5;
/// After how long without a wanted or finished message the waiting messages are returned.
const RETURN_AFTER: Duration = Duration::from_secs(2);
/// The longest time between two calls of a program that counts as one that calls again and again.
const LONGEST_GAP: Duration = Duration::from_secs(10 * 60);
/// A call that waits for longer than this gets the message that it has requested.
const WAITS: Duration = Duration::from_secs(1);

/// The demand of the workers of one queue.
#[derive(Debug)]
pub(crate) struct Demand {
    /// How many messages may wait here for a worker.
    ahead: usize,
    most: usize,
    /// Ticks during which messages have waited and none was finished.
    waiting_ticks: u32,
    /// How long no message was wanted or finished.
    quiet: Duration,
    is_wanted: bool,
    /// The pause before the next tick.
    pause: Duration,
    /// For how long messages were wanted, the last time.
    wanted: Duration,
    /// How long ago that was.
    unwanted: Duration,
    /// After how long without a wanted or finished message the waiting messages are returned now.
    keep_for: Duration,
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
            pause: Duration::ZERO,
            wanted: Duration::ZERO,
            unwanted: Duration::MAX,
            keep_for: RETURN_AFTER,
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
        self.quiet = Duration::ZERO;
        self.waiting_ticks = 0;
        if unleased * 4 <= self.ahead {
            // One more for each finished message doubles the number with each round trip.
            self.ahead = (self.ahead + 1).min(self.most);
        }
    }

    /// The time until the next tick.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// Whether no message was wanted or finished for long.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet >= RETURN_AFTER
    }

    /// Called after each [pause](Self::pause). `is_wanted`: a worker found the queue empty, or waits. Returns whether
    /// the waiting messages are to be returned.
    pub(crate) fn tick(&mut self, is_wanted: bool, unleased: usize) -> bool {
        let before = self.pause;
        self.observe(is_wanted, before);
        self.is_wanted = is_wanted;
        self.quiet = match is_wanted {
            true => Duration::ZERO,
            false => self.quiet.saturating_add(before),
        };
        self.pause = match self.is_quiet() && unleased == 0 {
            true => QUIET_TICK,
            false => TICK,
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
        }
        self.quiet >= self.keep_for && unleased > 0
    }

    /// Finds out how often programs call, `before` being the time since the last tick.
    fn observe(&mut self, is_wanted: bool, before: Duration) {
        match (self.is_wanted, is_wanted) {
            (false, true) => {
                let gap = self.unwanted.saturating_add(before);
                let calls_again = self.wanted < WAITS && gap <= LONGEST_GAP;
                self.keep_for = match calls_again {
                    true => (2 * gap).max(RETURN_AFTER),
                    false => RETURN_AFTER,
                };
                self.wanted = Duration::ZERO;
            }
            (true, true) => {
                self.wanted += before;
                if self.wanted >= WAITS {
                    self.keep_for = RETURN_AFTER;
                }
            }
            (true, false) => self.unwanted = before,
            (false, false) => self.unwanted = self.unwanted.saturating_add(before),
        }
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
        assert_eq!(kept(&mut demand), RETURN_AFTER);
        assert!(!demand.tick(false, 0));
    }

    /// How long three waiting messages are kept.
    fn kept(demand: &mut Demand) -> Duration {
        let mut time = demand.pause();
        while !demand.tick(false, 3) {
            time += demand.pause();
        }
        time
    }

    /// No message is wanted for this long, and then one is, for about this long.
    fn call(demand: &mut Demand, gap: Duration, wanted: Duration) {
        for (is_wanted, time) in [(false, gap), (true, wanted)] {
            let mut passed = Duration::ZERO;
            while passed < time {
                demand.tick(is_wanted, 0);
                passed += demand.pause();
            }
        }
    }

    #[test]
    fn a_message_is_kept_until_the_next_call_of_a_program_that_calls_again_and_again() {
        let short = Duration::from_millis(200);
        for seconds in [3, 30, 300] {
            let gap = Duration::from_secs(seconds);
            let mut demand = Demand::new(100);
            call(&mut demand, gap, short);
            assert_eq!(kept(&mut demand), RETURN_AFTER, "it may be the only call");
            call(&mut demand, gap, short);
            let kept = kept(&mut demand);
            assert!(kept > gap && kept < 3 * (gap + RETURN_AFTER), "{kept:?}");
        }
    }

    #[test]
    fn a_message_is_not_kept_for_programs_that_wait_or_call_rarely() {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(5));
        for (gap, wanted) in [(30, long), (2 * LONGEST_GAP.as_secs(), short)] {
            let gap = Duration::from_secs(gap);
            let mut demand = Demand::new(100);
            for _ in 0..3 {
                call(&mut demand, gap, wanted);
                assert_eq!(kept(&mut demand), RETURN_AFTER);
            }
        }
    }
}
