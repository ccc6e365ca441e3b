//! Who lives is known also where the file that says so was removed, and without a free descriptor.
//!
//! This test program itself uses no object: all of it happens in forked children, in directories of
//! their own.

use std::fs::{self, File};
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::common::shm::{allow_descriptors, descriptors, in_directory};
use crate::common::{Bell, NOWAIT, fork, millis, own_process};
use shoal::{Error, Event, Lock, Options};

fn families(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().flatten();
    let paths = all.map(|it| it.path());
    paths
        .filter(|it| it.to_string_lossy().contains("shoal+"))
        .collect()
}

#[test]
fn a_process_whose_family_lost_its_file_is_not_taken_for_dead() {
    own_process(|| {
        in_directory("family", |directory| {
            let (up, go) = (Bell::new(), Bell::new());
            let owner = fork(|| {
                let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
                forget(lock.lock(NOWAIT).unwrap());
                up.ring();
                go.hear();
            });
            up.hear();
            let families = families(directory);
            assert_eq!(families.len(), 1);
            // This process is of another family.
            let _own = Event::anonymous().unwrap();
            let lock = Lock::open("contended").unwrap();
            fs::remove_file(&families[0]).unwrap();
            assert!(matches!(lock.lock(millis(300)), Err(Error::Timeout)));
            assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
            owner.kill();
            assert!(lock.lock(millis(2000)).unwrap().owner_died());
        });
    });
}

#[test]
fn a_process_that_is_stopped_in_a_familys_gate_keeps_nobody_from_forking() {
    own_process(|| {
        in_directory("gate", |directory| {
            let lock = Lock::with_options(Some("contended"), &Options::create()).unwrap();
            let family = families(directory).pop().unwrap();
            let family = File::options().read(true).write(true).open(family).unwrap();
            // SAFETY: an all-zero `flock` is valid; an open descriptor.
            let locked = unsafe {
                let mut gate: libc::flock = std::mem::zeroed();
                gate.l_type = libc::F_WRLCK as libc::c_short;
                (gate.l_start, gate.l_len) = (1 << 62, 1);
                libc::fcntl(family.as_raw_fd(), libc::F_OFD_SETLK, &gate)
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
            assert!(lock.lock(millis(2000)).unwrap().owner_died());
            drop(family);
            drop(lock);
            shoal::gc(false).unwrap();
        });
    });
}

#[test]
fn without_a_free_descriptor_the_dead_are_found_all_the_same() {
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
            assert!(lock.lock(millis(2000)).unwrap().owner_died());
            drop(files);
            // What says that the killed process lived.
            shoal::gc(false).unwrap();
        });
    });
}
