//! The demand of a queue for messages, and taking back messages that no consumer takes.

use std::time::Duration;

use shoal::{Queue, Timeout};

use super::common::{FOREVER, beside_others};
use super::relayed;

const NOW: Timeout = Timeout::Val(Duration::ZERO);

#[test]
fn a_relay_sees_when_a_consumer_finds_nothing_and_while_one_sleeps() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    assert_eq!(relay.last_wanted(), None);
    assert_eq!(queue.get_vec(NOW), Err(shoal::Error::Timeout));
    let polled = relay.last_wanted().expect("it was wanted");
    std::thread::sleep(Duration::from_millis(5));
    assert!(relay.last_wanted().unwrap() > polled, "and not since");
    let name = queue.name().to_owned();
    let sleeper = std::thread::spawn(move || Queue::open(&name).unwrap().get_vec(FOREVER));
    while relay.last_wanted() != Some(Duration::ZERO) {
        std::thread::yield_now();
    }
    relay.deliver(b"x", 0, b"t", FOREVER).unwrap();
    assert_eq!(sleeper.join().unwrap().unwrap(), b"x");
}

#[test]
fn a_message_without_a_worker_is_withdrawn_with_its_token_and_attempts() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    relay.deliver(b"leased", 0, b"a", FOREVER).unwrap();
    relay.deliver(b"lies", 4, b"b", FOREVER).unwrap();
    let lease = queue.lease(FOREVER).unwrap();
    let withdrawn = relay.withdraw().unwrap().expect("one lies");
    assert_eq!(
        (&*withdrawn.payload, &*withdrawn.token),
        (&b"lies"[..], &b"b"[..])
    );
    assert_eq!(withdrawn.attempts, 4);
    assert_eq!(relay.withdraw(), Ok(None));
    assert!(relay.next_settlement(NOW).is_err());
    lease.ack().unwrap();
    assert_eq!(relay.next_settlement(FOREVER).unwrap().token(), b"a");
    assert_eq!(queue.unfinished(), Ok(0));
}

#[test]
fn a_message_that_no_relay_delivered_is_not_withdrawn() {
    let _turn = beside_others();
    let queue = crate::new_queue(&shoal::Options::create());
    queue.put(b"mine", FOREVER).unwrap();
    let relay = super::attach(&queue);
    assert_eq!(relay.withdraw(), Ok(None));
    assert_eq!(queue.get_vec(FOREVER).unwrap(), b"mine");
}
