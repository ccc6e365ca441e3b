//! Entries: one key and its value.
//!
//! ```text
//! offset   size       field      invariant
//!      0      8       version    E1: grows with every write in the shard, never repeats; in a map with a
//!                                relay the revision that it was delivered with
//!      8      4       key_len    E2: at most MAX_KEY, in the lower 27 bits; bit 31: it expires;
//!                                bit 30: `inserted_at` is there; bits 27 and 28: how many of these
//!                                two fields there are
//!     12      4       value_len
//!     16      8       expires    only if it does: when, on CLOCK_MONOTONIC in nanoseconds
//!      +      8       inserted   only in an ordered map: when the key was inserted, as above
//!          key_len    key
//!          value_len  value
//! ```
//! E3: an entry is written completely before the table refers to it. After that only `expires`
//! changes; an update writes another entry.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::key::is_same;
use crate::copy::{Room, copy};
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap, LARGEST_SLOT, Purpose};
use crate::layout::Shared;
use crate::sync::crash::crash_point;
use crate::sys::clock::now_ns;

/// The longest key, in bytes.
pub(super) const MAX_KEY: usize = 64 * 1024;

#[repr(C)]
struct EntryHeader {
    version: AtomicU64,
    key_len: AtomicU32,
    value_len: AtomicU32,
}

const HEADER: u64 = size_of::<EntryHeader>() as u64;
const _: () = assert!(HEADER == 16);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for EntryHeader {}

/// The bit of `key_len` that says that the entry expires.
const HAS_EXPIRY: u32 = 1 << 31;
/// The bit of `key_len` that says that the entry has the time of its key's insertion.
const HAS_INSERTION: u32 = 1 << 30;
/// What each of the two fields adds to `key_len`: a shift then says where the key begins, without a
/// branch.
const TIME: u32 = 1 << 27;
/// The expiry of an entry that does not expire.
pub(super) const NEVER: u64 = u64::MAX;

/// The contents of an entry to be written.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// Which of the two time fields it has, as in `key_len`.
    times: u32,
    expires: u64,
    pub(super) inserted_at: u64,
}

impl<'a> Pair<'a> {
    #[inline]
    pub(super) fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        let (times, expires, inserted_at) = (0, NEVER, 0);
        Self {
            key,
            value,
            times,
            expires,
            inserted_at,
        }
    }

    /// The same, expiring at `expires` on the clock, or never if that is [`NEVER`].
    pub(super) fn expiring_at(mut self, expires: u64) -> Self {
        if expires != NEVER {
            (self.times, self.expires) = (with(self.times, HAS_EXPIRY), expires);
        }
        self
    }

    /// The same, with the time at which the key was inserted. For an ordered map.
    pub(super) fn inserted_at(mut self, inserted_at: u64) -> Self {
        (self.times, self.inserted_at) = (with(self.times, HAS_INSERTION), inserted_at);
        self
    }

    /// When it expires, on the clock; [`NEVER`] if it does not.
    pub(super) fn expires(&self) -> u64 {
        self.expires
    }

    #[inline]
    pub(super) fn is_expiring(&self) -> bool {
        self.times & HAS_EXPIRY != 0
    }

    /// Bytes of the entry.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        before_key(self.times) + self.key.len() as u64 + self.value.len() as u64
    }
}

/// `times` with the field `time` added.
#[inline]
fn with(times: u32, time: u32) -> u32 {
    match times & time {
        0 => times + time + TIME,
        _ => times,
    }
}

/// Bytes before the key. At most 40 for any word.
#[inline]
fn before_key(word: u32) -> u64 {
    HEADER + u64::from(word / TIME % 4) * 8
}

/// An entry whose header was read. It is certain only that the entry begins in the heap, and that as many bytes
/// as the largest slot has lie in the mapping from there on.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    at: NonNull<u8>,
    /// `key_len` with its flags.
    word: u32,
    value_len: u32,
    _heap: PhantomData<&'a Heap>,
}

impl<'a> Head<'a> {
    /// `None` if the entry would lie outside the heap.
    #[inline]
    pub(super) fn read(heap: &'a Heap, offset: u64) -> Option<Self> {
        let at = heap.slot(offset)?;
        // SAFETY: a slot is aligned and longer than a header, which is `Shared`.
        let header: &EntryHeader = unsafe { at.cast().as_ref() };
        Some(Self {
            at,
            word: header.key_len.load(Ordering::Relaxed),
            value_len: header.value_len.load(Ordering::Relaxed),
            _heap: PhantomData,
        })
    }

    #[inline]
    pub(super) fn version(&self) -> u64 {
        version_at(self.at)
    }

    /// Bytes of the key.
    #[inline]
    fn key_len(&self) -> u32 {
        self.word % TIME
    }

