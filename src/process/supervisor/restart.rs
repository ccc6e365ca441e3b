//! When a worker that has ended is restarted, and when the engine checks its workers again.

use std::time::Duration;

use crate::process::handle::{Exit, ExitKind};
use crate::sys::clock::Deadline;

/// Which workers are restarted when they have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub enum Restart {
    /// None.
    #[default]
    Never = 0,
    /// Those that failed: an exit code other than 0, or death by a signal.
    OnFailure = 1,
    /// All, even after exit code 0.
    Always = 2,
}

/// The parameters of restarts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) restart: Restart,
    /// How many times in a row a worker is restarted without a healthy run in between.
    pub(super) limit: u32,
    pub(super) first_delay: Duration,
    pub(super) longest_delay: Duration,
    /// A run that lasts this long is not a short one.
    pub(super) healthy: Duration,
}

/// What to do with a worker that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It has done its work.
    Done,
    /// It has failed, and that is final.
    Failed,
    /// It has failed too often in a row.
    GaveUp,
    /// It is restarted after this time.
    After(Duration),
}

impl Policy {
    /// Decides what comes after a run of this length. Updates `short`, the number of short runs in a row.
    pub(super) fn next(&self, success: bool, run: Duration, short: &mut u32) -> Next {
        match (self.restart, success) {
            (Restart::Never | Restart::OnFailure, true) => return Next::Done,
            (Restart::Never, false) => return Next::Failed,
            (Restart::OnFailure, false) | (Restart::Always, _) => {}
        }
        *short = if run >= self.healthy {
            1
        } else {
            short.saturating_add(1)
        };
        if *short > self.limit {
            return Next::GaveUp;
        }
        let doubled = 2u32.checked_pow(*short - 1);
        let delay = doubled.and_then(|factor| self.first_delay.checked_mul(factor));
        Next::After(delay.map_or(self.longest_delay, |delay| delay.min(self.longest_delay)))
    }
}

impl Policy {
    /// The text about a worker that is given up after `short` short runs in a row, of which the last ended as
    /// `exit` says.
    pub(super) fn giving_up(&self, short: u32, exit: Exit) -> String {
        // The first of the runs may have been a healthy one. Those after a restart were short.
        let restarts = short.saturating_sub(1);
        if restarts == 0 {
            return "is not started again: the limit is 0 restarts".to_owned();
        }
        if exit.kind == ExitKind::Unknown {
            let restarts = match restarts {
                1 => "one restart".to_owned(),
                _ => format!("{restarts} restarts in a row"),
            };
            return format!(
                "is given up after {restarts}, of which the last could not start the program. It is not started again"
            );
        }
        let (times, each) = match restarts {
            1 => ("once".to_owned(), ""),
            _ => (format!("{restarts} times in a row"), " each time"),
        };
        format!(
            "is in a crash loop: it was restarted {times} and ended within {:?} of its start{each}, the last \
             time {exit}. It is not started again",
            self.healthy
        )
    }
}

/// When the engine checks again if nothing wakes it: when a worker is due, at `next`, and at the deadline of a
/// stop. After that it checks after each slice, since a killed worker may take long to end.
pub(super) fn look_again(stop: Option<Deadline>, next: u64, now: u64, slice: u64) -> u64 {
    match stop {
        None | Some(Deadline::Never) => next,
        Some(Deadline::At(at)) if at > now => next.min(at),
        Some(Deadline::At(_) | Deadline::Now) => next.min(now + slice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(restart: Restart, limit: u32) -> Policy {
        Policy {
            restart,
            limit,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(1),
            healthy: Duration::from_secs(10),
        }
    }

    const SHORT: Duration = Duration::from_secs(9);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_started_again_depends_on_how_it_ended() {
        let next = |restart, success| policy(restart, 5).next(success, LONG, &mut 0);
        let again = Next::After(Duration::from_millis(100));
        assert_eq!(next(Restart::Never, true), Next::Done);
        assert_eq!(next(Restart::Never, false), Next::Failed);
        assert_eq!(next(Restart::OnFailure, true), Next::Done);
        assert_eq!(next(Restart::OnFailure, false), again);
        assert_eq!(next(Restart::Always, true), again);
        assert_eq!(next(Restart::Always, false), again);
    }

    #[test]
    fn delays_double_up_to_the_longest_until_the_limit() {
        let policy = policy(Restart::OnFailure, 6);
        let mut short = 0;
        let mut next = |run| policy.next(false, run, &mut short);
        for ms in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(next(SHORT), Next::After(Duration::from_millis(ms)));
        }
        assert_eq!(next(SHORT), Next::GaveUp);
    }

    #[test]
    fn a_run_that_lasted_begins_the_count_again() {
        let policy = policy(Restart::Always, 2);
        let mut short = 0;
        for _ in 0..50 {
            let mut next = |run| policy.next(true, run, &mut short);
            assert_eq!(next(LONG), Next::After(Duration::from_millis(100)));
            assert_eq!(next(SHORT), Next::After(Duration::from_millis(200)));
        }
    }

    #[test]
    fn what_is_said_of_a_worker_that_is_given_up_is_true() {
        let exit = Exit {
            kind: ExitKind::Exited,
            code: 4,
        };
        let said = |limit: u32, runs: &[Duration]| {
            let (policy, mut short) = (policy(Restart::OnFailure, limit), 0);
            let (last, others) = runs.split_last().unwrap();
            for &run in others {
                assert!(matches!(
                    policy.next(false, run, &mut short),
                    Next::After(_)
                ));
            }
            assert_eq!(policy.next(false, *last, &mut short), Next::GaveUp);
            policy.giving_up(short, exit)
        };
        for run in [SHORT, LONG] {
            assert_eq!(
                said(0, &[run]),
                "is not started again: the limit is 0 restarts"
            );
        }
        let once = "is in a crash loop: it was restarted once and ended within 10s of its start, the last time \
                    exited with code 4. It is not started again";
        assert_eq!(said(1, &[LONG, SHORT]), once);
        let twice = "it was restarted 2 times in a row and ended within 10s of its start each time, the last";
        for runs in [&[SHORT, SHORT, SHORT][..], &[SHORT, LONG, SHORT, SHORT]] {
            let said = said(2, runs);
            assert!(said.contains(twice), "{said}");
        }
        // The program was removed meanwhile.
        let exit = Exit {
            kind: ExitKind::Unknown,
            code: -1,
        };
        let said = policy(Restart::Always, 2).giving_up(3, exit);
        assert!(
            said.contains("the last could not start the program"),
            "{said}"
        );
    }

    #[test]
    fn the_engine_sleeps_while_a_killed_worker_has_not_ended() {
        let again = |stop| look_again(stop, 1000, 5, 100);
        for passed in [Deadline::Now, Deadline::At(4), Deadline::At(5)] {
            assert_eq!(again(Some(passed)), 105);
        }
        assert_eq!(again(Some(Deadline::At(6))), 6);
        assert_eq!(again(Some(Deadline::Never)), 1000);
        assert_eq!(again(None), 1000);
        assert_eq!(look_again(Some(Deadline::Now), 6, 5, 100), 6);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut policy = policy(Restart::Always, u32::MAX);
        policy.first_delay = Duration::MAX;
        policy.longest_delay = Duration::MAX;
        let mut short = u32::MAX - 1;
        for _ in 0..3 {
            assert_eq!(
                policy.next(false, SHORT, &mut short),
                Next::After(Duration::MAX)
            );
        }
        policy.limit = 0;
        assert_eq!(policy.next(false, LONG, &mut 0), Next::GaveUp);
    }
}
