//! Waiting for whichever of several queues and processes is ready first.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::process::Process;
use crate::queue::Queue;
use crate::sync::{Nap, Slept, WaitPolicy, Waits};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::poll;

/// What this process has learned about waiting for several things.
static WAITS: WaitPolicy = WaitPolicy::new();

/// To look at more things than this, again and again, costs more than to sleep.
const FEW: usize = 16;

/// Something to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Waitable<'a> {
    /// Ready when there is something to take, and once it is closed or poisoned.
    Queue(&'a Queue),
    /// Ready once it has ended. It is not joined by that.
    Process(&'a Process),
}

impl Waitable<'_> {
    fn waits(&self) -> &Waits {
        match self {
            Waitable::Queue(queue) => queue.waits(),
            Waitable::Process(process) => process.waits(),
        }
    }

    fn is_ready(&self) -> Result<bool> {
        match self {
            Waitable::Queue(queue) => Ok(queue.is_ready()),
            // Without a descriptor it was gone before there could be one.
            Waitable::Process(process) => process
                .pidfd()
                .map_or(Ok(true), |fd| poll::readable(&[fd], Deadline::Now)),
        }
    }
}

/// Waits until one of these is ready, and returns the index of the first that is.
///
/// "First" is by its place among `things`: if one of the first is always ready, the later ones are
/// never returned. A caller that wants each of them to get its share changes the order from call
/// to call, or tries each of the others with a timeout of zero.
///
/// A queue that was ready may be empty by the time the caller takes from it, if others take
/// from it too: use a `get` that does not wait. A process that has ended may have put a message
/// just before: look into its queue once more.
///
/// Waits until `timeout`; zero only looks. Any number of threads may wait for the same things.
/// In a forked child it works as in its parent, on handles of both. The queues get
/// [descriptors](Queue::fd), unless there is something ready at once.
///
/// # Errors
/// `Timeout`: none was ready in time, with a timeout of zero too. `Interrupted`: a signal
/// handler ran while waiting. `Detached`: the [waits](Queue::end_waits) through one of the handles
/// were ended. `Invalid`: there is nothing to wait for. `Os`: no descriptor or
/// thread is to be had.
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
pub fn wait_any(things: &[Waitable<'_>], timeout: Timeout) -> Result<usize> {
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
    let arrived = || queues(things).any(Queue::has_arrived);
    if things.len() <= FEW
        && WAITS.spin(arrived)
        && let Some(index) = first_ready(things)?
    {
        return Ok(index);
    }
    let fds = descriptors(things)?;
    let has_processes = things
        .iter()
        .any(|thing| matches!(thing, Waitable::Process(_)));
    let mut nap = Nap::FIRST;
    loop {
        if deadline.passed() {
            return Err(Error::Timeout);
        }
        let _inside: Vec<_> = things.iter().map(|thing| thing.waits().enter()).collect();
        // There was nothing. What has come since makes them readable again.
        queues(things).for_each(Queue::found_nothing);
        if let Some(ended) = things.iter().find(|thing| thing.waits().is_ended()) {
            return Err(ended.waits().detached());
        }
        // A queue whose waits are ended becomes readable; a process cannot.
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

fn first_ready(things: &[Waitable<'_>]) -> Result<Option<usize>> {
    for (index, thing) in things.iter().enumerate() {
        if thing.is_ready()? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn queues<'a>(things: &[Waitable<'a>]) -> impl Iterator<Item = &'a Queue> {
    things.iter().filter_map(|thing| match *thing {
        Waitable::Queue(queue) => Some(queue),
        Waitable::Process(_) => None,
    })
}

fn descriptors<'a>(things: &[Waitable<'a>]) -> Result<Vec<BorrowedFd<'a>>> {
    let each = things.iter().filter_map(|thing| match *thing {
        Waitable::Queue(queue) => Some(queue.fd()),
        Waitable::Process(process) => process.pidfd().map(Ok),
    });
    each.collect()
}
