//! The encoding of `_codec.py`, for the most frequent keys and values.

use std::ptr::null_mut;

use pyo3_ffi::{
    Py_ssize_t, PyBytes_AsString, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_Size,
    PyErr_Clear, PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLongLong, PyObject,
    PyUnicode_CheckExact,
};

use crate::held::This;
use crate::names::{LOADS, PROTOCOL};
use crate::python::{Py_DecRef, PyObject_CallFunctionObjArgs, PyUnicode_AsUTF8AndSize};

/// The first byte of every pickle of protocol 2 or later.
pub(crate) const PICKLE: u8 = 0x80;

/// The size of a counter. An encoded pickle never has this size, because it would be decoded as a counter.
const COUNTER: usize = 8;

/// Bytes of a key or a value in an object or in a [`Scratch`]. They are valid while both live.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

impl Bytes {
    fn of(it: &[u8]) -> Self {
        Self {
            data: it.as_ptr(),
            len: it.len(),
        }
    }
}

/// Memory for the bytes of a key or a value that are not part of an object.
pub(crate) type Scratch = [u8; 64];

/// An unused [`Scratch`].
pub(crate) const SCRATCH: Scratch = [0; 64];

/// The contents of a `bytes`.
///
/// # Safety
/// `object` is a `bytes` and lives as long as the result is used.
pub(crate) unsafe fn bytes(object: *mut PyObject) -> Bytes {
    // SAFETY: the caller's contract.
    unsafe {
        Bytes {
            data: PyBytes_AsString(object).cast::<u8>().cast_const(),
            len: PyBytes_Size(object).unsigned_abs(),
        }
    }
}

/// Whether a key is a `str`, `int` or `bytes`. Such a key equals only keys of its own type, and neither hashing
/// nor comparing it runs Python code.
pub(crate) fn is_plain(key: *mut PyObject) -> bool {
    // SAFETY: an object, or null; only its type is read.
    !key.is_null()
        && unsafe {
            PyUnicode_CheckExact(key) != 0
                || PyLong_CheckExact(key) != 0
                || PyBytes_CheckExact(key) != 0
        }
}

/// The bytes of a key that is a `str`, a short `bytes` or an integer of 64 bits. A `str` with surrogates is left to
/// Python.
pub(crate) fn key(key: *mut PyObject, scratch: &mut Scratch) -> Option<Bytes> {
    // SAFETY: an object that lives. Its type is known where its contents are read, which run no code.
    unsafe {
        if PyUnicode_CheckExact(key) != 0 {
            let mut len = 0;
            let data = PyUnicode_AsUTF8AndSize(key, &mut len);
            if data.is_null() {
                PyErr_Clear();
                return None;
            }
            let len = len.unsigned_abs();
            return Some(Bytes { data, len });
        }
        let body = match PyLong_CheckExact(key) != 0 {
            true => decimal(key, scratch)?,
            false if PyBytes_CheckExact(key) == 0 => return None,
            false => {
                let it = bytes(key);
                let buffer = scratch.get_mut(2..it.len + 2)?;
                buffer.copy_from_slice(std::slice::from_raw_parts(it.data, it.len));
                scratch[..2].copy_from_slice(b"\xffb");
                it.len + 2
            }
        };
        Some(Bytes::of(&scratch[..body]))
    }
}

/// Writes the bytes of a key that is an integer. Returns their number.
///
/// # Safety
/// `key` is an `int`.
unsafe fn decimal(key: *mut PyObject, scratch: &mut Scratch) -> Option<usize> {
    let mut overflow = 0;
    // SAFETY: the caller's contract.
    let number = unsafe { PyLong_AsLongLongAndOverflow(key, &mut overflow) };
    if overflow != 0 {
        return None;
    }
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let head: &[u8] = if number < 0 { b"\xffi-" } else { b"\xffi" };
    let digits = &digits[at..];
    let len = head.len() + digits.len();
    scratch[..head.len()].copy_from_slice(head);
    scratch[head.len()..len].copy_from_slice(digits);
    Some(len)
}

