//! The list as programs see it.

use std::cmp::Ordering;
use std::ops::Range;

use super::core::{self, Core};
use super::iter::Iter;
use super::locked::{Locked, max_element};
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap};
use crate::segment::{self, Kind, Options, Section, Segment, Spec};
use crate::sync::EndWaits;
use crate::sys::limits;

/// A named sequence of byte strings that any number of processes read and write.
///
/// Every call is atomic, and what it did is there for everybody the moment it returns: an
/// [`extend`](Self::extend), a [`splice`](Self::splice) or a [`sort_by`](Self::sort_by) too
/// is seen wholly or not at all. Any process may be killed at any instruction: what it was
/// doing has then happened wholly or not at all, and nothing else is lost.
///
/// A handle is [`Send`] and [`Sync`]; calls from several threads are as good as from several
/// processes. Calls block while another works on the list. Handles survive `fork`: the
/// child's copy is a participant of its own. Dropping the last handle of all processes
/// removes the list, unless it was created [persistent](Options::persistent).
///
/// Elements are up to [`max_element`](Self::max_element) bytes and may be empty. Appending,
/// indexing, and removing at either end take constant time; inserting and removing elsewhere
/// moves what lies between that place and the last one. Memory is taken as the list grows, up
/// to `max_capacity`, and given back as it shrinks.
///
/// ```
/// use shoal::List;
///
/// let list = List::anonymous()?;
/// let same = List::open(list.name())?; // in another process, usually
///
/// list.append(b"two")?;
/// list.insert(0, b"one")?;
/// list.extend(&[b"three", b"seven"])?;
/// assert_eq!(same.pop()?, Some(b"seven".to_vec()));
/// assert_eq!(same.get_vec(1)?, Some(b"two".to_vec()));
/// list.sort_by(|a, b| a.cmp(b))?;
/// assert_eq!(same.range_vec(0..3)?, [&b"one"[..], b"three", b"two"]);
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Limits
/// No order of arrival among waiting processes is promised. A process that is *stopped* (not
/// killed) inside a call holds up all others. Readers exclude each other.
pub struct List {
    core: Core,
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("List").field("name", &self.name()).finish()
    }
}

/// What part of the addresses that are left the bound of a list is: 64 GiB of 2^47.
const PART: u64 = 1 << 11;
const SMALLEST_MAX_CAPACITY: u64 = 64 << 10;
const LARGEST_MAX_CAPACITY: u64 = 1 << 39;

/// Changes with every incompatible change of the layout.
const LAYOUT: u64 = 0x4c49_5354_0000_0002;

