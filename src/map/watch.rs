//! Waiting for a key, or anything, to change.
//!
//! Every change gives its shard a new version under the shard's lock, and then wakes those who
//! sleep on the shard's event, or on the map's. That costs a look at two words where nobody sleeps.
//! Who changes something and is killed before it tells is not missed: sleeps are short.

use super::Map;
use crate::Timeout;
use crate::error::Result;
use crate::sync::wait_for;
use crate::sys::clock::Deadline;

impl Map {
    /// A number that grows with every change of the map, to [wait](Self::wait_change) for the
    /// next one.
    pub fn version(&self) -> u64 {
        self.core.version()
    }

    /// Waits until the map's [version](Self::version) is not `seen`, and returns what it is.
    ///
    /// What was changed, it does not tell. Keys whose time is over count once they are removed.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Poisoned`, `Corrupt`.
    pub fn wait_change(&self, seen: u64, timeout: Timeout) -> Result<u64> {
        let look = |_| {
            self.core.check_poison()?;
            let now = self.core.version();
            Ok((now != seen).then_some(now))
        };
        wait_for(self.core.changed(), Deadline::after(timeout), look)
    }

    /// Waits until the [version of `key`](Self::version_of) is not `seen`, and returns what it
    /// is: until it is set, removed, or expires. 0 stands for a key that is not there.
    ///
    /// ```
    /// # use shoal::{Map, Timeout};
    /// # let map = Map::anonymous()?;
    /// map.set(b"config", b"v2")?; // by another process, usually
    /// let version = map.wait_key(b"config", 0, Timeout::Infinite)?;
    /// assert_eq!(version, map.version_of(b"config")?);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// Changes that follow each other quickly may be seen as one.
    ///
    /// # Errors
    /// As for [`wait_change`](Self::wait_change).
    pub fn wait_key(&self, key: &[u8], seen: u64, timeout: Timeout) -> Result<u64> {
        let shard = self.core.hasher.hash(key).shard;
        let changed = self.core.changed_in(shard as usize);
        wait_for(changed, Deadline::after(timeout), |_| {
            let now = self.version_of(key)?;
            Ok((now != seen).then_some(now))
        })
    }
}
