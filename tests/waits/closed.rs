//! That waits end in a program that has closed every descriptor that it found, as daemons do.

use std::os::fd::AsRawFd;

use crate::common::ready::{fd, is_readable, wait_readable};
use crate::common::{FOREVER, NOWAIT, alone, fixed, fork, millis};
use shoal::Waitable::{Process as P, Queue as Q};
use shoal::{Error, Exit, ExitKind, Spawn, wait_any};

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
        // SAFETY: integers; the numbers are those of files that were closed.
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
        // Its waiters are notified too when its waits are ended.
        close_all();
        queue.end_waits();
        wait_readable(&queue);
    });
    daemon.ends_well();
}

#[test]
fn a_process_is_waited_for_and_joined_after_the_program_has_closed_all_descriptors() {
    let _alone = alone();
    let killed = Exit {
        kind: ExitKind::Signaled,
        code: libc::SIGKILL,
    };
    for close in [close_all, close_all_and_reuse] {
        let daemon = fork(|| {
            let sleeper = Spawn::new("sleep").arg("600").spawn().unwrap();
            close();
            assert_eq!(wait_any(&[P(&sleeper)], millis(1)), Err(Error::Timeout));
            assert_eq!(sleeper.join(millis(1)), Err(Error::Timeout));
            close();
            sleeper.kill().unwrap();
            assert_eq!(wait_any(&[P(&sleeper)], FOREVER), Ok(0));
            close();
            assert_eq!(sleeper.join(FOREVER), Ok(killed));
            // It has ended, and its number may belong to another process.
            close();
            assert_eq!(sleeper.join(NOWAIT), Ok(killed));
            assert!(sleeper.pidfd().is_none());
        });
        daemon.ends_well();
    }
}

#[test]
fn a_process_that_is_not_joined_is_reaped_after_the_program_has_closed_all_descriptors() {
    let _alone = alone();
    let daemon = fork(|| {
        let [before, after] = [(); 2].map(|()| Spawn::new("sleep").arg("600").spawn().unwrap());
        let pids = [before.pid(), after.pid()];
        drop(before);
        close_all();
        drop(after);
        for pid in pids {
            // SAFETY: a child of this process that nothing has reaped.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        }
        // Each start checks for processes that have ended.
        // SAFETY: it only asks.
        while pids.iter().any(|&pid| unsafe { libc::kill(pid, 0) } == 0) {
            Spawn::new("true").spawn().unwrap().join(FOREVER).unwrap();
        }
    });
    daemon.ends_well();
}
