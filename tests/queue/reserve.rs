//! Messages that are written in place: order, room, growth, forks, and dead writers.

use crate::common::{Bell, Child, FOREVER, NOWAIT, Random, alone, fixed, fork, millis};
use shoal::{Error, Options, Queue};

fn drain(queue: &Queue) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| queue.get_vec(NOWAIT).ok()).collect()
}

#[test]
fn messages_have_the_order_of_their_commits() {
    let _alone = alone();
    let queue = fixed(4096);
    let mut first = queue.reserve(3, NOWAIT).unwrap();
    queue.put(b"first", NOWAIT).unwrap();
    let mut second = queue.reserve(100, NOWAIT).unwrap();
    second[..6].copy_from_slice(b"second");
    second.commit_first(6).unwrap();
    // No process waits for a message that is still being written.
    assert_eq!((queue.len(), queue.bytes()), (2, 11));
    assert_eq!(drain(&queue), [&b"first"[..], &b"second"[..]]);
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    first.copy_from_slice(b"3rd");
    first.commit().unwrap();
    assert_eq!((queue.len(), queue.bytes()), (1, 3));
    assert_eq!(drain(&queue), [b"3rd"]);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

#[test]
fn a_commit_never_waits() {
    let _alone = alone();
    let queue = fixed(4096);
    let room: Vec<_> = (0..20)
        .map(|_| queue.reserve(700, NOWAIT).unwrap())
        .collect();
    // Full except for the reserve for copies.
    while queue.put(&[0; 16], NOWAIT).is_ok() {}
    let before = queue.len();
    assert!(before > 100);
    for mut room in room {
        room.fill(1);
        room.commit().unwrap();
    }
    assert_eq!(queue.len(), before + 20);
    let all = drain(&queue);
    assert!(all[before..].iter().all(|it| *it == [1; 700]));
}

#[test]
fn reservations_always_leave_room_for_the_copies_of_leases() {
    let _alone = alone();
    let queue = fixed(1 << 20);
    let message = vec![7; 60 << 10];
    let mut reserved = Vec::new();
    let full = loop {
        match queue.reserve(message.len(), NOWAIT) {
            Ok(room) => reserved.push(room),
            Err(err) => break err,
        }
    };
    assert_eq!((full, reserved.len()), (Error::Timeout, 17));
    for _ in 0..3 {
        for _ in 0..2 {
            queue.put(&message, NOWAIT).unwrap();
        }
        let jobs: Vec<_> = (0..2).map(|_| queue.lease(NOWAIT).unwrap()).collect();
        for job in jobs {
            assert_eq!(job[..], message);
            job.ack().unwrap();
        }
        // The memory of the copies is free, but not for these.
        assert_eq!(
            queue.reserve(message.len(), NOWAIT).err(),
            Some(Error::Timeout)
        );
    }
}

#[test]
fn a_dropped_reservation_leaves_nothing() {
    let _alone = alone();
    let queue = fixed(4096);
    // More often than all of them together would fit.
    for round in 0..50 {
        let room = queue.reserve(1000, NOWAIT).unwrap();
        queue.put(&[round], NOWAIT).unwrap();
        assert_eq!(queue.len(), 1);
        if round % 2 == 0 {
            drop(room);
        } else {
            room.discard();
        }
        assert_eq!(queue.get_vec(NOWAIT), Ok(vec![round]));
        assert!(queue.is_empty());
    }
}

#[test]
fn discarded_memory_is_reused_although_no_message_is_taken() {
    let _alone = alone();
    let queue = fixed(4096);
    for _ in 0..10 {
        queue.reserve(4080, NOWAIT).unwrap().discard();
    }
    queue.put(&[1; 4080], FOREVER).unwrap();
    assert_eq!(queue.get_vec(NOWAIT), Ok(vec![1; 4080]));
}

#[test]
fn a_commit_beyond_the_reservation_is_an_error_and_discards_it() {
    let _alone = alone();
    let queue = fixed(4096);
    let room = queue.reserve(10, NOWAIT).unwrap();
    let err = room.commit_first(11).unwrap_err();
    assert!(
        matches!(
            err,
            Error::TooLarge {
                size: 11,
                limit: 10,
                ..
            }
        ),
        "{err}"
    );
    let err = queue.reserve(4081, FOREVER).unwrap_err();
    assert!(
        matches!(
            err,
            Error::TooLarge {
                size: 4081,
                limit: 4080,
                ..
            }
        ),
        "{err}"
    );
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    let room = queue.reserve(0, NOWAIT).unwrap();
    room.commit().unwrap();
    assert_eq!(queue.get_vec(NOWAIT), Ok(vec![]));
}

#[test]
fn messages_can_be_leased_however_much_is_reserved() {
    let _alone = alone();
    let queue = fixed(1 << 20);
    queue.put(b"small", NOWAIT).unwrap();
    queue.put(&[1; 64 << 10], NOWAIT).unwrap();
    let mut reserved = 0;
    while let Ok(room) = queue.reserve(100_000, NOWAIT) {
        room.commit().unwrap();
        reserved += 1;
    }
    assert!(reserved >= 10, "{reserved} fit");
    let small = queue.lease(NOWAIT).unwrap();
    let large = queue.lease(NOWAIT).unwrap();
    assert_eq!((&small[..], large.len()), (&b"small"[..], 64 << 10));
    small.ack().unwrap();
    large.ack().unwrap();
    for _ in 0..reserved {
        queue.lease(NOWAIT).unwrap().ack().unwrap();
    }
    assert_eq!(queue.lease(NOWAIT).unwrap_err(), Error::Timeout);
}

#[test]
fn a_full_ring_makes_a_reservation_wait() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(&[0; 4080], NOWAIT).unwrap();
    assert_eq!(queue.reserve(100, NOWAIT).unwrap_err(), Error::Timeout);
    assert_eq!(queue.reserve(100, millis(5)).unwrap_err(), Error::Timeout);
    std::thread::scope(|scope| {
        scope.spawn(|| queue.reserve(100, FOREVER).unwrap().commit().unwrap());
        assert_eq!(queue.get_vec(FOREVER).unwrap().len(), 4080);
        assert_eq!(queue.get_vec(FOREVER).unwrap().len(), 100);
    });
}

