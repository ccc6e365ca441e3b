//! Thousands of objects in a process, and a process that closes all its descriptors.

use std::fs::{self, File};
use std::io::Read;
use std::mem::forget;

use crate::common::shm::{allow_descriptors, descriptors};
use crate::common::{Bell, FOREVER, NOWAIT, Name, alone, fork, millis, tiny};
use shoal::{
    Array, Barrier, Condition, Error, Event, List, Lock, Map, Options, Pipe, Queue, RwLock,
    Semaphore, Spawn,
};

const DESCRIPTORS: u64 = 1024;

/// One object of every kind, used.
fn one_of_each() -> Box<dyn std::any::Any> {
    let queue = Queue::with_options(None, &tiny()).unwrap();
    queue.put(b"x", NOWAIT).unwrap();
    let (map, list) = (Map::anonymous().unwrap(), List::anonymous().unwrap());
    map.insert(b"key", b"value").unwrap();
    list.append(b"element").unwrap();
    let pipe = Pipe::pair_with_options(true, &tiny()).unwrap();
    let array = Array::with_options(None, 8, 1, "", &Options::create()).unwrap();
    let (lock, event) = (Lock::anonymous().unwrap(), Event::anonymous().unwrap());
    let create = Options::create();
    let semaphore = Semaphore::with_options(None, 1, &create).unwrap();
    let barrier = Barrier::with_options(None, 1, &create).unwrap();
    let condition = Condition::with_options(None, &create).unwrap();
    let rwlock = RwLock::with_options(None, &create).unwrap();
    drop(lock.lock(NOWAIT).unwrap());
    Box::new((
        (queue, map, list, pipe, array, lock, event),
        (semaphore, barrier, condition, rwlock),
    ))
}

#[test]
fn ten_thousand_objects_of_all_kinds_need_no_descriptors() {
    let _alone = alone();
    fork(|| {
        allow_descriptors(DESCRIPTORS);
        let before = descriptors();
        let objects: Vec<_> = (0..834).map(|_| one_of_each()).collect();
        assert!(objects.len() * 12 > 10_000);
        assert!(descriptors() <= before + 2, "two for the process");
        // Processes can be started, and know the objects.
        let program = Spawn::new("/bin/true").spawn().unwrap();
        assert!(program.join(FOREVER).unwrap().success());
        let lock = Lock::anonymous().unwrap();
        fork(|| drop(lock.lock(NOWAIT).unwrap())).ends_well();
        drop(objects);
    })
    .ends_well();
}

#[test]
fn three_thousand_maps_and_lists_have_their_defaults() {
    let _alone = alone();
    fork(|| {
        let maps: Vec<Map> = (0..1500).map(|_| Map::anonymous().unwrap()).collect();
        let lists: Vec<List> = (0..1500).map(|_| List::anonymous().unwrap()).collect();
        for (map, list) in maps.iter().zip(&lists) {
            map.insert(b"key", &[1; 3000]).unwrap();
            list.append(&[1; 3000]).unwrap();
        }
        drop((maps, lists));
    })
    .ends_well();
}

#[test]
fn every_object_has_a_slot_for_each_forked_child() {
    let _alone = alone();
    let locks: Vec<Lock> = (0..300).map(|_| Lock::anonymous().unwrap()).collect();
    // More children than slots to begin with, of which the later ones take those of the dead.
    for _ in 0..40 {
        let (up, go) = (Bell::new(), Bell::new());
        let child = fork(|| {
            for lock in &locks {
                forget(lock.lock(NOWAIT).unwrap());
            }
            up.ring();
            go.hear();
        });
        up.hear();
        for lock in locks.iter().step_by(50) {
            assert!(matches!(lock.lock(millis(1)), Err(Error::Timeout)));
        }
        child.kill();
        for lock in &locks {
            assert!(lock.lock(NOWAIT).unwrap().owner_died());
        }
    }
    let info = shoal::stat(locks[0].name()).unwrap();
    assert_eq!(info.participants.len(), 1, "{info:?}");
}

#[test]
fn a_process_that_closes_all_descriptors_lives_and_spares_other_files() {
    let _alone = alone();
    let name = Name::new("daemon");
    let (up, go, done) = (Bell::new(), Bell::new(), Bell::new());
    let lock = Lock::with_options(Some(&name), &Options::create()).unwrap();
    let child = fork(|| {
        let own = Queue::with_options(None, &tiny().max_capacity(16 << 20)).unwrap();
        let held = lock.lock(NOWAIT).unwrap();
        own.fd().unwrap();
        let asleep = Spawn::new("/bin/sleep").arg("600").spawn().unwrap();
        close_keeping(&[&up, &go, &done]);
        // Take over every number that may have been the library's.
        let path = format!("/tmp/{}", &*Name::new("mine"));
        fs::write(&path, b"mine").unwrap();
        let open = || File::options().read(true).append(true).open(&path).unwrap();
        let files: Vec<File> = (0..20).map(|_| open()).collect();
        own.put(&vec![7; 8 << 20], NOWAIT).unwrap();
        assert_eq!(own.get_vec(NOWAIT).unwrap().len(), 8 << 20);
        // A child of such a process lives as well.
        fork(|| assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)))).ends_well();
        own.put(b"x", NOWAIT).unwrap();
        assert_eq!(own.get_vec(NOWAIT).unwrap(), b"x");
        // SAFETY: a child of this process.
        unsafe { libc::kill(asleep.pid(), libc::SIGKILL) };
        drop((own, asleep));
        drop(one_of_each());
        for mut file in &files {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "mine", "nothing was written, and none was closed");
        }
        fs::remove_file(&path).unwrap();
        up.ring();
        go.hear();
        drop(held);
        done.ring();
    });
    up.hear();
    // Its owner is not considered dead.
    assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
    go.ring();
    done.hear();
    assert!(!lock.lock(NOWAIT).unwrap().owner_died());
    child.ends_well();
}

/// Closes every descriptor above the standard streams, as daemons do, but for those of these bells.
fn close_keeping(bells: &[&Bell]) {
    let kept: Vec<i32> = bells.iter().flat_map(|it| it.descriptors()).collect();
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open: Vec<i32> = open
        .filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // SAFETY: what was open is not used any more.
        unsafe { libc::close(fd) };
    }
}
