//! Pipes: connections of two sides, and how they end.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::thread;

use crate::common::{Bell, Child, FOREVER, NOWAIT, Name, Random, alone, fork, millis};
use shoal::{End, Error, Options, Pipe};

/// Whether a descriptor polls readable within a while.
fn readable(fd: i32, milliseconds: i32) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut polled, 1, milliseconds) == 1 }
}

/// A process that holds what this one holds, and does nothing.
fn bystander() -> Child {
    let ready = Bell::new();
    let child = fork(|| {
        ready.ring();
        loop {
            thread::park();
        }
    });
    ready.hear();
    child
}

#[test]
fn messages_go_both_ways_whole_and_in_order() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let echo = fork(move || {
        while let Ok(message) = there.recv_vec(FOREVER) {
            there.send(&message, FOREVER).unwrap();
            if message == b"bye" {
                return;
            }
        }
    });
    let mut random = Random(7);
    let big = 1 << random.below(22);
    for len in [0, 1, 64, 4096, 1 << 20, big as usize] {
        let message: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        here.send(&message, FOREVER).unwrap();
        assert!(here.poll(FOREVER).unwrap());
        let mut buf = vec![0; len];
        assert_eq!(here.recv(&mut buf, FOREVER), Ok(len));
        assert!(buf == message, "{len}");
    }
    here.send(b"bye", FOREVER).unwrap();
    assert_eq!(here.recv_vec(FOREVER).unwrap(), b"bye");
    echo.ends_well();
    assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
}

#[test]
fn messages_before_the_end_are_received_first() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    for number in 0..100u8 {
        there.send(&[number], NOWAIT).unwrap();
    }
    drop(there);
    assert_eq!(here.send(b"?", FOREVER), Err(Error::Closed));
    for number in 0..100u8 {
        assert_eq!(here.poll(NOWAIT), Ok(true));
        assert_eq!(here.recv_vec(NOWAIT).unwrap(), [number]);
    }
    assert_eq!(here.poll(NOWAIT), Ok(true));
    assert_eq!(here.recv_vec(NOWAIT), Err(Error::Closed));
}

#[test]
fn a_message_is_written_in_place_and_sent_by_its_commit() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let mut room = here.reserve(1 << 20, FOREVER).unwrap();
    room[..8].copy_from_slice(b"in place");
    // No process waits for it.
    here.send(b"before", FOREVER).unwrap();
    room.commit_first(8).unwrap();
    drop(here.reserve(10, FOREVER).unwrap());
    assert_eq!(there.recv_vec(FOREVER).unwrap(), b"before");
    assert_eq!(there.recv_vec(FOREVER).unwrap(), b"in place");
    assert!(!there.poll(NOWAIT).unwrap());
    let (receiver, _sender) = Pipe::simplex().unwrap();
    assert!(matches!(
        receiver.reserve(1, NOWAIT),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn a_reservation_of_a_killed_sender_was_never_sent() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let reserved = Bell::new();
    let child = fork(|| {
        there.send(b"sent", FOREVER).unwrap();
        let _room = there.reserve(1 << 20, FOREVER).unwrap();
        reserved.ring();
        loop {
            thread::park();
        }
    });
    reserved.hear();
    drop(there);
    child.kill();
    assert_eq!(here.recv_vec(FOREVER).unwrap(), b"sent");
    assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
    assert!(matches!(here.reserve(1, FOREVER), Err(Error::Closed)));
}

#[test]
fn a_pipe_of_one_direction_sends_at_one_end_only() {
    let _alone = alone();
    let (receiver, sender) = Pipe::simplex().unwrap();
    assert!(receiver.is_readable() && !receiver.is_writable());
    assert!(!sender.is_readable() && sender.is_writable());
    sender.send(b"one", NOWAIT).unwrap();
    assert_eq!(receiver.recv_vec(NOWAIT).unwrap(), b"one");
    for err in [
        receiver.send(b"two", NOWAIT).unwrap_err(),
        sender.recv_vec(NOWAIT).unwrap_err(),
        sender.poll(NOWAIT).unwrap_err(),
        sender.fd().unwrap_err(),
    ] {
        assert!(matches!(err, Error::Unsupported { .. }), "{err}");
    }
    drop(receiver);
    assert_eq!(sender.send(b"three", NOWAIT), Err(Error::Closed));
}

#[test]
fn a_wait_for_a_killed_process_ends() {
    let _alone = alone();
    for waiting in ["recv", "poll", "send"] {
        let options = Options::create().capacity(4096).max_capacity(4096);
        let (here, there) = Pipe::pair_with_options(true, &options).unwrap();
        let ready = Bell::new();
        let peer = fork(|| {
            there.send(b"last words", FOREVER).unwrap();
            ready.ring();
            loop {
                thread::park();
            }
        });
        ready.hear();
        drop(there);
        let here = RefCell::new(Some(here));
        let mut waiter = fork(|| {
            let here = here.take().unwrap();
            if waiting == "send" {
                while here.send(&[1; 1000], FOREVER).is_ok() {}
                assert_eq!(here.send(&[1; 1000], FOREVER), Err(Error::Closed));
            }
            assert_eq!(here.recv_vec(FOREVER).unwrap(), b"last words");
            if waiting == "poll" {
                assert_eq!(here.poll(FOREVER), Ok(true));
            }
            assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
        });
        waiter.wait_asleep();
        peer.kill();
        waiter.ends_well();
        // This handle has not waited; it notices at the first call.
        let here = here.take().unwrap();
        assert_eq!(here.recv_vec(NOWAIT), Err(Error::Closed));
    }
}

#[test]
fn a_process_that_only_sends_notices_the_end_after_64_kib() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let peer = bystander();
    drop(there);
    here.send(b"nobody will read this", NOWAIT).unwrap();
    peer.kill();
    let sent = (0..10_000)
        .take_while(|_| here.send(&[1; 64], NOWAIT).is_ok())
        .count();
    assert!(sent <= 512, "{sent}");
    assert_eq!(here.send(&[1; 64], NOWAIT), Err(Error::Closed));
}

