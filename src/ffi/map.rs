//! Map
//!
//! Keys and values, which any number of processes read and write. Every call is atomic for its
//! key. A key has at most 64 KiB, a value half of the map's `max_capacity` and less than 4 GiB; either may
//! have length 0.
//!
//! A program in Rust can be a map's relay (`relayed` in its statistics): changes go to the relay, and are
//! visible once it has delivered them. Changes that depend on the old value wait for its answer. Any change
//! may then fail with SHOAL_ERR_TIMEOUT, or with SHOAL_ERR_UNSUPPORTED if the relay refuses it; keys cannot
//! be locked. A map with a relay is persistent.
//!
//! Killed: A change of a key is done completely or not at all; of several keys, any number are changed. A key
//! that the process had locked is free, and `*owner_died` reports this to the next process that locks it. Its
//! views end.
//!
//! ```c
//! shoal_map_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_map *totals;
//! if (shoal_map_open("totals", &options, &totals, NULL) == SHOAL_OK) {
//!     int64_t hits = 0;
//!     if (shoal_map_add(totals, "hits", 4, 1, &hits) == SHOAL_OK)
//!         printf("%lld hits\n", (long long)hits);
//!     shoal_map_free(totals);
//! }
//! ```

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::args::{self, Out};
use super::handle::{self, Inner, object, opaque};
use super::options::{self, sized};
use super::status::{Failure, guard, guard_step};
use crate::error::{Error, Result, Status};
use crate::map::{Cursor, Map};
use crate::segment::Options;
use crate::sync::EndWaits;

/// A map from bytes to bytes.
pub struct MapHandle {
    _opaque: [u8; 0],
}

/// A walk through a map.
pub struct MapIterHandle {
    _opaque: [u8; 0],
}

// Shared with its iterators, which may outlive the handle.
opaque!(MapHandle, named Arc<Map>, b"shl.map.");
opaque!(MapIterHandle, Walk, b"shl.iter");

/// The position of a walk, and the entry that it returned last.
pub(super) struct Walk {
    map: Arc<Map>,
    cursor: Cursor,
    entry: (Vec<u8>, Vec<u8>),
}

impl EndWaits for Walk {}

impl Inner for Walk {}

/// In `shoal_map_options.flags`: a created map is walked in the order in which its keys were inserted.
/// Each entry takes 8 bytes more, and a walk begins by copying all keys.
pub const SHOAL_ORDERED: u64 = 64;

/// In `shoal_map_options.flags`: a created map has 4 parts with a lock each instead of 64. Empty it takes 12 KiB
/// of memory instead of 48, and at most 4 processes change it at the same time. For programs with many maps of
/// a few keys each.
pub const SHOAL_COMPACT: u64 = 128;

/// How to open a map. All but `size` and `flags` apply to a new one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MapOptions {
    /// `sizeof(shoal_map_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_ORDERED, SHOAL_COMPACT.
    pub flags: u64,
    /// Bytes of data for which memory is reserved from the start; 0 for none.
    pub capacity: u64,
    /// Bytes of data to which it may grow, from 1 MiB to 512 GiB; 0 for 64 GiB, or less where address
    /// space or files are limited. Address space only: memory is used as entries need it.
    pub max_capacity: u64,
}

sized!(MapOptions, "shoal_map_options.size", 32);

/// Statistics of a map.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MapStats {
    /// `sizeof(shoal_map_stats)`.
    pub size: usize,
    /// How many keys it has. Exact if no process writes meanwhile.
    pub len: u64,
    /// How many keys have a time to live, including expired ones that are not yet removed.
    pub expiring: u64,
    /// Bytes of memory that entries and tables take.
    pub used: u64,
    /// A number that grows with every change of the map, for `shoal_map_wait_change`.
    pub changes: u64,
    /// Bytes of data to which it may grow.
    pub max_capacity: u64,
    /// Bytes of the longest value that can ever be set.
    pub max_value: u64,
    /// Whether it was created with SHOAL_ORDERED.
    pub ordered: bool,
    /// Whether the map has a relay: changes go there, and come back when the relay delivers them.
    pub relayed: bool,
    /// Whether it was created with SHOAL_COMPACT.
    pub compact: bool,
}

sized!(MapStats, "shoal_map_stats.size", 64);

/// # Safety
/// As [`options::read`].
unsafe fn options(given: *const MapOptions) -> Result<Options> {
    // SAFETY: the same contract.
    let Some(o) = unsafe { options::read(given) }? else {
        return Ok(Options::open());
    };
    Ok(Options {
        ordered: o.flags & SHOAL_ORDERED != 0,
        compact: o.flags & SHOAL_COMPACT != 0,
        ..options::object(
            o.flags & !(SHOAL_ORDERED | SHOAL_COMPACT),
            o.capacity,
            o.max_capacity,
        )?
    })
}

/// # Safety
/// As [`handle::get`].
#[inline]
pub(super) unsafe fn map<'a>(m: *mut MapHandle) -> Result<&'a Map> {
    // SAFETY: the same contract.
    unsafe { object(m) }.map(|map| &**map)
}

/// A map and a key.
///
/// # Safety
/// As [`handle::get`] and [`args::bytes`].
#[inline]
pub(super) unsafe fn at<'a>(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
) -> Result<(&'a Map, &'a [u8])> {
    // SAFETY: the same contract.
    unsafe { Ok((map(m)?, args::bytes("key", key, key_len)?)) }
}

#[cold]
pub(super) fn no_such(key: &[u8]) -> Error {
    let shown = &key[..key.len().min(64)];
    Error::NotFound {
        what: "key",
        name: String::from_utf8_lossy(shown).into_owned(),
    }
}

