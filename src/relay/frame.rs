//! The format of a request: one message of a companion queue.
//!
//! ```text
//! offset  size  field     meaning
//!      0     1  magic     0xa7
//!      1     1  kind      see `FrameKind`
//!      2     1  attempts  how often the message was delivered
//!      3     1  flags     of a map's requests: bit 0, `number` is a time to live
//!      4     4  first     bytes of the first part: a token, or a key
//!      8     8  number    nanoseconds: a delay, a deadline, a time to live
//!     16     8  version   of a compare-and-swap: the version that the key must have
//!     24    16  ticket    key of the answer that the caller waits for; 0 if it does not
//!     40    24  unused
//!     64 first  the first part
//!         rest  the second part: a payload, or a value
//! ```
//! A payload that is written in place is as aligned as in a queue without a relay.
//!
//! The bytes come from another process: [`Frame::read`] checks all that the rest relies on.

use crate::error::{Error, Result};

/// Bytes before the first part.
pub(crate) const HEAD: usize = 64;
const MAGIC: u8 = 0xa7;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    Put = b'P',
    Ack = b'A',
    Nack = b'N',
    Extend = b'E',
    Exhausted = b'X',
    Set = b'S',
    Remove = b'R',
    SwapSet = b's',
    SwapRemove = b'r',
    SwapKeep = b'k',
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Put,
            Self::Ack,
            Self::Nack,
            Self::Extend,
            Self::Exhausted,
            Self::Set,
            Self::Remove,
            Self::SwapSet,
            Self::SwapRemove,
            Self::SwapKeep,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A decoded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) attempts: u8,
    /// A delay, a deadline or a time to live, in nanoseconds. `None` only where its absence has a meaning.
    pub(crate) number: Option<u64>,
    pub(crate) version: u64,
    pub(crate) ticket: [u64; 2],
    pub(crate) first: &'a [u8],
    pub(crate) second: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn new(kind: FrameKind, first: &'a [u8], second: &'a [u8]) -> Self {
        Self {
            kind,
            attempts: 0,
            number: None,
            version: 0,
            ticket: [0; 2],
            first,
            second,
        }
    }

    /// Bytes of the message.
    pub(crate) fn len(&self) -> usize {
        HEAD + self.first.len() + self.second.len()
    }

    /// The header.
    fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&[
            MAGIC,
            self.kind as u8,
            self.attempts,
            self.number.is_some().into(),
        ]);
        // The length fits: longer keys and tokens were refused before.
        head[4..8].copy_from_slice(&(self.first.len() as u32).to_le_bytes());
        let words = [
            self.number.unwrap_or(0),
            self.version,
            self.ticket[0],
            self.ticket[1],
        ];
        for (to, word) in head[8..40].chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        head
    }

    /// The message.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.head());
        bytes.extend_from_slice(self.first);
        bytes.extend_from_slice(self.second);
        bytes
    }

    /// Writes the message to the front of `to`, which has room for it.
    pub(crate) fn write_to(&self, to: &mut [u8]) {
        let (head, rest) = to.split_at_mut(HEAD);
        let (first, rest) = rest.split_at_mut(self.first.len());
        head.copy_from_slice(&self.head());
        first.copy_from_slice(self.first);
        rest[..self.second.len()].copy_from_slice(self.second);
    }

    /// Decodes `bytes`.
    ///
    /// # Errors
    /// `Corrupt` if this library did not write these bytes.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let no_request = || Error::corrupt("a message in a companion queue is no request");
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(no_request)?;
        let word = |at: usize| {
            let word = head[at..at + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(word)
        };
        let first = word(0) >> 32;
        let parts = usize::try_from(first)
            .ok()
            .and_then(|first| rest.split_at_checked(first));
        match (head[0], FrameKind::of(head[1]), parts) {
            (MAGIC, Some(kind), Some((first, second))) => Ok(Self {
                kind,
                attempts: head[2],
                number: (head[3] & 1 != 0).then(|| word(8)),
                version: word(16),
                ticket: [word(24), word(32)],
                first,
                second,
            }),
            _ => Err(no_request()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_decodes_to_what_was_encoded() {
        let frame = Frame {
            attempts: 3,
            number: Some(u64::MAX),
            version: 17,
            ticket: [1, u64::MAX],
            ..Frame::new(FrameKind::SwapSet, b"key", b"value")
        };
        assert_eq!(Frame::read(&frame.to_vec()), Ok(frame));
        let bare = Frame::new(FrameKind::Put, b"", b"");
        assert_eq!(bare.len(), HEAD);
        assert_eq!(Frame::read(&bare.to_vec()), Ok(bare));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = Frame::new(FrameKind::Ack, b"token", b"").to_vec();
        for len in 0..good.len() {
            assert!(Frame::read(&good[..len]).is_err(), "{len} bytes");
        }
        for at in [0, 1, 4, 5, 6, 7] {
            let mut bad = good.clone();
            bad[at] = 0xff;
            assert!(Frame::read(&bad).is_err(), "byte {at}");
        }
    }
}
