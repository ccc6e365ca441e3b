//! Leased messages: acked, given back, expired, moved to the dead letters, and those of killed processes.

use std::time::{Duration, Instant};

use crate::common::ready::is_readable;
use crate::common::{Bell, Child, FOREVER, NOWAIT, Name, alone, fixed, fork, holder, millis};
use shoal::{Error, Options, Queue, Status, Timeout, Waitable, wait_any};

fn with_attempts(times: u8) -> Queue {
    Queue::with_options(None, &Options::create().max_attempts(times)).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The numbers of messages in the queue, leased, and unfinished.
fn counts(queue: &Queue) -> (usize, usize, u64) {
    (queue.len(), queue.leased(), queue.unfinished().unwrap())
}

#[test]
fn acked_messages_are_removed_and_others_are_delivered_again() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"one", NOWAIT).unwrap();
    queue.put(b"two", NOWAIT).unwrap();
    assert_eq!(counts(&queue), (2, 0, 2));
    let one = queue.lease(NOWAIT).unwrap();
    assert_eq!((&one[..], one.attempts()), (&b"one"[..], 1));
    assert_eq!(counts(&queue), (1, 1, 2));
    let two = queue.lease(NOWAIT).unwrap();
    assert_eq!(queue.lease(NOWAIT).unwrap_err(), Error::Timeout);
    assert_eq!(queue.lease(millis(5)).unwrap_err(), Error::Timeout);
    two.ack().unwrap();
    assert_eq!(counts(&queue), (0, 1, 1));
    one.nack(Duration::ZERO).unwrap();
    assert_eq!(counts(&queue), (1, 0, 1));
    for attempts in 2..300 {
        let again = queue.lease(NOWAIT).unwrap();
        assert_eq!(&again[..], b"one");
        assert_eq!(again.attempts(), attempts.min(255));
    }
    assert_eq!(queue.get_vec(NOWAIT), Ok(b"one".to_vec()));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn returned_messages_are_delivered_first_and_in_order() {
    let _alone = alone();
    let queue = fixed(4096);
    for number in 0..6u8 {
        queue.put(&[number], NOWAIT).unwrap();
    }
    let mut leases: Vec<_> = (0..5).map(|_| queue.lease(NOWAIT).unwrap()).collect();
    for index in [2, 0, 2, 0, 0] {
        leases.remove(index).nack(Duration::ZERO).unwrap();
    }
    let (mut bytes, mut lens) = (Vec::new(), Vec::new());
    assert_eq!(queue.get_many(&mut bytes, &mut lens, 10, NOWAIT), Ok(6));
    assert_eq!(bytes, [0, 1, 2, 3, 4, 5]);
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_delayed_message_is_delivered_after_its_delay() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"much later", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    // Not during this test.
    lease.nack(seconds(1000)).unwrap();
    queue.put(b"sooner", NOWAIT).unwrap();
    assert_eq!(counts(&queue), (2, 0, 2));
    assert_eq!(queue.get_vec(NOWAIT), Ok(b"sooner".to_vec()));
    assert_eq!(queue.lease(NOWAIT).unwrap_err(), Error::Timeout);
    queue.put(b"later", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    let (began, delay) = (Instant::now(), Duration::from_millis(30));
    lease.nack(delay).unwrap();
    let later = queue.lease(FOREVER).unwrap();
    assert_eq!((&later[..], later.attempts()), (&b"later"[..], 2));
    assert!(began.elapsed() >= delay, "it came early");
    later.nack(seconds(1 << 60)).unwrap();
    assert_eq!(queue.lease(millis(20)).unwrap_err(), Error::Timeout);
    assert_eq!(counts(&queue), (2, 0, 2));
}

#[test]
fn a_closed_queue_ends_though_it_has_messages_that_are_never_delivered_again() {
    let _alone = alone();
    let queue = fixed(4096);
    let same = Queue::open(queue.name()).unwrap();
    let give_back = |delay| queue.lease(NOWAIT).unwrap().nack(delay).unwrap();
    for message in [b"bad", b"two", b"job"] {
        queue.put(message, NOWAIT).unwrap();
    }
    give_back(Duration::MAX);
    give_back(Duration::MAX);
    let last = queue.lease(NOWAIT).unwrap();
    queue.close().unwrap();
    // A process works on a message, which then comes after its delay.
    assert_eq!(same.get_vec(NOWAIT), Err(Error::Timeout));
    last.nack(Duration::from_millis(5)).unwrap();
    assert_eq!(same.get_vec(FOREVER), Ok(b"job".to_vec()));
    assert!(is_readable(&same));
    assert_eq!(same.get_vec(NOWAIT), Err(Error::Closed));
    assert_eq!(queue.lease(FOREVER).unwrap_err(), Error::Closed);
    assert_eq!(wait_any(&[Waitable::Queue(&same)], NOWAIT), Ok(0));
    // They are not finished.
    assert_eq!(counts(&queue), (2, 0, 2));
    assert_eq!(queue.join(NOWAIT), Err(Error::Timeout));
}

#[test]
fn a_process_that_waits_at_a_closed_queue_sees_the_end_when_its_last_message_never_comes_again() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"bad job", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    queue.close().unwrap();
    let waiter = fork(|| assert_eq!(queue.get_vec(FOREVER), Err(Error::Closed)));
    lease.nack(Duration::MAX).unwrap();
    waiter.ends_well();
}

