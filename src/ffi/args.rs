//! Arguments from C. Each pointer is checked for NULL and alignment, in release builds too, and becomes a
//! Rust type that says what it may be used for.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::time::Duration;

use crate::copy::{Room, fill};
use crate::error::{Error, Result};
use crate::sys::clock::Timeout;

/// No limit, wherever a timeout or a duration is taken.
pub const SHOAL_FOREVER: i64 = -1;

/// A timeout of 0: the call does not wait.
#[allow(dead_code, reason = "only C programs use it")]
pub const SHOAL_NOWAIT: i64 = 0;

/// Bytes that belong to the caller.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// The first byte; may be NULL if `len` is 0.
    pub data: *const c_void,
    /// How many there are.
    pub len: usize,
}

/// Refuses NULL and misaligned pointers.
#[inline]
pub(super) fn checked<T>(what: &'static str, pointer: *const T) -> Result<()> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(no_pointer(what, pointer.cast(), align_of::<T>()));
    }
    Ok(())
}

#[cold]
fn no_pointer(what: &'static str, pointer: *const c_void, align: usize) -> Error {
    if pointer.is_null() {
        return Error::invalid(what, "it is NULL");
    }
    let why = format!("{pointer:p} is not aligned to {align} bytes");
    Error::invalid(what, why)
}

#[inline]
fn checked_bytes(what: &'static str, data: *const c_void, len: usize) -> Result<()> {
    if len > isize::MAX as usize || data.is_null() && len > 0 {
        return Err(no_bytes(what, len));
    }
    Ok(())
}

#[cold]
fn no_bytes(what: &'static str, len: usize) -> Error {
    let why = match isize::try_from(len) {
        Ok(len) => format!("it is NULL with a length of {len}"),
        Err(_) => format!(
            "{len} bytes is more than memory can have: at most {}",
            isize::MAX
        ),
    };
    Error::invalid(what, why)
}

/// # Safety
/// `data` is NULL or has `len` bytes that no thread writes to while the result is used.
#[inline]
pub(super) unsafe fn bytes<'a>(
    what: &'static str,
    data: *const c_void,
    len: usize,
) -> Result<&'a [u8]> {
    checked_bytes(what, data, len)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, and the caller's contract; bytes need no alignment.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// # Safety
/// `data` is NULL or has room for `len` bytes that no other thread uses meanwhile. They need not
/// be initialised: the library only writes to them.
#[inline]
pub(super) unsafe fn buffer<'a>(
    what: &'static str,
    data: *mut c_void,
    len: usize,
) -> Result<&'a mut Room> {
    checked_bytes(what, data, len)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL, and the caller's contract; bytes need no alignment, and these need not even
    // be initialised.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
}

/// An array of `len` elements.
///
/// # Safety
/// As [`bytes`], for elements.
pub(super) unsafe fn array<'a, T: Copy>(
    what: &'static str,
    data: *const T,
    len: usize,
) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    checked(what, data)?;
    checked_bytes(what, data.cast(), len.saturating_mul(size_of::<T>()))?;
    // SAFETY: not NULL, aligned, of a possible size, and the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// An array of `len` elements to write to.
///
/// # Safety
/// As [`buffer`], for elements.
pub(super) unsafe fn array_mut<'a, T: Copy>(
    what: &'static str,
    data: *mut T,
    len: usize,
) -> Result<&'a mut [MaybeUninit<T>]> {
    if len == 0 {
        return Ok(&mut []);
    }
    checked(what, data)?;
    checked_bytes(what, data.cast(), len.saturating_mul(size_of::<T>()))?;
    // SAFETY: not NULL, aligned, of a possible size, and the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
}

/// A [`Slice`] that has been checked.
#[repr(transparent)]
pub(super) struct Item(Slice);

impl AsRef<[u8]> for Item {
    fn as_ref(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: `items` checked the slice, and its caller guarantees the memory.
        unsafe { std::slice::from_raw_parts(self.0.data.cast(), self.0.len) }
    }
}

