//! Leaving, and a hook that runs when the process exits by itself.

use super::once::Once;
use crate::error::{Error, Result};

/// Registers `handler`, if `once` says that it is not. A failure is the caller's error, and
/// the next caller tries again. It does not run when the process is killed or leaves by
/// `_exit`.
pub(crate) fn at_exit(once: &Once, handler: extern "C" fn()) -> Result<()> {
    once.run(|| {
        // SAFETY: the handler is a function of this library, which stays loaded until then.
        match unsafe { libc::atexit(handler) } {
            0 => Ok(()),
            // Its only failure, which leaves no errno.
            _ => Err(Error::Os {
                call: "atexit",
                errno: libc::ENOMEM,
            }),
        }
    })
}

/// Leaves without running the exit handlers.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}
