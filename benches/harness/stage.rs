//! Where a measurement takes place: worker processes and the page they share with us.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shoal::{ForkOptions, Process, Timeout};

use super::Failure;

/// What one worker tells.
#[repr(C, align(128))]
#[derive(Default)]
pub(super) struct Tally {
    /// Messages so far. Written by the worker alone, on a line of its own.
    pub(super) messages: AtomicU64,
    /// The wrapping sum of all their words, once the worker is done.
    pub(super) sum: AtomicU64,
}

/// At most this many workers, and samples of a round trip.
const WORKERS: usize = 128;
pub(super) const SAMPLES: usize = 1 << 20;

/// The shared page.
#[repr(C)]
pub(super) struct Stage {
    ready: AtomicU32,
    go: AtomicU32,
    stop: AtomicU32,
    pub(super) line: [Tally; 2],
    tallies: [Tally; WORKERS],
    pub(super) taken: AtomicU64,
    pub(super) samples: [AtomicU32; SAMPLES],
}

/// A mapping of the stage that forked workers share.
pub(super) struct Stand(*mut Stage);

impl Stand {
    pub(super) fn new() -> Result<Self, Failure> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping; zeros are a valid stage.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Stage>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        match at {
            libc::MAP_FAILED => Err(std::io::Error::last_os_error().into()),
            at => Ok(Self(at.cast())),
        }
    }
}

impl std::ops::Deref for Stand {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        // SAFETY: mapped until drop; atomics only.
        unsafe { &*self.0 }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.0.cast(), size_of::<Stage>()) };
    }
}

impl Stage {
    pub(super) fn tally(&self, worker: usize) -> &Tally {
        &self.tallies[worker]
    }

    /// A worker is ready, and waits for the others.
    pub(super) fn wait_for_go(&self) {
        self.ready.fetch_add(1, Ordering::SeqCst);
        while self.go.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    }

    /// Lets `workers` go once all of them are ready.
    pub(super) fn go(&self, workers: usize) {
        while (self.ready.load(Ordering::Acquire) as usize) < workers {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        self.go.store(1, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.stop.store(1, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }
}

/// Starts a worker on `core`, if there are cores to choose from.
pub(super) fn worker(
    core: Option<usize>,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<Process, Failure> {
    let body = move || {
        if let Some(core) = core {
            pin(core);
        }
        match work() {
            Ok(()) => 0,
            Err(why) => {
                eprintln!("shoal bench: a worker failed: {why}");
                1
            }
        }
    };
    // Nothing outlives us: a benchmark that was interrupted leaves no workers behind.
    let options = ForkOptions {
        die_with_parent: true,
        ..ForkOptions::default()
    };
    // SAFETY: the benchmark has one thread, so the child may do what the parent may.
    Ok(unsafe { shoal::fork(&options, body) }?)
}

/// Waits for workers and fails if one of them did.
pub(super) fn join(workers: Vec<Process>) -> Result<(), Failure> {
    for worker in workers {
        let exit = worker.join(Timeout::Infinite)?;
        if !exit.success() {
            return Err(format!("a worker ended with {exit:?}").into());
        }
    }
    Ok(())
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn pin(core: usize) {
    // SAFETY: an all-zero set is empty; the calls only read and write it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core % cores(), &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}
