//! Putting messages and taking them.

use std::ptr::NonNull;

use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::sys::clock::{Deadline, IntoTimeout, Timeout};

use super::core::Queue;
use super::cursors::{Consumer, Message};
use super::header::Passed;
use super::locked::{ConsumersLock, ProducersLock, PutGuard, TakeSide};
use super::reservation::PutBy;

impl Queue {
    /// Puts one message at the end, waiting for room until `timeout`.
    ///
    /// # Errors
    /// `Timeout`; `TooLarge` at once for a message that can never fit; `Closed`; `NoSpace` when the ring had
    /// to grow for it and `/dev/shm` is full: at once if the message does not fit into the memory that the ring
    /// has, or the call may not wait, and else `Timeout`, since consumers can make room; `Interrupted` when a
    /// signal handler ran while waiting;
    /// `Detached` once the [waits through this handle are ended](Self::end_waits) and the call would have to
    /// wait; `Poisoned`, `Corrupt`. After an error nothing was put.
    ///
    /// If the queue [has a relay](Self::is_relayed): `RelayBehind` instead of `Timeout`.
    pub fn put(&self, data: &[u8], timeout: impl IntoTimeout) -> Result<()> {
        self.room_for(data.len())?;
        let mut full = false;
        if let Some(guard) = self.enter_now() {
            if self.put_locked(guard, data)? {
                return Ok(());
            }
            full = true;
        }
        self.put_slow(data, full, timeout.into_timeout())
    }

    /// [`put`](Self::put), without waiting: false if the lock is not free, there is no room, or the queue has
    /// a relay.
    ///
    /// # Errors
    /// `TooLarge`, `Closed`, `NoSpace`, `Poisoned`, `Corrupt`. After an error nothing was put.
    pub(crate) fn try_put(&self, data: &[u8]) -> Result<bool> {
        self.room_for(data.len())?;
        match self.enter_now() {
            Some(guard) => self.put_locked(guard, data),
            None => Ok(false),
        }
    }

    /// [`put`](Self::put), after the lock was not free or there was no room (`full`).
    #[cold]
    fn put_slow(&self, data: &[u8], full: bool, timeout: Timeout) -> Result<()> {
        self.put_until(data, full, Deadline::after(timeout))
    }

    /// [`put`](Self::put) until `deadline`. `full`: the caller has found that there is no room.
    pub(super) fn put_until(&self, data: &[u8], mut full: bool, deadline: Deadline) -> Result<()> {
        let need = self.room_for(data.len())?;
        self.producers.check_quantum(deadline)?;
        loop {
            if self.is_relayed() {
                if self.request_put(data, deadline)? {
                    return Ok(());
                }
            } else if full {
                self.make_room(need, PutBy::Others, deadline)?;
            }
            if self.put_locked(self.enter(deadline)?, data)? {
                return Ok(());
            }
            full = true;
        }
    }

    /// False if there is no room now, or the message becomes a request to a relay.
    #[inline(always)]
    fn put_locked(&self, guard: PutGuard<'_>, data: &[u8]) -> Result<bool> {
        if !guard.side().takes_puts()? {
            return Ok(false);
        }
        let mut end = guard.side().producer()?;
        let put = end.push(data)?;
        if put {
            end.publish();
        }
        drop(guard);
        if put {
            self.producers.charge((1, data.len() as u64));
            self.notify_consumers();
        }
        Ok(put)
    }

