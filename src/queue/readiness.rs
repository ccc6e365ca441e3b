//! Whether there is something to take, and a descriptor that shows it.
//!
//! The processes that share a queue share a FIFO, which holds a byte while there is something to take. They
//! find it by name (see `segment::fifo`) and by the inode in the header. The first process whose program asks
//! for a descriptor makes it. Without any descriptor, a take that leaves nothing only reads one word.
//!
//! ```text
//! by                                 under the consumers' lock            when
//! the thread of each descriptor      `signalled` = 1, then writes         there is something
//! the same                           reads, `signalled` = 0, wakes        there is nothing
//!                                    the sleepers on `unsignalled`
//! a take that will leave nothing     the same, and then publishes         `signalled` is 1
//! ```
//!
//! So a byte is in the FIFO only while `signalled` is 1. When a take that leaves nothing has returned, the
//! FIFO is unreadable for all processes until something comes. Only becoming readable takes time.
//!
//! A program gets an epoll descriptor of the FIFO that belongs to its handle: so it can be made readable for
//! good when the waits through this one handle are ended.
//!
//! **Without a FIFO** (the object's name was removed; nothing can be made in the directory) a process has a
//! pipe in its place. Its own takes make that unreadable at once; after the takes of others, its thread
//! does. The same holds for the FIFO after takes of a process that cannot open it: such a take leaves
//! `signalled` as it is, and wakes the sleepers on `unsignalled`.
//!
//! # What a kill leaves
//! *A take, between reading the FIFO and publishing*: something is there and the FIFO is unreadable. *A take
//! of a part of a batch, or of what was given back, after it has published*: a byte, and nothing there. *A
//! thread, between its two steps*: `signalled` and no byte. The owner of the lock is then dead, and the next
//! check of a thread, a tenth of a second later at most, compares the FIFO itself with the queue.
//!
//! A forked child inherits its parent's descriptors, which stay correct while any process has a thread for
//! them. The child has no thread, and makes a descriptor and a watch of its own when its program asks for
//! one.

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

/// How often to skip padding and redeliver before reporting the queue ready: the caller's take then finds the
/// cause.
const CHECKS: u32 = 100;

/// The FIFO of an idle queue is checked once in this many checks of the queue.
const IDLE_CHECKS: u32 = 8;

