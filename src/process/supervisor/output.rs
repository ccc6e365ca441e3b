//! The thread that labels the workers' output.
//!
//! One thread reads the pipes of all workers and writes whole lines, so lines never mix. A slow reader of the
//! output slows down this thread, and through their full pipes the workers, but not the supervisor. Memory is
//! bounded: at most [`LONGEST`](super::lines::LONGEST) bytes of an unfinished line per stream, and one piece
//! that was read.
//!
//! A process that a worker has started may keep a pipe open after the worker's end. That pipe is read until
//! the worker is restarted or the supervisor ends.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lines::{Lines, whole_lines};
use super::report::OutputFailure;
use crate::error::Result;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::fd::{Kept, with_file};
use crate::sys::poll::{self, Signal};
use crate::sys::{fd, futex, thread};

/// Bytes of one read.
const PIECE: usize = 64 << 10;
/// Bytes of one write: what a writable pipe takes without waiting.
const WRITE: usize = 4096;
/// How much is read at most from a pipe whose writers may still run: far more than a pipe holds.
const REST: usize = 16 << 20;
/// How long a thread sleeps before it checks whether to continue.
const SLICE_NS: u64 = 100_000_000;

/// A stream of a worker, and where its lines go.
struct Stream {
    worker: usize,
    pipe: Kept,
    to: RawFd,
    lines: Lines,
}

enum Order {
    Add(Stream),
    /// The worker is restarted: the rest of its last run's pipes is read, and they are closed.
    Close(usize),
}

struct Shared {
    orders: Mutex<Vec<Order>>,
    wake: Signal,
    /// No worker is left, and no more orders will come.
    finish: AtomicBool,
    /// What is not written yet is dropped.
    abandon: AtomicBool,
    /// The first failure to write, other than that the reader has ended.
    failed: Mutex<Option<OutputFailure>>,
    /// 1 once the thread has ended.
    done: AtomicU32,
    /// Where lines go, except for this process's standard streams. The thread keeps these descriptors open: it may
    /// still write after the supervisor was dropped, when their numbers must not belong to other files.
    _held: Arc<Vec<Kept>>,
}

/// The supervisor's handle on the thread.
pub(super) struct Output(Arc<Shared>);

impl Output {
    /// `held`: the descriptors to which lines may be written, in addition to this process's own streams.
    pub(super) fn start(held: Arc<Vec<Kept>>) -> Result<Self> {
        let shared = Arc::new(Shared {
            orders: Mutex::new(Vec::new()),
            wake: Signal::new()?,
            finish: AtomicBool::new(false),
            abandon: AtomicBool::new(false),
            failed: Mutex::new(None),
            done: AtomicU32::new(0),
            _held: held,
        });
        let shared_by_thread = Arc::clone(&shared);
        thread::start("shoal-output", move || {
            run(&shared_by_thread);
            shared_by_thread.done.store(1, Ordering::Release);
            futex::wake(&shared_by_thread.done, i32::MAX);
        })?;
        Ok(Self(shared))
    }

    /// Reads a stream of a worker from now on, and writes its lines to `to`, which stays open.
    pub(super) fn add(&self, worker: usize, pipe: OwnedFd, to: RawFd) -> Result<()> {
        fd::set_nonblocking(pipe.as_fd())?;
        self.order(Order::Add(Stream {
            worker,
            pipe: Kept::new(pipe),
            to,
            lines: Lines::new(format!("[{worker}] ").into_bytes()),
        }));
        Ok(())
    }

    /// Ends the streams that a worker has.
    pub(super) fn close(&self, worker: usize) {
        self.order(Order::Close(worker));
    }

    fn order(&self, order: Order) {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(order);
        self.0.wake.set();
    }

