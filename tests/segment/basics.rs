//! What every named object promises: how it is created, which processes have it open, and when it is removed.

use std::io::Read;
use std::mem::forget;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Bell, NOWAIT, Name, Random, alone, beside_others, fork, fork_and_exit, tiny};
use shoal::{
    Array, Barrier, Condition, Error, Event, Kind, List, Lock, Map, Options, Pipe, Queue, RwLock,
    Semaphore,
};

fn open(name: &str) -> Queue {
    Queue::with_options(Some(name), &tiny()).unwrap()
}

fn is_gone(result: Result<Queue, Error>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

#[test]
fn an_object_is_plain_named_memory_to_other_libraries() {
    let _beside = beside_others();
    let name = Name::new("plain");
    let queue = open(&name);
    let other = shared_memory::ShmemConf::new().os_id(format!("/shoal.{}", &*name));
    let other = other.open().unwrap();
    // SAFETY: the stamp, which does not change.
    let stamp = unsafe { &other.as_slice()[..8] };
    assert_eq!(stamp, b"SHOAL\r\n\x1a");
    drop(queue);
}

#[test]
fn an_option_is_refused_by_every_kind_that_does_not_have_it() {
    let _beside = beside_others();
    type Make = fn(&Options) -> Result<(), Error>;
    let growing: [Make; 4] = [
        |it| Queue::with_options(None, it).map(drop),
        |it| Pipe::pair_with_options(true, it).map(drop),
        |it| Map::with_options(None, it).map(drop),
        |it| List::with_options(None, it).map(drop),
    ];
    let [queue, pipe, map, list] = growing;
    let fixed: [Make; 7] = [
        |it| Array::with_options(None, 8, 1, "", it).map(drop),
        |it| Lock::with_options(None, it).map(drop),
        |it| Semaphore::with_options(None, 1, it).map(drop),
        |it| Event::with_options(None, it).map(drop),
        |it| Condition::with_options(None, it).map(drop),
        |it| Barrier::with_options(None, 1, it).map(drop),
        |it| RwLock::with_options(None, it).map(drop),
    ];
    let create = Options::create;
    let whose: [(&str, Options, &[Make]); 5] = [
        ("capacity", create().capacity(1 << 20), &growing),
        ("max_capacity", create().max_capacity(1 << 20), &growing),
        ("max_items", create().max_items(2), &[queue, pipe]),
        ("max_attempts", create().max_attempts(2), &[queue]),
        ("ordered", create().ordered(), &[map]),
    ];
    for (option, options, theirs) in whose {
        for make in theirs {
            make(&options).unwrap();
        }
        let others = [queue, pipe, map, list].into_iter().chain(fixed);
        let refused = others.filter(|make| match make(&options) {
            Err(Error::Invalid { what, .. }) => what == option,
            made => made.map(|()| false).unwrap(),
        });
        assert_eq!(refused.count(), 11 - theirs.len(), "{option}");
    }
}

#[test]
fn processes_that_create_one_name_at_once_share_one_object() {
    let _alone = alone();
    const PROCESSES: usize = 8;
    for _ in 0..15 {
        let name = Name::new("at-once");
        let (start, ready, end) = (Bell::new(), Bell::new(), Bell::new());
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| {
                fork(|| {
                    start.hear();
                    let queue = open(&name);
                    queue
                        .put(&std::process::id().to_le_bytes(), NOWAIT)
                        .unwrap();
                    ready.ring();
                    end.hear();
                })
            })
            .collect();
        start.ring_times(PROCESSES);
        (0..PROCESSES).for_each(|_| ready.hear());
        let queue = Queue::open(&name).unwrap();
        assert_eq!(queue.len(), PROCESSES);
        end.ring_times(PROCESSES);
        children.into_iter().for_each(|child| child.ends_well());
        drop(queue);
    }
}

#[test]
fn of_many_exclusive_creators_exactly_one_succeeds() {
    let _alone = alone();
    const PROCESSES: usize = 8;
    for _ in 0..15 {
        let name = Name::new("exclusive");
        let (start, end) = (Bell::new(), Bell::new());
        let (created, refused) = (Bell::new(), Bell::new());
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| {
                fork(|| {
                    start.hear();
                    let queue = match Queue::with_options(Some(&name), &tiny().exclusive()) {
                        Ok(queue) => {
                            created.ring();
                            Some(queue)
                        }
                        Err(Error::Exists { .. }) => {
                            refused.ring();
                            None
                        }
                        Err(err) => panic!("{err}"),
                    };
                    end.hear();
                    drop(queue);
                })
            })
            .collect();
        start.ring_times(PROCESSES);
        created.hear();
        (0..PROCESSES - 1).for_each(|_| refused.hear());
        end.ring_times(PROCESSES);
        children.into_iter().for_each(|child| child.ends_well());
    }
}

