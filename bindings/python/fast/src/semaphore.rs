//! `shoal.Semaphore`.

use pyo3_ffi::{Py_ssize_t, PyObject};

use crate::held::released;
use crate::module::{ACQUIRE, RELEASE};
use crate::native::{NOWAIT, OK};
use crate::python::{Args, bool, call_slow, none};

/// `acquire(block=True, timeout=None)`.
pub(crate) unsafe extern "C-unwind" fn acquire(
    semaphore: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        let acquire = || {
            released(semaphore, |native, pointer| {
                (native.semaphore_acquire)(pointer, NOWAIT)
            })
        };
        match args.are(0, 2) && acquire() == OK {
            true => bool(true),
            false => call_slow(semaphore, ACQUIRE.get(), args),
        }
    }
}

/// `release(n=1)`.
pub(crate) unsafe extern "C-unwind" fn release(
    semaphore: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        let release = || {
            released(semaphore, |native, pointer| {
                (native.semaphore_release)(pointer, 1)
            })
        };
        match args.are(0, 0) && release() == OK {
            true => none(),
            false => call_slow(semaphore, RELEASE.get(), args),
        }
    }
}