    /// What could not be written so far.
    pub(super) fn failed(&self) -> Option<OutputFailure> {
        let failed = self.0.failed.lock();
        *failed.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is left and ends the thread. At `deadline`, drops what is not written yet.
    pub(super) fn finish(&self, deadline: impl Fn() -> Deadline) {
        self.0.finish.store(true, Ordering::Release);
        self.0.wake.set();
        while self.0.done.load(Ordering::Acquire) == 0 {
            if deadline().passed() {
                self.0.abandon.store(true, Ordering::Release);
                return;
            }
            futex::wait(&self.0.done, 0, deadline().slice(SLICE_NS));
        }
    }
}

/// The result of a read.
#[derive(PartialEq, Eq)]
enum Piece {
    More,
    Nothing,
    End,
}

fn run(shared: &Shared) {
    let mut streams: Vec<Stream> = Vec::new();
    let (mut piece, mut out) = (vec![0; PIECE], Vec::new());
    loop {
        let is_last = shared.finish.load(Ordering::Acquire);
        if !shared.wake.clear() {
            // The program has closed it: no order wakes this thread any more.
            pause();
        }
        let orders = {
            let mut orders = shared.orders.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *orders)
        };
        for order in orders {
            match order {
                Order::Add(stream) => streams.push(stream),
                Order::Close(worker) => streams.retain_mut(|stream| {
                    stream.worker != worker || {
                        stream.drain(shared, &mut piece, &mut out);
                        false
                    }
                }),
            }
        }
        if is_last {
            for mut stream in streams {
                stream.drain(shared, &mut piece, &mut out);
            }
            return;
        }
        let wake = shared.wake.as_fd();
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(wake)
            .chain(streams.iter().map(|stream| stream.pipe.number()))
            .collect();
        // No signal handler runs in this thread, so this is a lack of memory, which may pass.
        let Ok(ready) = poll::each_readable(&fds, Deadline::At(now_ns() + 10 * SLICE_NS)) else {
            pause();
            continue;
        };
        let mut ready = ready.into_iter().skip(1);
        streams.retain_mut(|stream| {
            !ready.next().unwrap_or(false)
                || stream.read(shared, &mut piece, &mut out) != Piece::End
        });
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

impl Stream {
    /// Reads one piece and writes the lines that it ends.
    fn read(&mut self, shared: &Shared, piece: &mut [u8], out: &mut Vec<u8>) -> Piece {
        out.clear();
        let Some(pipe) = self.pipe.get() else {
            return Piece::End;
        };
        let read = match with_file(pipe.as_fd(), |mut pipe| pipe.read(piece)) {
            Ok(0) => Piece::End,
            Ok(len) => {
                self.lines.feed(&piece[..len], out);
                Piece::More
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => return Piece::Nothing,
            Err(err) if err.kind() == ErrorKind::Interrupted => return Piece::More,
            Err(_) => Piece::End,
        };
        if read == Piece::End {
            self.lines.end(out);
        }
        match self.write(shared, out) {
            true => read,
            // The pipe is closed, so the worker's next write fails, as it would without a supervisor.
            false => Piece::End,
        }
    }

    /// Reads what is in the pipe without waiting for more.
    fn drain(&mut self, shared: &Shared, piece: &mut [u8], out: &mut Vec<u8>) {
        for _ in 0..REST / PIECE {
            match self.read(shared, piece, out) {
                Piece::More => {}
                Piece::Nothing => break,
                Piece::End => return,
            }
        }
        out.clear();
        self.lines.end(out);
        self.write(shared, out);
    }

    /// Writes all of `bytes`. False if that is not possible, which is recorded unless the reader has ended.
    fn write(&self, shared: &Shared, bytes: &[u8]) -> bool {
        match write_all(shared, self.to, bytes) {
            Ok(done) => done,
            Err(err) if err.kind() == ErrorKind::BrokenPipe => false,
            Err(err) => {
                let failure = OutputFailure {
                    worker: self.worker,
                    errno: err.raw_os_error().unwrap_or(0),
                };
                let mut failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(failure);
                false
            }
        }
    }
}

/// Writes all of `bytes`. False if it was abandoned.
fn write_all(shared: &Shared, to: RawFd, mut bytes: &[u8]) -> std::io::Result<bool> {
    // SAFETY: the descriptor is one of the standard streams, or one that `Shared` keeps open.
    let to = unsafe { BorrowedFd::borrow_raw(to) };
    while !bytes.is_empty() {
        if shared.abandon.load(Ordering::Acquire) {
            return Ok(false);
        }
        let len = whole_lines(bytes, WRITE);
        match poll::writable(to, Deadline::At(now_ns() + SLICE_NS)) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return Ok(false),
        }
        match with_file(to, |mut file| file.write(&bytes[..len])) {
            Ok(0) => return Ok(false),
            Ok(written) => bytes = &bytes[written..],
            // A terminal or pipe that another process has made non-blocking.
            Err(err) if err.kind() == ErrorKind::WouldBlock => {
                pause();
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(true)
}

/// Whether lines can be written there.
pub(super) fn is_open(to: RawFd) -> bool {
    fd::is_open(to)
}

const _: () = assert!(PIECE <= super::lines::LONGEST);