#[test]
fn a_handle_says_whether_its_open_created_the_object() {
    let _beside = beside_others();
    let name = Name::new("created");
    let (first, second) = (Event::create(&name).unwrap(), Event::create(&name).unwrap());
    assert!(first.created() && !second.created());
    let map = Map::anonymous().unwrap();
    assert!(map.created() && !Map::open(map.name()).unwrap().created());
}

#[test]
fn no_process_sees_an_incomplete_object() {
    let _alone = alone();
    let name = Name::new("half");
    let stop = Queue::anonymous().unwrap();
    let makers = [(); 2].map(|()| {
        fork(|| {
            while !stop.is_closed() {
                drop(open(&name));
            }
        })
    });
    let (mut listed, mut opened) = (0, 0);
    while listed < 300 || opened < 300 {
        if let Ok(info) = shoal::stat(&name) {
            assert_eq!((info.problem, info.kind), (None, Some(Kind::Queue)));
            listed += 1;
        }
        match Queue::open(&name) {
            Ok(queue) => assert!(matches!(
                queue.put(b"x", NOWAIT),
                Ok(()) | Err(Error::Timeout)
            )),
            other => assert!(is_gone(other)),
        }
        let mut magic = [0; 5];
        if let Ok(mut file) = std::fs::File::open(name.path()) {
            file.read_exact(&mut magic).unwrap();
            assert_eq!(&magic, b"SHOAL");
            opened += 1;
        }
    }
    stop.close().unwrap();
    makers.into_iter().for_each(|maker| maker.ends_well());
}

#[test]
fn the_last_process_removes_the_name() {
    let _alone = alone();
    let name = Name::new("last");
    let (first, second) = (open(&name), Queue::open(&name).unwrap());
    first.put(b"stays", NOWAIT).unwrap();
    drop(first);
    assert!(name.has_file());
    assert_eq!(second.get_vec(NOWAIT).unwrap(), b"stays");
    drop(second);
    assert!(!name.has_file());
    assert!(is_gone(Queue::open(&name)));
}

#[test]
fn a_persistent_object_stays_until_it_is_unlinked() {
    let _alone = alone();
    let name = Name::new("persistent");
    let queue = Queue::with_options(Some(&name), &tiny().persistent()).unwrap();
    queue.put(b"kept", NOWAIT).unwrap();
    drop(queue);
    assert!(shoal::stat(&name).unwrap().persistent);
    shoal::gc(false).unwrap();
    // With any options of the opener.
    assert_eq!(open(&name).get_vec(NOWAIT).unwrap(), b"kept");
    assert!(name.has_file());
    assert!(matches!(
        Queue::with_options(Some(&name), &tiny().exclusive()),
        Err(Error::Exists { .. })
    ));
    Queue::unlink(&name).unwrap();
    assert!(is_gone(Queue::open(&name)));
    assert!(matches!(Queue::unlink(&name), Err(Error::NotFound { .. })));
}

#[test]
fn only_an_unused_object_is_removed_by_the_process_that_does_not_need_it() {
    let _alone = alone();
    let name = Name::new("unused");
    let queue = Queue::with_options(Some(&name), &tiny().persistent()).unwrap();
    let other = open(&name);
    assert_eq!(queue.unlink_if_unused(), Ok(false), "another handle");
    drop(other);
    queue.put(b"m", NOWAIT).unwrap();
    assert_eq!(queue.unlink_if_unused(), Ok(false), "a message");
    let lease = queue.lease(NOWAIT).unwrap();
    assert_eq!(queue.unlink_if_unused(), Ok(false), "a lease");
    lease.ack().unwrap();
    assert_eq!(queue.unlink_if_unused(), Ok(true));
    assert!(is_gone(Queue::open(&name)));
    assert!(matches!(
        queue.unlink_if_unused(),
        Err(Error::NotFound { .. })
    ));
    // The same name is free, also for a map.
    let map = Map::with_options(Some(&name), &Options::create().persistent()).unwrap();
    map.set(b"k", b"v").unwrap();
    assert_eq!(map.unlink_if_unused(), Ok(false), "a key");
    map.clear().unwrap();
    assert_eq!(map.unlink_if_unused(), Ok(true));
    assert!(!name.has_file());
}

#[test]
fn an_object_that_exists_keeps_its_sizes() {
    let _alone = alone();
    let name = Name::new("sizes");
    let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    let larger = Options::create().capacity(1 << 20).max_capacity(1 << 22);
    let same = Queue::with_options(Some(&name), &larger).unwrap();
    assert_eq!((same.capacity(), same.max_capacity()), (4096, 4096));
    drop((queue, same));
}

