//! `shoal.Map`.

use std::ptr::null_mut;

use pyo3_ffi::{
    Py_ssize_t, PyBytes_AsString, PyBytes_CheckExact, PyBytes_Size, PyErr_Clear,
    PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyObject, PyUnicode_AsUTF8String,
    PyUnicode_CheckExact,
};

use crate::held::released;
use crate::module::{DUMPS, PROTOCOL, SET_ITEM};
use crate::native::{NOT_CALLED, OK};
use crate::python::{Args, Py_DecRef, PyObject_CallFunctionObjArgs, call_slow, none};

/// A counter has this many bytes, and so no pickle may have (`_codec.encode_value`).
const COUNTER: usize = 8;

/// `__setitem__(key, value)`, for keys that are texts.
pub(crate) unsafe extern "C-unwind" fn set_item(
    map: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments. `key` and `pickled` are given up, and
    // are there as long as the call that reads their bytes.
    unsafe {
        let args = Args::new(items, count, names);
        if !args.are(2, 2) || PyUnicode_CheckExact(args.get(0)) == 0 {
            return call_slow(map, SET_ITEM.get(), args);
        }
        let key = PyUnicode_AsUTF8String(args.get(0));
        if key.is_null() {
            // Surrogates, of which Python makes what can be made.
            PyErr_Clear();
            return call_slow(map, SET_ITEM.get(), args);
        }
        let (mut overflow, mut number, mut pickled) = (1, [0; COUNTER], null_mut::<PyObject>());
        if PyLong_CheckExact(args.get(1)) != 0 {
            number = PyLong_AsLongLongAndOverflow(args.get(1), &mut overflow).to_le_bytes();
        }
        let (mut value, mut len) = (number.as_ptr(), COUNTER);
        if overflow != 0 {
            let end = null_mut::<PyObject>();
            pickled = PyObject_CallFunctionObjArgs(DUMPS.get(), args.get(1), PROTOCOL.get(), end);
            if pickled.is_null() {
                Py_DecRef(key);
                return null_mut();
            }
            len = match PyBytes_CheckExact(pickled) {
                0 => COUNTER,
                _ => PyBytes_Size(pickled).unsigned_abs(),
            };
            value = PyBytes_AsString(pickled).cast::<u8>().cast_const();
        }
        let (name, name_len) = (
            PyBytes_AsString(key).cast::<u8>().cast_const(),
            PyBytes_Size(key),
        );
        let status = match overflow != 0 && len == COUNTER {
            true => NOT_CALLED,
            false => released(map, |native, pointer| {
                (native.map_set)(pointer, name, name_len.unsigned_abs(), value, len)
            }),
        };
        Py_DecRef(pickled);
        Py_DecRef(key);
        match status {
            OK => none(),
            // It says why.
            _ => call_slow(map, SET_ITEM.get(), args),
        }
    }
}
