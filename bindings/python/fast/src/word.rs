//! `Word`: a number in shared memory that tells whether cached values are up to date (`_cache.py`).

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pyo3_ffi::{
    Py_DECREF, Py_TYPE, Py_tp_dealloc, Py_tp_doc, Py_tp_free, Py_tp_getset, Py_tp_new,
    PyArg_ParseTuple, PyErr_Clear, PyErr_Occurred, PyErr_SetString, PyExc_ValueError, PyGetSetDef,
    PyLong_AsUnsignedLongLong, PyLong_FromUnsignedLongLong, PyObject, PyTuple_CheckExact,
    PyTuple_GetItem, PyTuple_Size, PyType_GenericAlloc, PyType_GetSlot, PyTypeObject,
};

use crate::class::{make_class, slot};
use crate::python::{Py_DecRef, new_reference};

/// The class, once it is made.
static CLASS: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());

#[repr(C)]
struct Word {
    base: PyObject,
    /// Null for a word that never marks a value as up to date.
    word: *const AtomicU64,
    /// The handle that keeps the memory mapped, or null.
    keeper: *mut PyObject,
    /// Its value when a cached value was last found to be out of date.
    found: u64,
}

/// The value of an entry of a cache, as a borrowed reference, if it is up to date. The entry is a tuple of a word,
/// the number that the word had, and the value.
///
/// # Safety
/// `entry` is an object that lives, and the GIL is held.
#[inline]
pub(crate) unsafe fn up_to_date(entry: *mut PyObject) -> Option<*mut PyObject> {
    // SAFETY: the caller's contract. A tuple of three has three items; only an object of the class is read as a
    // `Word`, and its keeper keeps the memory mapped.
    unsafe {
        if PyTuple_CheckExact(entry) == 0 || PyTuple_Size(entry) != 3 {
            return None;
        }
        let word = PyTuple_GetItem(entry, 0);
        if Py_TYPE(word).cast() != CLASS.load(Ordering::Relaxed) {
            return None;
        }
        let place = (*word.cast::<Word>()).word;
        let seen = PyLong_AsUnsignedLongLong(PyTuple_GetItem(entry, 1));
        if seen == u64::MAX && !PyErr_Occurred().is_null() {
            PyErr_Clear();
            return None;
        }
        // `Acquire` orders the loads: after the word of one set has been seen, the words of all earlier sets
        // are seen as well. So a get that begins after a set sees its effect.
        let same = !place.is_null() && (*place).load(Ordering::Acquire) == seen;
        same.then(|| PyTuple_GetItem(entry, 2))
    }
}

/// `Word(address, keeper)`: the number at an address, which is mapped as long as `keeper` lives; address 0 means
/// no number.
unsafe extern "C" fn new(
    class: *mut PyTypeObject,
    args: *mut PyObject,
    _named: *mut PyObject,
) -> *mut PyObject {
    let (mut address, mut keeper) = (0u64, null_mut::<PyObject>());
    // SAFETY: as the format says, these are places for a number and an object; CPython calls this with a
    // tuple.
    unsafe {
        if PyArg_ParseTuple(args, c"KO:Word".as_ptr(), &mut address, &mut keeper) == 0 {
            return null_mut();
        }
        if address % align_of::<AtomicU64>() as u64 != 0 {
            PyErr_SetString(
                PyExc_ValueError,
                c"the address of a word must be aligned".as_ptr(),
            );
            return null_mut();
        }
        let made = PyType_GenericAlloc(class, 0);
        if !made.is_null() {
            (*made.cast::<Word>()).word = address as *const AtomicU64;
            (*made.cast::<Word>()).keeper = new_reference(keeper);
        }
        made
    }
}

unsafe extern "C-unwind" fn dealloc(object: *mut PyObject) {
    // SAFETY: CPython calls this once, as the last call for an object. Each object has a reference to its class.
    unsafe {
        let class = Py_TYPE(object);
        let keeper = (*object.cast::<Word>()).keeper;
        let free = PyType_GetSlot(class, Py_tp_free);
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(free)(object.cast());
        Py_DecRef(keeper);
        Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn get_value(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class, whose word is mapped.
    unsafe {
        let word = (*object.cast::<Word>()).word;
        let number = match word.is_null() {
            true => 0,
            false => (*word).load(Ordering::Acquire),
        };
        PyLong_FromUnsignedLongLong(number)
    }
}

unsafe extern "C" fn get_found(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    unsafe { PyLong_FromUnsignedLongLong((*object.cast::<Word>()).found) }
}

unsafe extern "C" fn set_found(
    object: *mut PyObject,
    found: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe {
        let number = match found.is_null() {
            true => 0,
            false => PyLong_AsUnsignedLongLong(found),
        };
        if number == u64::MAX && !PyErr_Occurred().is_null() {
            return -1;
        }
        (*object.cast::<Word>()).found = number;
    }
    0
}

/// Makes the class, or returns null with an exception.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn class() -> *mut PyObject {
    let attribute = |name: &'static [u8], get: pyo3_ffi::getter, set| PyGetSetDef {
        name: name.as_ptr().cast(),
        get: Some(get),
        set,
        ..PyGetSetDef::default()
    };
    // CPython keeps them.
    let attributes = Box::leak(Box::new([
        attribute(b"value\0", get_value, None),
        attribute(b"found\0", get_found, Some(set_found as pyo3_ffi::setter)),
        PyGetSetDef::default(),
    ]));
    let mut slots = [
        slot(Py_tp_new, new as *mut c_void),
        slot(Py_tp_dealloc, dealloc as *mut c_void),
        slot(Py_tp_getset, attributes.as_mut_ptr().cast()),
        slot(
            Py_tp_doc,
            c"A number in shared memory.".as_ptr().cast_mut().cast(),
        ),
        slot(0, null_mut()),
    ];
    let (name, size) = (c"shoal._fast.Word", size_of::<Word>());
    // SAFETY: the slots end with 0 and have the functions that they are named after.
    let class = unsafe { make_class(name, size, 0, null_mut(), &mut slots) };
    CLASS.store(class, Ordering::Relaxed);
    class
}
