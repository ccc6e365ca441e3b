//! Whether there is something to take, and a descriptor that says so.
//!
//! The processes that share a queue share a FIFO, in which there is a byte while there is something
//! to take. They find it by name (see `segment::fifo`) and by the inode in the header. The first
//! process that is asked for a descriptor makes it; where no process was asked, takes look at
//! one word when they leave nothing.
//!
//! ```text
//! by                                 under the consumers' lock            when
//! a thread of each asked process     `signalled` = 1, then writes         there is something
//! the same                           reads, `signalled` = 0, wakes        there is nothing
//!                                    the sleepers on `unsignalled`
//! a take that will leave nothing     the same, and then publishes         `signalled` is 1
//! ```
//!
//! So a byte is in the FIFO only while `signalled` is 1, and from when a take is over that has left nothing
//! until something comes the FIFO is unreadable, for all processes. Only to become readable takes time.
//!
//! What a program gets is an epoll of the FIFO, its handle's own: so it can be made readable for good
//! when the waits through this one handle are ended.
//!
//! **Without a FIFO** (the object's name was removed; nothing can be made in the directory) a process
//! has an eventfd in its place, which its own takes make unreadable at once, and its thread after those
//! of others. The same happens to the FIFO after takes of a process that cannot open it: such a take
//! leaves `signalled` as it is, and wakes the sleepers on `unsignalled`.
//!
//! # What a kill leaves
//! *A take, between reading and publishing*: something is there and the FIFO is unreadable. *A take of a
//! part of a batch, or of what was given back, after it has published*: a byte, and nothing there.
//! *A thread, between its two steps*: `signalled` and no byte. The owner of the lock is then dead, and each
//! look of a thread, a tenth of a second later at most, compares the FIFO itself with what is there.
//!
//! A forked child inherits its parent's descriptors, which stay right for as long as any process looks.
//! It has no thread, and makes a descriptor and a watch of its own when it is asked for one.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::sync::crash::crash_point;
use crate::sync::{EventCell, Waits, Watch, Watched};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::poll::Signal;

use super::core::Queue;
use super::cursors::{Consumer, Message};
use super::descriptor::{Made, ReadySignal};
use super::locked::{ConsumersLock, TakeSide};

/// How often padding and messages of the dead are moved out of the way before the caller has to take,
/// and finds out more.
const LOOKS: u32 = 100;

/// How many looks at a queue in which there is nothing there are to one at its FIFO.
const IDLE_LOOKS: u32 = 8;

/// Sets and clears the signal of one handle, by the thread behind its descriptor.
struct Signaller {
    /// The thread's own handle.
    queue: Queue,
    signal: Arc<ReadySignal>,
    looks: AtomicU32,
    over: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Signaller {
    /// Whether the signal, and what takes know of it, say that there is something if it is, and nothing
    /// if not.
    fn says(&self, there: bool) -> bool {
        self.queue.is_signalled() == there && self.signal.is_set() == there
    }

    /// The same, but an idle queue's FIFO is looked at about once a second: no process has said that
    /// there may be something in it.
    fn seems_to_say(&self, there: bool) -> bool {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let is_idle = self.signal.is_shared() && !there && !self.queue.is_signalled();
        is_idle && !looks.is_multiple_of(IDLE_LOOKS) || self.says(there)
    }
}

impl Watched for Signaller {
    fn update(&self) -> bool {
        let (queue, over) = (&self.queue, (self.over)());
        let there = queue.is_ready() || over;
        if self.seems_to_say(there) {
            return there;
        }
        match queue.lock::<ConsumersLock>(Deadline::Now) {
            Ok(guard) => {
                let side = guard.side();
                let there = side.has_something() || over;
                match there {
                    _ if self.says(there) => {}
                    true => queue.signal(&self.signal),
                    false => side.clear_signal(&self.signal),
                }
                there
            }
            // Its owner is stopped. The next look may find it free.
            Err(Error::Timeout) => there,
            // For good: a call that takes says why.
            Err(_) => {
                queue.signal(&self.signal);
                true
            }
        }
    }

    fn arrived(&self) -> &EventCell {
        &self.queue.ring.header.not_empty
    }

