//! Reservations: records that are written in place, outside the lock.
//!
//! A reservation is published at once, as a BUSY record with its owner, so that others can put
//! behind it. It becomes a message by a commit, which has to change three things: the
//! record's length, the counts, and the state. The order makes a kill between any two of
//! them harmless:
//!
//! ```text
//! step                                    killed after it
//! 1  a DONE record where the rest begins  nobody looks inside a BUSY record
//! 2  the record's new length              a shorter reservation and a discarded rest
//! 3  commit.word, then commit.at          a reservation, since the tail has another word
//! 4  counts and tail word, by one store   a message: the heir of the lock makes it READY
//! 5  READY                                a message
//! 6  commit.at = 0                        the same
//! ```
//! The reservation of a dead owner is discarded by whoever waits for it. The discarder holds
//! the producers' lock, and so is, or comes after, the heir who did step 5.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::crash::crash_point;

use super::ends::Producer;
use super::header::CURSOR;
use super::record::{self, HEADER, State};
use super::ring::Ring;

/// A commit is under way: bit 0 of `commit.at`.
const UNDER_WAY: u64 = 1;

impl Producer {
    /// Reserves room for `len` bytes and publishes that. Returns the record's cursor, or
    /// `None` if there is no room now.
    pub(crate) fn reserve(&mut self, len: usize, owner: Owner) -> Result<Option<u64>> {
        let need = record::size(len as u64).unwrap_or(u64::MAX);
        let Some(offset) = self.place(need)? else {
            return Ok(None);
        };
        let at = self.end.pos;
        self.write_header(offset, record::busy(owner), len as u64);
        self.end.skip(need);
        self.publish();
        Ok(Some(at))
    }

    /// Makes the first `used` bytes of `owner`'s reservation at `at` a message.
    pub(crate) fn commit(&mut self, at: u64, used: usize, owner: Owner) -> Result<()> {
        let offset = at & CURSOR & (self.capacity - 1);
        let (reserved, size) = self
            .ring
            .reserved(at, self.capacity)
            .filter(|_| self.ring.reserved_by(at) == Some(owner))
            .ok_or_else(|| Error::invalid("reservation", "it was committed or discarded before"))?;
        let used_size = record::size(used as u64).unwrap_or(u64::MAX);
        let [_, len] = self.ring.header_at(offset);
        if used as u64 > reserved {
            let what = "bytes committed of a reservation";
            let (size, limit) = (used as u64, reserved);
            return Err(Error::TooLarge { what, size, limit });
        }
        if used_size < size {
            let rest = size - used_size;
            self.write_header(offset + used_size, State::Done as u64, rest - HEADER);
        }
        // SYNC: publish(len): whoever sees it sees the rest's header.
        len.store(used as u64, Ordering::Release);
        crash_point!();
        let commit = &self.ring.header.producer.commit;
        commit.word.store(self.end.word ^ 1, Ordering::Relaxed);
        crash_point!();
        // SYNC: publish(commit): with the word that belongs to it.
        commit.at.store(at | UNDER_WAY, Ordering::Release);
        crash_point!();
        self.end.count(used as u64);
        self.publish();
        self.ring.make_ready(at)
    }

    /// Does what is left of the commit that a dead owner of the lock began, if it did.
    pub(crate) fn finish_commit(&mut self) -> Result<()> {
        let commit = &self.ring.header.producer.commit;
        let at = commit.at.load(Ordering::Acquire);
        if at & UNDER_WAY != 0 && commit.word.load(Ordering::Relaxed) == self.end.word {
            return self.ring.make_ready(at & CURSOR);
        }
        commit.at.store(0, Ordering::Relaxed);
        Ok(())
    }
}

impl Ring {
    /// Steps 5 and 6.
    fn make_ready(&self, at: u64) -> Result<()> {
        // If it is READY already, it may even have been taken. Its place is not another's as
        // yet: whoever reserves there needs the lock.
        if self.reserved_by(at).is_some() {
            self.reserved(at, self.capacity()?)
                .ok_or_else(|| Error::corrupt("a reservation is not where it was made"))?;
            // SYNC: publish(READY): the payload.
            self.word_at(at)?
                .store(State::Ready as u64, Ordering::Release);
            crash_point!();
        }
        let commit = &self.header.producer.commit;
        commit.at.store(0, Ordering::Relaxed);
        crash_point!();
        Ok(())
    }

    /// The length of the reservation at `at`, and of its record, if there is one in the ring.
    fn reserved(&self, at: u64, capacity: u64) -> Option<(u64, u64)> {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        let tail = self.header.tail.load(Ordering::Acquire) & CURSOR;
        let offset = at & CURSOR & (capacity - 1);
        let [word, len] = self.header_at(offset);
        let len = len.load(Ordering::Acquire);
        let left = tail.wrapping_sub(at).min(capacity - offset);
        let inside = at & CURSOR == at && at.wrapping_sub(head) < tail.wrapping_sub(head);
        let busy = record::reserved_by(word.load(Ordering::Acquire)).is_some();
        let size = record::size(len).filter(|&size| inside && busy && size <= left)?;
        Some((len, size))
    }

    /// Whether whoever waits for the reservation at `at` may go on.
    pub(crate) fn is_resolved(&self, at: u64) -> bool {
        let head = self.header.head.load(Ordering::Acquire) & CURSOR;
        head != at || self.reserved_by(at).is_none()
    }

    /// Whose reservation is at `at`, if there is one.
    pub(crate) fn reserved_by(&self, at: u64) -> Option<Owner> {
        let word = self.word_at(at).ok()?.load(Ordering::Acquire);
        record::reserved_by(word)
    }

    /// Makes `owner`'s reservation at `at` room that nobody waits for. False if it is none.
    ///
    /// The caller is the owner, or knows that it is dead and holds the producers' lock.
    pub(crate) fn discard(&self, at: u64, owner: Owner) -> Result<bool> {
        let (busy, done) = (record::busy(owner), State::Done as u64);
        let word = self.word_at(at)?;
        let changed = word.compare_exchange(busy, done, Ordering::SeqCst, Ordering::Relaxed);
        crash_point!();
        Ok(changed.is_ok())
    }

    /// The bytes of the reservation at `at`.
    pub(crate) fn span(&self, at: u64) -> Result<std::ptr::NonNull<u8>> {
        let offset = (at & (self.capacity()? - 1)) + HEADER;
        // SAFETY: R1: a record's header is followed by its payload, inside the ring.
        Ok(unsafe { self.bytes.add(offset as usize) })
    }
}
