//! What has to be done once in a process, and can fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// Whether it has been done.
pub(crate) struct Once {
    done: AtomicBool,
    /// Held only while it is being done: a forked child finds it held by a thread that it does not
    /// have only if the fork happened during the first call of all.
    doing: Mutex<()>,
}

impl Once {
    pub(crate) const fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            doing: Mutex::new(()),
        }
    }

    /// Does it, unless that was done. Of several callers one does it and the others wait. An
    /// error is only that caller's: the next one tries again.
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
