//! Commits: how what was written on the shelf becomes a message.
//!
//! A reservation is a place on the shelf and room for one record in the ring, which a commit
//! fills. A commit changes a few words; the order makes a kill between any two harmless:
//!
//! ```text
//! step                                       killed after it
//! 1  length; a record behind the tail        a reservation of a dead owner: discarded
//! 2  the message's number, SENT              SENT, but with a number that was never put:
//!                                            the heir of the producers' lock frees it
//! 3  counts and tail word, by one store      a message
//! 4  one less is being written               the same; the heir counts again
//! ```

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;

use super::ends::Producer;
use super::header;
use super::record::{self, HEADER};
use super::shelf::{Mark, NOBODY, State};

impl Producer<'_> {
    /// Whether there is room for one more reservation's record.
    pub(super) fn may_reserve(&mut self) -> Result<bool> {
        let need = self.ring.set_aside().saturating_add(HEADER);
        Ok(self.takes_one_more() && self.has_room(need)?)
    }

    /// Makes the first `used` bytes of `owner`'s reservation `number` at `block` a message.
    pub(super) fn commit(
        &mut self,
        block: u32,
        number: u64,
        owner: Owner,
        used: usize,
    ) -> Result<()> {
        let shelf = self.ring.shelf;
        if !shelf.is_reserved(block, number, owner) {
            let why = "it was committed or discarded before";
            return Err(Error::invalid("reservation", why));
        }
        let head = shelf.head(block)?;
        let (size, limit) = (used as u64, head.len());
        if size > limit {
            let what = "bytes committed of a reservation";
            return Err(Error::TooLarge { what, size, limit });
        }
        let offset = self
            .place(HEADER, 0)?
            .ok_or_else(|| Error::corrupt("the room set aside for a reservation is gone"))?;
        head.set_len(size);
        self.write_header(offset, record::shelved(block), size);
        self.end.skip(HEADER);
        self.end.count(size);
        head.set_number(self.messages());
        head.set(Mark::new(State::Sent, 0, NOBODY));
        self.publish();
        self.ring.count_writing(-1);
        Ok(())
    }
}

impl super::ring::Ring {
    /// The number of the next reservation, under the producers' lock. Killed after the store,
    /// that number is nobody's: all they have to be is different.
    pub(super) fn next_serial(&self) -> u64 {
        let serial = &self.header.producer.serial;
        let next = serial.load(Ordering::Relaxed).wrapping_add(1);
        serial.store(next, Ordering::Relaxed);
        crash_point!();
        next
    }

    /// Of the producers' side, under their lock.
    pub(super) fn count_writing(&self, change: i64) {
        header::change(&self.header.producer.writing, change);
    }
}