#[test]
fn an_end_is_closed_when_all_its_holders_have_ended() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let [ready, go] = [Bell::new(), Bell::new()];
    let child = fork(|| {
        ready.ring();
        go.hear();
        there.send(b"still here", FOREVER).unwrap();
    });
    ready.hear();
    // The child has its parent's ends, and releases them itself.
    drop(there);
    assert_eq!(here.recv_vec(millis(20)), Err(Error::Timeout));
    here.send(b"go on", NOWAIT).unwrap();
    go.ring();
    assert_eq!(here.recv_vec(FOREVER).unwrap(), b"still here");
    child.ends_well();
    assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
}

#[test]
fn an_end_that_was_never_opened_is_waited_for() {
    let _alone = alone();
    let name = Name::new("pipe");
    let open = |end| Pipe::with_options(Some(&name), end, true, &Options::create());
    let second = open(End::Second).unwrap();
    assert_eq!(second.poll(NOWAIT), Ok(false));
    assert_eq!(second.recv_vec(NOWAIT), Err(Error::Timeout));
    assert_eq!(second.recv_vec(millis(5)), Err(Error::Timeout));
    second.send(b"early", NOWAIT).unwrap();
    let first = open(End::First).unwrap();
    assert_eq!((first.end(), second.end()), (End::First, End::Second));
    assert_eq!(first.recv_vec(NOWAIT).unwrap(), b"early");
    let again = Pipe::open(&name, End::First).unwrap();
    drop(first);
    again.send(b"answer", NOWAIT).unwrap();
    drop(again);
    assert_eq!(second.recv_vec(NOWAIT).unwrap(), b"answer");
    // The connection stays closed.
    let late = Pipe::open(&name, End::First).unwrap();
    assert_eq!(late.send(b"too late", NOWAIT), Err(Error::Closed));
    assert_eq!(second.recv_vec(NOWAIT), Err(Error::Closed));
    assert!(matches!(
        Pipe::open("no-such-pipe", End::First),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        shoal::Queue::open(&name),
        Err(Error::WrongKind { .. })
    ));
}

