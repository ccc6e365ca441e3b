//! A fixed number of items of a fixed size, which processes read and write in place, with an optional
//! lock.
//!
//! ```text
//! offset  size  field   written by  invariant
//!      0    64  lock    its owner   recursive, see `primitives`
//!     64     8  item    creator     A1: constant; at least 1
//!     72     8  count   creator     A1: constant; item * count bytes lie behind the header
//!     80    16  format  creator     constant; a short text that describes an item, or zeros
//!    128        data    any process
//! ```
//! All memory is committed at creation, so that writing to an item never raises SIGBUS. The library returns
//! the address and does not read what is written: a kill leaves what was stored.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::copy::copy;
use crate::error::{Error, Result};
use crate::layout::{Offset, Shared, SharedRef};
use crate::segment::{
    Inspector, Kind, ObjectContents, Options, Section, Segment, Snapshot, Spec, shared_object,
};
use crate::sync::{Acquisition, EndWaits, LockCell, WaitPolicy, Waits};
use crate::sys::clock::{Deadline, IntoTimeout};

#[repr(C)]
struct ArrayHeader {
    lock: LockCell,
    item: AtomicU64,
    count: AtomicU64,
    format: [AtomicU64; 2],
}

const _: () = assert!(size_of::<LockCell>() == 64);
const _: () = assert!(std::mem::offset_of!(ArrayHeader, format) == 80);
const _: () = assert!(size_of::<ArrayHeader>() as u64 <= DATA);

// SAFETY: `repr(C)`, atomics and a shared structure only.
unsafe impl Shared for ArrayHeader {}

/// Where the items begin, counted from the header.
const DATA: u64 = 128;
/// The address space of every supported machine has room for this.
const LARGEST: u64 = 1 << 45;
/// The longest format, in bytes.
const FORMAT: usize = 16;

const LAYOUT: u64 = 0x4152_5259_0000_0002;

/// What an array holds, read from its file without opening the array.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        let copy = Snapshot::read(file, Segment::DATA, size_of::<ArrayHeader>())?;
        let header: &ArrayHeader = copy.get(0)?;
        let count = header.count.load(Ordering::Relaxed);
        let item = header.item.load(Ordering::Relaxed);
        let mut found = ObjectContents {
            len: Some(count),
            bytes: Some(count.saturating_mul(item)),
            ..ObjectContents::default()
        };
        found.holds("lock", header.lock.owner(), 1);
        found.sleeps("waiters", header.lock.has_sleepers());
        Ok(found)
    },
};

/// Items of one size that any number of processes share, and a recursive lock.
///
/// The items are plain memory, zeros at first, at the address that [`as_ptr`](Self::as_ptr) returns. The lock
/// is optional; a process that reads or writes more than one word at a time should take it. The death of its
/// owner frees it, and [`owner_died`](ArrayGuard::owner_died) is true for the next owner: what was being written
/// may be half written.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`; a child does not have its parent's
/// lock. Dropping the last handle of all processes removes the array, unless it was created
/// [persistent](Options::persistent).
///
/// ```
/// use shoal::{Array, Options, Timeout};
///
/// let array = Array::with_options(None, 8, 100, "d", &Options::create())?;
/// let same = Array::open(array.name())?; // in another process, usually
///
/// array.lock(Timeout::Infinite)?.write(8 * 7, &1.5f64.to_ne_bytes())?;
/// let mut item = [0; 8];
/// same.lock(Timeout::Infinite)?.read(8 * 7, &mut item)?;
/// assert_eq!(f64::from_ne_bytes(item), 1.5);
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Array {
    header: SharedRef<ArrayHeader>,
    data: NonNull<u8>,
    // The values that were checked: other processes may have written to the header since.
    item: u64,
    count: u64,
    len: usize,
    format: String,
    policy: WaitPolicy,
    // Last: the header and the data lie in it.
    segment: Segment,
}

// SAFETY: the data is shared memory, to which this type never makes a reference.
unsafe impl Send for Array {}
// SAFETY: as for `Send`.
unsafe impl Sync for Array {}

shared_object!(Array, "array", |it| &it.segment);

