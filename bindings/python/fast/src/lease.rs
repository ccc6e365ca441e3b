//! `shoal.Lease`, a leased message, and `Queue.lease`.
//!
//! A lease that is made here contains the library's `shoal_message`. Once Python has read its address
//! (`_address`), for a view of the data or to extend the lease, every later call is handled in Python.

use std::ffi::{CStr, c_uint, c_void};
use std::mem::offset_of;
use std::ptr::{addr_of_mut, null, null_mut};

use pyo3_ffi::{
    Py_None, Py_T_PYSSIZET, Py_T_UINT, Py_TYPE, Py_ssize_t, Py_tp_clear, Py_tp_dealloc, Py_tp_doc,
    Py_tp_getset, Py_tp_members, Py_tp_new, Py_tp_traverse, PyGetSetDef, PyLong_FromVoidPtr,
    PyMemberDef, PyObject, PyType_GenericAlloc, PyType_IsSubtype,
};

use crate::buffer::LARGE;
use crate::class::{make_class, slot};
use crate::held::{FLAGS, Held, This, clear, dealloc, new, traverse};
use crate::methods::{Methods, methods};
use crate::names::{BLOCK, LEASE_CLASS, LEASE_SLOWLY, LOADS, TAKEN, TIMEOUT_NAME, VISIBLE};
use crate::native::{FOREVER, Message, OK};
use crate::python::{
    Args, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs, PyObject_GetAttr,
    none,
};
use crate::queue::message;
use crate::waiting::{Waiting, nanoseconds};

pub(crate) static METHODS: Methods =
    methods!(c"Lease" of TAKEN: get, get_bytes, ack, __exit__, __del__);

/// An object of the class `Taken`, or of one that is derived from it.
#[repr(C)]
struct Taken {
    /// Without a handle, the lease was made in Python, which then handles every call.
    held: Held,
    message: Message,
    /// `_size` and `_attempts` of the message when it was leased.
    size: Py_ssize_t,
    attempts: c_uint,
    /// Whether Python has read the address of `message`.
    has_address: bool,
}

/// The message of a lease, unless Python handles it. Its `data` is null once it is acked.
fn message_of(lease: This) -> Option<*mut Message> {
    let taken = lease.object().cast::<Taken>();
    // SAFETY: the methods are those of a class that is derived from `Taken` (`module::make_method`).
    let is_ours = unsafe { !lease.is_detached() && !(*taken).has_address };
    // SAFETY: as above.
    is_ours.then_some(unsafe { addr_of_mut!((*taken).message) })
}

/// `Queue.lease(block=True, timeout=None, *, visible=None)`.
pub(crate) fn lease(queue: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME, &VISIBLE])?;
    if args.positional() > 2 || queue.is_detached() {
        return None;
    }
    let visible = match given.is_none(2) {
        true => FOREVER,
        false => nanoseconds(given.get(2))?,
    };
    let waiting = Waiting::of(&given, 0)?;
    let end = null_mut::<PyObject>();
    // SAFETY: objects that live. No other thread knows of the lease before it is returned, so nothing else uses
    // its message while the library writes it.
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

/// A small message.
fn small(lease: This) -> Option<crate::queue::Message> {
    let place = message_of(lease)?;
    // SAFETY: the message of a lease, which is valid until it is acked. No process writes to it.
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
    // SAFETY: the message of a lease, and the pointer of its queue, which `released` keeps alive. The call gets a
    // copy of the message, and `data` is null meanwhile, so another thread cannot ack it a second time.
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
        lease.raise_for(status)
    }
}

fn ack(lease: This, args: Args) -> Option<*mut PyObject> {
    let place = message_of(lease)?;
    args.are(0).then(|| acked(lease, place))
}

/// `__exit__(kind, value, trace)`.
fn __exit__(lease: This, args: Args) -> Option<*mut PyObject> {
    let place = message_of(lease)?;
    // SAFETY: the message of a lease; `None` always exists.
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
        (*taken).has_address = true;
        PyLong_FromVoidPtr(addr_of_mut!((*taken).message).cast())
    }
}

/// Makes the class `Taken`, which is derived from `held`.
///
/// # Safety
/// The GIL is held, and `held` is the class `Held`.
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
