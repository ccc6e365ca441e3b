//! What happens when the system refuses: other users, no memory, no descriptors, signals.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::group::Group;
use crate::common::shm::{Filler, free, with_small_shm};
use crate::common::{
    Bell, Child, FOREVER, NOWAIT, Name, alone, fixed, fork, fork_and_exit, millis, tiny,
};
use shoal::{Array, Error, List, Map, Options, Pipe, Queue};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn another_users_object_is_refused_naming_both_users() {
    let _alone = alone();
    if !is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let name = Name::new("theirs");
    let queue = Queue::with_options(Some(&name), &tiny().persistent()).unwrap();
    queue.put(b"private", NOWAIT).unwrap();
    drop(queue);
    let mode = std::fs::metadata(name.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may even look");

    // Root may open every file; the library must refuse it anyway.
    std::os::unix::fs::chown(name.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let err = Queue::open(&name).unwrap_err();
    assert!(matches!(err, Error::Permission { .. }));
    let sentence = err.to_string();
    for part in [&*name, "65534", "user 65534", "runs as 0"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    assert!(matches!(
        Queue::create(&name),
        Err(Error::Permission { .. })
    ));
    assert_eq!(shoal::stat(&name).unwrap().problem, Some(err.clone()));
    let unfinished = format!("/dev/shm/shoal~{}-theirs", std::process::id());
    std::fs::write(&unfinished, b"").unwrap();
    std::os::unix::fs::chown(&unfinished, Some(NOBODY), Some(NOBODY)).unwrap();
    shoal::gc(false).unwrap();
    assert!(name.has_file());
    std::fs::remove_file(unfinished).expect("gc left it alone");
    // Removing it by its name is refused too, although root could.
    for refused in [Queue::unlink(&name), shoal::unlink(&name)] {
        assert_eq!(refused, Err(err.clone()));
    }
    assert!(name.has_file());
    std::fs::remove_file(name.path()).unwrap();
}

#[test]
fn a_user_without_permission_gets_an_error() {
    let _alone = alone();
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let name = Name::new("ours");
    let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    let own = Name::new("nobodys");
    let (ready, go) = (Bell::new(), Bell::new());
    let stranger = fork(|| {
        // SAFETY: only this process changes its user.
        unsafe {
            assert_eq!(libc::setgid(NOBODY), 0);
            assert_eq!(libc::setuid(NOBODY), 0);
        }
        for refused in [
            Queue::open(&name).map(drop),
            Queue::create(&name).map(drop),
            shoal::unlink(&name),
        ] {
            assert!(
                matches!(refused, Err(Error::Permission { .. })),
                "{refused:?}"
            );
        }
        let info = shoal::stat(&name).unwrap();
        assert!(matches!(info.problem, Some(Error::Permission { .. })));
        shoal::gc(false).unwrap();
        shoal::list().unwrap();
        // An object of the same user works.
        let queue = Queue::with_options(Some(&own), &tiny()).unwrap();
        queue.put(b"x", NOWAIT).unwrap();
        ready.ring();
        go.hear();
        drop(queue);
    });
    ready.hear();
    assert_eq!(std::fs::metadata(own.path()).unwrap().uid(), NOBODY);
    assert!(matches!(Queue::open(&own), Err(Error::Permission { .. })));
    go.ring();
    stranger.ends_well();
    assert!(queue.is_empty());
}

#[test]
fn nothing_is_created_in_a_full_shm_and_the_sizes_are_reported() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        let large = Options::create().capacity(4 << 20);
        for name in [None, Some("large")] {
            let err = Queue::with_options(name, &large).unwrap_err();
            let Error::NoSpace {
                needed, available, ..
            } = err
            else {
                panic!("{err}")
            };
            assert!(needed >= 4 << 20, "{needed}");
            assert!(available <= 1 << 20 && available > 1 << 19, "{available}");
            assert!(err.to_string().contains(&needed.to_string()));
            assert_eq!(free(), 1 << 20);
        }
        // Smaller messages, until none fits.
        let mut queues = Vec::new();
        let err = loop {
            match Queue::with_options(None, &tiny()) {
                Ok(queue) => queues.push(queue),
                Err(err) => break err,
            }
        };
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert!(queues.len() > 5);
        for queue in &queues {
            queue.put(&[1; 4000], NOWAIT).unwrap();
            assert_eq!(Queue::open(queue.name()).unwrap().len(), 1);
        }
        assert!(matches!(Map::anonymous(), Err(Error::NoSpace { .. })));
    });
}

