//! Whether there is something to take, and a descriptor that shows it.
//!
//! The processes that share a queue share a FIFO, which holds a byte while there is something to take. They
//! find it by name (see `segment::fifo`) and by the inode in the header. The first process whose program asks
//! for a descriptor makes it. Without any descriptor, a put and a take that leaves nothing only read one word.
//!
//! That word, `descriptors`, has two bits. A byte is in the FIFO only while `SIGNALLED` is set.
//!
//! ```text
//! by                               does, under the signal lock                    when
//! a put, after it has published    if something is there: `SIGNALLED`, writes     `AWAITED`
//! a take that will leave nothing   reads and `AWAITED`, if it was `SIGNALLED`;    not 0
//!                                  checks for a put meanwhile; publishes
//! the thread of each descriptor    either, as the queue is                        each slice, and when woken
//! ```
//!
//! A put stores its message and then reads the word; a take stores the word and then looks for messages. So
//! one of them sees the other, and the FIFO is readable when the put has returned. A take that leaves nothing
//! publishes under the lock, so a put does not write for a message that was taken: when the take has returned,
//! the FIFO is unreadable for all processes until something comes.
//!
//! The lock is not the consumers' lock: writing to the FIFO wakes a reader that wants that one, perhaps on this
//! core. It is the innermost of the queue's locks.
//!
//! A program gets an epoll descriptor of the FIFO that belongs to its handle: so it can be made readable for
//! good when the waits through this one handle are ended.
//!
//! **After the last descriptor is closed** the threads no longer store the time in `watched`, and a put clears
//! `AWAITED` once that is [`UNWATCHED_NS`](super::signals::UNWATCHED_NS) ago.
//!
//! **Without a FIFO** (the object's name was removed; nothing can be made in the directory) a process has a
//! pipe in its place, and its thread sleeps on `not_empty` and `unsignalled` like a consumer. Its own takes
//! make the pipe unreadable at once; after the takes of others, its thread does. A put or take of a process
//! that cannot open the FIFO leaves the word as it is, and wakes the threads, which sleep on `to_signal`.
//!
//! # What a kill leaves
//! *A put, before it has signalled*: something is there and the FIFO is unreadable. *A take, between reading
//! the FIFO and publishing*: the same. *A take of a part of a batch, or of what was given back, after it has
//! published*: a byte, and nothing there. *Any, between its two steps*: `SIGNALLED` and no byte. The next
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
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::poll::Signal;

use super::core::Queue;
use super::cursors::{Consumer, Message};
use super::descriptor::{Made, ReadySignal};
use super::locked::{ConsumersLock, TakeGuard, TakeSide};
use super::signals::{AWAITED, SIGNALLED, Signals};

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
    /// Whether the signal and `descriptors` both agree that there is something, or nothing.
    fn agrees(&self, there: bool) -> bool {
        let bits = self.queue.ring.header.descriptors();
        let agree = match (self.signal.is_shared(), there) {
            (true, true) => bits == SIGNALLED,
            (true, false) => bits == AWAITED,
            (false, _) => (bits & SIGNALLED != 0) == there,
        };
        agree && self.signal.is_set() == there
    }

    /// The same, but the FIFO of an idle queue is checked only about once a second: `AWAITED` says that it is
    /// empty.
    fn probably_agrees(&self, there: bool) -> bool {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        let is_awaited = self.signal.is_shared() && self.queue.ring.header.descriptors() == AWAITED;
        is_awaited && !there && !checks.is_multiple_of(IDLE_CHECKS) || self.agrees(there)
    }
}

