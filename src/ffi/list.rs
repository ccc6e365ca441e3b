//! List
//!
//! A sequence of byte strings that any number of processes read and write. Every call is atomic. An index
//! below 0 counts from the end: -1 is the last element. An index that no element has is
//! SHOAL_ERR_NOT_FOUND; a bound of a range beyond either end is that end.
//!
//! Killed: A change is done completely or not at all, of several elements too. An element that the process
//! was popping may be lost with it.
//!
//! ```c
//! shoal_list_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_list *names;
//! char last[64];
//! size_t len;
//! if (shoal_list_open("names", &options, &names, NULL) == SHOAL_OK &&
//!     shoal_list_append(names, "Ada", 3) == SHOAL_OK &&
//!     shoal_list_get(names, -1, last, sizeof last, &len) == SHOAL_OK)
//!     printf("%.*s\n", (int)len, last);
//! ```

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, Out, Slice};
use super::handle::{self, object, opaque};
use super::options::{self, sized};
use super::status::guard;
use crate::copy::fill;
use crate::error::{Error, Result, Status};
use crate::list::{List, Locked};
use crate::segment::Options;

/// A list of byte strings.
pub struct ListHandle {
    _opaque: [u8; 0],
}

opaque!(ListHandle, named List, b"shl.list");

/// How to open a list. All but `size` and `flags` apply to a new one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ListOptions {
    /// `sizeof(shoal_list_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    pub flags: u64,
    /// Bytes of data for which there is room from the start; 0 for the default.
    pub capacity: u64,
    /// Bytes of data to which it may grow; 0 for 64 GiB, or less where address space or files are
    /// limited. Address space only: memory is used as elements need it.
    pub max_capacity: u64,
}

sized!(ListOptions, "shoal_list_options.size", 32);

/// Statistics of a list.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ListStats {
    /// `sizeof(shoal_list_stats)`.
    pub size: usize,
    /// How many elements it has.
    pub len: u64,
    /// Bytes of memory that elements and the table take.
    pub used: u64,
    /// A number that differs after every change of the list.
    pub version: u64,
    /// Bytes of data to which it may grow.
    pub max_capacity: u64,
    /// Bytes of the longest element that can ever be added.
    pub max_element: u64,
}

sized!(ListStats, "shoal_list_stats.size", 48);

/// # Safety
/// As [`options::read`].
unsafe fn options(given: *const ListOptions) -> Result<Options> {
    // SAFETY: the same contract.
    match unsafe { options::read(given) }? {
        Some(o) => options::object(o.flags, o.capacity, o.max_capacity),
        None => Ok(Options::open()),
    }
}

/// The index from the front. Fails if it is before the first element.
fn element(index: i64, locked: &Locked<'_>) -> Result<usize> {
    if index >= 0 {
        return Ok(index as usize);
    }
    let from_end = index.unsigned_abs() as usize;
    Ok(locked.len()?.checked_sub(from_end).unwrap_or(usize::MAX))
}

/// The bound of a range from the front; before the first element it is 0.
pub(super) fn bound(index: i64, locked: &Locked<'_>) -> Result<usize> {
    if index >= 0 {
        return Ok(index as usize);
    }
    let from_end = index.unsigned_abs() as usize;
    Ok(locked.len()?.saturating_sub(from_end))
}

#[cold]
fn no_such(index: i64) -> Error {
    Error::NotFound {
        what: "index",
        name: index.to_string(),
    }
}

/// Opens or creates a list; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_open(
    name: *const c_char,
    options: *const ListOptions,
    out: *mut *mut ListHandle,
    created: *mut bool,
) -> Status {
    // SAFETY: the caller's contract.
    let open = |name: Option<&str>| List::with_options(name, &unsafe { self::options(options) }?);
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_free(l: *mut ListHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(l) }
}

/// Fills in statistics; see "Statistics".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_stat(l: *mut ListHandle, out: *mut ListStats) -> Status {
    let stats = |list: &List| {
        let (len, version) = list.with(|locked| Ok((locked.len()? as u64, locked.version())))?;
        Ok(ListStats {
            size: size_of::<ListStats>(),
            len,
            used: list.used(),
            version,
            max_capacity: list.max_capacity(),
            max_element: list.max_element(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(l, out, stats) }
}

/// Adds an element at the end.
///
/// Errors: SHOAL_ERR_TOO_LARGE (it could never fit); SHOAL_ERR_NO_SPACE (memory or the list is full; the
/// list is as it was).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_append(
    l: *mut ListHandle,
    data: *const c_void,
    len: usize,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { object(l)?.append(args::bytes("data", data, len)?) })
}

/// Adds an element before another one, or at either end if `index` is beyond it.
///
/// Errors: as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_insert(
    l: *mut ListHandle,
    index: i64,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (list, bytes) = unsafe { (object(l)?, args::bytes("data", data, len)?) };
        list.with(|locked| {
            let at = bound(index, locked)?;
            locked.splice(at..at, &[bytes])
        })
    })
}

/// Copies an element.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_get(
    l: *mut ListHandle,
    index: i64,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, list) = unsafe { (Out::preset("len", len, 0)?, object(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let found = list.with(|locked| locked.get_into(element(index, locked)?, buf));
        len.set_len(found.and_then(|found| found.ok_or_else(|| no_such(index))))
    })
}

/// Removes an element and copies it. No element goes to two callers.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (the element stays).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_pop(
    l: *mut ListHandle,
    index: i64,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, list) = unsafe { (Out::preset("len", len, 0)?, object(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let popped = list.with(|locked| locked.pop_to(element(index, locked)?, buf));
        len.set_len(popped.and_then(|popped| popped.ok_or_else(|| no_such(index))))
    })
}

