//! What a queue promises when its processes come, go and die.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal::{Error, Options, Queue, Timeout};

const NOWAIT: Timeout = Timeout::Val(Duration::ZERO);

/// A forked child joins every queue this process has open, so one test runs at a time: a
/// child that is killed must not be the last participant of another test's queue.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fixed(capacity: u64) -> Queue {
    let options = Options::create().capacity(capacity).max_capacity(capacity);
    Queue::with_options(None, &options).unwrap()
}

fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{what}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Runs `work` in a forked child, which leaves with its answer as exit code.
fn fork(work: impl FnOnce() -> bool) -> libc::pid_t {
    // SAFETY: the child takes no lock another thread may hold (malloc is made for fork) and
    // leaves without unwinding or running destructors.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // SAFETY: a watchdog, should the child hang, and its end.
        unsafe {
            libc::alarm(60);
            let right = work();
            libc::_exit(i32::from(!right));
        }
    }
    pid
}

/// Waits for a child and returns its raw status.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: our own child and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

#[test]
fn many_processes_get_every_message_exactly_once_and_each_producers_in_order() {
    let _alone = alone();
    const PROCESSES: u32 = 3;
    const EACH: u32 = 20_000;
    let (queue, results) = (fixed(1 << 16), Queue::anonymous().unwrap());
    let producers: Vec<_> = (0..PROCESSES)
        .map(|who| {
            fork(|| {
                (0..EACH).all(|index| {
                    let message = [who.to_le_bytes(), index.to_le_bytes()].concat();
                    let padded = [&message[..], &vec![0; index as usize % 100]].concat();
                    queue.put(&padded, Timeout::Infinite).is_ok()
                })
            })
        })
        .collect();
    let consumers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            fork(|| {
                let mut seen = Vec::new();
                while let Ok(message) = queue.get_vec(Timeout::Infinite) {
                    seen.extend_from_slice(&message[..8]);
                }
                results.put(&seen, Timeout::Infinite).is_ok()
            })
        })
        .collect();
    for pid in producers {
        assert_eq!(wait(pid), 0);
    }
    queue.close().unwrap();
    for pid in consumers {
        assert_eq!(wait(pid), 0);
    }
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
fn an_idle_consumer_that_is_killed_takes_nobody_along() {
    let _alone = alone();
    let (queue, results) = (fixed(1 << 16), Queue::anonymous().unwrap());
    let idle = fork(|| queue.get_vec(Timeout::Infinite).is_ok());
    let other = fork(|| {
        let mut count = 0u32;
        while queue.get_vec(Timeout::Infinite).is_ok() {
            count += 1;
        }
        results.put(&count.to_le_bytes(), Timeout::Infinite).is_ok()
    });
    std::thread::sleep(Duration::from_millis(30));
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(idle, libc::SIGKILL) };
    assert!(libc::WIFSIGNALED(wait(idle)));
    for _ in 0..1000 {
        queue.put(b"work", Timeout::Infinite).unwrap();
    }
    queue.close().unwrap();
    assert_eq!(wait(other), 0);
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
            // Again and again: one that comes between two slices of the sleep is not seen.
            timer.it_value.tv_usec = 7_000;
            timer.it_interval.tv_usec = 7_000;
            libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
        }
        let interrupted = queue.get_vec(Timeout::Infinite) == Err(Error::Interrupted);
        interrupted && CAUGHT.load(Ordering::SeqCst)
    });
    assert_eq!(wait(child), 0);
}

#[test]
fn a_queue_outlives_its_creator_as_long_as_somebody_has_it() {
    let _alone = alone();
    let name = unique("creator");
    let (ready, go) = (Queue::anonymous().unwrap(), Queue::anonymous().unwrap());
    let creator = fork(|| {
        let queue = Queue::create(&name).unwrap();
        queue.put(b"from the creator", NOWAIT).unwrap();
        ready.put(b"", NOWAIT).unwrap();
        go.get_vec(Timeout::Infinite).is_ok()
    });
    ready.get_vec(Timeout::Infinite).unwrap();
    let queue = Queue::open(&name).unwrap();
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(creator, libc::SIGKILL) };
    wait(creator);
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"from the creator");
    assert_eq!(Queue::open(&name).unwrap().len(), 0);
    drop(queue);
    assert!(matches!(Queue::open(&name), Err(Error::NotFound { .. })));
}

/// Producers and consumers are killed at random moments and replaced, for `seconds`.
///
/// Each producer puts its number and 0, 1, 2 …; each consumer passes on what it got. A
/// consumer that is killed may take the one message along that it had in its hands; nothing
/// else may be missing, nothing may come twice, and nothing may be invented.
fn kill_at_random(seconds: f64) {
    let (queue, results) = (fixed(1 << 14), Queue::anonymous().unwrap());
    let stop = Queue::anonymous().unwrap();
    let producer = |who: u32| {
        fork(|| {
            for index in 0u32.. {
                let message = [who.to_le_bytes(), index.to_le_bytes()].concat();
                let padded = [&message[..], &vec![0; index as usize % 60]].concat();
                // Every other message is written in place, into too much room, after a first
                // attempt that comes to nothing.
                let put = if index % 2 == 0 {
                    queue.put(&padded, Timeout::Infinite)
                } else {
                    let len = padded.len();
                    let room = || queue.reserve(len + index as usize % 40, Timeout::Infinite);
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
            true
        })
    };
    let consumer = || {
        fork(|| {
            while let Ok(message) = queue.get_vec(Timeout::Infinite) {
                if results.put(&message[..8], Timeout::Infinite).is_err() {
                    return false;
                }
            }
            true
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
    let (start, mut killed_consumers, mut random) = (std::time::Instant::now(), 0, 0x9e37_79b9u64);
    while start.elapsed().as_secs_f64() < seconds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_micros(random % 4000));
        let side = if random & 1 == 0 {
            &mut producers
        } else {
            &mut consumers
        };
        let place = (random >> 1) as usize % 2;
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(side[place], libc::SIGKILL) };
        wait(side[place]);
        if random & 1 == 0 {
            producers[place] = produce(&mut seen);
        } else {
            killed_consumers += 1;
            consumers[place] = consumer();
        }
        collect(&mut seen, &mut buf);
    }
    stop.put(b"", NOWAIT).unwrap();
    for pid in producers {
        assert_eq!(wait(pid), 0);
    }
    queue.close().unwrap();
    for pid in consumers {
        assert_eq!(wait(pid), 0);
    }
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
    let total: usize = seen.iter().map(Vec::len).sum();
    println!("{total} messages of {next} producers; {lost} went with {killed_consumers} consumers");
    assert!(total > 1000);
}

#[test]
fn random_kills_lose_nothing_but_what_the_dead_had_in_their_hands() {
    let _alone = alone();
    kill_at_random(2.0);
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test queue_processes -- --ignored`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let _alone = alone();
    let seconds = std::env::var("SHOAL_SOAK_SECONDS")
        .ok()
        .and_then(|it| it.parse().ok());
    kill_at_random(seconds.unwrap_or(60.0));
}
