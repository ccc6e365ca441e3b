//! The FIFOs behind the descriptors of queues: that they go with their objects.
//!
//! A process chooses the directory of its objects once, so this test program itself uses none: all of
//! it happens in forked children, in directories of their own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::common::ready::{is_readable, wait_readable};
use crate::common::shm::in_directory;
use crate::common::{Bell, NOWAIT, fixed, fork, fork_and_exit, own_process, tiny};
use shoal::{Error, Pipe, Queue};

/// The FIFOs in a directory.
fn fifos(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let is_fifo = |it: &fs::DirEntry| it.file_type().unwrap().is_fifo();
    entries.filter(is_fifo).map(|it| it.path()).collect()
}

#[test]
fn the_last_process_removes_the_fifo() {
    own_process(|| {
        in_directory("fifo", |directory| {
            assert!(fifos(directory).is_empty());
            for asker_leaves_first in [true, false] {
                let queue = Queue::with_options(Some("jobs"), &tiny()).unwrap();
                assert!(fifos(directory).is_empty());
                let (asked, leave) = (Bell::new(), Bell::new());
                let asker = fork_and_exit(|| {
                    let same = Queue::open("jobs").unwrap();
                    assert!(!is_readable(&same));
                    asked.ring();
                    leave.hear();
                });
                asked.hear();
                assert_eq!(fifos(directory), [directory.join("shoal=0.jobs")]);
                if asker_leaves_first {
                    leave.ring();
                    asker.ends_well();
                    assert_eq!(fifos(directory).len(), 1);
                    drop(queue);
                } else {
                    drop(queue);
                    assert_eq!(fifos(directory).len(), 1);
                    leave.ring();
                    asker.ends_well();
                }
                assert!(fifos(directory).is_empty());
            }
            let pipe = Pipe::pair().unwrap();
            let _ = (pipe.0.fd().unwrap(), pipe.1.fd().unwrap());
            assert_eq!(fifos(directory).len(), 2);
            drop(pipe);
            assert!(fifos(directory).is_empty());
        });
    });
}

#[test]
fn a_fifo_is_removed_with_its_object() {
    own_process(|| {
        in_directory("fifogoes", |directory| {
            let leave = || {
                fork(|| {
                    let queue = Queue::create("jobs").unwrap();
                    assert!(!is_readable(&queue));
                    std::mem::forget(queue);
                })
                .ends_well();
                assert_eq!(fifos(directory).len(), 1);
            };
            leave();
            assert_eq!(shoal::gc(true).unwrap(), ["jobs"]);
            assert_eq!(fifos(directory).len(), 1);
            assert_eq!(shoal::gc(false).unwrap(), ["jobs"]);
            assert!(fifos(directory).is_empty());
            leave();
            assert!(matches!(Queue::open("jobs"), Err(Error::NotFound { .. })));
            assert!(fifos(directory).is_empty());
            leave();
            Queue::unlink("jobs").unwrap();
            assert!(fifos(directory).is_empty());
            // The FIFO of an object whose file was removed by other means.
            leave();
            fs::remove_file(directory.join("shoal.jobs")).unwrap();
            assert_eq!(shoal::gc(true).unwrap(), [""; 0]);
            assert_eq!(fifos(directory).len(), 1);
            assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
            assert!(fifos(directory).is_empty());
            // A FIFO in use stays.
            let queue = Queue::create("jobs").unwrap();
            assert!(!is_readable(&queue));
            assert_eq!(shoal::gc(false).unwrap(), [""; 0]);
            assert_eq!(fifos(directory).len(), 1);
        });
    });
}

#[test]
fn a_persistent_queue_keeps_its_fifo_until_it_is_unlinked() {
    own_process(|| {
        in_directory("fifostays", |directory| {
            for _ in 0..2 {
                let queue = Queue::with_options(Some("jobs"), &tiny().persistent()).unwrap();
                queue.put(b"x", NOWAIT).unwrap();
                assert!(is_readable(&queue));
                drop(queue);
                assert_eq!(fifos(directory).len(), 1);
                // No process has it open, so its content is lost.
                let queue = Queue::open("jobs").unwrap();
                assert!(is_readable(&queue));
                queue.get_vec(NOWAIT).unwrap();
                assert!(!is_readable(&queue));
            }
            Queue::unlink("jobs").unwrap();
            assert!(fifos(directory).is_empty());
        });
    });
}

#[test]
fn a_byte_that_a_program_read_from_the_fifo_is_restored() {
    own_process(|| {
        in_directory("stolen", |directory| {
            let queue = fixed(4096);
            queue.put(b"x", NOWAIT).unwrap();
            assert!(is_readable(&queue));
            let fifo = fifos(directory).pop().unwrap();
            let mut file = fs::File::options()
                .read(true)
                .write(true)
                .open(fifo)
                .unwrap();
            let mut bytes = [0; 100];
            assert!(file.read(&mut bytes).unwrap() > 0);
            wait_readable(&queue);
            // A byte that a program wrote into the FIFO is removed.
            queue.get_vec(NOWAIT).unwrap();
            assert!(!is_readable(&queue));
            file.write_all(b"?").unwrap();
            while is_readable(&queue) {
                std::thread::yield_now();
            }
        });
    });
}
