//! Queue
//!
//! Messages of any length, which any number of processes put and get. Each message is got once, in the
//! order in which they were put.
//!
//! A program in Rust can be a queue's relay (`relayed` in its statistics): messages that are put go to the
//! relay, and are in the queue once it has delivered them. SHOAL_ERR_TIMEOUT then means that the relay is
//! behind or does not run. A queue with a relay is persistent.
//!
//! Killed: What the process was putting is there completely or not at all; of several messages, the first
//! ones. A message that it was getting, or had just got, may be lost with it. What it had reserved is
//! discarded. What it had leased and not acked is delivered again, and so may be a message that it was acking.
//!
//! ```c
//! shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_queue *jobs;
//! char buf[4096];
//! size_t len;
//! shoal_status status = shoal_queue_open("jobs", &options, &jobs, NULL);
//! if (status == SHOAL_OK)
//!     status = shoal_queue_put(jobs, "hello", 5, SHOAL_FOREVER);
//! while (status == SHOAL_OK) {
//!     status = shoal_queue_get(jobs, 1000000000, buf, sizeof buf, &len);
//!     if (status == SHOAL_OK)
//!         work_on(buf, len);
//! }
//! if (status != SHOAL_ERR_TIMEOUT)
//!     fprintf(stderr, "%s\n", shoal_last_error());
//! shoal_queue_free(jobs);
//! ```

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use super::args::{self, Out, Slice};
use super::handle::{self, Named, object, opaque};
use super::options::{self, sized};
use super::status::{guard, guard_shielded};
use crate::error::{Error, Result, Status};
use crate::queue::Queue;
use crate::segment::Options;

/// A queue of messages.
pub struct QueueHandle {
    _opaque: [u8; 0],
}

opaque!(QueueHandle, named Queue, b"shl.queu");

/// How to open a queue. All but `size` and `flags` apply to a new one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// `sizeof(shoal_queue_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    pub flags: u64,
    /// Bytes of the ring at first, rounded up to a power of two; 0 for 64 KiB.
    pub capacity: u64,
    /// Bytes to which the ring may grow, rounded up to a power of two; 0 for 16 GiB, or less where
    /// address space or files are limited. Address space only: memory is used as messages need it.
    pub max_capacity: u64,
    /// The most messages that were put and not taken; 0 for as many as fit. Leased messages are not counted, nor
    /// those that were given back: with them it may hold more.
    pub max_items: u64,
    /// How often a message is leased before it becomes a dead letter, at most 255; 0 for any number of
    /// times. The name of a queue with dead letters has at most 195 bytes.
    pub max_attempts: u64,
}

sized!(QueueOptions, "shoal_queue_options.size", 48);

/// Statistics of a queue.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct QueueStats {
    /// `sizeof(shoal_queue_stats)`.
    pub size: usize,
    /// Messages that wait to be got.
    pub len: u64,
    /// Bytes of these messages, without those that were given back.
    pub bytes: u64,
    /// Bytes of the ring now.
    pub capacity: u64,
    /// Bytes to which the ring may grow.
    pub max_capacity: u64,
    /// The most messages that were put and not taken; 0 for as many as fit.
    pub max_items: u64,
    /// Bytes of the longest message that can ever be put.
    pub max_message: u64,
    /// How often a message is leased before it becomes a dead letter; 0 for any number of times.
    pub max_attempts: u64,
    /// Messages that are leased. Those of a dead process count for a tenth of a second at most.
    pub leased: u64,
    /// Messages that were given back and wait to be delivered again; `len` includes them.
    pub waiting: u64,
    /// Messages that were put and are not finished: neither got nor acked, nor moved to the dead letters.
    /// `shoal_queue_join` with SHOAL_NOWAIT says exactly whether there are any.
    pub unfinished: u64,
    /// Messages that were ever put.
    pub put: u64,
    /// Their bytes.
    pub put_bytes: u64,
    /// Messages that were ever taken: got, or leased for the first time.
    pub taken: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Whether the queue was closed.
    pub closed: bool,
    /// Whether the queue has a relay: what is put goes there, and comes back when the relay delivers it.
    pub relayed: bool,
}

sized!(QueueStats, "shoal_queue_stats.size", 128);

/// # Safety
/// As [`options::read`].
unsafe fn options(given: *const QueueOptions) -> Result<Options> {
    // SAFETY: the same contract.
    let Some(o) = unsafe { options::read(given) }? else {
        return Ok(Options::open());
    };
    let attempts = u8::try_from(o.max_attempts).map_err(|_| Error::TooMany {
        what: "max_attempts",
        count: o.max_attempts,
        limit: u8::MAX.into(),
    })?;
    let options = options::object(o.flags, o.capacity, o.max_capacity)?;
    Ok(options.max_items(o.max_items).max_attempts(attempts))
}