    /// Bytes of the entry.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        before_key(self.word) + u64::from(self.key_len()) + u64::from(self.value_len)
    }

    /// Whether it is too large for a slab.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.size() > LARGEST_SLOT
    }

    /// Whether its key is `key`.
    ///
    /// # Safety
    /// It is not large, or [`Entry::read`] has checked it. If other processes change its bytes
    /// meanwhile, the answer is meaningless.
    #[inline]
    pub(super) unsafe fn has_key(&self, key: &[u8]) -> bool {
        // SAFETY: the caller's contract.
        self.key_len() as usize == key.len() && unsafe { is_same(self.key_at(), key) }
    }

    /// Where the key begins, which lies in the mapping like the header.
    #[inline]
    fn key_at(&self) -> NonNull<u8> {
        // SAFETY: at most 40 bytes from the beginning of a slot.
        unsafe { self.at.add(before_key(self.word) as usize) }
    }

    /// The value, valid until the entry is freed.
    ///
    /// # Safety
    /// As for [`has_key`](Self::has_key).
    #[inline]
    pub(super) unsafe fn value(&self) -> Value {
        Value {
            // SAFETY: the caller's contract: key and value lie in the mapping.
            at: unsafe { self.key_at().add(self.key_len() as usize) },
            len: self.value_len as usize,
            entry: self.at,
        }
    }

    /// Whether it ever expires.
    #[inline]
    pub(super) fn is_expiring(&self) -> bool {
        self.word & HAS_EXPIRY != 0
    }

    /// The word that says when it expires, if it does.
    #[inline]
    pub(super) fn expiry(&self) -> Option<&'a AtomicU64> {
        // SAFETY: behind the header and aligned like it; any bytes are a valid atomic.
        self.is_expiring()
            .then(|| unsafe { self.at.add(HEADER as usize).cast().as_ref() })
    }

    /// When it expires, on the clock; [`NEVER`] if it does not.
    #[inline]
    pub(super) fn expires(&self) -> u64 {
        self.expiry()
            .map_or(NEVER, |word| word.load(Ordering::Relaxed))
    }

    /// Whether it has expired.
    #[inline]
    pub(super) fn is_expired(&self) -> bool {
        self.is_expiring() && self.expires() <= now_ns()
    }

    /// The word that says when the key was inserted, if the map is ordered.
    #[inline]
    fn insertion_word(&self) -> Option<&'a AtomicU64> {
        let at = HEADER + 8 * u64::from(self.is_expiring());
        // SAFETY: as in `expiry`.
        (self.word & HAS_INSERTION != 0)
            .then(|| unsafe { self.at.add(at as usize).cast().as_ref() })
    }

    /// When the key was inserted; 0 in a map that is not ordered.
    #[inline]
    pub(super) fn inserted_at(&self) -> u64 {
        self.insertion_word()
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

/// An entry that lies completely in the heap. Its references are valid while the shard's lock is held.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a>(Head<'a>);

impl<'a> Deref for Entry<'a> {
    type Target = Head<'a>;

    #[inline]
    fn deref(&self) -> &Head<'a> {
        &self.0
    }
}

impl<'a> Entry<'a> {
    /// The entry at `offset`, if it lies wholly inside the heap.
    #[inline]
    pub(super) fn read(heap: &'a Heap, offset: u64) -> Result<Self> {
        let head = Head::read(heap, offset).ok_or_else(outside)?;
        if head.is_large() {
            check_large(heap, offset, head.key_len(), head.size())?;
        }
        Ok(Self(head))
    }

    #[inline]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        // SAFETY: `Entry::read` has checked it.
        unsafe { self.0.has_key(key) }
    }

    #[inline]
    pub(super) fn key(&self) -> &'a [u8] {
        // SAFETY: `read` checked the bounds; the caller holds the shard's lock, under which no process
        // changes key or value (E3).
        unsafe {
            let key = self.0.key_at().as_ptr();
            std::slice::from_raw_parts(key, self.0.key_len() as usize)
        }
    }

    #[inline]
    pub(super) fn value(&self) -> &'a [u8] {
        let Value { at, len, .. } = self.pointed();
        // SAFETY: as in `key`.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }
    }

    /// The value by its address.
    #[inline]
    pub(super) fn pointed(&self) -> Value {
        // SAFETY: `Entry::read` has checked it.
        unsafe { self.0.value() }
    }
}

/// The version of the entry whose header was read at `entry`.
#[inline]
fn version_at(entry: NonNull<u8>) -> u64 {
    // SAFETY: `entry` comes from `Head::read`, which checked it.
    let header: &EntryHeader = unsafe { entry.cast().as_ref() };
    header.version.load(Ordering::Relaxed)
}

/// A value in the mapping. Without the lock, other processes may change its bytes meanwhile, which makes a
/// copy meaningless.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(super) at: NonNull<u8>,
    pub(crate) len: usize,
    entry: NonNull<u8>,
}

impl Value {
    #[inline]
    pub(super) fn version(&self) -> u64 {
        version_at(self.entry)
    }

