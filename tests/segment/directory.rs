//! Where objects are: in `/dev/shm` or the directory that `SHOAL_DIR` names, and the errors if it cannot be used.
//!
//! A process chooses its directory once, so this test program itself uses no object: all of it
//! happens in forked children.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::ready::{UNTIL_IT_IS, poll};
use crate::common::shm::{in_directory, with_mount};
use crate::common::{Bell, NOWAIT, fork, own_process, tiny};
use shoal::device::{Machine, lease::Request};
use shoal::{Error, List, Lock, Map, Options, Pipe, Queue, Status};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() == 0 }
}

fn choose(directory: &str) {
    // SAFETY: in a child of the test, whose only thread this is.
    unsafe { std::env::set_var("SHOAL_DIR", directory) };
}

/// Every way to create an object.
fn creations() -> Vec<Result<(), Error>> {
    vec![
        Queue::anonymous().map(drop),
        Queue::create("some-queue").map(drop),
        Queue::with_options(Some("new-queue"), &tiny().exclusive()).map(drop),
        Map::anonymous().map(drop),
        List::anonymous().map(drop),
        Lock::anonymous().map(drop),
        Pipe::pair().map(drop),
    ]
}

/// Objects of all kinds, shared with another process.
fn use_objects(directory: &Path) {
    let queue = Queue::create("jobs").unwrap();
    assert!(directory.join("shoal.jobs").exists());
    assert!(!Path::new("/dev/shm/shoal.jobs").exists());
    let map = Map::anonymous().unwrap();
    fork(|| {
        let own = Queue::open("jobs").unwrap();
        own.put(&vec![5; 1 << 20], NOWAIT).unwrap();
        own.put(b"leased", NOWAIT).unwrap();
        map.set(b"key", &[6; 100_000]).unwrap();
        // It ends with everything open.
        std::mem::forget(own);
    })
    .ends_well();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), vec![5; 1 << 20]);
    queue.lease(NOWAIT).unwrap().ack().unwrap();
    assert_eq!(map.get_vec(b"key").unwrap().unwrap(), [6; 100_000]);
    assert_eq!(map.remove(b"key"), Ok(true));
    let named = |name: &str| shoal::list().unwrap().iter().any(|it| it.name == name);
    assert!(named("jobs") && named(map.name()));
    drop(queue);
    assert!(!named("jobs"));

    let kept = Queue::with_options(Some("kept"), &tiny().persistent()).unwrap();
    kept.put(b"inside", NOWAIT).unwrap();
    drop(kept);
    let kept = Queue::open("kept").unwrap();
    assert_eq!(kept.get_vec(NOWAIT).unwrap(), b"inside");
    Queue::unlink("kept").unwrap();

    // Objects of a killed process are found there too.
    let up = Bell::new();
    let dead = fork(|| {
        std::mem::forget(Queue::create("dead").unwrap());
        up.ring();
        Bell::new().hear();
    });
    up.hear();
    dead.kill();
    assert_eq!(shoal::gc(false).unwrap(), ["dead"]);
}

#[test]
fn shoal_dir_holds_all_objects() {
    own_process(|| {
        in_directory("all", use_objects);
    });
}

#[test]
fn any_file_system_with_the_needed_features_is_accepted() {
    own_process(|| {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fork(|| {
            choose(directory.to_str().unwrap());
            match Lock::anonymous() {
                Ok(lock) => {
                    drop(lock);
                    use_objects(&directory);
                }
                // The file system of the build outputs, whichever it is.
                Err(Error::Unsupported { what }) => eprintln!("skipped: {what}"),
                Err(err) => panic!("{err}"),
            }
        })
        .ends_well();
        let left = fs::read_dir(&directory).unwrap().count();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(left, 0);
    });
}

#[test]
fn an_error_names_the_feature_that_a_file_system_lacks() {
    own_process(|| {
        in_directory("lacks", |directory| {
            let place = directory.to_str().unwrap();
            for (kind, lacks) in [("ramfs", "fallocate"), ("hugetlbfs", "4096 bytes")] {
                with_mount(place, kind, 0, "", || {
                    for refused in creations() {
                        let err = refused.unwrap_err();
                        assert!(matches!(err, Error::Unsupported { .. }), "{err}");
                        let sentence = err.to_string();
                        for part in [place, lacks, "SHOAL_DIR"] {
                            assert!(sentence.contains(part), "{sentence}");
                        }
                    }
                    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
                });
            }
        });
    });
}