impl Watched for Signaller {
    fn update(&self) -> bool {
        let (queue, over) = (&self.queue, (self.over)());
        if self.signal.is_shared() {
            queue.ring.header.watched.store(now_ns(), Ordering::Relaxed);
        }
        let there = queue.is_ready() || over;
        if self.probably_agrees(there) {
            return there;
        }
        match queue.lock_to_compare() {
            Ok((_taking, signals)) => {
                let there = queue.has_something() || over;
                match there {
                    _ if self.agrees(there) => {}
                    true => queue.signal(&self.signal),
                    false => signals.clear_one(&self.signal),
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

    // The puts and takes of all processes keep the FIFO correct, and wake the thread only if they cannot.
    fn arrived(&self) -> &EventCell {
        let header = &*self.queue.ring.header;
        match self.signal.is_shared() {
            true => &header.to_signal,
            false => &header.arrivals.not_empty,
        }
    }

    fn cleared(&self) -> &EventCell {
        let header = &*self.queue.ring.header;
        match self.signal.is_shared() {
            true => &header.to_signal,
            false => &header.unsignalled,
        }
    }
}

impl Queue {
    /// A descriptor for `poll`, `epoll` and event loops: it polls readable while there is something to take,
    /// and once the queue is closed or poisoned.
    ///
    /// It is readable when the call that put a message or closed the queue returns, and unreadable again when
    /// the call that took the last message returns, in any process. So a reader that polls it under a lock which
    /// all readers take, and then takes a message, does not wait. Without such a lock, other readers may be
    /// faster: take with a timeout of zero. To wait for edges, take until `Timeout`.
    ///
    /// Where the queue's name was [removed](Self::unlink) before the first call, or the directory of objects
    /// cannot be written to, a thread makes it readable and unreadable, some 30 us later (up to 20 ms on kernels
    /// before 5.16). It is then readable, too, in a closed queue while a process works on messages that it has
    /// leased.
    ///
    /// Does not wait. The first call of a process starts a thread that sleeps on behalf of all its
    /// descriptors, and blocks all signals. A forked child must ask again, and gets a descriptor of its own;
    /// that of its parent stays correct while the parent lives.
    ///
    /// It also becomes readable once the [waits through this handle are ended](Self::end_waits).
    ///
    /// Uses two descriptors, and a FIFO next to the queue's file, which is removed with that file. A process
    /// that puts the first message or takes the last while another process has a descriptor uses one. The
    /// handle owns the descriptor and closes it. Do not read from it, write to it or close it.
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

    /// [`fd`](Self::fd), which is also readable while `over()` is true. The thread behind the descriptor calls
    /// `over` at each check: ten times a second at least.
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
        let _signals = self.lock_signals().ok()?;
        if self.has_fifo() {
            return self.open_fifo();
        }
        let (fd, inode) = self.segment.make_fifo(self.way)?;
        self.ring.header.fifo.store(inode, Ordering::Relaxed);
        crash_point!();
        Some(Signal::of_fifo(fd))
    }

    /// Something was put: makes the FIFO readable, or wakes a thread that does.
    #[cold]
    pub(super) fn signal_put(&self) {
        let signals = self.lock_signals();
        if !signals.is_ok_and(|signals| signals.signal_put()) {
            self.ring.header.to_signal.notify_one();
        }
    }

    /// Takes both locks, for a thread that compares the signals with the queue and takes nothing. A take that
    /// saw no bit set is over by then, and no message is given back meanwhile: [`Signals::cleared`] sees only
    /// what is put.
    fn lock_to_compare(&self) -> Result<(TakeGuard<'_>, Signals<'_>)> {
        let taking = self.lock::<ConsumersLock>(Deadline::Now)?;
        Ok((taking, self.lock_signals()?))
    }

    /// There is something to take, or nothing can come any more: descriptors become readable. Under the
    /// locks, unless they can no longer be taken.
    fn signal(&self, signal: &ReadySignal) {
        let bits = &self.ring.header.arrivals.descriptors;
        match signal.is_shared() {
            true => bits.store(SIGNALLED, Ordering::Relaxed),
            // The FIFO is as it was.
            false => drop(bits.fetch_or(SIGNALLED, Ordering::Relaxed)),
        }
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
        self.ring.header.arrivals.not_empty.notify_one();
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
            && let Ok((_taking, signals)) = self.lock_to_compare()
            && !self.has_something()
        {
            signals.clear(0);
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

impl<'a> TakeSide<'a> {
    /// Publishes what `end` has taken, and returns whether there is more. If there is not, descriptors become
    /// unreadable first.
    #[inline(always)]
    pub(super) fn publish(self, mut end: Consumer<'_>) -> bool {
        if self.ring.header.descriptors() != 0 {
            return self.signal_and_publish(end);
        }
        end.publish();
        end.has_more()
    }

    #[cold]
    #[inline(never)]
    fn signal_and_publish(self, mut end: Consumer<'_>) -> bool {
        let signals = self.about_to_empty(end.unpublished(), 0);
        end.publish();
        drop(signals);
        end.has_more()
    }

    /// Called before `message` is taken by itself. The caller drops the result once the message is taken. If
    /// that leaves nothing, descriptors become unreadable first.
    #[inline(always)]
    pub(super) fn about_to_take_message(
        self,
        end: &Consumer<'_>,
        message: &Message,
    ) -> Option<Signals<'a>> {
        let (one, again) = match message.block() {
            Some(block) if message.is_redelivered() => (0, block),
            _ => (1, 0),
        };
        match self.ring.header.descriptors() {
            0 => None,
            _ => self.about_to_empty(end.unpublished() + one, again),
        }
    }

    /// The caller found nothing to take.
    pub(super) fn found_empty(self) {
        if self.is_signalled() {
            drop(self.about_to_empty(0, 0));
        }
    }

    /// Called before `taken` messages of the ring are published as taken, and before the one at block `again`
    /// of the store is (0 for none). The caller drops the result once they are.
    #[cold]
    #[inline(never)]
    fn about_to_empty(self, taken: u64, again: u32) -> Option<Signals<'a>> {
        let header = self.ring.header;
        let first = header.first.load(Ordering::Relaxed);
        let first = match self.ring.store.head(again) {
            Ok(head) if again != 0 && again == first => head.next.load(Ordering::Relaxed),
            _ => first,
        };
        if first != 0 || self.has_more_than(taken) {
            return None;
        }
        let signals = self.queue().lock_signals().ok()?;
        if self.is_signalled() && !self.has_more_than(taken) {
            signals.clear(taken);
        }
        Some(signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_no_longer_writes_to_a_fifo_that_no_thread_checks() -> Result<()> {
        let queue = Queue::anonymous()?;
        let watched = Queue::open(queue.name())?;
        watched.fd()?;
        let header = queue.ring.header;
        let bits = || header.descriptors();
        queue.put(b"1", Timeout::Infinite)?;
        assert_eq!(bits(), SIGNALLED);
        queue.get_vec(Timeout::Infinite)?;
        assert_eq!(bits(), AWAITED);
        assert!(header.has_waiting_consumer());
        drop(watched);
        header.watched.store(0, Ordering::Relaxed);
        assert!(!header.has_waiting_consumer());
        queue.put(b"2", Timeout::Infinite)?;
        assert_eq!(bits(), 0);
        // A thread that checks again corrects it.
        let again = Queue::open(queue.name())?;
        again.fd()?;
        assert_eq!(bits(), SIGNALLED);
        Ok(())
    }
}