/// Opens or creates a queue; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_open(
    name: *const c_char,
    options: *const QueueOptions,
    out: *mut *mut QueueHandle,
    created: *mut bool,
) -> Status {
    // SAFETY: the caller's contract.
    let open = |name: Option<&str>| Queue::with_options(name, &unsafe { self::options(options) }?);
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_free(q: *mut QueueHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(q) }
}

/// Fills in statistics; see "Statistics". While messages are leased it may wait for another process's call
/// on the queue.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_stat(q: *mut QueueHandle, out: *mut QueueStats) -> Status {
    let stats = |queue: &Queue| {
        let (totals, leased) = (queue.totals(), queue.leased() as u64);
        Ok(QueueStats {
            size: size_of::<QueueStats>(),
            len: queue.len() as u64,
            bytes: queue.bytes(),
            capacity: queue.capacity(),
            max_capacity: queue.max_capacity(),
            max_items: queue.max_items().unwrap_or(0),
            max_message: queue.max_message(),
            max_attempts: queue.max_attempts().map_or(0, u64::from),
            leased,
            waiting: queue.waiting() as u64,
            unfinished: queue.len() as u64 + leased,
            put: totals.put,
            put_bytes: totals.put_bytes,
            taken: totals.taken,
            taken_bytes: totals.taken_bytes,
            closed: queue.is_closed(),
            relayed: queue.is_relayed(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(q, out, stats) }
}

/// Puts one message at the end of the queue, and waits for room if there is none: also while the queue may grow,
/// but shared memory is full.
///
/// `data`, `len`: the message, of any length, 0 too. It takes 16 to 31 bytes more in the ring.
///
/// Errors: SHOAL_ERR_CLOSED (the queue is closed); SHOAL_ERR_TOO_LARGE (it could never fit; at once);
/// SHOAL_ERR_NO_SPACE (shared memory is full, and the call does not wait or the message does not fit into the
/// memory that the queue has). After an error nothing was put.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_put(
    q: *mut QueueHandle,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { object(q)?.put(args::bytes("data", data, len)?, args::timeout(timeout_ns)) })
}

/// Puts messages in order, as many as there is room for in time. Much faster than one by one. It is not
/// atomic: messages of other processes may come between them.
///
/// `items`, `n`: the messages. `*done`: how many were put, always the first ones. It is less than `n`
/// if the time was over, or an error occurred, after the first: put the rest to get the error.
///
/// Errors: as `shoal_queue_put`, and only if not one message was put.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_put_many(
    q: *mut QueueHandle,
    items: *const Slice,
    n: usize,
    timeout_ns: i64,
    done: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::preset("done", done, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, items) = unsafe { (object(q)?, args::items("items", items, n)?) };
        done.set(queue.put_many(items, args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// Takes the first message, and waits for one if there is none. Each message goes to one caller.
///
/// Errors: SHOAL_ERR_CLOSED (the queue is closed and nothing is left); SHOAL_ERR_BUFFER_TOO_SMALL (the
/// message stays).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_get(
    q: *mut QueueHandle,
    timeout_ns: i64,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::preset("len", len, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, buf) = unsafe { (object(q)?, args::buffer("buf", buf, capacity)?) };
        len.set_len(queue.get_into(buf, args::timeout(timeout_ns)))
    })
}

/// Copies a message without taking it.
///
/// `index`: 0 is the next message to be taken. Messages that were given back come first; those that are
/// leased, or wait for a delay, are not seen. Delays consumers by some nanoseconds for each message before
/// `index`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no message has this index); SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_peek(
    q: *mut QueueHandle,
    index: u64,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::preset("len", len, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, buf) = unsafe { (object(q)?, args::buffer("buf", buf, capacity)?) };
        let found = queue.peek_into(index, buf);
        len.set_len(found.and_then(|len| {
            len.ok_or_else(|| Error::NotFound {
                what: "message",
                name: format!("{index}"),
            })
        }))
    })
}

