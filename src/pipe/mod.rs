//! A connection between two sides, over one queue for each direction.
//!
//! ```text
//! offset  size  field      written by          invariant
//!      0     4  ways       creator             constant: 1 or 2 queues
//!      4     8  opened[2]  opener of that end  0 until it was opened, then 1 for ever
//!      4096     …  queue      messages to End::First (see `queue::header`)
//!    + size    …  queue      messages to End::Second, if there are two ways
//! ```
//!
//! # Whether the other side is there
//! The holders of the two ends have slots in different [sections](Section::SIDES) of the segment's table. So
//! the kernel, which frees a slot with its process, tells whether any process holds the other end. No timer
//! decides it. Forked children count, and so do descriptors that are being passed to another process.
//!
//! An end is *gone* when it was once opened and no process holds it. The last process to drop an end closes
//! both queues, which wakes the other side at once. If it was killed, or two left at the same time and each
//! saw the other, a process of the other side does that at the end of a slice of its wait. A closed queue
//! stays closed: the connection is over for good, once what was sent before has been received.
//!
//! # What a kill leaves
//! Before `opened` is stored: an end that was not opened yet. Between the two closings: a closed queue and an
//! open one, which is the one from which the remaining side receives. A process that finds it empty asks the
//! kernel, and closes it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::layout::{Offset, Shared, SharedRef};
use crate::queue::{self, Lease, LeasedMessage, MessagePlace, Queue, Reservation, Ring};
use crate::segment::{
    self, Inspector, Kind, ObjectContents, Options, Section, Segment, Snapshot, Spec, shared_object,
};
use crate::sync::{EndWaits, Slept, WaitPolicy, Waits, crash::crash_point};
use crate::sys::clock::{self, Deadline, IntoTimeout, Timeout};

/// Which end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum End {
    /// The one that receives, if the pipe has only one way.
    First = 0,
    /// The one that sends, if the pipe has only one way.
    Second = 1,
}

impl End {
    /// The opposite end.
    pub fn other(self) -> Self {
        match self {
            End::First => End::Second,
            End::Second => End::First,
        }
    }
}

#[repr(C)]
struct PipeState {
    ways: AtomicU32,
    opened: [AtomicU32; 2],
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(PipeState, ways) == 0 && offset_of!(PipeState, opened) == 4);
    assert!(size_of::<PipeState>() <= QUEUES as usize);
};

// SAFETY: atomics only.
unsafe impl Shared for PipeState {}

/// Where the queues begin, from the head of the pipe's data.
const QUEUES: u64 = 4096;
/// The default initial bytes of each way: most pipes carry short requests and answers.
const INITIAL: u64 = 8 << 10;
/// A number that changes with every incompatible change of a pipe or the queues in it.
const LAYOUT: u64 = 0x5049_5045_0000_0007;

/// What a pipe holds, read from its file without opening the pipe.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        let copy = Snapshot::read(file, Segment::DATA, size_of::<PipeState>())?;
        let state: &PipeState = copy.get(0)?;
        let (mut found, at) = (ObjectContents::default(), Segment::DATA + QUEUES);
        let max = queue::inspect(file, at, &mut found)?;
        if state.ways.load(Ordering::Relaxed) == 2 {
            // `max` is not trusted: beyond the end of the file, all reads as zeros.
            queue::inspect(file, at.saturating_add(way_size(max)), &mut found)?;
        }
        Ok(found)
    },
};

/// A process that sends without waiting checks for the other side after this many bytes: as much as the
/// kernel's pipes hold.
const CHECK_AFTER: u64 = 64 << 10;
/// The bytes that each message counts for in that, in addition to its own.
const MESSAGE: u64 = 64;
/// The shortest time between two checks by a descriptor's thread, which others may wake very often.
const CHECK_EVERY_NS: u64 = 20_000_000;

