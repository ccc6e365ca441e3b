//! The end of a queue's relay, and what becomes of its companions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, beside_others, millis};
use crate::{attach, is_mine, new_queue, relayed, relayed_map};
use shoal::{Error, Map, MapRelay, Options, Queue, QueueRelay, RelayOptions};

#[test]
fn detaching_puts_pending_requests_into_the_queue_and_makes_it_plain() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let names: Vec<String> = ["relay", "settled"]
        .iter()
        .map(|it| format!("{}.{it}", queue.name()))
        .collect();
    assert!(names.iter().all(|name| shoal::stat(name).is_ok()));
    queue.put(b"1", NOWAIT).unwrap();
    queue.put(b"2", NOWAIT).unwrap();
    relay.deliver(b"delivered", 0, b"token", NOWAIT).unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    let (refused, request) = {
        let other = attach_error(&queue);
        (other, request)
    };
    assert_eq!(refused, Error::Timeout);
    request.retry(Duration::ZERO).unwrap();
    relay.detach(FOREVER).unwrap();
    assert!(!queue.is_relayed());
    assert_eq!(queue.relay(), Ok(None));
    assert!(names.iter().all(|name| shoal::stat(name).is_err()));
    queue.put(b"3", NOWAIT).unwrap();
    for expected in [&b"delivered"[..], b"1", b"2", b"3"] {
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), expected);
    }
    // Again, with other companions, which this handle finds.
    let relay = attach(&queue);
    queue.put(b"4", NOWAIT).unwrap();
    assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"4");
}

fn attach_error(queue: &Arc<Queue>) -> Error {
    QueueRelay::attach(Arc::clone(queue), &RelayOptions::new(), millis(5)).unwrap_err()
}

#[test]
fn a_removal_without_room_is_completed_later_and_the_queue_is_not_relayed_meanwhile() {
    let _turn = beside_others();
    let queue = new_queue(&Options::create().max_items(2));
    let finish = || QueueRelay::finish_detach(Arc::clone(&queue), NOWAIT);
    assert_eq!(finish(), Ok(false), "it has no companions");
    let relay = attach(&queue);
    for number in 0..5u8 {
        queue.put(&[number], NOWAIT).unwrap();
    }
    assert_eq!(finish(), Ok(false), "it is relayed");
    assert_eq!(relay.detach(NOWAIT), Err(Error::Timeout));
    let mut got = Vec::new();
    while finish() == Err(Error::Timeout) {
        assert!(!queue.is_relayed());
        got.push(queue.get_vec(NOWAIT).unwrap());
    }
    assert_eq!(finish(), Ok(false));
    got.extend(std::iter::from_fn(|| queue.get_vec(NOWAIT).ok()));
    assert_eq!(got, [[0], [1], [2], [3], [4]]);
    let companion = format!("{}.relay", queue.name());
    assert!(shoal::stat(&companion).is_err());
}

#[test]
fn a_relay_is_told_that_its_object_has_lost_its_name() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let (map, of_map) = relayed_map();
    assert!(relay.is_named() && of_map.is_named());
    shoal::unlink(queue.name()).unwrap();
    shoal::unlink(map.name()).unwrap();
    // Another object of the name is none of its.
    let _other = Queue::create(queue.name()).unwrap();
    assert!(!relay.is_named() && !of_map.is_named());
    shoal::unlink(queue.name()).unwrap();
}

#[test]
fn a_companion_that_has_lost_its_name_is_replaced_for_programs_that_have_opened_it() {
    let _turn = beside_others();
    for companion in ["relay", "settled"] {
        let (queue, relay) = relayed();
        let program = Queue::open(queue.name()).unwrap();
        program.put(b"1", NOWAIT).unwrap();
        relay.next_request(NOWAIT).unwrap().done().unwrap();
        shoal::unlink(&format!("{}.{companion}", queue.name())).unwrap();
        assert!(!relay.is_named());
        drop(relay);
        let relay = attach(&queue);
        assert!(relay.is_named());
        program.put(b"2", NOWAIT).unwrap();
        assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"2");
    }
    for companion in ["relay", "answers"] {
        let (map, relay) = relayed_map();
        let program = Map::open(map.name()).unwrap();
        program.set(b"key", b"1").unwrap();
        relay.next_request(NOWAIT).unwrap().done().unwrap();
        shoal::unlink(&format!("{}.{companion}", map.name())).unwrap();
        assert!(!relay.is_named());
        drop(relay);
        let options = RelayOptions::new();
        let relay = MapRelay::attach(Arc::clone(&map), &options, FOREVER).unwrap();
        assert!(relay.is_named());
        program.set(b"key", b"2").unwrap();
        assert_eq!(relay.next_request(NOWAIT).unwrap().key(), b"key");
    }
}

#[test]
fn a_relay_whose_requests_exist_is_not_detached() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    queue.put(b"1", NOWAIT).unwrap();
    let request = relay.next_request(NOWAIT).unwrap();
    assert!(matches!(relay.detach(NOWAIT), Err(Error::Invalid { .. })));
    assert!(queue.is_relayed());
    drop(request);
    attach(&queue).detach(NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"1");
}

