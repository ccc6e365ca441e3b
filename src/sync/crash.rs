//! Crash points: the steps between two stores, at which a test can kill the process.
//!
//! `crash_point!()` stands wherever a SIGKILL would leave shared memory in a state of its
//! own. Without the feature `crash-points` it is nothing at all. With it every one that is
//! passed after `arm` counts a step, and at the step that was asked for the process sends
//! itself SIGKILL. A test runs an operation with step 1, 2, 3 … until the operation
//! completes, and looks each time at what a survivor makes of the remains.

/// Marks the gap between two stores to shared memory.
macro_rules! crash_point {
    () => {
        #[cfg(feature = "crash-points")]
        $crate::sync::crash::step();
    };
}
pub(crate) use crash_point;

#[cfg(feature = "crash-points")]
pub(crate) use armed::step;
#[cfg(feature = "crash-points")]
pub use armed::{arm, disarm};

#[cfg(feature = "crash-points")]
mod armed {
    use std::cell::Cell;

    thread_local! {
        // (steps passed, the step to die at), while armed.
        static STATE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// The calling thread dies at its `step`-th crash point from now on; 0 never dies.
    pub fn arm(step: u64) {
        STATE.set(Some((0, step)));
    }

    /// Stops counting and returns the steps passed since [`arm`].
    pub fn disarm() -> u64 {
        STATE.take().map_or(0, |(passed, _)| passed)
    }

    pub(crate) fn step() {
        let Some((passed, fatal)) = STATE.get() else {
            return;
        };
        STATE.set(Some((passed + 1, fatal)));
        if passed + 1 == fatal {
            crate::sys::process::kill_self();
        }
    }
}