impl List {
    /// Opens the list `name`.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt` for a file that
    /// is no list of ours; `Invalid` name.
    pub fn open(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::open())
    }

    /// Opens the list `name`, or creates it with the defaults.
    ///
    /// # Errors
    /// As for [`open`](Self::open), and `NoSpace`.
    pub fn create(name: &str) -> Result<Self> {
        Self::with_options(Some(name), &Options::create())
    }

    /// Creates a list under a name nobody else has; [`name`](Self::name) tells which.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn anonymous() -> Result<Self> {
        Self::with_options(None, &Options::create())
    }

    /// Opens or creates a list as `options` say. Without a name it is always created.
    ///
    /// `capacity` bytes are committed at once and kept for the list until it shrinks; the
    /// default is none. `max_capacity` is address space only, at least 64 KiB; by default it is
    /// 64 GiB, and less where the process has little address space, its files are limited (`ulimit -v`
    /// and `-f`) or it has thousands of objects. Both count what is stored with its overhead: 8 bytes
    /// an element for its place in the order, and 8 bytes and rounding for one longer than 7 bytes.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`; `Invalid`
    /// for a `max_capacity` below `capacity`; `TooLarge` for one beyond 2^39.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let (capacity, max) = capacities(options)?;
        let (reserve, blocks) = (capacity.div_ceil(BLOCK), Heap::blocks_for(max));
        let spec = Spec {
            kind: Kind::List,
            layout: LAYOUT,
            size: core::segment_size(blocks as u32),
            commit: core::BIRTH,
            section: Section::ALL,
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            core::init(segment, blocks as u32, reserve as u32)
        })?;
        let core = Core::attach(segment)?;
        Ok(Self { core })
    }

    /// The name to open this list by.
    pub fn name(&self) -> &str {
        self.core.name()
    }

    /// Whether this handle created it.
    pub(crate) fn is_new(&self) -> bool {
        self.core.is_new()
    }

    /// Bytes of data, overhead included, that the list may grow to.
    pub fn max_capacity(&self) -> u64 {
        self.core.heap.capacity()
    }

    /// The largest element, in bytes: half of [`max_capacity`](Self::max_capacity).
    pub fn max_element(&self) -> u64 {
        max_element(&self.core)
    }

    #[inline]
    /// Ends the waits through this handle for another that works on the list, as
    /// [`Queue::end_waits`](crate::Queue::end_waits).
    pub fn end_waits(&self) {
        self.core.end_waits();
    }

    fn lock(&self) -> Result<Locked<'_>> {
        Locked::new(&self.core)
    }

    /// Runs `work` with the list locked: what it does is one operation to everybody else who
    /// is alive. If this process is killed meanwhile, each single operation in it happened or
    /// did not. `work` must not use the list but through what it is given: it would wait for
    /// itself for ever.
    ///
    /// ```
    /// # let list = shoal::List::anonymous()?;
    /// list.extend(&[b"1", b"2", b"3"])?;
    /// let moved = list.with(|locked| {
    ///     let first = locked.pop_at(0)?.unwrap();
    ///     locked.append(&first)
    /// });
    /// assert_eq!(list.range_vec(0..9)?, [b"2", b"3", b"1"]);
    /// # moved?;
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`, and what `work` returns.
    pub fn with<R>(&self, work: impl FnOnce(&mut Locked<'_>) -> Result<R>) -> Result<R> {
        work(&mut self.lock()?)
    }

    /// How many elements the list has.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn len(&self) -> Result<usize> {
        self.lock()?.len()
    }

    /// Whether it has none.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// `TooLarge` for one that can never fit; `NoSpace` when `/dev/shm` or the list is full,
    /// and the list is as it was then; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        self.lock()?.append(bytes)
    }

    /// Adds elements at the end, all of them or none.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn extend<T: AsRef<[u8]>>(&self, items: &[T]) -> Result<()> {
        self.splice(usize::MAX..usize::MAX, items)
    }

    /// Adds an element before `index`; at the end if there are not so many.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn insert(&self, index: usize, bytes: &[u8]) -> Result<()> {
        self.splice(index..index, &[bytes])
    }

    /// Copies element `index` to the front of `buf` and returns its length; `None` if there
    /// are not so many.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn get(&self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.lock()?.get(index, buf)
    }

    /// Element `index`; `None` if there are not so many.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn get_vec(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.lock()?.get_vec(index)
    }

    /// The elements of `range`, as far as there are so many: at one moment.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn range_vec(&self, range: Range<usize>) -> Result<Vec<Vec<u8>>> {
        self.lock()?.range_vec(range)
    }

    /// Replaces element `index`. False if there are not so many.
    ///
    /// # Errors
    /// As for [`append`](Self::append); the old element stays then.
    pub fn set(&self, index: usize, bytes: &[u8]) -> Result<bool> {
        self.lock()?.set(index, bytes)
    }

    /// Replaces element `index` if it is `expected`. Whether it did.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn compare_swap(&self, index: usize, expected: &[u8], new: &[u8]) -> Result<bool> {
        self.lock()?.compare_swap(index, expected, new)
    }

    /// Removes the last element and returns it; `None` from an empty list. Of several callers
    /// each gets another one.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        self.with(|locked| match locked.len()?.checked_sub(1) {
            Some(last) => locked.pop_at(last),
            None => Ok(None),
        })
    }

    /// Removes element `index` and returns it; `None` if there are not so many.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn pop_at(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.lock()?.pop_at(index)
    }

    /// Removes element `index`, copies it to the front of `buf` and returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed, and it stays then; `Poisoned`, `Corrupt`.
    pub fn pop_into(&self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.lock()?.pop_into(index, buf)
    }

    /// Removes the elements of `range`, as far as there are so many.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn remove(&self, range: Range<usize>) -> Result<()> {
        self.splice::<&[u8]>(range, &[])
    }

    /// Replaces the elements of `range`, as far as there are so many, by `items`: one
    /// operation, of which nobody sees a part.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn splice<T: AsRef<[u8]>>(&self, range: Range<usize>, items: &[T]) -> Result<()> {
        self.lock()?.splice(range, items)
    }

    /// Exchanges two elements. False if there are not so many.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn swap(&self, a: usize, b: usize) -> Result<bool> {
        self.lock()?.swap(a, b)
    }

    /// Sorts the list; equal elements keep their order. Everybody waits until it is done,
    /// `compare` must not use the list, and it moves the order only, not the elements.
    ///
    /// # Errors
    /// `NoSpace` for the new order, and the list is as it was then; `Poisoned`, `Corrupt`.
    pub fn sort_by(&self, compare: impl FnMut(&[u8], &[u8]) -> Ordering) -> Result<()> {
        self.lock()?.sort_by(compare)
    }

    /// Reverses the list.
    ///
    /// # Errors
    /// As for [`sort_by`](Self::sort_by).
    pub fn reverse(&self) -> Result<()> {
        self.lock()?.reverse()
    }

    /// Removes every element, at once, and gives the memory back.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn clear(&self) -> Result<()> {
        self.lock()?.clear()
    }

    /// The elements, in order, while others may write.
    ///
    /// Up to 256 elements, of 64 KiB together or one larger one, are copied at one moment;
    /// then the iterator goes on from the next index without a lock. So what others insert or
    /// remove before that index meanwhile makes elements come twice or not at all, as in a
    /// loop over indices. [`range_vec`](Self::range_vec) has them all at one moment. After an
    /// error the iteration is over.
    ///
    /// ```
    /// # let list = shoal::List::anonymous()?;
    /// list.extend(&[b"a", b"b"])?;
    /// let all: Vec<Vec<u8>> = list.iter().collect::<Result<_, _>>()?;
    /// assert_eq!(all, [b"a", b"b"]);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// Checks every invariant of the list, which is locked meanwhile: that no two elements
    /// overlap, that no memory is lost.
    ///
    /// # Errors
    /// `Corrupt` with the invariant that does not hold; `Poisoned`.
    pub fn verify(&self) -> Result<()> {
        self.core.verify()
    }

    /// Removes the name of a list. Those who have it open keep it; who opens or creates the
    /// name from now on gets another one.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` if the name is not a list's; `Permission`.
    pub fn unlink(name: &str) -> Result<()> {
        segment::unlink_kind(name, Kind::List)
    }
}

impl EndWaits for List {
    fn end_waits(&self) {
        List::end_waits(self);
    }

    fn is_waited_in(&self) -> bool {
        self.core.is_waited_in()
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = Result<Vec<u8>>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

fn capacities(options: &Options) -> Result<(u64, u64)> {
    let (capacity, max) = (options.capacity, options.max_capacity);
    if max != 0 && max < capacity {
        let why = format!("{max} bytes are less than the capacity of {capacity}");
        return Err(Error::invalid("max_capacity", why));
    }
    let max = match max {
        0 => capacity
            .max(limits::growth(PART))
            .max(SMALLEST_MAX_CAPACITY),
        max => max.max(SMALLEST_MAX_CAPACITY),
    };
    if max > LARGEST_MAX_CAPACITY {
        let by_start = options.max_capacity == 0;
        return Err(Error::TooLarge {
            what: if by_start { "capacity" } else { "max_capacity" },
            size: max,
            limit: LARGEST_MAX_CAPACITY,
        });
    }
    Ok((capacity, max))
}
