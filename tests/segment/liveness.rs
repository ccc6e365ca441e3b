//! Which processes live is known also where the liveness file was removed, and without a free descriptor.
//!
//! This test program itself uses no object: all of it happens in forked children, in directories of
//! their own.

use std::fs::{self, File};
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::shm::{allow_descriptors, descriptors, in_directory};
use crate::common::{Bell, FOREVER, NOWAIT, fork, fork_and_exit, millis, own_process};
use shoal::{Error, Event, Lock, Options};

fn liveness_files(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().flatten();
    let paths = all.map(|it| it.path());
    paths
        .filter(|it| it.to_string_lossy().contains("shoal+"))
        .collect()
}

#[test]
fn a_process_without_its_liveness_file_is_not_considered_dead() {
    own_process(|| {
        in_directory("liveness", |directory| {
            let (up, go) = (Bell::new(), Bell::new());
            let owner = fork(|| {
                let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
                forget(lock.lock(NOWAIT).unwrap());
                up.ring();
                go.hear();
            });
            up.hear();
            let files = liveness_files(directory);
            assert_eq!(files.len(), 1);
            // This process has another liveness file.
            let _own = Event::anonymous().unwrap();
            let lock = Lock::open("contended").unwrap();
            fs::remove_file(&files[0]).unwrap();
            assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
            assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
            owner.kill();
            assert!(lock.lock(FOREVER).unwrap().owner_died());
        });
    });
}

#[test]
fn a_process_that_is_stopped_with_the_attach_lock_keeps_no_other_from_forking() {
    own_process(|| {
        in_directory("attach-lock", |directory| {
            let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
            let file = liveness_files(directory).pop().unwrap();
            let file = File::options().read(true).write(true).open(file).unwrap();
            // SAFETY: an all-zero `flock` is valid; an open descriptor.
            let locked = unsafe {
                let mut lock: libc::flock = std::mem::zeroed();
                lock.l_type = libc::F_WRLCK as libc::c_short;
                (lock.l_start, lock.l_len) = (1 << 62, 1);
                libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock)
            };
            assert_eq!(locked, 0);
            let up = Bell::new();
            let child = fork(|| {
                forget(lock.lock(NOWAIT).unwrap());
                up.ring();
                Bell::new().hear();
            });
            up.hear();
            assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
            child.kill();
            assert!(lock.lock(FOREVER).unwrap().owner_died());
            drop(file);
            drop(lock);
            shoal::gc(false).unwrap();
        });
    });
}

#[test]
fn dead_processes_are_detected_without_a_free_descriptor() {
    own_process(|| {
        in_directory("no-descriptor", |_| {
            let up = Bell::new();
            let owner = fork(|| {
                let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
                forget(lock.lock(NOWAIT).unwrap());
                up.ring();
                Bell::new().hear();
            });
            up.hear();
            let _own = Event::anonymous().unwrap();
            let lock = Lock::open("contended").unwrap();
            let mut files = Vec::new();
            allow_descriptors(descriptors() as u64 + 20);
            while let Ok(file) = File::open("/dev/null") {
                files.push(file);
            }
            assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
            owner.kill();
            assert!(lock.lock(FOREVER).unwrap().owner_died());
            drop(files);
            // The record of the killed process in it.
            shoal::gc(false).unwrap();
        });
    });
}

/// What rings as the last thing that a process does, and then waits.
static LAST: OnceLock<[Bell; 2]> = OnceLock::new();

extern "C" fn last() {
    let [up, go] = LAST.get().unwrap();
    up.ring();
    go.hear();
}

#[test]
fn an_exiting_process_keeps_its_locks_and_does_not_keep_names() {
    own_process(|| {
        in_directory("exit", |directory| {
            let [up, go] = LAST.get_or_init(|| [Bell::new(), Bell::new()]);
            let owner = fork_and_exit(|| {
                // Before the library's own: it runs after that, as what a program's threads do may.
                // SAFETY: a function that needs nothing.
                assert_eq!(unsafe { libc::atexit(last) }, 0);
                let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
                forget(Event::with_options(Some("left"), &Options::create()).unwrap());
                forget(lock.lock(NOWAIT).unwrap());
                forget(lock);
                up.ring();
                go.hear();
            });
            up.hear();
            let lock = Lock::open("contended").unwrap();
            let left = Event::open("left").unwrap();
            go.ring();
            up.hear();
            assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
            drop(left);
            assert!(!directory.join("shoal.left").exists());
            go.ring();
            owner.ends_well();
            assert!(lock.lock(FOREVER).unwrap().owner_died());
            drop(lock);
            assert_eq!(liveness_files(directory).len(), 0);
        });
    });
}

#[test]
fn the_last_of_several_processes_that_end_removes_their_liveness_file() {
    own_process(|| {
        for exits in [true, false] {
            in_directory("both-end", |directory| {
                let [up, go] = LAST.get_or_init(|| [Bell::new(), Bell::new()]);
                let first = fork_and_exit(|| {
                    // SAFETY: a function that needs nothing.
                    assert_eq!(unsafe { libc::atexit(last) }, 0);
                    forget(Event::with_options(Some("shared"), &Options::create()).unwrap());
                    up.ring();
                    go.hear();
                });
                up.hear();
                let (opened, end) = (Bell::new(), Bell::new());
                let second = fork_and_exit(|| {
                    let event = Event::open("shared").unwrap();
                    opened.ring();
                    end.hear();
                    match exits {
                        true => forget(event),
                        false => drop(event),
                    }
                });
                opened.hear();
                assert_eq!(liveness_files(directory).len(), 1);
                go.ring();
                up.hear();
                // The first one has left, and lives.
                end.ring();
                second.ends_well();
                assert_eq!(liveness_files(directory).len(), 0);
                go.ring();
                first.ends_well();
            });
        }
    });
}

#[test]
fn a_process_that_has_closed_every_descriptor_removes_its_liveness_file_at_its_end() {
    own_process(|| {
        in_directory("closed", |directory| {
            let closer = fork_and_exit(|| {
                forget(Event::with_options(Some("left"), &Options::create()).unwrap());
                // As a daemon does. SAFETY: this child uses none of them.
                let close = |fd| unsafe { libc::close(fd) };
                assert!((3..1024).map(close).any(|closed| closed == 0));
            });
            closer.ends_well();
            assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
        });
    });
}
