//! `shoal_list`: shims over [`List`].

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, Out, Slice};
use super::handle::{self, Named, opaque};
use super::options::{self, ListOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::copy::fill;
use crate::error::{Error, Result, Status};
use crate::list::{List, Locked};

/// A named sequence of byte strings that any number of processes read and write. Every call
/// is atomic.
///
/// An index below 0 counts from the end: -1 is the last element. An index that no element has
/// is SHOAL_ERR_NOT_FOUND; a bound of a range beyond either end is that end.
pub struct ListHandle {
    _opaque: [u8; 0],
}

opaque!(ListHandle, Named<List>, b"shl.list", "list handle");

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn list<'a>(l: *mut ListHandle) -> Result<&'a List> {
    // SAFETY: the same contract.
    unsafe { handle::get(l) }.map(|named| &named.object)
}

/// The index from the front; one that is before the first element is no element's.
fn element(index: i64, locked: &Locked<'_>) -> Result<usize> {
    if index >= 0 {
        return Ok(index as usize);
    }
    let from_end = index.unsigned_abs() as usize;
    Ok(locked.len()?.checked_sub(from_end).unwrap_or(usize::MAX))
}

/// The bound of a range from the front; before the first element it is 0.
fn bound(index: i64, locked: &Locked<'_>) -> Result<usize> {
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

/// Opens or creates a list.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a list under a name
/// of its own, which `shoal_list_name` tells.
/// `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
/// the list; the others get what is there.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_list_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_open(
    name: *const c_char,
    options: *const ListOptions,
    out: *mut *mut ListHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::list(options) }?;
        let list = List::with_options(name, &options)?;
        out.set(handle::new(Named::new(list, List::name)));
        Ok(())
    })
}

/// Lets go of a list. The last handle of all processes removes a list that is not
/// persistent, with what is in it.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `l` is gone; NULL is allowed. A handle that was freed already is noticed and
/// left alone only as long as its place has not been used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_free(l: *mut ListHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(l) });
}

/// The name of the list, to open it by in another process. NULL if `l` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_name(l: *mut ListHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(l) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name of a list. Who has it open goes on using it; who opens or creates the
/// name from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { List::unlink(args::text("name", name)?) })
}

/// Adds an element at the end.
///
/// `data`, `len`: bytes of any content and number.
/// Blocking, threads, fork: waits only for calls on the list that are under way. Safe
/// everywhere.
/// Ownership: the element is copied.
///
/// Errors: SHOAL_ERR_TOO_LARGE (it could never fit); SHOAL_ERR_NO_SPACE (`/dev/shm` or the
/// list is full; the list is as it was); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_append(
    l: *mut ListHandle,
    data: *const c_void,
    len: usize,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { list(l)?.append(args::bytes("data", data, len)?) })
}

/// Adds an element before another one, or at either end if `index` is beyond it.
///
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the element is copied.
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
        let (list, bytes) = unsafe { (list(l)?, args::bytes("data", data, len)?) };
        list.with(|locked| {
            let at = bound(index, locked)?;
            locked.splice(at..at, &[bytes])
        })
    })
}

/// Copies an element.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the element's length.
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the element is copied to `buf`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
/// room needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
///
/// ```c
/// char last[64];
/// size_t len;
/// if (shoal_list_get(l, -1, last, sizeof last, &len) == SHOAL_OK)
///     printf("%.*s\n", (int)len, last);
/// ```
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
        let (len, list) = unsafe { (Out::new("len", len)?, list(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let found = list.with(|locked| locked.get_into(element(index, locked)?, buf));
        len.set_len(found.and_then(|found| found.ok_or_else(|| no_such(index))))
    })
}

/// Removes an element and copies it.
///
/// `index`: -1 for the last.
/// `buf`, `capacity`: where to, and the room there. `*len`: the element's length.
/// Blocking, threads, fork: as `shoal_list_append`. Of several callers each gets another one.
/// Ownership: the element is copied to `buf`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
/// room needed, and the element stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
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
        let (len, list) = unsafe { (Out::new("len", len)?, list(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let popped = list.with(|locked| locked.pop_to(element(index, locked)?, buf));
        len.set_len(popped.and_then(|popped| popped.ok_or_else(|| no_such(index))))
    })
}

/// Replaces an element.
///
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the element is copied.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); and as `shoal_list_append`.
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
        let (list, bytes) = unsafe { (list(l)?, args::bytes("data", data, len)?) };
        if list.with(|locked| locked.set(element(index, locked)?, bytes))? {
            Ok(())
        } else {
            Err(no_such(index))
        }
    })
}

/// Replaces an element if it is the expected one.
///
/// `*swapped`: whether it did; false too if there is no such element.
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: all bytes are copied.
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
        let (swapped, list) = unsafe { (Out::new("swapped", swapped)?, list(l)?) };
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
/// Blocking, threads, fork: as `shoal_list_append`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_swap(l: *mut ListHandle, a: i64, b: i64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let list = unsafe { list(l) }?;
        let swapped = list.with(|locked| locked.swap(element(a, locked)?, element(b, locked)?))?;
        if swapped { Ok(()) } else { Err(no_such(a)) }
    })
}