/// The error of every call says what is wrong with the directory.
fn all_are_refused(directory: &str, status: Status) {
    let mut refused = creations();
    refused.extend([
        Queue::open("some-queue").map(drop),
        Queue::unlink("some-queue"),
        shoal::unlink("some-queue"),
        shoal::stat("some-queue").map(drop),
        shoal::list().map(drop),
        shoal::gc(false).map(drop),
    ]);
    for refused in refused {
        let err = refused.unwrap_err();
        assert_eq!(err.status(), status, "{err}");
        let sentence = err.to_string();
        assert!(sentence.contains(directory), "{sentence}");
        assert!(sentence.contains("SHOAL_DIR"), "{sentence}");
        // What a caller in C gets of it.
        assert!(sentence.len() < 1000, "{sentence}");
    }
}

#[test]
fn an_error_names_a_directory_whose_path_does_not_exist() {
    own_process(|| {
        let circle = format!("/dev/shm/test-circle-{}", std::process::id());
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        let long = format!("/{}", "a".repeat(300));
        let longer = "/abcdefgh".repeat(600);
        for directory in [&circle, &long, &longer] {
            fork(|| {
                choose(directory);
                let begin = &directory[..directory.len().min(100)];
                all_are_refused(begin, Status::ErrInvalid);
            })
            .ends_well();
        }
        fs::remove_file(circle).unwrap();
        // It exists, and refuses new files.
        fork(|| {
            choose("/proc");
            for refused in creations() {
                let err = refused.unwrap_err();
                assert_eq!(err.status(), Status::ErrUnsupported, "{err}");
                assert!(err.to_string().contains("/proc"), "{err}");
            }
        })
        .ends_well();
    });
}

#[test]
fn an_error_names_a_missing_directory() {
    own_process(|| {
        let all = |directory: &str| all_are_refused(directory, Status::ErrUnsupported);
        // A container without /dev/shm.
        with_mount("/dev", "tmpfs", 0, "", || all("/dev/shm"));
        for missing in ["/dev/shm/no-such-directory", "/etc/passwd"] {
            fork(|| {
                choose(missing);
                all(missing);
            })
            .ends_well();
        }
    });
}

#[test]
fn a_directory_that_is_no_absolute_path_is_refused() {
    own_process(|| {
        fork(|| {
            choose("objects");
            for refused in creations() {
                let err = refused.unwrap_err();
                assert!(matches!(err, Error::Invalid { .. }), "{err}");
                assert!(err.to_string().contains("SHOAL_DIR"), "{err}");
            }
            // It can be corrected, since it was not used yet.
            choose("");
            drop(Queue::anonymous().unwrap());
        })
        .ends_well();
    });
}

#[test]
fn a_directory_without_permission_is_a_permission_error() {
    own_process(|| {
        let refused = |directory: &str| {
            for refused in creations() {
                let err = refused.unwrap_err();
                assert!(matches!(err, Error::Permission { .. }), "{err:?}");
                assert!(err.to_string().contains(directory), "{err}");
            }
        };
        with_mount("/dev/shm", "tmpfs", libc::MS_RDONLY, "", || {
            refused("/dev/shm");
        });
        if !is_root() {
            eprintln!("skipped: only root can become another user");
            return;
        }
        in_directory("refuses", |directory| {
            for mode in [0o755, 0o711, 0o700] {
                fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
                fork(|| {
                    // SAFETY: this process is a child of the test, and ends after this.
                    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
                    let directory = directory.to_str().unwrap();
                    refused(directory);
                    let others = match mode {
                        0o755 => vec![],
                        0o711 => vec![shoal::list().map(drop)],
                        _ => vec![
                            shoal::list().map(drop),
                            Queue::open("some-queue").map(drop),
                            Queue::unlink("some-queue"),
                        ],
                    };
                    for err in others.into_iter().map(Result::unwrap_err) {
                        let said = err.to_string();
                        assert!(matches!(err, Error::Permission { .. }), "{err:?}");
                        assert!(
                            said.contains(directory) && said.contains("SHOAL_DIR"),
                            "{said}"
                        );
                    }
                })
                .ends_well();
            }
        });
    });
}

