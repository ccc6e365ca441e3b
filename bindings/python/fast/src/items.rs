//! `ItemsLock`, the lock of a `shoal.Value` or a `shoal.Array`.

use pyo3_ffi::PyObject;

use crate::held::This;
use crate::methods::{Methods, methods};
use crate::native::{NOWAIT, OK};
use crate::python::{Args, bool, none};

pub(crate) static METHODS: Methods = methods!(c"ItemsLock": __enter__, __exit__);

/// Takes the lock of an array if it is free. It does not wait, so the GIL may be held. `array` has the handle, and
/// may be the lock itself. Sets in `lock` whether the previous owner died. If that is set already, this may be a
/// recursive acquisition, which is left to Python.
#[inline]
pub(crate) fn lock_now(array: This, lock: This) -> bool {
    if lock.has_died() {
        return false;
    }
    let mut died = false;
    let taken = array.now(|native, pointer| {
        // SAFETY: the pointer of an array, which lives as long as the call of `now`.
        unsafe { (native.array_lock)(pointer, NOWAIT, &mut died) }
    }) == OK;
    if taken {
        lock.set_died(died);
    }
    taken
}

/// Unlocks an array, which this thread has locked.
#[inline]
pub(crate) fn unlock(array: This) -> bool {
    // SAFETY: as in `lock_now`.
    array.now(|native, pointer| unsafe { (native.array_unlock)(pointer) }) == OK
}

fn __enter__(lock: This, args: Args) -> Option<*mut PyObject> {
    (args.are(0) && lock_now(lock, lock)).then(|| bool(true))
}

/// `__exit__(kind, value, trace)`.
fn __exit__(lock: This, args: Args) -> Option<*mut PyObject> {
    (args.are(3) && unlock(lock)).then(none)
}
