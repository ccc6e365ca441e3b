//! `Held`, the base class of shared objects: what such an object has of its handle.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3_ffi::{
    Py_DECREF, Py_INCREF, Py_None, Py_TPFLAGS_BASETYPE, Py_TPFLAGS_DEFAULT, Py_TYPE, Py_tp_dealloc,
    Py_tp_doc, Py_tp_free, Py_tp_getset, Py_tp_new, PyErr_SetString, PyEval_SaveThread,
    PyExc_TypeError, PyGetSetDef, PyLong_AsVoidPtr, PyObject, PyObject_GetAttrString,
    PyType_FromSpec, PyType_GenericAlloc, PyType_GetSlot, PyType_IsSubtype, PyType_Slot,
    PyType_Spec, PyTypeObject,
};

use crate::native::{NOT_CALLED, Native, native};
use crate::python::{Py_DecRef, PyEval_RestoreThread, bool, none};

/// The class of the objects that own a native pointer; null until `setup` tells it.
pub(crate) static HANDLE: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());

/// An object of the class, or of one that is derived from it.
///
/// The handle changes only while the interpreter's lock is held, and only by `_fast`. So a pointer that was
/// read is good for a call of the library, until Python code runs.
#[repr(C)]
pub(crate) struct Held {
    base: PyObject,
    /// The native pointer of `handle`; null without one.
    pointer: *mut c_void,
    /// The object that owns the pointer, or null.
    handle: *mut PyObject,
    /// `Sender._large`: whether the last object was large.
    large: bool,
    /// `ItemsLock._owner_died`: whether, when it was last taken here, its holder had died with it.
    died: bool,
}

/// The native pointer of an object, null if it is detached.
///
/// # Safety
/// `object` is one of the class `Held`, and the interpreter's lock is held.
#[inline]
pub(crate) unsafe fn pointer(object: *mut PyObject) -> *mut c_void {
    // SAFETY: the caller's contract.
    unsafe { (*object.cast::<Held>()).pointer }
}

