//! Waiting for a key, or anything, to change.
//!
//! Every change gives its shard a new version under the shard's lock, and then wakes those who
//! sleep on the shard's event, or on the map's. That costs a look at two words where nobody sleeps.
//! Who changes something and is killed before it tells is not missed: sleeps are short.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Map;
use crate::Timeout;
use crate::copy::{Room, room};
use crate::error::Result;
use crate::sync::{EndWaits, wait_for};
use crate::sys::clock::Deadline;

/// How to find out whether what was read may have changed; see [`Map::get_watched`].
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The version of a shard. Every change there gives it a number that it never had, before the
    /// change can be seen.
    pub(crate) word: &'a AtomicU64,
    /// What it was before the value was read.
    pub(crate) seen: u64,
}

impl Watched<'_> {
    /// Whether the value is still what was read: nothing near the key has changed. One load.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.word.load(Ordering::SeqCst) == self.seen
    }
}

impl Map {
    /// [`get`](Self::get), and how to know for how long what was copied is good: for keys that are
    /// read much more often than anything near them changes.
    ///
    /// Other keys of the same sixty-fourth of the map count as near. Nothing to watch where any of
    /// them expires: what is over is not a change.
    ///
    /// ```
    /// # use shoal::Map;
    /// # let map = Map::anonymous()?;
    /// map.set(b"limit", b"7")?;
    /// let mut limit = [0];
    /// let (_, watched) = map.get_watched(b"limit", &mut limit)?.unwrap();
    /// let watched = watched.unwrap();
    /// assert!(watched.is_current() && limit == *b"7");
    /// map.set(b"limit", b"8")?; // by another process, usually
    /// assert!(!watched.is_current());
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_watched(
        &self,
        key: &[u8],
        buf: &mut [u8],
    ) -> Result<Option<(usize, Option<Watched<'_>>)>> {
        self.get_watched_into(key, room(buf))
    }

    /// The same into memory that need not be initialised.
    pub(crate) fn get_watched_into(
        &self,
        key: &[u8],
        buf: &mut Room,
    ) -> Result<Option<(usize, Option<Watched<'_>>)>> {
        let (word, expiring) = self.core.watched(self.core.hasher.hash(key));
        // SYNC: while a change is under way, from before its number is there until after all of it
        // is, `get` waits (see `seq`). So a value read after this number is not older than it.
        let seen = word.load(Ordering::SeqCst);
        let Some(len) = self.get_into(key, buf)? else {
            return Ok(None);
        };
        let is_expiring = expiring.load(Ordering::SeqCst) != 0;
        Ok(Some((
            len,
            (!is_expiring).then_some(Watched { word, seen }),
        )))
    }

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
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached`; `Poisoned`, `Corrupt`.
    pub fn wait_change(&self, seen: u64, timeout: Timeout) -> Result<u64> {
        let look = |_| {
            self.core.check_poison()?;
            let now = self.core.version();
            Ok((now != seen).then_some(now))
        };
        wait_for(
            self.core.changed(),
            &self.core.waiting,
            Deadline::after(timeout),
            look,
        )
    }

    /// Ends the waits through this handle for a change or a key's lock, as
    /// [`Queue::end_waits`](crate::Queue::end_waits).
    pub fn end_waits(&self) {
        self.core.end_waits();
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
        wait_for(
            changed,
            &self.core.waiting,
            Deadline::after(timeout),
            |_| {
                let now = self.version_of(key)?;
                Ok((now != seen).then_some(now))
            },
        )
    }
}

impl EndWaits for Map {
    fn end_waits(&self) {
        Map::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        self.core.waiting.waits.is_busy()
    }
}