/// # Safety
/// `items` is NULL or has `n` elements, each of which meets the contract of [`bytes`].
pub(super) unsafe fn items<'a>(
    what: &'static str,
    items: *const Slice,
    n: usize,
) -> Result<&'a [Item]> {
    // SAFETY: the same contract.
    let slices = unsafe { array(what, items, n) }?;
    for slice in slices {
        checked_bytes(what, slice.data, slice.len)?;
    }
    // SAFETY: `Item` is a transparent `Slice`, and each was checked.
    Ok(unsafe { std::slice::from_raw_parts(slices.as_ptr().cast(), n) })
}

/// # Safety
/// `text` is NULL or ends with NUL, and no thread writes to it while the result is used.
pub(super) unsafe fn text_or_null<'a>(
    what: &'static str,
    text: *const c_char,
) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller's contract.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Error::invalid(what, format!("{text:?} is not UTF-8"))),
    }
}

/// # Safety
/// As [`text_or_null`].
pub(super) unsafe fn text<'a>(what: &'static str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: the same contract.
    unsafe { text_or_null(what, text) }?.ok_or_else(|| Error::invalid(what, "it is NULL"))
}

const _: () = assert!(SHOAL_FOREVER < 0 && SHOAL_NOWAIT == 0);

/// A negative number waits without limit, 0 does not wait.
#[inline]
pub(super) fn timeout(nanoseconds: i64) -> Timeout {
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds) => Timeout::Val(Duration::from_nanos(nanoseconds)),
        Err(_) => Timeout::Infinite,
    }
}

/// A duration: a negative number is without limit.
pub(super) fn duration(nanoseconds: i64) -> Duration {
    match timeout(nanoseconds) {
        Timeout::Val(duration) => duration,
        Timeout::Infinite => Duration::MAX,
    }
}

/// A checked place to write one result to.
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// # Safety
    /// `place` is NULL or has room for a `T` that no other thread uses during the call.
    #[inline]
    pub(super) unsafe fn new(what: &'static str, place: *mut T) -> Result<Self> {
        checked(what, place)?;
        Ok(Self(place))
    }

    /// A place that may be NULL if the caller does not want the result.
    ///
    /// # Safety
    /// As [`new`](Self::new).
    pub(super) unsafe fn optional(what: &'static str, place: *mut T) -> Result<Self> {
        if !place.is_null() {
            checked(what, place)?;
        }
        Ok(Self(place))
    }

    /// A place that holds `value` even if the call fails.
    ///
    /// # Safety
    /// As [`new`](Self::new).
    pub(super) unsafe fn preset(what: &'static str, place: *mut T, value: T) -> Result<Self> {
        // SAFETY: the same contract.
        let out = unsafe { Self::new(what, place) }?;
        out.set(value);
        Ok(out)
    }

    /// Whether the caller wants the result.
    pub(super) fn is_wanted(&self) -> bool {
        !self.0.is_null()
    }

    #[inline]
    pub(super) fn set(&self, value: T) {
        if !self.0.is_null() {
            // SAFETY: aligned and, by the constructors' contract, writable.
            unsafe { self.0.write(value) }
        }
    }
}

impl Out<usize> {
    /// Writes the length of a result, or the length that the buffer should have had.
    #[inline]
    pub(super) fn set_len(&self, result: Result<usize>) -> Result<()> {
        match result {
            Ok(len) => self.set(len),
            Err(Error::BufferTooSmall { needed, .. }) => self.set(needed),
            Err(_) => {}
        }
        result.map(drop)
    }
}

/// Runs a call that makes a text, and copies it out.
///
/// # Safety
/// As [`buffer`] and [`Out::new`].
pub(super) unsafe fn text_to(
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
    text: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<()> {
    // SAFETY: the same contract.
    let len = unsafe { Out::preset("len", len, 0) }?;
    // SAFETY: the same contract.
    let buf = unsafe { buffer("buf", buf.cast(), capacity) }?;
    len.set_len(copy_text(&text()?, buf))
}

/// Copies a text and a NUL into a buffer: the result is its length without the NUL, the size
/// that `BufferTooSmall` names includes it.
pub(super) fn copy_text(text: &[u8], buf: &mut Room) -> Result<usize> {
    let (needed, capacity) = (text.len() + 1, buf.len());
    if needed > capacity {
        return Err(Error::BufferTooSmall { needed, capacity });
    }
    fill(buf, text);
    buf[text.len()].write(0);
    Ok(text.len())
}
