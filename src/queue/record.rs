//! The format of one record in the ring.
//!
//! ```text
//! offset  size  field      written by            meaning
//!      0     8  word       see the table below   state:8  attempts:8  owner: slot:16  sitting:32
//!      8     8  len        the producer          bytes of payload
//!     16   len  payload    the producer
//!          0-15 padding                          up to a multiple of 16
//! ```
//!
//! | state  | meaning                                  | who moves it on                       |
//! |--------|------------------------------------------|---------------------------------------|
//! | BUSY   | reserved, being written outside the lock | its owner; anybody once that is dead  |
//! | READY  | committed                                | a consumer                            |
//! | LEASED | being worked on in place                 | its owner; READY again if that is dead|
//! | DONE   | finished, discarded, or padding          | the head moves over it                |
//!
//! A plain put writes READY records, and the padding before the end of the ring is DONE.
//! Reservations are BUSY, with their owner, until they are committed or discarded. LEASED and
//! attempts are the format's room for leases.

use crate::layout::Owner;

/// Every record starts at a multiple of this; so does every payload.
pub(crate) const ALIGN: u64 = 16;
/// Bytes before the payload.
pub(crate) const HEADER: u64 = 16;

/// The state of a record, the low byte of its word.
///
/// No state is zero: fresh pages must not look like records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Busy = 0x42,
    Ready = 0x52,
    Done = 0x44,
}

impl State {
    #[inline]
    pub(crate) fn of(word: u64) -> Option<Self> {
        [State::Ready, State::Done, State::Busy]
            .into_iter()
            .find(|state| *state as u64 == word & 0xff)
    }
}

/// The word of a reservation.
pub(crate) fn busy(owner: Owner) -> u64 {
    State::Busy as u64 | u64::from(owner.slot) << 16 | u64::from(owner.sitting) << 32
}

/// Whose reservation it is, if the word is that of one.
pub(crate) fn reserved_by(word: u64) -> Option<Owner> {
    (State::of(word) == Some(State::Busy)).then_some(Owner {
        slot: (word >> 16) as u16,
        sitting: (word >> 32) as u32,
    })
}

/// Bytes a record with this payload takes in the ring; `None` if no ring is that large.
#[inline]
pub(crate) fn size(payload: u64) -> Option<u64> {
    crate::layout::align_up(payload.checked_add(HEADER)?, ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_says_whose_it_is() {
        let owner = Owner {
            slot: 1023,
            sitting: 0xfedc_ba98,
        };
        assert_eq!(reserved_by(busy(owner)), Some(owner));
        assert_eq!(reserved_by(State::Ready as u64), None);
    }

    #[test]
    fn a_record_takes_its_header_and_whole_units() {
        assert_eq!(size(0), Some(16));
        assert_eq!(size(1), Some(32));
        assert_eq!(size(16), Some(32));
        assert_eq!(size(64), Some(80));
        assert_eq!(size(u64::MAX), None);
    }
}
