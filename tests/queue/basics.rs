//! The promises of queues, through the public interface.

use std::time::Duration;

use crate::common::{NOWAIT, beside_others, fixed};
use shoal::{Error, Options, Queue, Timeout};

const SOON: Timeout = Timeout::Val(Duration::from_millis(20));

#[test]
fn messages_of_every_size_are_returned_unchanged_and_in_order() {
    let _beside = beside_others();
    let queue = fixed(1 << 14);
    for round in 0..3 {
        for len in 0..3000usize {
            let message: Vec<u8> = (0..len).map(|at| (at * 7 + len + round) as u8).collect();
            queue.put(&message, NOWAIT).unwrap();
            queue.put(&len.to_le_bytes(), NOWAIT).unwrap();
            assert_eq!(queue.get_vec(NOWAIT).unwrap(), message);
            assert_eq!(queue.get_vec(NOWAIT).unwrap(), len.to_le_bytes());
        }
    }
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Timeout));
}

#[test]
fn a_message_may_fill_the_whole_ring_wherever_the_cursors_stand() {
    let _beside = beside_others();
    let queue = fixed(4096);
    let largest = queue.max_message() as usize;
    assert_eq!(largest, 4080);
    for before in 0..300 {
        queue.put(&vec![1; before * 5], NOWAIT).unwrap();
        queue.get_vec(NOWAIT).unwrap();
        queue.put(&vec![2; largest], Timeout::Infinite).unwrap();
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), vec![2; largest]);
    }
}

#[test]
fn a_message_that_can_never_fit_is_refused_at_once_with_both_sizes() {
    let _beside = beside_others();
    let queue = fixed(4096);
    let err = queue.put(&[0; 4081], Timeout::Infinite).unwrap_err();
    assert_eq!(
        err,
        Error::TooLarge {
            what: "message",
            size: 4081,
            limit: 4080
        }
    );
    assert_eq!(
        err.to_string(),
        "message of 4081 bytes is larger than the limit of 4080 bytes"
    );
    assert_eq!(
        queue
            .put_many(&[[0u8; 5000]], Timeout::Infinite)
            .unwrap_err(),
        Error::TooLarge {
            what: "message",
            size: 5000,
            limit: 4080
        }
    );
    assert!(queue.is_empty());
}

#[test]
fn full_and_empty_queues_time_out_with_and_without_waiting() {
    let _beside = beside_others();
    let queue = fixed(4096);
    assert_eq!(queue.get(&mut [0; 8], NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.get(&mut [0; 8], SOON), Err(Error::Timeout));
    while queue.put(&[0; 100], NOWAIT).is_ok() {}
    assert_eq!(queue.put(&[0; 100], NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.put(&[0; 100], SOON), Err(Error::Timeout));
    assert_eq!(queue.len(), 4096 / 128);
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_with_the_size_and_the_message_stays() {
    let _beside = beside_others();
    let queue = fixed(4096);
    queue.put(b"0123456789", NOWAIT).unwrap();
    let small = Err(Error::BufferTooSmall {
        needed: 10,
        capacity: 9,
    });
    assert_eq!(queue.get(&mut [0; 9], NOWAIT), small);
    assert_eq!(queue.get_many_into(&mut [0; 9], &mut [0; 2], NOWAIT), small);
    let mut buf = [0; 10];
    assert_eq!(queue.get(&mut buf, NOWAIT), Ok(10));
    assert_eq!(&buf, b"0123456789");
}

#[test]
fn batches_put_and_take_as_much_as_fits() {
    let _beside = beside_others();
    let queue = fixed(4096);
    let items = vec![[3u8; 240]; 20];
    // 16 records of 256 bytes fit.
    assert_eq!(queue.put_many(&items, NOWAIT), Ok(16));
    assert_eq!(queue.put_many(&items, NOWAIT), Err(Error::Timeout));
    assert_eq!(queue.put_many(&Vec::<Vec<u8>>::new(), NOWAIT), Ok(0));
    let (mut buf, mut lens) = (vec![9], Vec::new());
    assert_eq!(queue.get_many(&mut buf, &mut lens, 5, NOWAIT), Ok(5));
    assert_eq!((buf.len(), &lens[..]), (1 + 5 * 240, &[240; 5][..]));
    assert_eq!(queue.get_many(&mut buf, &mut lens, 0, NOWAIT), Ok(0));
    let (mut buf, mut lens) = ([0; 500], [0; 8]);
    assert_eq!(queue.get_many_into(&mut buf, &mut lens, NOWAIT), Ok(2));
    assert_eq!(lens[..2], [240, 240]);
    assert_eq!(queue.len(), 9);
    let mut buf = Vec::new();
    assert_eq!(
        queue.get_many(&mut buf, &mut Vec::new(), 100, NOWAIT),
        Ok(9)
    );
    assert_eq!(
        queue.get_many(&mut buf, &mut Vec::new(), 100, NOWAIT),
        Err(Error::Timeout)
    );
}

#[test]
fn length_and_bytes_are_exact() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    let mut bytes = 0;
    for count in 0..500 {
        assert_eq!((queue.len(), queue.bytes()), (count, bytes));
        queue.put(&vec![0; count], NOWAIT).unwrap();
        bytes += count as u64;
    }
    for count in 0..500 {
        queue.get_vec(NOWAIT).unwrap();
        bytes -= count as u64;
        assert_eq!((queue.len(), queue.bytes()), (499 - count, bytes));
    }
}

#[test]
fn a_queue_grows_in_place_and_keeps_the_order() {
    let _beside = beside_others();
    let options = Options::create().capacity(4096).max_capacity(1 << 16);
    let queue = Queue::with_options(None, &options).unwrap();
    let (mut put, mut taken) = (0u32, 0u32);
    while queue.capacity() < 1 << 16 {
        // Three are put and one is taken: the head has another position at each growth.
        for _ in 0..3 {
            queue
                .put(&put.to_le_bytes().repeat(1 + put as usize % 40), NOWAIT)
                .unwrap();
            put += 1;
        }
        let message = queue.get_vec(NOWAIT).unwrap();
        assert_eq!(message, taken.to_le_bytes().repeat(1 + taken as usize % 40));
        taken += 1;
    }
    for index in taken..put {
        let message = queue.get_vec(NOWAIT).unwrap();
        assert_eq!(message, index.to_le_bytes().repeat(1 + index as usize % 40));
    }
    assert!(queue.is_empty());
    // Only up to its limit.
    while queue.put(&[0; 1000], NOWAIT).is_ok() {}
    assert_eq!(queue.capacity(), 1 << 16);
}

#[test]
fn the_ring_of_a_stream_grows_although_it_is_never_full_and_shrinks_after_it() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    let (initial, batch) = (queue.capacity(), [[7; 64]; 64]);
    let (mut buf, mut lens) = ([0; 64 * 64], [0; 64]);
    // Alternating puts and gets are no stream, however fast they are.
    for _ in 0..100_000 {
        queue.put(&[7; 64], NOWAIT).unwrap();
        assert_eq!(queue.get(&mut buf, NOWAIT), Ok(64));
    }
    assert_eq!(queue.capacity(), initial);
    while queue.capacity() < 1 << 20 {
        assert_eq!(queue.put_many(&batch, NOWAIT), Ok(64));
        assert!(queue.bytes() < initial / 8);
        assert_eq!(queue.get_many_into(&mut buf, &mut lens, NOWAIT), Ok(64));
        assert_eq!((buf, lens), ([7; 64 * 64], [64; 64]));
    }
    while queue.capacity() > initial {
        assert_eq!(queue.get_vec(SOON), Err(Error::Timeout));
    }
}

#[test]
fn a_million_messages_wait_for_a_reader() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    for index in 0..1_000_000u32 {
        queue.put(&index.to_le_bytes(), NOWAIT).unwrap();
    }
    assert_eq!(queue.len(), 1_000_000);
    let mut buf = [0; 4];
    for index in 0..1_000_000u32 {
        assert_eq!(queue.get(&mut buf, NOWAIT), Ok(4));
        assert_eq!(u32::from_le_bytes(buf), index);
    }
}

