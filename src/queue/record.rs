//! The format of one record in the ring.
//!
//! ```text
//! offset  size  field      written by            meaning
//!      0     8  word       see the table below   state:8  attempts:8  owner slot:16  -:32
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
//! A plain put writes READY records and the padding before the end of the ring is DONE.
//! BUSY and LEASED, with owner and attempts, are the states of reservations and leases.

/// Every record starts at a multiple of this; so does every payload.
pub(crate) const ALIGN: u64 = 16;
/// Bytes before the payload.
pub(crate) const HEADER: u64 = 16;

/// The state of a record, the low byte of its word.
///
/// No state is zero: fresh pages must not look like records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready = 0x52,
    Done = 0x44,
}

impl State {
    pub(crate) fn of(word: u64) -> Option<Self> {
        [State::Ready, State::Done]
            .into_iter()
            .find(|state| *state as u64 == word & 0xff)
    }
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
    fn a_record_takes_its_header_and_whole_units() {
        assert_eq!(size(0), Some(16));
        assert_eq!(size(1), Some(32));
        assert_eq!(size(16), Some(32));
        assert_eq!(size(64), Some(80));
        assert_eq!(size(u64::MAX), None);
    }
}