/// Other users get nothing, and the user all.
#[test]
fn objects_are_shared_with_the_processes_of_the_user_whatever_the_umask() {
    own_process(|| {
        in_directory("umask", |directory| {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
            for umask in [0o000, 0o077, 0o277, 0o477, 0o777] {
                // Root may write, whatever the mode is.
                fork(|| {
                    if is_root() {
                        // SAFETY: this process is a child of the test, and ends after this.
                        assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
                    }
                    // SAFETY: an integer.
                    unsafe { libc::umask(umask) };
                    let queue = Queue::create("jobs").unwrap();
                    let fd = queue.fd().unwrap().as_raw_fd();
                    let made: Vec<_> = fs::read_dir(directory).unwrap().collect();
                    // The queue's file, its FIFO, and the one that says which processes live.
                    assert_eq!(made.len(), 3, "{made:?}");
                    for entry in made {
                        let facts = entry.unwrap().metadata().unwrap();
                        assert_eq!(facts.permissions().mode() & 0o777, 0o600, "{facts:?}");
                    }
                    fork(|| Queue::open("jobs").unwrap().put(b"x", NOWAIT).unwrap()).ends_well();
                    assert!(poll(fd, UNTIL_IT_IS));
                    drop(queue);
                    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
                })
                .ends_well();
            }
        });
    });
}

#[test]
fn an_object_on_a_read_only_file_system_is_a_permission_error_that_names_the_directory() {
    own_process(|| {
        with_mount("/dev/shm", "tmpfs", 0, "", || {
            let persistent = Options::create().persistent();
            drop(Queue::with_options(Some("kept"), &persistent).unwrap());
            let read_only = libc::MS_REMOUNT | libc::MS_RDONLY;
            with_mount("/dev/shm", "tmpfs", read_only, "", || {
                let err = Queue::open("kept").unwrap_err();
                assert!(
                    matches!(&err, Error::Permission { name, .. } if name == "kept"),
                    "{err:?}"
                );
                for part in ["/dev/shm", "Read-only", "SHOAL_DIR"] {
                    assert!(err.to_string().contains(part), "{err}");
                }
            });
        });
    });
}

#[test]
fn a_lease_without_an_inode_names_the_inodes() {
    own_process(|| {
        // The root, and the directory of the leases, or not even that.
        for inodes in ["nr_inodes=1", "nr_inodes=2"] {
            with_mount("/dev/shm", "tmpfs", 0, inodes, || {
                let mut machine = Machine::from_environment();
                machine.fake = Some("cuda:1".to_owned());
                machine.leases = "/dev/shm/leases".into();
                let err = Request::new(1)
                    .machine(machine)
                    .acquire(NOWAIT)
                    .err()
                    .unwrap();
                assert!(matches!(err, Error::NoInodes { .. }), "{err:?}");
                for part in ["/dev/shm", "inode", "SHOAL_LEASE_DIR"] {
                    assert!(err.to_string().contains(part), "{err}");
                }
            });
        }
    });
}

#[test]
fn no_inode_left_is_no_space() {
    own_process(|| {
        with_mount("/dev/shm", "tmpfs", 0, "nr_inodes=4", || {
            let mut made = Vec::new();
            let err = loop {
                match Queue::with_options(None, &tiny()) {
                    Ok(queue) => made.push(queue),
                    Err(err) => break err,
                }
            };
            assert!(!made.is_empty() && made.len() <= 4, "{}", made.len());
            assert!(matches!(err, Error::NoInodes { limit: 4, .. }), "{err:?}");
            assert_eq!(err.status(), Status::ErrNoSpace);
            let sentence = err.to_string();
            for part in ["/dev/shm", "inode", "4"] {
                assert!(sentence.contains(part), "{sentence}");
            }
            // A freed object makes room for another, and so does one whose process was killed.
            made.pop();
            fork(|| std::mem::forget(Queue::with_options(None, &tiny()).unwrap())).ends_well();
            // Longer than the pause after a collection that freed nothing, see `src/segment/collect.rs`.
            std::thread::sleep(Duration::from_millis(50));
            drop(Queue::with_options(None, &tiny()).unwrap());
        });
    });
}

