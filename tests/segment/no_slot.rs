//! Forks at which no descriptor is free, or no slot: what the child may do, and what its parent keeps.

use std::fs::File;
use std::time::Duration;

use crate::common::shm::{allow_descriptors, descriptors};
use crate::common::{Bell, FOREVER, NOWAIT, Name, alone, fork, tiny};
use shoal::{
    Acquisition, Array, Barrier, Condition, End, Error, Event, List, Lock, Map, Options, Pipe,
    Queue, RwLock, Semaphore,
};

fn die() {
    // SAFETY: a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn attached(name: &str) -> usize {
    shoal::stat(name).unwrap().participants.len()
}

/// Leaves this process no descriptor, and none in reserve: those that are open stay so.
fn use_up_descriptors() {
    allow_descriptors(3);
    // It takes what the library keeps in reserve, if there is an object.
    fork(|| ()).ends_well();
}

/// Lets this process open descriptors again.
fn give_descriptors() {
    allow_descriptors(256);
}

#[test]
fn a_child_that_is_forked_while_no_descriptor_is_free_has_its_own_locks_and_leases() {
    let _alone = alone();
    fork(|| {
        let (lock, queue) = (
            Lock::anonymous().unwrap(),
            Queue::with_options(None, &tiny()).unwrap(),
        );
        let other = Lock::open(lock.name()).unwrap();
        queue.put(b"work", NOWAIT).unwrap();
        let lease = queue.lease(NOWAIT).unwrap();
        let mut files = Vec::new();
        allow_descriptors(descriptors() as u64 + 8);
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        for _ in 0..3 {
            let mut child = fork(|| {
                // SAFETY: the child's own copy, which nothing else drops: it leaves without cleaning up.
                drop(unsafe { std::ptr::read(&lease) });
                let _ = lock.acquire(NOWAIT).unwrap();
                die();
            });
            child.wait();
            assert_eq!(other.acquire(FOREVER), Ok(Acquisition::OwnerDied));
            other.release().unwrap();
        }
        assert!(queue.is_empty() && queue.leased() == 1);
        lease.ack().unwrap();
    })
    .ends_well();
}

#[test]
fn a_child_without_a_slot_gets_an_error_and_leaves_its_parent_what_it_has() {
    let _alone = alone();
    fork(|| {
        let options = Options::create();
        let [free, plain] = [(); 2].map(|()| Lock::anonymous().unwrap());
        let again = Lock::recursive(None, &options).unwrap();
        let array = Array::with_options(None, 8, 1, "B", &options).unwrap();
        let (queue, list, map) = (
            Queue::with_options(None, &tiny()).unwrap(),
            List::anonymous().unwrap(),
            Map::anonymous().unwrap(),
        );
        let (rwlock, permits) = (
            RwLock::anonymous().unwrap(),
            Semaphore::bounded(None, 2, &options).unwrap(),
        );
        let barrier = Barrier::with_options(None, 2, &options).unwrap();
        let (condition, event) = (Condition::anonymous().unwrap(), Event::anonymous().unwrap());
        let (receiver, sender) = Pipe::simplex().unwrap();
        map.set(b"key", b"value").unwrap();
        list.append(b"element").unwrap();
        (0..2).for_each(|_| queue.put(b"work", NOWAIT).unwrap());

        // What this process has.
        let mut guards = Some((plain.lock(NOWAIT).unwrap(), again.lock(NOWAIT).unwrap()));
        let mut items = Some(array.lock(NOWAIT).unwrap());
        let mut lease = Some(queue.lease(NOWAIT).unwrap());
        let mut room = Some(queue.reserve(3, NOWAIT).unwrap());
        let mut key = Some(map.lock_key(b"key", NOWAIT).unwrap());
        let mut view = Some(map.view(b"key").unwrap().unwrap());
        let mut ends = Some((receiver, sender));
        let _ = rwlock.read(NOWAIT).unwrap();
        permits.acquire(NOWAIT).unwrap();

        use_up_descriptors();
        fork(|| {
            drop((guards.take(), items.take(), lease.take(), room.take()));
            drop((key.take(), view.take()));
            let (receiver, sender) = ends.take().unwrap();
            let long = Duration::from_secs(60);
            for (at, refused) in [
                free.acquire(NOWAIT).map(drop),
                free.try_acquire().map(drop),
                free.lock(long).map(drop),
                again.acquire(long).map(drop),
                array.lock(long).map(drop),
                queue.put(b"x", NOWAIT),
                queue.put(b"x", long),
                queue.get_vec(NOWAIT).map(drop),
                queue.get_vec(long).map(drop),
                queue.lease(long).map(drop),
                queue.reserve(3, long).map(drop),
                list.append(b"x"),
                list.len().map(drop),
                map.set(b"key", b"x"),
                map.get_vec(b"key").map(drop),
                map.lock_key(b"other", long).map(drop),
                rwlock.read(long).map(drop),
                rwlock.write(long).map(drop),
                rwlock.release_read(),
                permits.acquire(long),
                permits.release(1),
                barrier.wait(long).map(drop),
                condition.enlist().map(drop),
                sender.send(b"x", long),
                receiver.recv_vec(long).map(drop),
            ]
            .into_iter()
            .enumerate()
            {
                let err = refused.expect_err(&format!("call {at}"));
                assert!(matches!(err, Error::Exhausted { .. }), "call {at}: {err:?}");
                assert!(err.to_string().contains("open the object again"), "{err}");
            }
            for lock in [&plain, &again] {
                assert!(matches!(lock.release(), Err(Error::Invalid { .. })));
            }
            // What needs no participant works.
            event.set();
            assert_eq!(queue.len(), 1);
            drop((receiver, sender));
            // Its own children are no participants either, until it opens an object.
            fork(|| assert!(matches!(list.len(), Err(Error::Exhausted { .. })))).ends_well();
            give_descriptors();
            let list = List::open(list.name()).unwrap();
            list.append(b"of the child").unwrap();
            fork(|| assert_eq!(list.len(), Ok(2))).ends_well();
            drop(list);
        })
        .ends_well();
        give_descriptors();

        assert!(event.is_set());
        for name in [plain.name(), again.name(), array.name()] {
            assert_eq!(attached(name), 1);
        }
        assert!(plain.is_held() && again.is_held());
        assert_eq!((again.depth(), array.lock_depth()), (Ok(1), 1));
        drop((guards.take(), items.take()));
        assert!(!plain.is_held() && !again.is_held());
        let other = fork(|| {
            let locked = map.lock_key(b"key", NOWAIT).map(drop);
            assert_eq!(locked.unwrap_err(), Error::Timeout);
        });
        other.ends_well();
        drop((key.take(), view.take()));
        lease.take().unwrap().ack().unwrap();
        room.take().unwrap().commit().unwrap();
        assert_eq!(queue.unfinished(), Ok(2));
        rwlock.release_read().unwrap();
        assert_eq!((permits.held(), permits.available()), (Ok(1), Ok(1)));
        let (receiver, sender) = ends.take().unwrap();
        sender.send(b"still there", NOWAIT).unwrap();
        assert_eq!(receiver.recv_vec(NOWAIT).unwrap(), b"still there");
        assert_eq!(list.len(), Ok(2));
        map.verify().unwrap();
    })
    .ends_well();
}