/// Sets and clears the signal of one handle, by the thread behind its descriptor.
struct Signaller {
    /// The thread's own handle.
    queue: Queue,
    signal: Arc<ReadySignal>,
    checks: AtomicU32,
    over: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Signaller {
    /// Whether the signal and `signalled` both agree that there is something, or nothing.
    fn agrees(&self, there: bool) -> bool {
        self.queue.is_signalled() == there && self.signal.is_set() == there
    }

    /// The same, but the FIFO of an idle queue is checked only about once a second: `signalled` says that it
    /// is empty.
    fn probably_agrees(&self, there: bool) -> bool {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        let is_idle = self.signal.is_shared() && !there && !self.queue.is_signalled();
        is_idle && !checks.is_multiple_of(IDLE_CHECKS) || self.agrees(there)
    }
}

impl Watched for Signaller {
    fn update(&self) -> bool {
        let (queue, over) = (&self.queue, (self.over)());
        let there = queue.is_ready() || over;
        if self.probably_agrees(there) {
            return there;
        }
        match queue.lock::<ConsumersLock>(Deadline::Now) {
            Ok(guard) => {
                let side = guard.side();
                let there = side.has_something() || over;
                match there {
                    _ if self.agrees(there) => {}
                    true => queue.signal(&self.signal),
                    false => side.clear_signal(&self.signal),
                }
                there
            }
            // The lock's owner is busy or stopped. The next check may find the lock free.
            Err(Error::Timeout) => there,
            // Permanently readable: a call that takes returns the error.
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
    /// A descriptor for `poll`, `epoll` and event loops: it polls readable while there is something to take,
    /// and once the queue is closed or poisoned.
    ///
    /// It becomes readable some 30 us after a message was put (up to 20 ms on kernels before 5.16). It is
    /// unreadable again when the call that took the last message returns, in any process. So a reader that
    /// polls it under a lock which all readers take, and then takes a message, does not wait. Without such a
    /// lock, other readers may be faster: take with a timeout of zero. To wait for edges, take until
    /// `Timeout`.
    ///
    /// Where the queue's name was [removed](Self::unlink) before the first call, or the directory of objects
    /// cannot be written to, it stays readable for as long after another process took the last message. So it
    /// does in a closed queue while a process works on messages that it has leased.
    ///
    /// Does not wait. The first call of a process starts a thread that sleeps on behalf of all its
    /// descriptors, and blocks all signals. A forked child must ask again, and gets a descriptor of its own;
    /// that of its parent stays correct while the parent lives.
    ///
    /// It also becomes readable once the [waits through this handle are ended](Self::end_waits).
    ///
    /// Uses two descriptors, and a FIFO next to the queue's file, which is removed with that file. A process
    /// that takes the last message while another process has a descriptor uses one. The handle owns the
    /// descriptor and closes it. Do not read from it, write to it or close it.
    ///
    /// # Errors
    /// `Os`: no descriptor or thread can be made.
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

    /// [`fd`](Self::fd), which is also readable while `over()`. Asked by another thread, whenever that
    /// checks: ten times a second at least.
    pub(crate) fn fd_or(
        &self,
        over: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<BorrowedFd<'_>> {
        let made = self
            .descriptor
            .get_or_make(|| self.watched(Box::new(over)))?;
        // The waits may have been ended meanwhile, or before.
        if self.waits().is_ended() {
            self.descriptor.keep_readable();
        }
        Ok(made.as_fd())
    }

    fn watched(&self, over: Box<dyn Fn() -> bool + Send + Sync>) -> Result<Made> {
        let signal = Arc::new(ReadySignal::new(self.find_fifo())?);
        let signaller = Arc::new(Signaller {
            queue: self.second_handle()?,
            signal: Arc::clone(&signal),
            checks: AtomicU32::new(0),
            over,
        });
        signaller.update();
        Made::new(Watch::new(signaller)?, signal)
    }

    /// The FIFO, made if there is none yet. `None` if none can be made.
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

    /// There is something to take, or nothing can come any more: descriptors become readable. Under the
    /// consumers' lock, unless that can no longer be taken.
    fn signal(&self, signal: &ReadySignal) {
        self.ring.header.signalled.store(1, Ordering::Relaxed);
        crash_point!();
        signal.set();
        crash_point!();
    }

    /// Waits until there is something to take, or nothing can come any more.
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
        // The wake-up was meant for a process that takes: passes it on.
        self.ring.header.not_empty.notify_one();
        Ok(())
    }

    /// The waits of threads that want to take.
    pub(crate) fn waits(&self) -> &Waits {
        &self.consumers.policy.waits
    }

    /// Whether there is something to take, or nothing can come any more: a quick check.
    pub(crate) fn has_arrived(&self) -> bool {
        let ring = &self.ring;
        ring.is_occupied() || !ring.may_come_back(0) && ring.header.has_ended()
    }

    /// [`has_arrived`](Self::has_arrived), after skipping padding and redelivering due messages.
    pub(crate) fn is_ready(&self) -> bool {
        // Each round makes progress, unless the queue was overwritten.
        for _ in 0..CHECKS {
            if self.ring.starts_done() {
                // The owner of the lock is taking, or the take meets the error.
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
            let redelivered = self.lock::<ConsumersLock>(Deadline::Now);
            if redelivered
                .and_then(|guard| self.redeliver(guard, Deadline::Now))
                .is_err()
            {
                return true;
            }
        }
        true
    }

    /// The caller found nothing to take. If there is a descriptor, this makes it unreadable; it becomes
    /// readable again if something has come since. That is an edge, for programs that wait for edges.
    #[cold]
    pub(crate) fn found_nothing(&self) {
        if self.descriptor.is_made() {
            // A process that waits for a descriptor is idle, as if it slept here.
            self.producers.unpark();
        }
        if (self.is_signalled() || self.descriptor.is_own_set())
            && let Ok(guard) = self.lock::<ConsumersLock>(Deadline::Now)
            && !guard.side().has_something()
        {
            guard.side().clear_signals();
        }
    }

    /// Called with the error of a call that took nothing; returns it.
    #[cold]
    pub(super) fn got_nothing(&self, err: Error) -> Error {
        if err == Error::Timeout {
            self.found_nothing();
        }
        err
    }
}

impl TakeSide<'_> {
    /// Called before `taken` messages of the ring are published as taken, and before the one at block `again`
    /// of the store is (0 for none). If that leaves nothing, descriptors become unreadable first.
    #[inline(always)]
    pub(super) fn about_to_take(self, taken: u64, again: u32) {
        if self.is_signalled() {
            self.about_to_empty(taken, again);
        }
    }

    /// The same, before `message` is taken by itself.
    #[inline(always)]
    pub(super) fn about_to_take_message(self, end: &Consumer<'_>, message: &Message) {
        let (one, again) = match message.block() {
            Some(block) if message.is_redelivered() => (0, block),
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
        // By the counts: padding is not something to take.
        if first == 0 && header.counts().0 == taken && !self.is_over() {
            self.clear_signals();
        }
    }

    /// Exact: whether there is something to take, or nothing can come any more.
    fn has_something(self) -> bool {
        let header = self.ring.header;
        header.counts().0 != 0 || header.first.load(Ordering::Relaxed) != 0 || self.is_over()
    }

    /// There is nothing to take: clears the signals that this process can reach.
    fn clear_signals(self) {
        let open = || self.open_fifo();
        let cleared = self.descriptor.clear(self.has_fifo(), open);
        self.unsignal(cleared);
    }

    /// The same for the thread of a descriptor, which has one signal.
    fn clear_signal(self, signal: &ReadySignal) {
        signal.clear_own();
        let cleared = match signal.is_shared() {
            true => signal.clear_shared(),
            false => !self.has_fifo(),
        };
        self.unsignal(cleared);
    }

    /// There is nothing to take. `cleared`: the FIFO is empty now.
    fn unsignal(self, cleared: bool) {
        let header = self.ring.header;
        crash_point!();
        if cleared {
            header.signalled.store(0, Ordering::Relaxed);
            crash_point!();
        }
        // The threads of descriptors check: one whose signal is still set clears it, and then they sleep
        // until something comes.
        if header.unsignalled.has_sleepers() {
            header.unsignalled.notify_all();
        }
    }
}
