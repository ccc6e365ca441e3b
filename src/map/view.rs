//! Values read in place, and large ones copied while the shard is unlocked.
//!
//! Key and value of an entry never change (E3), so reading in place only requires that the entry is not freed
//! meanwhile. A hold ensures that (see `holds`): a process that replaces or removes a held value does not free
//! it; the end of its last hold does.

use std::ops::{ControlFlow, Deref};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::core::LockedShard;
use super::entry::{Entry, Pair, Value};
use super::hash::Hash;
use super::holds::{HOLDS, Hold, HoldKind};
use super::ops::{LARGE, Map};
use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sys::clock::{Deadline, now_ns};

/// The numbers of pins by one hold begin again after this one; 2^48 views take years.
const TURNS: u64 = (1 << 48) - 1;

/// A hold of an entry that is released explicitly, for the C interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned {
    pub(crate) shard: usize,
    pub(crate) index: usize,
    /// Which of the handle's pins by this hold it is: an old copy does not end a later view.
    pub(crate) turn: u64,
    pub(crate) offset: u64,
    pub(crate) owner: Owner,
    pub(crate) at: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) version: u64,
}

/// A value that is read in place; see [`Map::view`].
#[derive(Debug)]
pub struct View<'a> {
    map: &'a Map,
    pinned: Pinned,
}

// SAFETY: the value is only read, and any thread may release it.
unsafe impl Send for View<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for View<'_> {}

impl View<'_> {
    /// The version of the value; see [`Map::get_versioned`].
    pub fn version(&self) -> u64 {
        self.pinned.version
    }

    pub(crate) fn into_pinned(self) -> Pinned {
        let pinned = self.pinned;
        std::mem::forget(self);
        pinned
    }
}

impl Deref for View<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the value lies in the mapping, which the borrowed map keeps; its hold prevents that it is
        // freed, and entries do not change (E3).
        unsafe { NonNull::slice_from_raw_parts(self.pinned.at, self.pinned.len).as_ref() }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // Fails in a forked child, whose parent has the hold, and if the map is poisoned.
        let _ = self.map.release(&self.pinned);
    }
}

impl Map {
    /// The value of `key` in place, without a copy; `None` if the map has no such key.
    ///
    /// The value does not change while the view exists, whatever other processes do with the key. Its memory
    /// is freed when the view is dropped, or after this process's death. A forked child must not read views
    /// of its parent.
    ///
    /// ```
    /// # let map = shoal::Map::anonymous()?;
    /// map.set(b"model", &vec![7; 1 << 20])?;
    /// let weights = map.view(b"model")?.unwrap();
    /// map.set(b"model", b"")?;
    /// assert_eq!(weights.len(), 1 << 20);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Exhausted` if the key's part of the map has twelve views and [locks](Self::lock_key) already;
    /// `Poisoned`, `Corrupt`.
    pub fn view(&self, key: &[u8]) -> Result<Option<View<'_>>> {
        let pinned = self.core.look_up(key, |shard, found| match found.place() {
            None => Ok(None),
            Some(place) => match self.pin(shard, place)? {
                None => Err(Error::Exhausted {
                    what: "views and locks in one part of the map",
                    limit: HOLDS as u64,
                }),
                pinned => Ok(pinned),
            },
        })?;
        Ok(pinned.map(|pinned| View { map: self, pinned }))
    }

    /// Reads the value of `key` under the lock; or, if it is large, under a hold.
    #[cold]
    pub(super) fn read_held<T>(
        &self,
        key: &[u8],
        deadline: Deadline,
        mut read: impl FnMut(Value) -> T,
    ) -> Result<Option<T>> {
        let done = self.core.look_up_until(key, deadline, |shard, found| {
            let Some(place) = found.place() else {
                return Ok(ControlFlow::Break(None));
            };
            let value = place.1.pointed();
            if value.len >= LARGE
                && let Some(pinned) = self.pin(shard, place)?
            {
                return Ok(ControlFlow::Continue((pinned, value)));
            }
            Ok(ControlFlow::Break(Some(read(value))))
        })?;
        match done {
            ControlFlow::Break(read) => Ok(read),
            ControlFlow::Continue((pinned, value)) => {
                let _view = View { map: self, pinned };
                Ok(Some(read(value)))
            }
        }
    }

    /// Holds the entry that was found; `None` if all holds of the shard are in use.
    fn pin(
        &self,
        shard: &LockedShard<'_>,
        (offset, entry): (u64, Entry<'_>),
    ) -> Result<Option<Pinned>> {
        let owner = self.core.owner();
        let held = self.core.hold(shard, HoldKind::Pin, offset, owner)?;
        let value = entry.pointed();
        Ok(held.map(|held| {
            let pins = self.core.pins(shard, held.index);
            let turn = pins.load(Ordering::Relaxed).wrapping_add(1) & TURNS;
            pins.store(turn, Ordering::Relaxed);
            Pinned {
                shard: shard.store.index,
                index: held.index,
                turn,
                offset,
                owner,
                at: value.at,
                len: value.len,
                version: value.version(),
            }
        }))
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// `Invalid` if it has ended, or is another handle's; `Poisoned`, `Corrupt`.
    pub(crate) fn release(&self, pinned: &Pinned) -> Result<()> {
        let another = || {
            Error::invalid(
                "view",
                "it was ended before, or belongs to another handle or process",
            )
        };
        if pinned.owner != self.core.owner() || pinned.shard >= self.core.shard_count() {
            return Err(another());
        }
        let shard = self.core.lock(pinned.shard)?;
        let ours = |held: &Hold| {
            held.index == pinned.index
                && held.is_entry()
                && (held.what, held.owner) == (pinned.offset, pinned.owner)
                && self.core.pins(&shard, held.index).load(Ordering::Relaxed) == pinned.turn
        };
        let held = shard.store.holds().all().find(ours).ok_or_else(another)?;
        shard.store.release(&held)
    }

    /// Puts a large value, which it writes without the lock to a held place.
    #[cold]
    pub(super) fn put_large(&self, pair: &Pair<'_>) -> Result<Option<()>> {
        let hash = self.core.hasher.hash(pair.key);
        // This makes room for the time of insertion, which `write_prepared` sets.
        let dated = match self.is_ordered() {
            true => pair.inserted_at(now_ns()),
            false => *pair,
        };
        let pair = &dated;
        let prepare = || self.prepare(hash, pair.size());
        let Some(held) = self.core.retry_if_full(prepare(), prepare)? else {
            return self.put_at_once(pair);
        };
        let written = self.core.write_entry(held.what, pair);
        let put = written.and_then(|()| {
            self.core.change(pair.key, |shard, found| {
                let expiring = pair.is_expiring();
                shard.store.write_prepared(found, held.what, expiring)?;
                // Published: the table refers to it now.
                shard.store.holds().end(&held);
                Ok(())
            })
        });
        // After any other error the map is corrupt or poisoned, and is left alone.
        if matches!(put, Ok(None) | Err(Error::NoSpace { .. })) {
            let shard = self.core.lock(hash.shard as usize)?;
            shard.store.release(&held)?;
        }
        put
    }

    /// A place for a large entry; `None` if all holds of the shard are in use.
    fn prepare(&self, hash: Hash, bytes: u64) -> Result<Option<Hold>> {
        let owner = self.core.owner();
        let shard = self.core.lock_for(hash)?;
        let place = shard.store.slabs().allocate(bytes)?;
        let held = self.core.hold(&shard, HoldKind::Kept, place, owner)?;
        if held.is_none() {
            shard.store.slabs().free(place)?;
        }
        Ok(held)
    }
}
