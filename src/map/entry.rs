//! Entries: one key and its value.
//!
//! ```text
//! offset   size       field      invariant
//!      0      8       version    E1: grows with every write in the shard, never repeats
//!      8      4       key_len    E2: at most MAX_KEY; bit 31: it expires; bit 30: born
//!     12      4       value_len
//!     16      8       expires    only if it does: when, on CLOCK_MONOTONIC in nanoseconds
//!      +      8       born       only in an ordered map: when the key was inserted, as above
//!          key_len    key
//!          value_len  value
//! ```
//! E3: an entry is written whole before the table refers to it, and never changes after that but
//! for when it expires; an update writes another one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::copy::copy;
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap, LARGEST_SLOT, Purpose};
use crate::layout::Shared;
use crate::sync::crash::crash_point;
use crate::sys::clock::now_ns;

/// The longest key, in bytes.
pub(super) const MAX_KEY: usize = 64 * 1024;

#[repr(C)]
struct Header {
    version: AtomicU64,
    key_len: AtomicU32,
    value_len: AtomicU32,
}

const HEADER: u64 = size_of::<Header>() as u64;
const _: () = assert!(HEADER == 16);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for Header {}

/// The bit of `key_len` that says that the entry expires.
const EXPIRES: u32 = 1 << 31;
/// The bit that says that it knows when its key was inserted.
const BORN: u32 = 1 << 30;
/// When an entry expires that does not.
pub(super) const NEVER: u64 = u64::MAX;

/// An entry that was read and checked. The slices are good for as long as the shard's lock
/// is held.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) version: u64,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// When it expires, if it does.
    pub(super) expires: Option<&'a AtomicU64>,
    /// When its key was inserted; 0 in a map that is not ordered.
    pub(super) born: u64,
}

/// What becomes an entry.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// On the clock; [`NEVER`] if it does not.
    pub(super) expires: u64,
    /// On the clock; 0 in a map that is not ordered.
    pub(super) born: u64,
}

impl<'a> Pair<'a> {
    pub(super) fn new(key: &'a [u8], value: &'a [u8]) -> Self {
        let (expires, born) = (NEVER, 0);
        Self {
            key,
            value,
            expires,
            born,
        }
    }

    /// Bytes it takes.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        size(self.key.len(), self.value.len(), self.flags())
    }

    #[inline]
    fn flags(&self) -> u32 {
        flags(self.expires != NEVER, self.born)
    }
}

/// What an entry's header says, unchecked.
pub(super) struct Lengths {
    pub(super) version: u64,
    pub(super) key: usize,
    pub(super) value: usize,
    flags: u32,
}

impl Lengths {
    #[inline]
    pub(super) fn read(heap: &Heap, offset: u64) -> Result<Self> {
        let header: &Header = heap.resolve(offset)?;
        let word = header.key_len.load(Ordering::Relaxed);
        Ok(Self {
            version: header.version.load(Ordering::Relaxed),
            key: (word & !(EXPIRES | BORN)) as usize,
            value: header.value_len.load(Ordering::Relaxed) as usize,
            flags: word & (EXPIRES | BORN),
        })
    }

    /// Bytes of the entry.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        size(self.key, self.value, self.flags)
    }

    /// The word that says when the entry at `offset` expires, if it does.
    #[inline]
    fn expiry<'a>(&self, heap: &'a Heap, offset: u64) -> Result<Option<&'a AtomicU64>> {
        match self.flags & EXPIRES {
            0 => Ok(None),
            _ => heap.resolve(offset + HEADER).map(Some),
        }
    }

    /// When the key of the entry at `offset` was inserted; 0 if it does not say so.
    #[inline]
    fn born(&self, heap: &Heap, offset: u64) -> Result<u64> {
        match self.flags & BORN {
            0 => Ok(0),
            _ => Ok(birth(heap, offset, self.flags)?.load(Ordering::Relaxed)),
        }
    }

    /// When the entry at `offset` expires; [`NEVER`] if it does not.
    #[inline]
    pub(super) fn expires(&self, heap: &Heap, offset: u64) -> Result<u64> {
        let word = self.expiry(heap, offset)?;
        Ok(word.map_or(NEVER, |word| word.load(Ordering::Relaxed)))
    }
}

#[inline]
fn flags(expires: bool, born: u64) -> u32 {
    let expires = if expires { EXPIRES } else { 0 };
    expires | if born == 0 { 0 } else { BORN }
}

#[inline]
fn size(key: usize, value: usize, flags: u32) -> u64 {
    let words = (flags >> EXPIRES.trailing_zeros() & 1) + (flags >> BORN.trailing_zeros() & 1);
    HEADER + 8 * u64::from(words) + key as u64 + value as u64
}

/// The word that says when the key of the entry at `offset` was inserted.
#[inline]
fn birth(heap: &Heap, offset: u64, flags: u32) -> Result<&AtomicU64> {
    heap.resolve(offset + HEADER + 8 * u64::from(flags & EXPIRES != 0))
}

