//! `shoal.Semaphore`.

use pyo3_ffi::PyObject;

use crate::held::This;
use crate::methods::{Methods, methods};
use crate::native::{NOWAIT, OK};
use crate::python::{Args, bool, none};

pub(crate) const METHODS: Methods = methods!(c"Semaphore": acquire, release, __enter__, __exit__);

fn acquire_now(semaphore: This) -> bool {
    semaphore.released(|native, pointer| {
        // SAFETY: the pointer of a semaphore, whose lifetime `released` sees to.
        unsafe { (native.semaphore_acquire)(pointer, NOWAIT) }
    }) == OK
}

fn release_one(semaphore: This) -> bool {
    semaphore.released(|native, pointer| {
        // SAFETY: as in `acquire_now`.
        unsafe { (native.semaphore_release)(pointer, 1) }
    }) == OK
}

/// `acquire(block=True, timeout=None)`.
fn acquire(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0, 2) && acquire_now(semaphore)).then(|| bool(true))
}

/// `release(n=1)`.
fn release(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0, 0) && release_one(semaphore)).then(none)
}

fn __enter__(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0, 0) && acquire_now(semaphore)).then(|| bool(true))
}

/// `__exit__(kind, value, trace)`.
fn __exit__(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(3, 3) && release_one(semaphore)).then(none)
}
