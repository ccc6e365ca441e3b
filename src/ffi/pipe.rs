//! `shoal_pipe`: shims over [`Pipe`].

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::lease::span;
use super::options::{self, PipeOptions};
use super::reserve::{Loan, lent};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Error, Result, Status};
use crate::pipe::{End, Pipe};

/// One end of a conversation of two sides, which is over when the other end is gone.
pub struct PipeHandle {
    _opaque: [u8; 0],
}

opaque!(PipeHandle, Named<Pipe>, b"shl.pipe", "pipe handle");

/// The end that receives, if the pipe has only one way.
pub const SHOAL_FIRST_END: u32 = 0;

/// The end that sends, if the pipe has only one way.
pub const SHOAL_SECOND_END: u32 = 1;

const _: () = assert!(End::First as u32 == SHOAL_FIRST_END);
const _: () = assert!(End::Second as u32 == SHOAL_SECOND_END);

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn pipe<'a>(p: *mut PipeHandle) -> Result<&'a Pipe> {
    // SAFETY: the same contract.
    unsafe { handle::get(p) }.map(|named| &named.object)
}

fn new(made: Pipe) -> *mut PipeHandle {
    handle::new(Named::new(made, |made| made.name()))
}

/// Opens or creates one end of a pipe. Both sides may create: whoever comes first does, and an
/// end that nobody has opened yet is waited for.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates one under a name of its
/// own, which `shoal_pipe_name` tells.
/// `end`: SHOAL_FIRST_END or SHOAL_SECOND_END. `options`: NULL opens what exists.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it. A forked child holds the ends that its parent has.
/// Ownership: `*out` is yours until `shoal_pipe_free`; NULL after a failure.
///
/// Errors: as `shoal_queue_open`; SHOAL_ERR_INVALID (an end that is neither);
/// SHOAL_ERR_EXHAUSTED (512 handles hold that end).
///
/// ```c
/// shoal_pipe_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
/// shoal_pipe *p;
/// if (shoal_pipe_open("control", SHOAL_FIRST_END, &o, &p) == SHOAL_OK &&
///     shoal_pipe_recv(p, buf, sizeof buf, &len, SHOAL_FOREVER) == SHOAL_ERR_CLOSED)
///     fputs("the other side is gone\n", stderr);
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_open(
    name: *const c_char,
    end: u32,
    options: *const PipeOptions,
    out: *mut *mut PipeHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let (how, duplex) = unsafe { options::pipe(options) }?;
        let end = match end {
            SHOAL_FIRST_END => End::First,
            SHOAL_SECOND_END => End::Second,
            other => return Err(Error::invalid("end", format!("{other} is neither end"))),
        };
        out.set(new(Pipe::with_options(name, end, duplex, &how)?));
        Ok(())
    })
}

/// Creates a pipe under a name of its own and opens both ends: for a parent and the child that
/// it will fork, of which each frees the end of the other.
///
/// `options`: NULL for two ways and the default sizes.
/// Blocking, threads, fork: does not wait.
/// Ownership: both are yours until `shoal_pipe_free`; NULL after a failure.
///
/// Errors: as `shoal_pipe_open`.
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
        let (mut how, duplex) = unsafe { options::pipe(options) }?;
        how.create = true;
        let (one, other) = Pipe::pair_with_options(duplex, &how)?;
        first.set(new(one));
        second.set(new(other));
        Ok(())
    })
}

/// Lets go of an end. When all who held it have, the conversation is over: the other side
/// receives what was sent, and then SHOAL_ERR_CLOSED.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle.
/// Ownership: `p` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_free(p: *mut PipeHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(p) });
}

/// The name to open it by in another process. NULL if `p` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_name(p: *mut PipeHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(p) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name. Who has it open goes on using it.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Pipe::unlink(args::text("name", name)?) })
}

/// What can be done at this end: both, if the pipe has two ways.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_ways(
    p: *mut PipeHandle,
    receives: *mut bool,
    sends: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (receives, sends) =
            unsafe { (Out::new("receives", receives)?, Out::new("sends", sends)?) };
        // SAFETY: the caller's contract.
        let pipe = unsafe { pipe(p) }?;
        receives.set(pipe.is_readable());
        sends.set(pipe.is_writable());
        Ok(())
    })
}