#[test]
fn a_worker_that_sleeps_with_a_lease_delays_no_other() {
    let _alone = alone();
    let options = Options::create().capacity(4096).max_capacity(1 << 16);
    let queue = Queue::with_options(None, &options).unwrap();
    queue.put(b"for a long time", NOWAIT).unwrap();
    let (leased, go) = (Bell::new(), Bell::new());
    let sleeper = fork(|| {
        let lease = queue.lease(FOREVER).unwrap();
        leased.ring();
        go.hear();
        assert_eq!(&lease[..], b"for a long time");
        lease.ack().unwrap();
    });
    leased.hear();
    // Laps of the ring, growth and shrinking.
    for round in 0..200 {
        for size in [10, 1000, 30_000] {
            queue.put(&vec![round; size], FOREVER).unwrap();
        }
        for size in [10, 1000, 30_000] {
            let lease = queue.lease(FOREVER).unwrap();
            assert_eq!(&lease[..], vec![round; size]);
            lease.ack().unwrap();
        }
    }
    assert_eq!(queue.get_vec(millis(5)), Err(Error::Timeout));
    assert_eq!(counts(&queue), (0, 1, 1));
    go.ring();
    sleeper.ends_well();
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_lease_returns_to_the_queue_when_its_holder_is_killed() {
    let _alone = alone();
    let queue = fixed(4096);
    for round in 1..=20 {
        queue.put(&[round; 100], NOWAIT).unwrap();
        let holder = holder(&queue);
        // To a process that waits for it, and to one that asks afterwards.
        let again = if round % 2 == 0 {
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| queue.lease(FOREVER).unwrap());
                holder.kill();
                waits.join().unwrap()
            })
        } else {
            holder.kill();
            queue.lease(FOREVER).unwrap()
        };
        assert_eq!((&again[..], again.attempts()), (&[round; 100][..], 2));
        again.ack().unwrap();
        assert_eq!(counts(&queue), (0, 0, 0));
    }
}

#[test]
fn a_worker_that_is_too_slow_gets_an_error_and_can_still_read() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(&[7; 2000], NOWAIT).unwrap();
    let slow = queue.lease_for(Duration::from_millis(10), NOWAIT).unwrap();
    let next = queue.lease(FOREVER).unwrap();
    assert_eq!((&next[..], next.attempts()), (&[7; 2000][..], 2));
    assert_eq!(counts(&queue), (0, 1, 1));
    assert_eq!(slow.extend(seconds(1)), Err(Error::Expired));
    // Other messages are written to other memory.
    for _ in 0..10 {
        queue.reserve(2000, NOWAIT).unwrap().fill(1);
    }
    assert_eq!(&slow[..], [7; 2000]);
    assert_eq!(slow.ack(), Err(Error::Expired));
    assert_eq!(counts(&queue), (0, 1, 1));
    next.ack().unwrap();
    assert_eq!(counts(&queue), (0, 0, 0));

    queue.put(b"", NOWAIT).unwrap();
    let slow = queue.lease_for(Duration::from_millis(1), NOWAIT).unwrap();
    drop(queue.lease(FOREVER).unwrap());
    drop(slow);
    assert_eq!(counts(&queue), (1, 0, 1));
}

