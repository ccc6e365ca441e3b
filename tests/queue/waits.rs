//! A process that waits for a queue is woken when it can continue, and none waits forever.

use std::time::Duration;

use crate::common::{FOREVER, NOWAIT, alone, fixed, millis};
use shoal::{Error, Options, Queue};

/// A consumer that looks before it takes, and so never finds an empty queue.
fn drain_while_not_empty(queue: &Queue) -> usize {
    let mut taken = 0;
    while !queue.is_empty() {
        queue.get_vec(NOWAIT).unwrap();
        taken += 1;
    }
    taken
}

#[test]
fn padding_alone_does_not_block_a_large_message() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(&[0; 1000], NOWAIT).unwrap();
    assert_eq!(drain_while_not_empty(&queue), 1);
    queue.put(&[1; 100], NOWAIT).unwrap();
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| queue.put(&[2; 4080], FOREVER));
        // It has found no room and sleeps.
        std::thread::sleep(Duration::from_millis(30));
        // Once, and not until the queue is empty: the producer may be fast.
        assert_eq!(queue.get_vec(NOWAIT), Ok(vec![1; 100]));
        assert_eq!(producer.join().unwrap(), Ok(()));
    });
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), [2; 4080]);
}

#[test]
fn padding_alone_does_not_block_a_small_message() {
    let _alone = alone();
    let queue = fixed(4096);
    queue.put(&[1; 100], NOWAIT).unwrap();
    assert_eq!(queue.put(&[2; 4000], NOWAIT), Err(Error::Timeout));
    assert_eq!(drain_while_not_empty(&queue), 1);
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    queue.put(&[3; 1500], NOWAIT).unwrap();
    queue.put(&[4; 1500], FOREVER).unwrap();
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_put_that_finds_no_room_leaves_the_ring_to_smaller_messages() {
    let _alone = alone();
    let large = vec![2; 3000];
    let failed: [fn(&Queue, &[u8]); 4] = [
        |_, _| {},
        |queue, large| assert_eq!(queue.put(large, NOWAIT), Err(Error::Timeout)),
        |queue, large| assert_eq!(queue.put(large, millis(1)), Err(Error::Timeout)),
        |queue, large| assert_eq!(queue.put_many(&[large], NOWAIT), Err(Error::Timeout)),
    ];
    for first in (0..4000).step_by(160) {
        let [expected, rest @ ..] = failed.map(|fail| {
            let queue = fixed(4096);
            queue.put(&vec![0; first], NOWAIT).unwrap();
            queue.get_vec(NOWAIT).unwrap();
            // So many that the large message fits nowhere.
            assert_eq!(queue.put_many(&[[1; 100]; 10], NOWAIT), Ok(10));
            fail(&queue, &large);
            (0..)
                .take_while(|_| queue.put(&[3; 16], NOWAIT).is_ok())
                .count()
        });
        assert!(expected > 80, "{expected}");
        assert_eq!(rest, [expected; 3], "from {first} on");
    }
}

#[test]
fn a_large_message_is_put_once_the_ring_is_empty_whatever_was_put_before_it() {
    let _alone = alone();
    for first in (0..4000).step_by(400) {
        let queue = fixed(4096);
        queue.put(&vec![0; first], NOWAIT).unwrap();
        queue.get_vec(NOWAIT).unwrap();
        assert_eq!(queue.put_many(&[[1; 100]; 10], NOWAIT), Ok(10));
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| queue.put(&[2; 3000], FOREVER));
            (0..10).for_each(|_| assert_eq!(queue.get_vec(FOREVER), Ok(vec![1; 100])));
            assert_eq!(queue.get_vec(FOREVER), Ok(vec![2; 3000]));
            assert_eq!(producer.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn an_empty_ring_takes_any_message_wherever_its_cursors_stand() {
    let _alone = alone();
    for first in (0..4000).step_by(16) {
        for large in [10, 2000, 2100, 3000, 4080] {
            let queue = fixed(4096);
            queue.put(&vec![0; first], NOWAIT).unwrap();
            assert_eq!(drain_while_not_empty(&queue), 1);
            queue.put(&vec![1; large], NOWAIT).unwrap();
            assert_eq!(queue.get_vec(NOWAIT).unwrap().len(), large);
        }
    }
}

#[test]
fn a_timeout_holds_while_others_take_everything() {
    let _alone = alone();
    let queue = fixed(1 << 16);
    std::thread::scope(|scope| {
        scope.spawn(|| while queue.put(&[0; 8], FOREVER).is_ok() {});
        for _ in 0..2 {
            scope.spawn(|| while queue.get_vec(FOREVER).is_ok() {});
        }
        for _ in 0..20 {
            match queue.get_vec(millis(5)) {
                Ok(_) | Err(Error::Timeout) => {}
                Err(err) => panic!("{err}"),
            }
        }
        queue.close().unwrap();
    });
}

#[test]
fn mixed_sizes_pass_through_a_ring_that_hardly_holds_the_largest() {
    let _alone = alone();
    let queue = fixed(4096);
    let sizes = |index: usize| [7, 4080, 100, 2040, 2100, 0, 3000, 1500][index * 5 % 8];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..4000 {
                queue
                    .put(&vec![index as u8; sizes(index)], FOREVER)
                    .unwrap();
            }
        });
        let mut index = 0;
        while index < 4000 {
            // Both kinds of consumers: one that waits, and one that polls first.
            let message = if index % 3 == 0 {
                queue.get_vec(FOREVER).unwrap()
            } else if queue.is_empty() {
                continue;
            } else {
                queue.get_vec(NOWAIT).unwrap()
            };
            assert_eq!(message, vec![index as u8; sizes(index)]);
            index += 1;
        }
    });
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

#[test]
fn a_ring_that_may_grow_never_makes_a_lone_process_wait() {
    let _alone = alone();
    let options = Options::create().capacity(4096).max_capacity(1 << 22);
    let queue = Queue::with_options(None, &options).unwrap();
    for index in 0..1000usize {
        queue
            .put(&vec![index as u8; index * 3 % 3500], FOREVER)
            .unwrap();
    }
    for index in 0..1000usize {
        assert_eq!(
            queue.get_vec(NOWAIT).unwrap(),
            vec![index as u8; index * 3 % 3500]
        );
    }
}
