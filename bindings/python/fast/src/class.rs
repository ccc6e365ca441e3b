//! Making the classes of the module.

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::ptr::null_mut;

use pyo3_ffi::{
    Py_TPFLAGS_DEFAULT, PyObject, PyTuple_New, PyTuple_SetItem, PyType_FromSpec,
    PyType_FromSpecWithBases, PyType_Slot, PyType_Spec,
};

use crate::python::{Py_DecRef, new_reference};

/// A slot of a class.
pub(crate) fn slot(slot: c_int, pfunc: *mut c_void) -> PyType_Slot {
    PyType_Slot { slot, pfunc }
}

/// Makes a class whose objects have `size` bytes; null with an exception. `base`: the class that it is derived
/// from, or null for `object`. `flags`: those in addition to the default ones.
///
/// # Safety
/// `slots` ends with slot 0, each other slot has what its number says, and the GIL is held.
pub(crate) unsafe fn make_class(
    name: &'static CStr,
    size: usize,
    flags: c_ulong,
    base: *mut PyObject,
    slots: &mut [PyType_Slot],
) -> *mut PyObject {
    let mut spec = PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: (Py_TPFLAGS_DEFAULT | flags) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the caller's contract; the tuple takes the reference that is made for it.
    unsafe {
        if base.is_null() {
            return PyType_FromSpec(&mut spec);
        }
        let bases = PyTuple_New(1);
        if bases.is_null() || PyTuple_SetItem(bases, 0, new_reference(base)) != 0 {
            return null_mut();
        }
        let class = PyType_FromSpecWithBases(&mut spec, bases);
        Py_DecRef(bases);
        class
    }
}
