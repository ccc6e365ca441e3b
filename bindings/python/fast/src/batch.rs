//! `shoal.Queue`: several messages in one call.

use std::ptr::{null, null_mut};

use pyo3_ffi::{
    Py_ssize_t, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyErr_Clear, PyErr_ExceptionMatches,
    PyErr_Fetch, PyErr_Restore, PyExc_Exception, PyList_Append, PyList_CheckExact, PyList_GetItem,
    PyList_GetSlice, PyList_New, PyList_Size, PyLong_AsSsize_t, PyLong_CheckExact,
    PyLong_FromSsize_t, PyObject, PyObject_IsTrue, PyTuple_CheckExact, PyTuple_GetItem,
    PyTuple_Size,
};

use crate::buffer::{Buffer, LARGE};
use crate::codec::bytes;
use crate::held::This;
use crate::names::{BLOCK, ITEMS, KEEP, KEPT, MAX_ITEMS, OBJS, PROTOCOL, PUT_REST, TIMEOUT_NAME};
use crate::native::{NOWAIT, OK, SLICE, Slice};
use crate::python::{
    Args, Given, Py_DecRef, PyObject_CallMethodObjArgs, PyObject_GetAttr, PySequence_Tuple, bool,
    new_reference,
};
use crate::queue::unpickled;
use crate::waiting::{Waiting, is_timeout};

/// How many messages one call of the library puts or takes at most (`_queue._BATCH`).
const BATCH: usize = 256;

/// `put_many(objs, block=True, timeout=None)`.
pub(crate) fn put_many(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&OBJS, &BLOCK, &TIMEOUT_NAME])?;
    if !is_puttable(&given) || queue.is_detached() {
        return None;
    }
    // SAFETY: objects that live. The tuple and the list belong to this call; no other code sees the tuple.
    unsafe {
        let objects = PySequence_Tuple(given.get(0));
        if objects.is_null() {
            return Some(objects);
        }
        let pickles = PyList_New(0);
        let mut failed = pickles.is_null();
        let mut index = 0;
        while !failed && index < PyTuple_Size(objects) {
            let data = queue.dumps(PyTuple_GetItem(objects, index), PROTOCOL.get());
            failed = data.is_null() || PyList_Append(pickles, data) != 0;
            Py_DecRef(data);
            index += 1;
        }
        let result = match failed {
            true => null_mut(),
            false => put_all(queue, pickles, &given),
        };
        Py_DecRef(objects);
        Py_DecRef(pickles);
        Some(result)
    }
}

/// `put_many_bytes(items, block=True, timeout=None)`.
pub(crate) fn put_many_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(1, [&ITEMS, &BLOCK, &TIMEOUT_NAME])?;
    if !is_puttable(&given) || queue.is_detached() {
        return None;
    }
    // SAFETY: an object that lives.
    Some(unsafe { put_all(queue, given.get(0), &given) })
}

/// Whether the arguments are a list or a tuple, a bool, and a timeout.
fn is_puttable(given: &Given<3>) -> bool {
    let it = given.get(0);
    // SAFETY: an object that lives; only its type is read.
    let is_sequence = unsafe { PyList_CheckExact(it) != 0 || PyTuple_CheckExact(it) != 0 };
    is_sequence && given.is_plain(1) && is_timeout(given.get(2))
}

/// Puts a list or a tuple of messages. Python puts those that cannot be put here. Returns how many were put, or
/// null with an exception.
///
/// # Safety
/// `items` is an object that lives.
unsafe fn put_all(queue: This, items: *mut PyObject, given: &Given<3>) -> *mut PyObject {
    // SAFETY: the caller's contract. The tuple belongs to this call, and keeps the messages alive while
    // the GIL is released; the library reads `some` slices.
    unsafe {
        let items = PySequence_Tuple(items);
        if items.is_null() {
            return items;
        }
        // A wait with a timeout is left to Python.
        let forever = matches!(Waiting::of(given, 1), Some(Waiting::Forever));
        let timeout = if forever { SLICE } else { NOWAIT };
        let (count, mut done) = (PyTuple_Size(items), 0);
        let mut slices = [Slice {
            data: null(),
            len: 0,
        }; BATCH];
        loop {
            let mut some = 0;
            while some < BATCH && done + (some as Py_ssize_t) < count {
                let item = PyTuple_GetItem(items, done + some as Py_ssize_t);
                if PyBytes_CheckExact(item) == 0 {
                    // Python copies other buffers, and raises for anything else before it puts the batch.
                    some = 0;
                    break;
                }
                let it = bytes(item);
                slices[some] = Slice {
                    data: it.data,
                    len: it.len,
                };
                some += 1;
            }
            let mut put = 0;
            let status = match some {
                0 => OK,
                _ => queue.released(|native, pointer| {
                    (native.queue_put_many)(pointer, slices.as_ptr(), some, timeout, &mut put)
                }),
            };
            if status != OK || put == 0 {
                break;
            }
            done += put.min(some) as Py_ssize_t;
        }
        let result = match done == count {
            true => PyLong_FromSsize_t(done),
            false => put_rest(queue, items, done, given),
        };
        Py_DecRef(items);
        result
    }
}

/// # Safety
/// `items` is an object that lives.
unsafe fn put_rest(
    queue: This,
    items: *mut PyObject,
    done: Py_ssize_t,
    given: &Given<3>,
) -> *mut PyObject {
    let end = null_mut::<PyObject>();
    // SAFETY: the caller's contract; the number belongs to this call.
    unsafe {
        let done = PyLong_FromSsize_t(done);
        if done.is_null() {
            return done;
        }
        let (block, timeout) = (given.or_true(1), given.or_none(2));
        let name = PUT_REST.get();
        let result =
            PyObject_CallMethodObjArgs(queue.object(), name, items, done, block, timeout, end);
        Py_DecRef(done);
        result
    }
}

