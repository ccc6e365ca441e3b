//! Whether descriptors are readable.

use std::os::fd::{AsRawFd, RawFd};

use shoal::Queue;

pub(crate) const NOT_AT_ALL: i32 = 0;
pub(crate) const UNTIL_IT_IS: i32 = -1;

/// Whether any of these is readable, now or after waiting so many milliseconds.
pub(crate) fn poll_any(fds: &[RawFd], wait: i32) -> bool {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: as many entries as it is told.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, wait) };
    assert!(ready >= 0);
    ready > 0
}

pub(crate) fn poll(fd: RawFd, wait: i32) -> bool {
    poll_any(&[fd], wait)
}

pub(crate) fn fd(queue: &Queue) -> RawFd {
    queue.fd().unwrap().as_raw_fd()
}

pub(crate) fn is_readable(queue: &Queue) -> bool {
    poll(fd(queue), NOT_AT_ALL)
}

pub(crate) fn wait_readable(queue: &Queue) {
    assert!(poll(fd(queue), UNTIL_IT_IS));
}
