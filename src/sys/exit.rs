//! Exiting, and a hook that runs when the process exits normally.

use super::once::Once;
use crate::error::{Error, Result};

/// Registers `handler`, once. If that fails, the caller gets the error, and the next caller tries again. The
/// handler does not run when the process is killed or calls `_exit`.
pub(crate) fn at_exit(once: &Once, handler: extern "C" fn()) -> Result<()> {
    once.run(|| {
        // SAFETY: the handler is a function of this library, which stays loaded until then.
        match unsafe { libc::atexit(handler) } {
            0 => Ok(()),
            // Its only failure, which sets no errno.
            _ => Err(Error::Os {
                call: "atexit",
                errno: libc::ENOMEM,
            }),
        }
    })
}

/// Exits without running the exit handlers.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: _exit has no conditions, and returns to no Rust code.
    unsafe { libc::_exit(code) }
}
