//! Processes that are stopped in a call on an object.
//!
//! A second handle that does nothing stands for such a process: the word of the object's own lock names it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use crate::common::{NOWAIT, alone, beside_others, fork, millis};
use shoal::{
    Barrier, Condition, Error, Event, Lock, Map, Options, Queue, RwLock, Semaphore, Timeout,
};

/// Where an object's own data begins in its file.
const DATA: u64 = 36_864;
/// How the object's second handle stands in the word of a lock (`src/sync/lock.rs`).
const SECOND: u64 = 0x5ba1 << 48 | 1 << 32 | 1;

/// The second handle has these locks of the object from now on.
fn stop_with(name: &str, locks: impl IntoIterator<Item = u64>) {
    let path = format!("/dev/shm/shoal.{name}");
    let file = File::options().write(true).open(path).unwrap();
    for at in locks {
        file.write_all_at(&SECOND.to_le_bytes(), DATA + at).unwrap();
    }
}

#[test]
fn a_wait_with_a_time_ends_though_a_process_is_stopped_in_a_call() {
    // A child that another test forks meanwhile would take the place of the second handle.
    let _alone = alone();
    let create = Options::create();

    let semaphore = Semaphore::with_options(None, 1, &create).unwrap();
    let rwlock = RwLock::anonymous().unwrap();
    let barrier = Barrier::with_options(None, 2, &create).unwrap();
    let (lock, condition) = (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let queue = Queue::anonymous().unwrap();
    queue.put(b"unfinished", NOWAIT).unwrap();
    let stored = Queue::anonymous().unwrap();
    stored.put(b"to be copied", NOWAIT).unwrap();
    let map = Map::anonymous().unwrap();

    let _stopped = (
        Semaphore::open(semaphore.name()).unwrap(),
        RwLock::open(rwlock.name()).unwrap(),
        Barrier::open(barrier.name()).unwrap(),
        Condition::open(condition.name()).unwrap(),
        Queue::open(queue.name()).unwrap(),
        Queue::open(stored.name()).unwrap(),
        Map::open(map.name()).unwrap(),
    );
    for name in [
        semaphore.name(),
        rwlock.name(),
        barrier.name(),
        condition.name(),
    ] {
        stop_with(name, [0]);
    }
    stop_with(queue.name(), [128, 384]);
    stop_with(stored.name(), [1152]);
    stop_with(map.name(), (0..64).map(|shard| 4096 + 640 * shard));

    let waits: [&(dyn Fn(Timeout) -> Result<(), Error> + Sync); 12] = [
        &|time| semaphore.acquire(time),
        &|time| rwlock.read(time).map(drop),
        &|time| rwlock.write(time).map(drop),
        &|time| barrier.wait(time).map(drop),
        &|time| {
            let _guard = lock.lock(Timeout::Infinite)?;
            condition.wait(&lock, time).map(drop)
        },
        &|time| queue.put(b"more", time),
        &|time| queue.get_vec(time).map(drop),
        &|time| queue.lease(time).map(drop),
        &|time| queue.join(time),
        // The second one also looks for what is to be delivered again.
        &|time| {
            stored
                .lease(NOWAIT)
                .or_else(|_| stored.lease(time))
                .map(drop)
        },
        &|time| stored.reserve(10, time).map(drop),
        &|time| map.lock_key(b"key", time).map(drop),
    ];
    thread::scope(|scope| {
        for wait in waits {
            for time in [NOWAIT, millis(1)] {
                scope.spawn(move || assert_eq!(wait(time), Err(Error::Timeout)));
            }
        }
    });
}

/// The attach lock of an object, as a process has it that is stopped while it opens the object.
struct AttachLock(File);

impl AttachLock {
    fn of(name: &str) -> Self {
        let path = format!("/dev/shm/shoal.{name}");
        let it = Self(File::options().read(true).write(true).open(path).unwrap());
        it.set(libc::F_WRLCK);
        it
    }

    fn set(&self, kind: libc::c_int) {
        // SAFETY: an all-zero `flock` is valid.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_start = 1 << 62;
        lock.l_len = 1;
        // SAFETY: the descriptor is open and `lock` is a valid request.
        let set = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLKW, &lock) };
        assert_eq!(set, 0);
    }
}

impl Drop for AttachLock {
    fn drop(&mut self) {
        // Explicitly: a child of another test may have a copy of the descriptor.
        self.set(libc::F_UNLCK);
    }
}

#[test]
fn a_process_that_is_stopped_while_it_opens_an_object_does_not_hold_up_unrelated_work() {
    let _turn = beside_others();
    let queue = Queue::anonymous().unwrap();
    let unrelated = Event::anonymous().unwrap();
    let stopped = AttachLock::of(queue.name());
    thread::scope(|scope| {
        let opener = scope.spawn(|| Queue::open(queue.name()).map(drop));
        for _ in 0..5 {
            drop(Event::open(unrelated.name()).unwrap());
            fork(|| unrelated.set()).ends_well();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(unrelated.is_set() && !opener.is_finished());
        drop(stopped);
        assert_eq!(opener.join().unwrap(), Ok(()));
    });
}

#[test]
fn an_object_that_a_stopped_process_opens_is_refused_with_the_name_of_that_process() {
    let _turn = beside_others();
    let queue = Queue::anonymous().unwrap();
    let name = queue.name().to_owned();
    let stopped = AttachLock::of(&name);
    let exclusive = Options {
        exclusive: true,
        ..Options::create()
    };
    thread::scope(|scope| {
        let others = [
            scope.spawn(|| shoal::unlink(&name)),
            scope.spawn(|| Queue::open(&name).map(drop)),
            scope.spawn(|| Queue::with_options(Some(&name), &exclusive).map(drop)),
        ];
        for other in others {
            let err = other.join().unwrap().unwrap_err();
            let text = format!("process {} (", std::process::id());
            assert!(matches!(err, Error::Busy { .. }), "{err:?}");
            assert!(err.to_string().contains(&text), "{err}");
        }
    });
    // A handle is dropped without the lock. Nobody has looked whether it was the last, so the next process does.
    drop(queue);
    assert!(shoal::stat(&name).is_ok());
    drop(stopped);
    assert!(matches!(Queue::open(&name), Err(Error::NotFound { .. })));
    assert!(matches!(shoal::stat(&name), Err(Error::NotFound { .. })));
}
