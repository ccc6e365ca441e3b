//! Objects are observed without being opened: the observation is correct and changes nothing.

use std::time::Duration;

use shoal::{
    Array, Barrier, Condition, Event, Kind, List, Lock, Map, ObjectContents, Options, Pipe, Queue,
    RwLock, Semaphore, Timeout, observe,
};

use crate::common::{Bell, FOREVER, NOWAIT, alone, beside_others, fork};

fn contents(name: &str) -> ObjectContents {
    observe(name).unwrap().contents.unwrap()
}

#[test]
fn queues_and_pipes_report_their_contents_and_totals() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    for _ in 0..5 {
        queue.put(b"four", FOREVER).unwrap();
    }
    queue.get_vec(FOREVER).unwrap();
    let lease = queue.lease(FOREVER).unwrap();
    let seen = contents(queue.name());
    assert_eq!((seen.len, seen.bytes), (Some(3), Some(12)));
    assert_eq!((seen.leased, seen.waiting, seen.closed), (1, 0, false));
    assert_eq!(seen.totals, Some(queue.totals()));
    assert_eq!(seen.capacity, Some(queue.capacity()));
    lease.nack(Duration::ZERO).unwrap();
    let seen = contents(queue.name());
    assert_eq!((seen.len, seen.leased, seen.waiting), (Some(4), 0, 1));
    queue.close().unwrap();
    assert!(contents(queue.name()).closed);

    let (here, there) = Pipe::pair().unwrap();
    here.send(b"question", FOREVER).unwrap();
    there.send(b"answer", FOREVER).unwrap();
    let seen = contents(here.name());
    assert_eq!((seen.len, seen.bytes), (Some(2), Some(14)));
    assert_eq!(seen.totals.unwrap().put, 2);
}

#[test]
fn maps_lists_and_arrays_report_their_sizes() {
    let _beside = beside_others();
    let (map, list) = (Map::anonymous().unwrap(), List::anonymous().unwrap());
    for number in 0..100u64 {
        map.set(&number.to_ne_bytes(), b"value").unwrap();
        list.append(b"element").unwrap();
    }
    list.remove(0..10).unwrap();
    let (seen, listed) = (contents(map.name()), contents(list.name()));
    assert_eq!((seen.len, seen.bytes), (Some(100), Some(map.used())));
    assert_eq!((listed.len, listed.bytes), (Some(90), Some(list.used())));
    let array = Array::with_options(None, 8, 12, "d", &Options::create()).unwrap();
    let seen = contents(array.name());
    assert_eq!((seen.len, seen.bytes), (Some(12), Some(96)));
}

#[test]
fn locks_and_other_primitives_report_their_holders() {
    let _beside = beside_others();
    let me = Some(std::process::id());
    let held = |name: &str| -> Vec<(Option<u32>, &str, u64)> {
        let holders = contents(name).holders.into_iter();
        holders.map(|it| (it.pid, it.what, it.count)).collect()
    };
    let lock = Lock::anonymous().unwrap();
    assert_eq!(held(lock.name()), []);
    let guard = lock.lock(FOREVER).unwrap();
    assert_eq!(held(lock.name()), [(me, "lock", 1)]);
    drop(guard);
    assert_eq!(held(lock.name()), []);

    let permits = Semaphore::with_options(None, 5, &Options::create()).unwrap();
    permits.acquire(FOREVER).unwrap();
    permits.acquire(FOREVER).unwrap();
    assert_eq!(contents(permits.name()).len, Some(3));
    assert_eq!(held(permits.name()), [(me, "permits", 2)]);

    let both = RwLock::anonymous().unwrap();
    let _ = both.read(FOREVER).unwrap();
    assert_eq!(held(both.name()), [(me, "read", 1)]);
    both.release_read().unwrap();
    let _ = both.write(FOREVER).unwrap();
    assert_eq!(held(both.name()), [(me, "write", 1)]);
    both.release_write().unwrap();

    let event = Event::anonymous().unwrap();
    assert_eq!(contents(event.name()).set, Some(false));
    event.set();
    assert_eq!(contents(event.name()).set, Some(true));

    let barrier = Barrier::with_options(None, 2, &Options::create()).unwrap();
    let arrived = barrier.arrive(FOREVER).unwrap();
    assert_eq!(held(barrier.name()), [(me, "wait", 1)]);
    let _ = barrier.give_up(arrived.place); // it breaks the barrier and returns an error
    let seen = contents(barrier.name());
    assert_eq!((seen.len, seen.poisoned), (Some(2), true));

    let condition = Condition::anonymous().unwrap();
    condition.enlist().unwrap();
    assert_eq!(held(condition.name()), [(me, "wait", 1)]);
}