    /// Copies the value to the front of `buf`, if it has room for all of it. Returns the value's length in
    /// any case, for [`fits`].
    #[inline]
    pub(crate) fn copy_to(&self, buf: &mut Room) -> usize {
        if self.len <= buf.len() {
            // SAFETY: the value lies in the mapping, as its constructors checked; `buf` has room, and is not
            // shared memory.
            unsafe { copy(self.at, NonNull::from(buf).cast(), self.len) };
        }
        self.len
    }

    /// A copy of the value.
    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut vec = Vec::with_capacity(self.len);
        if let Some(to) = NonNull::new(vec.as_mut_ptr()) {
            // SAFETY: as in `copy_to`; the vector has room for the value, all of which is written.
            unsafe {
                copy(self.at, to, self.len);
                vec.set_len(self.len);
            }
        }
        vec
    }
}

/// The length that [`Value::copy_to`] returned, if `buf` had room for that many bytes.
#[inline]
pub(super) fn fits(needed: usize, buf: &Room) -> Result<usize> {
    match buf.len() {
        capacity if needed > capacity => Err(too_small(needed, capacity)),
        _ => Ok(needed),
    }
}

#[cold]
fn too_small(needed: usize, capacity: usize) -> Error {
    Error::BufferTooSmall { needed, capacity }
}

/// Writes an entry to a free place at `offset`; `size` is [`Pair::size`].
#[inline]
pub(super) fn write(
    heap: &Heap,
    (offset, size): (u64, u64),
    version: u64,
    pair: &Pair<'_>,
) -> Result<()> {
    let at = heap.slot(offset).ok_or_else(outside)?;
    if size > LARGEST_SLOT {
        heap.bytes(offset, size as usize)?;
    }
    debug_assert_eq!(size, pair.size());
    // SAFETY: `size` bytes lie in the mapping: a slot has up to LARGEST_SLOT, more was checked above.
    unsafe { write_at(at, version, pair) };
    Ok(())
}

/// # Safety
/// `at` is a slot, with the bytes of `pair` behind it in the mapping; no table refers to it yet.
unsafe fn write_at(at: NonNull<u8>, version: u64, pair: &Pair<'_>) {
    let (key, value, times) = (pair.key, pair.value, pair.times);
    // SAFETY: a slot is aligned and longer than a header, which is `Shared`.
    let header: &EntryHeader = unsafe { at.cast().as_ref() };
    header.version.store(version, Ordering::Relaxed);
    header
        .key_len
        .store(key.len() as u32 + times, Ordering::Relaxed);
    header
        .value_len
        .store(value.len() as u32, Ordering::Relaxed);
    // SAFETY: within the bytes of `pair`, and the words are aligned as the header is; the caller's
    // slices are its own memory, not this heap's.
    unsafe {
        let mut to = at.add(HEADER as usize);
        if times & HAS_EXPIRY != 0 {
            let word: &AtomicU64 = to.cast().as_ref();
            word.store(pair.expires, Ordering::Relaxed);
            to = to.add(8);
        }
        if times & HAS_INSERTION != 0 {
            let word: &AtomicU64 = to.cast().as_ref();
            word.store(pair.inserted_at, Ordering::Relaxed);
            to = to.add(8);
        }
        crash_point!();
        to.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        crash_point!();
        let from = NonNull::from(value).cast();
        copy(from, to.add(key.len()), value.len());
    }
    crash_point!();
}

/// Sets the version of an entry that no table refers to yet and, in an ordered map, the time when
/// its key was inserted.
pub(super) fn stamp(heap: &Heap, offset: u64, version: u64, inserted_at: u64) -> Result<()> {
    let head = Head::read(heap, offset).ok_or_else(outside)?;
    // SAFETY: as in `Head::read`.
    let header: &EntryHeader = unsafe { head.at.cast().as_ref() };
    header.version.store(version, Ordering::Relaxed);
    if let Some(word) = head.insertion_word() {
        word.store(inserted_at, Ordering::Relaxed);
    }
    Ok(())
}

#[cold]
fn outside() -> Error {
    Error::corrupt("an entry lies outside the heap")
}

/// An entry too large for a slab must fit its extent, so that a forged length cannot make this process read
/// (and the kernel allocate) gigabytes. The entry must also lie in the mapping, since the extent may be
/// forged too. E2 is checked because walks copy keys.
#[cold]
fn check_large(heap: &Heap, offset: u64, key_len: u32, size: u64) -> Result<()> {
    let extent = heap.extent_at(offset)?;
    let fits = extent.purpose == Purpose::Large
        && heap.offset_of(extent.head) == offset
        && size <= extent.blocks as u64 * BLOCK
        && key_len as usize <= MAX_KEY;
    if !fits {
        return Err(Error::corrupt(
            "an entry is larger than its extent, or its key is too long",
        ));
    }
    heap.bytes(offset, size as usize).map(drop)
}
