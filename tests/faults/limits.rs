//! Limits that `ulimit` sets: the defaults of objects fit below them, and a size that does not fit is an error
//! that names the limit.

use crate::common::shm::{free, with_small_shm};
use crate::common::{NOWAIT, Name, alone, fork, own_process, tiny};
use shoal::{Error, List, Lock, Map, Options, Pipe, Queue, Spawn};

fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: limits this process, a child of the test.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Bytes of address space that are mapped now.
fn mapped() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    pages * 4096
}

/// One object of each kind that grows, made with the defaults, and used.
fn make_all_with_defaults() {
    let queue = Queue::anonymous().unwrap();
    queue.put(&[1; 30_000], NOWAIT).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), [1; 30_000]);
    let map = Map::anonymous().unwrap();
    map.set(b"key", &[2; 30_000]).unwrap();
    assert_eq!(map.get_vec(b"key").unwrap().unwrap(), [2; 30_000]);
    let list = List::anonymous().unwrap();
    list.append(&[3; 30_000]).unwrap();
    let (here, there) = Pipe::pair().unwrap();
    here.send(&[4; 30_000], NOWAIT).unwrap();
    assert_eq!(there.recv_vec(NOWAIT).unwrap(), [4; 30_000]);
    // Existing objects are opened, whatever their size.
    drop((
        Queue::open(queue.name()).unwrap(),
        Map::open(map.name()).unwrap(),
    ));
}

#[test]
fn too_little_address_space_is_reported_with_the_limit() {
    let _alone = alone();
    let name = Name::new("ulimit");
    let large = || Options::create().max_capacity(1 << 30);
    let queue = Queue::with_options(Some(&name), &large()).unwrap();
    queue.put(b"x", NOWAIT).unwrap();
    fork(|| {
        // What is mapped now, and half of what a queue of 1 GiB takes.
        let allowed = mapped() + (1 << 29);
        limit(libc::RLIMIT_AS, allowed);
        for refused in [
            Queue::open(&name).map(drop),
            Queue::with_options(None, &large()).map(drop),
            Map::with_options(None, &large()).map(drop),
        ] {
            let err = refused.unwrap_err();
            let Error::TooLarge { size, limit, .. } = err else {
                panic!("{err:?}")
            };
            assert!(size > 1 << 30 && limit == allowed, "{err}");
            assert!(err.to_string().contains("address space"), "{err}");
        }
        // Earlier mappings work, and so do the defaults and small objects.
        assert_eq!(queue.len(), 1);
        drop(Queue::with_options(None, &tiny()).unwrap());
        make_all_with_defaults();
    })
    .ends_well();
    assert_eq!(Queue::open(&name).unwrap().len(), 1);
}

#[test]
fn a_file_size_limit_is_reported_and_kills_no_process() {
    let _alone = alone();
    for allowed in [32 << 20, 8 << 20] {
        fork(|| {
            limit(libc::RLIMIT_FSIZE, allowed);
            let large = Options::create().max_capacity(allowed + 1);
            for refused in [
                Queue::with_options(None, &large).map(drop),
                Map::with_options(None, &large).map(drop),
                List::with_options(None, &large).map(drop),
            ] {
                let err = refused.unwrap_err();
                let Error::TooLarge { size, limit, .. } = err else {
                    panic!("{err:?}")
                };
                assert!(size > allowed && limit == allowed, "{err}");
                assert!(err.to_string().contains("ulimit -f"), "{err}");
            }
            make_all_with_defaults();
        })
        .ends_well();
    }
    // So low that nothing fits.
    fork(|| {
        limit(libc::RLIMIT_FSIZE, 1);
        for refused in [
            Queue::anonymous().map(drop),
            Map::anonymous().map(drop),
            Lock::anonymous().map(drop),
        ] {
            let err = refused.unwrap_err();
            assert!(matches!(err, Error::TooLarge { limit: 1, .. }), "{err}");
            assert!(err.to_string().contains("max_capacity if"), "{err}");
        }
    })
    .ends_well();
}