#[test]
fn a_worker_that_extends_its_lease_keeps_it() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"long", NOWAIT).unwrap();
    let lease = queue.lease_for(Duration::from_millis(100), NOWAIT).unwrap();
    lease.extend(seconds(1000)).unwrap();
    assert_eq!(queue.lease(millis(200)).unwrap_err(), Error::Timeout);
    // A shorter extension makes it expire earlier.
    lease.extend(Duration::from_millis(1)).unwrap();
    assert_eq!(queue.lease(FOREVER).unwrap().attempts(), 2);
    assert_eq!(lease.ack(), Err(Error::Expired));
}

#[test]
fn a_message_that_was_delivered_too_often_becomes_a_dead_letter() {
    let _alone = alone();
    let queue = with_attempts(3);
    let same = Queue::open(queue.name()).unwrap();
    assert_eq!(same.max_attempts(), Some(3));
    assert_eq!(fixed(4096).max_attempts(), None);
    assert!(fixed(4096).dead_letters().is_none());
    let dead = same.dead_letters().unwrap();
    assert_eq!(dead.name(), format!("{}.dead", queue.name()));
    queue.put(b"poison", NOWAIT).unwrap();
    queue.put(b"good", NOWAIT).unwrap();
    for attempts in 1..=3 {
        let lease = queue.lease(NOWAIT).unwrap();
        assert_eq!((&lease[..], lease.attempts()), (&b"poison"[..], attempts));
        assert!(dead.is_empty());
    }
    let good = queue.lease(NOWAIT).unwrap();
    assert_eq!((&good[..], good.attempts()), (&b"good"[..], 1));
    assert_eq!(counts(&queue), (0, 1, 1));
    assert_eq!(dead.get_vec(NOWAIT), Ok(b"poison".to_vec()));
    good.ack().unwrap();
    queue.join(NOWAIT).unwrap();
}

#[test]
fn a_process_that_waits_for_dead_letters_gets_a_message_after_its_last_return() {
    let _alone = alone();
    let queue = with_attempts(1);
    queue.put(b"poison", NOWAIT).unwrap();
    let dead = Queue::open(queue.dead_letters().unwrap().name()).unwrap();
    let waiter = std::thread::spawn(move || dead.get_vec(FOREVER));
    // No call on the queue follows, and the delay has no meaning for what is not delivered again.
    queue.lease(NOWAIT).unwrap().nack(seconds(3600)).unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(b"poison".to_vec()));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_name_that_leaves_no_room_for_dead_letters_is_refused() {
    let _alone = alone();
    let name = format!("{:x<196}", Name::new("long").to_string());
    let once = Options::create().max_attempts(1);
    let err = Queue::with_options(Some(&name), &once).unwrap_err();
    assert!(
        matches!(err, Error::Invalid { ref what, .. } if what == "name"),
        "{err}"
    );
    // The caller's name and its limit.
    let sentence = err.to_string();
    for part in ["196 bytes", "195", "max_attempts", ".dead"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    drop(Queue::create(&name).unwrap());
    drop(Queue::with_options(Some(&name[..195]), &once).unwrap());
}

#[test]
fn a_message_that_kills_its_workers_becomes_a_dead_letter() {
    let _alone = alone();
    let queue = with_attempts(2);
    queue.put(b"poison", NOWAIT).unwrap();
    for _ in 0..2 {
        let worker = holder(&queue);
        worker.kill();
    }
    let dead = queue.dead_letters().unwrap();
    // A wait may lose its core for so long that it ends without a check.
    while dead.is_empty() {
        assert_eq!(queue.lease(millis(100)).unwrap_err(), Error::Timeout);
    }
    assert_eq!(dead.get_vec(NOWAIT), Ok(b"poison".to_vec()));
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn a_message_that_the_dead_letter_queue_cannot_take_is_kept() {
    let _alone = alone();
    let queue = with_attempts(1);
    let dead = queue.dead_letters().unwrap();
    dead.close().unwrap();
    queue.put(b"kept", NOWAIT).unwrap();
    drop(queue.lease(NOWAIT).unwrap());
    assert_eq!(queue.lease(millis(30)).unwrap_err(), Error::Timeout);
    assert_eq!(queue.unfinished(), Ok(1));
}

#[test]
fn a_forked_child_does_not_have_its_parents_lease() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"the parent's", NOWAIT).unwrap();
    let copied = std::cell::Cell::new(Some(queue.lease(NOWAIT).unwrap()));
    fork(|| {
        let lease = copied.take().unwrap();
        assert_eq!(&lease[..], b"the parent's");
        let err = lease.extend(seconds(1)).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        let err = lease.ack().unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        // It may lease its own messages from the same handle.
        queue.put(b"the child's", NOWAIT).unwrap();
        let own = queue.lease(NOWAIT).unwrap();
        assert_eq!(&own[..], b"the child's");
        own.ack().unwrap();
    })
    .ends_well();
    assert_eq!(counts(&queue), (0, 1, 1));
    copied.take().unwrap().ack().unwrap();
    assert_eq!(counts(&queue), (0, 0, 0));
}