#[test]
fn a_descriptor_is_readable_for_messages_and_for_every_end() {
    let _alone = alone();
    for killed in [false, true] {
        let (here, there) = Pipe::pair().unwrap();
        let fd = here.fd().unwrap().as_raw_fd();
        assert!(!readable(fd, 0));
        there.send(b"one", NOWAIT).unwrap();
        assert!(readable(fd, -1));
        assert_eq!(here.recv_vec(NOWAIT).unwrap(), b"one");
        assert!(!readable(fd, 5));
        if killed {
            let peer = bystander();
            drop(there);
            assert!(!readable(fd, 5));
            peer.kill();
        } else {
            drop(there);
        }
        assert!(readable(fd, -1));
        assert_eq!(here.recv_vec(NOWAIT), Err(Error::Closed));
        assert!(readable(fd, -1));
    }
}

#[test]
fn a_hold_keeps_an_end_for_the_process_that_opens_it_next() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let hold = there.hold().unwrap();
    drop(there);
    assert_eq!(here.poll(millis(5)), Ok(false));
    let copy = hold.try_clone().unwrap();
    drop(hold);
    assert_eq!(here.recv_vec(NOWAIT), Err(Error::Timeout));
    let there = Pipe::open(here.name(), End::Second).unwrap();
    drop(copy);
    there.send(b"taken over", NOWAIT).unwrap();
    assert_eq!(here.recv_vec(NOWAIT).unwrap(), b"taken over");
    let hold = there.hold().unwrap();
    drop(there);
    drop(hold);
    assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
}

#[test]
fn the_last_hold_removes_the_pipe() {
    let _alone = alone();
    let name = Name::new("pipe-hold");
    let pipe = Pipe::with_options(Some(&name), End::First, true, &Options::create()).unwrap();
    let holds = [pipe.hold().unwrap(), pipe.hold().unwrap()];
    drop(pipe);
    for (left, hold) in holds.into_iter().enumerate() {
        assert!(name.has_file(), "{left}");
        Pipe::release(&name, hold).unwrap();
    }
    assert!(!name.has_file());
}

#[test]
fn of_two_processes_that_release_the_last_holds_at_once_one_removes_the_pipe() {
    let _alone = alone();
    for _ in 0..100 {
        let name = Name::new("pipe-holds");
        let pipe = Pipe::with_options(Some(&name), End::First, true, &Options::create()).unwrap();
        let first = pipe.hold().unwrap();
        drop(pipe);
        let (ready, go) = (Bell::new(), Bell::new());
        let children = [(); 2].map(|()| {
            fork(|| {
                let pipe = Pipe::open(&name, End::First).unwrap();
                let hold = pipe.hold().unwrap();
                drop(pipe);
                // SAFETY: this process's copy of the parent's hold, which it does not use.
                unsafe { libc::close(first.as_raw_fd()) };
                ready.ring();
                go.hear();
                Pipe::release(&name, hold).unwrap();
            })
        });
        ready.hear();
        ready.hear();
        Pipe::release(&name, first).unwrap();
        assert!(name.has_file());
        go.ring_times(2);
        children.into_iter().for_each(Child::ends_well);
        assert!(!name.has_file());
    }
}

#[test]
fn two_processes_that_leave_an_end_at_once_close_the_connection() {
    let _alone = alone();
    for _ in 0..50 {
        let (here, there) = Pipe::pair().unwrap();
        let too = Pipe::open(here.name(), End::Second).unwrap();
        let together = Barrier::new(2);
        thread::scope(|scope| {
            for end in [there, too] {
                scope.spawn(|| {
                    together.wait();
                    drop(end);
                });
            }
            assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
        });
    }
}

#[test]
fn waiting_ends_in_time_and_full_means_full() {
    let _alone = alone();
    let options = Options::create().capacity(4096).max_capacity(4096);
    let (here, there) = Pipe::pair_with_options(true, &options).unwrap();
    while here.send(&[1; 500], NOWAIT).is_ok() {}
    assert_eq!(here.send(&[1; 500], NOWAIT), Err(Error::Timeout));
    assert_eq!(here.send(&[1; 500], millis(5)), Err(Error::Timeout));
    assert!(matches!(
        here.send(&[1; 5000], FOREVER),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        here.reserve(usize::MAX, NOWAIT),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        there.recv(&mut [0; 10], NOWAIT),
        Err(Error::BufferTooSmall { needed: 500, .. })
    ));
    assert_eq!(there.recv(&mut [0; 500], NOWAIT), Ok(500));
}

