//! `shoal.Lock` and `shoal.RLock`.

use std::ptr::null_mut;

use pyo3_ffi::{Py_ssize_t, PyObject};

use crate::held::pointer;
use crate::module::{ACQUIRE, ENTER, EXIT, FROM_THE_DEAD, RELEASE};
use crate::native::{OK, native};
use crate::python::{Args, PyObject_CallMethodObjArgs, bool, call_slow, none};

/// Takes the lock if it is free, and says whether its last owner died with it.
///
/// # Safety
/// `lock` is a `Held`, and the interpreter's lock is held.
#[inline]
unsafe fn try_now(lock: *mut PyObject) -> Option<bool> {
    // SAFETY: the caller's contract.
    unsafe {
        let (pointer, mut died) = (pointer(lock), false);
        let native = native().filter(|_| !pointer.is_null())?;
        ((native.lock_try)(pointer, &mut died) == OK).then_some(died)
    }
}

/// Gives the lock back; false if Python has more to do.
///
/// # Safety
/// As [`try_now`].
#[inline]
unsafe fn release_now(lock: *mut PyObject) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let pointer = pointer(lock);
        native().is_some_and(|it| !pointer.is_null() && (it.lock_unlock)(pointer) == OK)
    }
}

/// # Safety
/// As [`try_now`], with arguments that CPython gave.
unsafe extern "C-unwind" fn take(
    lock: *mut PyObject,
    slow: *mut PyObject,
    args: Args,
) -> *mut PyObject {
    // SAFETY: the caller's contract.
    unsafe {
        match try_now(lock) {
            Some(false) => bool(true),
            Some(true) => {
                PyObject_CallMethodObjArgs(lock, FROM_THE_DEAD.get(), null_mut::<PyObject>())
            }
            None => call_slow(lock, slow, args),
        }
    }
}

/// `acquire(block=True, timeout=None)`.
pub(crate) unsafe extern "C-unwind" fn acquire(
    lock: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        match args.are(0, 2) {
            true => take(lock, ACQUIRE.get(), args),
            false => call_slow(lock, ACQUIRE.get(), args),
        }
    }
}

/// `release()`.
pub(crate) unsafe extern "C-unwind" fn release(
    lock: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        if args.are(0, 0) && release_now(lock) {
            return none();
        }
        call_slow(lock, RELEASE.get(), args)
    }
}

/// `__enter__()`.
pub(crate) unsafe extern "C-unwind" fn enter(
    lock: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, and with the arguments.
    unsafe {
        let args = Args::new(items, count, names);
        match args.are(0, 0) {
            true => take(lock, ENTER.get(), args),
            false => call_slow(lock, ENTER.get(), args),
        }
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
        let args = Args::new(items, count, names);
        if args.are(3, 3) && release_now(lock) {
            return none();
        }
        call_slow(lock, EXIT.get(), args)
    }
}