    /// Puts messages in order, as many as there is room for before `timeout`, and returns how
    /// many that were. Takes the lock once for all that fit together.
    ///
    /// The batch is not atomic: if the call waits, messages of other producers may come between, and after a
    /// kill a first part of the batch may be there.
    ///
    /// # Errors
    /// As for [`put`](Self::put), and only if not one message was put.
    pub fn put_many(&self, items: &[impl AsRef<[u8]>], timeout: impl IntoTimeout) -> Result<usize> {
        let deadline = Deadline::after(timeout);
        let mut done = 0;
        while let Some(next) = items.get(done) {
            match self.put_some(&items[done..], next.as_ref(), deadline) {
                Ok(put) => done += put,
                Err(err) if done == 0 => return Err(err),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Puts what fits now; waits if that is nothing.
    fn put_some(
        &self,
        items: &[impl AsRef<[u8]>],
        first: &[u8],
        deadline: Deadline,
    ) -> Result<usize> {
        let need = self.room_for(first.len())?;
        self.producers.check_quantum(deadline)?;
        let guard = self.enter::<ProducersLock>(deadline)?;
        if !guard.side().takes_puts()? {
            drop(guard);
            return self.request_put(first, deadline).map(usize::from);
        }
        let mut end = guard.side().producer()?;
        let mut put = 0;
        while let Some(item) = items.get(put) {
            if !end.push(item.as_ref())? {
                break;
            }
            if end.publish_part() {
                self.notify_of_part();
            }
            put += 1;
        }
        if put > 0 {
            end.publish();
        }
        drop(guard);
        if put > 0 {
            let lens = items[..put].iter().map(|item| item.as_ref().len() as u64);
            self.producers.charge((put as u64, lens.sum()));
            self.notify_consumers();
        } else {
            self.make_room(need, PutBy::Others, deadline)?;
        }
        Ok(put)
    }

    /// Takes the first message into `buf` and returns its length, waiting until `timeout`.
    ///
    /// # Errors
    /// `Timeout`; `BufferTooSmall` with the length needed, and the message stays; `Closed` once a closed
    /// queue is drained; `Interrupted` when a signal handler ran while waiting; `Detached` once the [waits
    /// through this handle are ended](Self::end_waits) and the call would have to wait; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn get(&self, buf: &mut [u8], timeout: impl IntoTimeout) -> Result<usize> {
        self.get_into(room(buf), timeout.into_timeout())
    }

    /// [`get`](Self::get) into memory that need not be initialised.
    pub(crate) fn get_into(&self, buf: &mut Room, timeout: Timeout) -> Result<usize> {
        let mut nothing = false;
        if let Some(guard) = self.enter_now::<ConsumersLock>()
            && !self.is_due()
        {
            if let Some(len) = self.take_now(guard, false, |side, end| take_into(side, end, buf))? {
                return Ok(len);
            }
            nothing = true;
        }
        self.get_slow(buf, nothing, timeout)
    }

    /// [`get_into`](Self::get_into), without waiting: `None` if the lock is not free, there is nothing to
    /// take, or it is time to redeliver messages.
    ///
    /// # Errors
    /// `BufferTooSmall`, and the message stays; `Closed`, `Poisoned`, `Corrupt`.
    pub(crate) fn try_get_into(&self, buf: &mut Room) -> Result<Option<usize>> {
        match self.enter_now::<ConsumersLock>() {
            Some(guard) if !self.is_due() => {
                self.take_now(guard, false, |side, end| take_into(side, end, buf))
            }
            _ => Ok(None),
        }
    }

    /// [`get_into`](Self::get_into), after the lock was not free or there was `nothing`.
    #[cold]
    fn get_slow(&self, buf: &mut Room, nothing: bool, timeout: Timeout) -> Result<usize> {
        let deadline = Deadline::after(timeout);
        self.take(deadline, nothing, |side, end| take_into(side, end, buf))
    }

    /// Takes the first message, waiting until `timeout`.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_vec(&self, timeout: impl IntoTimeout) -> Result<Vec<u8>> {
        self.take(Deadline::after(timeout), false, |side, end| {
            let mut data = Vec::new();
            let taken = side.append_next(end, &mut data)?;
            Ok(taken.map(|len| (data, (1, len as u64))))
        })
    }
}

/// Takes the next message for a `get`.
#[inline(always)]
fn take_into(
    side: TakeSide<'_>,
    end: &mut Consumer<'_>,
    buf: &mut Room,
) -> Result<Option<(usize, Passed)>> {
    let taken = side.copy_next(end, buf)?;
    Ok(taken.map(|len| (len, (1, len as u64))))
}

impl TakeSide<'_> {
    /// Copies the next message to the front of `buf`, moves over it, and returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall`; the message stays.
    #[inline(always)]
    pub(super) fn copy_next(self, end: &mut Consumer<'_>, buf: &mut Room) -> Result<Option<usize>> {
        let Some(message) = end.peek()? else {
            return Ok(None);
        };
        let (needed, capacity) = (message.len(), buf.len());
        let Some(to) = buf.get_mut(..needed) else {
            return Err(Error::BufferTooSmall { needed, capacity });
        };
        // SAFETY: `to` has the message's length; the end has not moved over the message.
        unsafe { message.copy_to(NonNull::from(to).cast()) };
        self.pass(end, message)?;
        Ok(Some(needed))
    }

    /// Appends the next message to `data`, moves over it, and returns its length.
    #[inline(always)]
    pub(super) fn append_next(
        self,
        end: &mut Consumer<'_>,
        data: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let Some(message) = end.peek()? else {
            return Ok(None);
        };
        let old = data.len();
        data.reserve(message.len());
        // SAFETY: the spare part has room for the message, over which the end has not moved.
        unsafe {
            message.copy_to(NonNull::from(&mut data.spare_capacity_mut()[..]).cast());
        }
        self.pass(end, message)?;
        // SAFETY: `message.len()` bytes of the spare part were just written.
        unsafe { data.set_len(old + message.len()) };
        Ok(Some(message.len()))
    }

    /// Moves over a message that was copied out.
    #[inline(always)]
    fn pass(self, end: &mut Consumer<'_>, message: Message) -> Result<()> {
        let Some(block) = message.block() else {
            end.advance(message);
            return Ok(());
        };
        if self.is_delivered(block)? {
            let attempts = self.ring.store.found(block)?.mark.attempts;
            self.settle(block, attempts.saturating_add(1))?;
        }
        let signals = self.about_to_take_message(end, &message);
        // A kill between the two steps leaves a message whose number says that it was taken; the repair frees
        // it.
        end.advance_now(message)?;
        drop(signals);
        self.free(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_does_not_wait_for_a_process_that_has_the_lock() -> Result<()> {
        let queue = Queue::anonymous()?;
        let other = Queue::open(queue.name())?;
        let mut buf = [0; 8];
        {
            let _busy = other.lock::<ProducersLock>(Deadline::Never)?;
            assert!(!queue.try_put(b"message")?);
        }
        assert_eq!(queue.len(), 0);
        assert!(queue.try_put(b"message")?);
        {
            let _busy = other.lock::<ConsumersLock>(Deadline::Never)?;
            assert_eq!(queue.try_get_into(room(&mut buf))?, None);
        }
        assert_eq!(queue.try_get_into(room(&mut buf))?, Some(7));
        assert_eq!(&buf[..7], b"message");
        assert_eq!(queue.try_get_into(room(&mut buf))?, None);
        Ok(())
    }
}
