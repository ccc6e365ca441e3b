//! Protection of calls against `pthread_cancel`.
//!
//! A cancelled thread ends at its next cancellation point, which are some of the C library's functions: they
//! unwind its stack. That would leave changes of shared memory half done, and Rust aborts the process at such
//! an unwind. So this library calls such functions only with cancellation disabled, and the thread ends at a
//! cancellation point of its program.

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
        // SAFETY: `old` is a place for the state. It fails only for an invalid state.
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
