//! What a queue promises when its processes come, go and die.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Bell, Child, FOREVER, NOWAIT, Name, Random, alone, fixed, fork};
use shoal::{Error, Queue};

#[test]
fn many_processes_get_every_message_exactly_once_and_each_producers_in_order() {
    let _alone = alone();
    const PROCESSES: u32 = 3;
    const EACH: u32 = 20_000;
    let (queue, results) = (fixed(1 << 16), Queue::anonymous().unwrap());
    let producers: Vec<_> = (0..PROCESSES)
        .map(|who| {
            fork(|| {
                for index in 0..EACH {
                    let message = [who.to_le_bytes(), index.to_le_bytes()].concat();
                    let padded = [&message[..], &vec![0; index as usize % 100]].concat();
                    queue.put(&padded, FOREVER).unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            fork(|| {
                let mut seen = Vec::new();
                while let Ok(message) = queue.get_vec(FOREVER) {
                    seen.extend_from_slice(&message[..8]);
                }
                results.put(&seen, FOREVER).unwrap();
            })
        })
        .collect();
    producers.into_iter().for_each(Child::ends_well);
    queue.close().unwrap();
    consumers.into_iter().for_each(Child::ends_well);
    let mut all = BTreeMap::new();
    for _ in 0..PROCESSES {
        let mut last = [None; PROCESSES as usize];
        for pair in results.get_vec(NOWAIT).unwrap().as_chunks::<8>().0 {
            let (who, index) = pair.split_at(4);
            let who = u32::from_le_bytes(who.try_into().unwrap());
            let index = u32::from_le_bytes(index.try_into().unwrap());
            assert!(last[who as usize] < Some(index), "out of order");
            last[who as usize] = Some(index);
            assert_eq!(all.insert((who, index), ()), None, "twice");
        }
    }
    assert_eq!(all.len(), (PROCESSES * EACH) as usize);
}

#[test]
fn an_idle_consumer_that_is_killed_does_not_affect_others() {
    let _alone = alone();
    let (queue, results) = (fixed(1 << 16), Queue::anonymous().unwrap());
    let mut idle = fork(|| drop(queue.get_vec(FOREVER)));
    idle.wait_asleep();
    let other = fork(|| {
        let mut count = 0u32;
        while queue.get_vec(FOREVER).is_ok() {
            count += 1;
        }
        results.put(&count.to_le_bytes(), FOREVER).unwrap();
    });
    idle.kill();
    for _ in 0..1000 {
        queue.put(b"work", FOREVER).unwrap();
    }
    queue.close().unwrap();
    other.ends_well();
    assert_eq!(results.get_vec(NOWAIT).unwrap(), 1000u32.to_le_bytes());
}

#[test]
fn a_signal_handler_that_runs_ends_the_wait() {
    let _alone = alone();
    static CAUGHT: AtomicBool = AtomicBool::new(false);
    extern "C" fn caught(_: i32) {
        CAUGHT.store(true, Ordering::SeqCst);
    }
    let queue = fixed(4096);
    let child = fork(|| {
        // SAFETY: a handler that only stores, and an alarm of our own.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = caught as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
            let mut timer: libc::itimerval = std::mem::zeroed();
            // Repeatedly: a signal between two slices of the sleep is not seen.
            timer.it_value.tv_usec = 7_000;
            timer.it_interval.tv_usec = 7_000;
            libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        }
        assert_eq!(queue.get_vec(FOREVER), Err(Error::Interrupted));
        assert!(CAUGHT.load(Ordering::SeqCst));
    });
    child.ends_well();
}

#[test]
fn a_queue_outlives_its_creator_as_long_as_a_process_has_it() {
    let _alone = alone();
    let name = Name::new("creator");
    let (ready, never) = (Bell::new(), Bell::new());
    let creator = fork(|| {
        let queue = Queue::create(&name).unwrap();
        queue.put(b"from the creator", NOWAIT).unwrap();
        ready.ring();
        never.hear();
    });
    ready.hear();
    let queue = Queue::open(&name).unwrap();
    creator.kill();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"from the creator");
    assert_eq!(Queue::open(&name).unwrap().len(), 0);
    drop(queue);
    assert!(matches!(Queue::open(&name), Err(Error::NotFound { .. })));
}

/// Producers and consumers are killed at random moments and replaced, for a while.
///
/// Each producer puts its number and 0, 1, 2 …; each consumer passes on the messages. A consumer that is killed may
/// lose the one message that it was taking. No other message may be missing, and none may be duplicated or made up.
/// The test continues until more messages than this have arrived, on a busy machine too.
const LEAST_MESSAGES: usize = 1000;

fn kill_at_random(length: Duration) {
    let (queue, results) = (fixed(1 << 14), Queue::anonymous().unwrap());
    let stop = Queue::anonymous().unwrap();
    let producer = |who: u32| {
        fork(|| {
            for index in 0u32.. {
                let message = [who.to_le_bytes(), index.to_le_bytes()].concat();
                let padded = [&message[..], &vec![0; index as usize % 60]].concat();
                // Every other message is written in place, into a reservation that is too large, after
                // a first reservation that is dropped.
                let put = if index % 2 == 0 {
                    queue.put(&padded, FOREVER)
                } else {
                    let len = padded.len();
                    let room = || queue.reserve(len + index as usize % 40, FOREVER);
                    room().map(drop).and_then(|()| {
                        let mut room = room()?;
                        room[..len].copy_from_slice(&padded);
                        room.commit_first(len)
                    })
                };
                if put.is_err() || !stop.is_empty() {
                    break;
                }
            }
        })
    };
    let consumer = || {
        fork(|| {
            while let Ok(message) = queue.get_vec(FOREVER) {
                results.put(&message[..8], FOREVER).unwrap();
            }
        })
    };
    let mut seen: Vec<Vec<u32>> = Vec::new();
    let (mut buf, mut lens) = (Vec::new(), Vec::new());
    let mut collect = |seen: &mut Vec<Vec<u32>>, buf: &mut Vec<u8>| {
        buf.clear();
        let _ = results.get_many(buf, &mut lens, 100_000, NOWAIT);
        for pair in buf.as_chunks::<8>().0 {
            let word = |at: usize| u32::from_le_bytes(pair[at..at + 4].try_into().unwrap());
            assert!((word(0) as usize) < seen.len(), "a message nobody sent");
            seen[word(0) as usize].push(word(4));
        }
    };

    let mut next = 0;
    let mut produce = |seen: &mut Vec<Vec<u32>>| {
        seen.push(Vec::new());
        next += 1;
        producer(next - 1)
    };
    let mut producers = vec![produce(&mut seen), produce(&mut seen)];
    let mut consumers = vec![consumer(), consumer()];
    let (start, mut killed_consumers, mut random) = (Instant::now(), 0, Random(0x9e37_79b9));
    let total = |seen: &[Vec<u32>]| seen.iter().map(Vec::len).sum::<usize>();
    while start.elapsed() < length || total(&seen) <= LEAST_MESSAGES {
        std::thread::sleep(Duration::from_micros(random.below(4000)));
        if random.below(2) == 0 {
            producers.swap_remove(random.below(2) as usize).kill();
            producers.push(produce(&mut seen));
        } else {
            consumers.swap_remove(random.below(2) as usize).kill();
            killed_consumers += 1;
            consumers.push(consumer());
        }
        collect(&mut seen, &mut buf);
    }
    stop.put(b"", NOWAIT).unwrap();
    producers.into_iter().for_each(Child::ends_well);
    queue.close().unwrap();
    consumers.into_iter().for_each(Child::ends_well);
    while !results.is_empty() {
        collect(&mut seen, &mut buf);
    }

    let mut lost = 0;
    for indices in &mut seen {
        let count = indices.len();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), count, "a message came twice");
        lost += indices.last().map_or(0, |last| *last as usize + 1 - count);
    }
    assert!(
        lost <= killed_consumers,
        "{lost} lost, {killed_consumers} consumers killed"
    );
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    let total = total(&seen);
    println!("{total} messages of {next} producers; {lost} went with {killed_consumers} consumers");
    assert!(total > LEAST_MESSAGES);
}

#[test]
fn random_kills_lose_only_messages_that_dead_processes_had_taken() {
    let _alone = alone();
    kill_at_random(Duration::from_secs(2));
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test queue processes::soak -- --ignored`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    kill_at_random(crate::common::soak_length());
}