/// Replaces an element.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_set(
    l: *mut ListHandle,
    index: i64,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (list, bytes) = unsafe { (object(l)?, args::bytes("data", data, len)?) };
        if list.with(|locked| locked.set(element(index, locked)?, bytes))? {
            Ok(())
        } else {
            Err(no_such(index))
        }
    })
}

/// Replaces an element if it is the expected one.
///
/// `*swapped`: whether it was; false too if there is no such element.
///
/// Errors: as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_compare_swap(
    l: *mut ListHandle,
    index: i64,
    expected: *const c_void,
    expected_len: usize,
    desired: *const c_void,
    desired_len: usize,
    swapped: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (swapped, list) = unsafe { (Out::optional("swapped", swapped)?, object(l)?) };
        // SAFETY: the caller's contract.
        let old = unsafe { args::bytes("expected", expected, expected_len) }?;
        // SAFETY: the caller's contract.
        let new = unsafe { args::bytes("desired", desired, desired_len) }?;
        swapped.set(list.with(|locked| locked.compare_swap(element(index, locked)?, old, new))?);
        Ok(())
    })
}

/// Exchanges two elements.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_swap(l: *mut ListHandle, a: i64, b: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let list = unsafe { object(l) }?;
        list.with(|locked| {
            let (first, second) = (element(a, locked)?, element(b, locked)?);
            match locked.swap(first, second)? {
                true => Ok(()),
                // If only one of them is missing, it is the one behind the other.
                false => Err(no_such(if first >= second { a } else { b })),
            }
        })
    })
}

/// Replaces the elements from `start` up to, but not including, `stop` by others, all at once.
///
/// `start`, `stop`: 0 and INT64_MAX are the whole list, twice INT64_MAX is its end.
/// `items`, `n`: the new elements; none to remove the old ones.
///
/// Errors: as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_splice(
    l: *mut ListHandle,
    start: i64,
    stop: i64,
    items: *const Slice,
    n: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (list, items) = unsafe { (object(l)?, args::items("items", items, n)?) };
        list.with(|locked| {
            let range = bound(start, locked)?..bound(stop, locked)?;
            locked.splice(range, items)
        })
    })
}

/// Copies several elements, as they are at one moment.
///
/// `start`: the index of the first; not below 0. `buf`, `capacity`: where they go, one after the other.
/// `lens`, `max`: room for their lengths. `*n`: how many were copied: as many as `max` and `capacity` allow,
/// and 0 at the end of the list. If `*n` is less than `max`, `lens[*n]` is SIZE_MAX if the list ends there,
/// and else the length of the next element, which did not fit.
/// `*version`: a number that differs after every change of the list.
///
/// Errors: SHOAL_ERR_BUFFER_TOO_SMALL (even the first does not fit; `lens[0]` is the room needed).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_get_many(
    l: *mut ListHandle,
    start: u64,
    buf: *mut c_void,
    capacity: usize,
    lens: *mut usize,
    max: usize,
    n: *mut usize,
    version: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let n = unsafe { Out::preset("n", n, 0) }?;
        // SAFETY: the caller's contract.
        let (version, list) = unsafe { (Out::optional("version", version)?, object(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        // SAFETY: the caller's contract.
        let lens = unsafe { args::array_mut("lens", lens, max) }?;
        let (mut found, mut at, mut whole) = (0, 0, true);
        list.with(|locked| {
            version.set(locked.version());
            if max == 0 {
                return Ok(());
            }
            locked.visit(usize::try_from(start).unwrap_or(usize::MAX), |bytes| {
                let Some(to) = buf.get_mut(at..at + bytes.len()) else {
                    lens[found].write(bytes.len());
                    whole = false;
                    if found > 0 {
                        return Ok(false);
                    }
                    let needed = bytes.len();
                    return Err(Error::BufferTooSmall { needed, capacity });
                };
                fill(to, bytes);
                lens[found].write(bytes.len());
                (found, at) = (found + 1, at + bytes.len());
                Ok(found < max)
            })
        })?;
        if whole && found < max {
            lens[found].write(usize::MAX);
        }
        n.set(found);
        Ok(())
    })
}

/// Sorts the list, all at once; equal elements keep their order.
///
/// `compare`, `arg`: returns below 0, 0 or above 0 if its first element comes before the second, is equal,
/// or comes after it; `arg` is passed on. NULL sorts by the bytes. It is called with the list locked: it
/// must return, and a call with this handle in it is SHOAL_ERR_INVALID. If it contradicts itself, the elements
/// are in some order.
///
/// Errors: SHOAL_ERR_NO_SPACE (the list is as it was).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_sort(
    l: *mut ListHandle,
    compare: Option<
        unsafe extern "C" fn(
            a: *const c_void,
            a_len: usize,
            b: *const c_void,
            b_len: usize,
            arg: *mut c_void,
        ) -> c_int,
    >,
    arg: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let list = unsafe { object(l) }?;
        list.sort_by(|a, b| match compare {
            None => a.cmp(b),
            Some(compare) => {
                let (a, a_len) = (a.as_ptr().cast(), a.len());
                // SAFETY: the caller's function, with what it expects.
                let said = crate::sync::set_aside(|| unsafe {
                    compare(a, a_len, b.as_ptr().cast(), b.len(), arg)
                });
                said.cmp(&0)
            }
        })
    })
}

/// Reverses the list, all at once.
///
/// Errors: SHOAL_ERR_NO_SPACE (the list is as it was).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_reverse(l: *mut ListHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, List::reverse) }
}

/// How many elements the list has.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_len(l: *mut ListHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, list) = unsafe { (Out::preset("out", out, 0)?, object(l)?) };
        out.set(list.len()? as u64);
        Ok(())
    })
}

/// Removes every element, all at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_clear(l: *mut ListHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, List::clear) }
}
