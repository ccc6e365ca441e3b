//! Locks of single keys, for work that takes longer than a call.
//!
//! A key's lock is a hold (see `holds`) and not the shard's lock: its owner may keep it without blocking the
//! rest of the map, or other operations on the same key. If the kernel says that the owner is dead, the next
//! process that tries to lock the key takes the lock over.

use std::cell::Cell;

use super::hash::Hash;
use super::holds::{HOLDS, Hold, HoldKind};
use super::ops::Map;
use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::sync::{Ask, wait_for};
use crate::sys::clock::{Deadline, IntoTimeout, now_ns};
use crate::sys::thread;

/// The lock of a key; unlocks when dropped. See [`Map::lock_key`].
#[derive(Debug)]
pub struct KeyGuard<'a> {
    map: &'a Map,
    hash: Hash,
    owner: Owner,
    owner_died: bool,
}

impl KeyGuard<'_> {
    /// Whether the previous owner died with the lock: work that it did in several steps may be half
    /// done.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// An error in a child that was forked while the key was locked.
    pub(super) fn check(&self) -> Result<()> {
        if self.map.core.owner() == self.owner {
            return Ok(());
        }
        let why = "its lock belongs to the process that took it, and not to a fork of that";
        Err(Error::invalid("key", why))
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        // In a forked child, the lock is its parent's; the child may have locked the key again by then. Fails if the
        // map is poisoned.
        if self.check().is_ok() {
            let _ = self.map.unlock(self.hash);
        }
    }
}

/// The word of a lock's hold: the key's tag, and the thread, so that a thread never waits for itself.
fn what(hash: Hash) -> u64 {
    u64::from(hash.tag) | u64::from(thread::id()) << 32
}

/// Whether it is the lock of the key with this hash.
fn is_lock_of(held: &Hold, hash: Hash) -> bool {
    held.kind == HoldKind::Lock && held.what as u32 == hash.tag
}

impl Map {
    /// Locks `key`, which need not be in the map. Waits until `timeout`.
    ///
    /// The lock excludes only [`lock_key`](Self::lock_key) and [`update`](Self::update) of the same key:
    /// other operations do not check it. It is released by dropping the guard, in any thread, or by the death
    /// of this process, of which the next owner [is told](KeyGuard::owner_died). A forked child does not have
    /// it. Several keys can be locked without deadlock if all processes lock them in the same order and hold
    /// few at a time (see the limits). There is no order of arrival: the first process that tries gets the
    /// lock. A waiter that has waited long is served next, so none starves.
    ///
    /// ```
    /// # use shoal::{Map, Timeout};
    /// # let map = Map::anonymous()?;
    /// let guard = map.lock_key(b"ledger", Timeout::Infinite)?;
    /// // ... several steps, on this key or others ...
    /// drop(guard);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Invalid` if this
    /// thread has it already; `Exhausted`: see the limits; `TooLarge` for a key that is too long;
    /// `Unsupported` if the map has a [relay](crate::MapRelay); `Poisoned`, `Corrupt`.
    ///
    /// # Limits
    /// Each part of the map has room for twelve locks and [views](Self::view). If a part is full, the
    /// call waits for room; a thread that holds all twelve locks itself gets `Exhausted`.
    pub fn lock_key(&self, key: &[u8], timeout: impl IntoTimeout) -> Result<KeyGuard<'_>> {
        self.check(key, &[])?;
        self.check_locks()?;
        let hash = self.core.hasher.hash(key);
        let changed = self.core.changed_in(hash.shard as usize);
        let deadline = Deadline::after(timeout);
        let began = Cell::new(0);
        let locked = wait_for(changed, &self.core.waiting, deadline, |ask| {
            self.try_lock(hash, ask, &began, deadline)
        });
        if locked.is_err() {
            // If this fails, the reservation expires; the caller gets the error of the lock.
            let _ = self.withdraw(hash);
        }
        Ok(KeyGuard {
            map: self,
            hash,
            owner: self.core.owner(),
            owner_died: locked?,
        })
    }

    /// Ends this thread's reservation of the lock, if it has one.
    fn withdraw(&self, hash: Hash) -> Result<()> {
        let handoff = self.core.handoff_in(hash.shard as usize);
        if handoff.is_reserved_for(what(hash)) {
            let _shard = self.core.lock_for_until(hash, Deadline::Now)?;
            handoff.withdraw(what(hash));
        }
        Ok(())
    }

    /// Locks the key with this hash, unless another living process has locked or reserved it. `true`
    /// if the previous owner died with the lock. `began` is the time of the first failed attempt; 0
    /// before that.
    fn try_lock(
        &self,
        hash: Hash,
        ask: Ask,
        began: &Cell<u64>,
        deadline: Deadline,
    ) -> Result<Option<bool>> {
        let (owner, what) = (self.core.owner(), what(hash));
        let shard = self.core.lock_for_until(hash, deadline)?;
        let handoff = self.core.handoff_in(hash.shard as usize);
        let holds = shard.store.holds();
        let before = holds.all().find(|held| is_lock_of(held, hash));
        if let Some(before) = before {
            if (before.owner, before.what) == (owner, what) {
                return Err(Error::invalid("key", "this thread has locked it already"));
            }
            if ask == Ask::Memory || self.core.is_attached(before.owner)? {
                let now = now_ns();
                if began.get() == 0 {
                    began.set(now);
                }
                handoff.reserve(what, began.get(), now);
                return Ok(None);
            }
            holds.end(&before);
            handoff.withdraw(what);
        } else if !handoff.admits(what, now_ns) {
            return Ok(None);
        }
        if self
            .core
            .hold(&shard, HoldKind::Lock, what, owner)?
            .is_some()
        {
            return Ok(Some(before.is_some()));
        }
        // No other thread can make room, so waiting would never end.
        let is_own = |held: Hold| {
            held.kind == HoldKind::Lock && held.owner == owner && held.what >> 32 == what >> 32
        };
        if holds.all().all(is_own) {
            return Err(Error::Exhausted {
                what: "locks of one thread in this part of the map",
                limit: HOLDS as u64,
            });
        }
        Ok(None)
    }

    /// Unlocks `key`.
    ///
    /// # Errors
    /// `Invalid` if this process has not locked it; `Poisoned`, `Corrupt`.
    pub(crate) fn unlock_key(&self, key: &[u8]) -> Result<()> {
        self.unlock(self.core.hasher.hash(key))
    }

    fn unlock(&self, hash: Hash) -> Result<()> {
        let owner: Owner = self.core.owner();
        let shard = self.core.lock_for(hash)?;
        let holds = shard.store.holds();
        let ours = |held: &Hold| is_lock_of(held, hash) && held.owner == owner;
        let Some(held) = holds.all().find(ours) else {
            return Err(Error::invalid("key", "this process has not locked it"));
        };
        holds.end(&held);
        self.core
            .handoff_in(hash.shard as usize)
            .unlocked(held.what, now_ns);
        drop(shard);
        self.core.notify_changed(hash.shard as usize);
        Ok(())
    }
}