/// Sends one message to the other end, waiting for room. That need not have been opened yet.
///
/// `data`, `len`: the message; NULL only with 0.
/// `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until there is room, the other end is gone or the time is
/// over. Safe everywhere.
/// Ownership: the message is copied.
///
/// Errors: SHOAL_ERR_CLOSED (the other end is gone); SHOAL_ERR_UNSUPPORTED (the end that only
/// receives); the others as `shoal_queue_put`. After an error nothing was sent.
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
        let (pipe, data) = unsafe { (pipe(p)?, args::bytes("data", data, len)?) };
        pipe.send(data, args::timeout(timeout_ns))
    })
}

/// Reserves room for a message to the other end, to be written in place: large messages are copied
/// once less.
///
/// `len`: the most bytes the message may have. `*out`: the span to write to.
/// `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: as `shoal_pipe_send`; any thread may commit. In a forked child the
/// parent's loans cannot be used.
/// Ownership: `*out` is yours until `shoal_pipe_commit` or `shoal_pipe_discard`, and until the
/// handle is freed. That of a dead process is discarded.
///
/// Errors: as `shoal_pipe_send`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_reserve(
    p: *mut PipeHandle,
    len: usize,
    out: *mut Loan,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, out) = unsafe { (pipe(p)?, Out::preset("out", out, Loan::NONE)?) };
        let place = pipe.reserve_place(len, args::timeout(timeout_ns))?;
        out.set(Loan::of(place));
        Ok(())
    })
}

/// Sends the first `used` bytes of a loan.
///
/// `used`: at most what was reserved. The rest is given back.
/// Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
/// reserved.
/// Ownership: the loan is spent, unless this fails: then it is still yours.
///
/// Errors: as `shoal_queue_commit`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_commit(
    p: *mut PipeHandle,
    loan: *mut Loan,
    used: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, loan) = unsafe { (pipe(p)?, lent(loan)?) };
        loan.commit(pipe.outgoing()?, used)
    })
}

/// Gives a loan back. Nobody sees that it was there.
///
/// Blocking, threads, fork: does not wait. Not in a forked child of the process that reserved.
/// Ownership: the loan is spent.
///
/// Errors: as `shoal_queue_discard`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_discard(p: *mut PipeHandle, loan: *mut Loan) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, loan) = unsafe { (pipe(p)?, lent(loan)?) };
        loan.discard(pipe.outgoing()?)
    })
}

/// Receives one message, waiting for it.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the message's length.
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until there is a message, the other end is gone or the time
/// is over. Safe everywhere; each message goes to exactly one caller.
/// Ownership: the message is copied to `buf`.
///
/// Errors: SHOAL_ERR_CLOSED (the other end is gone, and nothing is left of what it sent);
/// SHOAL_ERR_UNSUPPORTED (the end that only sends); the others as `shoal_queue_get`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_recv(
    p: *mut PipeHandle,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::new("len", len) }?;
        // SAFETY: the caller's contract.
        let (pipe, buf) = unsafe { (pipe(p)?, args::buffer("buf", buf, capacity)?) };
        len.set_len(pipe.recv_into(buf, args::timeout(timeout_ns)))
    })
}

/// Receives one message to read it where it is: what was reserved is not copied at all, and what
/// was sent once.
///
/// `*out`: the message. `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: as `shoal_pipe_recv`; any thread may ack. In a forked child the parent's
/// loans cannot be used.
/// Ownership: `*out` is yours until `shoal_pipe_ack` or `shoal_pipe_nack`, and until the handle is
/// freed. If this process dies before, another that holds this end receives it, if there is one.
///
/// Errors: as `shoal_pipe_recv`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE:
/// there is no room for more leases, and the message stays.
///
/// ```c
/// shoal_loan frame;
/// while (shoal_pipe_lease(p, &frame, SHOAL_FOREVER) == SHOAL_OK) {
///     show(frame.data, frame.len);
///     if (shoal_pipe_ack(p, &frame) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_lease(
    p: *mut PipeHandle,
    out: *mut Loan,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, out) = unsafe { (pipe(p)?, Out::preset("out", out, Loan::NONE)?) };
        out.set(pipe.lease_place(args::timeout(timeout_ns))?.into());
        Ok(())
    })
}

