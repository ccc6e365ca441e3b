//! The threads and tasks of a bridge. None of them ends before the bridge does. If one does, the bridge ends
//! with an error that names it, and its supervisor starts it again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::error::Error;

/// Why the bridge has to end: a thread or task has ended, or has an error that a retry does not resolve.
pub(crate) struct Ended(pub(crate) Error);

/// Threads and tasks that run until the bridge ends.
pub(crate) struct Threads {
    ending: AtomicBool,
    ended: mpsc::UnboundedSender<Ended>,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Threads {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (ended, inbox) = mpsc::unbounded_channel();
        let this = Self {
            ending: AtomicBool::new(false),
            ended,
            tasks: Mutex::default(),
        };
        (this, inbox)
    }

    /// Whether threads have to return.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends all of them: threads at their next check, tasks immediately.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let mut tasks = self
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }

    /// Runs `work` on a separate thread, for calls that wait in shared memory.
    pub(crate) fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) {
        let ended = self.ended.clone();
        let builder = std::thread::Builder::new().name(name.clone());
        let of = name.clone();
        let spawned = builder.spawn(move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let why = if done.is_ok() {
                "it returned"
            } else {
                "it panicked"
            };
            let _ = ended.send(Ended(Error::broken(of, why)));
        });
        if let Err(why) = spawned {
            let _ = self.ended.send(Ended(Error::broken(name, why)));
        }
    }

    /// Runs a task.
    pub(crate) fn task(&self, name: String, work: impl Future<Output = ()> + Send + 'static) {
        let of = name.clone();
        self.failing(name, async move {
            work.await;
            Error::broken(of, "it returned")
        });
    }

    /// Runs a task that ends with an error that a retry does not resolve.
    pub(crate) fn failing(&self, name: String, work: impl Future<Output = Error> + Send + 'static) {
        let ended = self.ended.clone();
        let task = tokio::spawn(work);
        let abort = task.abort_handle();
        tokio::spawn(async move {
            let why = task.await.unwrap_or_else(|why| Error::broken(name, why));
            let _ = ended.send(Ended(why));
        });
        self.tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(abort);
    }
}
