//! How long a call waits: for one slice here, and then in Python, which runs signal handlers between slices.

use std::time::{Duration, Instant};

use pyo3_ffi::{
    Py_None, PyErr_Clear, PyFloat_AsDouble, PyFloat_CheckExact, PyFloat_FromDouble,
    PyLong_AsDouble, PyLong_CheckExact, PyObject,
};

use crate::native::{NOWAIT, SLICE};
use crate::python::{Given, new_reference};

/// Longer timeouts, in seconds, are left to Python.
const LONGEST: f64 = 1e6;

/// The wait that the arguments `block` and `timeout` request.
#[derive(Clone, Copy)]
pub(crate) enum Waiting {
    Not,
    Forever,
    Until(Instant),
}

impl Waiting {
    /// The wait that two arguments request, of which `block` is the index of the first. `None` if they are not a
    /// bool and a number of seconds.
    pub(crate) fn of<const N: usize>(given: &Given<N>, block: usize) -> Option<Self> {
        if !given.is_true(block) {
            let is_valid = given.is_plain(block) && is_timeout(given.get(block + 1));
            return is_valid.then_some(Self::Not);
        }
        if given.is_none(block + 1) {
            return Some(Self::Forever);
        }
        let seconds = seconds(given.get(block + 1))?;
        Some(Self::Until(
            Instant::now() + Duration::from_secs_f64(seconds),
        ))
    }

    /// How many nanoseconds a call waits here.
    pub(crate) fn slice(self) -> i64 {
        match self {
            Self::Not => NOWAIT,
            Self::Forever => SLICE,
            Self::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                left.as_nanos().min(SLICE as u128) as i64
            }
        }
    }

    /// The `timeout` of the rest of the wait: a new reference, or null with an exception. `block` does not change.
    pub(crate) fn timeout(self) -> *mut PyObject {
        // SAFETY: the GIL is held; `None` always exists.
        unsafe {
            match self {
                Self::Not | Self::Forever => new_reference(Py_None()),
                Self::Until(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    PyFloat_FromDouble(left.as_secs_f64())
                }
            }
        }
    }
}

/// A length of time in seconds, if it is a `float` or an `int` that is not negative or too long.
fn seconds(time: *mut PyObject) -> Option<f64> {
    // SAFETY: an object that lives; its value is read if it is a `float` or an `int`. One that is too large for
    // a `float` reads as -1, with an exception.
    let seconds = unsafe {
        if PyFloat_CheckExact(time) != 0 {
            PyFloat_AsDouble(time)
        } else if PyLong_CheckExact(time) != 0 {
            PyLong_AsDouble(time)
        } else {
            return None;
        }
    };
    if !(0.0..LONGEST).contains(&seconds) {
        // SAFETY: the GIL is held.
        unsafe { PyErr_Clear() };
        return None;
    }
    Some(seconds)
}

/// Whether an argument is not given, `None`, or a number of seconds that Python need not check.
#[inline(always)]
pub(crate) fn is_timeout(given: *mut PyObject) -> bool {
    given.is_null() || is_given_timeout(given)
}

/// Not inlined, because most calls have no timeout.
#[inline(never)]
fn is_given_timeout(given: *mut PyObject) -> bool {
    // SAFETY: this object always exists.
    given == unsafe { Py_None() } || seconds(given).is_some()
}

/// The same as [`seconds`] in nanoseconds.
pub(crate) fn nanoseconds(time: *mut PyObject) -> Option<i64> {
    seconds(time).map(|seconds| (seconds * 1e9) as i64)
}
