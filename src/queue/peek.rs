//! Looking at messages without taking them, for programs that observe a queue.
//!
//! This walks from the front of the queue under the consumers' lock and publishes nothing, so a kill leaves
//! nothing behind. Before that it makes due messages available, as a call that takes does (see `redelivery`).

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::sys::clock::Deadline;

use super::core::Queue;
use super::cursors::{Message, in_store};
use super::locked::{ConsumersLock, TakeSide};

impl Queue {
    /// Copies a message into `buf` without taking it, and returns its length; `None` if there are at most
    /// `index` messages.
    ///
    /// `index` counts from 0, the next message to be taken. Messages that were given back come first, as for
    /// [`get`](Self::get). Messages that are leased, or wait for a delay, are skipped.
    ///
    /// Waits only for calls of other consumers that are under way. Delays them by some nanoseconds for each
    /// message before `index`.
    ///
    /// ```
    /// # use shoal::{Queue, Timeout};
    /// let queue = Queue::anonymous()?;
    /// queue.put(b"first", Timeout::Infinite)?;
    /// let mut buf = [0; 16];
    /// assert_eq!(queue.peek(0, &mut buf)?, Some(5));
    /// assert_eq!(queue.peek(1, &mut buf)?, None);
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed; `Interrupted` when a signal handler ran while waiting;
    /// `Poisoned`, `Corrupt`.
    pub fn peek(&self, index: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        self.peek_into(index, room(buf))
    }

    /// [`peek`](Self::peek) into memory that need not be initialised.
    pub(crate) fn peek_into(&self, index: u64, buf: &mut Room) -> Result<Option<usize>> {
        self.redeliver_if_due(Deadline::Never);
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let Some(message) = guard.side().message_at(index)? else {
            return Ok(None);
        };
        let (needed, capacity) = (message.len(), buf.len());
        let Some(to) = buf.get_mut(..needed) else {
            return Err(Error::BufferTooSmall { needed, capacity });
        };
        // SAFETY: `to` has the message's length; nothing is published while the lock is held.
        unsafe { message.copy_to(NonNull::from(to).cast()) };
        Ok(Some(needed))
    }
}

/// Looks at the messages of a queue as they are put: see [`Queue::follow`].
#[derive(Debug)]
pub struct Follower<'a> {
    queue: &'a Queue,
    /// The ring's cursor of the next message, and its number, counted from 0.
    at: u64,
    number: u64,
}

/// A message that a [`Follower`] has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Followed {
    /// Its bytes.
    pub len: usize,
    /// Its number: 0 for the first message that was ever put.
    pub number: u64,
}

impl Queue {
    /// Looks at the messages that are put from now on, and with `from_front` also at those that are in
    /// the ring now, without taking them.
    ///
    /// The queue does not keep messages for the follower: a message that is taken before
    /// [`next`](Follower::next) reaches it is not seen, and its number is skipped.
    ///
    /// ```
    /// # use shoal::{Queue, Timeout};
    /// let queue = Queue::anonymous()?;
    /// queue.put(b"before", Timeout::Infinite)?;
    /// let mut follower = queue.follow(false)?;
    /// let mut buf = [0; 16];
    /// assert_eq!(follower.next(&mut buf)?, None);
    /// queue.put(b"after", Timeout::Infinite)?;
    /// let seen = follower.next(&mut buf)?.unwrap();
    /// assert_eq!((&buf[..seen.len], seen.number), (&b"after"[..], 1));
    /// assert_eq!(queue.len(), 2);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Interrupted` when a signal handler ran while waiting for the lock; `Poisoned`, `Corrupt`.
    pub fn follow(&self, from_front: bool) -> Result<Follower<'_>> {
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let end = guard.side().consumer()?;
        let mut follower = Follower {
            queue: self,
            at: end.position(),
            number: end.next_number().wrapping_sub(1),
        };
        if !from_front {
            (follower.at, follower.number) = self.ring.header.end();
        }
        Ok(follower)
    }
}

impl Follower<'_> {
    /// The number of the message that [`next`](Self::next) would return, as of the last call. If it is larger
    /// than that of the last one and one, the messages between were taken before they could be seen.
    pub fn next_number(&self) -> u64 {
        self.number
    }

    /// Copies the next message into `buf`; `None` if there is none yet. Does not wait for one.
    ///
    /// Holds the consumers' lock during the copy.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed: the same message is next again; `Interrupted` when a
    /// signal handler ran while waiting for the lock; `Poisoned`, `Corrupt`.
    #[allow(
        clippy::should_implement_trait,
        reason = "it can fail, and continues after None"
    )]
    pub fn next(&mut self, buf: &mut [u8]) -> Result<Option<Followed>> {
        let guard = self.queue.lock::<ConsumersLock>(Deadline::Never)?;
        let mut end = guard.side().consumer()?;
        if !end.seek(self.at) {
            // The record was taken, perhaps with others behind it: goes on at the front.
            self.number = end.next_number().wrapping_sub(1);
        }
        let found = end.peek_ring()?;
        self.at = end.position();
        let Some(message) = found else {
            return Ok(None);
        };
        let (needed, capacity) = (message.len(), buf.len());
        let Some(to) = buf.get_mut(..needed) else {
            return Err(Error::BufferTooSmall { needed, capacity });
        };
        // SAFETY: `to` has the message's length; nothing is published while the lock is held.
        unsafe { message.copy_to(NonNull::from(to).cast()) };
        let number = self.number;
        end.advance(message);
        (self.at, self.number) = (end.position(), number.wrapping_add(1));
        Ok(Some(Followed {
            len: needed,
            number,
        }))
    }
}

impl TakeSide<'_> {
    /// The message at `index`, counted from the next one to be taken.
    fn message_at(self, index: u64) -> Result<Option<Message>> {
        let (ring, store) = (&self.ring, &self.ring.store);
        let mut left = index;
        let mut block = ring.header.first.load(Ordering::Relaxed);
        // The store bounds the loop, even if the list is a circle.
        for _ in 0..store.most() {
            if block == 0 {
                break;
            }
            if left == 0 {
                return in_store(ring, block, 0).map(Some);
            }
            left -= 1;
            block = store.head(block)?.next.load(Ordering::Relaxed);
        }
        if block != 0 {
            return Err(Error::corrupt(
                "the list of messages that are due is a circle",
            ));
        }
        let mut end = self.consumer()?;
        loop {
            let message = end.peek_ring()?;
            match message {
                Some(passed) if left > 0 => end.advance(passed),
                found => return Ok(found),
            }
            left -= 1;
        }
    }
}
