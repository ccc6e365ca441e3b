//! `shoal.Lease`: a message that is worked on, and `Queue.lease`, which takes one.
//!
//! A lease that is made here has the library's `shoal_message` in itself. Once Python has asked for its
//! address (`_address`), for a view of the data or to extend the lease, everything else is done in Python.

use std::ffi::{CStr, c_uint, c_void};
use std::mem::offset_of;
use std::ptr::{addr_of_mut, null, null_mut};

use pyo3_ffi::{
    Py_None, Py_T_PYSSIZET, Py_T_UINT, Py_TYPE, Py_ssize_t, Py_tp_clear, Py_tp_dealloc, Py_tp_doc,
    Py_tp_getset, Py_tp_members, Py_tp_new, Py_tp_traverse, PyGetSetDef, PyLong_FromLong,
    PyLong_FromVoidPtr, PyMemberDef, PyObject, PyType_GenericAlloc, PyType_IsSubtype,
};

use crate::buffer::LARGE;
use crate::class::{make_class, slot};
use crate::held::{FLAGS, Held, This, clear, dealloc, new, traverse};
use crate::methods::{Methods, methods};
use crate::names::{
    BLOCK, LEASE_CLASS, LEASE_SLOWLY, LOADS, RAISE_FOR, TAKEN, TIMEOUT_NAME, VISIBLE,
};
use crate::native::{FOREVER, Message, OK};
use crate::python::{
    Args, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs, PyObject_GetAttr,
    none,
};
use crate::queue::message;
use crate::waiting::{Waiting, nanoseconds};

pub(crate) const METHODS: Methods =
    methods!(c"Lease" of TAKEN: get, get_bytes, ack, __exit__, __del__);

/// An object of the class `Taken`, or of one that is derived from it.
#[repr(C)]
struct Taken {
    /// Without a handle, this was made in Python and is Python's.
    held: Held,
    message: Message,
    /// `_size` and `_attempts`: what the message had when it was leased.
    size: Py_ssize_t,
    attempts: c_uint,
    /// Whether Python has asked for the address of `message`.
    is_shown: bool,
}

/// The message of a lease, if Python has nothing to do with it; null once it is acked.
fn message_of(lease: This) -> Option<*mut Message> {
    let taken = lease.object().cast::<Taken>();
    // SAFETY: the methods are those of a class that is derived from `Taken` (`module::make_method`).
    let is_ours = unsafe { !lease.is_detached() && !(*taken).is_shown };
    // SAFETY: as above.
    is_ours.then_some(unsafe { addr_of_mut!((*taken).message) })
}

/// `Queue.lease(block=True, timeout=None, *, visible=None)`.
pub(crate) fn lease(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME, &VISIBLE])?;
    if args.places() > 2 || queue.is_detached() {
        return None;
    }
    let visible = match given.is_none(2) {
        true => FOREVER,
        false => nanoseconds(given.get(2))?,
    };
    let waiting = Waiting::of(&given, 0)?;
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live. The lease is this call's, until it is returned; its message is written while
    // no other thread knows of it.
    unsafe {
        let class = PyObject_GetAttr(Py_TYPE(queue.object()).cast(), LEASE_CLASS.get());
        if class.is_null() || PyType_IsSubtype(class.cast(), TAKEN.get().cast()) == 0 {
            Py_DecRef(class);
            return class.is_null().then_some(null_mut());
        }
        let lease = PyType_GenericAlloc(class.cast(), 0);
        Py_DecRef(class);
        if lease.is_null() {
            return Some(lease);
        }
        let taken = lease.cast::<Taken>();
        This::new(lease).take_handle_of(queue);
        let place = addr_of_mut!((*taken).message);
        let slice = waiting.slice();
        let status =
            queue.released(|native, pointer| (native.queue_lease)(pointer, visible, slice, place));
        if status == OK {
            (*taken).size = (*place).len as Py_ssize_t;
            (*taken).attempts = (*place).attempts;
            return Some(lease);
        }
        Py_DecRef(lease);
        let timeout = waiting.timeout();
        if timeout.is_null() {
            return Some(timeout);
        }
        let (block, visible) = (given.or_true(0), given.or_none(2));
        let name = LEASE_SLOWLY.get();
        let rest = PyObject_CallMethodObjArgs(queue.object(), name, block, timeout, visible, end);
        Py_DecRef(timeout);
        Some(rest)
    }
}

/// The bytes of a small message as a new `bytes`, and the first of them.
fn small(lease: This) -> Option<crate::queue::Message> {
    let place = message_of(lease)?;
    // SAFETY: the message of a lease, which is there until it is acked. Nobody writes to it.
    unsafe {
        let Message { data, len, .. } = *place;
        (!data.is_null() && len < LARGE).then(|| message(data.cast(), len))
    }
}

