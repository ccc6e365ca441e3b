//! Requests and settlements, which the relay of a queue takes.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::error::Result;
use crate::relay::{Frame, FrameKind, RequestId};

use super::attached::Attached;
use super::taken::Taken;

/// A message that a program put into a relayed queue: a `[u8]` in shared memory, for the relay to forward.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork`, it remains the parent's.
pub struct RelayRequest(pub(super) Taken<Attached>);

impl RelayRequest {
    /// Its id, the same each time that it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// How often it was taken, this time included; 255 for more.
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// Ends the request: it was forwarded.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.0.done()
    }

    /// Gives it back, to be taken again after `delay`.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl Deref for RelayRequest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.checked().second
    }
}

impl fmt::Debug for RelayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayRequest")
            .field("id", &self.id())
            .field("len", &self.len())
            .finish()
    }
}

/// What happened to a message that the relay delivered.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork`, it remains the parent's.
pub struct Settlement(pub(super) Taken<Attached>);

/// What a [`Settlement`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettlementKind<'a> {
    /// A worker acked it, or took it by a `get`. It is not in the queue any more.
    Done,
    /// It is to be delivered again after the delay: a worker gave it back, died, or was too slow. It is not
    /// in the queue any more.
    Returned {
        /// When.
        delay: Duration,
    },
    /// It was delivered as often as the queue's [`max_attempts`](crate::Options::max_attempts) allows. It is not in
    /// the queue any more.
    Exhausted {
        /// The message.
        payload: &'a [u8],
    },
    /// A worker is still working on it, and asks for more time from now on. It stays in the queue, and
    /// another settlement follows.
    Extended {
        /// The time.
        visible: Duration,
    },
}

pub(super) fn settlement_kind<'a>(frame: &Frame<'a>) -> Option<SettlementKind<'a>> {
    let time = Duration::from_nanos(frame.number.unwrap_or(0));
    match frame.kind {
        FrameKind::Ack => Some(SettlementKind::Done),
        FrameKind::Nack => Some(SettlementKind::Returned { delay: time }),
        FrameKind::Exhausted => Some(SettlementKind::Exhausted {
            payload: frame.second,
        }),
        FrameKind::Extend => Some(SettlementKind::Extended { visible: time }),
        _ => None,
    }
}

impl Settlement {
    /// Its id, the same each time that it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// The token with which the message was delivered.
    pub fn token(&self) -> &[u8] {
        self.0.checked().first
    }

    /// How often the message was delivered, by all relays and here; 255 for more.
    pub fn attempts(&self) -> u32 {
        self.0.checked().attempts.into()
    }

    /// What became of it.
    pub fn kind(&self) -> SettlementKind<'_> {
        // A settlement that was overwritten since it was taken reads as an `Ack` without a token.
        settlement_kind(&self.0.checked()).unwrap_or(SettlementKind::Done)
    }

    /// Ends the settlement: it was passed on.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.0.done()
    }

    /// Gives it back, to be taken again after `delay`.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settlement")
            .field("token", &self.token())
            .field("kind", &self.kind())
            .finish()
    }
}
