//! Words that say how much memory there is, forged where none is left. Every call answers with an error or
//! does its work; none touches what has no memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::common::shm::{Filler, with_small_shm};
use crate::common::{NOWAIT, alone, fork};
use shoal::{Error, Pipe, Queue};

/// Overwrites bytes of an object's file.
fn forge(name: &str, at: u64, bytes: &[u8]) {
    let path = format!("/dev/shm/shoal.{name}");
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
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
