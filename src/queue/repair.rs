//! What the next owner of a lock repairs after a process died with it.
//!
//! Both sides publish with one store (see `cursors`), so a dead owner's half-written record or half-taken
//! message is not there. The cursors are checked (see `locked`). What remains are messages in the store that
//! were between two states: their numbers, compared with how many were ever put and taken, tell which step
//! was the last. Counts, the list of what is due and the time of the next check are derived, and rebuilt.
//!
//! If the repairing process is killed as well, the next owner begins again.

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::sync::crash::crash_point;
use crate::sys::clock::Deadline;

use super::admission::Admission;
use super::core::Queue;
use super::locked::{ConsumersLock, ProducersLock, PutSide, QueueLock, TakeSide};
use super::mark::{Mark, MessageState, NO_OWNER};
use super::redelivery::AT_ONCE;
use super::store::{NEVER, StoredMessage};

impl QueueLock for ProducersLock {
    #[inline(always)]
    fn admission(queue: &Queue) -> &Admission {
        &queue.producers
    }

    /// The dead owner may have been in a commit, or between a change and its count.
    fn repair(side: PutSide<'_>) -> Result<()> {
        let (put, _) = side.ring.header.put();
        let mut writing = 0;
        for found in side.everything(Deadline::Never)? {
            match found.mark.state {
                MessageState::Sent if found.number > put => side.free(found.block)?,
                MessageState::Writing => writing += 1,
                _ => {}
            }
        }
        let counted = &side.ring.header.producer.writing;
        counted.store(writing, Ordering::Relaxed);
        Ok(())
    }
}

impl QueueLock for ConsumersLock {
    #[inline(always)]
    fn admission(queue: &Queue) -> &Admission {
        &queue.consumers
    }

    /// The dead owner may have been taking, leasing or returning a message.
    fn repair(side: TakeSide<'_>) -> Result<()> {
        let header = side.ring.header;
        header.first.store(0, Ordering::Relaxed);
        header.due.store(AT_ONCE, Ordering::Relaxed);
        let (taken, _) = header.taken();
        let next = side.consumer()?.peek()?;
        let next = next.and_then(|it| it.block());
        let (mut leased, mut waiting) = (Vec::<StoredMessage>::new(), Vec::new());
        let mut never = 0;
        for found in side.everything(Deadline::Never)? {
            match found.mark.state {
                // Taken, but not freed.
                MessageState::Sent if found.number <= taken => side.free(found.block)?,
                // Leased, but not taken.
                MessageState::Leased if found.number > taken => side.unlease(&found, next)?,
                MessageState::Leased => leased.push(found),
                MessageState::Waiting => {
                    waiting.push(found.number);
                    never += u32::from(found.due == NEVER);
                }
                _ => {}
            }
        }
        waiting.sort_unstable();
        let all = leased.len();
        leased.retain(|it| waiting.binary_search(&it.number).is_ok());
        for found in &leased {
            // Expired, and copied already.
            let expired = Mark::new(MessageState::Expired, found.mark.attempts, found.mark.owner);
            side.ring.store.head(found.block)?.set(expired);
        }
        let counts = &header.store;
        let still = all - leased.len();
        counts.leased.store(still as u64, Ordering::Relaxed);
        crash_point!();
        counts
            .waiting
            .store(waiting.len() as u64, Ordering::Relaxed);
        crash_point!();
        counts.never.store(never, Ordering::Relaxed);
        crash_point!();
        Ok(())
    }
}

impl TakeSide<'_> {
    /// Takes back a lease: the ring still has the message, either as a record that names the extent, or
    /// whole.
    fn unlease(self, found: &StoredMessage, next: Option<u32>) -> Result<()> {
        if next != Some(found.block) {
            return self.free(found.block);
        }
        // The lease that is taken back does not count.
        let attempts = found.mark.attempts.saturating_sub(1);
        let sent = Mark::new(MessageState::Sent, attempts, NO_OWNER);
        self.ring.store.head(found.block)?.set(sent);
        Ok(())
    }
}
