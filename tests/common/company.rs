//! Processes that are killed at random while the others have to continue, and words in shared memory.

use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use shoal::{Array, Options};

use super::{Child, Random, fork};

/// Words that processes share, zeros at first.
pub(crate) struct Words(Array, usize);

impl Words {
    pub(crate) fn new(count: usize) -> Self {
        let array = Array::with_options(None, 8, count as u64, "", &Options::create());
        Self(array.unwrap(), count)
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        self[at].load(SeqCst)
    }

    pub(crate) fn set(&self, at: usize, value: u64) {
        self[at].store(value, SeqCst);
    }

    /// Adds to a word, and returns its previous value.
    pub(crate) fn add(&self, at: usize, value: u64) -> u64 {
        self[at].fetch_add(value, SeqCst)
    }
}

impl Index<usize> for Words {
    type Output = AtomicU64;

    fn index(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.1);
        // SAFETY: zeroed, aligned memory of `self.1` words that lives as long as the array.
        unsafe { &*self.0.as_ptr().cast::<AtomicU64>().add(at) }
    }
}

/// A test that kills at random continues until it has seen more than these numbers of kills and of operations, so
/// that it tests enough on a busy machine, too.
pub(crate) const LEAST_KILLS: u64 = 10;
pub(crate) const LEAST_DONE: u64 = 100;

pub(crate) fn wait_until(happened: impl Fn() -> bool) {
    while !happened() {
        thread::yield_now();
    }
}

/// A group of processes, each of which works until it is killed.
pub(crate) trait Company {
    const SIZE: usize;

    fn new() -> Self;

    /// The work of one process until it is killed.
    fn work(&self, worker: usize, random: Random);

    /// Returns once all except the `dead` have made progress, and the slots of the dead may be reused.
    fn go_on_without(&self, dead: &[usize]);

    /// The number of operations that they have done.
    fn done(&self) -> u64;

    /// Checks the words after this many kills.
    fn check(&self, _kills: u64) {}
}

/// Kills one or two processes at a time for a while. Returns the numbers of kills and of operations.
pub(crate) fn kill_for<C: Company>(length: Duration) -> (u64, u64) {
    let (company, mut random) = (C::new(), Random(0x5eed));
    let start = |worker: usize, seed: u64| Some(fork(|| company.work(worker, Random(seed | 1))));
    let mut children: Vec<Option<Child>> = (0..C::SIZE).map(|it| start(it, it as u64)).collect();
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < length || kills <= LEAST_KILLS || company.done() <= LEAST_DONE {
        let first = random.below(C::SIZE as u64) as usize;
        let second = (first + 1 + random.below(C::SIZE as u64 - 1) as usize) % C::SIZE;
        let dead = &[first, second][..1 + random.below(2) as usize];
        for &victim in dead {
            thread::sleep(Duration::from_micros(random.below(6_000)));
            children[victim].take().unwrap().kill();
            kills += 1;
        }
        company.go_on_without(dead);
        for &victim in dead {
            children[victim] = start(victim, random.next());
        }
    }
    children.into_iter().flatten().for_each(Child::kill);
    company.check(kills);
    (kills, company.done())
}
