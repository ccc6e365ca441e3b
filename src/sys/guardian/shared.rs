//! What host and guardian share.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::futex;
use crate::sys::spawn::{Failure, Start};

/// Wakes the guardian: there is an order.
pub(super) const WAKE: libc::c_int = libc::SIGUSR1;

/// How long a side sleeps at most before it looks around.
pub(super) const SLICE_NS: u64 = 1_000_000_000;

/// `Shared::state`.
pub(super) const STARTING: u32 = 0;
pub(super) const READY: u32 = 1;
/// No guardian: it could not be made, or has ended.
pub(super) const ENDED: u32 = 2;

/// `Shared::turn`: whose the order is.
pub(super) const HOST: u32 = 0;
pub(super) const GUARDIAN: u32 = 1;

/// `Slot::pid` of a slot without a process.
pub(super) const NONE: i32 = 0;

/// A worker, as both sides see it.
pub(super) struct Slot {
    /// Written by the guardian only.
    pub(super) pid: AtomicI32,
    /// As `wait` tells it; published by [`Slot::ended`].
    pub(super) status: AtomicI32,
    pub(super) ended: AtomicBool,
}

/// What the guardian is asked to do.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Start {
        slot: usize,
        start: *const Start<'static>,
    },
    Signal {
        slot: usize,
        signal: libc::c_int,
    },
}

/// What host and guardian share. G1: `order` and `answer` are the guardian's while `turn` is
/// `GUARDIAN`, and else the host's.
pub(super) struct Shared {
    pub(super) host: libc::pid_t,
    pub(super) state: AtomicU32,
    /// Why there is no guardian, while that is so.
    pub(super) errno: AtomicI32,
    pub(super) pid: AtomicI32,
    /// Set by the thread that made the guardian, once it uses its thread-local variables no more.
    pub(super) parked: AtomicU32,
    pub(super) turn: AtomicU32,
    pub(super) order: UnsafeCell<Order>,
    pub(super) answer: UnsafeCell<Result<libc::pid_t, Failure>>,
    /// The host wants no workers any more.
    pub(super) stop: AtomicBool,
    pub(super) slots: Box<[Slot]>,
    /// The wake word: changes whenever there is something for the host to see.
    pub(super) wake_word: Arc<AtomicU32>,
}

// SAFETY: G1 says which side may touch the cells; everything else is atomic.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn wake(&self) {
        self.wake_word.fetch_add(1, Ordering::Release);
        futex::wake(&self.wake_word, i32::MAX);
    }

    pub(super) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        futex::wake(&self.state, i32::MAX);
        self.wake();
    }
}
