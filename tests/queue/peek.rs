//! Looking at messages without taking them.

use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, beside_others};
use shoal::{Error, Options, Queue};

fn look(queue: &Queue, index: u64) -> Option<Vec<u8>> {
    let mut buf = [0; 1 << 10];
    let len = queue.peek(index, &mut buf).unwrap()?;
    Some(buf[..len].to_vec())
}

fn put(queue: &Queue, messages: &[&str]) {
    for message in messages {
        queue.put(message.as_bytes(), NOWAIT).unwrap();
    }
}

#[test]
fn peek_returns_every_message_in_order_and_takes_none() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    assert_eq!(look(&queue, 0), None);
    put(&queue, &["one", "", "three"]);
    for _ in 0..2 {
        assert_eq!(look(&queue, 0).unwrap(), b"one");
        assert_eq!(look(&queue, 1).unwrap(), b"");
        assert_eq!(look(&queue, 2).unwrap(), b"three");
        assert_eq!(look(&queue, 3), None);
        assert_eq!(look(&queue, u64::MAX), None);
    }
    assert_eq!(queue.len(), 3);
    for expected in ["one", "", "three"] {
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), expected.as_bytes());
    }
}

#[test]
fn peek_continues_after_the_end_of_the_ring() {
    let _beside = beside_others();
    let options = Options::create().capacity(4096).max_capacity(4096);
    let queue = Queue::with_options(None, &options).unwrap();
    let message = |number: u8| vec![number; 900];
    for number in 0..40 {
        queue.put(&message(number), NOWAIT).unwrap();
        queue.put(&message(number + 100), NOWAIT).unwrap();
        assert_eq!(look(&queue, 0).unwrap(), message(number));
        assert_eq!(look(&queue, 1).unwrap(), message(number + 100));
        assert_eq!(look(&queue, 2), None);
        queue.get_vec(NOWAIT).unwrap();
        queue.get_vec(NOWAIT).unwrap();
    }
}

#[test]
fn peek_returns_returned_messages_first_and_no_leased_ones() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, &["one", "two", "three"]);
    let (first, second) = (queue.lease(NOWAIT).unwrap(), queue.lease(NOWAIT).unwrap());
    assert_eq!(look(&queue, 0).unwrap(), b"three");
    second.nack(Duration::ZERO).unwrap();
    first.nack(Duration::ZERO).unwrap();
    for (index, expected) in [(0, "one"), (1, "two"), (2, "three")] {
        assert_eq!(look(&queue, index).unwrap(), expected.as_bytes());
    }
    assert_eq!(look(&queue, 3), None);
    // A message that was written in place is outside the ring too.
    let mut reserved = queue.reserve(4, NOWAIT).unwrap();
    reserved.copy_from_slice(b"four");
    assert_eq!(look(&queue, 3), None);
    reserved.commit().unwrap();
    assert_eq!(look(&queue, 3).unwrap(), b"four");
}

#[test]
fn peek_with_a_small_buffer_is_an_error_with_the_needed_size() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, &["longer"]);
    let too_small = Error::BufferTooSmall {
        needed: 6,
        capacity: 5,
    };
    assert_eq!(queue.peek(0, &mut [0; 5]), Err(too_small));
    assert_eq!(queue.peek(0, &mut [0; 6]), Ok(Some(6)));
}

#[test]
fn a_closed_queue_can_be_peeked_until_it_is_drained() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    put(&queue, &["last"]);
    queue.close().unwrap();
    assert_eq!(look(&queue, 0).unwrap(), b"last");
    queue.get_vec(FOREVER).unwrap();
    assert_eq!(look(&queue, 0), None);
}
