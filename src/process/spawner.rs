//! The thread that creates children which the kernel kills when their parent ends.
//!
//! The kernel ties `PR_SET_PDEATHSIG` to the *thread* that created the child, and a caller's thread may end
//! long before the process does. So a thread of the library creates such a child. It is started on first use,
//! blocks every signal, and never ends. A forked child starts its own.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};

use crate::error::{Error, Result};
use crate::sys::spawn::{self, Failure, Plan, Started};
use crate::sys::thread;

type Job = (Plan, SyncSender<Result<Started, Failure>>);

struct Spawner {
    /// The process that has the thread: after a fork, only the parent does.
    process: u32,
    jobs: Sender<Job>,
}

static SPAWNER: AtomicPtr<Spawner> = AtomicPtr::new(ptr::null_mut());

/// Starts the program of `plan` so that it is killed when this process ends.
pub(super) fn run(plan: Plan) -> Result<Result<Started, Failure>> {
    let (reply, answer) = sync_channel(1);
    let lost = |_| Error::Internal {
        what: "the thread that spawns processes has ended".to_owned(),
    };
    let sent = current()?.jobs.send((plan, reply));
    sent.map_err(|_| lost(()))?;
    answer.recv().map_err(|_| lost(()))
}

fn current() -> Result<&'static Spawner> {
    let process = std::process::id();
    let seen = SPAWNER.load(Ordering::Acquire);
    // SAFETY: a spawner is never freed once it is published.
    if let Some(spawner) = unsafe { seen.as_ref() }
        && spawner.process == process
    {
        return Ok(spawner);
    }
    let fresh = Box::into_raw(Box::new(start(process)?));
    match SPAWNER.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: published just now, never freed. A predecessor is not freed either: it belongs to
        // the parent process, and its channel may have been in use at the fork.
        Ok(_) => Ok(unsafe { &*fresh }),
        Err(winner) => {
            // SAFETY: ours was not published; dropping it ends its thread. The winner was
            // published and is never freed.
            unsafe {
                drop(Box::from_raw(fresh));
                Ok(&*winner)
            }
        }
    }
}

fn start(process: u32) -> Result<Spawner> {
    let (jobs, inbox) = channel::<Job>();
    thread::start("shoal-spawner", move || {
        for (plan, reply) in inbox {
            let started = spawn::start(&plan);
            // The child's ends of its pipes are closed before the caller continues, which may then
            // fork, or wait for the end of a pipe.
            drop(plan);
            // Fails if the caller has ended, and so does not need the answer.
            let _ = reply.send(started);
        }
    })?;
    Ok(Spawner { process, jobs })
}
