//! `shoal.List`.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3_ffi::{PyErr_Occurred, PyLong_AsLongLong, PyLong_CheckExact, PyObject};

use crate::buffer::{Buffer, LARGE};
use crate::codec::{self, Copied, SCRATCH};
use crate::held::This;
use crate::methods::{Methods, methods};
use crate::names::{APPEND_SLOWLY, DECODE, INDEX, VALUE};
use crate::native::{Native, OK};
use crate::python::{Args, Py_DecRef, PyObject_CallMethodObjArgs, none};

pub(crate) static METHODS: Methods = methods!(c"List": __getitem__, append, pop);

/// `shoal_list_get` or `shoal_list_pop`.
type Read = unsafe extern "C" fn(*mut c_void, i64, *mut u8, usize, *mut usize) -> c_int;

/// Reads an element by `which`, which may remove it. Every failure, such as a wrong index, is left to Python:
/// then nothing was removed.
fn read(list: This, index: i64, which: impl Fn(&Native) -> Read) -> Option<*mut PyObject> {
    let buffer = Buffer::take()?;
    let (place, mut len) = (buffer.place(), 0);
    let status = list.released(|native, pointer| {
        // SAFETY: the place has `LARGE` bytes; the pointer of a list, which `released` keeps alive.
        unsafe { which(native)(pointer, index, place, LARGE, &mut len) }
    });
    // SAFETY: the library wrote `len` bytes, up to `LARGE`.
    let copied = (status == OK).then(|| unsafe { Copied::of(place, len.min(LARGE)) });
    buffer.give();
    copied.map(|copied| {
        copied.finish(|data| {
            let end = null_mut::<PyObject>();
            // SAFETY: objects that live.
            unsafe { PyObject_CallMethodObjArgs(list.object(), DECODE.get(), data, end) }
        })
    })
}

/// An index, if it is an `int` of 64 bits.
fn index(given: *mut PyObject) -> Option<i64> {
    // SAFETY: an object that lives; its value is read if it is an `int`.
    unsafe {
        if PyLong_CheckExact(given) == 0 {
            return None;
        }
        let index = PyLong_AsLongLong(given);
        if index == -1 && !PyErr_Occurred().is_null() {
            pyo3_ffi::PyErr_Clear();
            return None;
        }
        Some(index)
    }
}

fn __getitem__(list: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&INDEX])?;
    read(list, index(given.get(0))?, |native| native.list_get)
}

/// `pop(index=-1)`.
fn pop(list: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&INDEX])?;
    let index = match given.get(0) {
        it if it.is_null() => -1,
        it => index(it)?,
    };
    read(list, index, |native| native.list_pop)
}

/// `append(value)`.
fn append(list: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&VALUE])?;
    if list.is_detached() {
        return None;
    }
    let mut scratch = SCRATCH;
    let Some(value) = codec::value(list, given.get(0), &mut scratch) else {
        return Some(null_mut());
    };
    let it = value.bytes;
    let status = list.released(|native, pointer| {
        // SAFETY: the bytes live until `free`; the pointer of a list, which `released` keeps alive.
        unsafe { (native.list_append)(pointer, it.data, it.len) }
    });
    if status == OK {
        value.free();
        return Some(none());
    }
    // Python reports the reason. The value is not pickled again.
    let data = codec::to_bytes(it);
    value.free();
    if data.is_null() {
        return Some(data);
    }
    // SAFETY: this call owns the reference.
    unsafe {
        let end = null_mut::<PyObject>();
        let result = PyObject_CallMethodObjArgs(list.object(), APPEND_SLOWLY.get(), data, end);
        Py_DecRef(data);
        Some(result)
    }
}
