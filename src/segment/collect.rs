//! Collecting what dead processes left: on demand, when memory runs out, and by the first creation in a
//! process.
//!
//! Otherwise a service that is killed and started again would fill the directory: its objects have other
//! names each time, and no process opens the old ones. Checking a file takes a few microseconds, but removing
//! one takes about a millisecond for every 10 MiB. So the first creation has a time limit for checking and
//! one for both, and a collection for lack of memory that found nothing is repeated only after ten times the
//! processor time that it took. A program that reports what is there switches both off.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Result, Status};
use crate::sync::crash::crash_point;
use crate::sys::cancel::Shield;
use crate::sys::{self, clock, process, shm};

use super::attach_lock::AttachLock;
use super::attachment;
use super::fifo;
use super::file::{find, stamp_of};
use super::name::{self, FIFO, LIVENESS, PRIVATE, PUBLISHED};
use super::participants;
use super::stamp::Stamp;

/// The prefixes of this library's files.
const ALL: [&str; 4] = [PUBLISHED, PRIVATE, LIVENESS, FIFO];

/// How long the first creation may check files, in nanoseconds.
const SCAN_NS: u64 = 5_000_000;
/// How long it may take altogether, when it finds much to remove.
const FIRST_NS: u64 = 50_000_000;
/// After a collection that found nothing, the next one waits this many times the processor time that it took.
const PAUSE: u64 = 10;

/// Removes what killed processes left: ephemeral objects that no process has open, and files whose
/// creation was cut short. Returns their names; with `dry_run` it removes nothing.
///
/// Never touches a persistent object, one that has a relay, one in use, another user's, or a file that is not
/// recognised as an object. Objects of other versions of this library and of other pid namespaces
/// are recognised.
///
/// # Errors
/// `Unsupported` if there is no directory of objects; `Permission` if it cannot be read.
pub fn gc(dry_run: bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    gc_each(dry_run, |name| {
        removed.push(name.to_owned());
        true
    })?;
    Ok(removed)
}

/// [`gc`], with a call of `goes_on` for each name that is removed. It stops when that returns false: for
/// programs that show progress or can be interrupted. Removing takes about a millisecond for every 10 MiB.
///
/// ```
/// let mut count = 0;
/// shoal::gc_each(true, |_name| {
///     count += 1;
///     count < 100
/// })?;
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Errors
/// As for [`gc`].
pub fn gc_each(dry_run: bool, mut goes_on: impl FnMut(&str) -> bool) -> Result<()> {
    let mut files = shm::files(&ALL, None)?;
    files.sort();
    auxiliary_last(&mut files);
    for file in files {
        if collect(&file, dry_run)? && !is_auxiliary(&file) {
            let name = file.strip_prefix(PUBLISHED).unwrap_or(&file);
            if !goes_on(name) {
                break;
            }
        }
    }
    Ok(())
}

/// Removes the ephemeral object `name` if no process is attached to it.
///
/// A process that has the attach lock may have checked whether others are attached while the caller still
/// was. So the caller waits for that process, and then checks.
pub(crate) fn sweep(name: &str) -> Result<()> {
    let file = name::file_of(name)?;
    let sweep = |is_last: bool| Ok(collect_one(&file, false)?.or(is_last.then_some(false)));
    attachment::retry_while_busy(attachment::LEAVING_NS, |_, is_last| sweep(is_last)).map(drop)
}

/// Whether this process collects by itself. See [`collect_nothing`].
static IS_OFF: AtomicBool = AtomicBool::new(false);

/// From now on, this process collects only when [`gc`] is called: for programs that report what killed processes
/// left, and create an object of their own.
#[doc(hidden)]
pub fn collect_nothing() {
    IS_OFF.store(true, Ordering::Relaxed);
}

/// Collects for a limited time, once in a process and those forked from it.
pub(super) fn before_the_first_creation() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) && !DONE.swap(true, Ordering::Relaxed) {
        collect_for(SCAN_NS, FIRST_NS);
    }
}

/// Collects because memory ran out. True if there may be room now.
///
/// The caller may have locked an object: no process waits for such a lock while it has an attach lock.
pub(super) fn make_room() -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let _shield = Shield::new();
    if clock::now_ns() < NEXT.load(Ordering::Relaxed) {
        return false;
    }
    // Processor time: on a busy machine, the pause would otherwise grow with the time that other programs
    // take, and what processes that die meanwhile leave would not be collected.
    let start = clock::thread_ns();
    let found = collect_for(u64::MAX, u64::MAX);
    if !found {
        let took = clock::thread_ns().saturating_sub(start);
        NEXT.store(clock::now_ns() + PAUSE * took, Ordering::Relaxed);
    }
    found
}

