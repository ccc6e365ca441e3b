//! Keys that expire.
//!
//! An entry may say when its time is over. From then on nobody sees it; its memory is freed by the
//! changes that follow in its shard, each of which looks at a few slots, or by [`Map::purge`].
//! Maps without such entries pay one look at a count.

use std::time::Duration;

use super::Map;
use super::entry::{Entry, NEVER, Pair};
use super::hash::SHARDS;
use super::store::Lookup;
use crate::error::Result;
use crate::sys::clock::now_ns;

/// The clock's time after `life`.
fn after(life: Duration) -> u64 {
    let life = u64::try_from(life.as_nanos()).unwrap_or(NEVER);
    // NEVER is no time; a moment earlier is as good.
    now_ns().saturating_add(life).min(NEVER - 1)
}

impl Lookup<'_> {
    /// When the entry expires, on the clock; [`NEVER`] if it does not, or there is none.
    pub(super) fn expires(&self) -> u64 {
        self.entry().map_or(NEVER, |entry| entry.expires())
    }
}

impl Map {
    /// Gives `key` the value `value` for as long as `life`; then it is as if it had been
    /// removed. The time is the machine's, and goes on while it sleeps or nobody looks, but
    /// not while the machine itself does.
    ///
    /// [`set`](Self::set) and what compares and swaps make a key stay for good again;
    /// [`add`](Self::add) leaves its time as it is.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_for(&self, key: &[u8], value: &[u8], life: Duration) -> Result<()> {
        self.put(&Pair::new(key, value).expiring_at(after(life)))
    }

    /// Lets `key` live for `life` from now on, or for good. True if it is there.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn expire(&self, key: &[u8], life: Option<Duration>) -> Result<bool> {
        let expires = life.map_or(NEVER, after);
        self.core.change(key, |shard, found| {
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
        })
    }

    /// For how long `key` will still be there: `Some(None)` for good, `None` if it is not there.
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

    /// Removes every key whose time is over, and returns how many there were.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn purge(&self) -> Result<usize> {
        let mut purged = 0;
        for index in 0..SHARDS {
            let mut next = Some(0);
            while let Some(from) = next {
                let shard = self.core.lock(index)?;
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

/// Slots that are looked at under one lock.
const PURGE: usize = 1024;
