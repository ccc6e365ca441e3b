//! Reserves a key's lock for a process that has waited long, so that no waiter starves.
//!
//! ```text
//! reservation (24 bytes), one for each shard, under the shard's lock
//! offset  size  field     meaning
//!      0     8  what      of the waiter: the key's tag and a thread
//!      8     8  since_ns  when it began to wait; 0: no key is reserved
//!     16     8  until_ns  when the reservation expires
//! ```
//! The first process that tries gets a key's lock, perhaps the one that has just unlocked it. A waiter that
//! has waited for [`LONG_NS`] reserves the lock here; of several waiters for one key, the one that has waited
//! longest has the reservation. When the key is unlocked, no other process takes it for [`GRACE_NS`].
//!
//! # What a kill leaves
//! A reservation is a hint that expires. It only decides which process is served first.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// A waiter reserves the lock after this long.
const LONG_NS: u64 = 1_000_000;
/// How long a reservation holds. The waiter renews it at each attempt, every 100 ms at least.
const WAITING_NS: u64 = 250_000_000;
/// How long an unlocked key is kept for the waiter.
const GRACE_NS: u64 = 20_000_000;

/// The bits of `what` that are the key's.
const KEY: u64 = u32::MAX as u64;

#[repr(C)]
pub(super) struct KeyHandoff {
    what: AtomicU64,
    since_ns: AtomicU64,
    until_ns: AtomicU64,
}

const _: () = assert!(size_of::<KeyHandoff>() == 24);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for KeyHandoff {}

impl KeyHandoff {
    /// The waiter's `what` and the time when it began to wait, if there is a reservation.
    fn current(&self, now_ns: u64) -> Option<(u64, u64)> {
        let since = self.since_ns.load(Ordering::Relaxed);
        let left = self.until_ns.load(Ordering::Relaxed).wrapping_sub(now_ns);
        // No reservation lasts longer, so such a word is invalid.
        let valid = since != 0 && (1..=WAITING_NS).contains(&left);
        valid.then(|| (self.what.load(Ordering::Relaxed), since))
    }

    /// Whether a process may lock its key, which is free. If so, ends its reservation.
    pub(super) fn admits(&self, what: u64, now_ns: impl Fn() -> u64) -> bool {
        // The common case.
        if self.since_ns.load(Ordering::Relaxed) == 0 {
            return true;
        }
        match self.current(now_ns()) {
            Some((other, _)) if other & KEY == what & KEY && other != what => return false,
            Some((other, _)) if other != what => return true,
            _ => {}
        }
        self.since_ns.store(0, Ordering::Relaxed);
        crash_point!();
        true
    }

    /// Reserves the lock for a waiter that finds its key locked and has waited since `since_ns`.
    pub(super) fn reserve(&self, what: u64, since_ns: u64, now_ns: u64) {
        if now_ns.saturating_sub(since_ns) < LONG_NS {
            return;
        }
        let takes_over = match self.current(now_ns) {
            Some((other, since)) => other == what || other & KEY == what & KEY && since > since_ns,
            None => true,
        };
        if takes_over {
            self.what.store(what, Ordering::Relaxed);
            crash_point!();
            self.since_ns.store(since_ns, Ordering::Relaxed);
            crash_point!();
            self.until_ns.store(now_ns + WAITING_NS, Ordering::Relaxed);
            crash_point!();
        }
    }

    /// Whether the reservation is this waiter's. Exact only under the shard's lock.
    pub(super) fn is_reserved_for(&self, what: u64) -> bool {
        self.since_ns.load(Ordering::Relaxed) != 0 && self.what.load(Ordering::Relaxed) == what
    }

    /// Ends the reservation of a waiter that waits no more: it took the lock over, or has given up. Otherwise
    /// a free key would be refused to others until the reservation expires.
    pub(super) fn withdraw(&self, what: u64) {
        if self.is_reserved_for(what) {
            self.since_ns.store(0, Ordering::Relaxed);
            crash_point!();
        }
    }

    /// Limits the reservation of a key that was unlocked.
    pub(super) fn unlocked(&self, what: u64, now_ns: impl Fn() -> u64) {
        if self.since_ns.load(Ordering::Relaxed) != 0
            && self.what.load(Ordering::Relaxed) & KEY == what & KEY
        {
            let until = now_ns().saturating_add(GRACE_NS);
            self.until_ns.store(until, Ordering::Relaxed);
            crash_point!();
        }
    }
}
