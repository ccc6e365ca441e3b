//! Attaching a relay where a companion is missing, or has the name of another object, killed at every crash point.

use std::sync::Arc;

use crate::common::{FOREVER, NOWAIT, millis};
use crate::crash::{at_each_step, attach, files, options, queue, requests};
use shoal::{Map, MapRelay, Options, Queue, QueueRelay};

#[test]
fn a_relay_that_is_killed_while_it_replaces_a_lost_companion_leaves_that_to_the_next() {
    for companion in ["relay", "settled"] {
        at_each_step(
            || {
                let queue = queue();
                drop(attach(&queue));
                let program = Queue::open(queue.name()).unwrap();
                program.put(b"lost", NOWAIT).unwrap();
                shoal::unlink(&format!("{}.{companion}", queue.name())).unwrap();
                (queue, program)
            },
            |(queue, _)| drop(attach(queue)),
            5,
            |step, _, (queue, program)| {
                let relay = attach(&queue);
                assert!(relay.is_named(), "step {step}");
                program.put(b"after", NOWAIT).unwrap();
                assert_eq!(requests(&relay), [b"after"], "step {step}");
            },
        );
    }
    for companion in ["relay", "answers"] {
        let attach = |map: &Arc<Map>| MapRelay::attach(Arc::clone(map), &options(), FOREVER);
        at_each_step(
            || {
                let map = crate::new_map(&Options::create());
                drop(attach(&map).unwrap());
                let program = Map::open(map.name()).unwrap();
                program.set(b"lost", b"1").unwrap();
                shoal::unlink(&format!("{}.{companion}", map.name())).unwrap();
                (map, program)
            },
            |(map, _)| drop(attach(map)),
            5,
            |step, _, (map, program)| {
                let relay = attach(&map).unwrap();
                assert!(relay.is_named(), "step {step}");
                program.set(b"after", b"2").unwrap();
                let request = relay.next_request(millis(5)).unwrap();
                assert_eq!(request.key(), b"after", "step {step}");
            },
        );
    }
}

#[test]
fn an_attach_that_fails_leaves_nothing_and_if_it_is_killed_what_goes_with_the_queue() {
    at_each_step(
        || {
            let queue = Arc::new(Queue::anonymous().unwrap());
            // The companion that is opened last has the name of another object.
            let other = Queue::create(&format!("{}.relay", queue.name())).unwrap();
            (queue, other)
        },
        |(queue, _)| drop(QueueRelay::attach(Arc::clone(queue), &options(), millis(5))),
        5,
        |step, lived, (queue, other)| {
            let name = queue.name().to_owned();
            if !lived {
                // Its stamp may name companions. Then it stays until it is unlinked, or a relay attaches.
                Queue::unlink(&name).unwrap();
            }
            drop((queue, other));
            assert_eq!(files(&name), [""; 0], "step {step}");
        },
    );
}
