//! `shoal_end_waits`: the way out for threads that wait.

use std::ffi::c_void;

use super::handle;
use super::status::guard;
use crate::error::Status;

/// Ends the waits through a handle: threads of this process that wait in a call through it come
/// back with SHOAL_ERR_CLOSED, and so does from now on each call that would have to wait. For
/// ending a thread that waits, and before a handle is freed that other threads use: end the waits,
/// join the threads, free it.
///
/// Calls that need not wait go on working until the handle is freed. Other handles on the object,
/// in this process too, and other processes do not notice. A thread that waits at a barrier breaks
/// it, as when its time is up; one that waits for a condition has the lock again when it comes back.
/// The descriptor of a queue or a pipe becomes readable.
///
/// `handle`: a queue, pipe, map, list, array, lock, semaphore, event, condition, barrier, read-write
/// lock or process.
/// Blocking, threads, fork: never waits; safe everywhere. A thread that waits for a process comes
/// back a tenth of a second later at most, others at once. Threads of a forked child, or of its
/// parent, do not notice. Ending waits twice is no error.
///
/// Errors: SHOAL_ERR_INVALID.
///
/// ```c
/// static void *consumer(void *q)
/// {
///     while (shoal_queue_get(q, buf, sizeof buf, &len, SHOAL_FOREVER) == SHOAL_OK)
///         work_on(buf, len);
///     return NULL;
/// }
/// ...
/// shoal_end_waits(q);
/// pthread_join(thread, NULL);
/// shoal_queue_free(q);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_end_waits(handle: *mut c_void) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::end_waits(handle) })
}