#[test]
fn a_queue_that_cannot_grow_for_lack_of_memory_stays_consistent() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        let queue = Queue::with_options(None, &Options::create().capacity(4096)).unwrap();
        let message = |index: usize| vec![index as u8; index * 13 % 2000];
        let mut count = 0;
        let err = loop {
            match queue.put(&message(count), NOWAIT) {
                Ok(()) => count += 1,
                Err(err) => break err,
            }
        };
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert!(count > 200, "{count}");
        assert_eq!(queue.len(), count);
        let bytes = (0..count).map(|it| message(it).len() as u64).sum();
        assert_eq!(queue.bytes(), bytes);

        // A call that can wait does, as for a queue at its limit.
        assert_eq!(queue.put(&message(count), millis(20)), Err(Error::Timeout));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (count..2 * count).for_each(|it| queue.put(&message(it), FOREVER).unwrap());
            });
            for index in 0..2 * count {
                assert_eq!(queue.get_vec(FOREVER).unwrap(), message(index));
            }
        });
        // A message that never fits into memory, however long the wait is.
        let err = queue.put(&vec![0; 2 << 20], FOREVER).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    });
}

#[test]
fn a_group_that_is_out_of_memory_takes_nothing_from_the_others() {
    let _alone = alone();
    let Some(group) = Group::new("memory", "memory.max", "33554432")
        .or_else(|| Group::new("memory", "memory.limit_in_bytes", "33554432"))
    else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    let queue = Queue::with_options(None, &Options::create().max_capacity(1 << 30)).unwrap();
    let told = Queue::anonymous().unwrap();
    let mut greedy = fork(|| {
        group.enter();
        for count in 0u64..1 << 10 {
            let put = queue.put(&vec![count as u8; 1 << 20], NOWAIT);
            if let Err(err) = put {
                assert!(matches!(err, Error::NoSpace { .. }), "{err}");
                assert!(err.to_string().contains("memory.max"), "{err}");
                return;
            }
            told.put(&count.to_le_bytes(), NOWAIT).unwrap();
        }
        panic!("more than there is");
    });
    // The kernel kills it, or refuses a put.
    let status = greedy.wait();
    assert!(
        status == 0 || libc::WTERMSIG(status) == libc::SIGKILL,
        "{status:#x}"
    );
    assert!(told.len() > 5, "{}", told.len());
    for count in 0..told.len() {
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), vec![count as u8; 1 << 20]);
    }
    // The killed process may have put one more that it did not report.
    let _ = queue.get_vec(NOWAIT);
    assert!(queue.is_empty());
    queue.put(b"x", NOWAIT).unwrap();
}

#[test]
fn a_full_shm_stops_leases_and_reservations_and_loses_nothing() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        let queue = Queue::with_options(None, &tiny().max_capacity(1 << 24)).unwrap();
        (0..20).for_each(|it| queue.put(&[it; 100], NOWAIT).unwrap());
        let slow = queue.lease_for(Duration::from_nanos(1), NOWAIT).unwrap();
        let mut rooms = Vec::new();
        for size in [10_000, 100] {
            let err = loop {
                match queue.reserve(size, NOWAIT) {
                    Ok(room) => rooms.push(room),
                    Err(err) => break err,
                }
            };
            assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        }
        assert!(rooms.len() > 20, "{}", rooms.len());
        // Nor has the lease expired: there is no room for a copy.
        let err = queue.lease(FOREVER).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert_eq!(queue.get_vec(FOREVER).unwrap()[0], 1);
        assert_eq!(queue.unfinished(), Ok(19));
        rooms.remove(0).commit().unwrap();
        rooms.clear();
        std::thread::sleep(Duration::from_millis(100));
        let seen = [(); 19].map(|()| queue.get_vec(FOREVER).unwrap()[0]);
        assert!(seen.into_iter().eq((0..20).filter(|&it| it != 1)));
        assert_eq!(queue.get_vec(NOWAIT).unwrap().len(), 10_000);
        assert_eq!(slow.ack(), Err(Error::Expired));
    });
}

#[test]
fn growth_that_fails_leaves_the_memory_to_others() {
    let _alone = alone();
    with_small_shm(40 << 20, || {
        let queue = Queue::with_options(None, &tiny().max_capacity(1 << 30)).unwrap();
        queue.put(b"before", NOWAIT).unwrap();
        let before = free();
        let err = queue.put(&vec![0; 60 << 20], NOWAIT).unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert_eq!(free(), before);
        assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"before");
    });
}

