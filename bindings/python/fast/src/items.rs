//! `ItemsLock`, the lock of a `shoal.Value` or a `shoal.Array`.

use pyo3_ffi::{Py_ssize_t, PyObject};

use crate::held::{pointer, set_died};
use crate::module::{ENTER, EXIT};
use crate::native::{NOWAIT, OK, native};
use crate::python::{Args, bool, call_slow, none};

/// `__enter__()`.
pub(crate) unsafe extern "C-unwind" fn enter(
    lock: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments. A call that is not to wait does not,
    // so it may have the interpreter's lock.
    unsafe {
        let (args, pointer) = (Args::new(items, count, names), pointer(lock));
        let mut died = false;
        if args.are(0, 0)
            && !pointer.is_null()
            && native().is_some_and(|it| (it.array_lock)(pointer, NOWAIT, &mut died) == OK)
        {
            set_died(lock, died);
            return bool(true);
        }
        call_slow(lock, ENTER.get(), args)
    }
}

/// `__exit__(kind, value, trace)`.
pub(crate) unsafe extern "C-unwind" fn exit(
    lock: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let (args, pointer) = (Args::new(items, count, names), pointer(lock));
        if args.are(3, 3)
            && !pointer.is_null()
            && native().is_some_and(|it| (it.array_unlock)(pointer) == OK)
        {
            return none();
        }
        call_slow(lock, EXIT.get(), args)
    }
}
