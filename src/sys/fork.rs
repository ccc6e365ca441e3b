//! A hook that runs in both processes of every `fork`.

use std::sync::Once;

use crate::error::{Error, Result};

/// Registers the three handlers once per process, for good.
///
/// `prepare` runs in the parent before the fork, `parent` and `child` after it in the thread
/// that forked. `child` may make system calls but must not allocate or take a lock that
/// `prepare` does not hold: other threads may have held it at the moment of the fork.
pub(crate) fn at_fork(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> Result<()> {
    static ONCE: Once = Once::new();
    let mut rc = 0;
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded while
        // a handle exists, and need no argument.
        rc = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
    match rc {
        0 => Ok(()),
        errno => Err(Error::Os {
            call: "pthread_atfork",
            errno,
        }),
    }
}
