//! `shoal_queue`: shims over [`Queue`].

use std::ffi::{c_char, c_void};

use super::args::{self, Out, Slice};
use super::handle::{self, Named, opaque};
use super::options::{self, QueueOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Result, Status};
use crate::queue::Queue;

/// A named queue of messages that any number of processes put into and take from.
pub struct QueueHandle {
    _opaque: [u8; 0],
}

opaque!(QueueHandle, Named<Queue>, b"shl.queu", "queue handle");

/// # Safety
/// As [`handle::get`].
#[inline]
pub(super) unsafe fn queue<'a>(q: *mut QueueHandle) -> Result<&'a Queue> {
    // SAFETY: the same contract.
    unsafe { handle::get(q) }.map(|named| &named.object)
}

/// Opens or creates a queue.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a queue under a name
/// of its own, which `shoal_queue_name` tells.
/// `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
/// the queue; the others get what is there.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_queue_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_open(
    name: *const c_char,
    options: *const QueueOptions,
    out: *mut *mut QueueHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::queue(options) }?;
        let queue = Queue::with_options(name, &options)?;
        out.set(handle::new(Named::new(queue, Queue::name)));
        Ok(())
    })
}

/// Lets go of a queue. The last handle of all processes removes a queue that is not
/// persistent, with what is in it.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `q` is gone; NULL is allowed. A handle that was freed already is noticed and
/// left alone only as long as its place has not been used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_free(q: *mut QueueHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(q) });
}

/// The name of the queue, to open it by in another process. NULL if `q` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_name(q: *mut QueueHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(q) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Puts one message at the end of the queue, waiting for room if there is none.
///
/// `data`, `len`: the message, of any length, 0 too. It takes 16 to 31 bytes more in the ring.
/// `timeout_ns`: how long to wait for room, in nanoseconds; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until there is room or the time is over. Safe everywhere.
/// Ownership: `data` is copied.
///
/// Errors: SHOAL_ERR_FULL (SHOAL_NOWAIT) or SHOAL_ERR_TIMEOUT; SHOAL_ERR_CLOSED;
/// SHOAL_ERR_TOO_LARGE (it could never fit; at once); SHOAL_ERR_NO_SPACE (`/dev/shm` is full);
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT. After an
/// error nothing was put.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_put(
    q: *mut QueueHandle,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { queue(q)?.put(args::bytes("data", data, len)?, args::timeout(timeout_ns)) })
}

/// Puts several messages in order, as many as there is room for in time. One lock and one
/// wake-up serve all that fit together: much faster than one by one.
///
/// The messages are not one unit: others' may come between them.
///
/// `items`, `n`: the messages. `*done`: how many were put, always the first ones. It is less
/// than `n` if the time was over, or something failed, after the first: call again with the
/// rest to learn what.
/// `timeout_ns`: how long to wait for room in all; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: as `shoal_queue_put`.
/// Ownership: `items` and what they point to are copied.
///
/// Errors: as `shoal_queue_put`, and only if not one message was put.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_put_many(
    q: *mut QueueHandle,
    items: *const Slice,
    n: usize,
    done: *mut usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::preset("done", done, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, items) = unsafe { (queue(q)?, args::items("items", items, n)?) };
        done.set(queue.put_many(items, args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// Takes the first message, waiting for one if there is none.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the message's length.
/// `timeout_ns`: how long to wait for a message; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until there is a message or the time is over. Safe
/// everywhere; each message goes to exactly one caller.
/// Ownership: the message is copied to `buf`.
///
/// Errors: SHOAL_ERR_EMPTY (SHOAL_NOWAIT) or SHOAL_ERR_TIMEOUT; SHOAL_ERR_BUFFER_TOO_SMALL
/// (`*len` is the room needed, and the message stays); SHOAL_ERR_CLOSED (and nothing is left);
/// SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
///
/// ```c
/// char buf[4096];
/// size_t len;
/// shoal_status status;
/// while ((status = shoal_queue_get(q, buf, sizeof buf, &len, SHOAL_FOREVER)) == SHOAL_OK)
///     work_on(buf, len);
/// if (status != SHOAL_ERR_CLOSED)
///     fprintf(stderr, "%s\n", shoal_last_error());
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_get(
    q: *mut QueueHandle,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::new("len", len) }?;
        // SAFETY: the caller's contract.
        let (queue, buf) = unsafe { (queue(q)?, args::buffer("buf", buf, capacity)?) };
        len.set_len(queue.get_into(buf, args::timeout(timeout_ns)))
    })
}

/// Waits for a first message, then takes it and those that are there already.
///
/// `buf`, `capacity`: where the messages go, back to back. `lens`: room for `max` lengths.
/// `*n`: how many there were, at most `max`, and no more than fit.
/// `timeout_ns`: how long to wait for the first; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: as `shoal_queue_get`.
/// Ownership: the messages are copied to `buf`.
///
/// Errors: as `shoal_queue_get`. SHOAL_ERR_BUFFER_TOO_SMALL if not even the first message
/// fits: `lens[0]` is the room it needs, `*n` is 0, and nothing is taken.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_get_many(
    q: *mut QueueHandle,
    buf: *mut c_void,
    capacity: usize,
    lens: *mut usize,
    max: usize,
    n: *mut usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let n = unsafe { Out::preset("n", n, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, buf) = unsafe { (queue(q)?, args::buffer("buf", buf, capacity)?) };
        // SAFETY: the caller's contract.
        let lens = unsafe { args::array_mut("lens", lens, max) }?;
        let set = |index: usize, len| {
            lens[index].write(len);
        };
        let taken = queue.get_many_set(buf, max, set, args::timeout(timeout_ns));
        if let (Err(crate::Error::BufferTooSmall { needed, .. }), [first, ..]) = (&taken, lens) {
            first.write(*needed);
        }
        n.set(taken?);
        Ok(())
    })
}

/// How many messages are in the queue. Exact whenever nobody is putting or taking.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_len(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, |queue| queue.len() as u64) })
}

/// The bytes of all messages in the queue, without their headers.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_bytes(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, Queue::bytes) })
}

/// The bytes of the ring as it is now.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_capacity(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, Queue::capacity) })
}

/// The bytes the ring may grow to.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_max_capacity(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, Queue::max_capacity) })
}

/// The most messages the queue holds at a time; 0 for as many as fit.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_max_items(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, |queue| queue.max_items().unwrap_or(0)) })
}

/// The length of the longest message that can ever be put, in bytes.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_max_message(q: *mut QueueHandle, out: *mut u64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, Queue::max_message) })
}

/// Whether somebody has closed the queue.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_is_closed(q: *mut QueueHandle, out: *mut bool) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { tell(q, out, Queue::is_closed) })
}

/// Writes one fact about a queue.
///
/// # Safety
/// As [`handle::get`] and [`Out::new`].
pub(super) unsafe fn tell<T: Copy>(
    q: *mut QueueHandle,
    out: *mut T,
    fact: impl FnOnce(&Queue) -> T,
) -> Result<()> {
    // SAFETY: the same contract.
    let (out, queue) = unsafe { (Out::new("out", out)?, queue(q)?) };
    out.set(fact(queue));
    Ok(())
}

/// Closes the queue for all processes: from now on every put fails with SHOAL_ERR_CLOSED, and
/// every get too, once the queue is drained. Those who wait are woken. Closing twice is fine.
///
/// Blocking, threads, fork: waits only for a put that is under way. Safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_close(q: *mut QueueHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { queue(q)?.close() })
}

/// Removes the name of a queue. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Queue::unlink(args::text("name", name)?) })
}