#[test]
fn a_killed_holder_is_shown_without_a_process() {
    let _alone = alone();
    let lock = Lock::anonymous().unwrap();
    let (name, held) = (lock.name().to_owned(), Bell::new());
    let child = fork(|| {
        let _ = lock.acquire(FOREVER).unwrap();
        held.ring();
        std::thread::sleep(Duration::from_secs(60));
    });
    held.hear();
    let pid = child.pid();
    let holders = contents(&name).holders;
    assert_eq!((holders.len(), holders[0].pid), (1, Some(pid)));
    child.kill();
    let holders = contents(&name).holders;
    assert_eq!((holders.len(), holders[0].pid), (1, None));
    // Observing has not taken the lock over.
    let taken = lock.acquire(FOREVER).unwrap();
    assert_eq!(taken, shoal::Acquisition::OwnerDied);
    assert_eq!(contents(&name).holders[0].pid, Some(std::process::id()));
}

#[test]
fn observing_attaches_nothing_and_waits_for_no_lock() {
    let _beside = beside_others();
    let list = List::anonymous().unwrap();
    list.append(b"one").unwrap();
    let name = list.name().to_owned();
    // The list is locked meanwhile.
    let seen = list.with(|_| observe(&name)).unwrap();
    assert_eq!(seen.contents.as_ref().unwrap().len, Some(1));
    assert_eq!(seen.contents.unwrap().holders[0].what, "lock");
    assert_eq!(seen.info.participants.len(), 1);
    assert_eq!(seen.info.kind, Some(Kind::List));
    assert!(observe("no-such-object").is_err());
}

#[test]
fn counts_that_change_meanwhile_only_grow_and_agree() {
    let _alone = alone();
    let queue = Queue::anonymous().unwrap();
    let name = queue.name().to_owned();
    let child = fork(|| {
        loop {
            queue.put(b"12345678", FOREVER).unwrap();
            queue.get_vec(NOWAIT).unwrap();
        }
    });
    let mut last = (0, 0);
    for _ in 0..5000 {
        let seen = contents(&name);
        let totals = seen.totals.unwrap();
        assert!(
            totals.put >= last.0 && totals.taken >= last.1,
            "{totals:?} after {last:?}"
        );
        last = (totals.put, totals.taken);
    }
    child.kill();
    let seen = contents(&name);
    assert_eq!(seen.len, Some(queue.len() as u64));
    assert_eq!(seen.totals, Some(queue.totals()));
}

#[test]
fn sleepers_of_both_ends_are_reported() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    let name = queue.name().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| queue.get_vec(Timeout::Infinite).unwrap());
        while contents(&name).asleep != ["consumers"] {
            std::thread::sleep(Duration::from_millis(1));
        }
        queue.put(b"x", FOREVER).unwrap();
    });
}

#[test]
fn an_observer_with_open_files_sees_objects_appear_change_and_disappear() {
    let _beside = beside_others();
    let mut observer = shoal::Observer::new(8);
    let look = |observer: &mut shoal::Observer, name: &str| {
        let all = observer.look().unwrap();
        all.into_iter().find(|it| it.info.name == name)
    };
    let queue = Queue::anonymous().unwrap();
    let name = queue.name().to_owned();
    for put in 0..10 {
        let seen = look(&mut observer, &name).unwrap();
        assert_eq!(seen.contents.unwrap().len, Some(put));
        queue.put(b"x", FOREVER).unwrap();
    }
    // A participant that attached after the first observation is in the fourth.
    let other = Queue::open(&name).unwrap();
    while look(&mut observer, &name).unwrap().info.participants.len() != 2 {}
    drop(other);
    while look(&mut observer, &name).unwrap().info.participants.len() != 1 {}
    drop(queue);
    assert_eq!(look(&mut observer, &name), None);
    // Another object of the same name.
    let lock = Lock::create(&name).unwrap();
    assert_eq!(
        look(&mut observer, &name).unwrap().info.kind,
        Some(Kind::Lock)
    );
    let guard = lock.lock(FOREVER).unwrap();
    let seen = look(&mut observer, &name).unwrap().contents.unwrap();
    assert_eq!(seen.holders[0].pid, Some(std::process::id()));
    drop(guard);
}
