//! An action that is done once in a process, and can fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// Whether the action has been done.
pub(crate) struct Once {
    done: AtomicBool,
    /// Locked only during the action. So a forked child finds it locked by a thread that it does not have only if
    /// the fork happened during the first call.
    doing: Mutex<()>,
}

impl Once {
    pub(crate) const fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            doing: Mutex::new(()),
        }
    }

    /// Runs `act`, unless it has succeeded before. Of several callers, one runs it and the others wait. Only
    /// that caller gets an error; the next one tries again.
    pub(crate) fn run(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        // SYNC: observe(done)
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let _doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.done.load(Ordering::Relaxed) {
            act()?;
            // SYNC: publish(done)
            self.done.store(true, Ordering::Release);
        }
        Ok(())
    }
}