/// A value as bytes.
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    /// The object that contains the bytes, or null. Released by [`free`](Self::free).
    pickle: *mut PyObject,
}

impl Encoded {
    /// Releases the bytes.
    pub(crate) fn free(self) {
        // SAFETY: this value owns the reference; null is ignored.
        unsafe { Py_DecRef(self.pickle) }
    }
}

/// The bytes of a value: a number of 64 bits, or its pickle. `None` with an exception if it cannot be
/// pickled.
pub(crate) fn value(this: This, value: *mut PyObject, scratch: &mut Scratch) -> Option<Encoded> {
    // SAFETY: an object that lives. Its type is known where its contents are read.
    unsafe {
        if PyLong_CheckExact(value) != 0 {
            let mut overflow = 0;
            let number = PyLong_AsLongLongAndOverflow(value, &mut overflow);
            if overflow == 0 {
                scratch[..COUNTER].copy_from_slice(&number.to_le_bytes());
                return Some(Encoded {
                    bytes: Bytes::of(&scratch[..COUNTER]),
                    pickle: null_mut(),
                });
            }
        }
        let pickle = this.dumps(value, PROTOCOL.get());
        if pickle.is_null() {
            return None;
        }
        if PyBytes_CheckExact(pickle) == 0 {
            Py_DecRef(pickle);
            let why = c"_dumps returned an object that is not bytes";
            pyo3_ffi::PyErr_SetString(pyo3_ffi::PyExc_TypeError, why.as_ptr());
            return None;
        }
        let mut it = bytes(pickle);
        if it.len == COUNTER {
            // Not the size of a counter: a zero byte is appended, which unpickling ignores.
            scratch[..COUNTER].copy_from_slice(std::slice::from_raw_parts(it.data, COUNTER));
            scratch[COUNTER] = 0;
            it = Bytes::of(&scratch[..=COUNTER]);
        }
        Some(Encoded { bytes: it, pickle })
    }
}

/// A new `bytes`, or null with an exception.
pub(crate) fn to_bytes(it: Bytes) -> *mut PyObject {
    // SAFETY: `data` has `len` bytes.
    unsafe { PyBytes_FromStringAndSize(it.data.cast(), it.len as Py_ssize_t) }
}

/// A value that was copied out of a map or a list. [`finish`](Self::finish) makes its object, once the buffer has
/// been given back.
pub(crate) enum Copied {
    /// A number.
    Number(i64),
    /// The `bytes` of a pickle, or null with an exception.
    Pickle(*mut PyObject),
    /// The `bytes` of any other value, which a program in another language wrote; or null with an exception.
    Other(*mut PyObject),
}

impl Copied {
    /// # Safety
    /// `data` has `len` bytes.
    pub(crate) unsafe fn of(data: *const u8, len: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            if len == COUNTER {
                return Self::Number(i64::from_le_bytes(data.cast::<[u8; COUNTER]>().read()));
            }
            let it = to_bytes(Bytes { data, len });
            match len > 0 && *data == PICKLE {
                true => Self::Pickle(it),
                false => Self::Other(it),
            }
        }
    }

    /// The object: a new reference, or null with an exception. `decode` gets the `bytes` of [`Other`](Self::Other).
    pub(crate) fn finish(
        self,
        decode: impl FnOnce(*mut PyObject) -> *mut PyObject,
    ) -> *mut PyObject {
        // SAFETY: the references are this value's.
        unsafe {
            match self {
                Self::Number(number) => PyLong_FromLongLong(number),
                Self::Pickle(data) | Self::Other(data) if data.is_null() => null_mut(),
                Self::Pickle(data) => {
                    let end = null_mut::<PyObject>();
                    let object = PyObject_CallFunctionObjArgs(LOADS.get(), data, end);
                    Py_DecRef(data);
                    object
                }
                Self::Other(data) => {
                    let object = decode(data);
                    Py_DecRef(data);
                    object
                }
            }
        }
    }
}
