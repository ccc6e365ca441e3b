//! Redelivery of messages whose worker died or was too slow, or which were given back.
//!
//! Any process may do this. While anything is leased, the header has the time of the next check of the message
//! store ([`LAST_CHECK_NS`] later at most). A process that takes a message or waits for one after that time
//! does the check first. A check costs a walk over the store and a system call for each process that holds a
//! lease. A process that fell asleep before the lease was made checks at the end of its slice, a tenth of a
//! second later at most.
//!
//! # What a kill leaves
//! All this is done under the consumers' lock. A message's mark defines its state, and one store changes it.
//! The list of what is due, the counts and the time of the next check are derived: the next owner of the lock
//! rebuilds them (see `repair`) and checks at once.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::copy::copy;
use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, Timeout, now_ns};

use super::core::Queue;
use super::header::change;
use super::lease::LeasedMessage;
use super::locked::{ConsumersLock, TakeGuard, TakeSide};
use super::mark::{Mark, MessageState, NO_OWNER};
use super::reservation::MessagePlace;
use super::store::StoredMessage;

/// Checks whether the processes that hold leases are alive after this long, and then at doubling intervals.
/// So the messages of a process that is killed soon after it took them are delivered again soon, and a
/// process that works for an hour costs the others next to nothing.
const FIRST_CHECK_NS: u64 = 10_000_000;
const LAST_CHECK_NS: u64 = 80_000_000;
/// The next check is at least this many times as far away as the last one took.
const SHARE: u64 = 50;
/// How long a message waits after the dead-letter queue has refused it.
const RETRY: Duration = Duration::from_millis(100);

/// A message that is given back gets its place in the list of due ones if there are fewer than this many before
/// it, or none behind it.
const NEAR: usize = 64;

/// `due`: check at once.
pub(super) const AT_ONCE: u64 = 1;

impl Queue {
    /// When to check the message store; 0 for never.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.ring.header.due.load(Ordering::Relaxed)
    }

    /// Whether it is time to check the message store.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        let due = self.due();
        due != 0 && is_past(due)
    }

    /// The time until the next check of the message store, at most `slice_ns`.
    pub(super) fn until_due(&self, slice_ns: u64) -> u64 {
        match self.due() {
            0 => slice_ns,
            due => slice_ns.min(due.saturating_sub(now_ns())),
        }
    }

    /// Makes due messages available again, and moves those that were delivered too often to the dead-letter
    /// queue. Releases the lock.
    ///
    /// # Errors
    /// `Timeout` if the store's lock is not free by `deadline`; then nothing has changed.
    #[cold]
    pub(super) fn redeliver(&self, consumers: TakeGuard<'_>, deadline: Deadline) -> Result<()> {
        let given_up = consumers.side().redeliver_due(deadline)?;
        drop(consumers);
        // All of them, even after an error: this process has leased them.
        let moved = given_up.iter().map(|leased| self.dead_letter(leased));
        moved.fold(Ok(()), Result::and)
    }

    /// Redelivers if it is time to, for a call that only looks. If that fails, the next call that takes returns
    /// the error.
    pub(super) fn redeliver_if_due(&self, deadline: Deadline) {
        if self.is_due() {
            let locked = self.lock::<ConsumersLock>(deadline);
            let _ = locked.and_then(|guard| self.redeliver(guard, deadline));
        }
    }

    /// Moves a message that was delivered too often to the dead-letter queue. After a kill between the two
    /// steps, the message is moved again: it may be there twice, but is not lost.
    pub(super) fn dead_letter(&self, leased: &LeasedMessage) -> Result<()> {
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        let is_delivered = guard.side().is_delivered(leased.place.block)?;
        drop(guard);
        if is_delivered {
            // Returning it tells the relay that it is a dead letter.
            return self.return_lease(leased, RETRY);
        }
        let Some(dead_letters) = self.dead_letters() else {
            return self.return_lease(leased, RETRY);
        };
        // SAFETY: the message is leased to this process, so no other process writes to it or frees it.
        let payload = unsafe { leased.bytes() };
        let Err(err) = dead_letters.put(payload, Timeout::Val(Duration::ZERO)) else {
            return self.ack(leased);
        };
        self.return_lease(leased, RETRY)?;
        match err {
            // There may be room later.
            Error::Timeout
            | Error::Interrupted
            | Error::NoSpace { .. }
            | Error::Exhausted { .. }
            | Error::RelayBehind { .. } => Ok(()),
            lasting => Err(refused(dead_letters.name(), &lasting)),
        }
    }
}

