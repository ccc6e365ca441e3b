//! Processes that wait for a condition, for an event or at a barrier, and processes that notify them, are killed at
//! random. Each time the others continue: every live process is woken by the notifications for it, and none that
//! notifies is delayed by dead waiters.
//!
//! Killed processes are replaced only once the others have made progress without them. So a lost wake-up makes the
//! test hang.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use crate::common::company::{Company, LEAST_DONE, LEAST_KILLS, Words, kill_for, wait_until};
use crate::common::{FOREVER, Random, alone, soak_length};
use shoal::{Acquisition, Barrier, Condition, Error, Event, Lock, Options};

/// Givers add some tokens once all are taken, and takers take one at a time.
struct Tokens {
    lock: Lock,
    given: Condition,
    taken: Condition,
    words: Words,
}

const GIVERS: usize = 3;

// Words: the tokens given and taken; how many waiters were notified and woken; whether a process holds the lock.
const GIVEN: usize = 0;
const TAKEN: usize = 1;
const TOLD: usize = 2;
const WOKEN: usize = 3;
const INSIDE: usize = 4;

impl Tokens {
    fn are_taken(&self) -> bool {
        self.words.get(GIVEN) == self.words.get(TAKEN)
    }

    fn acquire(&self) {
        self.enter(self.lock.acquire(FOREVER).unwrap());
    }

    fn release(&self) {
        self.words.set(INSIDE, 0);
        self.lock.release().unwrap();
    }

    /// Called with the lock held. A process that died while it held the lock may not have passed on a notification.
    fn enter(&self, taken: Acquisition) {
        let inside = self.words[INSIDE].swap(1, SeqCst);
        if taken == Acquisition::OwnerDied {
            self.tell(&self.given, u64::MAX);
            self.tell(&self.taken, u64::MAX);
        } else {
            assert_eq!(inside, 0, "two have the lock");
        }
        assert!(self.words.get(TAKEN) <= self.words.get(GIVEN));
    }

    fn tell(&self, changed: &Condition, count: u64) {
        let count = count.min(changed.waiting().unwrap() as u64);
        self.words.add(TOLD, count);
        changed.notify(count as u32).unwrap();
    }

    fn wait(&self, changed: &Condition) {
        self.words.set(INSIDE, 0);
        let wake = changed.wait(&self.lock, FOREVER).unwrap();
        assert!(wake.notified);
        self.words.add(WOKEN, 1);
        self.enter(wake.taken);
    }
}

impl Company for Tokens {
    const SIZE: usize = GIVERS + 3;

    fn new() -> Self {
        Self {
            lock: Lock::anonymous().unwrap(),
            given: Condition::anonymous().unwrap(),
            taken: Condition::anonymous().unwrap(),
            words: Words::new(INSIDE + 1),
        }
    }

    fn work(&self, who: usize, mut random: Random) {
        loop {
            self.acquire();
            if who < GIVERS {
                while !self.are_taken() {
                    self.wait(&self.taken);
                }
                let count = 1 + random.below(3);
                self.words.add(GIVEN, count);
                self.tell(&self.given, count);
            } else {
                while self.are_taken() {
                    self.wait(&self.given);
                }
                self.words.add(TAKEN, 1);
                if self.are_taken() {
                    self.tell(&self.taken, 1);
                }
            }
            self.release();
        }
    }

    fn go_on_without(&self, _dead: &[usize]) {
        let before = self.words.get(TAKEN);
        while self.words.get(TAKEN) < before + 5 {
            // If all live processes wait, no other takes the lock that the dead process left.
            self.acquire();
            self.release();
            thread::yield_now();
        }
    }

    fn done(&self) -> u64 {
        self.words.get(TAKEN)
    }

    fn check(&self, kills: u64) {
        let (told, woken) = (self.words.get(TOLD), self.words.get(WOKEN));
        // A process that was killed while it passed on a dead waiter's notification may have notified two.
        assert!(woken <= told + kills, "{told} told, {woken} woken");
    }
}

/// Setters set one of two events after the other, each once all waiters have passed the last.
struct Rounds {
    lock: Lock,
    events: [Event; 2],
    words: Words,
}

const SETTERS: usize = 3;

// Words: the current round; for each waiter, the number of rounds that it has passed.
const ROUND: usize = 0;
const PASSED: usize = 1;

impl Rounds {
    fn passed(&self) -> impl Iterator<Item = (usize, u64)> {
        (SETTERS..Self::SIZE).map(|who| (who, self.words.get(PASSED + who)))
    }

    /// Each step can be done twice: the process that did it first may have died before the next.
    fn set(&self) {
        let guard = self.lock.lock(FOREVER).unwrap();
        let round = self.words.get(ROUND);
        let event = &self.events[round as usize % 2];
        if self.passed().all(|(_, passed)| passed > round) {
            event.clear();
            self.words.set(ROUND, round + 1);
        } else if !event.is_set() || guard.owner_died() {
            event.set();
        }
    }
}

impl Company for Rounds {
    const SIZE: usize = SETTERS + 3;

    fn new() -> Self {
        Self {
            lock: Lock::anonymous().unwrap(),
            events: [(); 2].map(|()| Event::anonymous().unwrap()),
            words: Words::new(PASSED + Self::SIZE),
        }
    }