impl<'a> Entry<'a> {
    /// The entry at `offset`, if it lies wholly inside the heap.
    #[inline]
    pub(super) fn read(heap: &'a Heap, offset: u64) -> Result<Self> {
        let lengths = Lengths::read(heap, offset)?;
        let (key_len, value_len, total) = (lengths.key, lengths.value, lengths.total());
        if total > LARGEST_SLOT {
            check_large(heap, offset, &lengths)?;
        }
        let at = heap.bytes(offset, total as usize)?;
        // SAFETY: the entry lies in the mapping, checked above; the caller holds the
        // shard's lock, under which no process of ours changes an entry (E3).
        let (key, value) = unsafe {
            let key = at.add(total as usize - value_len - key_len);
            (
                std::slice::from_raw_parts(key.as_ptr(), key_len),
                std::slice::from_raw_parts(key.add(key_len).as_ptr(), value_len),
            )
        };
        Ok(Self {
            version: lengths.version,
            key,
            value,
            expires: lengths.expiry(heap, offset)?,
            born: lengths.born(heap, offset)?,
        })
    }
}

impl Entry<'_> {
    /// Bytes it takes.
    pub(super) fn size(&self) -> u64 {
        let flags = flags(self.expires.is_some(), self.born);
        size(self.key.len(), self.value.len(), flags)
    }

    /// When it expires, on the clock; [`NEVER`] if it does not.
    #[inline]
    pub(super) fn expires(&self) -> u64 {
        self.expires
            .map_or(NEVER, |expires| expires.load(Ordering::Relaxed))
    }

    /// Whether its time is over.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.expires.is_some() && self.expires() <= now_ns()
    }

    /// The value, for as long as the entry is what it is.
    #[inline]
    pub(super) fn value(&self) -> Value {
        Value {
            at: NonNull::from(self.value).cast(),
            len: self.value.len(),
            version: self.version,
        }
    }

    /// A copy of the value.
    pub(super) fn to_vec(self) -> Vec<u8> {
        self.value().to_vec()
    }
}

/// A value in the mapping, without a promise: its bytes may be changing, and then a copy of them
/// means nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    pub(super) at: NonNull<u8>,
    pub(crate) len: usize,
    pub(super) version: u64,
}

impl Value {
    /// Copies the value to the front of `buf` and returns its length.
    #[inline]
    pub(crate) fn copy_to(&self, buf: &mut [u8]) -> Result<usize> {
        if self.len > buf.len() {
            return Err(Error::BufferTooSmall {
                needed: self.len,
                capacity: buf.len(),
            });
        }
        // SAFETY: whoever made this checked that it lies in the mapping; `buf` has room, and is
        // the caller's own memory.
        unsafe { copy(self.at, NonNull::from(buf).cast(), self.len) };
        Ok(self.len)
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

/// Writes an entry to a free place of [`Pair::size`] bytes at `offset`.
pub(super) fn write(heap: &Heap, offset: u64, version: u64, pair: &Pair<'_>) -> Result<()> {
    let (key, value, flags) = (pair.key, pair.value, pair.flags());
    let total = pair.size() as usize;
    let at = heap.bytes(offset, total)?;
    let header: &Header = heap.resolve(offset)?;
    header.version.store(version, Ordering::Relaxed);
    header
        .key_len
        .store(key.len() as u32 | flags, Ordering::Relaxed);
    header
        .value_len
        .store(value.len() as u32, Ordering::Relaxed);
    if flags & EXPIRES != 0 {
        let word: &AtomicU64 = heap.resolve(offset + HEADER)?;
        word.store(pair.expires, Ordering::Relaxed);
    }
    if flags & BORN != 0 {
        birth(heap, offset, flags)?.store(pair.born, Ordering::Relaxed);
    }
    crash_point!();
    // SAFETY: the place is large enough, checked above, and no table refers to it yet; the
    // caller's slices are its own memory, not this heap's.
    unsafe {
        let to = at.add(total - value.len() - key.len());
        to.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        crash_point!();
        let from = NonNull::from(value).cast();
        copy(from, to.add(key.len()), value.len());
    }
    crash_point!();
    Ok(())
}

/// Gives an entry that no table refers to yet another version, and, in an ordered map, the time
/// when its key was inserted.
pub(super) fn date(heap: &Heap, offset: u64, version: u64, born: u64) -> Result<()> {
    let header: &Header = heap.resolve(offset)?;
    header.version.store(version, Ordering::Relaxed);
    let flags = header.key_len.load(Ordering::Relaxed);
    if flags & BORN != 0 {
        birth(heap, offset, flags)?.store(born, Ordering::Relaxed);
    }
    Ok(())
}

/// A length that no slab could hold must be borne out by the extent, so that a hostile one
/// cannot make us read (and the kernel allocate) gigabytes; and walks copy keys, so E2 counts.
#[cold]
fn check_large(heap: &Heap, offset: u64, lengths: &Lengths) -> Result<()> {
    let extent = heap.extent_at(offset)?;
    let fits = extent.purpose == Purpose::Large
        && heap.offset_of(extent.head) == offset
        && lengths.total() <= extent.blocks as u64 * BLOCK
        && lengths.key <= MAX_KEY;
    if !fits {
        return Err(Error::corrupt(
            "an entry is larger than its extent, or its key too long",
        ));
    }
    Ok(())
}
