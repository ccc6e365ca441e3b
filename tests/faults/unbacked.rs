//! Words that say how much memory there is, forged where none is left. Every call answers with an error or
//! does its work; none touches what has no memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::common::corruption::DATA;
use crate::common::shm::{Filler, with_small_shm};
use crate::common::{NOWAIT, alone, fork};
use shoal::{Error, Options, Pipe, Queue};

/// Overwrites bytes of an object's file.
fn forge(name: &str, at: u64, bytes: &[u8]) {
    let path = format!("/dev/shm/shoal.{name}");
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn a_forged_capacity_leads_to_no_memory_that_is_not_there() {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        let filler = Filler::new();
        for (capacity, left) in [(1u64 << 34, 4 << 20), (1 << 20, 0)] {
            let queue = Queue::anonymous().unwrap();
            let other = Queue::open(queue.name()).unwrap();
            (0..9).for_each(|_| queue.put(&[1; 6000], NOWAIT).unwrap());
            filler.leave(left);
            forge(queue.name(), DATA, &capacity.to_ne_bytes());
            for _ in 0..200 {
                let refused = queue.put(&[2; 6000], NOWAIT).unwrap_err();
                assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
                let refused = other.get_vec(NOWAIT).unwrap_err();
                assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
                assert!(queue.reserve(1000, NOWAIT).is_err());
                assert!(other.lease(NOWAIT).is_err());
            }
            // With what was committed until there was no more.
            drop((queue, other));
            filler.leave(6 << 20);
        }
    });
}

#[test]
fn a_ring_that_others_grew_and_shrank_is_used_as_it_is() {
    let _alone = alone();
    let queue = Queue::with_options(None, &Options::create().capacity(4096)).unwrap();
    let other = Queue::open(queue.name()).unwrap();
    for _ in 0..3 {
        (0..100).for_each(|_| queue.put(&[1; 1000], NOWAIT).unwrap());
        (0..100).for_each(|_| assert_eq!(other.get_vec(NOWAIT).unwrap(), [1; 1000]));
        // Waits, and so gives the memory back.
        assert_eq!(
            other.get_vec(Duration::from_millis(100)),
            Err(Error::Timeout)
        );
        assert_eq!(queue.capacity(), 4096);
    }
}

#[test]
fn a_forged_number_of_participants_leads_to_no_memory_that_is_not_there() {
    const OPEN: u64 = 128;
    let _alone = alone();
    with_small_shm(4 << 20, || {
        let filler = Filler::new();
        let uses: [fn(Queue, Pipe, Pipe); 5] = [
            |queue, _, _| drop(queue),
            |queue, _, _| {
                let refused = Queue::open(queue.name()).map(drop);
                assert!(matches!(refused, Ok(()) | Err(Error::NoSpace { .. })));
            },
            |queue, _, _| fork(|| drop(queue.put(b"x", NOWAIT))).ends_well(),
            |_, one, other| {
                drop(other);
                assert!(one.recv_vec(Duration::from_millis(50)).is_err());
            },
            |_, _, _| fork(|| std::process::exit(0)).ends_well(),
        ];
        for act in uses {
            let queue = Queue::anonymous().unwrap();
            let (one, other) = Pipe::pair().unwrap();
            let names = [queue.name().to_owned(), one.name().to_owned()];
            filler.leave(0);
            for name in &names {
                forge(name, OPEN, &1024u32.to_ne_bytes());
            }
            act(queue, one, other);
            // The last handle could not tell whether there are others.
            for name in names {
                let _ = std::fs::remove_file(format!("/dev/shm/shoal.{name}"));
            }
            filler.leave(2 << 20);
        }
    });
}