/// Opens or creates a map; see "Opening".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_open(
    name: *const c_char,
    options: *const MapOptions,
    out: *mut *mut MapHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        Map::with_options(name, &unsafe { self::options(options) }?).map(Arc::new)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing". Its iterators stay usable, and keep the map open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_free(m: *mut MapHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(m) }
}

/// Fills in statistics; see "Statistics".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_stat(m: *mut MapHandle, out: *mut MapStats) -> Status {
    let stats = |map: &Arc<Map>| {
        Ok(MapStats {
            size: size_of::<MapStats>(),
            len: map.len()? as u64,
            expiring: map.expiring(),
            used: map.used(),
            changes: map.version(),
            max_capacity: map.max_capacity(),
            max_value: map.max_value(),
            ordered: map.is_ordered(),
            relayed: map.is_relayed(),
            compact: map.is_compact(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(m, out, stats) }
}

/// Gives a key a value, whether or not it had one.
///
/// Errors: SHOAL_ERR_TOO_LARGE (key or value could never fit); SHOAL_ERR_NO_SPACE (memory or the map is
/// full; the old value stays).
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
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        map.set(key, unsafe { args::bytes("value", value, value_len) }?)
    })
}

/// Copies the value of a key.
///
/// `*version`: no two values of a key have the same version, and later ones have higher; never 0.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    version: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let len = unsafe { Out::preset("len", len, 0) }?;
        // SAFETY: the caller's contract.
        let version = unsafe { Out::optional("version", version) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let found = match version.is_wanted() {
            false => map.get_into(key, buf),
            true => map.get_versioned_to(key, buf).map(|found| {
                found.map(|(found, its_version)| {
                    version.set(its_version);
                    found
                })
            }),
        };
        len.set_len(found.and_then(|found| found.ok_or_else(|| no_such(key))))
    })
}

/// Gives a key a value if it has none. Of several callers exactly one inserts.
///
/// `*inserted`: whether this call did; if not, the value stays as it was.
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
        let inserted = unsafe { Out::optional("inserted", inserted) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        inserted.set(map.insert(key, unsafe { args::bytes("value", value, value_len) }?)?);
        Ok(())
    })
}

/// Removes a key. Of several callers exactly one removes it.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_remove(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        match map.remove(key)? {
            true => Ok(()),
            false => Err(no_such(key)),
        }
    })
}

/// Removes a key and copies the value that it had. Of several callers exactly one gets it.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (the key stays).
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
        let len = unsafe { Out::preset("len", len, 0) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let taken = map.take_to(key, buf);
        len.set_len(taken.and_then(|found| found.ok_or_else(|| no_such(key))))
    })
}

/// Whether the map has a key.
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
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        out.set(map.contains(key)?);
        Ok(())
    })
}

/// Gives a key a new value if its value is the expected one.
///
/// `expected`: NULL (with length 0) expects that the key is not there; an empty value is any other
/// pointer with length 0.
/// `desired`: NULL (with length 0) removes the key.
/// `*swapped`: whether the value was the expected one.
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
        let swapped = unsafe { Out::optional("swapped", swapped) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
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

/// How many keys the map has. Exact if no process writes meanwhile. Keys that have expired do not count; a part
/// of the map with keys that expire is walked to count them.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_len(m: *mut MapHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, 0) }?;
        // SAFETY: the caller's contract.
        out.set(unsafe { map(m) }?.len()? as u64);
        Ok(())
    })
}

/// Removes every key. A key that another process sets meanwhile may stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_clear(m: *mut MapHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(m, |map: &Arc<Map>| map.clear()) }
}

/// Begins a walk through all entries of a map, in no particular order unless it is SHOAL_ORDERED, while other
/// processes may write. A key that is there from the first step to the last is found exactly once, with a
/// value that it had in between; one that is inserted or removed meanwhile is found once or not at all.
///
/// No lock is held between two steps. An iterator serves one thread at a time.
/// Ownership: `*out` is yours until `shoal_map_iter_free`. It keeps the map open, also if `m` is freed
/// first.
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
        let map = Arc::clone(unsafe { object(m) }?);
        let (cursor, entry) = Default::default();
        out.set(handle::new(Walk { map, cursor, entry }));
        Ok(())
    })
}

/// Moves to the next entry.
///
/// `*key`, `*key_len`, `*value`, `*value_len`: the entry.
/// Ownership: `*key` and `*value` are the iterator's, and valid until its next step or its end.
///
/// Errors: SHOAL_ERR_END (there are no more).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_iter_next(
    it: *mut MapIterHandle,
    key: *mut *const c_void,
    key_len: *mut usize,
    value: *mut *const c_void,
    value_len: *mut usize,
) -> Status {
    guard_step(|| {
        // SAFETY: the caller's contract.
        let key = unsafe { Out::preset("key", key, std::ptr::null()) }?;
        // SAFETY: the caller's contract.
        let key_len = unsafe { Out::preset("key_len", key_len, 0) }?;
        // SAFETY: the caller's contract.
        let value = unsafe { Out::preset("value", value, std::ptr::null()) }?;
        // SAFETY: the caller's contract.
        let value_len = unsafe { Out::preset("value_len", value_len, 0) }?;
        // SAFETY: the caller's contract.
        let walk = unsafe { handle::get_mut(it) }?;
        walk.entry = walk.cursor.next(&walk.map).ok_or(Failure::End)??;
        key.set(walk.entry.0.as_ptr().cast());
        key_len.set(walk.entry.0.len());
        value.set(walk.entry.1.as_ptr().cast());
        value_len.set(walk.entry.1.len());
        Ok(())
    })
}

/// Ends a walk, at any step. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_iter_free(it: *mut MapIterHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(it) }
}
