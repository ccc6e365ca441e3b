//! Which process is next to lock a key that several want.
//!
//! ```text
//! turn (24 bytes), one for each shard, under the shard's lock
//! offset  size  field     meaning
//!      0     8  what      of the waiter: the key's tag and a thread
//!      8     8  since_ns  since when it waits; 0: it is nobody's turn
//!     16     8  until_ns  when its turn is void
//! ```
//! A key that is unlocked goes to the first that comes, which may be the process that unlocked it. A
//! waiter that has waited for [`PATIENT_NS`] puts itself down here; of the waiters for one key
//! the longest waiting. Once the key is unlocked, others leave it to that one for [`GRACE_NS`].
//!
//! # What a kill leaves
//! A turn is a hint, and void after a while. It decides which process is served first, and owns nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// A waiter asks for a turn after so long.
const PATIENT_NS: u64 = 1_000_000;
/// How long a turn is kept for a waiter: it renews that whenever it looks, every 100 ms at least.
const WAITING_NS: u64 = 250_000_000;
/// How long an unlocked key is kept for it.
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
    /// The waiter's `what`, if somebody's turn is not void, and since when it waits.
    fn now(&self, now_ns: u64) -> Option<(u64, u64)> {
        let since = self.since_ns.load(Ordering::Relaxed);
        let left = self.until_ns.load(Ordering::Relaxed).wrapping_sub(now_ns);
        // None lasts longer: such a word was not written by us, and nobody waits for it.
        let valid = since != 0 && (1..=WAITING_NS).contains(&left);
        valid.then(|| (self.what.load(Ordering::Relaxed), since))
    }

    /// Whether a waiter may lock its key, which is free. Its turn is over then.
    pub(super) fn admits(&self, what: u64, now_ns: impl Fn() -> u64) -> bool {
        // Nobody waits, mostly.
        if self.since_ns.load(Ordering::Relaxed) == 0 {
            return true;
        }
        match self.now(now_ns()) {
            Some((other, _)) if other & KEY == what & KEY && other != what => return false,
            Some((other, _)) if other != what => return true,
            _ => {}
        }
        self.since_ns.store(0, Ordering::Relaxed);
        crash_point!();
        true
    }

    /// A waiter finds its key locked, and has waited since then.
    pub(super) fn ask(&self, what: u64, since_ns: u64, now_ns: u64) {
        if now_ns.saturating_sub(since_ns) < PATIENT_NS {
            return;
        }
        let is_mine = match self.now(now_ns) {
            Some((other, since)) => other == what || other & KEY == what & KEY && since > since_ns,
            None => true,
        };
        if is_mine {
            self.what.store(what, Ordering::Relaxed);
            crash_point!();
            self.since_ns.store(since_ns, Ordering::Relaxed);
            crash_point!();
            self.until_ns.store(now_ns + WAITING_NS, Ordering::Relaxed);
            crash_point!();
        }
    }

    /// A key was unlocked.
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
