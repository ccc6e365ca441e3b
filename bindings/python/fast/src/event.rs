//! `shoal.Event`. None of these calls waits.

use pyo3_ffi::{Py_ssize_t, PyObject};

use crate::held::pointer;
use crate::module::{CLEAR, IS_SET, SET};
use crate::native::{OK, native};
use crate::python::{Args, bool, call_slow, none};

/// `is_set()`.
pub(crate) unsafe extern "C-unwind" fn is_set(
    event: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let (args, pointer) = (Args::new(items, count, names), pointer(event));
        let mut set = false;
        if args.are(0, 0)
            && !pointer.is_null()
            && native().is_some_and(|it| (it.event_is_set)(pointer, &mut set) == OK)
        {
            return bool(set);
        }
        call_slow(event, IS_SET.get(), args)
    }
}

/// `set()`.
pub(crate) unsafe extern "C-unwind" fn set(
    event: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let (args, pointer) = (Args::new(items, count, names), pointer(event));
        if args.are(0, 0)
            && !pointer.is_null()
            && native().is_some_and(|it| (it.event_set)(pointer) == OK)
        {
            return none();
        }
        call_slow(event, SET.get(), args)
    }
}

/// `clear()`.
pub(crate) unsafe extern "C-unwind" fn clear(
    event: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let (args, pointer) = (Args::new(items, count, names), pointer(event));
        if args.are(0, 0)
            && !pointer.is_null()
            && native().is_some_and(|it| (it.event_clear)(pointer) == OK)
        {
            return none();
        }
        call_slow(event, CLEAR.get(), args)
    }
}
