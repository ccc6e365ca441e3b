//! Leaving, and a hook that runs when the process exits by itself.

use std::sync::Once;

use crate::error::{Error, Result};

/// Registers `handler` once per process. It does not run when the process is killed or
/// leaves by `_exit`.
pub(crate) fn at_exit(handler: extern "C" fn()) -> Result<()> {
    static ONCE: Once = Once::new();
    let mut rc = 0;
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of this library, which stays loaded until then.
        rc = unsafe { libc::atexit(handler) };
    });
    if rc == 0 {
        Ok(())
    } else {
        Err(Error::Exhausted {
            what: "exit handlers",
            limit: 32,
        })
    }
}

/// Leaves without running the exit handlers.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}