#[test]
fn an_object_of_a_killed_process_alone_is_removed() {
    let _alone = alone();
    for round in 0..3 {
        let name = Name::new("killed-alone");
        let up = Bell::new();
        let owner = fork(|| {
            let queue = open(&name);
            queue.put(b"old", NOWAIT).unwrap();
            up.ring();
            Bell::new().hear();
        });
        up.hear();
        owner.kill();
        match round {
            0 => assert!(is_gone(Queue::open(&name))),
            1 => assert!(open(&name).is_empty()),
            _ => {
                let new = Queue::with_options(Some(&name), &tiny().exclusive()).unwrap();
                assert!(new.is_empty());
            }
        }
        assert!(!name.has_file());
    }
}

#[test]
fn an_object_outlives_its_killed_creator_while_others_use_it() {
    let _alone = alone();
    let name = Name::new("killed-creator");
    let (up, end) = (Bell::new(), Bell::new());
    let creator = fork(|| {
        let queue = open(&name);
        queue.put(b"one", NOWAIT).unwrap();
        queue.put(b"three", NOWAIT).unwrap();
        up.ring();
        Bell::new().hear();
    });
    up.hear();
    let other = fork(|| {
        let queue = Queue::open(&name).unwrap();
        up.ring();
        end.hear();
        assert_eq!((queue.len(), queue.bytes()), (2, 8));
    });
    up.hear();
    creator.kill();
    shoal::gc(false).unwrap();
    let queue = Queue::open(&name).unwrap();
    assert_eq!((queue.len(), queue.bytes()), (2, 8));
    drop(queue);
    end.ring();
    other.ends_well();
}

/// Collects until this is gone. What another process is just collecting is left to that process.
fn gc_until(is_gone: impl Fn() -> bool) {
    shoal::gc(false).unwrap();
    while !is_gone() {
        std::thread::yield_now();
        shoal::gc(false).unwrap();
    }
}

/// The files of objects that `pid` was making.
fn unfinished(pid: u32) -> usize {
    let prefix = format!("shoal~{pid}-");
    let files = std::fs::read_dir("/dev/shm").unwrap().flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

#[test]
fn gc_removes_incomplete_objects_of_killed_creators() {
    let _alone = alone();
    let mut random = Random(7);
    let mut met = 0;
    for _ in 0..60 {
        let name = Name::new("half-made");
        let up = Bell::new();
        let maker = fork(|| {
            up.ring();
            loop {
                let options = Options::create().capacity(1 << 20);
                drop(Queue::with_options(Some(&name), &options).unwrap());
            }
        });
        up.hear();
        std::thread::sleep(std::time::Duration::from_micros(random.below(3000)));
        let pid = maker.pid();
        maker.kill();
        met += unfinished(pid);
        gc_until(|| unfinished(pid) == 0 && !name.has_file());
    }
    println!("{met} of 60 were killed amid a creation");
}

#[test]
fn gc_removes_no_object_in_use() {
    let _alone = alone();
    let names = [Name::new("gc-live"), Name::new("gc-dead")];
    let stop = AtomicBool::new(false);
    let live = open(&names[0]);
    let up = Bell::new();
    let dead = fork(|| {
        forget(open(&names[1]));
        up.ring();
        Bell::new().hear();
    });
    up.hear();
    dead.kill();
    // Another process's gc may be faster; a dry run removes nothing itself.
    let stale = |name: &str| shoal::stat(name).is_ok_and(|info| info.stale);
    if stale(&names[1]) {
        let would = shoal::gc(true).unwrap();
        assert!(would.contains(&names[1].to_string()) || !stale(&names[1]));
        assert!(!would.contains(&names[0].to_string()));
    }
    gc_until(|| !names[1].has_file());
    assert!(names[0].has_file());
    assert!(!stale(&names[0]));

    // While other processes attach and detach.
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                shoal::gc(false).unwrap();
            }
        });
        fork(|| {
            for _ in 0..300 {
                let queue = open(&names[1]);
                queue.put(b"x", NOWAIT).unwrap();
                assert_eq!(Queue::open(&names[1]).unwrap().len(), 1);
                assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"x");
            }
        })
        .ends_well();
        stop.store(true, Ordering::Relaxed);
        collector.join().unwrap();
    });
    assert!(live.is_empty());
}

