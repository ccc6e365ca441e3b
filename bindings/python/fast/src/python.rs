//! The functions of CPython that the methods need, and their arguments.

use std::ffi::{CStr, CString, c_int};
use std::ptr::null_mut;

use pyo3_ffi::{
    Py_False, Py_IncRef, Py_None, Py_True, Py_ssize_t, PyMethodDef, PyMethodDefPointer, PyObject,
    PyTuple_GetItem, PyTuple_New, PyTuple_SetItem, PyTuple_Size,
};

use crate::names::Constant;

// As `pyo3_ffi` declares them, except that they may unwind (see the head of the crate).
// `PyUnicode_AsUTF8AndSize` belongs to the stable interface since 3.10; 3.9 exports it as well.
unsafe extern "C-unwind" {
    fn PyObject_Call(
        call: *mut PyObject,
        args: *mut PyObject,
        named: *mut PyObject,
    ) -> *mut PyObject;
    pub(crate) fn PyObject_CallFunctionObjArgs(call: *mut PyObject, ...) -> *mut PyObject;
    pub(crate) fn PyObject_CallMethodObjArgs(
        of: *mut PyObject,
        name: *mut PyObject,
        ...
    ) -> *mut PyObject;
    pub(crate) fn PyObject_GetAttr(of: *mut PyObject, name: *mut PyObject) -> *mut PyObject;
    pub(crate) fn PyObject_SetAttr(
        of: *mut PyObject,
        name: *mut PyObject,
        to: *mut PyObject,
    ) -> c_int;
    pub(crate) fn PySequence_Tuple(of: *mut PyObject) -> *mut PyObject;
    pub(crate) fn PyUnicode_AsUTF8AndSize(text: *mut PyObject, size: *mut Py_ssize_t) -> *const u8;
    pub(crate) fn PyEval_RestoreThread(state: *mut pyo3_ffi::PyThreadState);
    pub(crate) fn Py_DecRef(it: *mut PyObject);
    fn PyDict_New() -> *mut PyObject;
    fn PyDict_SetItem(dict: *mut PyObject, key: *mut PyObject, it: *mut PyObject) -> c_int;
}

/// A method that takes its arguments as an array, and the names of the last ones as a tuple.
pub(crate) type Method = unsafe extern "C-unwind" fn(
    *mut PyObject,
    *const *mut PyObject,
    Py_ssize_t,
    *mut PyObject,
) -> *mut PyObject;

/// `METH_FASTCALL | METH_KEYWORDS`.
const FAST: c_int = 0x0080 | 0x0002;

/// The definition of a method. Its docstring is never freed.
pub(crate) fn method(name: &'static CStr, doc: CString, call: Method) -> PyMethodDef {
    PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: PyMethodDefPointer {
            // SAFETY: CPython calls it by the flags, with these arguments; the calling convention is C's.
            PyCFunction: unsafe { std::mem::transmute::<Method, pyo3_ffi::PyCFunction>(call) },
        },
        ml_flags: FAST,
        ml_doc: doc.into_raw(),
    }
}

/// The arguments of a call.
#[derive(Clone, Copy)]
pub(crate) struct Args {
    items: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
}

impl Args {
    /// # Safety
    /// CPython has called a [`Method`] with these arguments, and the result is not used after that call.
    pub(crate) unsafe fn new(
        items: *const *mut PyObject,
        count: Py_ssize_t,
        names: *mut PyObject,
    ) -> Self {
        Self {
            items,
            count,
            names,
        }
    }

    /// Whether there are exactly `count` arguments, all of them positional.
    pub(crate) fn are(self, count: Py_ssize_t) -> bool {
        self.names.is_null() && self.count == count
    }

    /// The number of positional arguments.
    pub(crate) fn positional(self) -> Py_ssize_t {
        self.count
    }

    /// The first argument of a call that has one ([`are`](Self::are)).
    ///
    /// # Safety
    /// There is one.
    pub(crate) unsafe fn first(self) -> *mut PyObject {
        // SAFETY: the caller's contract.
        unsafe { *self.items }
    }

    /// The arguments in the order of `names`, if the first `least` of them are given and every keyword is one of
    /// `names`. All other cases are left to Python.
    pub(crate) fn given<const N: usize>(
        self,
        least: usize,
        names: [&Constant; N],
    ) -> Option<Given<N>> {
        let (mut given, count) = (Given([null_mut(); N]), self.count.unsigned_abs());
        if count > N {
            return None;
        }
        for (index, place) in given.0.iter_mut().enumerate().take(count) {
            // SAFETY: there are `count` positional arguments (`new`).
            *place = unsafe { *self.items.add(index) };
        }
        if !self.names.is_null() {
            // SAFETY: a tuple of names, whose arguments follow the positional ones (`new`). Names in source code
            // are interned, so they are compared by identity.
            unsafe {
                for index in 0..PyTuple_Size(self.names) {
                    let name = PyTuple_GetItem(self.names, index);
                    let at = names.iter().position(|known| known.get() == name)?;
                    if !given.0[at].is_null() {
                        return None;
                    }
                    given.0[at] = *self.items.add(count + index.unsigned_abs());
                }
            }
        }
        let is_there = given.0.iter().take(least).all(|it| !it.is_null());
        is_there.then_some(given)
    }
}

