//! Waiting for several things: a queue's descriptor, and `shoal_wait_any`.

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use super::args::{self, Out};
use super::handle;
use super::process::ProcessHandle;
use super::queue::{QueueHandle, queue};
use super::status::guard_shielded;
use crate::error::{Error, Result, Status};
use crate::wait::{self, Waitable};

/// Something to wait for: a queue or a process. The other one is NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Thing {
    /// Ready while there is something to take, and once it is closed or poisoned.
    pub queue: *mut QueueHandle,
    /// Ready once it has ended. It is not joined by that.
    pub process: *mut ProcessHandle,
}

impl Thing {
    /// # Safety
    /// As [`handle::get`], for the one that is not NULL.
    unsafe fn waitable<'a>(&self) -> Result<Waitable<'a>> {
        // SAFETY: the same contract.
        unsafe {
            match (self.queue.is_null(), self.process.is_null()) {
                (false, true) => queue(self.queue).map(Waitable::Queue),
                (true, false) => handle::get(self.process).map(Waitable::Process),
                (true, true) => Err(Error::invalid("thing to wait for", "it is NULL")),
                (false, false) => Err(Error::invalid("thing to wait for", "it is two")),
            }
        }
    }
}

/// The queue's descriptor, for an event loop: it polls readable while there is something to
/// take, and once the queue is closed or poisoned. For poll, epoll and what is built on them.
///
/// It is readable some 30 us after a message was put, and no more once the call has returned that
/// took the last one, in whatever process: so a reader that polls it again under a lock which all
/// readers take, and then takes a message, does not wait. Without such a lock others may be faster:
/// take with SHOAL_NOWAIT. With edges (EPOLLET), take until SHOAL_ERR_EMPTY, as ever.
///
/// Where the queue's name was removed before the first call, or the directory of objects cannot be
/// written to, it is readable in vain for some 30 us after another process took the last message;
/// and in a closed queue while a process works on messages that it has leased.
///
/// Blocking, threads, fork: never blocks; safe everywhere. The first call of a process
/// starts a thread that stays. A forked child asks again, and gets its own; the descriptor of its
/// parent stays right while that lives.
/// Ownership: the descriptor is the handle's and closes with it. Do not close it, read from it
/// or write to it. It takes two descriptors of the process, and a FIFO beside the queue's file, which
/// goes with that.
///
/// Errors: SHOAL_ERR_OS (no descriptor or thread is to be had); SHOAL_ERR_INVALID.
///
/// ```c
/// struct pollfd polled[2] = {{.fd = client, .events = POLLIN}, {.events = POLLIN}};
/// if (shoal_queue_fd(jobs, &polled[1].fd) != SHOAL_OK)
///     fprintf(stderr, "%s\n", shoal_last_error());
/// while (poll(polled, 2, -1) > 0) {
///     while (shoal_queue_get(jobs, buf, sizeof buf, &len, SHOAL_NOWAIT) == SHOAL_OK)
///         work_on(buf, len);
///     if (polled[0].revents != 0)
///         talk_to(client);
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_fd(q: *mut QueueHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, queue) = unsafe { (Out::new("out", out)?, queue(q)?) };
        out.set(queue.fd()?.as_raw_fd());
        Ok(())
    })
}

/// Waits until one of several queues and processes is ready, and says which: the first by its
/// place among them.
///
/// Where one that stands early is always ready, the others' turn never comes: to be fair,
/// change the order from call to call. A queue that was ready may be empty by the time you
/// take from it, if others take from it too: take with SHOAL_NOWAIT. A process that has ended
/// may have put something just before: look into its queue once more.
///
/// `things`, `n`: what to wait for, at least one. `*out`: the index of the one that is ready.
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until one is ready or the time is over; any number of
/// threads may wait for the same things. Works in a forked child. Uses two descriptors more
/// for each queue, those of `shoal_queue_fd`, unless something is ready at once.
/// Ownership: `things` is not used after the call, and no handle in it may be freed before.
///
/// Errors: SHOAL_ERR_TIMEOUT (none was ready in time, with SHOAL_NOWAIT too);
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID (none to wait for; a thing that is NULL, or both a
/// queue and a process; a handle that is none); SHOAL_ERR_OS.
///
/// ```c
/// shoal_waitable things[] = {{.queue = answers}, {.process = worker}};
/// size_t ready;
/// if (shoal_wait_any(things, 2, SHOAL_FOREVER, &ready) == SHOAL_OK && ready == 1)
///     fputs("the worker has ended\n", stderr);
/// ```
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
        let (out, things) = unsafe { (Out::new("out", out)?, args::array("things", things, n)?) };
        // SAFETY: the caller's contract.
        let things = things.iter().map(|thing| unsafe { thing.waitable() });
        let things = things.collect::<Result<Vec<_>>>()?;
        out.set(wait::wait_any(&things, args::timeout(timeout_ns))?);
        Ok(())
    })
}
