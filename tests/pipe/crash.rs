//! One side of a pipe, killed at every step.

use std::cell::RefCell;

use crate::common::crash::{killed_at, lived, lives};
use crate::common::{FOREVER, NOWAIT, Name, alone, fork};
use shoal::{End, Error, Options, Pipe};

#[test]
fn a_sender_killed_anywhere_has_sent_whole_messages_and_closes_the_connection() {
    let _alone = alone();
    for step in 1.. {
        let (here, there) = Pipe::pair().unwrap();
        let mut sender = killed_at(step, move || {
            for number in 0..3u8 {
                there.send(&[number; 100], FOREVER).unwrap();
            }
            drop(there);
        });
        let mut received = 0;
        let end = loop {
            match here.recv_vec(FOREVER) {
                Ok(message) => assert_eq!(message, [received; 100]),
                Err(err) => break err,
            }
            received += 1;
        };
        assert_eq!(end, Error::Closed);
        assert_eq!(here.send(b"?", FOREVER), Err(Error::Closed));
        if lived(&mut sender) {
            assert!(received == 3 && step > 5);
            break;
        }
    }
}

#[test]
fn a_process_that_dies_while_it_opens_or_closes_a_pipe_leaves_it_usable_or_ended() {
    let _alone = alone();
    for step in 1.. {
        let name = Name::new("pipe-crash");
        let options = Options::create();
        let here = Pipe::with_options(Some(&name), End::First, true, &options).unwrap();
        let here = RefCell::new(Some(here));
        let lived = lives(step, || {
            let there = Pipe::open(&name, End::Second).unwrap();
            there.send(b"hello", FOREVER).unwrap();
            drop(there);
        });
        let here = here.take().unwrap();
        // If it was killed before it attached, it left nothing, and another process may attach.
        if here.recv_vec(NOWAIT) == Err(Error::Timeout) {
            let there = Pipe::open(&name, End::Second).unwrap();
            there.send(b"hello", NOWAIT).unwrap();
            assert_eq!(here.recv_vec(FOREVER).unwrap(), b"hello");
            drop(there);
        }
        assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
        assert_eq!(here.send(b"?", NOWAIT), Err(Error::Closed));
        if lived {
            assert!(step > 5);
            break;
        }
    }
}

#[test]
fn a_process_that_dies_while_it_closes_the_connection_leaves_that_to_the_next() {
    let _alone = alone();
    for step in 1.. {
        let (here, there) = Pipe::pair().unwrap();
        // No process has closed it: the child is gone before it could, and the parent has given it
        // away.
        fork(move || {
            there.send(b"last", NOWAIT).unwrap();
            std::mem::forget(there);
        })
        .ends_well();
        let done = lives(step, || {
            assert_eq!(here.recv_vec(FOREVER).unwrap(), b"last");
            assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
        });
        let last = here.recv_vec(FOREVER);
        assert!(matches!(last.as_deref(), Ok(b"last") | Err(Error::Closed)));
        assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
        assert_eq!(here.send(b"?", FOREVER), Err(Error::Closed));
        if done {
            assert!(step > 2);
            break;
        }
    }
}
