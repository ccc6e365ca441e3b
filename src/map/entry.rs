//! Entries: one key and its value.
//!
//! ```text
//! offset   size       field      invariant
//!      0      8       version    E1: grows with every write in the shard, never repeats
//!      8      4       key_len    E2: at most MAX_KEY
//!     12      4       value_len
//!     16   key_len    key
//!          value_len  value
//! ```
//! E3: an entry is written whole before the table refers to it and never changes after that;
//! an update writes another one.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::copy::copy;
use crate::error::{Error, Result};
use crate::heap::{BLOCK, Heap, LARGEST_SLOT, Purpose};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

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

/// An entry that was read and checked. The slices are good for as long as the shard's lock
/// is held.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) version: u64,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Bytes of an entry.
#[inline]
pub(super) fn size(key: usize, value: usize) -> u64 {
    HEADER + key as u64 + value as u64
}

impl<'a> Entry<'a> {
    /// The entry at `offset`, if it lies wholly inside the heap.
    #[inline]
    pub(super) fn read(heap: &'a Heap, offset: u64) -> Result<Self> {
        let header: &Header = heap.resolve(offset)?;
        let key_len = header.key_len.load(Ordering::Relaxed) as usize;
        let value_len = header.value_len.load(Ordering::Relaxed) as usize;
        let total = size(key_len, value_len);
        if key_len > MAX_KEY {
            return Err(Error::corrupt("a key is longer than any can be"));
        }
        if total > LARGEST_SLOT {
            check_large(heap, offset, total)?;
        }
        let at = heap.bytes(offset, total as usize)?;
        // SAFETY: the entry lies in the mapping, checked above; the caller holds the
        // shard's lock, under which no process of ours changes an entry (E3).
        let (key, value) = unsafe {
            let key = at.add(HEADER as usize);
            (
                std::slice::from_raw_parts(key.as_ptr(), key_len),
                std::slice::from_raw_parts(key.add(key_len).as_ptr(), value_len),
            )
        };
        Ok(Self {
            version: header.version.load(Ordering::Relaxed),
            key,
            value,
        })
    }
}

impl Entry<'_> {
    /// Copies the value to the front of `buf` and returns its length.
    #[inline]
    pub(super) fn copy_to(&self, buf: &mut [u8]) -> Result<usize> {
        let needed = self.value.len();
        if needed > buf.len() {
            return Err(Error::BufferTooSmall {
                needed,
                capacity: buf.len(),
            });
        }
        let (from, to) = (NonNull::from(self.value), NonNull::from(buf));
        // SAFETY: `buf` has room, checked above, and is the caller's own memory.
        unsafe { copy(from.cast(), to.cast(), needed) };
        Ok(needed)
    }

    /// A copy of the value.
    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut vec = Vec::with_capacity(self.value.len());
        if let Some(to) = NonNull::new(vec.as_mut_ptr()) {
            // SAFETY: the vector has room for the value, all of which is written.
            unsafe {
                copy(NonNull::from(self.value).cast(), to, self.value.len());
                vec.set_len(self.value.len());
            }
        }
        vec
    }
}

/// Writes an entry to a free place of [`size`] bytes at `offset`.
pub(super) fn write(
    heap: &Heap,
    offset: u64,
    version: u64,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let at = heap.bytes(offset, size(key.len(), value.len()) as usize)?;
    let header: &Header = heap.resolve(offset)?;
    header.version.store(version, Ordering::Relaxed);
    header.key_len.store(key.len() as u32, Ordering::Relaxed);
    header
        .value_len
        .store(value.len() as u32, Ordering::Relaxed);
    crash_point!();
    // SAFETY: the place is large enough, checked above, and no table refers to it yet; the
    // caller's slices are its own memory, not this heap's.
    unsafe {
        let to = at.add(HEADER as usize);
        to.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        crash_point!();
        let from = NonNull::from(value).cast();
        copy(from, to.add(key.len()), value.len());
    }
    crash_point!();
    Ok(())
}

/// A length that no slab could hold must be borne out by the extent, so that a hostile one
/// cannot make us read (and the kernel allocate) gigabytes.
#[cold]
fn check_large(heap: &Heap, offset: u64, total: u64) -> Result<()> {
    let extent = heap.extent_at(offset)?;
    let fits = extent.purpose == Purpose::Large
        && heap.offset_of(extent.head) == offset
        && total <= extent.blocks as u64 * BLOCK;
    if !fits {
        return Err(Error::corrupt("an entry is larger than its extent"));
    }
    Ok(())
}
