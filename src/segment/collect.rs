//! Collecting what dead processes left: on demand, when memory runs out, and by the first creation in a
//! process.
//!
//! A service that is killed and started again would otherwise fill the directory: its objects have
//! other names each time, and no process opens the old ones. One look at a file takes a few
//! microseconds, but removing one takes about a millisecond for every 10 MiB of it. So the first
//! creation has a limit of time for looking and one for both, and a collection for lack of memory that
//! found nothing is not repeated before ten times the processor time that it took has passed.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Result;
use crate::sys::cancel::Shield;
use crate::sys::{self, clock, process, shm};

use super::attach_lock::AttachLock;
use super::attachment;
use super::companion;
use super::fifo;
use super::file::find;
use super::name::{self, FIFO, LIVENESS, PRIVATE, PUBLISHED};
use super::participants;
use super::stamp::Stamp;

/// What this library's files begin with.
const ALL: [&str; 4] = [PUBLISHED, PRIVATE, LIVENESS, FIFO];

/// How long the first creation may look, in nanoseconds.
const LOOK_NS: u64 = 5_000_000;
/// How long it may take altogether, when it finds much to remove.
const FIRST_NS: u64 = 50_000_000;
/// How many times the processor time of a look at everything that found nothing, to wait for the next.
const PAUSE: u64 = 10;

/// Removes what killed processes left: ephemeral objects that no process has open, and files whose
/// creation was cut short. Returns their names; with `dry_run` it removes nothing.
///
/// Never touches a persistent object, one in use, another user's, or a file that is not
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

/// [`gc`] that tells each name when it is removed, and goes on while `goes_on` says so: for programs that
/// show how far it is, or may be asked to end. Removing takes about a millisecond for every 10 MiB.
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
    last(&mut files);
    for file in files {
        if collect(&file, dry_run)? && !is_no_object(&file) {
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
/// A process that has the attach lock may have asked already whether others are attached, when the caller
/// still was. So the caller waits for it, and asks after it.
pub(crate) fn sweep(name: &str) -> Result<()> {
    let file = name::file_of(name)?;
    collect_one(&file, false, true).map(drop)
}

/// Collects for a while, once in a process and those forked from it.
pub(super) fn before_the_first_creation() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.load(Ordering::Relaxed) && !DONE.swap(true, Ordering::Relaxed) {
        collect_for(LOOK_NS, FIRST_NS);
    }
}

/// Collects because there was no room for something. Whether there may be now.
///
/// The caller may have locked an object: no process that has an attach lock waits for one.
pub(super) fn make_room() -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let _shield = Shield::new();
    if clock::now_ns() < NEXT.load(Ordering::Relaxed) {
        return false;
    }
    // Processor time: on a busy machine the pause would otherwise grow with the time that other
    // programs took, and what died meanwhile would stay.
    let start = clock::thread_ns();
    let found = collect_for(u64::MAX, u64::MAX);
    if !found {
        let took = clock::thread_ns().saturating_sub(start);
        NEXT.store(clock::now_ns() + PAUSE * took, Ordering::Relaxed);
    }
    found
}

/// Collects for `look` nanoseconds, not counting the time that removing takes, and for `most`
/// altogether. Whether anything was removed.
///
/// It begins anywhere: where there is not the time to look at everything, the next process looks at
/// other files.
fn collect_for(look: u64, most: u64) -> bool {
    let start = clock::now_ns();
    let Ok(mut files) = shm::files(&ALL, Some(start.saturating_add(look / 2))) else {
        return false;
    };
    if !files.is_empty() {
        let [random] = process::random();
        let first = random % files.len() as u64;
        files.rotate_left(first as usize);
        last(&mut files);
    }
    let (mut removing, mut found) = (0, false);
    for file in &files {
        let before = clock::now_ns();
        let taken = before - start;
        if taken >= most || taken - removing >= look {
            break;
        }
        if matches!(collect(file, false), Ok(true)) {
            removing += clock::now_ns() - before;
            found = true;
        }
    }
    found
}

/// Liveness files come after the objects whose participants are in them.
fn last(files: &mut [String]) {
    files.sort_by_key(|file| is_no_object(file));
}

/// A liveness file, or the FIFO of an object.
fn is_no_object(file: &str) -> bool {
    [LIVENESS, FIFO]
        .iter()
        .any(|prefix| file.starts_with(prefix))
}

/// Removes `file` if it is ephemeral or unfinished and this user's, and no process is attached to it or
/// about to be.
fn collect(file: &str, dry_run: bool) -> Result<bool> {
    collect_one(file, dry_run, false)
}

/// [`collect`], which does not wait for a process that has the attach lock, or `waits` a while.
fn collect_one(file: &str, dry_run: bool, waits: bool) -> Result<bool> {
    // No child of another thread's fork may inherit a file's attach lock.
    let _attachments = attachment::attachments();
    if file.starts_with(FIFO) {
        return Ok(fifo::is_orphan(file) && (dry_run || sys::fifo::remove(file)));
    }
    let Some((open, near, stamp)) = collectable(file) else {
        return Ok(false);
    };
    let fd = open.as_fd();
    let lock = match waits {
        true => AttachLock::acquire_soon(fd)?,
        false => AttachLock::try_acquire(fd)?,
    };
    let Some(_lock) = lock else {
        return Ok(false);
    };
    if participants::is_held(&open, near)? {
        return Ok(false);
    }
    if dry_run || !shm::names(file, fd) {
        return Ok(shm::names(file, fd));
    }
    if let Some(stamp) = stamp {
        fifo::remove(file, stamp.fifos());
        companion::remove(file, stamp.companions());
    }
    Ok(shm::unlink_if_same(file, fd))
}

/// The open file, if it may be removed once it is dead; whether its processes are of this one's pid
/// namespace; and its stamp, if it has one.
fn collectable(file: &str) -> Option<(File, bool, Option<Stamp>)> {
    if let Some(name) = file.strip_prefix(PUBLISHED) {
        let (open, stamp) = find(name, file).ok()?;
        return (!stamp.persistent()).then_some((open, stamp.is_near(), Some(stamp)));
    }
    let open = shm::open_file(file).ok()?;
    let facts = open.metadata().ok()?;
    let is_ours = facts.is_file() && shm::check_user(file, &facts).is_ok();
    is_ours.then_some((open, false, None))
}
