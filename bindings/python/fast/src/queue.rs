//! `shoal.Queue`: one message.

use std::ffi::c_int;
use std::ptr::null_mut;

use pyo3_ffi::{Py_ssize_t, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyObject};

use crate::codec::{PICKLE, bytes};
use crate::held::This;
use crate::methods::{Methods, methods};
use crate::module::{LOADS, PROTOCOL, PUT_SLOWLY, SEND_LARGE, UNPICKLE};
use crate::native::{OK, SLICE, TIMEOUT};
use crate::python::{
    Args, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs, none,
};
use crate::room::{LARGE, Room, brief};

pub(crate) const METHODS: Methods = methods!(c"Queue":
    put, get, put_bytes, get_bytes, put_many, put_many_bytes, get_many, get_many_bytes);

use crate::batch::{get_many, get_many_bytes, put_many, put_many_bytes};

/// Whether a call is to wait for as long as it takes: its first slice is waited for here.
pub(crate) fn waits(args: Args, block: Py_ssize_t) -> bool {
    args.is_true(block) && args.is_none(block + 1)
}

/// Puts a small message: at once, or within a slice.
#[inline]
fn put_now(queue: This, data: *mut PyObject, waits: bool) -> c_int {
    // SAFETY: a `bytes`, which lives as long as the call; the pointer of a queue, whose lifetime `now` and
    // `released` see to.
    unsafe {
        let it = bytes(data);
        if it.len >= LARGE {
            return TIMEOUT;
        }
        let status = queue.now(|native, pointer| (native.queue_try_put)(pointer, it.data, it.len));
        if status != TIMEOUT || !waits {
            return status;
        }
        queue.released(|native, pointer| (native.queue_put)(pointer, it.data, it.len, SLICE))
    }
}

/// Takes a small message, at once or within a slice: a new `bytes`, or null with an exception, and its first
/// byte, 0 if it has none.
#[inline]
fn get_now(queue: This, waits: bool) -> Option<(*mut PyObject, u8)> {
    let (place, mut len) = (brief(), 0);
    // SAFETY: the places have so many bytes; the pointer of a queue, whose lifetime `now` and `released` see
    // to.
    unsafe {
        let status =
            queue.now(|native, pointer| (native.queue_try_get)(pointer, place, LARGE, &mut len));
        if status == OK {
            return Some(message(place, len));
        }
        if status != TIMEOUT || !waits {
            return None;
        }
        let room = Room::take()?;
        let place = room.place();
        let status = queue
            .released(|native, pointer| (native.queue_get)(pointer, SLICE, place, LARGE, &mut len));
        let found = (status == OK).then(|| message(place, len));
        room.give();
        found
    }
}

/// A message as `bytes`, or null with an exception, and its first byte.
///
/// # Safety
/// `place` has `len` bytes.
unsafe fn message(place: *const u8, len: usize) -> (*mut PyObject, u8) {
    // SAFETY: the caller's contract.
    unsafe {
        let first = if len == 0 { 0 } else { *place };
        let len = len.min(LARGE) as Py_ssize_t;
        (PyBytes_FromStringAndSize(place.cast(), len), first)
    }
}

/// The object of a message, whose reference is given up; null with an exception.
pub(crate) fn unpickled(this: This, (data, first): (*mut PyObject, u8)) -> *mut PyObject {
    if data.is_null() {
        return null_mut();
    }
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live.
    unsafe {
        let object = match first == PICKLE {
            true => PyObject_CallFunctionObjArgs(LOADS.get(), data, end),
            false => PyObject_CallMethodObjArgs(this.object(), UNPICKLE.get(), data, end),
        };
        Py_DecRef(data);
        object
    }
}

/// `put(obj, block=True, timeout=None)`.
fn put(queue: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(1, 3) || !args.is_plain(1) || queue.is_large() || queue.is_detached() {
        return None;
    }
    let (object, block, timeout) = (args.get(0), args.or_true(1), args.or_none(2));
    let data = queue.dumps(object, PROTOCOL.get());
    if data.is_null() {
        return Some(data);
    }
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live; `data` is given up.
    unsafe {
        let result = if PyBytes_CheckExact(data) == 0 || bytes(data).len >= LARGE {
            let name = SEND_LARGE.get();
            PyObject_CallMethodObjArgs(queue.object(), name, object, block, timeout, end)
        } else if put_now(queue, data, waits(args, 1)) == OK {
            none()
        } else {
            let name = PUT_SLOWLY.get();
            PyObject_CallMethodObjArgs(queue.object(), name, data, block, timeout, end)
        };
        Py_DecRef(data);
        Some(result)
    }
}

/// `put_bytes(data, block=True, timeout=None)`.
fn put_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    let data = args.get(0);
    if !args.are(1, 3) || !args.is_plain(1) {
        return None;
    }
    // SAFETY: an object that lives; only its type is looked at.
    let plain = unsafe { PyBytes_CheckExact(data) } != 0;
    (plain && put_now(queue, data, waits(args, 1)) == OK).then(none)
}

/// `get(block=True, timeout=None, copy=True)`.
fn get(queue: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(0, 3) || !args.is_plain(0) || !args.is_true(2) {
        return None;
    }
    get_now(queue, waits(args, 0)).map(|found| unpickled(queue, found))
}

/// `get_bytes(block=True, timeout=None)`.
fn get_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(0, 2) || !args.is_plain(0) {
        return None;
    }
    get_now(queue, waits(args, 0)).map(|(data, _)| data)
}
