//! The state that host and guardian share.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::futex;
use crate::sys::spawn::{Failure, Start};

/// Wakes the guardian: there is an order.
pub(super) const WAKE: libc::c_int = libc::SIGUSR1;

/// How long a side sleeps at most before it checks for work.
pub(super) const SLICE_NS: u64 = 1_000_000_000;

/// `Shared::state`.
pub(super) const STARTING: u32 = 0;
pub(super) const READY: u32 = 1;
/// No guardian: it could not be made, or has ended.
pub(super) const ENDED: u32 = 2;

/// `Shared::owner`: which side owns the order and the answer.
pub(super) const HOST: u32 = 0;
pub(super) const GUARDIAN: u32 = 1;

/// `Slot::pid` of a slot without a process.
pub(super) const NONE: i32 = 0;

/// The shared state of a worker.
pub(super) struct Slot {
    /// Written by the guardian only.
    pub(super) pid: AtomicI32,
    /// The wait status; published by [`Slot::ended`].
    pub(super) status: AtomicI32,
    pub(super) ended: AtomicBool,
}

/// An order to the guardian.
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

/// What host and guardian share. G1: `order` and `answer` are the guardian's while `owner` is
/// `GUARDIAN`, and else the host's.
pub(super) struct Shared {
    pub(super) host: libc::pid_t,
    pub(super) state: AtomicU32,
    /// Why there is no guardian, if there is none.
    pub(super) errno: AtomicI32,
    pub(super) pid: AtomicI32,
    /// Set by the thread that made the guardian, once it no longer uses its thread-local variables.
    pub(super) parked: AtomicU32,
    pub(super) owner: AtomicU32,
    pub(super) order: UnsafeCell<Order>,
    pub(super) answer: UnsafeCell<Result<libc::pid_t, Failure>>,
    /// The host needs no more workers.
    pub(super) stop: AtomicBool,
    /// The guardian has killed what the workers have left, and ends.
    pub(super) has_killed_all: AtomicBool,
    pub(super) slots: Box<[Slot]>,
    /// The wake word: changes when the host has something to handle.
    pub(super) wake_word: Arc<AtomicU32>,
}

// SAFETY: G1 says which side may access the cells; everything else is atomic.
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
