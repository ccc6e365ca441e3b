//! Queues that are bounded by the number of their messages.

use crate::common::{Bell, Child, FOREVER, NOWAIT, Random, alone, fork, millis};
use shoal::{Error, Options, Queue};

fn bounded(messages: u64) -> Queue {
    Queue::with_options(None, &Options::create().max_items(messages)).unwrap()
}

#[test]
fn the_bound_on_messages_is_kept() {
    let _alone = alone();
    let queue = bounded(3);
    assert_eq!(queue.max_items(), Some(3));
    assert_eq!(Queue::open(queue.name()).unwrap().max_items(), Some(3));
    assert_eq!(Queue::anonymous().unwrap().max_items(), None);
    for round in 0..1000 {
        assert_eq!(queue.put_many(&[[round as u8; 10]; 5], NOWAIT), Ok(3));
        assert_eq!(queue.put(b"", NOWAIT), Err(Error::Timeout));
        assert_eq!(queue.len(), 3);
        for _ in 0..3 {
            assert_eq!(queue.get_vec(NOWAIT), Ok(vec![round as u8; 10]));
        }
    }
    assert_eq!(queue.put_many(&[[0; 10]; 5], millis(5)), Ok(3));
    assert_eq!(queue.put(b"", millis(5)), Err(Error::Timeout));
    // If only the bound on their number prevents a put, the ring does not grow.
    assert_eq!(queue.capacity(), Queue::anonymous().unwrap().capacity());
}

#[test]
fn a_large_message_still_makes_the_ring_grow() {
    let _alone = alone();
    let queue = bounded(2);
    let large = vec![7; 1 << 20];
    queue.put(&large, NOWAIT).unwrap();
    queue.put(&large, NOWAIT).unwrap();
    assert_eq!(queue.put(b"", NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.get_vec(NOWAIT), Ok(large));
}

#[test]
fn a_reservation_counts_as_a_message() {
    let _alone = alone();
    let queue = bounded(2);
    let room = queue.reserve(1, NOWAIT).unwrap();
    queue.put(b"", NOWAIT).unwrap();
    assert_eq!(queue.put(b"", NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.reserve(1, millis(5)).unwrap_err(), Error::Timeout);
    room.commit().unwrap();
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.put(b"", NOWAIT), Err(Error::Timeout));
    queue.get_vec(NOWAIT).unwrap();
    queue.reserve(1, NOWAIT).unwrap().discard();
    queue.put(b"", NOWAIT).unwrap();
}

#[test]
fn one_message_less_lets_one_producer_continue() {
    let _alone = alone();
    let queue = bounded(1);
    let put = Bell::new();
    queue.put(b"", NOWAIT).unwrap();
    let producers = [(); 3].map(|()| {
        fork(|| {
            queue.put(b"", FOREVER).unwrap();
            put.ring();
        })
    });
    for _ in 0..3 {
        queue.get_vec(FOREVER).unwrap();
        put.hear();
        assert_eq!(queue.len(), 1);
    }
    producers.into_iter().for_each(Child::ends_well);
}

#[test]
fn the_bound_holds_although_producers_are_killed() {
    let _alone = alone();
    let queue = bounded(7);
    let mut random = Random(0x5eed_0002);
    let producer = || fork(|| while queue.put(&[1; 100], FOREVER).is_ok() {});
    let mut producers: Vec<Child> = (0..4).map(|_| producer()).collect();
    for _ in 0..60 {
        for _ in 0..random.below(500) {
            assert!(queue.len() <= 7);
            queue.get_vec(FOREVER).unwrap();
        }
        let victim = random.below(4) as usize;
        std::mem::replace(&mut producers[victim], producer()).kill();
    }
    queue.close().unwrap();
    producers.into_iter().for_each(Child::ends_well);
    assert!(queue.len() <= 7);
    let left = std::iter::from_fn(|| queue.get_vec(NOWAIT).ok()).count();
    assert!(left <= 7);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}
