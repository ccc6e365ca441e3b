//! An object with a relay stays without a process, however it was created.

use std::sync::Arc;

use crate::common::{FOREVER, NOWAIT, beside_others, fork};
use crate::{attach, attach_map, is_mine, new_map, new_queue};
use shoal::{Error, Map, Options, Queue};

#[test]
fn a_put_is_kept_although_a_program_opened_the_queue_before_its_relay() {
    let _turn = beside_others();
    let program = new_queue(&Options::create());
    let name = program.name().to_owned();
    let queue = Arc::new(Queue::open(&name).unwrap());
    let relay = attach(&queue);
    program.put(b"kept", NOWAIT).unwrap();
    // The last handle is one that was opened before the relay attached.
    drop((relay, queue, program));
    assert!(!shoal::gc(false).unwrap().contains(&name));
    let facts = shoal::stat(&name).unwrap();
    assert!(facts.persistent && !facts.stale && facts.participants.is_empty());
    let queue = Arc::new(Queue::open(&name).unwrap());
    assert!(queue.is_relayed());
    let relay = attach(&queue);
    assert_eq!(&relay.next_request(NOWAIT).unwrap()[..], b"kept");
}

#[test]
fn a_set_is_kept_although_a_program_opened_the_map_before_its_relay() {
    let _turn = beside_others();
    let program = new_map(&Options::create());
    let name = program.name().to_owned();
    let map = Arc::new(Map::open(&name).unwrap());
    let relay = attach_map(&map);
    program.set(b"key", b"kept").unwrap();
    drop((relay, map, program));
    let map = Arc::new(Map::open(&name).unwrap());
    assert!(map.is_relayed());
    let relay = attach_map(&map);
    assert_eq!(relay.next_request(NOWAIT).unwrap().key(), b"key");
}

#[test]
fn a_put_is_kept_although_all_processes_of_the_queue_were_killed() {
    let _turn = beside_others();
    let name = format!("test-relay-stays-{}", std::process::id());
    is_mine(&name);
    // It ends without leaving the queue.
    let program = fork(|| {
        let queue = Arc::new(Queue::create(&name).unwrap());
        std::mem::forget(attach(&queue));
        queue.put(b"kept", NOWAIT).unwrap();
        std::mem::forget(queue);
    });
    program.ends_well();
    assert!(!shoal::gc(false).unwrap().contains(&name));
    let queue = Arc::new(Queue::open(&name).unwrap());
    let relay = attach(&queue);
    // At most a tenth of a second later the next check finds what dead processes held.
    assert_eq!(&relay.next_request(FOREVER).unwrap()[..], b"kept");
}

#[test]
fn a_queue_whose_relay_was_detached_is_as_persistent_as_it_was_created() {
    let _turn = beside_others();
    for persistent in [false, true] {
        let options = match persistent {
            true => Options::create().persistent(),
            false => Options::create(),
        };
        let queue = new_queue(&options);
        let name = queue.name().to_owned();
        let relay = attach(&queue);
        assert!(shoal::stat(&name).unwrap().persistent);
        relay.detach(FOREVER).unwrap();
        assert_eq!(shoal::stat(&name).unwrap().persistent, persistent);
        drop(queue);
        let opened = Queue::open(&name).map(drop);
        match persistent {
            true => assert_eq!(opened, Ok(())),
            false => assert!(matches!(opened, Err(Error::NotFound { .. }))),
        }
    }
}