#[test]
fn list_and_stat_report_the_kind_and_the_participants() {
    let _alone = alone();
    let name = Name::new("stat");
    let options = Options::create().capacity(4096).max_capacity(1 << 20);
    let queue = Queue::with_options(Some(&name), &options).unwrap();
    let (up, end) = (Bell::new(), Bell::new());
    let child = fork(|| {
        // SAFETY: names the calling thread.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"a-child".as_ptr()) };
        let own = Queue::open(&name).unwrap();
        up.ring();
        end.hear();
        drop(own);
    });
    up.hear();
    let info = shoal::stat(&name).unwrap();
    assert_eq!(info.name, *name);
    assert_eq!(info.kind, Some(Kind::Queue));
    assert!(!info.persistent && !info.stale && info.problem.is_none());
    assert!(info.max_size > 2 << 20 && info.max_size < 3 << 20);
    assert!(info.committed > 4096 && info.committed < 128 << 10);
    // The parent's handle, the child's copy of it, and the child's own.
    let of = |pid| info.participants.iter().filter(move |it| it.pid == pid);
    assert_eq!(of(std::process::id()).count(), 1);
    assert_eq!(of(child.pid()).count(), 2);
    assert!(of(child.pid()).any(|it| it.command == "a-child"));
    assert!(shoal::list().unwrap().iter().any(|it| it.name == *name));
    end.ring();
    child.ends_well();
    let left = shoal::stat(&name).unwrap().participants;
    assert_eq!(left.len(), 1);
    drop(queue);
    assert!(matches!(shoal::stat(&name), Err(Error::NotFound { .. })));
    assert!(!shoal::list().unwrap().iter().any(|it| it.name == *name));
}

#[test]
fn a_successor_of_the_same_name_survives_its_predecessor() {
    let _alone = alone();
    let name = Name::new("successor");
    let old = open(&name);
    old.put(b"old", NOWAIT).unwrap();
    Queue::unlink(&name).unwrap();
    let new = open(&name);
    assert!(new.is_empty());
    new.put(b"new", NOWAIT).unwrap();
    drop(old);
    assert!(name.has_file());
    assert_eq!(Queue::open(&name).unwrap().get_vec(NOWAIT).unwrap(), b"new");
}

#[test]
fn the_limit_of_handles_fits_and_one_more_is_an_error() {
    let _alone = alone();
    const LIMIT: usize = 1024;
    // SAFETY: reads and raises a limit of this process.
    let descriptors = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit.rlim_cur
    };
    if descriptors < 2 * LIMIT as u64 + 100 {
        eprintln!("skipped: only {descriptors} descriptors are allowed");
        return;
    }
    let name = Name::new("thousand");
    // Those of a killed process do not count.
    let up = Bell::new();
    let greedy = fork(|| {
        let _all: Vec<Queue> = (0..LIMIT).map(|_| open(&name)).collect();
        up.ring();
        Bell::new().hear();
    });
    up.hear();
    let full = Err(Error::Exhausted {
        what: "handles on one object",
        limit: LIMIT as u64,
    });
    assert_eq!(Queue::open(&name).map(drop), full);
    assert_eq!(shoal::stat(&name).unwrap().participants.len(), LIMIT);
    greedy.kill();

    let mut handles: Vec<Queue> = (0..LIMIT).map(|_| open(&name)).collect();
    assert_eq!(Queue::open(&name).map(drop), full);
    handles.pop();
    let last = Queue::open(&name).unwrap();
    last.put(b"from the last", NOWAIT).unwrap();
    assert_eq!(handles[0].get_vec(NOWAIT).unwrap(), b"from the last");
}

#[test]
fn leaving_without_dropping_anything_still_removes_the_name() {
    let _alone = alone();
    let name = Name::new("exit");
    fork_and_exit(|| forget((open(&name), Queue::open(&name).unwrap()))).ends_well();
    assert!(!name.has_file());

    // After `_exit` no code of the library runs; the remains are known to be dead.
    fork(|| forget(open(&name))).ends_well();
    if let Ok(info) = shoal::stat(&name) {
        assert!(info.stale && info.participants.is_empty());
    }
    gc_until(|| !name.has_file());
}

#[test]
fn an_exec_detaches_from_every_object() {
    let _alone = alone();
    let name = Name::new("exec");
    let queue = open(&name);
    let (up, end) = (Bell::new(), Bell::new());
    let mut child = fork(|| {
        let _own = Queue::open(&name).unwrap();
        up.ring();
        end.hear();
        use std::os::unix::process::CommandExt;
        panic!("{}", std::process::Command::new("sleep").arg("100").exec());
    });
    up.hear();
    assert_eq!(shoal::stat(&name).unwrap().participants.len(), 3);
    end.ring();
    while shoal::stat(&name).unwrap().participants.len() > 1 {
        assert!(!child.has_ended());
        std::thread::yield_now();
    }
    drop(queue);
    assert!(
        !name.has_file(),
        "a program that knows nothing of it is not in it"
    );
    child.kill();
}