#[test]
fn puts_continue_while_relays_attach_and_detach() {
    let _turn = beside_others();
    const PUTS: u32 = 2_000;
    let queue = new_queue(&Options::create());
    let mut seen = BTreeSet::new();
    thread::scope(|scope| {
        let put = |number: u32| {
            let program = Queue::open(queue.name()).unwrap();
            for at in 0..PUTS {
                let message = (number * PUTS + at).to_le_bytes();
                match at % 3 {
                    0 => {
                        let mut room = program.reserve(4, FOREVER).unwrap();
                        room.copy_from_slice(&message);
                        // The relay may be detached between the two.
                        if room.commit() == Err(Error::Closed) {
                            program.put(&message, FOREVER).unwrap();
                        }
                    }
                    _ => program.put(&message, FOREVER).unwrap(),
                }
            }
        };
        let puts: Vec<_> = (0..3)
            .map(|number| scope.spawn(move || put(number)))
            .collect();
        while puts.iter().any(|put| !put.is_finished()) {
            let relay = attach(&queue);
            for _ in 0..50 {
                let Ok(request) = relay.next_request(millis(1)) else {
                    break;
                };
                seen.insert(request.to_vec());
                request.done().unwrap();
            }
            relay.detach(FOREVER).unwrap();
        }
    });
    while let Ok(message) = queue.get_vec(NOWAIT) {
        assert!(seen.insert(message), "twice");
    }
    assert_eq!(seen.len(), 3 * PUTS as usize);
}

#[test]
fn another_object_with_a_companions_name_is_left_unchanged() {
    let _turn = beside_others();
    let queue = Arc::new(Queue::anonymous().unwrap());
    let name = format!("{}.relay", queue.name());
    let other = Queue::create(&name).unwrap();
    other.put(b"mine", NOWAIT).unwrap();
    assert_eq!(attach_error(&queue), Error::Exists { name: name.clone() });
    assert!(!queue.is_relayed());
    queue.put(b"here", NOWAIT).unwrap();
    assert_eq!(queue.len(), 1);
    let of_queue = queue.name().to_owned();
    drop(queue);
    assert!(shoal::stat(&of_queue).is_err(), "it has no relay");
    assert_eq!(other.get_vec(NOWAIT).unwrap(), b"mine");
    assert!(shoal::stat(&name).is_ok());
}

#[test]
fn companions_have_no_relay_and_names_leave_room_for_them() {
    let _turn = beside_others();
    let (queue, _relay) = relayed();
    let companion = Arc::new(Queue::open(&format!("{}.relay", queue.name())).unwrap());
    assert!(matches!(attach_error(&companion), Error::Invalid { .. }));
    let name = "x".repeat(193);
    let long = Arc::new(Queue::create(&name).unwrap());
    assert!(matches!(attach_error(&long), Error::Invalid { .. }));
}

#[test]
fn companions_are_removed_with_their_queue_and_never_used_by_another() {
    let _turn = beside_others();
    let exists =
        |queue: &str| ["relay", "settled"].map(|it| shoal::stat(&format!("{queue}.{it}")).is_ok());
    let (queue, relay) = relayed();
    shoal::unlink(queue.name()).unwrap();
    assert_eq!(exists(queue.name()), [false, false]);
    // Processes with the old queue continue, and those of a new one are independent of them.
    let new = Arc::new(Queue::create(queue.name()).unwrap());
    is_mine(new.name());
    let new_relay = attach(&new);
    queue.put(b"old", NOWAIT).unwrap_err();
    new.put(b"new", NOWAIT).unwrap();
    assert_eq!(&new_relay.next_request(NOWAIT).unwrap()[..], b"new");
    assert!(relay.next_request(NOWAIT).is_err());
}

#[test]
fn requests_outlive_all_processes_but_those_of_the_queue() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let program = Queue::open(queue.name()).unwrap();
    program.put(b"kept", NOWAIT).unwrap();
    drop((program, relay));
    let relay = attach(&queue);
    assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"kept");
}

#[test]
fn the_relay_of_a_closed_queue_is_removed_and_its_requests_are_messages() {
    let _turn = beside_others();
    // The second one has to grow for its requests.
    for len in [1, 100_000] {
        let (queue, relay) = relayed();
        let message = vec![7; len];
        queue.put(&message, NOWAIT).unwrap();
        queue.close().unwrap();
        relay.detach(FOREVER).unwrap();
        assert!(!queue.is_relayed());
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), message);
        assert_eq!(queue.get_vec(FOREVER), Err(Error::Closed));
    }
}

#[test]
fn the_descriptors_of_a_relay_leave_no_file() {
    let _turn = beside_others();
    let (queue, relay) = relayed();
    let name = queue.name().to_owned();
    relay.fds().unwrap();
    drop(relay);
    drop(queue);
    shoal::unlink(&name).unwrap();
    let left = std::fs::read_dir("/dev/shm").unwrap().flatten();
    let left = left.map(|it| it.file_name());
    let left: Vec<_> = left
        .filter(|it| it.to_string_lossy().contains(&name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
