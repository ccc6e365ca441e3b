//! `pthread_cancel` is kept out of calls.
//!
//! A cancelled thread ends at the next cancellation point that it comes to: some of the C library's
//! functions, which then unwind its stack. What is unwound so is gone with what it had begun in
//! shared memory, and Rust aborts the process instead. So no such function is called unshielded, and
//! the thread ends at a cancellation point of its program's.

use libc::c_int;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// The value with every C library of Linux.
const DISABLE: c_int = 1;

/// The calling thread is not cancelled while this lives.
pub(crate) struct Shield {
    old: c_int,
}

impl Shield {
    pub(crate) fn new() -> Self {
        let mut old = 0;
        // SAFETY: `old` is a place for the state. It fails only for another state.
        unsafe { pthread_setcancelstate(DISABLE, &mut old) };
        Self { old }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let mut shielded = 0;
        // SAFETY: as in `new`; the state is one that the thread had.
        unsafe { pthread_setcancelstate(self.old, &mut shielded) };
    }
}
