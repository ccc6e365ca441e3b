//! The companions that a handle has opened.
//!
//! A handle opens a companion when it first needs it, and keeps it. If the object has got other companions since,
//! the handle opens those. The previous ones stay open until the handle is dropped: another thread may be in a
//! call on them. Nothing is locked, so a child that is forked while another thread opens one does not wait for
//! that thread.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::error::Result;

/// Handles on a companion, the newest first.
pub(crate) struct Cached<T> {
    newest: AtomicPtr<Node<T>>,
}

struct Node<T> {
    /// The companion's family.
    id: u64,
    handle: T,
    older: *mut Node<T>,
}

// SAFETY: nodes are shared by reference and dropped with the list, by its owner.
unsafe impl<T: Send + Sync> Send for Cached<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Cached<T> {}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl<T> Cached<T> {
    /// The handle on the companion with this id, from `open` if there is none yet.
    ///
    /// All threads get the same handle, even if they open the companion at the same time: what a thread
    /// reserves through a handle is committed through that handle. The exchange decides whose handle is used;
    /// the other thread drops its own.
    pub(crate) fn get(&self, id: u64, open: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(known) = self.find(id) {
            return Ok(known);
        }
        let mut node = Box::new(Node {
            id,
            handle: open()?,
            older: ptr::null_mut(),
        });
        loop {
            let newest = self.newest.load(Ordering::Acquire);
            // Searches again from `newest` on. If a node is added after that, the exchange fails.
            if let Some(known) = self.find(id) {
                return Ok(known);
            }
            node.older = newest;
            let raw = Box::into_raw(node);
            let added =
                self.newest
                    .compare_exchange(newest, raw, Ordering::SeqCst, Ordering::Relaxed);
            match added {
                // SAFETY: just made from a box, and dropped only with the list.
                Ok(_) => return Ok(unsafe { &(*raw).handle }),
                // SAFETY: made from a box above, and not added, so no other thread has it.
                Err(_) => node = unsafe { Box::from_raw(raw) },
            }
        }
    }

    fn find(&self, id: u64) -> Option<&T> {
        self.nodes()
            .find(|node| node.id == id)
            .map(|node| &node.handle)
    }

    /// All handles.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.nodes().map(|node| &node.handle)
    }

    fn nodes(&self) -> impl Iterator<Item = &Node<T>> {
        let mut next = self.newest.load(Ordering::SeqCst);
        std::iter::from_fn(move || {
            // SAFETY: null, or added by `get`; nodes are not changed after that, and are dropped only with
            // the list, which is borrowed.
            let node = unsafe { next.as_ref() }?;
            next = node.older;
            Some(node)
        })
    }
}

impl<T> Drop for Cached<T> {
    fn drop(&mut self) {
        let mut next = *self.newest.get_mut();
        while !next.is_null() {
            // SAFETY: added by `get` from a box, once; no reference is left, since the list is dropped.
            let node = unsafe { Box::from_raw(next) };
            next = node.older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_companion_is_opened_once_and_another_one_separately() {
        let cached = Cached::default();
        let value = Arc::new(());
        let open = || Ok((1, Arc::clone(&value)));
        assert_eq!(cached.get(2, open).unwrap().0, 1);
        assert_eq!(cached.get(2, || unreachable!()).unwrap().0, 1);
        let other = || Ok((3, Arc::clone(&value)));
        assert_eq!(cached.get(4, other).unwrap().0, 3);
        assert_eq!(cached.get(2, || unreachable!()).unwrap().0, 1);
        assert_eq!(cached.all().count(), 2);
        drop(cached);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn threads_that_open_a_companion_at_once_get_the_same_handle() {
        let cached = Cached::default();
        let value = Arc::new(());
        let handle = |number| (number, Arc::clone(&value));
        // Opened by another thread while this one opens it.
        let second = cached.get(2, || {
            cached.get(4, || Ok(handle(0)))?;
            cached.get(2, || Ok(handle(1)))?;
            Ok(handle(2))
        });
        assert_eq!(second.unwrap().0, 1);
        assert_eq!(cached.get(2, || unreachable!()).unwrap().0, 1);
        assert_eq!(cached.all().count(), 2);
        assert_eq!(Arc::strong_count(&value), 3, "the second handle is dropped");
    }
}
