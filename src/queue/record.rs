//! The format of one record in the ring.
//!
//! ```text
//! offset  size  field      written by            meaning
//!      0     8  word       the producer          state:8  -:24  block:32
//!      8     8  len        the producer          bytes of payload
//!     16   len  payload    the producer
//!          0-15 padding                          up to a multiple of 16
//! ```
//!
//! | state   | meaning                                                   |
//! |---------|-----------------------------------------------------------|
//! | READY   | a message                                                 |
//! | STORED  | a message in the message store, at `block`; no payload here |
//! | DONE    | padding before the end of the ring                        |

/// Every record starts at a multiple of this; so does every payload.
pub(crate) const ALIGN: u64 = 16;
/// Bytes before the payload.
pub(crate) const HEADER: u64 = 16;

/// The state of a record, the low byte of its word.
///
/// No state is zero: fresh pages must not look like records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordState {
    Stored = 0x53,
    Ready = 0x52,
    Done = 0x44,
}

impl RecordState {
    #[inline]
    pub(crate) fn of(word: u64) -> Option<Self> {
        const READY: u64 = RecordState::Ready as u64;
        const STORED: u64 = RecordState::Stored as u64;
        const DONE: u64 = RecordState::Done as u64;
        match word & 0xff {
            READY => Some(RecordState::Ready),
            STORED => Some(RecordState::Stored),
            DONE => Some(RecordState::Done),
            _ => None,
        }
    }
}

/// The word of a record whose message is in the message store.
pub(crate) fn stored(block: u32) -> u64 {
    RecordState::Stored as u64 | u64::from(block) << 32
}

/// Where in the message store that message is.
#[inline]
pub(crate) fn block(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Bytes a record with this payload takes in the ring; `None` if no ring is that large.
#[inline]
pub(crate) fn size(payload: u64) -> Option<u64> {
    crate::layout::align_up(payload.checked_add(HEADER)?, ALIGN)
}

/// The same, if the record fits in `room`, a number of bytes within a ring; `None` otherwise.
#[inline]
pub(crate) fn size_within(payload: u64, room: u64) -> Option<u64> {
    debug_assert!(room <= u64::MAX / 2);
    if payload > room {
        return None;
    }
    // Does not wrap: `payload <= room`, and no ring is that large.
    let size = payload.wrapping_add(HEADER + ALIGN - 1) & !(ALIGN - 1);
    (size <= room).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_where_in_the_store_its_message_is() {
        let word = stored(0xfedc_ba98);
        assert_eq!(RecordState::of(word), Some(RecordState::Stored));
        assert_eq!(block(word), 0xfedc_ba98);
    }

    #[test]
    fn a_record_takes_its_header_and_whole_units() {
        assert_eq!(size(0), Some(16));
        assert_eq!(size(1), Some(32));
        assert_eq!(size(16), Some(32));
        assert_eq!(size(64), Some(80));
        assert_eq!(size(u64::MAX), None);
    }

    #[test]
    fn a_record_is_no_longer_than_the_room_it_is_in() {
        assert_eq!(size_within(0, 16), Some(16));
        assert_eq!(size_within(1, 16), None);
        assert_eq!(size_within(63, 80), size(63));
        assert_eq!(size_within(64, 80), Some(80));
        assert_eq!(size_within(65, 80), None);
        assert_eq!(size_within(u64::MAX, 1 << 40), None);
    }
}
