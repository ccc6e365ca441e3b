//! Commits: how a reservation becomes a message.
//!
//! A reservation is a place in the message store, and space for one record in the ring, which the commit
//! writes. A commit changes a few words; their order makes a kill between any two harmless:
//!
//! ```text
//! step                                       killed after it
//! 1  length, and that of the token behind    a reservation of a dead owner: discarded
//!    the payload; a record behind the tail
//! 2  the message's number, SENT              SENT, but with a number that was never put:
//!                                            the next owner of the producers' lock frees it
//! 3  counts and tail word, by one store      a message
//! 4  one less is being written               the same; the next owner counts again
//! ```

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;

use super::cursors::Producer;
use super::header;
use super::mark::{Mark, MessageState, NO_OWNER};
use super::record::{self, HEADER};

/// What a relay adds to a message that it delivers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    /// Bytes of the token behind the payload; 0 for none.
    pub(super) token: u32,
    /// How often it was delivered before.
    pub(super) attempts: u8,
}

impl Delivery {
    /// Nothing: no relay delivered the message.
    pub(super) const NONE: Self = Self {
        token: 0,
        attempts: 0,
    };
}

impl Producer<'_> {
    /// Whether there is room for one more reservation's record.
    pub(super) fn may_reserve(&mut self) -> Result<bool> {
        let need = self.ring.set_aside().saturating_add(HEADER);
        Ok(self.takes_one_more() && self.has_room(need)?)
    }

    /// Makes the first `used` bytes of `owner`'s reservation `number` at `block` a message.
    #[inline]
    pub(super) fn commit(
        &mut self,
        (block, number, owner): (u32, u64, Owner),
        used: usize,
        delivery: Delivery,
    ) -> Result<()> {
        let store = &self.ring.store;
        if !store.is_reserved(block, number, owner) {
            let why = "it was committed or discarded before";
            return Err(Error::invalid("reservation", why));
        }
        let head = store.head(block)?;
        let (size, limit) = (used as u64, head.len());
        if size.saturating_add(delivery.token.into()) > limit {
            let what = "committed message";
            return Err(Error::TooLarge { what, size, limit });
        }
        let offset = self
            .place(HEADER, 0)?
            .ok_or_else(|| Error::corrupt("the room set aside for a reservation is gone"))?;
        head.set_len(size);
        head.set_token(delivery.token);
        self.write_header(offset, record::stored(block), size);
        self.cursor.skip(HEADER);
        self.cursor.count(size);
        head.set_number(self.messages());
        head.set(Mark::new(MessageState::Sent, delivery.attempts, NO_OWNER));
        self.publish();
        self.count_writing(-1);
        Ok(())
    }

    /// The number of the next reservation. A kill after the store leaves a number unused: numbers only have
    /// to differ.
    pub(super) fn next_serial(&self) -> u64 {
        let serial = &self.ring.header.producer.serial;
        let next = serial.load(Ordering::Relaxed).wrapping_add(1);
        serial.store(next, Ordering::Relaxed);
        crash_point!();
        next
    }

    /// Counts reservations that are being written.
    pub(super) fn count_writing(&self, by: i64) {
        header::change(&self.ring.header.producer.writing, by);
    }
}