impl Array {
    /// Opens the array `name`.
    ///
    /// # Errors
    /// As for [`Map::open`](crate::Map::open).
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), 0, 0, "", &Options::open())
    }

    /// Opens the array `name`, or creates one of `count` items of `item` bytes, which `format`
    /// describes in up to 16 bytes. Without a name it is always created.
    ///
    /// If the array exists, each of `item`, `count` and `format` that is not 0 or empty has to agree
    /// with it.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// for an array that differs, items of 0 bytes, and options that an array does not have;
    /// `TooLarge` for more than 2^45 bytes, `TooMany` for more than 2^64.
    pub fn with_options(
        name: Option<&str>,
        item: u64,
        count: u64,
        format: &str,
        options: &Options,
    ) -> Result<Self> {
        if options.creates(name) && item == 0 {
            return Err(Error::invalid("item size", "an item has at least 1 byte"));
        }
        if format.len() > FORMAT {
            return Err(Error::TooLarge {
                what: "format",
                size: format.len() as u64,
                limit: FORMAT as u64,
            });
        }
        if format.contains('\0') {
            return Err(Error::invalid("format", "it contains a NUL byte"));
        }
        if item > LARGEST {
            return Err(Error::TooLarge {
                what: "item",
                size: item,
                limit: LARGEST,
            });
        }
        let size = item.checked_mul(count).ok_or(Error::TooMany {
            what: "number of items",
            count,
            limit: LARGEST / item.max(1),
        })?;
        if size > LARGEST {
            return Err(Error::TooLarge {
                what: "array",
                size,
                limit: LARGEST,
            });
        }
        let whole = (DATA + size).next_multiple_of(4096);
        let spec = Spec {
            kind: Kind::Array,
            layout: LAYOUT,
            size: Segment::DATA + whole,
            commit: whole,
            section: Section::ALL,
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            let header = segment
                .region()
                .keep::<ArrayHeader>(Offset::new(Segment::DATA))?;
            header.lock.init(true);
            header.item.store(item, Ordering::Relaxed);
            header.count.store(count, Ordering::Relaxed);
            for (word, part) in header.format.iter().zip(padded(format).chunks_exact(8)) {
                let part = part.try_into().unwrap_or_default();
                word.store(u64::from_ne_bytes(part), Ordering::Relaxed);
            }
            Ok(())
        })?;
        let array = Self::attach(segment)?;
        array.check(item, count, format)?;
        Ok(array)
    }

    fn attach(segment: Segment) -> Result<Self> {
        let region = segment.region();
        let header = region.keep::<ArrayHeader>(Offset::new(Segment::DATA))?;
        let (item, count) = (
            header.item.load(Ordering::Relaxed),
            header.count.load(Ordering::Relaxed),
        );
        let len = item.checked_mul(count).filter(|_| item > 0);
        let len = len.ok_or_else(|| Error::corrupt("A1: an array's sizes make no sense"))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let data = region.span(Segment::DATA + DATA, len)?;
        let words = [0, 1].map(|at: usize| header.format[at].load(Ordering::Relaxed));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Self {
            header,
            data,
            item,
            count,
            len,
            format: String::from_utf8_lossy(text).into_owned(),
            policy: WaitPolicy::default(),
            segment,
        })
    }

    /// An error if the array differs from what the caller asked for.
    fn check(&self, item: u64, count: u64, format: &str) -> Result<()> {
        for (what, wanted, found) in [
            ("item size", item, self.item_size()),
            ("count", count, self.count()),
        ] {
            if wanted != 0 && wanted != found {
                let why = format!("{:?} has {found}, not {wanted}", self.name());
                return Err(Error::invalid(what, why));
            }
        }
        if !format.is_empty() && format != self.format {
            let why = format!("{:?} has {:?}, not {format:?}", self.name(), self.format);
            return Err(Error::invalid("format", why));
        }
        Ok(())
    }

    /// Bytes of an item.
    pub fn item_size(&self) -> u64 {
        self.item
    }

    /// How many items there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The description of an item that the creator gave.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// The address of the first item, aligned to 128 bytes. Other processes may write there at any time, so
    /// make no references to it. It is valid while this handle exists.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// Bytes of all items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the lock, waiting until `timeout`. A thread may take it again.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Detached` when it would have to wait and
    /// the [waits through this handle](Self::end_waits) were ended.
    pub fn lock(&self, timeout: impl IntoTimeout) -> Result<ArrayGuard<'_>> {
        let taken = self.acquire(timeout)?;
        Ok(ArrayGuard {
            array: self,
            me: self.segment.me(),
            taken,
            _of_its_thread: PhantomData,
        })
    }

    /// Takes the lock, as [`lock`](Self::lock); the caller has to [`release`](Self::release) it.
    ///
    /// # Errors
    /// As for [`lock`](Self::lock).
    pub fn acquire(&self, timeout: impl IntoTimeout) -> Result<Acquisition> {
        let deadline = Deadline::after(timeout);
        self.header
            .lock
            .acquire(self.segment.peers(), &self.policy, deadline)
    }

    /// How many levels of the lock the calling thread has.
    pub fn lock_depth(&self) -> u32 {
        self.header.lock.depth(self.segment.me())
    }

    /// Releases one level of the lock.
    ///
    /// # Errors
    /// `Invalid` if this thread does not have it.
    pub fn release(&self) -> Result<()> {
        self.header.lock.release(self.segment.me())
    }

    fn span(&self, offset: usize, len: usize) -> Result<NonNull<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let why = format!("{len} bytes at {offset} are not within {}", self.len);
            return Err(Error::invalid("offset", why));
        }
        // SAFETY: within the data, checked above.
        Ok(unsafe { self.data.add(offset) })
    }
}