#[test]
fn a_child_of_an_object_whose_slots_are_all_taken_leaves_no_lock_behind() {
    let _alone = alone();
    fork(|| {
        let lock = Lock::anonymous().unwrap();
        let (near, far) = Pipe::simplex().unwrap();
        let mut more = Vec::new();
        while let Ok(one) = Lock::open(lock.name()) {
            more.push(one);
        }
        let mut ends = Vec::new();
        while let Ok(one) = Pipe::open(near.name(), End::Second) {
            ends.push(one);
        }
        let mut child = fork(|| {
            for lock in [&lock, &more[0]] {
                let refused = lock.acquire(NOWAIT).unwrap_err();
                assert!(matches!(refused, Error::Exhausted { .. }), "{refused:?}");
            }
            // The other end of the pipe has free slots.
            assert_eq!(near.recv_vec(NOWAIT), Err(Error::Timeout));
            assert!(matches!(
                far.send(b"x", NOWAIT),
                Err(Error::Exhausted { .. })
            ));
            die();
        });
        child.wait();
        assert_eq!(more[0].acquire(NOWAIT), Ok(Acquisition::Clean));
        more[0].release().unwrap();
        more.truncate(500);
        fork(|| assert_eq!(lock.acquire(NOWAIT), Ok(Acquisition::Clean))).ends_well();
        assert_eq!(more[0].acquire(FOREVER), Ok(Acquisition::OwnerDied));
    })
    .ends_well();
}

#[test]
fn a_handle_is_freed_as_usual_after_a_fork_that_had_no_descriptor() {
    let _alone = alone();
    let name = Name::new("no-slot-freed");
    let (up, go) = (Bell::new(), Bell::new());
    let process = fork(|| {
        let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
        use_up_descriptors();
        fork(|| assert_eq!(queue.len(), 0)).ends_well();
        // And after one that failed. For root, the limit does not apply.
        // SAFETY: a limit and the user of this process, which is a child of the test.
        unsafe {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &none), 0);
            let user = libc::getuid();
            assert!(user != 0 || libc::setresuid(65_533, 65_533, 0) == 0);
            assert_eq!(libc::fork(), -1);
            assert!(user != 0 || libc::setresuid(0, 0, 0) == 0);
        }
        give_descriptors();
        drop(queue);
        up.ring();
        go.hear();
    });
    up.hear();
    assert!(!name.has_file());
    go.ring();
    process.ends_well();
}
