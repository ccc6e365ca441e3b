//! Waiting until one of several queues, pipes, processes and descriptors is ready.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::process::Process;
use crate::queue::Queue;
use crate::sync::{Nap, Slept, WaitPolicy, Waits};
use crate::sys::clock::{Deadline, IntoTimeout};
use crate::sys::poll;

/// What this process has learned about waiting for several things.
static POLICY: WaitPolicy = WaitPolicy::new();

/// Polling more things than this repeatedly costs more than a sleep.
const FEW: usize = 16;

/// Something to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Waitable<'a> {
    /// Ready when there is something to take, and once it is closed or poisoned.
    Queue(&'a Queue),
    /// Ready when there is something to receive, and once the connection is over.
    Pipe(&'a Pipe),
    /// Ready once it has ended. Waiting does not join it.
    Process(&'a Process),
    /// Ready when it is readable, or at its end.
    Fd(BorrowedFd<'a>),
}

impl<'a> Waitable<'a> {
    /// The queue that messages come from, if it is a queue or an end of a pipe.
    fn queue(self) -> Result<Option<&'a Queue>> {
        match self {
            Waitable::Queue(queue) => Ok(Some(queue)),
            Waitable::Pipe(pipe) => pipe.receiving().map(Some),
            Waitable::Process(_) | Waitable::Fd(_) => Ok(None),
        }
    }

    fn waits(self) -> Result<Option<&'a Waits>> {
        Ok(match self {
            Waitable::Process(process) => Some(process.waits()),
            _ => self.queue()?.map(Queue::waits),
        })
    }

    fn is_ready(&self) -> Result<bool> {
        match self {
            Waitable::Queue(queue) => Ok(queue.is_ready()),
            Waitable::Pipe(pipe) => pipe.is_ready(),
            // Without a descriptor it was joined, or had ended before one could be opened.
            Waitable::Process(process) => process
                .descriptor()?
                .map_or(Ok(true), |fd| poll::readable(&[fd], Deadline::Now)),
            Waitable::Fd(fd) => poll::readable(&[*fd], Deadline::Now),
        }
    }

    fn fd(self) -> Result<Option<BorrowedFd<'a>>> {
        match self {
            Waitable::Queue(queue) => queue.fd().map(Some),
            Waitable::Pipe(pipe) => pipe.fd().map(Some),
            Waitable::Process(process) => process.descriptor(),
            Waitable::Fd(fd) => Ok(Some(fd)),
        }
    }
}

/// Waits until one of these is ready, and returns the index of the first that is.
///
/// "First" is by the order of `things`: if an early one is always ready, later ones are never returned. To be
/// fair, change the order from call to call.
///
/// A queue that was ready may be empty by the time the caller takes from it, if others take from it too: use
/// a `get` that does not wait. A process may have put something just before it ended: check its queue once
/// more.
///
/// Waits until `timeout`; zero does not wait. Any number of threads may wait for the same things. In a forked
/// child it works as in its parent, on handles of both. Queues and pipes get [descriptors](Queue::fd), unless
/// something is ready at once.
///
/// # Errors
/// `Timeout`: none was ready in time, with a timeout of zero too. `Interrupted`: a signal handler ran while
/// waiting. `Detached`: the [waits](Queue::end_waits) through one of the handles were ended. `Invalid`: there
/// is nothing to wait for. `Unsupported`: the end of a pipe that only sends. `TooMany`: more descriptors than
/// `ulimit -n` allows now. `Os`: no descriptor or thread can be made.
///
/// ```
/// use shoal::{Queue, Spawn, Timeout, Waitable, wait_any};
///
/// let (jobs, answers) = (Queue::anonymous()?, Queue::anonymous()?);
/// let worker = Spawn::new("true").spawn()?;
/// let things = [
///     Waitable::Queue(&jobs),
///     Waitable::Queue(&answers),
///     Waitable::Process(&worker),
/// ];
/// assert_eq!(wait_any(&things, Timeout::Infinite)?, 2);
/// answers.put(b"42", Timeout::Infinite)?;
/// assert_eq!(wait_any(&things, Timeout::Infinite)?, 1);
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn wait_any(things: &[Waitable<'_>], timeout: impl IntoTimeout) -> Result<usize> {
    if things.is_empty() {
        return Err(Error::invalid("things to wait for", "there are none"));
    }
    let deadline = Deadline::after(timeout);
    if let Some(index) = first_ready(things)? {
        return Ok(index);
    }
    if deadline == Deadline::Now {
        return Err(Error::Timeout);
    }
    let queues: Vec<&Queue> = each(things, Waitable::queue)?;
    let waits: Vec<&Waits> = each(things, Waitable::waits)?;
    // Counted before the spin: a handle may be freed while this thread spins or makes descriptors.
    waits.iter().for_each(|waits| waits.count());
    let arrived = || queues.iter().any(|queue| queue.has_arrived());
    if things.len() <= FEW
        && POLICY.spin(arrived)
        && let Some(index) = first_ready(things)?
    {
        return Ok(index);
    }
    let has_processes = things
        .iter()
        .any(|thing| matches!(thing, Waitable::Process(_)));
    let mut nap = Nap::FIRST;
    loop {
        // Made each time: the program may have closed the previous ones, as daemons do that close all
        // descriptors.
        let fds: Vec<BorrowedFd<'_>> = each(things, Waitable::fd)?;
        if deadline.passed() {
            return Err(Error::Timeout);
        }
        // Nothing was ready. What has come since makes the queues' descriptors readable again.
        queues.iter().for_each(|queue| queue.found_nothing());
        waits.iter().try_for_each(|waits| waits.check())?;
        // The descriptor of a queue whose waits are ended becomes readable; that of a process does not.
        let until = match has_processes {
            true => Deadline::At(deadline.slice(nap.ns())),
            false => deadline,
        };
        poll::readable(&fds, until)?;
        nap.ended(Slept::TimedOut);
        if let Some(index) = first_ready(things)? {
            return Ok(index);
        }
    }
}

/// The `part` of each of the things that has one.
fn each<'a, T>(
    things: &[Waitable<'a>],
    part: impl Fn(Waitable<'a>) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let found = things.iter().filter_map(|thing| part(*thing).transpose());
    found.collect()
}

fn first_ready(things: &[Waitable<'_>]) -> Result<Option<usize>> {
    for (index, thing) in things.iter().enumerate() {
        if thing.is_ready()? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