/// One end of a pipe: messages sent at one end are received at the other, in order.
///
/// The connection is over when the other end is gone: all processes that held it have dropped it, or died.
/// What was sent before that is received first; then it is [`Closed`](Error::Closed), and so is every
/// [`send`](Self::send) at once. An end that was never opened is not gone.
///
/// An end is [`Send`] and [`Sync`], and several threads and processes may hold it: each message goes to one
/// of them. After a `fork`, the child holds the same ends as its parent, and each process drops its copies. Uses
/// no file descriptor, unless the program asked [for one](Self::fd).
///
/// ```
/// use shoal::{Error, Pipe, Timeout};
///
/// let (here, there) = Pipe::pair()?;
/// here.send(b"how are you?", Timeout::Infinite)?;
/// assert_eq!(there.recv_vec(Timeout::Infinite)?, b"how are you?");
/// there.send(b"fine", Timeout::Infinite)?;
/// drop(there);
/// assert_eq!(here.recv_vec(Timeout::Infinite)?, b"fine");
/// assert_eq!(here.recv_vec(Timeout::Infinite), Err(Error::Closed));
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Limits
/// If the other side was *killed*, a waiting process notices within a tenth of a second, and a process that
/// only sends notices after 64 KiB. Messages that the other side had not received are lost with it.
pub struct Pipe {
    end: End,
    state: SharedRef<PipeState>,
    incoming: Option<Queue>,
    outgoing: Option<Queue>,
    /// Bytes sent since the last check for the other side.
    unchecked: AtomicU64,
    policy: WaitPolicy,
    // Last: the others point into it.
    segment: Arc<Segment>,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe")
            .field("name", &self.name())
            .field("end", &self.end)
            .finish()
    }
}

shared_object!(
    Pipe,
    "pipe",
    |it| &it.segment,
    /// The other end is not affected until all holders of this one have dropped it.
);