    fn cleared(&self) -> &EventCell {
        &self.queue.ring.header.unsignalled
    }
}

impl Queue {
    /// A descriptor for an event loop: it polls readable while there is something to take, and
    /// once the queue is closed or poisoned. For `poll`, `epoll` and event loops.
    ///
    /// It is readable some 30 us after a message was put (up to 20 ms on kernels before 5.16), and no more
    /// once the call has returned that took the last one, in whatever process: so a reader that polls it
    /// again under a lock which all readers take, and then takes a message, does not wait. Without such a
    /// lock others may be faster: take with a timeout of zero. To wait for edges, take until `Timeout`.
    ///
    /// Where the queue's name was [removed](Self::unlink) before the first call, or the directory of
    /// objects cannot be written to, it is readable in vain for as long after another process took the
    /// last message; and in a closed queue while a process works on messages that it has leased.
    ///
    /// Does not wait. The first call of a process starts a thread that sleeps on behalf of all
    /// its descriptors, and blocks all signals. A forked child must ask again, and gets a descriptor
    /// of its own; that of its parent stays right while the parent lives.
    ///
    /// It is readable, too, once the [waits through this handle are over](Self::end_waits).
    ///
    /// Takes two descriptors, and a FIFO beside the queue's file, which goes with that. A process that
    /// takes the last message of a queue of which another process has a descriptor takes one. Owned by
    /// the handle, with which it closes. Do not read from it, write to it or close it.
    ///
    /// # Errors
    /// `Os`: no descriptor or thread is to be had.
    ///
    /// ```
    /// use shoal::Queue;
    /// use std::os::fd::AsRawFd;
    ///
    /// let queue = Queue::anonymous()?;
    /// let fd = queue.fd()?.as_raw_fd(); // to be added to an epoll, say
    /// # assert!(fd > 2);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.fd_or(|| false)
    }

    /// [`fd`](Self::fd), which is readable as well when there is nothing to take and `over()`.
    /// Asked by another thread, whenever that looks: ten times a second at least.
    pub(crate) fn fd_or(
        &self,
        over: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<BorrowedFd<'_>> {
        let made = self
            .descriptor
            .get_or_make(|| self.watched(Box::new(over)))?;
        // They may have been ended meanwhile, or before.
        if self.waits().is_ended() {
            self.descriptor.open_up();
        }
        Ok(made.as_fd())
    }

    fn watched(&self, over: Box<dyn Fn() -> bool + Send + Sync>) -> Result<Made> {
        let signal = Arc::new(ReadySignal::new(self.find_fifo())?);
        let signaller = Arc::new(Signaller {
            queue: self.twin()?,
            signal: Arc::clone(&signal),
            looks: AtomicU32::new(0),
            over,
        });
        signaller.update();
        Made::new(Watch::new(signaller)?, signal)
    }

    /// The FIFO, made if there is none yet. `None` where none can be had.
    fn find_fifo(&self) -> Option<Signal> {
        let _guard = self.lock::<ConsumersLock>(Deadline::Now).ok()?;
        if self.has_fifo() {
            return self.open_fifo();
        }
        let (fd, inode) = self.segment.make_fifo(self.way)?;
        self.ring.header.fifo.store(inode, Ordering::Relaxed);
        crash_point!();
        Some(Signal::of_fifo(fd))
    }

    fn open_fifo(&self) -> Option<Signal> {
        let inode = self.ring.header.fifo.load(Ordering::Relaxed);
        self.segment.open_fifo(self.way, inode).map(Signal::of_fifo)
    }

    fn has_fifo(&self) -> bool {
        self.ring.header.fifo.load(Ordering::Relaxed) != 0
    }

    /// Whether a descriptor may be readable.
    #[inline(always)]
    pub(super) fn is_signalled(&self) -> bool {
        self.ring.header.signalled.load(Ordering::Relaxed) != 0
    }

    /// There is something to take, or nothing ever will be: descriptors become readable. Under the
    /// consumers' lock, unless that cannot be had any more.
    fn signal(&self, signal: &ReadySignal) {
        self.ring.header.signalled.store(1, Ordering::Relaxed);
        crash_point!();
        signal.set();
        crash_point!();
    }

    /// Waits until there is something to take, or nothing ever will be.
    ///
    /// # Errors
    /// `Timeout`, `Interrupted`, `Detached`.
    pub(crate) fn wait_ready(&self, timeout: Timeout) -> Result<()> {
        let deadline = Deadline::after(timeout);
        while !self.is_ready() {
            if deadline.passed() {
                return Err(self.got_nothing(Error::Timeout));
            }
            let waited = self.wait_for_message(deadline);
            waited.map_err(|err| self.got_nothing(err))?;
        }
        // The wake was for a process that takes.
        self.ring.header.not_empty.notify_one();
        Ok(())
    }

