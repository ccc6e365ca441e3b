//! Objects that dead processes left do not disturb others: they are collected when their name is needed, when memory
//! runs out, and when a process creates its first object.
//!
//! A process collects at its first creation, so this test program itself uses no object: all of it
//! happens in forked children, in directories of their own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::mem::forget;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::shm::{Filler, free, in_directory, with_small_shm};
use crate::common::{Bell, NOWAIT, fork, own_process, tiny};
use shoal::{Error, Lock, Map, Options, Queue};

/// Places in the stamp, and what differs there.
const FOREIGN: [(u64, &str); 4] = [
    (8, "layout version"),
    (12, "byte order"),
    (16, "word size"),
    (48, "pid namespace"),
];

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

/// Objects of these names, whose only process is dead.
fn leave(names: &[&str], options: &Options) {
    fork(|| {
        for name in names {
            let queue = Queue::with_options(Some(name), options).unwrap();
            queue.put(b"old", NOWAIT).unwrap();
            forget(queue);
        }
    })
    .ends_well();
}

/// How many objects have files, finished or not.
fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let is_liveness = |name: &OsStr| name.as_bytes().starts_with(b"shoal+");
    entries.filter(|it| !is_liveness(&it.file_name())).count()
}

#[test]
fn a_dead_object_of_any_version_and_pid_namespace_leaves_its_name_free() {
    own_process(|| {
        in_directory("foreign", |directory| {
            let path = directory.join("shoal.jobs");
            for (offset, what) in FOREIGN {
                let abandon = || {
                    leave(&["jobs"], &tiny());
                    flip(&path, offset);
                    let info = shoal::stat("jobs").unwrap();
                    assert!(info.stale && info.problem.is_none(), "{what}: {info:?}");
                };
                abandon();
                assert!(matches!(Queue::open("jobs"), Err(Error::NotFound { .. })));
                assert!(!path.exists(), "{what}");
                abandon();
                assert!(Queue::create("jobs").unwrap().is_empty(), "{what}");
                abandon();
                drop(Map::create("jobs").unwrap());
                abandon();
                let new = Queue::with_options(Some("jobs"), &tiny().exclusive());
                assert!(new.unwrap().is_empty(), "{what}");
                abandon();
                assert_eq!(shoal::gc(true).unwrap(), ["jobs"], "{what}");
                assert_eq!(shoal::gc(false).unwrap(), ["jobs"], "{what}");
            }
        });
    });
}

#[test]
fn a_live_object_of_another_version_or_pid_namespace_is_refused_naming_both() {
    own_process(|| {
        in_directory("live", |directory| {
            let path = directory.join("shoal.jobs");
            for (options, offset, what) in FOREIGN
                .iter()
                .flat_map(|&(at, what)| [(tiny(), at, what), (tiny().persistent(), at, what)])
            {
                let queue = Queue::with_options(Some("jobs"), &options).unwrap();
                flip(&path, offset);
                let err = Queue::open("jobs").unwrap_err();
                let Error::VersionMismatch { theirs, ours, .. } = &err else {
                    panic!("{what}: {err:?}")
                };
                assert_ne!(theirs, ours);
                let sentence = err.to_string();
                for part in [what, theirs, ours] {
                    assert!(sentence.contains(part), "{sentence}");
                }
                assert_eq!(Queue::create("jobs").unwrap_err(), err);
                assert_eq!(shoal::stat("jobs").unwrap().problem, Some(err));
                let new = Queue::with_options(Some("jobs"), &tiny().exclusive());
                assert!(matches!(new, Err(Error::Exists { .. })));
                assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
                queue.put(b"not disturbed", NOWAIT).unwrap();
                drop(queue);
                let _ = Queue::unlink("jobs");
            }
        });
    });
}