#[test]
fn too_many_open_reservations_make_a_reservation_wait() {
    let _alone = alone();
    let queue = fixed(4096);
    let rooms = || std::iter::from_fn(|| queue.reserve(4000, NOWAIT).ok());
    let mut all: Vec<_> = rooms().collect();
    assert!(all.len() >= 16, "{}", all.len());
    assert_eq!(queue.reserve(4000, NOWAIT).unwrap_err(), Error::Timeout);
    assert_eq!(queue.reserve(4000, millis(5)).unwrap_err(), Error::Timeout);
    // Other processes put and take meanwhile.
    queue.put(b"1", FOREVER).unwrap();
    assert_eq!(queue.get_vec(FOREVER).unwrap(), b"1");
    let last = all.pop().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| queue.reserve(4000, FOREVER).unwrap().discard());
        last.discard();
    });
    // As many as before, at any position.
    let before = all.len() + 1;
    drop(all);
    assert_eq!(rooms().collect::<Vec<_>>().len(), before);
}

#[test]
fn a_closed_queue_still_accepts_earlier_reservations() {
    let _alone = alone();
    let queue = fixed(4096);
    let mut room = queue.reserve(4, NOWAIT).unwrap();
    queue.close().unwrap();
    assert_eq!(queue.reserve(4, NOWAIT).unwrap_err(), Error::Closed);
    // It is not drained while a process may still commit.
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    room.copy_from_slice(b"last");
    room.commit().unwrap();
    assert_eq!(queue.get_vec(NOWAIT), Ok(b"last".to_vec()));
    assert_eq!(queue.get_vec(FOREVER), Err(Error::Closed));
}

#[test]
fn the_ring_grows_and_shrinks_with_open_reservations() {
    let _alone = alone();
    let options = Options::create().capacity(4096).max_capacity(1 << 20);
    let queue = Queue::with_options(None, &options).unwrap();
    let mut room = queue.reserve(500, NOWAIT).unwrap();
    room.fill(1);
    let span = room.as_ptr();
    queue.put(&[2; 8000], NOWAIT).unwrap();
    assert!(queue.capacity() >= 8192);
    assert_eq!(drain(&queue), [vec![2; 8000]]);
    while queue.capacity() > 4096 {
        assert_eq!(queue.get_vec(millis(20)), Err(Error::Timeout));
    }
    assert_eq!(room.as_ptr(), span);
    room.commit().unwrap();
    assert_eq!(drain(&queue), [vec![1; 500]]);
}