    /// Counts the threads that wait to take.
    pub(crate) fn waits(&self) -> &Waits {
        &self.consumers.policy.waits
    }

    /// Whether there is something to take, or nothing ever will be, by a quick look.
    pub(crate) fn has_arrived(&self) -> bool {
        let ring = &self.ring;
        ring.is_occupied() || !ring.may_come_back(0) && ring.header.has_ended()
    }

    /// [`has_arrived`](Self::has_arrived), once padding is out of the way, and what dead processes had
    /// leased is delivered again.
    pub(crate) fn is_ready(&self) -> bool {
        // Each look gets something out of the way, unless the queue was overwritten.
        for _ in 0..LOOKS {
            if self.ring.starts_done() {
                // The owner of the lock is taking, or knows that something is wrong.
                if self.skip_padding(Deadline::Now).is_err() {
                    return true;
                }
                continue;
            }
            if self.has_arrived() {
                return true;
            }
            if !self.is_due() {
                return self.is_over();
            }
            let looked = self.lock::<ConsumersLock>(Deadline::Now);
            if looked.and_then(|guard| self.redeliver(guard)).is_err() {
                return true;
            }
        }
        true
    }

    /// The caller has looked, and there was nothing to take: if there is a descriptor, it is or becomes
    /// unreadable, and readable again if something has come since: an edge, for programs that wait for
    /// edges.
    #[cold]
    pub(crate) fn found_nothing(&self) {
        if self.descriptor.is_made() {
            // A process that waits for a descriptor has nothing to do, as if it slept here.
            self.producers.unpark();
        }
        if (self.is_signalled() || self.descriptor.is_own_set())
            && let Ok(guard) = self.lock::<ConsumersLock>(Deadline::Now)
            && !guard.side().has_something()
        {
            guard.side().clear_signals();
        }
    }

    /// The caller got nothing, and `err` instead.
    #[cold]
    pub(super) fn got_nothing(&self, err: Error) -> Error {
        if err == Error::Timeout {
            self.found_nothing();
        }
        err
    }
}

impl TakeSide<'_> {
    /// Before `taken` messages of the ring, which are not yet published as such, are, and before the one
    /// at block `again` of the store is taken once more, if that is not 0: if nothing will be there any
    /// more, descriptors become unreadable.
    #[inline(always)]
    pub(super) fn about_to_take(self, taken: u64, again: u32) {
        if self.is_signalled() {
            self.about_to_empty(taken, again);
        }
    }

    /// The same before `message` is taken at once.
    #[inline(always)]
    pub(super) fn about_to_take_message(self, end: &Consumer<'_>, message: &Message) {
        let (one, again) = match message.block() {
            Some(block) if message.is_again() => (0, block),
            _ => (1, 0),
        };
        self.about_to_take(end.unpublished() + one, again);
    }

    #[cold]
    #[inline(never)]
    fn about_to_empty(self, taken: u64, again: u32) {
        let header = self.ring.header;
        let first = header.first.load(Ordering::Relaxed);
        let first = match self.ring.store.head(again) {
            Ok(head) if again != 0 && again == first => head.next.load(Ordering::Relaxed),
            _ => first,
        };
        // By the counts: padding is nothing to take.
        if first == 0 && header.counts().0 == taken && !self.is_over() {
            self.clear_signals();
        }
    }

    /// Exact: whether there is something to take, or nothing ever will be.
    fn has_something(self) -> bool {
        let header = self.ring.header;
        header.counts().0 != 0 || header.first.load(Ordering::Relaxed) != 0 || self.is_over()
    }

    /// There is nothing to take: clears what signals this process can.
    fn clear_signals(self) {
        let open = || self.open_fifo();
        let cleared = self.descriptor.clear(self.has_fifo(), open);
        self.unsignal(cleared);
    }

    /// The same, by the thread behind a descriptor, which has one signal.
    fn clear_signal(self, signal: &ReadySignal) {
        signal.clear_own();
        let cleared = match signal.is_shared() {
            true => signal.clear_shared(),
            false => !self.has_fifo(),
        };
        self.unsignal(cleared);
    }

    /// There is nothing to take. `cleared`: no signal that processes share is set any more.
    fn unsignal(self, cleared: bool) {
        let header = self.ring.header;
        crash_point!();
        if cleared {
            header.signalled.store(0, Ordering::Relaxed);
            crash_point!();
        }
        // The threads sleep until something comes; and those whose signals are still set clear them.
        if header.unsignalled.has_sleepers() {
            header.unsignalled.notify_all();
        }
    }
}