#[test]
fn a_persistent_object_follows_into_the_pid_namespace_that_opens_it() {
    own_process(|| {
        in_directory("follows", |directory| {
            let path = directory.join("shoal.jobs");
            leave(&["jobs"], &tiny().persistent());
            flip(&path, 48);
            let info = shoal::stat("jobs").unwrap();
            assert_eq!((info.stale, info.problem), (false, None));
            let queue = Queue::open("jobs").unwrap();
            assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"old");
            // It belongs to this namespace now: others may attach.
            fork(|| drop(Queue::open("jobs").unwrap())).ends_well();
            drop(queue);
            // A version cannot be followed, and what is persistent is not thrown away.
            flip(&path, 8);
            for refused in [Queue::open("jobs"), Queue::create("jobs")] {
                assert!(matches!(refused, Err(Error::VersionMismatch { .. })));
            }
            assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
            Queue::unlink("jobs").unwrap();
        });
    });
}

#[test]
fn a_container_that_is_started_again_has_its_names() {
    own_process(|| {
        in_directory("container", |_| {
            const REFUSED: i32 = 77;
            // Runs `work` in its own pid namespace, from which no process returns.
            let contained = |work: &dyn Fn()| {
                let mut outer = fork(|| {
                    // SAFETY: this process's children are in a new namespace, if that is allowed.
                    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
                        // SAFETY: ends the child.
                        unsafe { libc::_exit(REFUSED) };
                    }
                    fork(work).ends_well();
                });
                match outer.wait() {
                    0 => true,
                    status => {
                        assert_eq!(libc::WEXITSTATUS(status), REFUSED);
                        eprintln!("skipped: no pid namespaces here");
                        false
                    }
                }
            };
            let begin = || {
                let jobs = Queue::with_options(Some("jobs"), &tiny()).unwrap();
                let kept = Queue::with_options(Some("kept"), &tiny().persistent()).unwrap();
                assert!(jobs.is_empty());
                jobs.put(b"job", NOWAIT).unwrap();
                kept.put(b"kept", NOWAIT).unwrap();
                forget((jobs, kept));
            };
            if contained(&begin) && contained(&begin) {
                let jobs = Queue::with_options(Some("jobs"), &tiny()).unwrap();
                assert!(jobs.is_empty());
                let kept = Queue::open("kept").unwrap();
                assert_eq!(kept.len(), 2);
                // While this one has it, another namespace is refused.
                let refused = || {
                    for refused in [Queue::open("jobs"), Queue::create("kept")] {
                        assert!(matches!(refused, Err(Error::VersionMismatch { .. })));
                    }
                };
                assert!(contained(&refused));
                Queue::unlink("kept").unwrap();
            }
        });
    });
}