/// Waits for a first message, then takes it and those that are there already.
///
/// `buf`, `capacity`: where the messages go, back to back. `lens`, `max`: room for their lengths.
/// `*n`: how many there were, at most `max`, and no more than fit.
///
/// Errors: as `shoal_queue_get`. SHOAL_ERR_BUFFER_TOO_SMALL if not even the first message fits:
/// `lens[0]` is the room that it needs.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_get_many(
    q: *mut QueueHandle,
    timeout_ns: i64,
    buf: *mut c_void,
    capacity: usize,
    lens: *mut usize,
    max: usize,
    n: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let n = unsafe { Out::preset("n", n, 0) }?;
        // SAFETY: the caller's contract.
        let (queue, buf) = unsafe { (object(q)?, args::buffer("buf", buf, capacity)?) };
        // SAFETY: the caller's contract.
        let lens = unsafe { args::array_mut("lens", lens, max) }?;
        let set = |index: usize, len| {
            lens[index].write(len);
        };
        let taken = queue.get_many_set(buf, max, set, args::timeout(timeout_ns));
        if let (Err(Error::BufferTooSmall { needed, .. }), [first, ..]) = (&taken, lens) {
            first.write(*needed);
        }
        n.set(taken?);
        Ok(())
    })
}

/// How many messages wait in the queue. Exact whenever no process puts or gets. Cheaper than
/// `shoal_queue_stat`: it never waits.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_len(q: *mut QueueHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, 0) }?;
        // SAFETY: the caller's contract.
        out.set(unsafe { object(q) }?.len() as u64);
        Ok(())
    })
}

/// Closes the queue for all processes: from now on every put fails with SHOAL_ERR_CLOSED, and every get
/// once nothing is left. Messages that other processes work on, and those that are to be delivered again after
/// a delay, are waited for, unless that delay is SHOAL_FOREVER. Calls that wait return. Closing twice is no
/// error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_close(q: *mut QueueHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(q, Queue::close) }
}

/// Waits until every message that was ever put is finished: got, acked, or moved to the dead letters.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_join(q: *mut QueueHandle, timeout_ns: i64) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(q, |queue: &Queue| queue.join(args::timeout(timeout_ns))) }
}

/// Opens the queue of the dead letters: messages that were leased `max_attempts` times and not acked. It is a
/// queue like any other; its name is that of this queue followed by `.dead`. It exists as long as this queue
/// does, and longer if a process has it open. If it refuses a message (it was closed, or has a smaller bound),
/// the message stays in this queue and is tried again ten times a second. The call that tries it, which takes
/// from this queue or joins it, returns SHOAL_ERR_INVALID.
///
/// Errors: SHOAL_ERR_NOT_FOUND (there is no `max_attempts`); as "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_dead_letters(
    q: *mut QueueHandle,
    out: *mut *mut QueueHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let queue = unsafe { object(q) }?;
        let letters = queue.dead_letters().ok_or_else(|| Error::NotFound {
            what: "dead-letter queue",
            name: format!("{}.dead", queue.name()),
        })?;
        out.set(handle::new(Named::new(Queue::open(letters.name())?)));
        Ok(())
    })
}

/// A descriptor for event loops (poll, epoll): it is readable while there is something to get, and once
/// the queue is closed or poisoned.
///
/// It is readable when the call that put a message or closed the queue has returned, and unreadable when the call
/// has returned that took the last message, in whatever process. Another process may be faster: get with
/// SHOAL_NOWAIT. With EPOLLET, get until SHOAL_ERR_TIMEOUT. If the queue's name was removed before the first call
/// of this function, or no file can be made in the directory of objects, a thread makes it readable and
/// unreadable, some 30 us later; on kernels before 5.16, up to 20 ms later. It is then readable, too, in a closed
/// queue while a process has messages leased.
///
/// The first call of a process starts a thread, which stays. A forked child calls this function again, and gets
/// its own descriptor; that of its parent stays correct while the parent lives.
/// Ownership: the descriptor is the handle's. Do not close, read or write it. It takes two descriptors of
/// the process, and a FIFO beside the queue's file.
///
/// Errors: SHOAL_ERR_OS (no descriptor or thread is available).
///
/// ```c
/// struct pollfd polled[2] = {{.fd = client, .events = POLLIN}, {.events = POLLIN}};
/// if (shoal_queue_fd(jobs, &polled[1].fd) != SHOAL_OK)
///     fprintf(stderr, "%s\n", shoal_last_error());
/// while (poll(polled, 2, -1) > 0) {
///     while (shoal_queue_get(jobs, SHOAL_NOWAIT, buf, sizeof buf, &len) == SHOAL_OK)
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
        let (out, queue) = unsafe { (Out::new("out", out)?, object(q)?) };
        out.set(queue.fd()?.as_raw_fd());
        Ok(())
    })
}
