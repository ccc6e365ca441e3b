//! Every operation of a queue, killed at every one of its crash points.
//!
//! A forked child runs the operation and dies at step N. The survivor then finds every
//! committed message, in order and exactly counted, and the operation done wholly or not at
//! all; the queue still works. N grows until the child completes the operation.

use std::collections::VecDeque;
use std::time::Duration;

use crate::common::crash::lives;
use crate::common::{NOWAIT, alone};
use shoal::{Error, Options, Queue, Timeout};

type Model = VecDeque<Vec<u8>>;

/// Message `index`, of a size and a content of its own.
fn message(index: usize) -> Vec<u8> {
    (0..(index * 37) % 300)
        .map(|at| (at + index) as u8)
        .collect()
}

fn small() -> Options {
    Options::create().capacity(4096).max_capacity(1 << 20)
}

/// Puts messages `range` and returns them.
fn filled(queue: &Queue, range: std::ops::Range<usize>) -> Model {
    let messages: Model = range.map(message).collect();
    for message in &messages {
        queue.put(message, NOWAIT).unwrap();
    }
    messages
}

/// Kills `operation` at every step on a queue that `prepare` filled, and lets `allowed` say
/// which contents it may leave, given what was there before. Returns the steps there were.
fn kill_everywhere(
    options: &Options,
    prepare: impl Fn(&Queue) -> Model,
    operation: impl Fn(&Queue),
    allowed: impl Fn(&Model) -> Vec<Model>,
) -> u64 {
    let _alone = alone();
    for step in 1.. {
        assert!(step < 5000, "the operation never ends");
        let queue = Queue::with_options(None, options).unwrap();
        let before = prepare(&queue);
        let lived = lives(step, || operation(&queue));

        let (len, bytes) = (queue.len(), queue.bytes());
        let mut after = Model::new();
        loop {
            match queue.get_vec(NOWAIT) {
                Ok(message) => after.push_back(message),
                Err(Error::Timeout | Error::Closed) => break,
                Err(err) => panic!("step {step}: {err}"),
            }
        }
        assert_eq!(len, after.len(), "step {step}");
        assert_eq!(
            bytes,
            after.iter().map(|it| it.len() as u64).sum::<u64>(),
            "step {step}"
        );
        assert!(
            allowed(&before).contains(&after),
            "step {step}: {} messages",
            after.len()
        );
        if lived {
            assert_eq!(
                allowed(&before).last(),
                Some(&after),
                "it was done to the end"
            );
        }

        // The survivor can do everything that the dead process could, growth included if the queue can grow.
        let many = if queue.max_capacity() > queue.capacity() {
            100
        } else {
            5
        };
        for _ in 0..if queue.is_closed() { 0 } else { 20 } {
            for message in filled(&queue, 0..many) {
                assert_eq!(queue.get_vec(NOWAIT).unwrap(), message);
            }
        }
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        if lived {
            return step - 1;
        }
    }
    unreachable!()
}

fn and(model: &Model, more: &[Vec<u8>]) -> Model {
    model.iter().chain(more).cloned().collect()
}

