//! Waiting
//!
//! Waiting for the first of several queues, pipes, processes and descriptors.
//!
//! Killed: Nothing: waiting changes no object.
//!
//! ```c
//! shoal_waitable things[] = {{.queue = answers}, {.process = worker}, {.fd = client}};
//! size_t ready;
//! if (shoal_wait_any(things, 3, SHOAL_FOREVER, &ready) == SHOAL_OK && ready == 1)
//!     fputs("the worker has ended\n", stderr);
//! ```

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use super::args::{self, Out};
use super::handle::{self, object};
use super::pipe::PipeHandle;
use super::process::ProcessHandle;
use super::queue::QueueHandle;
use super::status::guard_shielded;
use crate::error::{Error, Result, Status};
use crate::sys::fd::is_open;
use crate::wait::{self, Waitable};

/// Something to wait for: one of the pointers, or `fd` where all of them are NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Thing {
    /// Ready while there is something to get, and once it is closed or poisoned.
    pub queue: *mut QueueHandle,
    /// Ready while there is something to receive, and once the connection is over.
    pub pipe: *mut PipeHandle,
    /// Ready once it has ended. It is not joined by that.
    pub process: *mut ProcessHandle,
    /// Ready while it is readable, or at its end.
    pub fd: c_int,
}

impl Thing {
    /// # Safety
    /// As [`handle::get`] for a handle; a descriptor stays open while it is used.
    unsafe fn waitable<'a>(&self) -> Result<Waitable<'a>> {
        // SAFETY: the same contract.
        unsafe {
            match (
                self.queue.is_null(),
                self.pipe.is_null(),
                self.process.is_null(),
            ) {
                (false, true, true) => object(self.queue).map(Waitable::Queue),
                (true, false, true) => object(self.pipe).map(Waitable::Pipe),
                (true, true, false) => handle::get(self.process).map(Waitable::Process),
                (true, true, true) if is_open(self.fd) => {
                    Ok(Waitable::Fd(BorrowedFd::borrow_raw(self.fd)))
                }
                (true, true, true) => Err(Error::invalid(
                    "thing to wait for",
                    format!(
                        "each pointer is NULL, and {} is no open descriptor",
                        self.fd
                    ),
                )),
                _ => Err(Error::invalid(
                    "thing to wait for",
                    "more than one of its pointers is set: set one, or none and fd",
                )),
            }
        }
    }
}

/// Waits until one of several things is ready, and reports which: the first in the array if several are ready.
///
/// If an early one is always ready, later ones are never returned: for fairness, change the order from call
/// to call. A queue that was ready may be empty by the time you get, if others get from it too: get with
/// SHOAL_NOWAIT. A process may have put something just before it ended: check its queue once more.
///
/// `things`, `n`: at least one. `*out`: the index of the one that is ready.
/// It takes the descriptors of `shoal_queue_fd` for each queue and pipe, unless something is ready at once.
///
/// Errors: SHOAL_ERR_INVALID (none to wait for; a thing that is two, or a descriptor that is not open);
/// SHOAL_ERR_UNSUPPORTED (an end of a pipe that only sends); SHOAL_ERR_TOO_LARGE (more descriptors than
/// `ulimit -n` allows now); SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_wait_any(
    things: *const Thing,
    n: usize,
    timeout_ns: i64,
    out: *mut usize,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let things = unsafe { args::array("things", things, n) }?;
        // SAFETY: the caller's contract.
        let things = things.iter().map(|thing| unsafe { thing.waitable() });
        let things = things.collect::<Result<Vec<_>>>()?;
        out.set(wait::wait_any(&things, args::timeout(timeout_ns))?);
        Ok(())
    })
}
