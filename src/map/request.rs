//! What a relay of a map takes: requests.

use std::fmt;
use std::time::Duration;

use super::attached::{Attached, MapChange, change_of};
use super::relayed::Answer;
use crate::error::Result;
use crate::queue::Taken;
use crate::relay::RequestId;

/// A change of a relayed map that a program wants.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork` it remains the parent's.
pub struct MapRequest(pub(super) Taken<Attached>);

impl MapRequest {
    /// What it is called, the same whenever it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// How often it was taken, this time included; 255 for more. Above 1 it may have been done before,
    /// although it was not reported as done.
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0.checked().first
    }

    /// What it is to have.
    pub fn change(&self) -> MapChange<'_> {
        // One that was overwritten since it was taken has an empty key, and no effect.
        change_of(&self.0.checked()).unwrap_or(MapChange::Remove)
    }

    /// Whether the program waits for an answer.
    pub fn is_asking(&self) -> bool {
        self.0.checked().ticket != [0; 2]
    }

    /// The change is made, and of a swap: the key had the version. What the key has now is to be
    /// [delivered](crate::MapRelay::deliver) before this, so that the program reads what it wrote.
    ///
    /// # Errors
    /// `NoSpace` if there is no room for the answer: the request is given back. `Invalid` in a forked child;
    /// `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.end(&Answer::Done)
    }

    /// Of a swap: the key has another version. What it has is to be [delivered](crate::MapRelay::deliver) or
    /// [removed](crate::MapRelay::remove) before this: the program looks at it and tries again.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn conflict(self) -> Result<()> {
        self.end(&Answer::Conflict)
    }

    /// The change cannot be made, and why, for the program's error, which is `Unsupported`. A program that does
    /// not wait for an answer is not told.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn refuse(self, why: &str) -> Result<()> {
        self.end(&Answer::Refused(why.to_owned()))
    }

    /// Nobody can tell whether the change was made: the program's error is `RelayBehind`, as if no answer had
    /// come in time. A program that does not wait for an answer is not told.
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

    /// Gives it back, to be taken again after `delay`: after requests that were made later, of the same key
    /// too.
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