#[test]
fn an_object_grows_and_is_used_beyond_the_file_size_limit() {
    let _alone = alone();
    let name = Name::new("fsize");
    let queue = Queue::create(&name).unwrap();
    let map = Map::with_options(None, &Options::create().persistent()).unwrap();
    fork(|| {
        limit(libc::RLIMIT_FSIZE, 1);
        let opened = Queue::open(&name).unwrap();
        let message = vec![7; 16 << 20];
        opened.put(&message, NOWAIT).unwrap();
        assert!(opened.get_vec(NOWAIT).unwrap() == message);
        let lease = {
            opened.put(&message, NOWAIT).unwrap();
            opened.lease(NOWAIT).unwrap()
        };
        lease.ack().unwrap();
        let map = Map::open(map.name()).unwrap();
        map.set(b"key", &message).unwrap();
        map.remove(b"key").unwrap();
    })
    .ends_well();
    assert!(queue.is_empty());
    shoal::unlink(map.name()).unwrap();
}

/// A private mapping without access, of which the kernel commits nothing.
fn reserve(len: usize) -> bool {
    // SAFETY: a new mapping, which is never read or written.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    at != libc::MAP_FAILED
}

#[test]
fn an_exhausted_address_space_is_reported_with_its_size() {
    let _alone = alone();
    fork(|| {
        // Down to small ones: several holes together may be larger than the map.
        for bits in [40, 35, 30] {
            while reserve(1 << bits) {}
        }
        let err = Map::with_options(None, &Options::create().max_capacity(1 << 36)).unwrap_err();
        let Error::TooLarge { size, limit, .. } = err else {
            panic!("{err:?}")
        };
        assert!(size > limit && limit >= 1 << 47, "{err}");
        assert!(err.to_string().contains("max_capacity"), "{err}");
        // Small objects still fit.
        drop(Lock::anonymous().unwrap());
    })
    .ends_well();
}

#[test]
fn too_many_mappings_are_reported_with_the_limit() {
    let _alone = alone();
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let most: u64 = most.trim().parse().unwrap();
    if most > 200_000 {
        return println!("skipped: vm.max_map_count is {most}, which takes too long to use up");
    }
    fork(|| {
        // Pages in turn of one kind and another are a mapping each.
        let kinds = [libc::PROT_NONE, libc::PROT_READ];
        for kind in kinds.iter().cycle() {
            // SAFETY: as in `reserve`.
            let at = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(std::ptr::null_mut(), 4096, *kind, flags, -1, 0)
            };
            if at == libc::MAP_FAILED {
                break;
            }
        }
        let err = Lock::anonymous().map(drop).unwrap_err();
        let Error::TooMany { count, limit, .. } = err else {
            panic!("{err:?}")
        };
        assert!(count >= limit && limit == most, "{err}");
        assert!(err.to_string().contains("vm.max_map_count"), "{err}");
    })
    .ends_well();
}

#[test]
fn too_few_descriptors_are_reported_with_the_limit_to_raise() {
    let _alone = alone();
    let name = Name::new("nofile");
    let _queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    fork(|| {
        // Only the standard streams are allowed.
        limit(libc::RLIMIT_NOFILE, 3);
        for refused in [
            Queue::open(&name).map(drop),
            Lock::anonymous().map(drop),
            Spawn::new("true").spawn().map(drop),
            shoal::gc(false).map(drop),
        ] {
            let sentence = refused.unwrap_err().to_string();
            assert!(sentence.contains("ulimit -n"), "{sentence}");
        }
    })
    .ends_well();
}

#[test]
fn a_file_size_limit_below_the_liveness_file_is_reported() {
    own_process(|| {
        let name = Name::new("fsize-first");
        fork(|| {
            let options = tiny().persistent();
            drop(Queue::with_options(Some(&name), &options).unwrap());
        })
        .ends_well();
        // In a process that was not related to the other.
        for allowed in [0, 1] {
            fork(|| {
                limit(libc::RLIMIT_FSIZE, allowed);
                let err = Queue::open(&name).unwrap_err();
                assert!(matches!(err, Error::TooLarge { .. }), "{err:?}");
                assert!(err.to_string().contains("ulimit -f"), "{err}");
            })
            .ends_well();
        }
        shoal::unlink(&name).unwrap();
    });
}

