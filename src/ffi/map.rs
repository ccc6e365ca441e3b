//! `shoal_map` and `shoal_map_iter`: shims over [`Map`] and its iterator.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::options::{self, MapOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::error::{Error, Result, Status};
use crate::map::{Cursor, Map};
use crate::sync::EndWaits;

/// A named map from bytes to bytes that any number of processes read and write. Every call
/// is atomic for its key.
pub struct MapHandle {
    _opaque: [u8; 0],
}

/// A walk through a map.
pub struct MapIterHandle {
    _opaque: [u8; 0],
}

// Shared with its iterators, which may outlive the handle.
opaque!(MapHandle, Named<Arc<Map>>, b"shl.map.", "map handle");
opaque!(MapIterHandle, Walk, b"shl.iter", "map iterator handle");

/// Where a walk is, and the entry it was last at.
pub(super) struct Walk {
    map: Arc<Map>,
    cursor: Cursor,
    entry: (Vec<u8>, Vec<u8>),
}

impl EndWaits for Walk {}

/// # Safety
/// As [`handle::get`].
#[inline]
pub(super) unsafe fn map<'a>(m: *mut MapHandle) -> Result<&'a Map> {
    // SAFETY: the same contract.
    unsafe { handle::get(m) }.map(|named| &*named.object)
}

#[cold]
pub(super) fn no_such(key: &[u8]) -> Error {
    let shown = &key[..key.len().min(64)];
    Error::NotFound {
        what: "key",
        name: String::from_utf8_lossy(shown).into_owned(),
    }
}

/// Opens or creates a map.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a map under a name of
/// its own, which `shoal_map_name` tells.
/// `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
/// the map; the others get what is there.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_map_free`; NULL after a failure.
///
/// Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
/// SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
/// SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
/// SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
/// descriptor left).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_open(
    name: *const c_char,
    options: *const MapOptions,
    out: *mut *mut MapHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options::map(options) }?;
        let map = Arc::new(Map::with_options(name, &options)?);
        out.set(handle::new(Named::new(map, |map| map.name())));
        Ok(())
    })
}

/// Lets go of a map. The last handle of all processes removes a map that is not persistent,
/// with what is in it. Iterators of it stay usable, and keep it, until they are freed.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle. In a forked child it frees the child's copy only.
/// Ownership: `m` is gone; NULL is allowed. A handle that was freed already is noticed and
/// left alone only as long as its place has not been used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_free(m: *mut MapHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(m) });
}

/// The name of the map, to open it by in another process. NULL if `m` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_name(m: *mut MapHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(m) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Gives a key a value, whether or not it had one.
///
/// `key`, `value`: bytes of any content; either may have length 0. A key has at most 64 KiB, a
/// value half of the map's `max_capacity` and less than 4 GiB.
/// Blocking, threads, fork: waits only for calls on the same part of the map that are under
/// way. Safe everywhere.
/// Ownership: key and value are copied.
///
/// Errors: SHOAL_ERR_TOO_LARGE (key or value could never fit); SHOAL_ERR_NO_SPACE (`/dev/shm`
/// or the map is full; the old value stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_set(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        // SAFETY: the caller's contract.
        map.set(key, unsafe { args::bytes("value", value, value_len) }?)
    })
}

/// Copies the value of a key.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the value's length.
/// Blocking, threads, fork: as `shoal_map_set`.
/// Ownership: the value is copied to `buf`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room
/// needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
///
/// ```c
/// int64_t counter;
/// size_t len;
/// if (shoal_map_get(m, "hits", 4, &counter, sizeof counter, &len) == SHOAL_OK && len == 8)
///     printf("%lld hits\n", (long long)counter);
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, map) = unsafe { (Out::new("len", len)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        len.set_len(
            map.get_into(key, buf)
                .and_then(|found| found.ok_or_else(|| no_such(key))),
        )
    })
}

/// Gives a key a value if it has none.
///
/// `*inserted`: whether it did; false if the key was there, and its value stays.
/// Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one inserts.
/// Ownership: key and value are copied.
///
/// Errors: as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_insert(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    inserted: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (inserted, map) = unsafe { (Out::new("inserted", inserted)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        // SAFETY: the caller's contract.
        inserted.set(map.insert(key, unsafe { args::bytes("value", value, value_len) }?)?);
        Ok(())
    })
}

/// Removes a key.
///
/// Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one removes it.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_remove(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        if map.remove(key)? {
            Ok(())
        } else {
            Err(no_such(key))
        }
    })
}

/// Removes a key and copies the value it had.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the value's length.
/// Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one gets the value.
/// Ownership: the value is copied to `buf`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room
/// needed, and the key stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_take(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, map) = unsafe { (Out::new("len", len)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let taken = map.take_to(key, buf);
        len.set_len(taken.and_then(|found| found.ok_or_else(|| no_such(key))))
    })
}

/// Whether the map has a key.
///
/// Blocking, threads, fork: as `shoal_map_set`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_contains(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    out: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        // SAFETY: the caller's contract.
        out.set(map.contains(unsafe { args::bytes("key", key, key_len) }?)?);
        Ok(())
    })
}

