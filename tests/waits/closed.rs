//! That waits end in a program that has closed every descriptor that it found, as daemons do.

use std::os::fd::AsRawFd;

use crate::common::ready::{fd, is_readable, wait_readable};
use crate::common::{FOREVER, NOWAIT, alone, fixed, fork, millis};
use shoal::Waitable::Queue as Q;
use shoal::{Error, wait_any};

/// Closes all but the standard streams.
fn close_all() {
    // SAFETY: what the library keeps it has to look at before it uses it, and nothing else here has one.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// The same, and the numbers are those of a file that never becomes readable.
fn close_all_and_reuse() {
    close_all();
    let (quiet, writer) = std::io::pipe().unwrap();
    for number in 3..100 {
        // SAFETY: integers; whoever had these numbers has lost them.
        let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        if !is_open {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::dup2(quiet.as_raw_fd(), number) }, number);
        }
    }
    std::mem::forget((quiet, writer));
}

#[test]
fn a_wait_for_any_sees_what_comes_after_the_program_has_closed_all_descriptors() {
    let _alone = alone();
    for close in [close_all, close_all_and_reuse] {
        let queue = fixed(4096);
        let mut daemon = fork(|| {
            assert_eq!(wait_any(&[Q(&queue)], millis(1)), Err(Error::Timeout));
            close();
            assert_eq!(wait_any(&[Q(&queue)], FOREVER), Ok(0));
        });
        daemon.wait_asleep();
        queue.put(b"x", NOWAIT).unwrap();
        daemon.ends_well();
    }
}

/// However often: what was there before is given up.
#[test]
fn a_queue_has_a_descriptor_again_after_the_program_has_closed_all() {
    let _alone = alone();
    let daemon = fork(|| {
        let queue = fixed(4096);
        let before = fd(&queue);
        assert_eq!(fd(&queue), before);
        for _ in 0..300 {
            close_all();
            assert!(!is_readable(&queue));
        }
        close_all_and_reuse();
        assert!(!is_readable(&queue));
        queue.put(b"x", NOWAIT).unwrap();
        wait_readable(&queue);
        queue.get_vec(NOWAIT).unwrap();
        assert!(!is_readable(&queue));
        // Those that wait for it are told, too, when its waits are ended.
        close_all();
        queue.end_waits();
        wait_readable(&queue);
    });
    daemon.ends_well();
}
