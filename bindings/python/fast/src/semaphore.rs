//! `shoal.Semaphore`.

use pyo3_ffi::PyObject;

use crate::held::This;
use crate::methods::{Methods, methods};
use crate::names::{BLOCK, TIMEOUT_NAME};
use crate::native::OK;
use crate::python::{Args, bool, int, none};
use crate::waiting::is_timeout;

pub(crate) static METHODS: Methods =
    methods!(c"Semaphore": acquire, release, get_value, __enter__, __exit__);

fn acquire_now(semaphore: This) -> bool {
    // SAFETY: the pointer of a semaphore, which `now` keeps alive.
    semaphore.now(|native, pointer| unsafe { (native.semaphore_try_acquire)(pointer) }) == OK
}

fn release_one(semaphore: This) -> bool {
    // SAFETY: as in `acquire_now`.
    semaphore.now(|native, pointer| unsafe { (native.semaphore_try_release)(pointer, 1) }) == OK
}

/// `acquire(block=True, timeout=None)`.
fn acquire(semaphore: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME])?;
    (is_timeout(given.get(1)) && acquire_now(semaphore)).then(|| bool(true))
}

/// `release(n=1)`.
fn release(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0) && release_one(semaphore)).then(none)
}

fn get_value(semaphore: This, args: Args) -> Option<*mut PyObject> {
    let mut value = 0;
    // SAFETY: as in `acquire_now`.
    let mut call = || unsafe {
        semaphore.now(|native, pointer| (native.semaphore_try_value)(pointer, &mut value))
    };
    (args.are(0) && call() == OK).then(|| int(value))
}

fn __enter__(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0) && acquire_now(semaphore)).then(|| bool(true))
}

/// `__exit__(kind, value, trace)`.
fn __exit__(semaphore: This, args: Args) -> Option<*mut PyObject> {
    (args.are(3) && release_one(semaphore)).then(none)
}
