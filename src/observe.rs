//! Inspecting objects without opening them: for programs that observe.

use std::fs::File;

use crate::error::Result;
use crate::segment::{
    Inspector, Kind, ObjectContents, ObjectInfo, ObjectStat, Stamp, StatCache, published,
};
use crate::{array, list, map, pipe, primitives, queue};

/// Facts about an object, read from outside: see [`observe`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// Facts from its file, its stamp and its participants.
    pub info: ObjectInfo,
    /// What it holds; `None` for a file that is not an object, or has a layout that this library does not
    /// know.
    pub contents: Option<ObjectContents>,
}

/// What the object `name` holds, and which processes hold it.
///
/// The object is not opened, mapped, locked or changed. So no other process is affected, and an object that
/// processes wait for in vain, or that no process uses, can be inspected as well. It does not wait. It takes some
/// 10 us, and some 2 us more for each attached process.
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
/// `NotFound`, `Invalid` name. An object that cannot be opened is not an error: see [`ObjectInfo::problem`].
pub fn observe(name: &str) -> Result<Observation> {
    let mut cache = StatCache::default();
    let stat = cache.stat(name)?;
    Ok(Opened::new(stat).observation(&mut cache))
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
    Observer::new(0).look()
}

/// Inspects all objects repeatedly, for programs that show them live.
///
/// It keeps the files of some objects open, so that the next [`look`](Self::look) takes less than half of the
/// time. Each look reads what an object holds. It reads the object's processes and its memory only every
/// eighth time, and when an unknown process holds something.
///
/// ```
/// let mut observer = shoal::Observer::new(100);
/// let queue = shoal::Queue::anonymous()?;
/// for put in 0..3 {
///     let all = observer.look()?;
///     let seen = all.iter().find(|it| it.info.name == queue.name()).unwrap();
///     assert_eq!(seen.contents.as_ref().unwrap().len, Some(put));
///     queue.put(b"x", shoal::Timeout::Infinite)?;
/// }
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Limits
/// The memory of a removed object is given back at the next look. After a `fork`, both processes may look.
/// Dropping the observer closes the files.
#[derive(Debug)]
pub struct Observer {
    /// How many files are kept open at most.
    most: usize,
    /// Objects whose files are open, in the order of the files' names.
    kept: Vec<Kept>,
    looks: usize,
}

/// An object whose file is kept open.
#[derive(Debug)]
struct Kept {
    name: String,
    inode: u64,
    /// Its processes are read at this one of every [`CYCLE`] looks.
    phase: usize,
    opened: Opened,
}

/// Processes are read at one of this many looks.
const CYCLE: usize = 8;

impl Observer {
    /// Keeps at most `files` files open; those of further objects are opened for each look.
    pub fn new(files: usize) -> Self {
        Self {
            most: files,
            kept: Vec::new(),
            looks: 0,
        }
    }

    /// All objects, in the order of their names. It does not wait.
    ///
    /// # Errors
    /// As for [`list`](crate::list()).
    pub fn look(&mut self) -> Result<Vec<Observation>> {
        let mut cache = StatCache::default();
        // Files that are not kept again belong to removed objects: they are closed.
        let mut before = std::mem::take(&mut self.kept).into_iter().peekable();
        self.looks = self.looks.wrapping_add(1);
        let files = published()?;
        let mut seen = Vec::with_capacity(files.len());
        self.kept.reserve(files.len().min(self.most));
        for (file, inode) in files {
            while before.next_if(|it| it.name < file).is_some() {}
            let kept = before.next_if(|it| it.name == file && it.inode == inode);
            let mut kept = match kept {
                Some(mut kept) => {
                    if kept.phase == self.looks % CYCLE {
                        kept.opened.refresh(&mut cache);
                    }
                    kept
                }
                None => match cache.stat_file(&file) {
                    Ok(stat) => Kept {
                        name: file,
                        inode,
                        phase: seen.len() % CYCLE,
                        opened: Opened::new(stat),
                    },
                    // The object was removed meanwhile.
                    Err(_) => continue,
                },
            };
            seen.push(kept.opened.observation(&mut cache));
            // A file that cannot be opened is tried again each time.
            if kept.opened.file.is_some() && self.kept.len() < self.most {
                self.kept.push(kept);
            }
        }
        Ok(seen)
    }
}

/// An object's facts, with its file if its contents can be read.
#[derive(Debug)]
struct Opened {
    info: ObjectInfo,
    file: Option<(File, Stamp, Inspect)>,
}

/// Reads the contents.
type Inspect = fn(&File) -> Result<ObjectContents>;

impl Opened {
    fn new(ObjectStat { info, open }: ObjectStat) -> Self {
        let file = info.kind.zip(open).and_then(|(kind, (file, stamp))| {
            let Inspector { layout, inspect } = inspector(kind);
            let known = stamp.check_kind(&info.name, kind, layout).is_ok();
            known.then_some((file, stamp, inspect))
        });
        Self { info, file }
    }

    /// Updates processes and memory.
    fn refresh(&mut self, cache: &mut StatCache) {
        if let Some((file, stamp, _)) = &self.file {
            cache.refresh(&mut self.info, file, stamp);
        }
    }

    fn observation(&mut self, cache: &mut StatCache) -> Observation {
        let mut contents = self.contents();
        // A holder that is not known may have attached since the last update, and need not be dead.
        let is_dead = |it: &ObjectContents| it.holders.iter().any(|it| it.pid.is_none());
        if contents.as_ref().is_some_and(is_dead) {
            self.refresh(cache);
            contents = self.contents();
        }
        Observation {
            info: self.info.clone(),
            contents,
        }
    }

    fn contents(&self) -> Option<ObjectContents> {
        let (file, _, inspect) = self.file.as_ref()?;
        let mut found = inspect(file).ok()?;
        for holder in &mut found.holders {
            let mut living = self.info.participants.iter();
            let it = living.find(|it| (it.slot, it.generation) == (holder.slot, holder.generation));
            holder.pid = it.map(|it| it.pid);
        }
        Some(found)
    }
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
