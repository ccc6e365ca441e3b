//! Addresses inside shared memory: regions, offsets and the types that may live there.
//!
//! Every process maps a segment at another address, so no pointer is ever stored in one. An [`Offset`] from
//! the segment's first byte is stored instead. It is not trusted until [`Region::resolve`] has checked it:
//! whatever another process wrote there, the result is a reference inside the mapping or [`Error::Corrupt`],
//! in release builds too.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use crate::error::{Error, Result};

/// Types that may live in shared memory.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, has no pointer, no reference and no
/// `Drop`, is valid for every bit pattern, and all that is written after the segment was
/// published is an atomic or is reached only under the lock that guards it.
pub(crate) unsafe trait Shared: Sized {}

// SAFETY: atomics are `repr(C)`, valid for every bit pattern and made for sharing.
unsafe impl Shared for AtomicU8 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU16 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicI32 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU64 {}

/// A participant of an object: its slot, and how often that slot had been taken by then. It is stored with
/// everything that a participant holds in an object, so that others can check whether the participant is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) slot: u16,
    pub(crate) generation: u32,
}

impl Owner {
    /// As one number, for callers who keep it between two calls.
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.slot) | u64::from(self.generation) << 32
    }

    /// Of a number of [`to_word`](Self::to_word); of any other, some owner.
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            slot: word as u16,
            generation: (word >> 32) as u32,
        }
    }
}

/// The distance of a `T` from the first byte of its region.
///
/// Untrusted until [`Region::resolve`] has checked it.
pub(crate) struct Offset<T> {
    bytes: u64,
    _target: PhantomData<fn() -> T>,
}

impl<T> Clone for Offset<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Offset<T> {}

impl<T> Offset<T> {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self {
            bytes,
            _target: PhantomData,
        }
    }
}

/// A span of mapped (or, in tests, heap) memory.
///
/// The region does not own its memory: the code that makes one keeps the mapping alive for as
/// long as the region or anything resolved from it is used.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is an address and a length; what it points to is accessed only through
// atomics or under a lock (see `Shared`).
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// # Safety
    /// `base .. base + len` is mapped readable and writable, and stays so for as long as
    /// the region, a copy of it, or anything resolved or kept from one of them is used.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// Where it begins.
    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `T` at `offset`, if it lies inside the region and is aligned.
    #[inline]
    pub(crate) fn resolve<T: Shared>(&self, offset: Offset<T>) -> Result<&T> {
        let at = self.checked(offset)?;
        // SAFETY: inside the region and aligned; `Shared` makes any bits valid; the maker of the
        // region keeps the memory mapped while the region is used, and so while it is borrowed.
        Ok(unsafe { at.as_ref() })
    }

    /// The same, to be stored in an object that owns the mapping.
    #[inline]
    pub(crate) fn keep<T: Shared>(&self, offset: Offset<T>) -> Result<SharedRef<T>> {
        let at = self.checked(offset)?;
        // SAFETY: as in `resolve`. The `'static` lifetime stays inside: references that `SharedRef` gives out
        // are borrowed from it.
        Ok(SharedRef(unsafe { at.as_ref() }))
    }

    #[inline]
    fn checked<T: Shared>(&self, offset: Offset<T>) -> Result<NonNull<T>> {
        let at = self.span(offset.bytes, size_of::<T>())?;
        if !(at.as_ptr() as usize).is_multiple_of(align_of::<T>()) {
            return Err(Error::corrupt("an offset is not aligned"));
        }
        Ok(at.cast())
    }

    /// The address of `len` bytes at `offset`, if all of them lie inside the region.
    #[inline]
    pub(crate) fn span(&self, offset: u64, len: usize) -> Result<NonNull<u8>> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len as u64) {
            return Err(Error::corrupt("an offset points outside its segment"));
        }
        // SAFETY: `offset + len <= self.len`, so the address is inside the mapping.
        Ok(unsafe { self.base.add(offset as usize) })
    }
}

/// A checked reference to a `T` in a [`Region`], without a lifetime: an object stores it together with the
/// mapping that it points into.
///
/// Like its region, it is used only while the memory is mapped (see [`Region::new`]). A plain reference is
/// borrowed from it, and so lives no longer than the object that stores it.
pub(crate) struct SharedRef<T: 'static>(&'static T);

impl<T> Clone for SharedRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedRef<T> {}

impl<T> SharedRef<T> {
    /// A reference to a part of it, to be stored likewise.
    pub(crate) fn part<U>(&self, part: impl FnOnce(&'static T) -> &'static U) -> SharedRef<U> {
        SharedRef(part(self.0))
    }
}

impl<T> Deref for SharedRef<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0
    }
}

/// Keeps its content on separate cache lines, so that processes or threads that write to neighbouring values do
/// not contend for a line.
///
/// 128 bytes: x86 prefetches lines in pairs, and some Arm cores have lines of 128.
#[repr(C, align(128))]
#[derive(Default)]
pub(crate) struct CachePadded<T>(T);

// SAFETY: `repr(C)` padding around a type that may be shared.
unsafe impl<T: Shared> Shared for CachePadded<T> {}

impl<T> CachePadded<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(content)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// `value` rounded up to a multiple of `to`, a power of two; `None` if that overflows.
#[inline]
pub(crate) const fn align_up(value: u64, to: u64) -> Option<u64> {
    debug_assert!(to.is_power_of_two());
    match value.checked_add(to - 1) {
        Some(sum) => Some(sum & !(to - 1)),
        None => None,
    }
}
