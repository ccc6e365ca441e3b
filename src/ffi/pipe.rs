//! Pipe
//!
//! A connection of two ends, for messages. The connection is over when one end is gone: the other end
//! receives what was sent, and then SHOAL_ERR_CLOSED. Several processes may hold the same end, as forked
//! children do; it is gone when all of them have freed it or are dead.
//!
//! Killed: What the process was sending is there completely or not at all. A message that it was receiving,
//! or had just received, may be lost with it. What it had reserved is discarded; what it had leased goes to
//! another process that holds this end. If there is none, the end is gone.
//!
//! ```c
//! shoal_pipe_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_pipe *control;
//! if (shoal_pipe_open("control", SHOAL_FIRST_END, &options, &control, NULL) == SHOAL_OK &&
//!     shoal_pipe_recv(control, SHOAL_FOREVER, buf, sizeof buf, &len) == SHOAL_ERR_CLOSED)
//!     fputs("the other end is gone\n", stderr);
//! ```

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use super::args::{self, Out};
use super::handle::{self, Named, object, opaque};
use super::message::{Message, in_place};
use super::options::{self, sized};
use super::status::{guard, guard_shielded};
use crate::error::{Error, Result, Status};
use crate::pipe::{End, Pipe};
use crate::segment::Options;

/// One end of a pipe.
pub struct PipeHandle {
    _opaque: [u8; 0],
}

opaque!(PipeHandle, named Pipe, b"shl.pipe");

/// The end that receives, if the pipe has one direction.
pub const SHOAL_FIRST_END: u32 = 0;

/// The end that sends, if the pipe has one direction.
pub const SHOAL_SECOND_END: u32 = 1;

const _: () = assert!(End::First as u32 == SHOAL_FIRST_END);
const _: () = assert!(End::Second as u32 == SHOAL_SECOND_END);

/// In `shoal_pipe_options.flags`: a created pipe has one direction, from the second end to the first.
pub const SHOAL_SIMPLEX: u64 = 32;

/// How to open a pipe. All but `size` and `flags` apply to each direction of a new one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PipeOptions {
    /// `sizeof(shoal_pipe_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_SIMPLEX.
    pub flags: u64,
    /// As in `shoal_queue_options`; 0 for 8 KiB.
    pub capacity: u64,
    /// As in `shoal_queue_options`.
    pub max_capacity: u64,
    /// As in `shoal_queue_options`.
    pub max_items: u64,
}

sized!(PipeOptions, "shoal_pipe_options.size", 40);

/// Statistics of an end of a pipe.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PipeStats {
    /// `sizeof(shoal_pipe_stats)`.
    pub size: usize,
    /// Messages that wait to be received here.
    pub len: u64,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Whether this end receives.
    pub receives: bool,
    /// Whether this end sends.
    pub sends: bool,
}

sized!(PipeStats, "shoal_pipe_stats.size", 32);

/// Options, and whether a new pipe has both directions.
///
/// # Safety
/// As [`options::read`].
unsafe fn options(given: *const PipeOptions) -> Result<(Options, bool)> {
    // SAFETY: the same contract.
    let Some(o) = unsafe { options::read(given) }? else {
        return Ok((Options::open(), true));
    };
    let options = options::object(o.flags & !SHOAL_SIMPLEX, o.capacity, o.max_capacity)?;
    let duplex = o.flags & SHOAL_SIMPLEX == 0;
    Ok((options.max_items(o.max_items), duplex))
}

/// Opens or creates one end of a pipe; see "Opening". Either side may create it, and may send before the
/// other end is opened.
///
/// `end`: SHOAL_FIRST_END or SHOAL_SECOND_END.
///
/// Errors: SHOAL_ERR_EXHAUSTED (512 handles hold that end).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_open(
    name: *const c_char,
    end: u32,
    options: *const PipeOptions,
    out: *mut *mut PipeHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        let (options, duplex) = unsafe { self::options(options) }?;
        let end = match end {
            SHOAL_FIRST_END => End::First,
            SHOAL_SECOND_END => End::Second,
            other => return Err(Error::invalid("end", format!("{other} is neither end"))),
        };
        Pipe::with_options(name, end, duplex, &options)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Creates a pipe under a new name and opens both ends: for a parent and the child that it will fork. Each of
/// them frees the end of the other.
///
/// `options`: NULL for both directions and the default sizes.
/// Ownership: both are yours until `shoal_pipe_free`.
///
/// Errors: as "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_pair(
    options: *const PipeOptions,
    first: *mut *mut PipeHandle,
    second: *mut *mut PipeHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let first = unsafe { Out::preset("first", first, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let second = unsafe { Out::preset("second", second, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let (mut options, duplex) = unsafe { self::options(options) }?;
        options.create = true;
        let (one, other) = Pipe::pair_with_options(duplex, &options)?;
        first.set(handle::new(Named::new(one)));
        second.set(handle::new(Named::new(other)));
        Ok(())
    })
}

/// Frees the handle; see "Freeing". When all processes that held this end have freed it, the connection is
/// over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_free(p: *mut PipeHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(p) }
}

