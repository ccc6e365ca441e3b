//! What a handle has for event loops: a signal, the descriptor that shows it, and the watch of a thread.
//!
//! `readiness` explains which signal it is and when it is set.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::sync::Watch;
use crate::sys::poll::{ReadableFd, Signal};

/// What a descriptor shows: the queue's FIFO, which all processes share, or a pipe of this process.
pub(super) struct ReadySignal {
    signal: Signal,
    is_shared: bool,
    /// Whether it is set, if it is not shared.
    is_set: AtomicBool,
}

impl ReadySignal {
    /// A signal by `fifo`, or by a new pipe if there is none.
    pub(super) fn new(fifo: Option<Signal>) -> Result<Self> {
        Ok(Self {
            is_shared: fifo.is_some(),
            signal: fifo.map_or_else(Signal::new, Ok)?,
            is_set: AtomicBool::new(false),
        })
    }

    /// Whether other processes have it too.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether it is set. Asks the kernel about a FIFO: any process that has it open may have written to it
    /// or read from it.
    pub(super) fn is_set(&self) -> bool {
        match self.is_shared {
            true => self.signal.is_set(),
            false => self.is_own_set(),
        }
    }

    /// Whether it is a pipe of this process, and set.
    fn is_own_set(&self) -> bool {
        !self.is_shared && self.is_set.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.signal.set();
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// Clears the FIFO, and says whether that succeeded.
    pub(super) fn clear_shared(&self) -> bool {
        self.is_shared && self.signal.clear()
    }

    pub(super) fn clear_own(&self) {
        if !self.is_shared && self.is_set.swap(false, Ordering::Relaxed) {
            self.signal.clear();
        }
    }
}

/// The descriptor of a handle, if it was asked for one.
pub(super) struct Descriptor {
    made: AtomicPtr<Made>,
    /// The FIFO, as opened by a handle that had to set or clear it and has no descriptor. Used and changed
    /// under the signal lock.
    fifo: AtomicPtr<Signal>,
}

/// The descriptor that one process made.
pub(super) struct Made {
    // Dropped first: it watches the fields below. `None` once a newer descriptor has replaced this one.
    watch: Mutex<Option<Box<Watch>>>,
    /// The process that made it.
    process: u32,
    readable: ReadableFd,
    signal: Arc<ReadySignal>,
    /// The descriptor before this one: inherited, or closed by the program. Kept, since another thread may be
    /// using it.
    before: *mut Made,
}

impl Made {
    pub(super) fn new(watch: Box<Watch>, signal: Arc<ReadySignal>) -> Result<Self> {
        Ok(Self {
            watch: Mutex::new(Some(watch)),
            process: std::process::id(),
            readable: ReadableFd::of(&signal.signal)?,
            signal,
            before: ptr::null_mut(),
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// Whether this process made it, and not the one that it was forked from.
    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// False if the program has closed it, as daemons do that close all descriptors. The signal's reading end is
    /// the member of the epoll in `readable`, which checks it.
    fn is_open(&self) -> bool {
        self.readable.is_open() && self.signal.signal.has_writer()
    }

    /// Ends its watch. Only in the process that made it: in a forked child, another thread may have held the
    /// mutex at the fork.
    fn retire(&self) {
        let watch = self
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(watch);
    }
}

impl Descriptor {
    pub(super) const fn new() -> Self {
        Self {
            made: AtomicPtr::new(ptr::null_mut()),
            fifo: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The descriptors that this process has made, the newest first, and then the inherited ones.
    fn each(&self) -> impl Iterator<Item = &Made> {
        // SYNC: find(watch), pairs with publish(watch)
        let made = self.made.load(Ordering::Acquire);
        // SAFETY: what is published stays until the handle is dropped.
        let made = unsafe { made.as_ref() };
        // SAFETY: as above.
        std::iter::successors(made, |made| unsafe { made.before.as_ref() })
    }

    fn get(&self) -> Option<&Made> {
        self.each().next().filter(|made| made.is_ours())
    }

    /// Whether this process has one.
    pub(super) fn is_made(&self) -> bool {
        self.get().is_some()
    }

    /// Makes the descriptor permanently readable, if there is one, so that threads that wait for it check the
    /// queue.
    pub(super) fn keep_readable(&self) {
        if let Some(made) = self.get() {
            made.readable.keep_readable(&made.signal.signal);
        }
    }

    /// Whether this handle has a signal of its own that is set.
    pub(super) fn is_own_set(&self) -> bool {
        self.get().is_some_and(|made| made.signal.is_own_set())
    }

    /// Clears the signals that this process can reach, and returns whether the FIFO, if there is one, was
    /// cleared. `open` opens the FIFO. Under the signal lock.
    pub(super) fn clear(&self, has_fifo: bool, open: impl FnOnce() -> Option<Signal>) -> bool {
        if let Some(made) = self.get() {
            made.signal.clear_own();
        }
        !has_fifo || self.on_fifo(open, Signal::clear)
    }

    /// Makes the FIFO readable, and says whether that succeeded. Under the signal lock.
    pub(super) fn set(&self, open: impl FnOnce() -> Option<Signal>) -> bool {
        self.on_fifo(open, Signal::set)
    }

    /// Does `act` on the FIFO: through a descriptor that has it, as opened for this handle earlier, or as `open`
    /// opens it. `act` fails on one that the program has closed. Under the signal lock.
    fn on_fifo(
        &self,
        open: impl FnOnce() -> Option<Signal>,
        act: impl Fn(&Signal) -> bool,
    ) -> bool {
        if self
            .each()
            .any(|made| made.signal.is_shared && act(&made.signal.signal))
        {
            return true;
        }
        // SAFETY: null, or made by `Box::into_raw` below; replaced and freed only under the signal lock.
        let known = unsafe { self.fifo.load(Ordering::Acquire).as_ref() };
        if known.is_some_and(&act) {
            return true;
        }
        let Some(fifo) = open() else {
            return false;
        };
        let done = act(&fifo);
        let old = self
            .fifo
            .swap(Box::into_raw(Box::new(fifo)), Ordering::AcqRel);
        drop_signal(old);
        done
    }

    pub(super) fn get_or_make(&self, make: impl FnOnce() -> Result<Made>) -> Result<&Made> {
        let before = self.made.load(Ordering::Acquire);
        // SAFETY: what is published stays until the handle is dropped.
        let old = unsafe { before.as_ref() }.filter(|old| old.is_ours());
        if let Some(made) = old.filter(|old| old.is_open()) {
            return Ok(made);
        }
        let mut made = make()?;
        made.before = before;
        let made = Box::into_raw(Box::new(made));
        // SYNC: publish(watch)
        let published =
            self.made
                .compare_exchange(before, made, Ordering::AcqRel, Ordering::Acquire);
        let ours = match published {
            Ok(_) => {
                if let Some(old) = old {
                    old.retire();
                }
                made
            }
            Err(winner) => {
                // SAFETY: it comes from a `Box`, and was not published, so no other thread has the pointer.
                drop(unsafe { Box::from_raw(made) });
                winner
            }
        };
        // SAFETY: what is published stays until the handle is dropped.
        Ok(unsafe { &*ours })
    }
}

fn drop_signal(signal: *mut Signal) {
    if !signal.is_null() {
        // SAFETY: made by `Box::into_raw`; the caller has removed the only copy of the pointer.
        drop(unsafe { Box::from_raw(signal) });
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let mut made = *self.made.get_mut();
        while !made.is_null() {
            // SAFETY: each was made by `Box::into_raw` and is in the chain once.
            made = unsafe { Box::from_raw(made) }.before;
        }
        drop_signal(*self.fifo.get_mut());
    }
}

// SAFETY: the pointers own values that are `Send` and `Sync`.
unsafe impl Send for Descriptor {}
// SAFETY: as for `Send`.
unsafe impl Sync for Descriptor {}
