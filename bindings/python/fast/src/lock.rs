//! `shoal.Lock` and `shoal.RLock`.

use std::ptr::null_mut;

use pyo3_ffi::PyObject;

use crate::held::This;
use crate::methods::{Methods, methods};
use crate::names::{BLOCK, FROM_DEAD_OWNER, TIMEOUT_NAME};
use crate::native::OK;
use crate::python::{Args, PyObject_CallMethodObjArgs, bool, int, none};
use crate::waiting::is_timeout;

pub(crate) static METHODS: Methods =
    methods!(c"Lock": acquire, release, _depth, __enter__, __exit__);

/// Takes the lock if it is free.
#[inline]
fn take_now(lock: This) -> Option<*mut PyObject> {
    let mut died = false;
    // SAFETY: the pointer of a lock, which `now` keeps alive.
    let status = lock.now(|native, pointer| unsafe { (native.lock_try)(pointer, &mut died) });
    if status == OK && died {
        // SAFETY: a method that takes no arguments.
        return Some(unsafe {
            PyObject_CallMethodObjArgs(lock.object(), FROM_DEAD_OWNER.get(), null_mut::<PyObject>())
        });
    }
    (status == OK).then(|| bool(true))
}

/// Releases the lock, unless Python has more to do.
#[inline]
fn release_now(lock: This) -> Option<*mut PyObject> {
    // SAFETY: as in `take_now`.
    let status = lock.now(|native, pointer| unsafe { (native.lock_unlock_any)(pointer) });
    (status == OK).then(none)
}

/// `acquire(block=True, timeout=None)`.
fn acquire(lock: This, args: Args) -> Option<*mut PyObject> {
    let given = args.given(0, [&BLOCK, &TIMEOUT_NAME])?;
    is_timeout(given.get(1)).then(|| take_now(lock)).flatten()
}

fn release(lock: This, args: Args) -> Option<*mut PyObject> {
    args.are(0).then(|| release_now(lock)).flatten()
}

fn _depth(lock: This, args: Args) -> Option<*mut PyObject> {
    let mut depth = 0;
    // SAFETY: as in `take_now`.
    let mut call =
        || unsafe { lock.now(|native, pointer| (native.lock_depth)(pointer, &mut depth)) };
    (args.are(0) && call() == OK).then(|| int(depth.into()))
}

fn __enter__(lock: This, args: Args) -> Option<*mut PyObject> {
    args.are(0).then(|| take_now(lock)).flatten()
}

/// `__exit__(kind, value, trace)`.
fn __exit__(lock: This, args: Args) -> Option<*mut PyObject> {
    args.are(3).then(|| release_now(lock)).flatten()
}