#[test]
fn an_error_of_too_little_memory_reports_the_free_memory_after_it() {
    let _alone = alone();
    with_small_shm(64 << 20, || {
        let queue = Queue::create("small").unwrap();
        let map = Map::create("small-map").unwrap();
        let large = vec![1; 96 << 20];
        for refused in [queue.put(&large, NOWAIT), map.set(b"key", &large)] {
            let Err(Error::NoSpace {
                needed,
                available,
                in_object: None,
            }) = refused
            else {
                panic!("{refused:?}")
            };
            // All but what objects of this size keep.
            assert!(available > 56 << 20 && needed > available, "{available}");
            assert!(free() > 56 << 20);
        }
    });
}

/// Asks for ever less of a full object, and checks that its error names it, the piece and its limit.
fn names_the_object(mut put: impl FnMut(usize) -> shoal::Result<()>) {
    let mut sizes = (0..7).map(|step| 256 << 10 >> step);
    let most = sizes.clone().find(|size| put(*size).is_ok()).unwrap_or(0);
    let refused = sizes.find(|size| *size <= 2 * most.max(2048)).unwrap();
    let err = put(refused).unwrap_err();
    let Error::NoSpace {
        needed,
        available,
        in_object: Some(free),
    } = err
    else {
        panic!("{err:?}")
    };
    assert!(needed >= refused as u64 && available < needed, "{err:?}");
    assert!(free >= needed, "most of it is free: {err:?}");
    let text = err.to_string();
    for part in ["in one piece", "max_capacity"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("memory.max"), "{text}");
}

#[test]
fn a_full_and_fragmented_object_is_not_blamed_on_the_machine() {
    let _alone = alone();
    let options = Options::create().max_capacity(1 << 20);
    // Every second one of the elements is removed: half is free, in pieces that are too small.
    let map = Map::with_options(None, &options.clone().compact()).unwrap();
    let value = vec![1; 9000];
    let (mut keys, set) = (0u32.., |key: u32| map.set(&key.to_le_bytes(), &value));
    let (full, err) = keys.find_map(|key| Some((key, set(key).err()?))).unwrap();
    assert!(err.to_string().contains("max_capacity"), "{err}");
    for key in (0..full).step_by(2) {
        assert!(map.remove(&key.to_le_bytes()).unwrap());
    }
    names_the_object(|size| map.set(b"large", &vec![2; size]));

    let list = List::with_options(None, &options).unwrap();
    while list.append(&value).is_ok() {}
    for index in (0..list.len().unwrap()).step_by(2) {
        assert!(list.set(index, b"").unwrap());
    }
    names_the_object(|size| list.set(0, &vec![2; size]).map(drop));
}

#[test]
fn a_limit_of_locked_memory_is_reported() {
    let _alone = alone();
    fork(|| {
        limit(libc::RLIMIT_MEMLOCK, 8 << 20);
        // SAFETY: in a child of the test, whose only thread this is. Root has no such limit.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setuid(65_534), 0);
            }
            let flags = libc::MCL_FUTURE | libc::MCL_ONFAULT;
            assert_eq!(libc::mlockall(flags), 0);
        }
        let err = Queue::anonymous().map(drop).unwrap_err();
        let Error::TooLarge { size, limit, .. } = err else {
            panic!("{err:?}")
        };
        assert!(size > limit && limit == 8 << 20, "{err}");
        assert!(err.to_string().contains("ulimit -l"), "{err}");
        // Small objects fit.
        let queue = Queue::with_options(None, &tiny()).unwrap();
        queue.put(b"x", NOWAIT).unwrap();
    })
    .ends_well();
}
