//! Workers that are killed in the middle of numbered steps, and a model that follows them.
//!
//! The number of a step determines its operation, and is stored in shared memory before and after the step. So a
//! survivor knows what a killed worker was doing.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::company::Words;

/// The most steps until a kill. The survivor repeats all of them on the model.
const LIFE: u64 = 3000;

/// How many steps a worker has begun, and how many it has done.
pub(crate) struct Progress<'a> {
    begun: &'a AtomicU64,
    done: &'a AtomicU64,
}

impl<'a> Progress<'a> {
    /// That of one worker, in words of which each worker has two.
    pub(crate) fn of(words: &'a Words, worker: usize) -> Self {
        Self {
            begun: &words[2 * worker],
            done: &words[2 * worker + 1],
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(SeqCst)
    }

    /// Takes the steps after those that are done, until it is killed.
    pub(crate) fn work(&self, step: impl Fn(u64)) {
        let first = self.done();
        for number in first..first + LIFE {
            self.begun.store(number + 1, SeqCst);
            step(number);
            self.done.store(number + 1, SeqCst);
        }
        loop {
            std::thread::park();
        }
    }
}

/// What a worker has left behind, as a model that repeats its steps.
#[derive(Clone, Default)]
pub(crate) struct Replica<M> {
    pub(crate) model: M,
    steps: u64,
}

impl<M: Clone + PartialEq> Replica<M> {
    /// The number of the next step.
    pub(crate) fn next(&self) -> u64 {
        self.steps
    }

    /// Repeats what the worker has done before it was killed, and if that is not what is `found`, also the step that
    /// it had begun. Returns then the number of this step and the model before it.
    pub(crate) fn follow(
        &mut self,
        progress: &Progress<'_>,
        found: &M,
        imagine: impl Fn(&mut M, u64),
    ) -> Option<(u64, M)> {
        let done = progress.done();
        for number in self.steps..done {
            imagine(&mut self.model, number);
        }
        self.steps = done;
        if self.model == *found {
            return None;
        }
        let begun = progress.begun.load(SeqCst);
        assert_eq!(begun, done + 1, "it had done {done} steps, and no other");
        let before = self.model.clone();
        imagine(&mut self.model, done);
        self.steps = begun;
        progress.done.store(begun, SeqCst);
        Some((done, before))
    }
}
