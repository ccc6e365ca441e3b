//! Requests, which the relay of a map takes.

use std::fmt;
use std::time::Duration;

use super::attached::{Attached, MapChange, change_of};
use super::relayed::Answer;
use crate::error::Result;
use crate::queue::Taken;
use crate::relay::RequestId;

/// A program's request to change a relayed map.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork`, it remains the parent's.
pub struct MapRequest(pub(super) Taken<Attached>);

impl MapRequest {
    /// Its id, the same each time that it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// How often it was taken, this time included; 255 for more. Above 1, it may have been done before,
    /// although it was not reported as done.
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0.checked().first
    }

    /// The change.
    pub fn change(&self) -> MapChange<'_> {
        // A request that was overwritten since it was taken has an empty key, and no effect.
        change_of(&self.0.checked()).unwrap_or(MapChange::Remove)
    }

    /// Whether the program waits for an answer.
    pub fn is_asking(&self) -> bool {
        self.0.checked().ticket != [0; 2]
    }

    /// The change is made; for a swap, the key had the version. [Deliver](crate::MapRelay::deliver) the new
    /// value before this call, so that the program reads what it wrote.
    ///
    /// # Errors
    /// `NoSpace` if there is no room for the answer: the request is given back. `Invalid` in a forked child;
    /// `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.end(&Answer::Done)
    }

    /// For a swap: the key has another version. [Deliver](crate::MapRelay::deliver) its value or
    /// [remove](crate::MapRelay::remove) it before this call: the program reads it and tries again.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn conflict(self) -> Result<()> {
        self.end(&Answer::Conflict)
    }

    /// Refuses the change: the program gets `Unsupported` with the reason `why`. A program that does not wait
    /// for an answer is not told.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn refuse(self, why: &str) -> Result<()> {
        self.end(&Answer::Refused(why.to_owned()))
    }

    /// It is not known whether the change was made: the program gets `RelayBehind`, as if no answer had come
    /// in time. A program that does not wait for an answer is not told.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn unknown(self) -> Result<()> {
        self.end(&Answer::Unknown)
    }

    fn end(self, answer: &Answer) -> Result<()> {
        self.0.relay().role.check()?;
        self.0.relay().answer(self.0.checked().ticket, answer)?;
        self.0.done()
    }

    /// Gives the request back, to be taken again after `delay`. Later requests, even for the same key, may
    /// then come first.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl fmt::Debug for MapRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRequest")
            .field("id", &self.id())
            .field("key", &self.key())
            .finish()
    }
}
