//! `shoal.Map`.

use std::ptr::null_mut;

use pyo3_ffi::{
    Py_ssize_t, PyDict_GetItemWithError, PyDict_SetItem, PyDict_Size, PyErr_Clear,
    PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLong, PyLong_FromLongLong,
    PyObject,
};

use crate::buffer::{Buffer, LARGE};
use crate::codec::{self, Copied, SCRATCH};
use crate::held::This;
use crate::methods::{Methods, methods};
use crate::names::{DECODE_VALUE, DEFAULT, DELTA, GOT_ONCE, KEY, SET_AGAIN, VALUE};
use crate::native::{INTERRUPTED, INVALID, NOT_CALLED, NOT_FOUND, OK};
use crate::python::{Args, Py_DecRef, PyObject_CallMethodObjArgs, bool, new_reference, none};
use crate::word::up_to_date;

pub(crate) static METHODS: Methods =
    methods!(c"Map": __getitem__, __setitem__, __delitem__, __contains__, get, add);

/// The largest number of keys that are noted or cached (`_cache._MOST_CACHED`).
const MOST_CACHED: Py_ssize_t = 1 << 14;

/// The result of a look-up.
enum Found {
    /// A new reference, or null with an exception.
    Object(*mut PyObject),
    Nothing,
    /// Python has to look up the key.
    Unknown,
}

/// Looks up a key, first in the cache: `Map.get`, for the most frequent keys and values.
fn find(map: This, key: *mut PyObject) -> Found {
    if !codec::is_plain(key) || map.is_detached() {
        return Found::Unknown;
    }
    let held = map.held();
    // SAFETY: a `Held` that lives. The keys of the cache are plain, so no Python code runs while it is used;
    // a value gets a reference of its own at once.
    unsafe {
        if (*held).pause > 0 {
            (*held).pause -= 1;
        } else {
            let cache = (*held).cache;
            if cache.is_null() {
                return Found::Unknown;
            }
            let entry = PyDict_GetItemWithError(cache, key);
            if !entry.is_null() {
                return match up_to_date(entry) {
                    Some(value) => Found::Object(new_reference(value)),
                    None => Found::Unknown,
                };
            }
            let once = GOT_ONCE.get();
            if once.is_null()
                || PyDict_Size(cache) >= MOST_CACHED
                || PyDict_SetItem(cache, key, once) != 0
            {
                PyErr_Clear();
                return Found::Unknown;
            }
        }
    }
    look_up(map, key)
}

/// Looks up a key by a library call.
fn look_up(map: This, key: *mut PyObject) -> Found {
    let mut scratch = SCRATCH;
    let Some(name) = codec::key(key, &mut scratch) else {
        return Found::Unknown;
    };
    // Only after the key is encoded: the return above would not give the buffer back.
    let Some(buffer) = Buffer::take() else {
        return Found::Unknown;
    };
    let (place, mut len) = (buffer.place(), 0);
    let status = map.released(|native, pointer| {
        let version = null_mut();
        // SAFETY: the key lives as long as the call, and the place has `LARGE` bytes; the pointer of a map,
        // which `released` keeps alive.
        unsafe {
            (native.map_get)(
                pointer, name.data, name.len, place, LARGE, &mut len, version,
            )
        }
    });
    // SAFETY: the library wrote `len` bytes, up to `LARGE`.
    let copied = (status == OK).then(|| unsafe { Copied::of(place, len.min(LARGE)) });
    buffer.give();
    match (copied, status) {
        (Some(copied), _) => Found::Object(copied.finish(|data| {
            let end = null_mut::<PyObject>();
            // SAFETY: objects that live.
            unsafe { PyObject_CallMethodObjArgs(map.object(), DECODE_VALUE.get(), data, end) }
        })),
        (None, NOT_FOUND) => Found::Nothing,
        _ => Found::Unknown,
    }
}

