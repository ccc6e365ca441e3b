//! `shoal.Value` of a C number: reading and writing it under its lock.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use pyo3_ffi::{
    PyArg_ParseTuple, PyErr_SetString, PyExc_TypeError, PyFloat_AsDouble, PyFloat_CheckExact,
    PyFloat_FromDouble, PyGetSetDef, PyLong_AsUnsignedLongLongMask, PyLong_AsVoidPtr,
    PyLong_CheckExact, PyLong_FromLongLong, PyLong_FromUnsignedLongLong, PyObject,
    PyObject_IsInstance,
};

use crate::held::This;
use crate::items::{lock_now, unlock};
use crate::names::{CLASS, PYTHON_VALUE};
use crate::python::{Py_DecRef, PyObject_GetAttr, PyObject_SetAttr, new_reference, none};

/// The size of a C type in bytes, and whether it is signed.
fn integer(format: u8) -> Option<(usize, bool)> {
    let long = size_of::<c_long>();
    Some(match format {
        b'b' => (1, true),
        b'B' => (1, false),
        b'h' => (2, true),
        b'H' => (2, false),
        b'i' => (4, true),
        b'I' => (4, false),
        b'l' => (long, true),
        b'L' => (long, false),
        b'q' => (8, true),
        b'Q' => (8, false),
        _ => return None,
    })
}

/// The bits at `data`.
///
/// # Safety
/// `data` is mapped and aligned for `bytes` bytes.
unsafe fn load(data: *mut c_void, bytes: usize) -> u64 {
    // SAFETY: the caller's contract. Atomic, because processes that take no lock may write at the same time.
    unsafe {
        match bytes {
            1 => (*data.cast::<AtomicU8>()).load(Relaxed).into(),
            2 => (*data.cast::<AtomicU16>()).load(Relaxed).into(),
            4 => (*data.cast::<AtomicU32>()).load(Relaxed).into(),
            _ => (*data.cast::<AtomicU64>()).load(Relaxed),
        }
    }
}

/// Stores the lowest bits at `data`.
///
/// # Safety
/// As [`load`].
unsafe fn store(data: *mut c_void, bytes: usize, bits: u64) {
    // SAFETY: the caller's contract, as in `load`.
    unsafe {
        match bytes {
            1 => (*data.cast::<AtomicU8>()).store(bits as u8, Relaxed),
            2 => (*data.cast::<AtomicU16>()).store(bits as u16, Relaxed),
            4 => (*data.cast::<AtomicU32>()).store(bits as u32, Relaxed),
            _ => (*data.cast::<AtomicU64>()).store(bits, Relaxed),
        }
    }
}

/// Runs `work` on the memory of a value under its lock, if that is free. `work` calls no Python code.
fn locked<T>(value: This, work: impl FnOnce(*mut c_void) -> T) -> Option<T> {
    if value.is_detached() {
        return None;
    }
    let held = value.held();
    // SAFETY: a `Held`; the lock is one as well (`place`), and lives as long as the value.
    unsafe {
        let (data, lock) = ((*held).data, (*held).lock);
        if lock.is_null() {
            return Some(work(data));
        }
        if !lock_now(value, This::new(lock)) {
            return None;
        }
        let result = work(data);
        unlock(value);
        Some(result)
    }
}

/// The number: a new reference, or null with an exception.
fn read(value: This) -> Option<*mut PyObject> {
    // SAFETY: the memory of a value that has this format is mapped as long as it is not detached (`place`).
    unsafe {
        let format = (*value.held()).format;
        if let Some((bytes, signed)) = integer(format) {
            let bits = locked(value, |data| load(data, bytes))?;
            let spare = 64 - 8 * bytes as u32;
            return Some(match signed {
                true => PyLong_FromLongLong((bits << spare).cast_signed() >> spare),
                false => PyLong_FromUnsignedLongLong(bits),
            });
        }
        let number = match format {
            b'd' => f64::from_bits(locked(value, |data| load(data, 8))?),
            b'f' => f32::from_bits(locked(value, |data| load(data, 4))? as u32).into(),
            _ => return None,
        };
        Some(PyFloat_FromDouble(number))
    }
}

