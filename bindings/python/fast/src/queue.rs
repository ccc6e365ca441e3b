//! `shoal.Queue`: one message in one call.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3_ffi::{
    Py_ssize_t, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyLong_FromLong, PyObject,
};

use crate::batch::{get_many, get_many_bytes, put_many, put_many_bytes};
use crate::buffer::{Buffer, LARGE, with_gil};
use crate::codec::{PICKLE, bytes};
use crate::held::This;
use crate::lease::lease;
use crate::methods::{Methods, methods};
use crate::names::{
    BLOCK, COPY, Constant, DATA, LOADS, OBJ, PROTOCOL, PUT_SLOWLY, PYTHON_GET, PYTHON_GET_BYTES,
    SEND_LARGE, TIMEOUT_NAME, UNPICKLE,
};
use crate::native::{Native, OK, TIMEOUT};
use crate::python::{
    Args, Given, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs, bool, int,
    none,
};
use crate::waiting::{Waiting, is_timeout};

pub(crate) static METHODS: Methods = methods!(c"Queue":
    put, get, put_bytes, get_bytes, put_many, put_many_bytes, get_many, get_many_bytes, lease, fileno, qsize, empty);

/// A message as a new `bytes`, or null with an exception; and its first byte, or 0 if it is empty.
pub(crate) type Message = (*mut PyObject, u8);

/// Puts a small message, and waits for room for one slice at most. `Err`, with the rest of the wait, if the message
/// could not be put; `None` if Python has to handle the call.
#[inline]
fn put_within<const N: usize>(
    queue: This,
    data: *mut PyObject,
    given: &Given<N>,
) -> Option<Result<(), Waiting>> {
    // SAFETY: a `bytes`, which lives as long as the call; the pointer of a queue, which `now` and `released`
    // keep alive.
    unsafe {
        let it = bytes(data);
        if it.len >= LARGE {
            return None;
        }
        let status = queue.now(|native, pointer| (native.queue_try_put)(pointer, it.data, it.len));
        if status == OK {
            return Some(Ok(()));
        }
        let waiting = Waiting::of(given, 1)?;
        if status != TIMEOUT || matches!(waiting, Waiting::Not) {
            return Some(Err(waiting));
        }
        let slice = waiting.slice();
        let status =
            queue.released(|native, pointer| (native.queue_put)(pointer, it.data, it.len, slice));
        Some(if status == OK { Ok(()) } else { Err(waiting) })
    }
}

/// Takes a small message if there is one and no other consumer holds the queue's lock.
#[inline]
fn get_now(queue: This) -> Result<Message, i32> {
    let (place, mut len) = (with_gil(), 0);
    // SAFETY: the place has `LARGE` bytes; the pointer of a queue, which `now` keeps alive.
    unsafe {
        let get =
            |native: &Native, pointer| (native.queue_try_get)(pointer, place, LARGE, &mut len);
        match queue.now(get) {
            OK => Ok(message(place, len)),
            status => Err(status),
        }
    }
}

/// Waits for a small message and takes it.
fn get_within(queue: This, slice: i64) -> Option<Message> {
    let buffer = Buffer::take()?;
    let (place, mut len) = (buffer.place(), 0);
    // SAFETY: the place has `LARGE` bytes; the pointer of a queue, which `released` keeps alive.
    let found = unsafe {
        let status = queue
            .released(|native, pointer| (native.queue_get)(pointer, slice, place, LARGE, &mut len));
        (status == OK).then(|| message(place, len))
    };
    buffer.give();
    found
}

/// # Safety
/// `place` has `len` bytes.
pub(crate) unsafe fn message(place: *const u8, len: usize) -> Message {
    // SAFETY: the caller's contract.
    unsafe {
        let first = if len == 0 { 0 } else { *place };
        let len = len.min(LARGE) as Py_ssize_t;
        (PyBytes_FromStringAndSize(place.cast(), len), first)
    }
}

/// The object of a message, whose reference is released; null with an exception.
pub(crate) fn unpickled(this: This, (data, first): Message) -> *mut PyObject {
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
    let given = args.given(1, [&OBJ, &BLOCK, &TIMEOUT_NAME])?;
    if !given.is_plain(1) || !is_timeout(given.get(2)) || queue.is_large() || queue.is_detached() {
        return None;
    }
    let data = queue.dumps(given.get(0), PROTOCOL.get());
    if data.is_null() {
        return Some(data);
    }
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live; `data` and the rest of the wait are released.
    unsafe {
        let small = PyBytes_CheckExact(data) != 0 && bytes(data).len < LARGE;
        let result = if !small {
            let (block, timeout) = (given.or_true(1), given.or_none(2));
            let (name, obj) = (SEND_LARGE.get(), given.get(0));
            PyObject_CallMethodObjArgs(queue.object(), name, obj, data, block, timeout, end)
        } else {
            match put_within(queue, data, &given) {
                Some(Ok(())) => none(),
                Some(Err(waiting)) => {
                    let (block, timeout) = (given.or_true(1), waiting.timeout());
                    call_again(queue, &PUT_SLOWLY, [data, block], timeout)
                }
                None => {
                    let (block, timeout) = (given.or_true(1), given.or_none(2));
                    let name = PUT_SLOWLY.get();
                    PyObject_CallMethodObjArgs(queue.object(), name, data, block, timeout, end)
                }
            }
        };
        Py_DecRef(data);
        Some(result)
    }
}