/// The queue of dead letters takes no message, or not this one.
#[cold]
fn refused(name: &str, why: &Error) -> Error {
    let why = format!(
        "the queue {name:?} refuses a message that was delivered too often, which stays and is tried again: {why}"
    );
    Error::invalid("dead letters", why)
}

impl TakeSide<'_> {
    /// Makes sure that a process checks the store at the time `at`, or soon after.
    pub(super) fn check_by(self, at: u64) {
        let due = &self.ring.header.due;
        let before = due.load(Ordering::Relaxed);
        if before == 0 || at < before {
            due.store(at.max(AT_ONCE), Ordering::Relaxed);
        }
    }

    /// Makes sure that a process soon notices if the caller dies.
    pub(super) fn check_soon(self) {
        let check_ns = &self.ring.header.store.check_ns;
        // The shortest interval may be set already.
        if self.due() == 0 || check_ns.load(Ordering::Relaxed) != FIRST_CHECK_NS {
            check_ns.store(FIRST_CHECK_NS, Ordering::Relaxed);
            self.check_by(now_ns().saturating_add(FIRST_CHECK_NS));
        }
    }

    /// Rebuilds the list of due messages. Returns those that were delivered too often, leased to this
    /// process.
    fn redeliver_due(self, deadline: Deadline) -> Result<Vec<LeasedMessage>> {
        let (start, me) = (now_ns(), self.segment.owner());
        let messages = self.everything(deadline)?;
        let store = &self.ring.store;
        let header = self.ring.header;
        // What follows is derived: if the process dies here, the next owner checks at once.
        header.first.store(0, Ordering::Relaxed);
        crash_point!();
        let interval = &header.store.check_ns;
        let check_ns = interval.load(Ordering::Relaxed);
        let soon = start.saturating_add(check_ns.clamp(FIRST_CHECK_NS, LAST_CHECK_NS));
        let (mut ready, mut next) = self.find_due(messages, start, soon)?;
        let mut given_up = Vec::new();
        for at in (0..ready.len()).rev() {
            let attempts = store.found(ready[at].1)?.mark.attempts;
            if self.is_given_up(attempts) {
                let (_, block) = ready.swap_remove(at);
                given_up.push(self.lease_block(block, attempts, me, 0)?);
                self.count_waiting(-1);
                next = next.min(soon);
            }
        }
        // Sorted in descending order: each message names the one after it.
        ready.sort_unstable_by(|a, b| b.cmp(a));
        let last = ready.first().map_or(0, |&(_, block)| block);
        let mut after = 0;
        for (_, block) in ready {
            store.head(block)?.next.store(after, Ordering::Relaxed);
            after = block;
        }
        let longer = check_ns.saturating_mul(2);
        interval.store(
            longer.clamp(FIRST_CHECK_NS, LAST_CHECK_NS),
            Ordering::Relaxed,
        );
        let spent = now_ns().saturating_sub(start);
        let due = match next {
            u64::MAX => 0,
            next => next.max(start.saturating_add(spent.saturating_mul(SHARE))),
        };
        header.due.store(due, Ordering::Relaxed);
        header.store.last.store(last, Ordering::Relaxed);
        header.first.store(after, Ordering::Relaxed);
        crash_point!();
        Ok(given_up)
    }

    /// Ends the leases among `messages` that have expired or whose owner is dead. Returns those that may be
    /// delivered at `now`, by number and place, and when to check again: at `soon` if there are leases.
    /// `u64::MAX`: there is nothing to wait for.
    fn find_due(
        self,
        messages: Vec<StoredMessage>,
        now: u64,
        soon: u64,
    ) -> Result<(Vec<(u64, u32)>, u64)> {
        let store = &self.ring.store;
        let (mut ready, mut next) = (Vec::new(), u64::MAX);
        let mut liveness = self.liveness();
        for found in messages {
            let StoredMessage {
                block,
                mark,
                due,
                number,
            } = found;
            let head = store.head(block)?;
            match mark.state {
                MessageState::Leased if !liveness.lives(mark.owner)? => {
                    if self.return_to_relay(block, mark.attempts, Duration::ZERO)? {
                        self.drop_leased(block)?;
                        continue;
                    }
                    head.set_due(0);
                    self.wait_again(block, mark.attempts)?;
                    ready.push((number, block));
                }
                MessageState::Leased => {
                    next = next.min(soon);
                    if due > now {
                        next = next.min(due);
                    } else if due != 0
                        && let Some(copy) = self.expire(&found)?
                    {
                        ready.push((number, copy));
                    }
                }
                MessageState::Waiting if due <= now => ready.push((number, block)),
                MessageState::Waiting => next = next.min(due),
                MessageState::Expired if !liveness.lives(mark.owner)? => self.free(block)?,
                MessageState::Expired => next = next.min(soon),
                MessageState::Sent | MessageState::Writing | MessageState::Cached => {}
            }
        }
        Ok((ready, next))
    }

    /// Makes the leased message at `block` WAITING.
    pub(super) fn wait_again(self, block: u32, attempts: u8) -> Result<()> {
        let head = self.ring.store.head(block)?;
        head.set(Mark::new(MessageState::Waiting, attempts, NO_OWNER));
        self.count_waiting(1);
        self.count_leased(-1);
        Ok(())
    }

    /// Inserts the WAITING message at `block` into the list of due ones, in the order of their numbers. If its
    /// place is neither at the end of the list nor near its beginning, the next check sorts it in, so that
    /// giving back many messages does not walk the list for each of them.
    ///
    /// A kill between two stores leaves a list without this message or without what is behind it. The next
    /// owner of the lock rebuilds the list.
    pub(super) fn insert_due(self, block: u32, number: u64) -> Result<()> {
        let (store, header) = (&self.ring.store, self.ring.header);
        let last = &header.store.last;
        let mut link = &header.first;
        if link.load(Ordering::Relaxed) != 0 {
            let end = store.head(last.load(Ordering::Relaxed))?;
            if end.number() < number {
                link = &end.next;
            }
        }
        for _ in 0..NEAR {
            let next = link.load(Ordering::Relaxed);
            if next == 0 || store.head(next)?.number() > number {
                store.head(block)?.next.store(next, Ordering::Relaxed);
                crash_point!();
                link.store(block, Ordering::Relaxed);
                crash_point!();
                if next == 0 {
                    last.store(block, Ordering::Relaxed);
                    crash_point!();
                }
                return Ok(());
            }
            link = &store.head(next)?.next;
        }
        self.check_by(AT_ONCE);
        Ok(())
    }

    /// Leases the message at `block` to `owner`.
    pub(super) fn lease_block(
        self,
        block: u32,
        attempts: u8,
        owner: Owner,
        until: u64,
    ) -> Result<LeasedMessage> {
        let store = &self.ring.store;
        let (head, (span, len)) = (store.head(block)?, store.payload(block)?);
        self.count_leased(1);
        self.lease_count.add(owner, 1);
        head.set(Mark::new(MessageState::Leased, attempts, owner));
        head.set_due(until);
        let number = head.number();
        let place = MessagePlace {
            block,
            number,
            owner,
            span,
            len,
        };
        Ok(LeasedMessage { place, attempts })
    }

    /// The worker on `found` was too slow. Its extent stays until the worker acks it or gives it back; a copy
    /// waits for another worker. Returns the copy's block, if there was room for one.
    fn expire(self, found: &StoredMessage) -> Result<Option<u32>> {
        let store = &self.ring.store;
        let attempts = found.mark.attempts;
        let expired = Mark::new(MessageState::Expired, attempts, found.mark.owner);
        if self.return_to_relay(found.block, attempts, Duration::ZERO)? {
            store.head(found.block)?.set(expired);
            self.count_leased(-1);
            return Ok(None);
        }
        let [(from, len), (_, token)] = store.payload_and_token(found.block)?;
        let copy = match self.place_copy(from, len + token, found.number, Deadline::Never) {
            Ok(Some(copy)) => copy,
            // The lease remains until there is room.
            Ok(None) | Err(Error::NoSpace { .. }) => return Ok(None),
            Err(err) => return Err(err),
        };
        if token != 0 {
            store.head(copy)?.set_len(len as u64);
            store.head(copy)?.set_token(token as u32);
        }
        let waiting = Mark::new(MessageState::Waiting, attempts, NO_OWNER);
        store.head(copy)?.set(waiting);
        // After a kill before the next store, the message is both leased and waiting; the repair finds the
        // pair by its number.
        store.head(found.block)?.set(expired);
        self.count_waiting(1);
        self.count_leased(-1);
        Ok(Some(copy))
    }

    /// Copies a message into the store; `None` without room. Until the caller marks the copy, it is an
    /// expired message without an owner, which the next check frees.
    pub(super) fn place_copy(
        self,
        from: NonNull<u8>,
        len: usize,
        number: u64,
        deadline: Deadline,
    ) -> Result<Option<u32>> {
        let store = &self.ring.store;
        let mark = Mark::new(MessageState::Expired, 0, NO_OWNER);
        let Some(block) = self.allocate(len, number, mark, deadline)? else {
            return Ok(None);
        };
        let to = store.span(block, len as u64)?;
        if from.addr().get().abs_diff(to.addr().get()) < len {
            return Err(Error::corrupt("two messages of a queue overlap"));
        }
        // SAFETY: both have `len` bytes, which do not overlap; only the owner of the lock knows the new
        // place.
        unsafe { copy(from, to, len) };
        crash_point!();
        Ok(Some(block))
    }

    pub(super) fn count_leased(self, by: i64) {
        change(&self.ring.header.store.leased, by);
    }

    fn count_waiting(self, by: i64) {
        change(&self.ring.header.store.waiting, by);
    }

    /// One of the WAITING is not delivered again at any time. Counted after `waiting`, so that a process that
    /// reads both without the lock, this one first, never finds too few that come.
    pub(super) fn count_never(self) {
        let never = &self.ring.header.store.never;
        let counted = never.load(Ordering::Relaxed).saturating_add(1);
        // SYNC: publish(count)
        never.store(counted, Ordering::Release);
        crash_point!();
    }
}