/// Fills in statistics; see "Statistics".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_stat(p: *mut PipeHandle, out: *mut PipeStats) -> Status {
    let stats = |pipe: &Pipe| {
        let incoming = pipe.receiving().ok();
        Ok(PipeStats {
            size: size_of::<PipeStats>(),
            len: incoming.map_or(0, |queue| queue.len() as u64),
            bytes: incoming.map_or(0, |queue| queue.bytes()),
            receives: pipe.is_readable(),
            sends: pipe.is_writable(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(p, out, stats) }
}

/// Sends one message to the other end, and waits for room if there is none.
///
/// Errors: SHOAL_ERR_CLOSED (the other end is gone); SHOAL_ERR_UNSUPPORTED (this end only receives); as
/// `shoal_queue_put`. After an error nothing was sent.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_send(
    p: *mut PipeHandle,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, data) = unsafe { (object(p)?, args::bytes("data", data, len)?) };
        pipe.send(data, args::timeout(timeout_ns))
    })
}

/// Receives one message, and waits for one if there is none. Each message goes to one caller.
///
/// Errors: SHOAL_ERR_CLOSED (the other end is gone, and nothing is left of what it sent);
/// SHOAL_ERR_UNSUPPORTED (this end only sends); SHOAL_ERR_BUFFER_TOO_SMALL (the message stays).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_recv(
    p: *mut PipeHandle,
    timeout_ns: i64,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::preset("len", len, 0) }?;
        // SAFETY: the caller's contract.
        let (pipe, buf) = unsafe { (object(p)?, args::buffer("buf", buf, capacity)?) };
        len.set_len(pipe.recv_into(buf, args::timeout(timeout_ns)))
    })
}

/// Reserves room for a message to the other end; as `shoal_queue_reserve`.
///
/// Errors: as `shoal_pipe_send`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_reserve(
    p: *mut PipeHandle,
    len: usize,
    timeout_ns: i64,
    out: *mut Message,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::preset("out", out, Message::NONE)?, object(p)?) };
        let place = pipe.reserve_place(len, args::timeout(timeout_ns))?;
        out.set(Message::reserved(place));
        Ok(())
    })
}

/// Sends the first `used` bytes of a reserved message. The rest is freed.
///
/// Errors: as `shoal_queue_commit`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_commit(
    p: *mut PipeHandle,
    message: *mut Message,
    used: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, message) = unsafe { (object(p)?, in_place(message)?) };
        message.commit(pipe.outgoing()?, used)
    })
}

/// Discards a reserved message. No other process sees that it was there.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_discard(p: *mut PipeHandle, message: *mut Message) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, message) = unsafe { (object(p)?, in_place(message)?) };
        message.discard(pipe.outgoing()?)
    })
}

/// Receives one message to read it where it is: one that was reserved is not copied at all, one that was
/// sent is copied once. If this process dies before it acks, another one that holds this end receives it.
///
/// Errors: as `shoal_pipe_recv`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE (there is
/// no room for more leases; the message stays).
///
/// ```c
/// shoal_message frame;
/// while (shoal_pipe_lease(p, SHOAL_FOREVER, &frame) == SHOAL_OK) {
///     show(frame.data, frame.len);
///     if (shoal_pipe_ack(p, &frame) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_lease(
    p: *mut PipeHandle,
    timeout_ns: i64,
    out: *mut Message,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::preset("out", out, Message::NONE)?, object(p)?) };
        out.set(Message::leased(
            pipe.lease_place(args::timeout(timeout_ns))?,
        ));
        Ok(())
    })
}

/// Removes a leased message: it was read.
///
/// Errors: as `shoal_queue_ack`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_ack(p: *mut PipeHandle, message: *mut Message) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, message) = unsafe { (object(p)?, in_place(message)?) };
        let queue = pipe.receiving()?;
        message.end(|held| queue.ack(held))
    })
}

/// Returns a leased message, to be received again after `delay_ns`; as `shoal_queue_nack`.
///
/// Errors: as `shoal_queue_ack`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_nack(
    p: *mut PipeHandle,
    message: *mut Message,
    delay_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, message) = unsafe { (object(p)?, in_place(message)?) };
        let queue = pipe.receiving()?;
        message.end(|held| queue.nack(held, args::duration(delay_ns)))
    })
}

/// Waits for something to receive, or the end of the connection.
///
/// `*ready`: whether one of them came in time. A timeout is no error.
///
/// Errors: SHOAL_ERR_UNSUPPORTED (this end only sends).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_poll(
    p: *mut PipeHandle,
    timeout_ns: i64,
    ready: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (ready, pipe) = unsafe { (Out::optional("ready", ready)?, object(p)?) };
        ready.set(pipe.poll(args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// A descriptor for event loops: it is readable while there is something to receive, and once the connection
/// is over. Otherwise as `shoal_queue_fd`.
///
/// Errors: SHOAL_ERR_UNSUPPORTED (this end only sends); SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_fd(p: *mut PipeHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::new("out", out)?, object(p)?) };
        out.set(pipe.fd()?.as_raw_fd());
        Ok(())
    })
}