#[test]
fn a_put_happens_or_does_not() {
    let new = vec![7; 100];
    let steps = kill_everywhere(
        &small(),
        |queue| filled(queue, 0..5),
        |queue| queue.put(&new, NOWAIT).unwrap(),
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
    assert!(steps >= 5, "{steps}");
}

#[test]
fn a_put_within_a_bound_on_messages_happens_or_does_not() {
    let options = Options::create().capacity(4096).max_capacity(4096);
    let new = vec![7; 100];
    kill_everywhere(
        &options.max_items(6),
        |queue| filled(queue, 0..5),
        |queue| {
            queue.put(&new, NOWAIT).unwrap();
            assert_eq!(queue.put(&new, NOWAIT), Err(Error::Timeout));
        },
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
}

#[test]
fn a_put_that_pads_the_end_of_the_ring_happens_or_does_not() {
    let options = Options::create().capacity(4096).max_capacity(4096);
    let new = vec![9; 1000];
    let steps = kill_everywhere(
        &options,
        |queue| {
            // The cursors stand 496 bytes before the end.
            queue.put(&[1; 3584], NOWAIT).unwrap();
            queue.get_vec(NOWAIT).unwrap();
            Model::new()
        },
        |queue| queue.put(&new, NOWAIT).unwrap(),
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
    assert!(steps >= 9, "{steps}");
}

/// Puts this batch at every step.
fn put_up_to_some_message(options: &Options, batch: &[Vec<u8>]) {
    kill_everywhere(
        options,
        |queue| filled(queue, 0..5),
        |queue| assert_eq!(queue.put_many(batch, NOWAIT).unwrap(), batch.len()),
        |before| {
            let done = 0..=batch.len();
            done.map(|done| and(before, &batch[..done])).collect()
        },
    );
}

#[test]
fn a_batch_is_put_up_to_some_message() {
    let batch: Vec<Vec<u8>> = (10..15).map(message).collect();
    put_up_to_some_message(&small(), &batch);
}

#[test]
fn a_large_batch_is_put_up_to_some_message() {
    // More than a batch holds back before it publishes.
    let batch: Vec<Vec<u8>> = (0..4).map(|index| vec![index; 40_000]).collect();
    let options = Options::create().capacity(1 << 20).max_capacity(1 << 20);
    put_up_to_some_message(&options, &batch);
}

#[test]
fn a_reservation_is_committed_or_leaves_nothing() {
    let new = vec![5; 90];
    let commit = |queue: &Queue, reserved: usize| {
        let mut room = queue.reserve(reserved, NOWAIT).unwrap();
        room[..90].fill(5);
        room.commit_first(90).unwrap();
    };
    for (reserved, at_least) in [(90, 10), (400, 12)] {
        let steps = kill_everywhere(
            &small(),
            |queue| filled(queue, 0..5),
            |queue| commit(queue, reserved),
            |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
        );
        assert!(steps >= at_least, "{steps}");
    }
}

#[test]
fn a_reservation_that_is_discarded_leaves_nothing() {
    let steps = kill_everywhere(
        &small(),
        |queue| filled(queue, 0..5),
        |queue| queue.reserve(100, NOWAIT).unwrap().discard(),
        |before| vec![before.clone()],
    );
    assert!(steps >= 6, "{steps}");
}

#[test]
fn discarding_a_dead_processs_reservation_may_be_left_to_the_next() {
    let next = vec![6; 30];
    let steps = kill_everywhere(
        &small(),
        |queue| {
            let mut model = filled(queue, 0..5);
            let reserve = || std::mem::forget(queue.reserve(100, NOWAIT).unwrap());
            assert!(lives(0, reserve));
            queue.put(&next, NOWAIT).unwrap();
            model.push_back(next.clone());
            model
        },
        |queue| while queue.get_vec(NOWAIT).is_ok() {},
        |before| {
            let rest = |taken| before.iter().skip(taken).cloned().collect();
            (0..=before.len()).map(rest).collect()
        },
    );
    assert!(steps >= 10, "{steps}");
}

#[test]
fn a_get_takes_its_message_or_leaves_it() {
    let steps = kill_everywhere(
        &small(),
        |queue| filled(queue, 1..6),
        |queue| drop(queue.get_vec(NOWAIT).unwrap()),
        |before| vec![before.clone(), before.iter().skip(1).cloned().collect()],
    );
    assert!(steps >= 3, "{steps}");
}

#[test]
fn a_batch_is_taken_whole_or_left() {
    kill_everywhere(
        &small(),
        |queue| filled(queue, 1..9),
        |queue| {
            let (mut buf, mut lens) = (Vec::new(), Vec::new());
            assert_eq!(queue.get_many(&mut buf, &mut lens, 5, NOWAIT).unwrap(), 5);
        },
        |before| vec![before.clone(), before.iter().skip(5).cloned().collect()],
    );
}

#[test]
fn growth_moves_every_message_or_none() {
    let new = vec![5; 2000];
    let steps = kill_everywhere(
        &small(),
        |queue| {
            // Two messages that lie on both sides of the ring's end.
            queue.put(&[0; 2500], NOWAIT).unwrap();
            let rest = [vec![1; 1500], vec![2; 1800]];
            queue.put(&rest[0], NOWAIT).unwrap();
            queue.get_vec(NOWAIT).unwrap();
            queue.put(&rest[1], NOWAIT).unwrap();
            rest.into()
        },
        |queue| {
            queue.put(&new, NOWAIT).unwrap();
            assert!(queue.capacity() > 4096);
        },
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
    assert!(steps >= 7, "{steps}");
}

#[test]
fn a_get_that_grows_the_ring_of_a_stream_takes_its_message_or_does_not() {
    let options = Options::create().capacity(4 << 20).max_capacity(8 << 20);
    let kill = || {
        kill_everywhere(
            &options,
            |queue| {
                // Records of 16 bytes: one turn, and then so many at once that they are a stream
                // though a tenth of a second passes until the next get. What follows lies on both
                // sides of the ring's end.
                for count in [8192, (4 << 20) / 16 - 8192 - 20] {
                    assert_eq!(queue.put_many(&vec![[0; 0]; count], NOWAIT), Ok(count));
                    let taken = queue.get_many_into(&mut [], &mut vec![0; count], NOWAIT);
                    assert_eq!(taken, Ok(count));
                }
                filled(queue, 1..6)
            },
            |queue| assert_eq!(queue.get_vec(NOWAIT).unwrap(), message(1)),
            |before| vec![before.clone(), before.iter().skip(1).cloned().collect()],
        )
    };
    // A get has 6 steps, and one that grows the ring more than twice as many. On a busy machine it
    // may come so late that the stream has ended: then the test tries again.
    assert!((0..200).any(|_| kill() > 12));
}

#[test]
fn a_message_as_large_as_the_ring_moves_padding_out_of_its_way_or_does_not() {
    let options = Options::create().capacity(4096).max_capacity(4096);
    let new = vec![3; 4096 - 16];
    kill_everywhere(
        &options,
        |queue| {
            queue.put(&[1; 1000], NOWAIT).unwrap();
            queue.get_vec(NOWAIT).unwrap();
            Model::new()
        },
        |queue| queue.put(&new, Timeout::Infinite).unwrap(),
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
}

#[test]
fn padding_is_skipped_or_not_beside_returned_messages() {
    let options = Options::create().capacity(4096).max_capacity(4096);
    let new = vec![3; 4096 - 16];
    let steps = kill_everywhere(
        &options,
        |queue| {
            queue.put(&[1; 1000], NOWAIT).unwrap();
            queue.get_vec(NOWAIT).unwrap();
            // Empty, since its bytes are not counted any more.
            queue.put(&[], NOWAIT).unwrap();
            let lease = queue.lease(NOWAIT).unwrap();
            lease.nack(Duration::ZERO).unwrap();
            Model::from([vec![]])
        },
        |queue| queue.put(&new, Timeout::Infinite).unwrap(),
        |before| vec![before.clone(), and(before, std::slice::from_ref(&new))],
    );
    assert!(steps >= 8, "{steps}");
}

#[test]
fn shrinking_loses_nothing() {
    let steps = kill_everywhere(
        &small(),
        |queue| {
            for message in filled(queue, 0..200) {
                assert_eq!(queue.get_vec(NOWAIT).unwrap(), message);
            }
            assert!(queue.capacity() > 4096);
            Model::new()
        },
        |queue| {
            while queue.capacity() > 4096 {
                let nothing = queue.get_vec(Timeout::Val(Duration::from_millis(20)));
                assert_eq!(nothing, Err(Error::Timeout));
            }
        },
        |before| vec![before.clone()],
    );
    assert!(steps >= 1, "{steps}");
}

#[test]
fn closing_leaves_present_messages() {
    kill_everywhere(
        &small(),
        |queue| filled(queue, 0..5),
        |queue| queue.close().unwrap(),
        |before| vec![before.clone()],
    );
}