/// `get_many(max_items=256, block=True, timeout=None)`.
pub(crate) fn get_many(queue: This, args: Args) -> Option<*mut PyObject> {
    if has_kept(queue) {
        return None;
    }
    let messages = take_many(queue, args)?;
    if messages.is_null() {
        return Some(messages);
    }
    // SAFETY: objects that live. The lists belong to this call: code that unpickling runs cannot reach them.
    unsafe {
        let objects = PyList_New(0);
        let mut failed = objects.is_null();
        let mut index = 0;
        while !failed && index < PyList_Size(messages) {
            let data = new_reference(PyList_GetItem(messages, index));
            let it = bytes(data);
            let first = if it.len == 0 { 0 } else { *it.data };
            let object = unpickled(queue, (data, first));
            failed = object.is_null() || PyList_Append(objects, object) != 0;
            Py_DecRef(object);
            index += 1;
        }
        if failed && !objects.is_null() {
            keep(queue, objects, messages);
        }
        Py_DecRef(messages);
        if failed {
            Py_DecRef(objects);
            return Some(null_mut());
        }
        Some(objects)
    }
}

/// Whether an earlier call has kept messages because unpickling raised.
fn has_kept(queue: This) -> bool {
    // SAFETY: an object that lives, and one of its attributes.
    unsafe {
        let kept = PyObject_GetAttr(queue.object(), KEPT.get());
        if kept.is_null() {
            PyErr_Clear();
            return false;
        }
        let some = PyObject_IsTrue(kept) == 1;
        Py_DecRef(kept);
        some
    }
}

/// Keeps the messages that were taken for the next call, after unpickling one of them has set an exception. The
/// exception stays set.
///
/// # Safety
/// Both are lists that live; the messages begin with those of the objects.
unsafe fn keep(queue: This, objects: *mut PyObject, messages: *mut PyObject) {
    let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
    // SAFETY: the caller's contract; the references of the exception are given back.
    unsafe {
        let is_first_bad = bool(PyErr_ExceptionMatches(PyExc_Exception) != 0);
        PyErr_Fetch(&mut kind, &mut value, &mut trace);
        let left = PyList_GetSlice(messages, PyList_Size(objects), PyList_Size(messages));
        if !left.is_null() {
            let (it, name, end) = (queue.object(), KEEP.get(), null_mut::<PyObject>());
            Py_DecRef(PyObject_CallMethodObjArgs(
                it,
                name,
                objects,
                left,
                is_first_bad,
                end,
            ));
        }
        Py_DecRef(left);
        Py_DecRef(is_first_bad);
        // Replaces an exception of the call above, such as a `MemoryError`.
        PyErr_Restore(kind, value, trace);
    }
}

/// `get_many_bytes(max_items=256, block=True, timeout=None)`.
pub(crate) fn get_many_bytes(queue: This, args: Args) -> Option<*mut PyObject> {
    take_many(queue, args)
}

/// Takes messages that are present or come within a slice: a new list of `bytes`, or null with an exception.
fn take_many(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&MAX_ITEMS, &BLOCK, &TIMEOUT_NAME])?;
    let most = most(given.get(0))?;
    let timeout = match Waiting::of(&given, 1)? {
        Waiting::Forever => SLICE,
        // A wait with a timeout is left to Python.
        Waiting::Not | Waiting::Until(_) => NOWAIT,
    };
    let (mut lens, mut count) = ([0; BATCH], 0);
    let buffer = Buffer::take()?;
    let place = buffer.place();
    let status = queue.released(|native, pointer| {
        // SAFETY: the buffers have `LARGE` bytes and `BATCH` numbers; the pointer of a queue, which `released` keeps
        // alive.
        unsafe {
            let lens = lens.as_mut_ptr();
            (native.queue_get_many)(pointer, timeout, place, LARGE, lens, most, &mut count)
        }
    });
    let found = (status == OK).then(|| {
        // SAFETY: the library wrote `count` messages, one after another.
        unsafe { list_of(place, &lens[..count.min(BATCH)]) }
    });
    buffer.give();
    found
}

/// The requested number of messages, if it is from 1 to [`BATCH`].
fn most(given: *mut PyObject) -> Option<usize> {
    if given.is_null() {
        return Some(BATCH);
    }
    // SAFETY: an object that lives; its value is read if it is an `int`.
    let number = unsafe {
        if PyLong_CheckExact(given) == 0 {
            return None;
        }
        PyLong_AsSsize_t(given)
    };
    if number == -1 {
        // The number itself, or an error because it is too large.
        // SAFETY: the GIL is held.
        unsafe { PyErr_Clear() };
    }
    (1..=BATCH as Py_ssize_t)
        .contains(&number)
        .then_some(number.unsigned_abs())
}

/// Messages as a new list of `bytes`, or null with an exception.
///
/// # Safety
/// `place` has the messages one after another.
unsafe fn list_of(mut place: *const u8, lens: &[usize]) -> *mut PyObject {
    // SAFETY: the caller's contract; the list belongs to this call.
    unsafe {
        let list = PyList_New(0);
        if list.is_null() {
            return list;
        }
        for len in lens {
            let data = PyBytes_FromStringAndSize(place.cast(), *len as Py_ssize_t);
            let failed = data.is_null() || PyList_Append(list, data) != 0;
            Py_DecRef(data);
            if failed {
                Py_DecRef(list);
                return null_mut();
            }
            place = place.add(*len);
        }
        list
    }
}
