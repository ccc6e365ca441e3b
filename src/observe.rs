//! Looking at objects without opening them: for programs that observe.

use std::fs::File;

use crate::error::Result;
use crate::segment::{Inspector, Kind, Looked, Looker, ObjectContents, ObjectInfo, published};
use crate::{array, list, map, pipe, primitives, queue};

/// What can be said of an object from outside: see [`observe`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// What its file, its stamp and its participants say.
    pub info: ObjectInfo,
    /// What it holds; `None` for a file that is no object, or one of a layout that this library does
    /// not know.
    pub contents: Option<ObjectContents>,
}

/// What the object `name` holds, and which processes hold it.
///
/// The object is not opened, mapped, locked or changed: no other process notices, and a stuck or dead
/// object can be looked at as well. It does not wait. A look takes some 10 us, and some 2 us more
/// for each process that is attached.
///
/// ```
/// let queue = shoal::Queue::anonymous()?;
/// queue.put(b"hello", shoal::Timeout::Infinite)?;
/// let contents = shoal::observe(queue.name())?.contents.unwrap();
/// assert_eq!((contents.len, contents.bytes), (Some(1), Some(5)));
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Errors
/// `NotFound`, `Invalid` name. An object that cannot be opened is no error: see
/// [`ObjectInfo::problem`].
pub fn observe(name: &str) -> Result<Observation> {
    Looker::default().look_at(name).map(observation)
}

/// [`observe`] for each object of [`list`](crate::list()), in the order of their names.
///
/// ```
/// let event = shoal::Event::anonymous()?;
/// let all = shoal::observe_all()?;
/// assert!(all.iter().any(|it| it.info.name == event.name()));
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Errors
/// As for [`list`](crate::list()).
pub fn observe_all() -> Result<Vec<Observation>> {
    let mut looker = Looker::default();
    let files = published()?;
    let looked = files.iter().map(|file| looker.look(file));
    Ok(looked.filter_map(|it| it.ok().map(observation)).collect())
}

fn observation(Looked { info, open }: Looked) -> Observation {
    let contents = match (info.kind, open) {
        (Some(kind), Some((file, stamp))) => {
            let Inspector { layout, inspect } = inspector(kind);
            let known = stamp.check_kind(&info.name, kind, layout).is_ok();
            known.then(|| contents(&file, inspect, &info)).flatten()
        }
        _ => None,
    };
    Observation { info, contents }
}

fn contents(
    file: &File,
    inspect: fn(&File) -> Result<ObjectContents>,
    info: &ObjectInfo,
) -> Option<ObjectContents> {
    let mut found = inspect(file).ok()?;
    for holder in &mut found.holders {
        let mut living = info.participants.iter();
        let it = living.find(|it| (it.slot, it.generation) == (holder.slot, holder.generation));
        holder.pid = it.map(|it| it.pid);
    }
    Some(found)
}

fn inspector(kind: Kind) -> Inspector {
    match kind {
        Kind::Queue => queue::INSPECTOR,
        Kind::Map => map::INSPECTOR,
        Kind::List => list::INSPECTOR,
        Kind::Pipe => pipe::INSPECTOR,
        Kind::Array => array::INSPECTOR,
        Kind::Lock => primitives::lock::INSPECTOR,
        Kind::Semaphore => primitives::semaphore::INSPECTOR,
        Kind::Event => primitives::event::INSPECTOR,
        Kind::Condition => primitives::condition::INSPECTOR,
        Kind::Barrier => primitives::barrier::INSPECTOR,
        Kind::RwLock => primitives::rwlock::INSPECTOR,
    }
}