/// Writes a number, if it is an `int` or a `float` as the format requires. It truncates as ctypes does.
fn write(value: This, to: *mut PyObject) -> Option<()> {
    // SAFETY: as in `read`; the value of an `int` or a `float` is read, which runs no code.
    unsafe {
        let format = (*value.held()).format;
        let (bytes, bits) = match (integer(format), format) {
            (Some((bytes, _)), _) if PyLong_CheckExact(to) != 0 => {
                (bytes, PyLong_AsUnsignedLongLongMask(to))
            }
            (None, b'd') if PyFloat_CheckExact(to) != 0 => (8, PyFloat_AsDouble(to).to_bits()),
            (None, b'f') if PyFloat_CheckExact(to) != 0 => {
                (4, (PyFloat_AsDouble(to) as f32).to_bits().into())
            }
            _ => return None,
        };
        locked(value, |data| store(data, bytes, bits))
    }
}

/// `value`.
unsafe extern "C-unwind" fn get_value(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with a `Held`, which lives, and with the GIL held.
    unsafe {
        match read(This::new(object)) {
            Some(number) => number,
            None => PyObject_GetAttr(object, PYTHON_VALUE.get()),
        }
    }
}

unsafe extern "C-unwind" fn set_value(
    object: *mut PyObject,
    to: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: as in `get_value`; a null `to` deletes the attribute.
    unsafe {
        if !to.is_null() && write(This::new(object), to).is_some() {
            return 0;
        }
        PyObject_SetAttr(object, PYTHON_VALUE.get(), to)
    }
}

/// The classes that have a compiled property, and its name.
pub(crate) const PROPERTIES: &[(&CStr, &CStr)] = &[(c"Value", c"value")];

/// The compiled property of a class, if it has one of this name.
pub(crate) fn property(class: &CStr, name: &CStr, doc: *const c_char) -> Option<PyGetSetDef> {
    type Getter = unsafe extern "C-unwind" fn(*mut PyObject, *mut c_void) -> *mut PyObject;
    type Setter = unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut c_void) -> c_int;
    PROPERTIES.contains(&(class, name)).then(|| PyGetSetDef {
        name: c"value".as_ptr(),
        // SAFETY: the calling convention is C's; the types differ only in whether they may unwind.
        get: Some(unsafe { std::mem::transmute::<Getter, pyo3_ffi::getter>(get_value) }),
        // SAFETY: the same.
        set: Some(unsafe { std::mem::transmute::<Setter, pyo3_ffi::setter>(set_value) }),
        doc,
        closure: null_mut(),
    })
}

/// `place(value, address, format, lock)`: the memory of a value, which its handle keeps mapped, the type code of
/// what is there, and the `ItemsLock` of the value, or `None` if it takes no lock.
pub(crate) unsafe extern "C" fn place(_: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let [mut value, mut address, mut lock] = [null_mut::<PyObject>(); 3];
    let mut format: c_int = 0;
    // SAFETY: as the format says, these are places for objects and a character. Both objects are checked to be
    // `Held` before they are used as such.
    unsafe {
        let form = c"OOCO:place".as_ptr();
        if PyArg_ParseTuple(args, form, &mut value, &mut address, &mut format, &mut lock) == 0 {
            return null_mut();
        }
        let is_held = |it| PyObject_IsInstance(it, CLASS.get()) == 1;
        let no_lock = lock == pyo3_ffi::Py_None();
        if !is_held(value) || !(no_lock || is_held(lock)) {
            pyo3_ffi::PyErr_Clear();
            let why = c"place(value, address, format, lock)";
            PyErr_SetString(PyExc_TypeError, why.as_ptr());
            return null_mut();
        }
        let address = PyLong_AsVoidPtr(address);
        if address.is_null() && !pyo3_ffi::PyErr_Occurred().is_null() {
            return null_mut();
        }
        let held = This::new(value).held();
        let lock = if no_lock {
            null_mut()
        } else {
            new_reference(lock)
        };
        (*held).data = address;
        let aligned = integer(format as u8).map_or(8, |(bytes, _)| bytes);
        let is_valid = !address.is_null() && (address as usize).is_multiple_of(aligned);
        (*held).format = if is_valid { format as u8 } else { 0 };
        let before = std::mem::replace(&mut (*held).lock, lock);
        Py_DecRef(before);
        none()
    }
}
