//! Threads of the library's own, in a process that is somebody else's.

use crate::error::{Error, Result};

use super::spawn::{signal_set, thread_signal_mask};

/// Starts a thread in which none of the host's signal handlers ever run.
///
/// It ends with the process, and does not exist in a forked child.
pub(crate) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    // A thread inherits the mask of its creator.
    let old = thread_signal_mask(Some(&signal_set(true)));
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body);
    thread_signal_mask(Some(&old));
    thread.map(drop).map_err(|err| Error::Os {
        call: "pthread_create",
        errno: err.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}

/// The kernel's number of the calling thread.
pub(crate) fn id() -> u32 {
    // SAFETY: it only asks.
    unsafe { libc::gettid() as u32 }
}
