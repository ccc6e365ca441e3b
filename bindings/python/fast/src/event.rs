//! `shoal.Event`. None of these calls waits.

use pyo3_ffi::PyObject;

use crate::held::This;
use crate::methods::{Methods, methods};
use crate::native::OK;
use crate::python::{Args, bool, none};

pub(crate) static METHODS: Methods = methods!(c"Event": is_set, set, clear);

fn is_set(event: This, args: Args) -> Option<*mut PyObject> {
    let mut set = false;
    // SAFETY: the pointer of an event, which `now` keeps alive.
    let mut call =
        || event.now(|native, pointer| unsafe { (native.event_is_set)(pointer, &mut set) });
    (args.are(0) && call() == OK).then(|| bool(set))
}

fn set(event: This, args: Args) -> Option<*mut PyObject> {
    // SAFETY: as in `is_set`.
    let call = || event.now(|native, pointer| unsafe { (native.event_set)(pointer) });
    (args.are(0) && call() == OK).then(none)
}

fn clear(event: This, args: Args) -> Option<*mut PyObject> {
    // SAFETY: as in `is_set`.
    let call = || event.now(|native, pointer| unsafe { (native.event_clear)(pointer) });
    (args.are(0) && call() == OK).then(none)
}