/// Arguments by their index. Those that are not given are null.
#[derive(Clone, Copy)]
pub(crate) struct Given<const N: usize>([*mut PyObject; N]);

impl<const N: usize> Given<N> {
    /// An argument, or null if it is not given.
    pub(crate) fn get(&self, index: usize) -> *mut PyObject {
        self.0[index]
    }

    /// Whether an argument is `True`, `False` or not given. Testing the truth of any other may run code.
    pub(crate) fn is_plain(&self, index: usize) -> bool {
        // SAFETY: this object always exists.
        self.is_true(index) || self.get(index) == unsafe { Py_False() }
    }

    /// Whether an argument is `True` or not given.
    pub(crate) fn is_true(&self, index: usize) -> bool {
        // SAFETY: this object always exists.
        self.or_true(index) == unsafe { Py_True() }
    }

    /// Whether an argument is `None` or not given.
    pub(crate) fn is_none(&self, index: usize) -> bool {
        // SAFETY: this object always exists.
        self.or_none(index) == unsafe { Py_None() }
    }

    /// An argument, `True` if it is not given.
    pub(crate) fn or_true(&self, index: usize) -> *mut PyObject {
        match self.get(index) {
            // SAFETY: this object always exists.
            it if it.is_null() => unsafe { Py_True() },
            it => it,
        }
    }

    /// An argument, `None` if it is not given.
    pub(crate) fn or_none(&self, index: usize) -> *mut PyObject {
        match self.get(index) {
            // SAFETY: this object always exists.
            it if it.is_null() => unsafe { Py_None() },
            it => it,
        }
    }
}

/// Calls the method `name` of `of` with all arguments.
///
/// # Safety
/// The GIL is held, and both objects live.
pub(crate) unsafe extern "C-unwind" fn call_slow(
    of: *mut PyObject,
    name: *mut PyObject,
    items: *const *mut PyObject,
    count: Py_ssize_t,
    argument_names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the caller's contract. Every reference that is made is released; the result of each call that may
    // fail is checked; `items` has `count` arguments, and then one for each name.
    unsafe {
        let call = PyObject_GetAttr(of, name);
        if call.is_null() {
            return null_mut();
        }
        let positional = PyTuple_New(count);
        let keywords = if argument_names.is_null() {
            null_mut()
        } else {
            PyDict_New()
        };
        let mut failed = positional.is_null() || (keywords.is_null() && !argument_names.is_null());
        let mut index = 0;
        while !failed && index < count {
            let it = *items.add(index.unsigned_abs());
            Py_IncRef(it);
            failed = PyTuple_SetItem(positional, index, it) != 0;
            index += 1;
        }
        index = 0;
        let names = if keywords.is_null() {
            0
        } else {
            PyTuple_Size(argument_names)
        };
        while !failed && index < names {
            let it = *items.add((count + index).unsigned_abs());
            failed = PyDict_SetItem(keywords, PyTuple_GetItem(argument_names, index), it) != 0;
            index += 1;
        }
        let result = if failed {
            null_mut()
        } else {
            PyObject_Call(call, positional, keywords)
        };
        for it in [call, positional, keywords] {
            Py_DecRef(it);
        }
        result
    }
}

/// A new reference to an object.
///
/// # Safety
/// The object lives, and the GIL is held.
pub(crate) unsafe fn new_reference(it: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller's contract.
    unsafe { Py_IncRef(it) };
    it
}

/// A new reference to `None`.
pub(crate) fn none() -> *mut PyObject {
    // SAFETY: this object always exists, and the GIL is held in all of this crate.
    unsafe { new_reference(Py_None()) }
}

/// A new reference to `True` or `False`.
pub(crate) fn bool(it: bool) -> *mut PyObject {
    // SAFETY: as in `none`.
    unsafe { pyo3_ffi::PyBool_FromLong(it.into()) }
}

/// A new integer; null with an exception.
pub(crate) fn int(it: u64) -> *mut PyObject {
    // SAFETY: as in `none`.
    unsafe { pyo3_ffi::PyLong_FromUnsignedLongLong(it) }
}