#[cold]
fn is_past(due: u64) -> bool {
    due <= AT_ONCE || due <= now_ns()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Options;

    /// Gives 300 messages back in the order in which `next` returns their places among those that are left.
    /// Returns the time of the next check after that, and the order in which they are taken.
    fn give_back(next: impl Fn(usize) -> usize) -> Result<(u64, Vec<u16>)> {
        let queue = Queue::anonymous()?;
        let mut leases = Vec::new();
        for number in 0..300u16 {
            queue.put(&number.to_ne_bytes(), Timeout::Infinite)?;
            leases.push(queue.lease(Timeout::Infinite)?);
        }
        while !leases.is_empty() {
            let lease = leases.remove(next(leases.len()));
            lease.nack(Duration::ZERO)?;
        }
        let due = queue.due();
        let mut taken = Vec::new();
        while let Ok(message) = queue.get_vec(Timeout::Val(Duration::ZERO)) {
            taken.push(u16::from_ne_bytes([message[0], message[1]]));
        }
        Ok((due, taken))
    }

    #[test]
    fn messages_that_are_given_back_in_any_order_come_in_order_without_a_walk_for_each()
    -> Result<()> {
        let in_order: Vec<u16> = (0..300).collect();
        // Each has its place at the end of the list, or at its beginning.
        for next in [|_| 0, |left: usize| left - 1] {
            let (due, taken) = give_back(next)?;
            assert!(due > AT_ONCE && taken == in_order, "{due} {taken:?}");
        }
        // The even numbers, and then each odd one between them: one check sorts in most of those.
        let evens_first = |left: usize| if left > 150 { 300 - left } else { 0 };
        let (due, taken) = give_back(evens_first)?;
        assert!(due == AT_ONCE && taken == in_order, "{due} {taken:?}");
        Ok(())
    }
    #[test]
    fn dead_letters_that_are_given_back_are_moved_without_a_check_for_each() -> Result<()> {
        let options = Options::create().max_attempts(1);
        let queue = Queue::with_options(None, &options)?;
        let mut leases = Vec::new();
        for number in 0..50u8 {
            queue.put(&[number], Timeout::Infinite)?;
            leases.push(queue.lease(Timeout::Infinite)?);
        }
        for lease in leases {
            lease.nack(Duration::ZERO)?;
        }
        // Each check makes it longer, and each lease makes it the shortest again.
        let interval = &queue.ring.header.store.check_ns;
        assert_eq!(interval.load(Ordering::Relaxed), FIRST_CHECK_NS);
        assert_eq!((queue.len(), queue.leased()), (0, 0));
        let dead = queue.dead_letters().map(Queue::len);
        assert_eq!(dead, Some(50));
        Ok(())
    }
}