#[test]
fn no_process_waits_for_a_writer_and_a_dead_one_leaves_nothing() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    let (reserved, go) = (Bell::new(), Bell::new());
    let writer = |text: &'static [u8], len: usize| {
        let child = fork(|| {
            let mut room = queue.reserve(len, FOREVER).unwrap();
            reserved.ring();
            go.hear();
            room[..text.len()].copy_from_slice(text);
            room.commit_first(text.len()).unwrap();
        });
        reserved.hear();
        child
    };
    let (slow, dies) = (writer(b"slow", 4), writer(b"never", 5));
    queue.put(b"fast", NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT), Ok(b"fast".to_vec()));
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| queue.get_vec(FOREVER).unwrap());
        dies.kill();
        go.ring();
        assert_eq!(taken.join().unwrap(), b"slow");
    });
    slow.ends_well();
    // Needed memory is found, in the message store and in the ring.
    writer(b"never", 60_000).kill();
    writer(b"never", 60_000).kill();
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
    queue.reserve(60_000, FOREVER).unwrap().commit().unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap().len(), 60_000);
    writer(b"never", 1).kill();
    queue.put(&vec![7; (1 << 16) - 16], FOREVER).unwrap();
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_forked_child_does_not_have_its_parents_reservation() {
    let _alone = alone();
    let queue = fixed(4096);
    let mut room = queue.reserve(6, NOWAIT).unwrap();
    room.copy_from_slice(b"parent");
    {
        let theirs = &queue;
        let copied = std::cell::Cell::new(Some(room));
        fork(|| {
            let err = copied.take().unwrap().commit().unwrap_err();
            assert!(matches!(err, Error::Invalid { .. }), "{err}");
            theirs.put(b"child", NOWAIT).unwrap();
        })
        .ends_well();
        copied.take().unwrap().commit().unwrap();
    }
    assert_eq!(drain(&queue), [&b"child"[..], &b"parent"[..]]);
}

/// Writers reserve, fill and commit, and are killed at any moment; what arrives is whole, and
/// in each writer's order.
#[test]
fn writers_that_are_killed_leave_whole_messages_and_no_gaps() {
    let _alone = alone();
    let queue = fixed(1 << 14);
    let mut random = Random(0x5eed_0001);
    let writer = |who: u8, seed: u64| {
        let queue = &queue;
        fork(move || {
            let mut random = Random(seed);
            for index in 0u32.. {
                let len = 8 + random.below(600) as usize;
                let Ok(mut room) = queue.reserve(len + random.below(50) as usize, FOREVER) else {
                    return;
                };
                room[..len].fill(who);
                room[..4].copy_from_slice(&index.to_ne_bytes());
                match random.below(8) {
                    0 => room.discard(),
                    _ => room.commit_first(len).unwrap(),
                }
            }
        })
    };
    let mut writers: Vec<(u8, Child)> = (0..4)
        .map(|who| (who, writer(who, random.next())))
        .collect();
    let (mut next, mut kills, mut taken) = (vec![0u32; 256], 0u8, 0);
    while kills < 60 {
        for _ in 0..random.below(300) {
            let message = queue.get_vec(FOREVER).unwrap();
            let who = message[4];
            assert!(message[4..].iter().all(|&byte| byte == who));
            let index = u32::from_ne_bytes(message[..4].try_into().unwrap());
            assert!(index >= next[who as usize], "twice, or out of order");
            next[who as usize] = index + 1;
            taken += 1;
        }
        let victim = random.below(4) as usize;
        let who = 4 + kills;
        kills += 1;
        let (_, dies) = std::mem::replace(&mut writers[victim], (who, writer(who, random.next())));
        dies.kill();
    }
    queue.close().unwrap();
    while let Ok(message) = queue.get_vec(FOREVER) {
        assert!(message[4..].iter().all(|&byte| byte == message[4]));
        taken += 1;
    }
    assert!(taken > 1000, "{taken}");
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    writers.into_iter().for_each(|(_, child)| child.ends_well());
}