#[test]
fn without_proc_objects_are_opened_and_forks_are_participants() {
    own_process(|| {
        in_directory("no-proc", |_| {
            with_mount("/proc", "tmpfs", 0, "", || {
                assert!(!Path::new("/proc/self").exists());
                let queue = Queue::with_options(Some("named"), &tiny()).unwrap();
                let opened = Queue::open("named").unwrap();
                fork(|| queue.put(b"from a child", NOWAIT).unwrap()).ends_well();
                assert_eq!(opened.get_vec(NOWAIT).unwrap(), b"from a child");
                // The name of the object is not needed.
                Queue::unlink("named").unwrap();
                fork(|| queue.put(b"without a name", NOWAIT).unwrap()).ends_well();
                assert_eq!(opened.get_vec(NOWAIT).unwrap(), b"without a name");
            });
        });
    });
}

#[test]
fn the_defaults_of_options_do_not_depend_on_the_directory() {
    own_process(|| {
        let of_default = || {
            let queue = Queue::with_options(None, &Options::create()).unwrap();
            [queue.capacity(), queue.max_capacity()].map(u64::to_le_bytes)
        };
        let (mut here, to_here) = std::io::pipe().unwrap();
        fork(|| (&to_here).write_all(of_default().as_flattened()).unwrap()).ends_well();
        in_directory("defaults", |_| {
            let mut other = [[0; 8]; 2];
            here.read_exact(other.as_flattened_mut()).unwrap();
            assert_eq!(of_default(), other);
        });
    });
}

/// Writes this file to the disk, lets the page cache forget it, and reads it, as a backup does.
fn back_up(file: &Path) {
    let mut file = fs::File::open(file).unwrap();
    file.sync_all().unwrap();
    // SAFETY: an open file, which does not change.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let mut piece = vec![0; 1 << 16];
    while file.read(&mut piece).unwrap() > 0 {}
}

/// Changes objects that are on a disk, while it has room and while it has none.
fn change_on_disk(directory: &Path) {
    let options = Options::create().persistent().max_capacity(8 << 20);
    let (value, mut refused) = (vec![7; 70_000], 0);
    let mut check = |done: Result<(), Error>| match done {
        Ok(()) | Err(Error::Timeout) => {}
        Err(Error::NoSpace { .. }) => refused += 1,
        Err(err) => panic!("{err}"),
    };
    let _attached = Queue::create("attached").unwrap();
    for round in 0..6usize {
        let queue = Queue::with_options(Some("jobs"), &options).unwrap();
        let map = Map::with_options(Some("values"), &options).unwrap();
        for step in 0..300usize {
            let size = [100, 3000, 20_000, 70_000][(step + round) % 4];
            let key = [((step * 31 + round) % 151) as u8];
            check(queue.put(&value[..size], NOWAIT));
            check(map.set(&key, &value[..size]));
            if step % 3 == 0 {
                check(queue.get_vec(NOWAIT).map(drop));
                check(map.remove(&[key[0] / 2]).map(drop));
            }
        }
        drop((queue, map));
        for name in ["jobs", "values"] {
            back_up(&directory.join(format!("shoal.{name}")));
        }
        let filler = directory.join("filler");
        match round % 2 {
            0 => {
                let mut filler = fs::File::create(&filler).unwrap();
                for size in [1 << 20, 4096, 512] {
                    while filler.write_all(&vec![1; size]).is_ok() {}
                }
                assert!(filler.sync_all().is_ok());
            }
            _ => fs::remove_file(filler).unwrap(),
        }
    }
    assert!(refused > 0, "the disk was never full");
}

#[test]
fn a_full_disk_is_an_error_and_no_signal() {
    own_process(|| {
        in_directory("disk", |directory| {
            let place = directory.to_str().unwrap();
            for block in ["4096", "1024"] {
                with_mount(place, "tmpfs", 0, "size=40m", || {
                    let (image, disk) = (directory.join("image"), directory.join("disk"));
                    fs::File::create(&image).unwrap().set_len(20 << 20).unwrap();
                    fs::create_dir(&disk).unwrap();
                    let run = |command: &mut Command| command.status().is_ok_and(|it| it.success());
                    let made = run(Command::new("mkfs.ext4").args(["-qFb", block]).arg(&image));
                    let mount = ["-o", "loop"];
                    if !made || !run(Command::new("mount").args(mount).arg(&image).arg(&disk)) {
                        eprintln!("skipped: no ext4 in a file can be made and mounted here");
                        return;
                    }
                    choose(disk.to_str().unwrap());
                    change_on_disk(&disk);
                });
            }
        });
    });
}