#[test]
fn a_failed_put_leaves_room_for_a_small_one() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        let filler = Filler::new();
        for large in [65_520, 65_536, 300_000, 3_000_000] {
            filler.leave(1 << 19);
            let queue = Queue::anonymous().unwrap();
            queue.put(b"before", NOWAIT).unwrap();
            filler.leave(0);
            for timeout in [Duration::ZERO, Duration::from_millis(1)] {
                let failed = queue.put(&vec![0; large], timeout).unwrap_err();
                let is_expected = matches!(failed, Error::NoSpace { .. } | Error::Timeout);
                assert!(is_expected, "{large} bytes: {failed}");
                let failed = queue.put_many(&[&vec![0; large]], timeout);
                assert!(failed.is_err(), "{large} bytes: {failed:?}");
                queue.put(b"small", NOWAIT).unwrap();
            }
            assert_eq!(queue.len(), 3);
        }
    });
}

#[test]
fn a_stream_leaves_most_of_the_memory_to_others() {
    let _alone = alone();
    with_small_shm(4 << 20, || {
        let queue = Queue::anonymous().unwrap();
        let (initial, batch) = (queue.capacity(), [[7; 64]; 64]);
        let stream = || {
            let (mut buf, mut lens) = ([0; 64 * 64], [0; 64]);
            for _ in 0..200 {
                assert_eq!(queue.put_many(&batch, NOWAIT), Ok(64));
                assert_eq!(queue.get_many_into(&mut buf, &mut lens, NOWAIT), Ok(64));
            }
        };
        while queue.capacity() == initial {
            stream();
        }
        (0..40).for_each(|_| stream());
        assert!(free() > 3 << 20, "{} bytes are left", free());
    });
}

#[test]
fn a_map_in_a_full_shm_keeps_what_it_has() {
    let _alone = alone();
    with_small_shm(2 << 20, || {
        let map = Map::anonymous().unwrap();
        let value = |index: u32| vec![index as u8; index as usize * 7 % 3000];
        let mut count = 0;
        let err = loop {
            match map.set(&u32::to_le_bytes(count), &value(count)) {
                Ok(()) => count += 1,
                Err(err) => break err,
            }
        };
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert!(count > 100, "{count}");
        assert_eq!(map.len(), Ok(count as usize));
        for index in 0..count {
            let found = map.get_vec(&index.to_le_bytes()).unwrap();
            assert_eq!(found, Some(value(index)));
        }
        assert_eq!(map.get_vec(&count.to_le_bytes()), Ok(None));
        for index in 0..count / 2 {
            assert_eq!(map.remove(&index.to_le_bytes()), Ok(true));
        }
        map.set(b"room", b"again").unwrap();
    });
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: limits this process, a child of the test.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

#[test]
fn too_few_descriptors_leave_nothing_behind() {
    let _alone = alone();
    let name = Name::new("descriptors");
    let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    fork(|| {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        for spare in 0..4 {
            limit(libc::RLIMIT_NOFILE, open + 16);
            // Exactly `spare` descriptors are free.
            let mut taken = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                taken.push(file);
            }
            taken.truncate(taken.len() - spare);
            for result in [Queue::open(&name), Queue::with_options(None, &tiny())] {
                match result {
                    Ok(queue) => queue.put(b"x", NOWAIT).unwrap(),
                    Err(Error::Os { errno, .. }) => assert_eq!(errno, libc::EMFILE),
                    Err(err) => panic!("{err:?}"),
                }
            }
        }
        let prefix = format!("shoal~{}-", std::process::id());
        for file in std::fs::read_dir("/dev/shm").unwrap().flatten() {
            assert!(!file.file_name().to_string_lossy().starts_with(&prefix));
        }
    })
    .ends_well();
    // The child has left, and nothing of its attempts is attached.
    assert_eq!(shoal::stat(&name).unwrap().participants.len(), 1);
    drop(queue);
}

#[test]
fn a_child_that_is_forked_while_no_descriptor_is_free_keeps_the_object() {
    let _alone = alone();
    let name = Name::new("no-descriptor");
    let (told, done) = (Bell::new(), Bell::new());
    let mut parent = fork(|| {
        let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
        limit(libc::RLIMIT_NOFILE, 3);
        let child = fork_and_exit(|| {
            told.hear();
            queue.put(b"still there", NOWAIT).unwrap();
            done.ring();
            told.hear();
        });
        std::mem::forget(child);
        // SAFETY: leaves as a C program does.
        unsafe { libc::exit(0) }
    });
    parent.wait();
    assert!(name.has_file());
    told.ring();
    done.hear();
    let queue = Queue::open(&name).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"still there");
    told.ring();
    // The child ends at any time; this process was the last in any case.
    while shoal::stat(&name).unwrap().participants.len() > 1 {
        std::thread::yield_now();
    }
    drop(queue);
}

