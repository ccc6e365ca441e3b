//! Waiting for a change of one key or of the whole map.
//!
//! Every change gives its shard a new version under the shard's lock, and then wakes the waiters on the
//! shard's event and on the map's. Without waiters, that costs two loads. A change whose process is killed
//! before the wake-up is noticed too, since sleeps have short slices.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ops::Map;
use crate::copy::{Room, room};
use crate::error::Result;
use crate::sync::{EndWaits, Waits, wait_for};
use crate::sys::clock::{Deadline, IntoTimeout};

/// A check of whether a value that was read may have changed; see [`Map::get_watched`].
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The version of a shard. Every change stores a number that it never had, before the change is visible.
    pub(crate) word: &'a AtomicU64,
    /// The version before the value was read.
    pub(crate) seen: u64,
}

impl Watched<'_> {
    /// Whether the value is still current: no key in its part of the map has changed. One load.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.word.load(Ordering::SeqCst) == self.seen
    }
}

impl Map {
    /// [`get`](Self::get), with a cheap check whether the copied value is still current. For keys that are
    /// read much more often than the keys in the same part of the map change.
    ///
    /// The map has 64 parts, or 4 if it is compact. If a key in the same part can expire, there is nothing to
    /// watch, because an expiry is not a change.
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
        // SYNC: `get` waits while a change is under way, from before the new version is stored until
        // the change is complete (see `seq`). So a value read after this load is not older than it.
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

    /// Waits until the map's [version](Self::version) differs from `seen`, and returns it.
    ///
    /// The version does not tell what changed. An expiry is a change only when the key is removed.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached` when the [waits through this
    /// handle](Self::end_waits) were ended; `Poisoned`, `Corrupt`.
    pub fn wait_change(&self, seen: u64, timeout: impl IntoTimeout) -> Result<u64> {
        let check = |_| {
            self.core.check_poison()?;
            let now = self.core.version();
            Ok((now != seen).then_some(now))
        };
        wait_for(
            self.core.changed(),
            &self.core.waiting,
            Deadline::after(timeout),
            check,
        )
    }

    /// Waits until the [version of `key`](Self::version_of) differs from `seen`, and returns it: until the
    /// key is set, removed, or expires. 0 stands for a key that is not there.
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
    /// Several changes in quick succession may be seen as one.
    ///
    /// # Errors
    /// As for [`wait_change`](Self::wait_change).
    pub fn wait_key(&self, key: &[u8], seen: u64, timeout: impl IntoTimeout) -> Result<u64> {
        let shard = self.core.hasher.hash(key).shard;
        let changed = self.core.changed_in(shard as usize);
        let deadline = Deadline::after(timeout);
        wait_for(changed, &self.core.waiting, deadline, |_| {
            let now = self.read_until(key, deadline, |value| value.version())?;
            let now = now.unwrap_or(0);
            Ok((now != seen).then_some(now))
        })
    }
}

impl EndWaits for Map {
    fn end_waits(&self) {
        self.core.end_waits();
        self.requests.all().for_each(EndWaits::end_waits);
        self.answers.all().for_each(EndWaits::end_waits);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        self.core.each_waits(see);
        self.requests.all().for_each(|it| it.each_waits(see));
        self.answers.all().for_each(|it| it.each_waits(see));
    }
}