fn __getitem__(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&KEY])?;
    match find(map, given.get(0)) {
        Found::Object(object) => Some(object),
        // Python raises.
        Found::Nothing | Found::Unknown => None,
    }
}

/// `get(key, default=None)`.
fn get(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&KEY, &DEFAULT])?;
    match find(map, given.get(0)) {
        Found::Object(object) => Some(object),
        // SAFETY: an object that lives.
        Found::Nothing => Some(unsafe { new_reference(given.or_none(1)) }),
        Found::Unknown => None,
    }
}

fn __contains__(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&KEY])?;
    let (mut scratch, mut found) = (SCRATCH, false);
    let name = codec::key(given.get(0), &mut scratch)?;
    let status = map.released(|native, pointer| {
        // SAFETY: as in `look_up`.
        unsafe { (native.map_contains)(pointer, name.data, name.len, &mut found) }
    });
    (status == OK).then(|| bool(found))
}

fn __delitem__(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&KEY])?;
    let mut scratch = SCRATCH;
    let name = codec::key(given.get(0), &mut scratch)?;
    let status = map.released(|native, pointer| {
        // SAFETY: as in `look_up`.
        unsafe { (native.map_remove)(pointer, name.data, name.len) }
    });
    match status {
        OK => Some(none()),
        // Nothing was changed: Python raises, or repeats the call.
        NOT_CALLED | NOT_FOUND | INTERRUPTED => None,
        _ => Some(map.raise_for(status)),
    }
}

fn __setitem__(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(2, [&KEY, &VALUE])?;
    if map.is_detached() {
        return None;
    }
    let (mut scratch, mut more) = (SCRATCH, SCRATCH);
    let name = codec::key(given.get(0), &mut scratch)?;
    let Some(value) = codec::value(map, given.get(1), &mut more) else {
        return Some(null_mut());
    };
    let it = value.bytes;
    let status = map.released(|native, pointer| {
        // SAFETY: as in `look_up`; the bytes of the value live until `free`.
        unsafe { (native.map_set)(pointer, name.data, name.len, it.data, it.len) }
    });
    if status == OK {
        value.free();
        return Some(none());
    }
    if status != INTERRUPTED {
        value.free();
        return Some(map.raise_for(status));
    }
    // The value is not pickled again.
    let (key, data) = (codec::to_bytes(name), codec::to_bytes(it));
    value.free();
    // SAFETY: this call owns the references.
    unsafe {
        let end = null_mut::<PyObject>();
        let status = PyLong_FromLong(status.into());
        let result = match key.is_null() || data.is_null() || status.is_null() {
            true => null_mut(),
            false => {
                let name = SET_AGAIN.get();
                PyObject_CallMethodObjArgs(map.object(), name, key, data, status, end)
            }
        };
        for it in [key, data, status] {
            Py_DecRef(it);
        }
        Some(result)
    }
}

/// `add(key, delta=1)`, of an `int`.
fn add(map: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&KEY, &DELTA])?;
    let (mut scratch, mut sum) = (SCRATCH, 0);
    let delta = match given.get(1) {
        it if it.is_null() => 1,
        // SAFETY: an object that lives; its value is read if it is an `int`.
        it => unsafe {
            let mut overflow = 1;
            if PyLong_CheckExact(it) == 0 {
                return None;
            }
            let delta = PyLong_AsLongLongAndOverflow(it, &mut overflow);
            if overflow != 0 {
                return None;
            }
            delta
        },
    };
    let name = codec::key(given.get(0), &mut scratch)?;
    let status = map.released(|native, pointer| {
        // SAFETY: as in `look_up`.
        unsafe { (native.map_add)(pointer, name.data, name.len, delta, &mut sum) }
    });
    match status {
        // SAFETY: the GIL is held.
        OK => Some(unsafe { PyLong_FromLongLong(sum) }),
        // Nothing was changed: the value is another number, which Python adds to; or Python repeats the call.
        NOT_CALLED | INVALID | INTERRUPTED => None,
        _ => Some(map.raise_for(status)),
    }
}
