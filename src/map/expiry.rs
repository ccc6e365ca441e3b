//! Keys that expire.
//!
//! An entry may say when it expires. From then on no call returns it. Its memory is freed by later
//! changes in its shard, each of which checks a few slots, or by [`Map::purge`]. A map without such
//! entries only loads a count.

use std::time::Duration;

use super::entry::{Entry, NEVER, Pair};
use super::ops::Map;
use super::store::Lookup;
use crate::error::Result;
use crate::sys::clock::now_ns;

/// The clock's time after `life`.
fn after(life: Duration) -> u64 {
    let life = u64::try_from(life.as_nanos()).unwrap_or(NEVER);
    // `NEVER` is not a time.
    now_ns().saturating_add(life).min(NEVER - 1)
}

impl Lookup<'_> {
    /// When the entry expires, on the clock; [`NEVER`] if it does not, or there is none.
    pub(super) fn expires(&self) -> u64 {
        self.entry().map_or(NEVER, |entry| entry.expires())
    }
}

impl Map {
    /// Sets the value of `key` for the time `life`; after that, the key is as if removed. The time is
    /// measured by the machine's monotonic clock, which stops while the machine is suspended.
    ///
    /// [`set`](Self::set) and the compare-and-swap calls remove the expiry;
    /// [`add`](Self::add) does not change it.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_for(&self, key: &[u8], value: &[u8], life: Duration) -> Result<()> {
        self.put(&Pair::new(key, value).expiring_at(after(life)))
    }

    /// Makes `key` expire after `life` from now on, or never. True if it is in the map.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn expire(&self, key: &[u8], life: Option<Duration>) -> Result<bool> {
        let expires = life.map_or(NEVER, after);
        let changed = self.core.change(key, |shard, found| {
            let Some(entry) = found.entry() else {
                return Ok(false);
            };
            if found.expires() == expires || shard.store.set_expiry(found, expires) {
                return Ok(true);
            }
            let value = entry.value().to_vec();
            shard
                .store
                .write(found, &Pair::new(key, &value).expiring_at(expires))?;
            Ok(true)
        })?;
        match changed {
            Some(changed) => Ok(changed),
            None => self.request_expire(key, life),
        }
    }

    /// How long `key` has until it expires: `Some(None)` if it does not expire, `None` if it is not
    /// in the map.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn time_left(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        self.core.look_up(key, |_, found| {
            let left = |entry: Entry<'_>| match entry.expires() {
                NEVER => None,
                at => Some(Duration::from_nanos(at.saturating_sub(now_ns()))),
            };
            Ok(found.entry().map(left))
        })
    }

    /// Removes every key that has expired, and returns how many there were. Frees the memory of values that dead
    /// processes held, too.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn purge(&self) -> Result<usize> {
        let mut purged = 0;
        for index in 0..self.core.shard_count() {
            let mut next = Some(0);
            while let Some(from) = next {
                let shard = self.core.lock(index)?;
                self.core.release_dead_holds_in(&shard)?;
                if !shard.store.has_expiring() {
                    break;
                }
                let before = shard.store.count();
                next = shard.store.sweep(from, PURGE)?;
                purged += before.saturating_sub(shard.store.count()) as usize;
                drop(shard);
                self.core.notify_changed(index);
            }
        }
        Ok(purged)
    }
}

/// Slots that are checked under one lock.
const PURGE: usize = 1024;