/// Calls a Python method with arguments and a `timeout`, which is released. Null with an exception.
///
/// # Safety
/// Objects that live.
unsafe fn call_again(
    queue: This,
    name: &Constant,
    [first, second]: [*mut PyObject; 2],
    timeout: *mut PyObject,
) -> *mut PyObject {
    if timeout.is_null() {
        return timeout;
    }
    let end = null_mut::<PyObject>();
    // SAFETY: the caller's contract.
    unsafe {
        let (object, name) = (queue.object(), name.get());
        let result = match second.is_null() {
            true => PyObject_CallMethodObjArgs(object, name, first, timeout, end),
            false => PyObject_CallMethodObjArgs(object, name, first, second, timeout, end),
        };
        Py_DecRef(timeout);
        result
    }
}

/// `put_bytes(data, block=True, timeout=None)`.
fn put_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&DATA, &BLOCK, &TIMEOUT_NAME])?;
    let data = given.get(0);
    // SAFETY: objects that live.
    unsafe {
        if !given.is_plain(1)
            || !is_timeout(given.get(2))
            || PyBytes_CheckExact(data) == 0
            || queue.is_detached()
        {
            return None;
        }
        Some(match put_within(queue, data, &given)? {
            Ok(()) => none(),
            Err(waiting) => {
                let (block, timeout) = (given.or_true(1), waiting.timeout());
                call_again(queue, &PUT_SLOWLY, [data, block], timeout)
            }
        })
    }
}

/// Takes a message, and waits for it for one slice at most. The method `python` does the rest of the wait; its
/// result is `Err`.
fn take<const N: usize>(
    queue: This,
    given: &Given<N>,
    python: &Constant,
) -> Option<Result<Message, *mut PyObject>> {
    if !given.is_plain(0) || !is_timeout(given.get(1)) {
        return None;
    }
    let status = match get_now(queue) {
        Ok(found) => return Some(Ok(found)),
        Err(status) => status,
    };
    let waiting = Waiting::of(given, 0)?;
    if status != TIMEOUT || matches!(waiting, Waiting::Not) {
        return None;
    }
    if let Some(found) = get_within(queue, waiting.slice()) {
        return Some(Ok(found));
    }
    // SAFETY: an object that lives.
    let rest = unsafe {
        call_again(
            queue,
            python,
            [given.or_true(0), null_mut()],
            waiting.timeout(),
        )
    };
    Some(Err(rest))
}

/// `get(block=True, timeout=None, copy=True)`.
fn get(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME, &COPY])?;
    if !given.is_true(2) {
        return None;
    }
    let found = take(queue, &given, &PYTHON_GET)?;
    Some(found.map_or_else(|rest| rest, |message| unpickled(queue, message)))
}

/// `get_bytes(block=True, timeout=None)`.
fn get_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME])?;
    let found = take(queue, &given, &PYTHON_GET_BYTES)?;
    Some(found.map_or_else(|rest| rest, |(data, _)| data))
}

/// `fileno()`. Selectors ask for it before each wait.
fn fileno(queue: This, args: Args) -> Option<*mut PyObject> {
    descriptor(queue, args, |native| native.queue_fd)
}

/// The descriptor of a queue or a connection, by this function of the library. `None` if that fails.
pub(crate) fn descriptor(
    of: This,
    args: Args,
    function: impl FnOnce(&Native) -> unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int,
) -> Option<*mut PyObject> {
    let mut fd = -1;
    // SAFETY: the pointer of an object of the function's type, which `now` keeps alive; a place for the descriptor.
    let call = || unsafe { of.now(|native, pointer| function(native)(pointer, &mut fd)) };
    // SAFETY: a number.
    (args.are(0) && call() == OK).then(|| unsafe { PyLong_FromLong(fd.into()) })
}

/// How many messages wait. `None` if the object is detached.
fn waiting(queue: This, args: Args) -> Option<u64> {
    let mut count = 0;
    // SAFETY: as in `fileno`; a place for the number.
    let mut call =
        || unsafe { queue.now(|native, pointer| (native.queue_len)(pointer, &mut count)) };
    (args.are(0) && call() == OK).then_some(count)
}

fn qsize(queue: This, args: Args) -> Option<*mut PyObject> {
    waiting(queue, args).map(int)
}

fn empty(queue: This, args: Args) -> Option<*mut PyObject> {
    waiting(queue, args).map(|count| bool(count == 0))
}