#[test]
fn join_waits_until_all_is_done() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    queue.join(NOWAIT).unwrap();
    for number in 0..50u8 {
        queue.put(&[number], NOWAIT).unwrap();
    }
    assert_eq!(queue.join(NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.join(millis(5)), Err(Error::Timeout));
    let workers = [(); 2].map(|()| {
        fork(|| {
            while let Ok(job) = queue.lease(FOREVER) {
                match (job.attempts(), job[0] % 7) {
                    (1, 0) => drop(job),
                    (1, 1) => job.nack(Duration::from_millis(3)).unwrap(),
                    _ => job.ack().unwrap(),
                }
            }
        })
    });
    std::thread::scope(|scope| {
        scope.spawn(|| queue.join(FOREVER).unwrap());
        queue.join(FOREVER).unwrap();
    });
    assert_eq!(counts(&queue), (0, 0, 0));
    queue.close().unwrap();
    workers.into_iter().for_each(Child::ends_well);
}

#[test]
fn join_ends_when_the_last_worker_is_dead_and_its_work_done_by_another() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"work", NOWAIT).unwrap();
    let worker = holder(&queue);
    let joins = fork(|| queue.join(FOREVER).unwrap());
    worker.kill();
    queue.lease(FOREVER).unwrap().ack().unwrap();
    joins.ends_well();
}

#[test]
fn a_closed_queue_is_drained_once_no_message_can_be_returned() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"1", NOWAIT).unwrap();
    queue.put(b"2", NOWAIT).unwrap();
    let worker = holder(&queue);
    queue.close().unwrap();
    let mine = queue.lease(NOWAIT).unwrap();
    // The other may fail.
    assert_eq!(queue.lease(NOWAIT).unwrap_err(), Error::Timeout);
    worker.kill();
    let other = queue.lease(FOREVER).unwrap();
    assert_eq!((&other[..], other.attempts()), (&b"1"[..], 2));
    // It does not wait for the lease of this process.
    assert_eq!(queue.lease(FOREVER).unwrap_err(), Error::Closed);
    mine.nack(Duration::ZERO).unwrap();
    assert_eq!(queue.lease(FOREVER).unwrap().ack(), Ok(()));
    other.ack().unwrap();
    assert_eq!(queue.get_vec(FOREVER), Err(Error::Closed));
}

#[test]
fn all_waiters_for_the_last_lease_of_a_closed_queue_notice_its_end() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"last", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    let others =
        [(); 3].map(|()| fork(|| assert_eq!(queue.lease(FOREVER).unwrap_err(), Error::Closed)));
    queue.close().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    lease.ack().unwrap();
    others.into_iter().for_each(Child::ends_well);
}