fn get_bytes(lease: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(0) {
        return None;
    }
    small(lease).map(|(data, _)| data)
}

fn get(lease: This, args: Args) -> Option<*mut PyObject> {
    if !args.are(0) {
        return None;
    }
    let (data, first) = small(lease)?;
    if data.is_null() {
        return Some(data);
    }
    // SAFETY: objects that live.
    unsafe {
        let object = (first == crate::codec::PICKLE)
            .then(|| PyObject_CallFunctionObjArgs(LOADS.get(), data, null_mut::<PyObject>()));
        Py_DecRef(data);
        object
    }
}

/// Acks the message: a new reference to `None`, or null with an exception.
fn acked(lease: This, place: *mut Message) -> *mut PyObject {
    // SAFETY: the message of a lease, and the pointer of its queue, whose lifetime `released` sees to. The
    // call has a copy: no other thread sees the message half-way, and it is not acked twice.
    unsafe {
        let mut message = std::mem::replace(
            &mut *place,
            Message {
                data: null_mut(),
                ..*place
            },
        );
        let status =
            lease.released(|native, pointer| (native.queue_ack)(pointer, addr_of_mut!(message)));
        if status == OK {
            return none();
        }
        *place = message;
        let status = PyLong_FromLong(status.into());
        if status.is_null() {
            return status;
        }
        let name = RAISE_FOR.get();
        let end = null_mut::<PyObject>();
        let result = PyObject_CallMethodObjArgs(lease.object(), name, status, end);
        Py_DecRef(status);
        result
    }
}

fn ack(lease: This, args: Args) -> Option<*mut PyObject> {
    let place = message_of(lease)?;
    args.are(0).then(|| acked(lease, place))
}

/// `__exit__(kind, value, trace)`.
fn __exit__(lease: This, args: Args) -> Option<*mut PyObject> {
    let place = message_of(lease)?;
    // SAFETY: the message of a lease; `None` is always there.
    unsafe {
        if !args.are(3) {
            return None;
        }
        if (*place).data.is_null() {
            return Some(none());
        }
        (args.first() == Py_None()).then(|| acked(lease, place))
    }
}

fn __del__(lease: This, _: Args) -> Option<*mut PyObject> {
    let place = message_of(lease)?;
    // SAFETY: the message of a lease.
    unsafe { (*place).data.is_null() }.then(none)
}

unsafe extern "C" fn get_address(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let taken = object.cast::<Taken>();
    // SAFETY: CPython calls this with an object of the class.
    unsafe {
        (*taken).is_shown = true;
        PyLong_FromVoidPtr(addr_of_mut!((*taken).message).cast())
    }
}

/// Makes the class `Taken`, which is derived from `held`.
///
/// # Safety
/// The interpreter's lock is held, and `held` is the class `Held`.
pub(crate) unsafe fn class(held: *mut PyObject) -> *mut PyObject {
    // CPython keeps the attributes.
    let attributes = Box::leak(Box::new([
        PyGetSetDef {
            name: c"_address".as_ptr(),
            get: Some(get_address),
            set: None,
            doc: null(),
            closure: null_mut(),
        },
        PyGetSetDef::default(),
    ]));
    let number = |name: &'static CStr, type_code, offset: usize| PyMemberDef {
        name: name.as_ptr(),
        type_code,
        offset: offset as Py_ssize_t,
        ..PyMemberDef::default()
    };
    let members = Box::leak(Box::new([
        number(c"_size", Py_T_PYSSIZET, offset_of!(Taken, size)),
        number(c"_attempts", Py_T_UINT, offset_of!(Taken, attempts)),
        PyMemberDef::default(),
    ]));
    let doc = c"A message that is leased.";
    let mut slots = [
        slot(Py_tp_new, new as *mut c_void),
        slot(Py_tp_dealloc, dealloc as *mut c_void),
        slot(Py_tp_traverse, traverse as *mut c_void),
        slot(Py_tp_clear, clear as *mut c_void),
        slot(Py_tp_getset, attributes.as_mut_ptr().cast()),
        slot(Py_tp_members, members.as_mut_ptr().cast()),
        slot(Py_tp_doc, doc.as_ptr().cast_mut().cast()),
        slot(0, null_mut()),
    ];
    let (name, size) = (c"shoal._fast.Taken", size_of::<Taken>());
    // SAFETY: the slots end with 0 and have the functions that they are named after.
    unsafe { make_class(name, size, FLAGS, held, &mut slots) }
}