/// Calls `act`, which needs memory. If there is none, collects and calls it once more. The caller must not hold
/// the lock under which this process attaches and leaves.
pub(super) fn with_room<T>(act: impl Fn() -> Result<T>) -> Result<T> {
    match act() {
        Err(err) if err.status() == Status::ErrNoSpace && make_room() => act(),
        done => done,
    }
}

/// Collects for `scan` nanoseconds, not counting the time for removals, and for `most` altogether. Returns
/// whether anything was removed.
///
/// Begins at a random file: if time does not suffice for all, the next process checks other files.
fn collect_for(scan: u64, most: u64) -> bool {
    if IS_OFF.load(Ordering::Relaxed) {
        return false;
    }
    let start = clock::now_ns();
    let Ok(mut files) = shm::files(&ALL, Some(start.saturating_add(scan / 2))) else {
        return false;
    };
    if !files.is_empty() {
        let [random] = process::random();
        let first = random % files.len() as u64;
        files.rotate_left(first as usize);
        auxiliary_last(&mut files);
    }
    let (mut removing, mut found) = (0, false);
    for file in &files {
        let before = clock::now_ns();
        let taken = before - start;
        if taken >= most || taken - removing >= scan {
            break;
        }
        if matches!(collect(file, false), Ok(true)) {
            removing += clock::now_ns() - before;
            found = true;
        }
    }
    found
}

/// Moves liveness files and FIFOs behind the objects that they belong to.
fn auxiliary_last(files: &mut [String]) {
    files.sort_by_key(|file| is_auxiliary(file));
}

/// Whether a file is a liveness file, or the FIFO of an object.
fn is_auxiliary(file: &str) -> bool {
    [LIVENESS, FIFO]
        .iter()
        .any(|prefix| file.starts_with(prefix))
}

/// Removes `file` if it is this user's, ephemeral or unfinished, and no process is attached to it or about to
/// be.
fn collect(file: &str, dry_run: bool) -> Result<bool> {
    // No child of another thread's fork may inherit a file's attach lock.
    let _attachments = attachment::attachments();
    Ok(collect_one(file, dry_run)? == Some(true))
}

/// [`collect`], where the caller has the lock of the attachments. `None` if another process has the attach lock.
fn collect_one(file: &str, dry_run: bool) -> Result<Option<bool>> {
    if file.starts_with(FIFO) {
        let removed = fifo::is_orphan(file) && (dry_run || sys::fifo::remove(file));
        return Ok(Some(removed));
    }
    let Some((open, same_namespace, stamp)) = collectable(file) else {
        return Ok(Some(false));
    };
    let fd = open.as_fd();
    let Some(_lock) = AttachLock::try_acquire(fd)? else {
        return Ok(None);
    };
    if participants::is_held(&open, same_namespace)? {
        return Ok(Some(false));
    }
    // Again, under the lock: a process may have given it companions since, and died.
    let stamp = match stamp {
        Some(_) => Some(stamp_of(file, &open)?),
        None => None,
    };
    if stamp.as_ref().is_some_and(Stamp::stays) {
        return Ok(Some(false));
    }
    if dry_run || !shm::names(file, fd) {
        return Ok(Some(shm::names(file, fd)));
    }
    if let Some(stamp) = stamp {
        fifo::remove(file, stamp.fifos());
    }
    crash_point!();
    Ok(Some(shm::unlink_if_same(file, fd)))
}

/// The open file, if it may be removed once it is dead; whether its participants are of this process's pid
/// namespace; and its stamp, if it has one.
fn collectable(file: &str) -> Option<(File, bool, Option<Stamp>)> {
    if let Some(name) = file.strip_prefix(PUBLISHED) {
        let (open, stamp) = find(name, file).ok()?;
        return (!stamp.stays()).then_some((open, stamp.has_our_namespace(), Some(stamp)));
    }
    let open = shm::open_file(file).ok()?;
    let facts = open.metadata().ok()?;
    let is_ours = facts.is_file() && shm::check_user(file, &facts).is_ok();
    is_ours.then_some((open, false, None))
}
