//! Arrays, locks and the other primitives, to be corrupted.

use std::hint::black_box;

use shoal::{Array, Barrier, Condition, Event, Lock, Options, Result, RwLock, Semaphore};

use crate::common::corruption::Anatomy;
use crate::common::{NOWAIT, Random, millis};
use crate::victims::Victim;

/// An object that has nothing but a lock, and what it guards.
fn guarded(bytes: u64, groups: Vec<Vec<(u64, u64)>>) -> Anatomy {
    let lock = 0..64;
    Anatomy {
        head: bytes,
        locks: vec![lock],
        groups,
        ..Anatomy::default()
    }
}

impl Victim for Array {
    fn make(name: &str, random: &mut Random) -> Self {
        let count = 1 + random.below(500);
        Array::with_options(Some(name), 8, count, "Q", &Options::create()).unwrap()
    }

    fn open(name: &str) -> Result<Self> {
        Array::open(name)
    }

    fn anatomy() -> Anatomy {
        guarded(
            128,
            vec![vec![(64, 8), (72, u64::MAX)], vec![(64, 1 << 32)]],
        )
    }

    fn use_everything(&self, random: &mut Random) {
        let mut buf = vec![0; 1 + random.below(500) as usize];
        if let Ok(guard) = self.lock(millis(1)) {
            let _ = guard.write(random.below(4000) as usize, &buf);
            let _ = guard.read(random.below(4000) as usize, &mut buf);
            let _ = (self.acquire(NOWAIT), self.release());
        }
        let _ = (self.release(), self.format().len());
        let len = self.len();
        if let Some(last) = len.checked_sub(1) {
            // SAFETY: the last byte of the items, which have all their memory from the start.
            black_box(unsafe { self.as_ptr().add(last).read_volatile() });
        }
    }
}

impl Victim for Lock {
    fn make(name: &str, random: &mut Random) -> Self {
        let options = Options::create();
        let lock = match random.below(2) {
            0 => Lock::with_options(Some(name), &options),
            _ => Lock::recursive(Some(name), &options),
        };
        lock.unwrap()
    }

    fn open(name: &str) -> Result<Self> {
        Lock::open(name)
    }

    fn anatomy() -> Anatomy {
        guarded(64, Vec::new())
    }

    fn use_everything(&self, random: &mut Random) {
        let _ = self.acquire(millis(1));
        let _ = (self.is_mine(), self.depth(), self.is_held());
        let _ = (self.try_acquire(), self.spin_acquire());
        let _ = self.release();
        if random.below(2) == 0 {
            let _ = self.release();
        }
    }
}

impl Victim for Semaphore {
    fn make(name: &str, random: &mut Random) -> Self {
        let permits = 1 + random.below(3);
        let options = Options::create();
        let it = Semaphore::with_options(Some(name), permits, &options).unwrap();
        it.acquire(NOWAIT).unwrap();
        it
    }

    fn open(name: &str) -> Result<Self> {
        Semaphore::open(name)
    }

    fn anatomy() -> Anatomy {
        guarded(8300, vec![vec![(64, 1), (72, 1)], vec![(64, 1), (80, 1)]])
    }

    fn use_everything(&self, random: &mut Random) {
        let _ = self.acquire(millis(1));
        let _ = (self.release(random.below(3) as u32), self.available());
        let _ = self.acquire(NOWAIT);
    }
}

impl Victim for Event {
    fn make(name: &str, _: &mut Random) -> Self {
        Event::with_options(Some(name), &Options::create()).unwrap()
    }

    fn open(name: &str) -> Result<Self> {
        Event::open(name)
    }

    fn anatomy() -> Anatomy {
        Anatomy {
            head: 16,
            ..Anatomy::default()
        }
    }

    fn use_everything(&self, _: &mut Random) {
        let _ = self.wait(millis(1));
        self.set();
        let _ = (self.is_set(), self.wait(NOWAIT));
        self.clear();
    }
}

/// A condition, and the lock that its waiters have.
pub(crate) struct Waiters(Condition, Lock);

impl Victim for Waiters {
    fn make(name: &str, random: &mut Random) -> Self {
        let it = Condition::with_options(Some(name), &Options::create()).unwrap();
        for _ in 0..random.below(6) {
            it.enlist().unwrap();
        }
        Self(it, Lock::anonymous().unwrap())
    }

    fn open(name: &str) -> Result<Self> {
        Ok(Self(Condition::open(name)?, Lock::anonymous()?))
    }

    fn anatomy() -> Anatomy {
        // The next number, with those of the first two places.
        guarded(400, vec![vec![(72, 1), (88, 1), (112, 1)], vec![(64, 1)]])
    }

    fn use_everything(&self, random: &mut Random) {
        let Self(it, lock) = self;
        let _guard = lock.lock(NOWAIT);
        for place in 0..1 + random.below(7) as u32 {
            let _ = (it.notify(1), it.sleep(place, millis(1)), it.leave(place));
        }
        if let Ok(place) = it.enlist() {
            let _ = (it.sleep(place, NOWAIT), it.leave(place));
        }
        let _ = it.wait(lock, millis(1));
        let _ = (it.notify_all(), it.waiting());
        assert!(it.leave(u32::MAX).is_err());
    }
}

impl Victim for Barrier {
    fn make(name: &str, random: &mut Random) -> Self {
        let it = Barrier::with_options(Some(name), 4, &Options::create()).unwrap();
        for _ in 0..random.below(4) {
            it.arrive(NOWAIT).unwrap();
        }
        it
    }

    fn open(name: &str) -> Result<Self> {
        Barrier::open(name)
    }

    fn anatomy() -> Anatomy {
        // A round more, in the barrier and in its first two places.
        let round = vec![(64, 4), (120, 1 << 16), (144, 1 << 16)];
        guarded(400, vec![round, vec![(72, 1), (96, 1)]])
    }

    fn use_everything(&self, random: &mut Random) {
        let _ = self.wait(millis(1));
        for place in 0..4 {
            let _ = (self.sleep(place, millis(1)), self.give_up(place));
        }
        if let Ok(arrival) = self.arrive(NOWAIT) {
            let _ = self.give_up(arrival.place);
        }
        let _ = match random.below(4) {
            0 => self.reset(),
            1 => self.abort(),
            _ => self.release(0),
        };
        let _ = (self.waiting(), self.is_broken());
    }
}

impl Victim for RwLock {
    fn make(name: &str, random: &mut Random) -> Self {
        let it = RwLock::with_options(Some(name), &Options::create()).unwrap();
        let _ = match random.below(2) {
            0 => it.read(NOWAIT),
            _ => it.write(NOWAIT),
        };
        it
    }

    fn open(name: &str) -> Result<Self> {
        RwLock::open(name)
    }

    fn anatomy() -> Anatomy {
        let mut anatomy = guarded(8400, vec![vec![(144, 1), (168, 1 << 32)], vec![(128, 1)]]);
        anatomy.locks.push(64..128);
        anatomy
    }

    fn use_everything(&self, _: &mut Random) {
        let _ = (self.write(millis(1)), self.release_write());
        let _ = (self.read(millis(1)), self.release_read(), self.holders());
    }
}
