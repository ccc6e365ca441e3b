//! `shoal.Connection`.

use std::ffi::c_int;
use std::ptr::null_mut;

use pyo3_ffi::{
    Py_True, PyBytes_CheckExact, PyErr_Clear, PyObject, PyTuple_CheckExact, PyTuple_GetItem,
};

use crate::buffer::{Buffer, LARGE};
use crate::codec::bytes;
use crate::held::This;
use crate::methods::{Methods, methods};
use crate::names::{BUF, COPY, MAXLENGTH, OBJ, PROTOCOL, SEND_LARGE, SEND_SLOWLY, WAYS};
use crate::native::{NOWAIT, OK, SLICE};
use crate::python::{Args, Py_DecRef, PyObject_CallMethodObjArgs, PyObject_GetAttr, bool, none};
use crate::queue::{Message, descriptor, message, unpickled};

pub(crate) static METHODS: Methods =
    methods!(c"Connection": send, recv, send_bytes, recv_bytes, poll, fileno);

/// Sends a small message. Waits for one slice at most.
///
/// # Safety
/// `data` is a `bytes` that lives as long as the call.
unsafe fn send_now(pipe: This, data: *mut PyObject) -> bool {
    // SAFETY: the caller's contract; the pointer of a pipe, which `released` keeps alive.
    unsafe {
        let it = bytes(data);
        let send =
            || pipe.released(|native, pointer| (native.pipe_send)(pointer, it.data, it.len, SLICE));
        it.len < LARGE && send() == OK
    }
}

/// Whether this object can receive. It cannot after a message that was longer than `maxlength`.
fn is_readable(pipe: This) -> bool {
    // SAFETY: an object that lives, and one of its attributes.
    unsafe {
        let ways = PyObject_GetAttr(pipe.object(), WAYS.get());
        if ways.is_null() {
            PyErr_Clear();
            return false;
        }
        let readable = PyTuple_CheckExact(ways) != 0 && PyTuple_GetItem(ways, 0) == Py_True();
        Py_DecRef(ways);
        readable
    }
}

/// Receives a small message. Waits for one slice at most.
fn recv_now(pipe: This) -> Option<Message> {
    if !is_readable(pipe) {
        return None;
    }
    let buffer = Buffer::take()?;
    let (place, mut len) = (buffer.place(), 0);
    // SAFETY: the place has `LARGE` bytes; the pointer of a pipe, which `released` keeps alive.
    let found = unsafe {
        let status = pipe
            .released(|native, pointer| (native.pipe_recv)(pointer, SLICE, place, LARGE, &mut len));
        (status == OK).then(|| message(place, len))
    };
    buffer.give();
    found
}

/// `send(obj)`.
fn send(pipe: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&OBJ])?;
    if pipe.is_large() || pipe.is_detached() {
        return None;
    }
    let data = pipe.dumps(given.get(0), PROTOCOL.get());
    if data.is_null() {
        return Some(data);
    }
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live; `data` is released.
    unsafe {
        let result = if PyBytes_CheckExact(data) == 0 || bytes(data).len >= LARGE {
            let (name, obj) = (SEND_LARGE.get(), given.get(0));
            PyObject_CallMethodObjArgs(pipe.object(), name, obj, data, end)
        } else if send_now(pipe, data) {
            none()
        } else {
            PyObject_CallMethodObjArgs(pipe.object(), SEND_SLOWLY.get(), data, end)
        };
        Py_DecRef(data);
        Some(result)
    }
}

/// `send_bytes(buf, offset=0, size=None)`.
fn send_bytes(pipe: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&BUF])?;
    // SAFETY: an object that lives.
    let sent = unsafe { PyBytes_CheckExact(given.get(0)) != 0 && send_now(pipe, given.get(0)) };
    sent.then(none)
}

/// `recv(copy=True)`.
fn recv(pipe: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&COPY])?;
    if !given.is_true(0) {
        return None;
    }
    recv_now(pipe).map(|found| unpickled(pipe, found))
}

/// `recv_bytes(maxlength=None)`.
fn recv_bytes(pipe: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&MAXLENGTH])?;
    if !given.is_none(0) {
        return None;
    }
    recv_now(pipe).map(|(data, _)| data)
}

/// `poll(timeout=0.0)`.
fn poll(pipe: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(0) || !is_readable(pipe) {
        return None;
    }
    let mut ready = false;
    let status: c_int = pipe.released(|native, pointer| {
        // SAFETY: the pointer of a pipe, which `released` keeps alive.
        unsafe { (native.pipe_poll)(pointer, NOWAIT, &mut ready) }
    });
    (status == OK).then(|| bool(ready))
}

/// `fileno()`. Selectors ask for it before each wait.
fn fileno(pipe: This, args: Args) -> Option<*mut PyObject> {
    descriptor(pipe, args, |native| native.pipe_fd)
}