impl EndWaits for Array {
    fn end_waits(&self) {
        self.policy.waits.end(self.header.lock.handoff().events());
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Array")
            .field("name", &self.name())
            .field("count", &self.count())
            .field("item_size", &self.item_size())
            .field("format", &self.format)
            .finish()
    }
}

fn padded(format: &str) -> [u8; FORMAT] {
    let mut bytes = [0; FORMAT];
    for (to, from) in bytes.iter_mut().zip(format.bytes()) {
        *to = from;
    }
    bytes
}

/// An array whose lock this thread has; released when dropped.
///
/// The lock is the thread's, so the guard stays in it:
///
/// ```compile_fail,E0277
/// # use shoal::{Array, Options, Timeout};
/// # let array = Array::with_options(None, 1, 8, "B", &Options::create()).unwrap();
/// let guard = array.lock(Timeout::Infinite).unwrap();
/// std::thread::scope(|scope| scope.spawn(|| guard.write(0, b"x")).join());
/// ```
#[derive(Debug)]
#[must_use]
pub struct ArrayGuard<'a> {
    array: &'a Array,
    me: u64,
    taken: Acquisition,
    // Not `Send`, because only this thread can release the lock. Not `Sync`, because two threads that share
    // a guard would write at the same time.
    _of_its_thread: PhantomData<*mut ()>,
}

impl ArrayGuard<'_> {
    /// Whether the previous owner died with the lock.
    pub fn owner_died(&self) -> bool {
        self.taken == Acquisition::OwnerDied
    }

    /// Copies bytes from `offset` on.
    ///
    /// # Errors
    /// `Invalid` if they are not within the array, or if the lock was [released](Array::release) meanwhile.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let from = self.locked_span(offset, to.len())?;
        // SAFETY: a span of the mapping, and the caller's own memory. This thread has the lock, so no other
        // guard of this process writes there. If a process writes there without the lock, the bytes are
        // arbitrary.
        unsafe { copy(from, NonNull::from(&mut *to).cast(), to.len()) };
        Ok(())
    }

    /// Copies bytes to `offset` and on.
    ///
    /// # Errors
    /// `Invalid` if they do not fit there, or if the lock was [released](Array::release) meanwhile; nothing is
    /// then written.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        let to = self.locked_span(offset, from.len())?;
        // SAFETY: as for `read`.
        unsafe { copy(NonNull::from(from).cast(), to, from.len()) };
        Ok(())
    }

    /// A span of the items. An error if this thread has the lock no longer: safe code can release it beside
    /// the guard, and in a forked child it is the parent's.
    fn locked_span(&self, offset: usize, len: usize) -> Result<NonNull<u8>> {
        if !self.array.header.lock.is_mine(self.array.segment.me()) {
            let why = "it was released while there was a guard, or is the parent's";
            return Err(Error::invalid("lock of an array", why));
        }
        self.array.span(offset, len)
    }
}

impl Drop for ArrayGuard<'_> {
    fn drop(&mut self) {
        // In a forked child, the lock is its parent's; the child may have taken it itself by then.
        if self.array.segment.me() == self.me {
            let _ = self.array.release();
        }
    }
}