#[test]
fn more_leases_than_there_is_room_for_are_an_error_and_lose_nothing() {
    let _alone = alone();
    let queue = fixed(4096);
    let mut leases = Vec::new();
    let err = loop {
        if queue.is_empty() {
            queue.put(&[1; 1000], NOWAIT).unwrap();
        }
        match queue.lease(NOWAIT) {
            Ok(lease) => leases.push(lease),
            Err(err) => break err,
        }
    };
    assert!(matches!(err, Error::Exhausted { .. }), "{err}");
    assert_eq!(counts(&queue), (1, leases.len(), leases.len() as u64 + 1));
    // A plain get needs no room, and a lease has some as soon as another is done.
    assert_eq!(queue.get_vec(NOWAIT), Ok(vec![1; 1000]));
    leases.pop().unwrap().ack().unwrap();
    queue.put(&[2; 1000], NOWAIT).unwrap();
    assert_eq!(&queue.lease(NOWAIT).unwrap()[..], [2; 1000]);
}

#[test]
fn a_message_written_in_place_is_read_in_place() {
    let _alone = alone();
    let queue = fixed(1 << 21);
    let mut room = queue.reserve(1 << 20, NOWAIT).unwrap();
    room.fill(5);
    let written = room.as_ptr();
    room.commit().unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    assert_eq!(lease.as_ptr(), written);
    assert!(lease.iter().all(|&byte| byte == 5));
    lease.ack().unwrap();
}

#[test]
fn a_waiting_lease_takes_a_message_that_is_put() {
    let _alone = alone();
    let queue = fixed(4096);
    let waiting = fork(|| {
        for number in 0..100u8 {
            let lease = queue.lease(FOREVER).unwrap();
            assert_eq!(lease[0], number);
            lease.ack().unwrap();
        }
    });
    for number in 0..100u8 {
        queue.put(&[number], Timeout::Infinite).unwrap();
        if number % 10 == 0 {
            queue.join(FOREVER).unwrap();
        }
    }
    waiting.ends_well();
}

#[test]
fn a_closed_queue_stays_open_for_a_forked_child_while_its_parent_has_a_lease() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(b"back", NOWAIT).unwrap();
    let lease = queue.lease(NOWAIT).unwrap();
    queue.close().unwrap();
    let mut child = fork(|| assert_eq!(queue.get_vec(FOREVER).unwrap(), b"back"));
    child.wait_asleep();
    lease.nack(Duration::ZERO).unwrap();
    child.ends_well();
}

#[test]
fn a_join_ends_when_the_last_worker_was_killed_at_the_last_attempt() {
    let _alone = alone();
    let queue = with_attempts(1);
    queue.put(b"work", NOWAIT).unwrap();
    holder(&queue).kill();
    // No call takes from this queue, so nobody else moves the message.
    queue.join(FOREVER).unwrap();
    assert_eq!(
        queue.dead_letters().unwrap().get_vec(NOWAIT).unwrap(),
        b"work"
    );
}

#[test]
fn dead_letters_that_are_refused_for_good_are_reported_and_nothing_else_waits_for_them() {
    let _alone = alone();
    let closed = with_attempts(1);
    closed.dead_letters().unwrap().close().unwrap();
    let name = Name::new("small");
    let dead = Options::create().capacity(4096).max_capacity(4096);
    let dead = Queue::with_options(Some(&format!("{}.dead", &*name)), &dead).unwrap();
    let small = Queue::with_options(Some(&name), &Options::create().max_attempts(1)).unwrap();
    for queue in [&closed, &small] {
        queue.put(&[1; 8000], NOWAIT).unwrap();
        queue.lease(NOWAIT).unwrap().nack(Duration::ZERO).unwrap();
        // Reported by the call that tries it again.
        let text = queue.lease(FOREVER).unwrap_err().to_string();
        let name = queue.dead_letters().unwrap().name();
        assert!(
            text.contains("dead letters") && text.contains(name),
            "{text}"
        );
        // Other messages are delivered in between.
        queue.put(b"other", NOWAIT).unwrap();
        let other = std::iter::repeat_with(|| queue.lease(FOREVER)).find_map(Result::ok);
        other.unwrap().ack().unwrap();
        let refused = |err: Error| assert_eq!(err.status(), Status::ErrInvalid);
        refused(queue.join(FOREVER).unwrap_err());
        queue.close().unwrap();
        refused(queue.get_vec(FOREVER).unwrap_err());
        assert_eq!(queue.unfinished(), Ok(1));
    }
    drop(dead);
}
