//! `shoal.Queue`.

use std::ptr::{addr_of_mut, null_mut};

use pyo3_ffi::{
    Py_ssize_t, PyBytes_AsString, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_Size,
    PyObject,
};

use crate::held::{is_large, pointer};
use crate::module::{
    DUMPS_NAME, GET, GET_BYTES, LOADS, PROTOCOL, PUT, PUT_BYTES, PUT_PICKLED, SEND_LARGE, UNPICKLE,
};
use crate::native::{OK, native};
use crate::python::{
    Args, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs, PyObject_GetAttr,
    call_slow, none,
};

/// Larger objects are sent in parts, and larger messages copied without the interpreter's lock: by Python.
const LARGE: usize = 64 * 1024;

/// The first byte of every pickle of protocol 2 or later.
const PICKLE: u8 = 0x80;

/// Where a message is copied to. Used by one call of the library after another, with the interpreter's lock
/// held and no Python code in between.
static mut BUFFER: [u8; LARGE] = [0; LARGE];

/// Puts a message if it is small, and there is room and nobody else at it.
///
/// # Safety
/// `queue` is a `Held`, `data` a `bytes`; the interpreter's lock is held.
#[inline]
unsafe fn put_now(queue: *mut PyObject, data: *mut PyObject) -> bool {
    // SAFETY: the caller's contract; the bytes are there for as long as the object.
    unsafe {
        let (pointer, size) = (pointer(queue), PyBytes_Size(data).unsigned_abs());
        match native() {
            Some(native) if !pointer.is_null() && size < LARGE => {
                let bytes = PyBytes_AsString(data).cast::<u8>();
                (native.queue_try_put)(pointer, bytes, size) == OK
            }
            _ => false,
        }
    }
}

/// Takes a message, if one is there that is small and nobody else at it: a new `bytes`, or null. Its first
/// byte is 0 if it has none.
///
/// # Safety
/// As [`put_now`].
#[inline]
unsafe fn get_now(queue: *mut PyObject) -> Option<(*mut PyObject, u8)> {
    // SAFETY: the caller's contract; nobody else uses the buffer (`BUFFER`), which has this length.
    unsafe {
        let (pointer, buffer, mut len) = (pointer(queue), addr_of_mut!(BUFFER), 0);
        let native = native().filter(|_| !pointer.is_null())?;
        if (native.queue_try_get)(pointer, buffer.cast(), LARGE, &mut len) != OK {
            return None;
        }
        let first = if len == 0 { 0 } else { *buffer.cast::<u8>() };
        let data = PyBytes_FromStringAndSize(buffer.cast(), len.min(LARGE) as Py_ssize_t);
        Some((data, first))
    }
}

/// `put(obj, block=True, timeout=None)`.
pub(crate) unsafe extern "C-unwind" fn put(
    queue: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments. `data` and `dumps` are given up.
    unsafe {
        let args = Args::new(items, count, names);
        if !args.are(1, 3) || !args.is_plain(1) || is_large(queue) || pointer(queue).is_null() {
            return call_slow(queue, PUT.get(), args);
        }
        let end = null_mut::<PyObject>();
        let dumps = PyObject_GetAttr(queue, DUMPS_NAME.get());
        if dumps.is_null() {
            return null_mut();
        }
        let data = PyObject_CallFunctionObjArgs(dumps, args.get(0), PROTOCOL.get(), end);
        Py_DecRef(dumps);
        if data.is_null() {
            return null_mut();
        }
        let result = if PyBytes_CheckExact(data) == 0 || PyBytes_Size(data).unsigned_abs() >= LARGE
        {
            let (block, timeout) = (args.or_true(1), args.or_none(2));
            let name = SEND_LARGE.get();
            PyObject_CallMethodObjArgs(queue, name, args.get(0), block, timeout, end)
        } else if put_now(queue, data) {
            none()
        } else {
            let (block, timeout) = (args.or_true(1), args.or_none(2));
            PyObject_CallMethodObjArgs(queue, PUT_PICKLED.get(), data, block, timeout, end)
        };
        Py_DecRef(data);
        result
    }
}

/// `put_bytes(data, block=True, timeout=None)`.
pub(crate) unsafe extern "C-unwind" fn put_bytes(
    queue: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        if args.are(1, 3)
            && args.is_plain(1)
            && PyBytes_CheckExact(args.get(0)) != 0
            && put_now(queue, args.get(0))
        {
            return none();
        }
        call_slow(queue, PUT_BYTES.get(), args)
    }
}

/// `get(block=True, timeout=None, copy=True)`.
pub(crate) unsafe extern "C-unwind" fn get(
    queue: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments. `data` is given up.
    unsafe {
        let args = Args::new(items, count, names);
        if args.are(0, 3)
            && args.is_plain(0)
            && args.is_true(2)
            && let Some((data, first)) = get_now(queue)
        {
            if data.is_null() {
                return null_mut();
            }
            let end = null_mut::<PyObject>();
            let object = if first == PICKLE {
                PyObject_CallFunctionObjArgs(LOADS.get(), data, end)
            } else {
                PyObject_CallMethodObjArgs(queue, UNPICKLE.get(), data, end)
            };
            Py_DecRef(data);
            return object;
        }
        call_slow(queue, GET.get(), args)
    }
}

/// `get_bytes(block=True, timeout=None)`.
pub(crate) unsafe extern "C-unwind" fn get_bytes(
    queue: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        if args.are(0, 2)
            && args.is_plain(0)
            && let Some((data, _)) = get_now(queue)
        {
            return data;
        }
        call_slow(queue, GET_BYTES.get(), args)
    }
}
