//! Options for opening an object of any kind.

use std::fmt;

use crate::error::{Error, Result};

/// The kinds of shared objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Kind {
    /// A [`Queue`](crate::Queue).
    Queue = 1,
    /// A [`Map`](crate::Map).
    Map = 2,
    /// A [`List`](crate::List).
    List = 3,
    /// A [`Pipe`](crate::Pipe).
    Pipe = 4,
    /// An [`Array`](crate::Array).
    Array = 5,
    /// A [`Lock`](crate::Lock).
    Lock = 8,
    /// A [`Semaphore`](crate::Semaphore).
    Semaphore = 9,
    /// An [`Event`](crate::Event).
    Event = 10,
    /// A [`Condition`](crate::Condition).
    Condition = 11,
    /// A [`Barrier`](crate::Barrier).
    Barrier = 12,
    /// A [`RwLock`](crate::RwLock).
    RwLock = 13,
}

impl Kind {
    const ALL: [Self; 11] = [
        Kind::Queue,
        Kind::Map,
        Kind::List,
        Kind::Pipe,
        Kind::Array,
        Kind::Lock,
        Kind::Semaphore,
        Kind::Event,
        Kind::Condition,
        Kind::Barrier,
        Kind::RwLock,
    ];

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Queue => "queue",
            Kind::Map => "map",
            Kind::List => "list",
            Kind::Pipe => "pipe",
            Kind::Array => "array",
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Event => "event",
            Kind::Condition => "condition",
            Kind::Barrier => "barrier",
            Kind::RwLock => "rwlock",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How to open an object: whether it may be created, for how long it lives, how big it is.
///
/// The default opens what exists. An object that exists keeps the sizes and the lifetime it
/// was created with, whatever the options say. An option that its kind does not have is `Invalid`.
///
/// ```
/// use shoal::{Options, Queue};
///
/// let options = Options::create().capacity(1 << 20);
/// let queue = Queue::with_options(None, &options)?;
/// assert_eq!(queue.capacity(), 1 << 20);
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Create the object if there is none of that name.
    pub create: bool,
    /// With `create`: fail with `Exists` if there is one.
    pub exclusive: bool,
    /// With `create`: the object stays until it is unlinked. Otherwise it is removed with its last handle, or
    /// stays for as long as it has a relay.
    pub persistent: bool,
    /// With `create`: bytes of data the object starts with; 0 for the default of its kind.
    pub capacity: u64,
    /// With `create`: bytes of data the object may grow to; 0 for the default of its kind.
    /// Address space only: no memory is used before it is needed.
    pub max_capacity: u64,
    /// With `create`, for a queue or a pipe: the most messages that were put and not taken; 0 for as many as fit.
    /// Leased messages are not counted, nor those that were given back: with them it may hold more.
    pub max_items: u64,
    /// With `create`, for a queue: how often a message is delivered before it is a dead letter; 0 for any
    /// number of times.
    pub max_attempts: u8,
    /// With `create`, for a map: iteration is in the order in which the keys were inserted. Each entry takes
    /// 8 bytes more, and an iteration begins by copying all keys.
    pub ordered: bool,
    /// With `create`, for a map: it has 4 parts with a lock each instead of 64. Empty it takes 12 KiB of memory
    /// instead of 48, and at most 4 processes change it at the same time.
    pub compact: bool,
}

impl Options {
    /// Opens what exists.
    pub fn open() -> Self {
        Self::default()
    }

    /// Opens what exists, and creates it otherwise.
    ///
    /// Besides the errors of each kind, creating fails with [`Error::NoSpace`] or [`Error::NoInodes`] where
    /// the file system of `/dev/shm` (or `SHOAL_DIR`) is full, even after removing what killed processes
    /// left; with [`Error::TooLarge`] beyond `ulimit -f` or `-v`; with [`Error::Permission`] where no file
    /// can be created in the directory; and with [`Error::Unsupported`] where there is no such directory, or
    /// its file system lacks something, which is named.
    pub fn create() -> Self {
        Self {
            create: true,
            ..Self::default()
        }
    }

    /// Fails if the object exists already.
    pub fn exclusive(mut self) -> Self {
        (self.create, self.exclusive) = (true, true);
        self
    }

    /// Makes the object outlive its processes. An object that has a [relay](crate::QueueRelay) does so anyway.
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Makes a map keep the order of insertion.
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Makes a map take less memory: for programs with many maps of a few keys each.
    pub fn compact(mut self) -> Self {
        self.compact = true;
        self
    }

    /// Sets the bytes of data to start with.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Sets the most messages that were put and not taken; see the field.
    pub fn max_items(mut self, messages: u64) -> Self {
        self.max_items = messages;
        self
    }

    /// Sets how often a message is delivered before it is moved to the
    /// [dead-letter queue](crate::Queue::dead_letters).
    pub fn max_attempts(mut self, times: u8) -> Self {
        self.max_attempts = times;
        self
    }

    /// Sets the bytes of data to grow to.
    pub fn max_capacity(mut self, bytes: u64) -> Self {
        self.max_capacity = bytes;
        self
    }

    /// Whether an object may be created under `name`: always without a name. Then the arguments that a new object
    /// needs have to be checked, and otherwise they have no meaning.
    pub(crate) fn creates(&self, name: Option<&str>) -> bool {
        self.create || name.is_none()
    }

    /// An error if an option is set that `kind` does not have.
    pub(super) fn check(&self, kind: Kind) -> Result<()> {
        use Kind::{List, Map, Pipe, Queue};
        let growing: &[Kind] = &[Queue, Map, List, Pipe];
        for (option, is_set, kinds) in [
            ("capacity", self.capacity != 0, growing),
            ("max_capacity", self.max_capacity != 0, growing),
            ("max_items", self.max_items != 0, &[Queue, Pipe]),
            ("max_attempts", self.max_attempts != 0, &[Queue]),
            ("ordered", self.ordered, &[Map]),
            ("compact", self.compact, &[Map]),
        ] {
            if is_set && !kinds.contains(&kind) {
                let why = format!("not an option of this kind of object: {kind}");
                return Err(Error::invalid(option, why));
            }
        }
        Ok(())
    }
}