/// The message was read: it is gone.
///
/// Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
/// leased.
/// Ownership: the loan is spent.
///
/// Errors: as `shoal_queue_ack`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_ack(p: *mut PipeHandle, loan: *mut Loan) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (pipe, loan) = unsafe { (pipe(p)?, lent(loan)?) };
        let queue = pipe.receiving()?;
        loan.let_go(|held| queue.ack(held))
    })
}

/// Gives the message back, to be received again after `delay_ns`, before all that was sent after
/// it.
///
/// Blocking, threads, fork: as `shoal_pipe_ack`.
/// Ownership: the loan is spent.
///
/// Errors: as `shoal_queue_nack`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_nack(
    p: *mut PipeHandle,
    loan: *mut Loan,
    delay_ns: i64,
) -> Status {
    guard(|| {
        let delay = span("delay_ns", delay_ns)?;
        // SAFETY: the caller's contract.
        let (pipe, loan) = unsafe { (pipe(p)?, lent(loan)?) };
        let queue = pipe.receiving()?;
        loan.let_go(|held| queue.nack(held, delay))
    })
}

/// Waits for something to receive, or the end of the conversation.
///
/// `*out`: whether it has come in time. `timeout_ns`: how long to wait; SHOAL_FOREVER,
/// SHOAL_NOWAIT.
/// Blocking, threads, fork: as `shoal_pipe_recv`.
///
/// Errors: SHOAL_ERR_UNSUPPORTED (the end that only sends); SHOAL_ERR_INTERRUPTED;
/// SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_poll(
    p: *mut PipeHandle,
    timeout_ns: i64,
    out: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::preset("out", out, false)?, pipe(p)?) };
        out.set(pipe.poll(args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// This end's descriptor, for an event loop: it polls readable while there is something to
/// receive, and once the conversation is over. For all the rest, as `shoal_queue_fd`.
///
/// Blocking, threads, fork: as `shoal_queue_fd`.
/// Ownership: the descriptor is the handle's and closes with it.
///
/// Errors: SHOAL_ERR_UNSUPPORTED (the end that only sends); SHOAL_ERR_OS; SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_fd(p: *mut PipeHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::new("out", out)?, pipe(p)?) };
        out.set(pipe.fd()?.as_raw_fd());
        Ok(())
    })
}

/// A descriptor that holds this end until it and all its copies are closed, in whatever process
/// they are: for passing an end to one that has not opened it yet. Good for nothing else.
///
/// Blocking, threads, fork: does not wait. Closed on exec, unless you change that; in a forked
/// child it holds the end as well.
/// Ownership: `*out` is yours until `shoal_pipe_release`. Closed otherwise, the last to go may
/// leave the pipe's file to `shoal_gc`.
///
/// Errors: SHOAL_ERR_EXHAUSTED (512 handles hold this end); SHOAL_ERR_OS; SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_hold(p: *mut PipeHandle, out: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (out, pipe) = unsafe { (Out::new("out", out)?, pipe(p)?) };
        out.set(pipe.hold()?.into_raw_fd());
        Ok(())
    })
}

/// Closes what `shoal_pipe_hold` gave, or a copy of it, and removes the pipe with it if nobody
/// holds either end any more.
///
/// `name`: the pipe's.
/// Blocking, threads, fork: does not wait; safe everywhere.
/// Ownership: `fd` is closed, whatever is returned.
///
/// Errors: SHOAL_ERR_INVALID (name, or a negative descriptor).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_release(name: *const c_char, fd: c_int) -> Status {
    guard_shielded(|| {
        if fd < 0 {
            return Err(Error::invalid("fd", format!("{fd} is no descriptor")));
        }
        // SAFETY: the caller's descriptor, which is given up.
        let held = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the caller's contract.
        Pipe::release(unsafe { args::text("name", name) }?, held)
    })
}