/// Adds to a counter. A counter is a value of 8 bytes, an `int64_t` with its least
/// significant byte first; a key that is not there counts as 0. The sum wraps around.
///
/// `*out`: the new value; NULL if you do not care.
/// Blocking, threads, fork: as `shoal_map_set`. No addition is ever lost.
///
/// Errors: SHOAL_ERR_INVALID (also: the value is not 8 bytes long); SHOAL_ERR_TOO_LARGE (key);
/// SHOAL_ERR_NO_SPACE; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_add(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    delta: i64,
    out: *mut i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::optional("out", out)?, map(m)?) };
        // SAFETY: the caller's contract.
        out.set(map.add(unsafe { args::bytes("key", key, key_len) }?, delta)?);
        Ok(())
    })
}

/// Gives a key a new value if its value is the expected one.
///
/// `expected`: NULL (with length 0) expects that the key is not there; an empty value is any
/// other pointer with length 0.
/// `desired`: NULL (with length 0) removes the key.
/// `*swapped`: whether it did.
/// Blocking, threads, fork: as `shoal_map_set`.
/// Ownership: all bytes are copied.
///
/// Errors: as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_compare_swap(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    expected: *const c_void,
    expected_len: usize,
    desired: *const c_void,
    desired_len: usize,
    swapped: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (swapped, map) = unsafe { (Out::new("swapped", swapped)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        // SAFETY: the caller's contract.
        let old = unsafe { args::bytes("expected", expected, expected_len) }?;
        // SAFETY: the caller's contract.
        let new = unsafe { args::bytes("desired", desired, desired_len) }?;
        let old = (!expected.is_null()).then_some(old);
        let new = (!desired.is_null()).then_some(new);
        swapped.set(map.compare_swap(key, old, new)?);
        Ok(())
    })
}

/// How many keys the map has. Exact if nobody writes meanwhile.
///
/// Blocking, threads, fork: as `shoal_map_set`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_len(m: *mut MapHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        out.set(map.len()? as u64);
        Ok(())
    })
}

/// Whether the map was made with SHOAL_ORDERED.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_is_ordered(m: *mut MapHandle, out: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        out.set(map.is_ordered());
        Ok(())
    })
}

/// Removes every key. A key that another process sets meanwhile may stay.
///
/// Blocking, threads, fork: as `shoal_map_set`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_clear(m: *mut MapHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { map(m)?.clear() })
}

/// Removes the name of a map. Who has it open goes on using it; who opens or creates the name
/// from now on gets another one.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Map::unlink(args::text("name", name)?) })
}

/// Begins a walk through all entries of a map, in no order, while others may write.
///
/// A key that is there from the first step to the last is met exactly once, with a value it
/// had in between; one that comes or goes meanwhile is met once or not at all.
///
/// Blocking, threads, fork: does not wait; no lock is held between two steps.
/// Ownership: `*out` is yours until `shoal_map_iter_free`; NULL after a failure. It keeps the
/// map open, even if `m` is freed first.
///
/// Errors: SHOAL_ERR_INVALID.
///
/// ```c
/// shoal_map_iter *it;
/// const void *key, *value;
/// size_t key_len, value_len;
/// if (shoal_map_iter_new(m, &it) == SHOAL_OK) {
///     while (shoal_map_iter_next(it, &key, &key_len, &value, &value_len) == SHOAL_OK)
///         printf("%.*s\n", (int)key_len, (const char *)key);
///     shoal_map_iter_free(it);
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_iter_new(
    m: *mut MapHandle,
    out: *mut *mut MapIterHandle,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let map = Arc::clone(unsafe { &handle::get(m)?.object });
        let (cursor, entry) = Default::default();
        out.set(handle::new(Walk { map, cursor, entry }));
        Ok(())
    })
}

/// Moves to the next entry.
///
/// `*key`, `*key_len`, `*value`, `*value_len`: the entry.
/// Blocking, threads, fork: as `shoal_map_set`; one thread at a time.
/// Ownership: `*key` and `*value` are the iterator's, and valid until its next step or its end.
///
/// Errors: SHOAL_ERR_EMPTY (that was all); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_iter_next(
    it: *mut MapIterHandle,
    key: *mut *const c_void,
    key_len: *mut usize,
    value: *mut *const c_void,
    value_len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (key, key_len) = unsafe { (Out::new("key", key)?, Out::new("key_len", key_len)?) };
        // SAFETY: the caller's contract.
        let value = unsafe { Out::new("value", value) }?;
        // SAFETY: the caller's contract.
        let value_len = unsafe { Out::new("value_len", value_len) }?;
        // SAFETY: the caller's contract.
        let walk = unsafe { handle::get_mut(it) }?;
        walk.entry = walk.cursor.next(&walk.map).ok_or(Error::Empty)??;
        key.set(walk.entry.0.as_ptr().cast());
        key_len.set(walk.entry.0.len());
        value.set(walk.entry.1.as_ptr().cast());
        value_len.set(walk.entry.1.len());
        Ok(())
    })
}

/// Ends a walk, at any step.
///
/// Blocking, threads, fork: does not wait. No other thread may be using the iterator.
/// Ownership: `it` is gone, with the last entry it gave; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_iter_free(it: *mut MapIterHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(it) });
}