/// Calls the library without the interpreter's lock: for calls that may wait for another process's lock,
/// for as long as an operation takes. `call` must not touch Python; `OK` is never returned without a call.
///
/// # Safety
/// As [`pointer`].
pub(crate) unsafe fn released(
    object: *mut PyObject,
    call: impl FnOnce(&'static Native, *mut c_void) -> c_int,
) -> c_int {
    // SAFETY: the caller's contract. The reference keeps the pointer while another thread may detach
    // the object. The thread may end in `PyEval_RestoreThread`: there is nothing to drop.
    unsafe {
        let (pointer, handle) = (pointer(object), (*object.cast::<Held>()).handle);
        let Some(native) = native().filter(|_| !pointer.is_null()) else {
            return NOT_CALLED;
        };
        Py_INCREF(handle);
        let state = PyEval_SaveThread();
        let status = call(native, pointer);
        PyEval_RestoreThread(state);
        Py_DecRef(handle);
        status
    }
}

/// Whether the last object that was sent was large.
///
/// # Safety
/// As [`pointer`].
#[inline]
pub(crate) unsafe fn is_large(object: *mut PyObject) -> bool {
    // SAFETY: the caller's contract.
    unsafe { (*object.cast::<Held>()).large }
}

unsafe extern "C" fn new(
    class: *mut PyTypeObject,
    _args: *mut PyObject,
    _named: *mut PyObject,
) -> *mut PyObject {
    // The memory is zero: no handle.
    // SAFETY: CPython calls this with a class that is this one or derived from it.
    unsafe { PyType_GenericAlloc(class, 0) }
}

unsafe extern "C-unwind" fn dealloc(object: *mut PyObject) {
    // SAFETY: CPython calls this once, as the last for an object of the class. A class that is made at run
    // time is kept by its objects.
    unsafe {
        let class = Py_TYPE(object);
        let handle = (*object.cast::<Held>()).handle;
        let free = PyType_GetSlot(class, Py_tp_free);
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(free)(object.cast());
        Py_DecRef(handle);
        Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn get_handle(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    unsafe {
        let handle = (*object.cast::<Held>()).handle;
        if handle.is_null() {
            return none();
        }
        Py_INCREF(handle);
        handle
    }
}

unsafe extern "C-unwind" fn set_handle(
    object: *mut PyObject,
    handle: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    let held = object.cast::<Held>();
    // SAFETY: CPython calls this with an object of the class; `handle` is null or an object. The place has a
    // reference of its own; what was there goes last, since that may run code.
    unsafe {
        let (mut pointer, mut place) = (null_mut(), null_mut());
        if !handle.is_null() && handle != Py_None() {
            let class = HANDLE.load(Ordering::Relaxed);
            if class.is_null() || PyType_IsSubtype(Py_TYPE(handle), class.cast()) == 0 {
                PyErr_SetString(PyExc_TypeError, c"_fast is a handle, or None".as_ptr());
                return -1;
            }
            let value = PyObject_GetAttrString(handle, c"value".as_ptr());
            if value.is_null() {
                return -1;
            }
            if value != Py_None() {
                pointer = PyLong_AsVoidPtr(value);
            }
            Py_DECREF(value);
            if !pyo3_ffi::PyErr_Occurred().is_null() {
                return -1;
            }
            Py_INCREF(handle);
            place = handle;
        }
        let before = (*held).handle;
        (*held).pointer = pointer;
        (*held).handle = place;
        Py_DecRef(before);
    }
    0
}

/// Says whether the holder of a lock, which this thread has now, had died with it.
///
/// # Safety
/// As [`pointer`].
#[inline]
pub(crate) unsafe fn set_died(object: *mut PyObject, died: bool) {
    // SAFETY: the caller's contract.
    unsafe { (*object.cast::<Held>()).died = died }
}

unsafe extern "C" fn get_died(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    bool(unsafe { (*object.cast::<Held>()).died })
}

unsafe extern "C" fn set_died_to(
    object: *mut PyObject,
    died: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe { set_died(object, died == pyo3_ffi::Py_True()) };
    0
}

unsafe extern "C" fn get_large(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    bool(unsafe { is_large(object) })
}

unsafe extern "C" fn set_large(
    object: *mut PyObject,
    large: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe {
        (*object.cast::<Held>()).large = large == pyo3_ffi::Py_True();
    }
    0
}

/// Makes the class.
///
/// # Safety
/// The interpreter's lock is held.
pub(crate) unsafe fn class() -> *mut PyObject {
    const fn attribute(
        name: &'static [u8],
        get: pyo3_ffi::getter,
        set: pyo3_ffi::setter,
    ) -> PyGetSetDef {
        PyGetSetDef {
            name: name.as_ptr().cast::<c_char>(),
            get: Some(get),
            set: Some(set),
            doc: null(),
            closure: null_mut(),
        }
    }
    // SAFETY: the calling convention is C's; only what may unwind differs.
    let set_handle = unsafe {
        std::mem::transmute::<
            unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut c_void) -> c_int,
            pyo3_ffi::setter,
        >(set_handle)
    };
    // CPython keeps the attributes and, before 3.12, the name; the rest it copies.
    let attributes = Box::leak(Box::new([
        attribute(b"_fast\0", get_handle, set_handle),
        attribute(b"_large\0", get_large, set_large),
        attribute(b"_owner_died\0", get_died, set_died_to),
        PyGetSetDef::default(),
    ]));
    let slot = |slot, function| PyType_Slot {
        slot,
        pfunc: function,
    };
    let mut slots = [
        slot(Py_tp_new, new as *mut c_void),
        slot(Py_tp_dealloc, dealloc as *mut c_void),
        slot(Py_tp_getset, attributes.as_mut_ptr().cast()),
        slot(
            Py_tp_doc,
            c"What an object has of its handle."
                .as_ptr()
                .cast_mut()
                .cast(),
        ),
        slot(0, null_mut()),
    ];
    let mut spec = PyType_Spec {
        name: c"shoal._fast.Held".as_ptr(),
        basicsize: size_of::<Held>() as c_int,
        itemsize: 0,
        flags: (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots end with 0 and have the functions that they are named after.
    unsafe { PyType_FromSpec(&mut spec) }
}