#[test]
fn the_first_creation_of_a_process_collects_dead_objects() {
    own_process(|| {
        in_directory("first", |directory| {
            let unfinished = directory.join(format!("shoal~{}-0-0", std::process::id()));
            let names: Vec<String> = (0..40).map(|it| format!("old-{it}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            leave(&names, &tiny());
            leave(&["kept"], &tiny().persistent());
            fs::write(&unfinished, b"").unwrap();
            let up = Bell::new();
            let live = fork(|| {
                // Another first creation: it removes the objects that were left until now.
                let _live = Queue::create("live").unwrap();
                up.ring();
                Bell::new().hear();
            });
            up.hear();
            // It has a few milliseconds, which pass on a busy machine as well. Another one goes on.
            let collect = || {
                while files(directory) > 2 {
                    fork(|| drop(Map::anonymous().unwrap())).ends_well();
                }
                assert_eq!(files(directory), 2, "live and kept");
            };
            collect();

            leave(&["old"], &tiny());
            fork(|| drop(Queue::open("kept").unwrap())).ends_well();
            assert_eq!(files(directory), 3, "opening is no creation");
            collect();
            fork(|| {
                drop(Map::anonymous().unwrap());
                leave(&["old"], &tiny());
                // Neither the next creation nor that of a child collects.
                drop(Map::anonymous().unwrap());
                fork(|| drop(Map::anonymous().unwrap())).ends_well();
                assert_eq!(files(directory), 3);
            })
            .ends_well();
            live.kill();
            Queue::unlink("kept").unwrap();
            shoal::gc(false).unwrap();
        });
    });
}

#[test]
fn memory_of_dead_processes_is_available_to_live_ones() {
    own_process(|| {
        with_small_shm(4 << 20, || {
            // This process has created before, so that it does not collect at once.
            let queue = Queue::with_options(None, &tiny().max_capacity(1 << 20)).unwrap();
            let map = Map::anonymous().unwrap();
            let half = Options::create().capacity(1 << 21);
            let quarter = Options::create().capacity(1 << 20);
            // A little more than three quarters of the memory.
            let fill = || {
                let each = [&half, &quarter];
                let fill = || forget(each.map(|it| Queue::with_options(None, it).unwrap()));
                fork(fill).ends_well();
                assert!(free() < 1 << 20);
            };
            // A creation, ...
            fill();
            drop(Queue::with_options(None, &half).unwrap());
            // ... a queue that grows, ...
            fill();
            queue.put(&vec![1; 400_000], NOWAIT).unwrap();
            drop(queue);
            // ... and a map that does.
            fill();
            map.set(b"key", &vec![2; 2_000_000]).unwrap();
            drop(map);
            // Unfinished objects hold memory too.
            let unfinished = "/dev/shm/shoal~1-2-3";
            fs::write(unfinished, vec![0; 2_500_000]).unwrap();
            drop(Queue::with_options(None, &half).unwrap());
            assert!(!Path::new(unfinished).exists());
        });
    });
}

#[test]
fn memory_of_live_processes_is_not_collected() {
    own_process(|| {
        with_small_shm(1 << 20, || {
            let half = Options::create().capacity(1 << 19);
            let live = Queue::with_options(Some("live"), &half).unwrap();
            let kept = Queue::with_options(Some("kept"), &half.clone().capacity(4096).persistent());
            drop(kept.unwrap());
            for _ in 0..20 {
                let full = Queue::with_options(None, &half);
                assert!(matches!(full, Err(Error::NoSpace { .. })));
            }
            live.put(b"here", NOWAIT).unwrap();
            assert_eq!(Queue::open("live").unwrap().len(), 1);
            Queue::unlink("kept").unwrap();
        });
    });
}

#[test]
fn creators_and_collectors_do_not_disturb_each_other() {
    own_process(|| {
        in_directory("along", |directory| {
            // Each of these creates for the first time, and so collects, while the others are amid a
            // creation themselves.
            for _ in 0..10 {
                let start = Bell::new();
                let children: Vec<_> = (0..12)
                    .map(|_| {
                        fork(|| {
                            start.hear();
                            let queue = Queue::with_options(None, &tiny()).unwrap();
                            queue.put(b"x", NOWAIT).unwrap();
                            assert_eq!(Queue::open(queue.name()).unwrap().len(), 1);
                        })
                    })
                    .collect();
                start.ring_times(12);
                children.into_iter().for_each(|child| child.ends_well());
            }
            // By now the last of them may have left what no other collected: they ended by `_exit`.
            shoal::gc(false).unwrap();
            assert_eq!(files(directory), 0);
        });
    });
}

#[test]
fn a_further_handle_gets_the_memory_that_the_dead_left() {
    own_process(|| {
        with_small_shm(4 << 20, || {
            let lock = Lock::anonymous().unwrap();
            leave(&["dead"], &tiny().capacity(1 << 20).max_capacity(1 << 20));
            let handle = || Lock::open(lock.name());
            // As many as the table of the participants has memory for.
            let _others: Vec<_> = (1..512).map(|_| handle().unwrap()).collect();
            let filler = Filler::new();
            filler.leave(0);
            drop(handle().unwrap());
            assert!(matches!(shoal::stat("dead"), Err(Error::NotFound { .. })));
        });
    });
}
