//! Which standard streams the caller of this program has closed.
//!
//! The standard library opens `/dev/null` in their place before `main`. What is written there is lost without
//! an error: a message that was taken from a queue and is acked then, for example.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_getfd};

static CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Runs before the standard library does anything.
#[used]
// The section has functions of this type. This one makes system calls only.
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

extern "C" fn note() {
    for (number, closed) in (0..).zip(&CLOSED) {
        // SAFETY: a number that is no open descriptor makes this call fail, and has no other effect.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        closed.store(fcntl_getfd(stream) == Err(Errno::BADF), Ordering::Relaxed);
    }
}

/// Fails if the caller has closed the standard input (0) or output (1).
pub(crate) fn check(stream: usize) -> io::Result<()> {
    match CLOSED[stream].load(Ordering::Relaxed) {
        true => Err(Errno::BADF.into()),
        false => Ok(()),
    }
}

/// Whether nobody can read the standard output any more: the other end of its pipe, socket or terminal is
/// closed.
pub(crate) fn has_no_reader() -> bool {
    let out = io::stdout();
    // Errors and hang-ups are reported without being asked for.
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ended = PollFlags::ERR | PollFlags::HUP;
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(ended)
}
