//! The list as programs see it.

use std::cmp::Ordering;
use std::ops::Range;

use super::core::{self, Core};
use super::locked::{Locked, max_element};
use crate::error::Result;
use crate::heap::{self, BLOCK, Heap};
use crate::segment::{
    Kind, Options, Section, Segment, Spec, debug_by_name, plain_open, shared_object,
};
use crate::sync::{EndWaits, Waits};

/// A named sequence of byte strings that any number of processes read and write.
///
/// Every call is atomic, and all processes see its effect when it returns. That includes
/// [`extend`](Self::extend), [`splice`](Self::splice) and [`sort_by`](Self::sort_by). Any process may
/// be killed at any instruction: what it was doing has then happened completely or not at all, and
/// nothing else is lost.
///
/// A handle is [`Send`] and [`Sync`]; threads may use it like processes. A call waits while another one uses
/// the list. Handles survive `fork`: the child's copy is a participant of its own. Dropping the last handle
/// of all processes removes the list, unless it was created [persistent](Options::persistent).
///
/// Elements are up to [`max_element`](Self::max_element) bytes and may be empty. Appending,
/// indexing, and removing at either end take constant time; inserting and removing elsewhere
/// moves the elements between that index and the previous such index. Memory is taken as the list grows,
/// up to `max_capacity`, and given back as it shrinks.
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
/// Waiting processes are not served in the order of their arrival. A process that is *stopped* (not
/// killed) inside a call blocks all others. Readers exclude each other.
pub struct List {
    core: Core,
}

const SMALLEST_MAX_CAPACITY: u64 = 64 << 10;

/// A number that changes with every incompatible change of the layout.
pub(super) const LAYOUT: u64 = 0x4c49_5354_0000_0002;

plain_open!(List, "list");
shared_object!(List, "list", |it| it.core.segment());
debug_by_name!(List);

impl List {
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
        let (capacity, max) = heap::capacities(options, SMALLEST_MAX_CAPACITY)?;
        let (reserve, blocks) = (capacity.div_ceil(BLOCK), Heap::blocks_for(max));
        let spec = Spec {
            kind: Kind::List,
            layout: LAYOUT,
            size: core::segment_size(blocks as u32),
            commit: core::INITIAL_COMMIT,
            section: Section::ALL,
        };
        let segment = Segment::open_or_create(name, options, &spec, |segment| {
            core::init(segment, blocks as u32, reserve as u32)
        })?;
        let core = Core::attach(segment)?;
        Ok(Self { core })
    }

    /// Bytes of data, overhead included, that the list may grow to.
    pub fn max_capacity(&self) -> u64 {
        self.core.heap().capacity()
    }

    /// Bytes of memory that elements and the table take, overhead included.
    pub fn used(&self) -> u64 {
        self.core.used()
    }

    /// The largest element, in bytes: half of [`max_capacity`](Self::max_capacity).
    pub fn max_element(&self) -> u64 {
        max_element(&self.core)
    }

    #[inline]
    fn lock(&self) -> Result<Locked<'_>> {
        Locked::new(&self.core)
    }

    /// Runs `work` with the list locked: other processes see what it does as one operation. If this
    /// process is killed meanwhile, each single operation in it has happened or not. `work` must use
    /// the list only through its argument: a call on this handle from inside it is an error, and one on another
    /// handle of the same list waits for ever.
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
    /// A child that is forked in `work` does not have the lock: every use of `locked` is an error there. It may
    /// return from `work`.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`, and what `work` returns. `Invalid` from `locked` in a forked child, and from a
    /// call on this handle in `work`.
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

    /// Adds an element before `index`, or at the end if the list is shorter.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn insert(&self, index: usize, bytes: &[u8]) -> Result<()> {
        self.splice(index..index, &[bytes])
    }

    /// Copies element `index` to the front of `buf` and returns its length; `None` if the
    /// list is shorter.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed; `Poisoned`, `Corrupt`.
    #[inline]
    pub fn get(&self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.lock()?.get(index, buf)
    }

    /// Element `index`; `None` if the list is shorter.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn get_vec(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.lock()?.get_vec(index)
    }

    /// The elements of `range`, as far as they exist, all at one moment.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn range_vec(&self, range: Range<usize>) -> Result<Vec<Vec<u8>>> {
        self.lock()?.range_vec(range)
    }

    /// Replaces element `index`. False if the list is shorter.
    ///
    /// # Errors
    /// As for [`append`](Self::append); the old element then remains.
    pub fn set(&self, index: usize, bytes: &[u8]) -> Result<bool> {
        self.lock()?.set(index, bytes)
    }

    /// Replaces element `index` if it is `expected`. True if it did.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn compare_swap(&self, index: usize, expected: &[u8], new: &[u8]) -> Result<bool> {
        self.lock()?.compare_swap(index, expected, new)
    }

    /// Removes the last element and returns it; `None` if the list is empty. Each of several callers
    /// gets a different element.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn pop(&self) -> Result<Option<Vec<u8>>> {
        self.with(|locked| match locked.len()?.checked_sub(1) {
            Some(last) => locked.pop_at(last),
            None => Ok(None),
        })
    }

    /// Removes element `index` and returns it; `None` if the list is shorter.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn pop_at(&self, index: usize) -> Result<Option<Vec<u8>>> {
        self.lock()?.pop_at(index)
    }

    /// Removes element `index`, copies it to the front of `buf` and returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall` with the length needed, and the element stays; `Poisoned`, `Corrupt`.
    pub fn pop_into(&self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.lock()?.pop_into(index, buf)
    }

    /// Removes the elements of `range`, as far as they exist.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn remove(&self, range: Range<usize>) -> Result<()> {
        self.splice::<&[u8]>(range, &[])
    }

    /// Replaces the elements of `range`, as far as they exist, by `items`, as one atomic operation.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn splice<T: AsRef<[u8]>>(&self, range: Range<usize>, items: &[T]) -> Result<()> {
        self.lock()?.splice(range, items)
    }

    /// Exchanges two elements. False if the list is shorter.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn swap(&self, a: usize, b: usize) -> Result<bool> {
        self.lock()?.swap(a, b)
    }

    /// Sorts the list; equal elements keep their order. The list is locked meanwhile, so other processes wait,
    /// and a call on this handle in `compare` is `Invalid`. The elements are not moved in memory.
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

    /// Removes all elements at once, and gives the memory back.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn clear(&self) -> Result<()> {
        self.lock()?.clear()
    }

    /// Checks every invariant of the list under its lock: that no two elements overlap, that no
    /// memory is lost.
    ///
    /// # Errors
    /// `Corrupt` with the invariant that does not hold; `Poisoned`.
    pub fn verify(&self) -> Result<()> {
        self.core.verify()
    }
}

impl EndWaits for List {
    fn end_waits(&self) {
        self.core.end_waits();
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(self.core.waits());
    }
}
