//! Allocating and freeing in the message store, under the store's own lock.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::heap::Arena;
use crate::layout::Owner;
use crate::sync::Acquired;
use crate::sys::clock::Deadline;

use super::core::Queue;
use super::locked::{BothSides, Side};
use super::mark::Mark;
use super::store::StoredMessage;

/// Remembers which owners are alive, so that the kernel is asked once about each.
pub(super) struct LivenessCache<'a> {
    queue: &'a Queue,
    known: BTreeMap<(u16, u32), bool>,
}

impl LivenessCache<'_> {
    pub(super) fn lives(&mut self, owner: Owner) -> Result<bool> {
        let key = (owner.slot, owner.generation);
        if let Some(lives) = self.known.get(&key) {
            return Ok(*lives);
        }
        let lives = self.queue.segment.is_attached(owner)?;
        self.known.insert(key, lives);
        Ok(lives)
    }
}

impl Queue {
    pub(super) fn liveness(&self) -> LivenessCache<'_> {
        let known = BTreeMap::new();
        LivenessCache { queue: self, known }
    }

    /// Runs `work` on the store's arena, under the store's lock. Rebuilds the arena first if the last owner of
    /// the lock died with it. Waits until `deadline`, or for a second if that is later.
    fn with_arena<T>(
        &self,
        deadline: Deadline,
        work: impl FnOnce(&Arena<'_>) -> Result<T>,
    ) -> Result<T> {
        let (store, state) = (&self.ring.store, &self.ring.header.store);
        let arena = store.arena(state, &*self.segment);
        let _guard = match self.store_lock.lock(deadline)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => {
                let rebuilt = store.rebuild(state, &arena);
                let rebuilt = rebuilt.inspect_err(|_| self.poison());
                guard.mark_consistent();
                rebuilt?;
                guard
            }
        };
        work(&arena)
    }
}

impl<L> Side<'_, L> {
    /// Frees the message at `block`, which belongs to this side: the commit point of taking or discarding it.
    pub(super) fn free(self, block: u32) -> Result<()> {
        let (store, state) = (&self.ring.store, &self.ring.header.store);
        self.with_arena(Deadline::Never, |arena| store.free(state, arena, block))
    }

    /// Allocates a place in the store; `None` if the store is full.
    ///
    /// # Errors
    /// `Timeout` if the store's lock is not free by `deadline`.
    pub(super) fn allocate(
        self,
        len: usize,
        number: u64,
        mark: Mark,
        deadline: Deadline,
    ) -> Result<Option<u32>> {
        let (store, state) = (&self.ring.store, &self.ring.header.store);
        self.with_arena(deadline, |arena| {
            store.allocate(state, arena, len as u64, number, mark)
        })
    }

    /// All messages in the store. Those of the other side may change meanwhile.
    ///
    /// # Errors
    /// `Timeout` if the store's lock is not free by `deadline`.
    pub(super) fn everything(self, deadline: Deadline) -> Result<Vec<StoredMessage>> {
        self.with_arena(deadline, |arena| self.ring.store.all(arena))
    }
}

impl BothSides<'_> {
    /// Gives back the store's unused memory, unless another process holds the store's lock.
    pub(super) fn trim(&self) -> Result<()> {
        let (store, state) = (&self.ring.store, &self.ring.header.store);
        let Some(_guard) = self.store_lock.try_lock() else {
            return Ok(());
        };
        let arena = store.arena(state, &*self.segment);
        store.free_cached(state, &arena, 0)?;
        arena.trim()
    }
}