#[test]
fn forged_words_are_refused() {
    let _alone = alone();
    const STATE: u64 = 36_864;
    let mut random = Random(5);
    let mut refused = 0;
    for _ in 0..200 {
        let (here, there) = Pipe::pair().unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(format!("/dev/shm/shoal.{}", here.name()))
            .unwrap();
        // The number of directions, and the offset of the second queue.
        let at = [STATE, STATE + 4096, STATE + 4096 + 8][random.below(3) as usize];
        let word = random.next() >> random.below(64);
        std::os::unix::fs::FileExt::write_all_at(&file, &word.to_le_bytes(), at).unwrap();
        refused += u32::from(Pipe::open(here.name(), End::Second).is_err());
        let _ = (there.send(b"x", NOWAIT), here.recv_vec(NOWAIT));
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_message_is_read_in_place_and_removed_by_its_ack() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    let mut room = there.reserve(100_000, FOREVER).unwrap();
    room.fill(7);
    let written_at = room.as_ptr() as usize % 4096;
    room.commit().unwrap();
    there.send(b"next", FOREVER).unwrap();
    let lease = here.lease(NOWAIT).unwrap();
    assert!(lease.len() == 100_000 && lease.iter().all(|&byte| byte == 7));
    assert_eq!(lease.as_ptr() as usize % 4096, written_at);
    // A returned message is the first again.
    drop(lease);
    let lease = here.lease(NOWAIT).unwrap();
    assert_eq!((lease.len(), lease.attempts()), (100_000, 2));
    lease.ack().unwrap();
    assert_eq!(here.recv_vec(NOWAIT).unwrap(), b"next");
    assert_eq!(here.lease(NOWAIT).unwrap_err(), Error::Timeout);
    drop(there);
    assert_eq!(here.lease(FOREVER).unwrap_err(), Error::Closed);
}

#[test]
fn a_pipe_without_another_end_ends_though_a_message_is_never_received_again() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    there.send(b"bad job", FOREVER).unwrap();
    let never = std::time::Duration::MAX;
    here.lease(NOWAIT).unwrap().nack(never).unwrap();
    drop(there);
    assert_eq!(here.recv_vec(NOWAIT), Err(Error::Closed));
    assert!(here.poll(FOREVER).unwrap());
}

#[test]
fn a_lease_of_a_dead_receiver_is_received_by_another_at_its_end() {
    let _alone = alone();
    let (here, there) = Pipe::pair().unwrap();
    there.send(b"work", FOREVER).unwrap();
    fork(|| std::mem::forget(here.lease(FOREVER).unwrap())).wait();
    assert_eq!(here.recv_vec(FOREVER).unwrap(), b"work");
}

#[test]
fn a_timeout_holds_while_another_process_at_this_end_has_the_last_message() {
    let _alone = alone();
    let (here, sender) = Pipe::simplex().unwrap();
    let second = Pipe::open(here.name(), End::First).unwrap();
    sender.send(b"last", NOWAIT).unwrap();
    drop(sender);
    let lease = here.lease(NOWAIT).unwrap();
    // It may still be given back, so the pipe is not at its end.
    assert_eq!(second.recv_vec(NOWAIT), Err(Error::Timeout));
    assert_eq!(second.recv_vec(millis(5)), Err(Error::Timeout));
    assert_eq!(second.poll(NOWAIT), Ok(false));
    assert_eq!(second.poll(millis(5)), Ok(false));
    assert_eq!(second.lease(millis(5)).unwrap_err(), Error::Timeout);
    lease.nack(std::time::Duration::ZERO).unwrap();
    assert_eq!(second.recv_vec(NOWAIT).unwrap(), b"last");
    assert_eq!(second.recv_vec(FOREVER), Err(Error::Closed));
}
