//! Messages are looked at as they are put, without being taken.

use shoal::{Error, Queue, Timeout};

use crate::common::{FOREVER, NOWAIT, alone, beside_others, fixed, fork};

/// The messages that come next, with their numbers.
fn seen(follower: &mut shoal::Follower<'_>) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut buffer) = (Vec::new(), [0; 64]);
    while let Some(it) = follower.next(&mut buffer).unwrap() {
        all.push((it.number, buffer[..it.len].to_vec()));
    }
    all
}

fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|it| (it, it.to_string().into_bytes())).collect()
}

fn put(queue: &Queue, range: std::ops::Range<u64>) {
    for (_, message) in numbered(range) {
        queue.put(&message, FOREVER).unwrap();
    }
}

#[test]
fn a_follower_sees_each_message_once_and_takes_none() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, 0..3);
    let (mut all, mut new) = (queue.follow(true).unwrap(), queue.follow(false).unwrap());
    assert_eq!(seen(&mut all), numbered(0..3));
    assert_eq!(seen(&mut new), []);
    put(&queue, 3..10);
    assert_eq!(seen(&mut all), numbered(3..10));
    assert_eq!(seen(&mut new), numbered(3..10));
    assert_eq!((queue.len(), queue.totals().taken), (10, 0));
}

#[test]
fn messages_taken_before_a_follower_reads_them_are_skipped_by_number() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, 0..10);
    let mut follower = queue.follow(true).unwrap();
    for _ in 0..4 {
        queue.get_vec(FOREVER).unwrap();
    }
    assert_eq!(seen(&mut follower), numbered(4..10));
    while queue
        .get_vec(Timeout::Val(std::time::Duration::ZERO))
        .is_ok()
    {}
    put(&queue, 10..12);
    assert_eq!(seen(&mut follower), numbered(10..12));
    assert_eq!(follower.next_number(), 12);
}

#[test]
fn a_follower_tells_how_many_messages_were_taken_before_it_saw_them() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, 0..3);
    let (mut all, mut new) = (queue.follow(true).unwrap(), queue.follow(false).unwrap());
    assert_eq!((all.next_number(), new.next_number()), (0, 3));
    put(&queue, 3..5);
    while queue.get_vec(NOWAIT).is_ok() {}
    assert_eq!((seen(&mut all), seen(&mut new)), (vec![], vec![]));
    assert_eq!((all.next_number(), new.next_number()), (5, 5));
}

#[test]
fn a_follower_continues_while_the_ring_wraps_and_grows() {
    let _beside = beside_others();
    let queue = fixed(4096);
    let mut follower = queue.follow(false).unwrap();
    for round in 0..100 {
        put(&queue, round * 50..round * 50 + 50);
        assert_eq!(seen(&mut follower), numbered(round * 50..round * 50 + 50));
        for _ in 0..50 {
            queue.get_vec(FOREVER).unwrap();
        }
    }
    let grows = Queue::anonymous().unwrap();
    let mut follower = grows.follow(false).unwrap();
    put(&grows, 0..20_000);
    assert_eq!(seen(&mut follower), numbered(0..20_000));
}

#[test]
fn a_buffer_that_is_too_small_misses_nothing() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    queue.put(b"longer", FOREVER).unwrap();
    // A message that was written in place is outside the ring.
    let mut reserved = queue.reserve(9, FOREVER).unwrap();
    reserved.copy_from_slice(b"in place.");
    reserved.commit().unwrap();
    let mut follower = queue.follow(true).unwrap();
    let small = follower.next(&mut [0; 3]);
    assert!(matches!(
        small,
        Err(Error::BufferTooSmall { needed: 6, .. })
    ));
    let expected = [(0, b"longer".to_vec()), (1, b"in place.".to_vec())];
    assert_eq!(seen(&mut follower), expected);
}

#[test]
fn a_follower_beside_a_consumer_sees_whole_messages_in_order() {
    let _alone = alone();
    let queue = fixed(4096);
    let mut follower = queue.follow(false).unwrap();
    let child = fork(|| {
        // Some messages are always there.
        for number in 0u64..16 {
            queue.put(&number.to_ne_bytes().repeat(8), FOREVER).unwrap();
        }
        for number in 16u64.. {
            queue.put(&number.to_ne_bytes().repeat(8), FOREVER).unwrap();
            queue.get_vec(FOREVER).unwrap();
        }
    });
    let (mut buffer, mut next, mut count) = ([0; 64], 0, 0);
    while count < 500 {
        let Some(it) = follower.next(&mut buffer).unwrap() else {
            continue;
        };
        assert!(it.number >= next && it.len == 64);
        assert!(buffer.chunks(8).all(|word| word == it.number.to_ne_bytes()));
        (next, count) = (it.number + 1, count + 1);
    }
    child.kill();
}