/// Replaces the elements from `start` up to, but not including, `stop` by others: all at
/// once, of which nobody sees a part.
///
/// `start`, `stop`: 0 and INT64_MAX are all of the list, twice INT64_MAX its end.
/// `items`, `n`: the new elements; none to remove the old ones.
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the elements are copied.
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
        let (list, items) = unsafe { (list(l)?, args::items("items", items, n)?) };
        list.with(|locked| {
            let range = bound(start, locked)?..bound(stop, locked)?;
            locked.splice(range, items)
        })
    })
}

/// Replaces elements as `shoal_list_splice` does, if nobody has changed the list since
/// `shoal_list_get_many` told its version.
///
/// `*done`: whether it did.
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the elements are copied.
///
/// Errors: as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_splice_if(
    l: *mut ListHandle,
    version: u64,
    start: i64,
    stop: i64,
    items: *const Slice,
    n: usize,
    done: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::new("done", done) }?;
        // SAFETY: the caller's contract.
        let (list, items) = unsafe { (list(l)?, args::items("items", items, n)?) };
        done.set(list.with(|locked| {
            let same = locked.version() == version;
            if same {
                let range = bound(start, locked)?..bound(stop, locked)?;
                locked.splice(range, items)?;
            }
            Ok(same)
        })?);
        Ok(())
    })
}

/// Brings the elements into another order and removes those that the order leaves out, all
/// at once, if nobody has changed the list since `shoal_list_get_many` told its version.
///
/// `order`, `n`: indices, none of them twice and none below 0.
/// `*done`: whether it did.
/// Blocking, threads, fork: as `shoal_list_append`. No element is copied.
///
/// Errors: SHOAL_ERR_INVALID (also: `order` names an element twice, or one that is not
/// there); SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_rearrange_if(
    l: *mut ListHandle,
    version: u64,
    order: *const u64,
    n: usize,
    done: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::new("done", done) }?;
        // SAFETY: the caller's contract.
        let (list, order) = unsafe { (list(l)?, args::array("order", order, n)?) };
        done.set(list.with(|locked| {
            let same = locked.version() == version;
            if same {
                locked.rearrange(order)?;
            }
            Ok(same)
        })?);
        Ok(())
    })
}

/// Copies several elements, as they are at one moment.
///
/// `start`: the index of the first; not below 0.
/// `buf`, `capacity`: where to, one after the other, and the room there.
/// `lens`, `n`: where their lengths go, and the most elements wanted.
/// `*count`: how many there are in `buf`: as many as `n` and `capacity` allow, and 0 at the
/// end of the list. If that is less than `n`, `lens[*count]` is SIZE_MAX where the list ends
/// there, and else the length of the next one, which did not fit.
/// `*version`: differs whenever the list was changed meanwhile. What several calls copied
/// belongs together if they all told the same. NULL if you do not care.
/// Blocking, threads, fork: as `shoal_list_append`.
/// Ownership: the elements are copied to `buf`.
///
/// Errors: SHOAL_ERR_BUFFER_TOO_SMALL (even the first does not fit; `lens[0]` is the room
/// needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_get_many(
    l: *mut ListHandle,
    start: u64,
    buf: *mut c_void,
    capacity: usize,
    lens: *mut usize,
    n: usize,
    count: *mut usize,
    version: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let count = unsafe { Out::preset("count", count, 0) }?;
        // SAFETY: the caller's contract.
        let (version, list) = unsafe { (Out::optional("version", version)?, list(l)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        // SAFETY: the caller's contract.
        let lens = unsafe { args::array_mut("lens", lens, n) }?;
        let (mut found, mut at, mut whole) = (0, 0, true);
        list.with(|locked| {
            version.set(locked.version());
            if n == 0 {
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
                Ok(found < n)
            })
        })?;
        if whole && found < n {
            lens[found].write(usize::MAX);
        }
        count.set(found);
        Ok(())
    })
}

/// Sorts the list, all at once; equal elements keep their order.
///
/// `compare`, `arg`: a function that says below 0, 0 or above 0 as its first element comes
/// before the second, does not matter, or comes after it, and what it is passed along with
/// them. They are valid during the call only. NULL sorts by the bytes.
/// It is called with the list locked: it must return, and not use the list.
/// Blocking, threads, fork: as `shoal_list_append`.
///
/// Errors: SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_INTERNAL (`compare`
/// contradicts itself; the list is as it was); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
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
        let list = unsafe { list(l) }?;
        list.sort_by(|a, b| match compare {
            None => a.cmp(b),
            Some(compare) => {
                let (a, a_len) = (a.as_ptr().cast(), a.len());
                // SAFETY: the caller's function, with what it expects.
                let said = unsafe { compare(a, a_len, b.as_ptr().cast(), b.len(), arg) };
                said.cmp(&0)
            }
        })
    })
}

/// Reverses the list, all at once.
///
/// Blocking, threads, fork: as `shoal_list_append`.
///
/// Errors: SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_INVALID;
/// SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_reverse(l: *mut ListHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { list(l)?.reverse() })
}

/// How many elements the list has.
///
/// Blocking, threads, fork: as `shoal_list_append`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_len(l: *mut ListHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, list) = unsafe { (Out::new("out", out)?, list(l)?) };
        out.set(list.len()? as u64);
        Ok(())
    })
}

/// Removes every element, at once.
///
/// Blocking, threads, fork: as `shoal_list_append`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_clear(l: *mut ListHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { list(l)?.clear() })
}
