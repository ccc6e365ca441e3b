//! The line of those who wait until something is free, and whose turn it is.
//!
//! ```text
//! offset  size  field     written by     meaning
//!      0     8  given_ns  a releaser     since when what is free is kept for a sleeper; 0: for anyone
//!      8     8  taken_ns  a woken taker  when something that was kept was taken last
//!     16    12  freed     event: those sleep on it who wait
//!     28    12  passed    event: those sleep on it who were woken, and found it taken again
//! ```
//!
//! What is freed goes to the first that takes it. That is fast: the owner may take it again at once,
//! and no core waits for a sleeper to wake up. But a sleeper that is woken, 20 us later, finds it
//! taken again, each time. So once in [`TURN_NS`] what is freed is *given* to the sleeper that is
//! woken: for [`GRACE_NS`] at most, all others leave it alone.
//!
//! The kernel wakes sleepers in the order in which they came. A sleeper that was woken in vain sleeps
//! on another word, which is woken first, and so keeps its place.
//!
//! TABLE
//!
//! # What a kill leaves
//! To whom something is given is not written down, so nothing can be given to the dead: if the
//! woken process is killed, its time of grace is over soon. A gift is a hint. It decides who is
//! served first, never who owns something. A wake-up that is lost with a process costs the others a
//! slice of their sleep.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sys::clock::{Deadline, now_ns};

use super::crash::crash_point;
use super::patience::{Ask, Patience};
use super::{EventCell, Slept, publish_fence};

/// How long the owners of a moment may take what is free again and again, before a sleeper gets it:
/// twenty times what it takes to wake one.
const TURN_NS: u64 = 1_000_000;

/// After a wait of so long there is no such turn: what is freed goes to the next sleeper at once.
const LONG_NS: u64 = 5_000_000;

/// How long something is kept for the sleeper that was woken: longer than a machine on which several
/// programs compute on each core takes to let it in.
const GRACE_NS: u64 = 20_000_000;

/// The line, as it lies in shared memory.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Line {
    given_ns: AtomicU64,
    taken_ns: AtomicU64,
    freed: EventCell,
    passed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(Line, taken_ns) == 8);
const _: () = assert!(std::mem::offset_of!(Line, freed) == 16);
const _: () = assert!(std::mem::offset_of!(Line, passed) == 28);
const _: () = assert!(size_of::<Line>() == 40);

// SAFETY: `repr(C)`, atomics and events only.
unsafe impl Shared for Line {}

/// What a waiter knows when it tries to take something.
#[derive(Clone, Copy)]
pub(crate) struct Try {
    /// Whether it is to ask the kernel if the owner lives.
    pub(crate) ask: Ask,
    /// If it was ever woken, when it began to wait.
    pub(crate) woken: Woken,
}

/// Since when a waiter waits that was woken.
pub(crate) type Woken = Option<u64>;

impl Line {
    /// Whether what is free may be had: by one that was woken for it, or because it is for anyone.
    /// Asked after taking it, too, since to read the line before would fetch it twice from a core
    /// that has written to it; what must not be kept then is to be freed again.
    #[inline(always)]
    pub(crate) fn admits(&self, woken: Woken) -> bool {
        let given = self.given_ns.load(Ordering::Relaxed);
        given == 0 || self.admits_now(given, woken)
    }

    #[cold]
    fn admits_now(&self, given_ns: u64, woken: Woken) -> bool {
        let now = now_ns();
        if woken.is_none() && now.wrapping_sub(given_ns) <= GRACE_NS {
            return false;
        }
        if woken.is_none_or(|began| now.wrapping_sub(began) < LONG_NS) {
            self.taken_ns.store(now, Ordering::Relaxed);
            crash_point!();
        }
        self.given_ns.store(0, Ordering::Relaxed);
        crash_point!();
        true
    }

    /// After something was freed, with a read-modify-write or a fence since: wakes the next.
    #[inline(always)]
    pub(crate) fn call(&self) {
        publish_fence();
        if self.freed.has_sleepers() || self.passed.has_sleepers() {
            self.call_next();
        }
    }

    #[cold]
    fn call_next(&self) {
        let now = now_ns();
        let gives = now.wrapping_sub(self.taken_ns.load(Ordering::Relaxed)) >= TURN_NS;
        if gives && self.given_ns.load(Ordering::Relaxed) == 0 {
            self.given_ns.store(now, Ordering::Relaxed);
            crash_point!();
        }
        // It is for the one that is waking already, if there is one.
        if self.freed.is_waking() || self.passed.is_waking() {
            return;
        }
        if !self.passed.notify_one() && !self.freed.notify_one() && gives {
            self.given_ns.store(0, Ordering::Relaxed);
            crash_point!();
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        self.passed.notify_all();
        self.freed.notify_all();
    }

    /// Waits until `attempt` succeeds, which may do so while `is_free()`. It is made at least once.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; and those of `attempt`.
    pub(crate) fn wait<T>(
        &self,
        patience: &Patience,
        deadline: Deadline,
        is_free: impl Fn() -> bool,
        attempt: impl Fn(Try) -> Result<Option<T>>,
    ) -> Result<T> {
        let is_open = || is_free() && self.given_ns.load(Ordering::Relaxed) == 0;
        let at_once = deadline == Deadline::Now;
        let mut how = Try {
            ask: Ask::Memory,
            woken: None,
        };
        if !at_once
            && patience.spin(is_open)
            && let Some(done) = attempt(how)?
        {
            return Ok(done);
        }
        let (began, mut nap) = (now_ns(), patience.nap());
        if at_once {
            // It cannot come back when what is free has gone to a sleeper, or that has died.
            how.woken = Some(began);
        }
        how.ask = Ask::kernel(at_once || patience.may_ask());
        let ended = loop {
            match attempt(how) {
                Ok(None) if at_once => break Err(Error::Timeout),
                Ok(None) => {}
                Ok(Some(done)) => break Ok(done),
                Err(err) => break Err(err),
            }
            let slept = match how.woken {
                None => patience.sleep(&self.freed, nap.ns(), deadline, is_open),
                // Whatever is given may be for this one.
                Some(_) => patience.sleep(&self.passed, nap.ns(), deadline, &is_free),
            };
            let slept = match slept {
                Ok(slept) => slept,
                Err(err) => break Err(err),
            };
            how.ask = Ask::kernel(nap.ended(slept));
            if slept == Slept::Woken {
                how.woken = Some(began);
            }
            if slept == Slept::TimedOut {
                // One that was woken and killed before it looked may be the last that slept there.
                self.freed.awake();
                self.passed.awake();
            }
        };
        if ended.is_err() && is_free() {
            // A wake-up that came too late for this one is for another.
            self.call();
        }
        ended
    }
}
