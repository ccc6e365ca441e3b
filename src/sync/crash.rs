//! Crash points: the steps between two stores, at which a test can kill the process.
//!
//! `crash_point!()` is placed wherever a SIGKILL would leave shared memory in a state that differs from those
//! at the crash points before and after it. Without the feature `crash-points` it expands to nothing. With the
//! feature, each crash point that is passed after `arm` counts as a step, and at the requested step the process
//! sends itself SIGKILL, or SIGSTOP after `arm_to_stop`. A test runs an operation with step 1, 2, 3 … until the operation completes, and checks
//! each time what a surviving process finds.
//!
//! Each crash point that is passed after `watch_memory` also compares how many blocks the object's file has with
//! what was committed. Only [`committing`] may change that: a page that appears in between was touched before it
//! was committed, and would have been a SIGBUS in a full `/dev/shm`. `SEEK_DATA` and `mincore` do not report a
//! page that was committed and never written to; the file's count of blocks does.

/// Marks the gap between two stores to shared memory.
macro_rules! crash_point {
    () => {
        #[cfg(feature = "crash-points")]
        $crate::sync::crash::step();
    };
}
pub(crate) use crash_point;

#[cfg(feature = "crash-points")]
pub use armed::{arm, arm_to_stop, disarm, unwatch_memory, watch_memory};
#[cfg(feature = "crash-points")]
pub(crate) use armed::{committing, step};

/// Runs `work`, which commits memory or gives it back; no other code may do so.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn committing<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::cell::{Cell, RefCell};
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    thread_local! {
        // While armed: the steps passed, the step at which to act, and whether to stop instead of being killed.
        static STATE: Cell<Option<(u64, u64, bool)>> = const { Cell::new(None) };
        // The files that are watched, and the blocks that each may have.
        static WATCHED: RefCell<Vec<(File, u64)>> = const { RefCell::new(Vec::new()) };
    }

    fn blocks(file: &File) -> u64 {
        file.metadata().expect("an open file").blocks()
    }

    /// From now on, the calling thread panics at a crash point if one of the objects' files has other pages
    /// than were committed. No other thread may use these objects meanwhile.
    pub fn watch_memory(paths: &[impl AsRef<Path>]) {
        let watched = paths.iter().map(|path| {
            let file = File::open(path).expect("a file to watch");
            let has = blocks(&file);
            (file, has)
        });
        WATCHED.set(watched.collect());
    }

    /// Checks once more, and ends [`watch_memory`].
    pub fn unwatch_memory() {
        check();
        WATCHED.take();
    }

    fn check() {
        // The list does not exist any more when the exit handlers of the process run.
        let _ = WATCHED.try_with(|watched| {
            for (file, may) in &*watched.borrow() {
                let has = blocks(file);
                assert_eq!(has, *may, "a page was touched that was not committed");
            }
        });
    }

    pub(crate) fn committing<T>(work: impl FnOnce() -> T) -> T {
        check();
        let done = work();
        WATCHED.with_borrow_mut(|watched| {
            for (file, may) in watched {
                *may = blocks(file);
            }
        });
        done
    }

    /// The process is killed at the calling thread's `step`-th crash point from now on; with 0, never.
    pub fn arm(step: u64) {
        STATE.set(Some((0, step, false)));
    }

    /// Like [`arm`], but the process is stopped, and continues after a SIGCONT.
    pub fn arm_to_stop(step: u64) {
        STATE.set(Some((0, step, true)));
    }

    /// Stops counting and returns the steps passed since [`arm`].
    pub fn disarm() -> u64 {
        STATE.take().map_or(0, |(passed, ..)| passed)
    }

    pub(crate) fn step() {
        check();
        let Some((passed, chosen, stop)) = STATE.get() else {
            return;
        };
        STATE.set(Some((passed + 1, chosen, stop)));
        if passed + 1 == chosen {
            crate::sys::process::kill_or_stop_self(stop);
        }
    }
}