impl Pipe {
    /// Both ends of a new pipe of two ways.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn pair() -> Result<(Self, Self)> {
        Self::pair_with_options(true, &Options::create())
    }

    /// Both ends of a new pipe of one way: the receiver, and the sender.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn simplex() -> Result<(Self, Self)> {
        Self::pair_with_options(false, &Options::create())
    }

    /// Both ends of a new pipe, of one way or of two; see [`with_options`](Self::with_options).
    ///
    /// # Errors
    /// As there.
    pub fn pair_with_options(duplex: bool, options: &Options) -> Result<(Self, Self)> {
        let first = Self::with_options(None, End::First, duplex, options)?;
        let section = Section::SIDES[End::Second as usize];
        let segment = first.segment.again(section)?;
        let second = Self::attach(Arc::new(segment), End::Second)?;
        Ok((first, second))
    }

    /// Opens one end of the pipe `name`.
    ///
    /// # Errors
    /// As [`Queue::open`]; `Exhausted` when 512 handles hold that end.
    pub fn open(name: &str, end: End) -> Result<Self> {
        Self::with_options(Some(name), end, true, &Options::open())
    }

    /// Opens one end of a pipe, or creates the pipe, as `options` say: with two ways, or only from the second
    /// end to the first. Without a name it is always created. Both sides may create: the first to call does.
    ///
    /// `capacity`, `max_capacity` and `max_items` are for each way, as for a [queue](Queue::with_options),
    /// except that each starts with 8 KiB by default.
    ///
    /// # Errors
    /// As [`Queue::with_options`]; `Invalid` for `max_attempts`: a pipe has no dead letters;
    /// `Exhausted` when 512 handles hold that end.
    pub fn with_options(
        name: Option<&str>,
        end: End,
        duplex: bool,
        options: &Options,
    ) -> Result<Self> {
        let (capacity, max) = queue::capacities(options, INITIAL)?;
        let (ways, each) = (1 + u32::from(duplex), way_size(max));
        let spec = Spec {
            kind: Kind::Pipe,
            layout: LAYOUT,
            size: Segment::DATA + QUEUES + each.saturating_mul(ways.into()),
            commit: QUEUES + Queue::initial_size(capacity),
            section: Section::SIDES[end as usize],
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            let region = segment.region();
            for way in 0..u64::from(ways) {
                let at = Segment::DATA + QUEUES + way * each;
                let size = Queue::initial_size(capacity);
                // That of the first way is there already.
                segment.commit_more(at, size, if way == 0 { 0 } else { size })?;
                Ring::init(&region, at, capacity, max, options.max_items, 0)?;
            }
            let state: &PipeState = region.resolve(Offset::new(Segment::DATA))?;
            state.ways.store(ways, Ordering::Relaxed);
            Ok(())
        })?;
        Self::attach(Arc::new(segment), end)
    }

    fn attach(segment: Arc<Segment>, end: End) -> Result<Self> {
        let state = segment
            .region()
            .keep::<PipeState>(Offset::new(Segment::DATA))?;
        let at = Segment::DATA + QUEUES;
        let first = Queue::attach(Arc::clone(&segment), at, 0)?;
        let second = match state.ways.load(Ordering::Relaxed) {
            1 => None,
            2 => {
                let at = at.saturating_add(way_size(first.max_capacity()));
                Some(Queue::attach(Arc::clone(&segment), at, 1)?)
            }
            ways => return Err(Error::corrupt(format!("a pipe of {ways} ways"))),
        };
        let (incoming, outgoing) = match end {
            End::First => (Some(first), second),
            End::Second => (second, Some(first)),
        };
        // SYNC: publish(end), after its slot was taken: a process that sees this also sees the slot.
        state.opened[end as usize].store(1, Ordering::SeqCst);
        crash_point!();
        Ok(Self {
            end,
            state,
            incoming,
            outgoing,
            unchecked: AtomicU64::new(0),
            policy: WaitPolicy::default(),
            segment,
        })
    }

    /// Which end this is.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether something can be received here.
    pub fn is_readable(&self) -> bool {
        self.incoming.is_some()
    }

    /// Whether something can be sent from here.
    pub fn is_writable(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Sends one message to the other end, waiting for room until `timeout`. The other end need not have been
    /// opened yet.
    ///
    /// # Errors
    /// `Closed`: the other end is gone; `Timeout`, `TooLarge`, `NoSpace`, `Interrupted`, `Poisoned`,
    /// `Corrupt` as [`Queue::put`]; `Unsupported` at the end that only receives. After an error nothing
    /// was sent.
    pub fn send(&self, data: &[u8], timeout: impl IntoTimeout) -> Result<()> {
        let queue = self.about_to_send(data.len())?;
        self.try_until(timeout.into_timeout(), |timeout| queue.put(data, timeout))
    }

    /// Reserves room for a message of `len` bytes, to be written in place and then committed: this saves a
    /// copy of large messages. Waits for room until `timeout`.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn reserve(&self, len: usize, timeout: impl IntoTimeout) -> Result<Reservation<'_>> {
        let queue = self.about_to_send(len)?;
        self.try_until(timeout.into_timeout(), |timeout| {
            queue.reserve(len, timeout)
        })
    }

    /// [`reserve`](Self::reserve), to be committed or discarded by [`outgoing`](Self::outgoing).
    pub(crate) fn reserve_place(&self, len: usize, timeout: Timeout) -> Result<MessagePlace> {
        let queue = self.about_to_send(len)?;
        self.try_until(timeout, |timeout| queue.reserve_place(len, timeout))
    }

    /// The queue that messages of this end go to.
    pub(crate) fn outgoing(&self) -> Result<&Queue> {
        self.way(&self.outgoing, "send from the end that receives")
    }

    /// Checks for the other side now and then: while there is room, nothing else would reveal that it is
    /// gone.
    fn about_to_send(&self, len: usize) -> Result<&Queue> {
        let queue = self.outgoing()?;
        // Not exact where several threads send, and need not be.
        let unchecked = self.unchecked.load(Ordering::Relaxed);
        let unchecked = unchecked.saturating_add(MESSAGE).saturating_add(len as u64);
        self.unchecked.store(unchecked, Ordering::Relaxed);
        if unchecked > CHECK_AFTER {
            self.unchecked.store(0, Ordering::Relaxed);
            self.check_other()?;
        }
        Ok(queue)
    }

    /// Receives one message into `buf` and returns its length, waiting until `timeout`.
    ///
    /// # Errors
    /// `Closed`: the other end is gone, and all that it sent was received; `Timeout`; `BufferTooSmall`
    /// with the length needed, and the message stays; `Interrupted`, `Poisoned`, `Corrupt` as
    /// [`Queue::get`]; `Unsupported` at the end that only sends.
    #[inline]
    pub fn recv(&self, buf: &mut [u8], timeout: impl IntoTimeout) -> Result<usize> {
        self.recv_into(room(buf), timeout.into_timeout())
    }

    /// [`recv`](Self::recv) into memory that need not be initialised.
    pub(crate) fn recv_into(&self, buf: &mut Room, timeout: Timeout) -> Result<usize> {
        let queue = self.receiving()?;
        self.try_until(timeout, |timeout| queue.get_into(buf, timeout))
    }

    /// Receives one message, waiting until `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_vec(&self, timeout: impl IntoTimeout) -> Result<Vec<u8>> {
        let queue = self.receiving()?;
        self.try_until(timeout.into_timeout(), |timeout| queue.get_vec(timeout))
    }

    /// Receives one message to read it in place, waiting until `timeout`: a message that was
    /// [reserved](Self::reserve) is not copied. Its ack removes it. If this process dies before, another
    /// process that holds this end receives it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`Queue::lease`].
    pub fn lease(&self, timeout: impl IntoTimeout) -> Result<Lease<'_>> {
        let queue = self.receiving()?;
        self.try_until(timeout.into_timeout(), |timeout| queue.lease(timeout))
    }

    /// [`lease`](Self::lease), to be ended by [`receiving`](Self::receiving).
    pub(crate) fn lease_place(&self, timeout: Timeout) -> Result<LeasedMessage> {
        let queue = self.receiving()?;
        self.try_until(timeout, |timeout| queue.lease_place(None, timeout))
    }

    /// Waits until `timeout` for something to receive, or the end of the connection. False if neither has
    /// come. If others also receive here, they may receive it first.
    ///
    /// # Errors
    /// `Interrupted`; `Unsupported` at the end that only sends.
    pub fn poll(&self, timeout: impl IntoTimeout) -> Result<bool> {
        let queue = self.receiving()?;
        match self.try_until(timeout.into_timeout(), |timeout| queue.wait_ready(timeout)) {
            Ok(()) => Ok(true),
            Err(Error::Timeout) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Whether there is something to receive, or the connection is over.
    pub(crate) fn is_ready(&self) -> Result<bool> {
        Ok(self.receiving()?.is_ready() || self.check_other()?)
    }

    /// A descriptor for an event loop: it polls readable while there is something to receive, and once the
    /// connection is over. Otherwise as [`Queue::fd`].
    ///
    /// # Errors
    /// `Os`: no descriptor or thread can be made; `Unsupported` at the end that only sends.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        let (segment, state, other) = (Arc::clone(&self.segment), self.state, self.end.other());
        let (checked, over) = (AtomicU64::new(0), AtomicBool::new(false));
        self.receiving()?.fd_or(move || {
            let now = clock::now_ns();
            let is_due = now.saturating_sub(checked.load(Ordering::Relaxed)) >= CHECK_EVERY_NS;
            if is_due && !over.load(Ordering::Relaxed) {
                checked.store(now, Ordering::Relaxed);
                // If the check fails, the descriptor becomes readable, and the receiver gets the error.
                let gone = is_gone(&segment, &state, other).unwrap_or(true);
                over.store(gone, Ordering::Relaxed);
            }
            over.load(Ordering::Relaxed)
        })
    }

    /// A descriptor that holds this end until it and all its copies are closed, in any process: for passing
    /// an end to a process which has not opened it yet. It has no other use. Closed on `exec`, unless that is
    /// changed. Close it with [`release`](Self::release) if its holder may be the last; otherwise the pipe's
    /// file may remain until [`gc`](crate::gc).
    ///
    /// # Errors
    /// `Os`; `Exhausted` when 512 handles hold this end.
    pub fn hold(&self) -> Result<OwnedFd> {
        self.segment.hold_slot()
    }

    /// Closes a descriptor of [`hold`](Self::hold), or a copy of it, and removes the pipe `name` if no
    /// process holds either end any more.
    ///
    /// # Errors
    /// `Invalid` name. The descriptor is closed in any case.
    pub fn release(name: &str, held: OwnedFd) -> Result<()> {
        drop(held);
        segment::sweep(name)
    }

    fn ways(&self) -> impl Iterator<Item = &Queue> {
        self.incoming.iter().chain(&self.outgoing)
    }

    /// The queue that messages to this end come from.
    pub(crate) fn receiving(&self) -> Result<&Queue> {
        self.way(&self.incoming, "receive at the end that sends")
    }

    fn way<'a>(&self, queue: &'a Option<Queue>, what: &'static str) -> Result<&'a Queue> {
        queue.as_ref().ok_or_else(|| Error::unsupported(what))
    }

    /// Tries until `timeout`, and checks in between whether the other side is still there.
    fn try_until<T>(
        &self,
        timeout: Timeout,
        mut attempt: impl FnMut(Timeout) -> Result<T>,
    ) -> Result<T> {
        let nothing = |err: &Error| *err == Error::Timeout;
        // Fast path: without a wait, the clock is not read.
        let mut answer = attempt(Timeout::Val(Duration::ZERO));
        // After each slice, checks for the other side.
        let (deadline, mut nap) = (Deadline::after(timeout), self.policy.nap());
        while answer.as_ref().is_err_and(nothing) {
            if deadline != Deadline::Now {
                answer = attempt(Deadline::At(deadline.slice(nap.ns())).left());
                self.policy.set_idle(answer.as_ref().is_err_and(nothing));
                if !answer.as_ref().is_err_and(nothing) {
                    break;
                }
                nap.ended(Slept::TimedOut);
            }
            if self.check_other()? {
                // Returns what it had sent, or `Closed`. It waits while another process at this end has
                // leased what is left of that, because it may be given back.
                return attempt(deadline.left());
            }
            if deadline == Deadline::Now {
                break;
            }
            if deadline.passed() {
                return Err(Error::Timeout);
            }
        }
        answer
    }

    /// Closes both ways if no process holds the other end any more; false if one does.
    #[cold]
    fn check_other(&self) -> Result<bool> {
        let gone = is_gone(&self.segment, &self.state, self.end.other())?;
        if gone {
            self.close_for(self.end)?;
        }
        Ok(gone)
    }

    /// Ends the connection for the processes at `there`.
    ///
    /// The queue that they send through is closed first. A kill in between leaves them a queue to which
    /// nothing comes; a process that finds it empty asks the kernel, and closes it.
    fn close_for(&self, there: End) -> Result<()> {
        let ways = match there == self.end {
            true => [&self.outgoing, &self.incoming],
            false => [&self.incoming, &self.outgoing],
        };
        for queue in ways.into_iter().flatten() {
            if !queue.is_closed() {
                queue.close()?;
            }
            crash_point!();
        }
        Ok(())
    }
}

impl EndWaits for Pipe {
    fn end_waits(&self) {
        self.ways().for_each(Queue::end_waits);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        self.ways().for_each(|way| way.each_waits(see));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // If another handle is dropped at the same time, each may see the other and close nothing; the other
        // side then closes.
        if matches!(
            self.segment.has_others(Section::SIDES[self.end as usize]),
            Ok(false)
        ) {
            // If this fails, the queue is poisoned, which ends the connection as well.
            let _ = self.close_for(self.end.other());
        }
    }
}

/// Whether `end` was once held, and is not any more. `asker` holds the other end.
fn is_gone(asker: &Segment, state: &PipeState, end: End) -> Result<bool> {
    // SYNC: observe(end)
    Ok(state.opened[end as usize].load(Ordering::SeqCst) != 0
        && !asker.has_others(Section::SIDES[end as usize])?)
}

/// Bytes between the two queues, of rings that grow to `max`.
fn way_size(max: u64) -> u64 {
    Queue::size(max).next_multiple_of(4096)
}
