//! How many messages the local queue is given in advance: the credit.
//!
//! A message that lies here and that no worker has could be worked on elsewhere. So what lies here is what
//! the workers of this machine take in about the time that a message needs from the server, and nothing
//! where they take nothing. It grows while workers find the queue empty, and shrinks while messages lie.

use std::time::Duration;

/// How often [`Demand::tick`] is called while anything is wanted, or lies here.
const TICK: Duration = Duration::from_millis(20);
/// How often where nobody has wanted or finished anything for long. A worker that comes waits for its first
/// message as long; that, for each queue, is what a bridge without work costs.
const QUIET_TICK: Duration = Duration::from_millis(50);
/// For how many ticks messages may lie before what lies is halved.
const LIES: u32 = 5;
/// For how many ticks nobody may want or finish anything before what lies here is given back.
const DESERTED: u32 = 2 * 50;

/// What is known about the workers of one queue.
#[derive(Debug)]
pub(crate) struct Demand {
    /// How many messages may lie here.
    ahead: usize,
    most: usize,
    /// Ticks since messages began to lie without any being finished.
    lying: u32,
    /// Ticks since anything was wanted or finished.
    quiet: u32,
    is_wanted: bool,
}

impl Demand {
    /// With at most `most` messages here, leased or not.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            ahead: 0,
            most,
            lying: 0,
            quiet: DESERTED,
            is_wanted: false,
        }
    }

    /// How many more messages to ask for, if `held` are here and `lying` of them are not leased.
    pub(crate) fn credit(&self, held: usize, lying: usize) -> usize {
        let ahead = self.ahead.max(usize::from(self.is_wanted));
        ahead
            .saturating_sub(lying)
            .min(self.most.saturating_sub(held))
    }

    /// A worker finished a message, when so many were lying.
    pub(crate) fn finished(&mut self, lying: usize) {
        self.quiet = 0;
        self.lying = 0;
        if lying * 4 <= self.ahead {
            // One more for each that is finished doubles it in each round.
            self.ahead = (self.ahead + 1).min(self.most);
        }
    }

    /// When the next tick is due, if so many are lying.
    pub(crate) fn pause(&self, lying: usize) -> Duration {
        match self.quiet >= DESERTED && lying == 0 {
            true => QUIET_TICK,
            false => TICK,
        }
    }

    /// After each [pause](Self::pause). `is_wanted`: a worker found the queue empty, or waits. True if what lies here is
    /// to be given back.
    pub(crate) fn tick(&mut self, is_wanted: bool, lying: usize) -> bool {
        self.is_wanted = is_wanted;
        self.quiet = if is_wanted {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        self.lying = if lying == 0 { 0 } else { self.lying + 1 };
        if self.lying >= LIES {
            self.lying = 0;
            self.ahead /= 2;
        }
        if self.quiet >= DESERTED {
            self.ahead = 0;
            return lying > 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_where_nobody_works() {
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
            "it works for long, and none lies beside it"
        );
    }

    #[test]
    fn fast_workers_get_more_and_more_up_to_the_bound() {
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
    fn what_lies_shrinks_what_is_asked_for() {
        let mut demand = Demand::new(100);
        for _ in 0..1000 {
            demand.finished(0);
        }
        for _ in 0..LIES * 8 {
            demand.tick(false, 50);
        }
        assert_eq!(demand.credit(0, 0), 0);
    }

    #[test]
    fn where_all_workers_are_gone_what_lies_is_given_back() {
        let mut demand = Demand::new(100);
        demand.finished(0);
        let ticks = (0..).take_while(|_| !demand.tick(false, 3)).count();
        assert_eq!(ticks as u32 + 1, DESERTED);
        assert!(!demand.tick(false, 0));
    }
}