#[test]
fn a_queue_that_grew_returns_its_memory() {
    let _beside = beside_others();
    let queue = Queue::anonymous().unwrap();
    let committed = || shoal::stat(queue.name()).unwrap().committed;
    let empty = committed();
    assert!(empty < queue.capacity() + (64 << 10), "{empty}");
    queue.put(&vec![1; 5 << 20], NOWAIT).unwrap();
    assert!(committed() > 5 << 20);
    queue.get_vec(NOWAIT).unwrap();
    // A consumer that waits without a message returns the memory, if it sleeps at all.
    while committed() > empty {
        assert_eq!(queue.get_vec(SOON), Err(Error::Timeout));
    }
    queue.put(&vec![2; 1 << 20], NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), vec![2; 1 << 20]);
}

#[test]
fn a_closed_queue_is_drained_and_then_returns_an_error() {
    let _beside = beside_others();
    let queue = fixed(4096);
    queue.put(b"last", NOWAIT).unwrap();
    queue.close().unwrap();
    queue.close().unwrap();
    assert!(queue.is_closed());
    assert_eq!(queue.put(b"late", Timeout::Infinite), Err(Error::Closed));
    assert_eq!(
        queue.put_many(&[b"late"], Timeout::Infinite),
        Err(Error::Closed)
    );
    assert_eq!(queue.get_vec(Timeout::Infinite).unwrap(), b"last");
    assert_eq!(queue.get_vec(Timeout::Infinite), Err(Error::Closed));
    assert_eq!(queue.get_vec(NOWAIT), Err(Error::Closed));
}

#[test]
fn closing_wakes_all_waiters() {
    let _beside = beside_others();
    let (empty, full) = (fixed(4096), fixed(4096));
    while full.put(&[0; 100], NOWAIT).is_ok() {}
    std::thread::scope(|scope| {
        let getters = [(); 2].map(|()| scope.spawn(|| empty.get_vec(Timeout::Infinite)));
        let putters = [(); 2].map(|()| scope.spawn(|| full.put(&[0; 100], Timeout::Infinite)));
        std::thread::sleep(Duration::from_millis(20));
        empty.close().unwrap();
        full.close().unwrap();
        for getter in getters {
            assert_eq!(getter.join().unwrap(), Err(Error::Closed));
        }
        for putter in putters {
            assert_eq!(putter.join().unwrap(), Err(Error::Closed));
        }
    });
}

#[test]
fn invalid_options_are_refused() {
    let _beside = beside_others();
    let make = |options: Options| Queue::with_options(None, &options).map(drop);
    let inverted = make(Options::create().capacity(1 << 20).max_capacity(4096));
    assert!(matches!(inverted, Err(Error::Invalid { .. })));
    for (huge, called) in [
        (Options::create().max_capacity(u64::MAX), "max_capacity of "),
        (Options::create().capacity(u64::MAX), "capacity of "),
    ] {
        let err = make(huge).unwrap_err();
        assert!(matches!(err, Error::TooLarge { .. }), "{err}");
        assert!(err.to_string().starts_with(called), "{err}");
    }
    let queue = Queue::with_options(None, &Options::create().capacity(5000)).unwrap();
    assert_eq!(queue.capacity(), 8192);
}