    fn work(&self, who: usize, _random: Random) {
        if who < SETTERS {
            loop {
                self.set();
                thread::yield_now();
            }
        }
        for round in self.words.get(PASSED + who).. {
            self.events[round as usize % 2].wait(FOREVER).unwrap();
            assert!(self.words.get(ROUND) >= round, "{round} was not set");
            self.words.set(PASSED + who, round + 1);
        }
    }

    fn go_on_without(&self, dead: &[usize]) {
        let is_dead = |it: &(usize, u64)| dead.contains(&it.0);
        // No round after the one in which a waiter died can begin without it.
        let last = self.passed().filter(is_dead).map(|it| it.1).min();
        let last = last.unwrap_or_else(|| self.passed().map(|it| it.1).max().unwrap());
        wait_until(|| self.passed().all(|it| it.1 > last || is_dead(&it)));
    }

    fn done(&self) -> u64 {
        self.words.get(ROUND)
    }
}

/// Processes that meet at a barrier.
struct Meeting {
    barrier: Barrier,
    words: Words,
}

const PARTIES: usize = 4;

// Words for each process: the last round in which it arrived, had a slot, and passed; and the number of breaks that
// it was told of. For each index: the last round in which a process had it. And the number of breaks that were reset.
const COME: usize = 0;
const HERE: usize = COME + PARTIES;
const WENT: usize = HERE + PARTIES;
const BROKE: usize = WENT + PARTIES;
const INDEX: usize = BROKE + PARTIES;
const MENDED: usize = INDEX + PARTIES;

impl Meeting {
    /// A wait in parts, so that the test knows when `who` has its slot.
    fn wait(&self, who: usize, round: u64) -> Result<u32, Error> {
        self.words.set(COME + who, round);
        let arrived = self.barrier.arrive(FOREVER)?;
        self.words.set(HERE + who, round);
        match arrived.last {
            true => self.barrier.release(arrived.place)?,
            false => self.barrier.sleep(arrived.place, FOREVER)?,
        }
        Ok(arrived.index)
    }
}

fn is_broken<T>(waited: &Result<T, Error>) -> bool {
    matches!(waited, Err(Error::Poisoned { .. }))
}

impl Company for Meeting {
    const SIZE: usize = PARTIES;

    fn new() -> Self {
        let options = Options::create();
        Self {
            barrier: Barrier::with_options(None, PARTIES as u64, &options).unwrap(),
            words: Words::new(MENDED + 1),
        }
    }

    fn work(&self, who: usize, _random: Random) {
        loop {
            let round = self.words.get(WENT + who) + 1;
            let waited = self.wait(who, round);
            if is_broken(&waited) {
                let mended = self.words.get(MENDED);
                self.words.set(BROKE + who, mended + 1);
                wait_until(|| self.words.get(MENDED) > mended);
                continue;
            }
            let index = waited.unwrap() as usize;
            assert!((0..PARTIES).all(|it| self.words.get(COME + it) >= round));
            let before = self.words[INDEX + index].swap(round, SeqCst);
            assert!(before < round, "two were number {index}");
            self.words.set(WENT + who, round);
        }
    }

    fn go_on_without(&self, dead: &[usize]) {
        let living = || (0..PARTIES).filter(|it| !dead.contains(it));
        let all = |what, round| living().all(|it| self.words.get(what + it) == round);
        // Either a dead process has a slot, and the others break the barrier. Or only live ones have arrived in the
        // last round, and wait for the replacements.
        wait_until(|| {
            let last = (0..PARTIES).map(|it| self.words.get(COME + it)).max();
            let all_here = all(HERE, last.unwrap_or_default());
            all_here && self.barrier.waiting() == Ok(living().count()) || self.barrier.is_broken()
        });
        if self.barrier.is_broken() {
            let breaks = self.words.get(MENDED) + 1;
            wait_until(|| all(BROKE, breaks));
            assert!(is_broken(&self.barrier.wait(FOREVER)));
            self.barrier.reset().unwrap();
            assert!(!self.barrier.is_broken());
            self.words.set(MENDED, breaks);
        }
        // Each round ended for all of them in the same way.
        let went = living().map(|it| self.words.get(WENT + it)).max();
        let went = went.unwrap_or_default();
        assert!(all(WENT, went));
        for who in dead {
            self.words.set(COME + who, went);
            self.words.set(WENT + who, went);
        }
    }

    fn done(&self) -> u64 {
        self.words.get(WENT)
    }

    fn check(&self, kills: u64) {
        let mended = self.words.get(MENDED);
        assert!(mended > 0 && mended <= kills, "{mended} breaks");
    }
}

fn check<C: Company>() {
    let _alone = alone();
    let (kills, done) = kill_for::<C>(Duration::from_millis(700));
    assert!(
        kills > LEAST_KILLS && done > LEAST_DONE,
        "{kills} kills, {done} done"
    );
}

#[test]
fn a_notification_reaches_a_live_process_whichever_is_killed() {
    check::<Tokens>();
}

#[test]
fn an_event_that_is_set_wakes_all_live_processes_whichever_is_killed() {
    check::<Rounds>();
}

#[test]
fn a_barrier_opens_for_all_or_breaks_for_all_whichever_is_killed() {
    check::<Meeting>();
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test waits kills::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let third = soak_length() / 3;
    let (kills, done) = kill_for::<Tokens>(third);
    println!("{kills} kills, {done} tokens");
    let (kills, done) = kill_for::<Rounds>(third);
    println!("{kills} kills, {done} rounds of events");
    let (kills, done) = kill_for::<Meeting>(third);
    println!("{kills} kills, {done} rounds at a barrier");
}