/// Counts its runs and does nothing else.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn a_signal_ends_a_wait_with_or_without_restart() {
    let _alone = alone();
    let (empty, full) = (fixed(4096), fixed(4096));
    while full.put(&[0; 100], NOWAIT).is_ok() {}
    let waits: [&dyn Fn() -> Option<Error>; 5] = [
        &|| empty.get_vec(FOREVER).err(),
        &|| empty.get(&mut [0; 8], millis(60_000)).err(),
        &|| {
            empty
                .get_many(&mut Vec::new(), &mut Vec::new(), 3, FOREVER)
                .err()
        },
        &|| full.put(&[0; 100], FOREVER).err(),
        &|| full.put_many(&[[0; 100]], FOREVER).err(),
    ];
    for wait in waits {
        for flags in [0, libc::SA_RESTART] {
            let ready = Bell::new();
            let mut waiter = fork(|| {
                // SAFETY: a handler that only counts.
                unsafe {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = handle as extern "C" fn(i32) as usize;
                    action.sa_flags = flags;
                    libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
                }
                ready.ring();
                assert_eq!(wait(), Some(Error::Interrupted));
                assert!(HANDLED.load(Ordering::SeqCst) > 0);
            });
            ready.hear();
            // Until one of them comes while it waits.
            while !waiter.has_ended() {
                waiter.signal(libc::SIGUSR1);
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            waiter.ends_well();
        }
    }
    assert!(empty.is_empty());
}

#[test]
fn idle_waiters_that_are_killed_do_not_affect_others() {
    let _alone = alone();
    let queue = fixed(4096);
    let taken = Queue::anonymous().unwrap();
    // Killed: two consumers of an empty queue, then two producers of a full one.
    let idle = [(); 2].map(|()| fork(|| drop(queue.get_vec(FOREVER))));
    let consumer = fork(|| {
        while let Ok(message) = queue.get_vec(FOREVER) {
            taken.put(&message, FOREVER).unwrap();
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(20));
    idle.into_iter().for_each(Child::kill);
    (0..500u32).for_each(|it| queue.put(&it.to_le_bytes(), FOREVER).unwrap());
    for index in 0..500u32 {
        assert_eq!(taken.get_vec(FOREVER).unwrap(), index.to_le_bytes());
    }
    // The consumer must not take what is put from here on.
    consumer.kill();
    while queue.put(&[7; 100], NOWAIT).is_ok() {}
    let full = queue.len();
    let idle = [(); 2].map(|()| fork(|| queue.put(&[8; 100], FOREVER).unwrap()));
    let producer = fork(|| (0..100).for_each(|_| queue.put(&[9; 100], FOREVER).unwrap()));
    std::thread::sleep(std::time::Duration::from_millis(20));
    idle.into_iter().for_each(Child::kill);
    for index in 0..full + 100 {
        let expected = if index < full { 7 } else { 9 };
        assert_eq!(queue.get_vec(FOREVER).unwrap(), [expected; 100]);
    }
    producer.ends_well();
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}

#[test]
fn what_can_never_fit_is_refused_before_it_takes_any_memory() {
    let _alone = alone();
    const MUCH: u64 = 1 << 32;
    with_small_shm(8 << 20, || {
        let options = Options::create().capacity(MUCH).max_capacity(MUCH);
        for refused in [
            Queue::with_options(None, &options).map(drop),
            Pipe::pair_with_options(true, &options).map(drop),
            Map::with_options(None, &options).map(drop),
            List::with_options(None, &options).map(drop),
            Array::with_options(None, 1, MUCH, "", &Options::create()).map(drop),
        ] {
            // All of it is needed: nothing was taken before.
            match refused.unwrap_err() {
                Error::NoSpace { needed, .. } => assert!(needed >= MUCH, "{needed}"),
                err => panic!("{err}"),
            }
        }
    });
}

#[test]
fn a_stopped_holder_only_delays_others() {
    let _alone = alone();
    let queue = fixed(1 << 20);
    let busy = fork(|| {
        let (data, mut buf) = (vec![6; 600_000], vec![0; 600_000]);
        loop {
            queue.put(&data, FOREVER).unwrap();
            queue.get(&mut buf, FOREVER).unwrap();
        }
    });
    let mut held = false;
    for _ in 0..200 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        busy.signal(libc::SIGSTOP);
        busy.wait_stopped();
        // Without time, but with the grace that a lock is given. It takes nothing.
        let looked = queue.get(&mut [], NOWAIT).unwrap_err();
        held = looked == Error::Timeout;
        assert!(
            matches!(looked, Error::Timeout | Error::BufferTooSmall { .. }),
            "{looked}"
        );
        busy.signal(libc::SIGCONT);
        if held {
            break;
        }
    }
    assert!(held, "never stopped amid a get");
    busy.kill();
    while queue.get_vec(NOWAIT).is_ok() {}
    queue.put(b"after", NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"after");
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
}
