//! `Held`, the base class of shared objects: their handle and other state that compiled methods read.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::ptr::{addr_of_mut, null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3_ffi::{
    Py_DECREF, Py_INCREF, Py_None, Py_TPFLAGS_BASETYPE, Py_TPFLAGS_HAVE_GC, Py_TYPE, Py_ssize_t,
    Py_tp_clear, Py_tp_dealloc, Py_tp_doc, Py_tp_free, Py_tp_getset, Py_tp_new, Py_tp_traverse,
    PyDict_CheckExact, PyErr_Clear, PyErr_Occurred, PyErr_SetString, PyEval_SaveThread,
    PyExc_TypeError, PyGetSetDef, PyLong_AsSsize_t, PyLong_AsVoidPtr, PyLong_FromLong,
    PyLong_FromSsize_t, PyObject, PyObject_GC_UnTrack, PyObject_GetAttrString, PyType_GenericAlloc,
    PyType_GetSlot, PyType_IsSubtype, PyTypeObject, visitproc,
};

use crate::class::{make_class, slot};
use crate::names::{DUMPS_NAME, RAISE_FOR};
use crate::native::{NOT_CALLED, Native, native};
use crate::python::{
    Py_DecRef, PyEval_RestoreThread, PyObject_CallFunctionObjArgs, PyObject_CallMethodObjArgs,
    PyObject_GetAttr, bool, new_reference, none,
};

/// The class of the objects that own a native pointer; null until `setup` sets it.
pub(crate) static HANDLE: AtomicPtr<PyObject> = AtomicPtr::new(null_mut());

/// An object of the class, or of a derived class.
///
/// The handle changes only while the GIL is held, and only by an assignment to `_fast`. So a
/// pointer that was read is valid until Python code runs or the GIL is released.
#[repr(C)]
pub(crate) struct Held {
    base: PyObject,
    /// The native pointer of `handle`; null without one.
    pointer: *mut c_void,
    /// The object that owns the pointer, or null.
    handle: *mut PyObject,
    /// The attribute `_dumps` of the class, cached on first use if it is a function that takes no `self`; or null.
    dumps: *mut PyObject,
    /// `_cache` of a map: the `dict` of its cached values; or null.
    pub(crate) cache: *mut PyObject,
    /// `_pause` of a map: the number of gets until values are cached again.
    pub(crate) pause: Py_ssize_t,
    /// For a `Value`: the address of the number, the lock that guards it, or null, and its C type (0 if Python
    /// reads it). They are valid while `pointer` is not null.
    pub(crate) data: *mut c_void,
    pub(crate) lock: *mut PyObject,
    pub(crate) format: u8,
    /// `Sender._large`: whether the last object was large.
    large: bool,
    /// `ItemsLock._owner_died`: whether the previous owner died while it held the lock, as of the last
    /// acquisition by this process.
    died: bool,
}

/// The object of a method call: a `Held` that lives, in a thread that holds the GIL. It is used
/// during the call only, and holds no reference.
#[derive(Clone, Copy)]
pub(crate) struct This(*mut PyObject);

impl This {
    /// # Safety
    /// The description of the type holds for as long as the result is used.
    pub(crate) unsafe fn new(object: *mut PyObject) -> Self {
        Self(object)
    }

    pub(crate) fn object(self) -> *mut PyObject {
        self.0
    }

    /// The state of the object. The caller keeps no reference to it across a call of Python, which may change it.
    pub(crate) fn held(self) -> *mut Held {
        self.0.cast()
    }

    /// Whether the object has no handle.
    pub(crate) fn is_detached(self) -> bool {
        // SAFETY: a `Held` (`new`).
        unsafe { (*self.held()).pointer }.is_null()
    }

    /// Whether the last object that was sent was large.
    pub(crate) fn is_large(self) -> bool {
        // SAFETY: a `Held` (`new`).
        unsafe { (*self.held()).large }
    }

    /// Gives this object, which has no handle yet, the handle of another one.
    pub(crate) fn take_handle_of(self, other: This) {
        // SAFETY: both are a `Held` (`new`). Without a handle a pointer is null.
        unsafe {
            let (to, from) = (self.held(), other.held());
            (*to).handle = new_reference((*from).handle);
            (*to).pointer = (*from).pointer;
        }
    }

    /// Whether the previous owner of this lock died while it held it, as of the last acquisition.
    pub(crate) fn has_died(self) -> bool {
        // SAFETY: a `Held` (`new`).
        unsafe { (*self.held()).died }
    }

    /// Sets whether the previous owner died while it held this lock, which this thread holds now.
    pub(crate) fn set_died(self, died: bool) {
        // SAFETY: a `Held` (`new`).
        unsafe { (*self.held()).died = died }
    }

    /// Calls the library with the object's pointer, with the GIL held: for calls that never wait.
    #[inline]
    pub(crate) fn now(self, call: impl FnOnce(&'static Native, *mut c_void) -> c_int) -> c_int {
        // SAFETY: a `Held` (`new`).
        let pointer = unsafe { (*self.held()).pointer };
        match native() {
            Some(native) if !pointer.is_null() => call(native, pointer),
            _ => NOT_CALLED,
        }
    }

    /// Calls the library without the GIL: for calls that may wait. `call` must not touch
    /// Python. A call that waits for more than another process's operation has a deadline of
    /// [`SLICE`](crate::native::SLICE) at most.
    pub(crate) fn released(
        self,
        call: impl FnOnce(&'static Native, *mut c_void) -> c_int,
    ) -> c_int {
        // SAFETY: a `Held` (`new`). The reference keeps the pointer valid if another thread detaches the object
        // meanwhile. The thread may end in `PyEval_RestoreThread`: there is nothing to drop.
        unsafe {
            let (pointer, handle) = ((*self.held()).pointer, (*self.held()).handle);
            let Some(native) = native().filter(|_| !pointer.is_null()) else {
                return NOT_CALLED;
            };
            Py_INCREF(handle);
            let state = PyEval_SaveThread();
            let status = call(native, pointer);
            PyEval_RestoreThread(state);
            Py_DecRef(handle);
            status
        }
    }

    /// Raises the exception for the status of the last call, by the Python method `_raise_for`: null with an
    /// exception.
    #[cold]
    pub(crate) fn raise_for(self, status: c_int) -> *mut PyObject {
        // SAFETY: objects that live; the number belongs to this call.
        unsafe {
            let status = PyLong_FromLong(status.into());
            if status.is_null() {
                return status;
            }
            let (name, end) = (RAISE_FOR.get(), null_mut::<PyObject>());
            let result = PyObject_CallMethodObjArgs(self.0, name, status, end);
            Py_DecRef(status);
            result
        }
    }

    /// The pickle of `object`: the result of `_dumps`, or null with an exception.
    pub(crate) fn dumps(self, object: *mut PyObject, protocol: *mut PyObject) -> *mut PyObject {
        // A static method is looked up once for each object. A bound method is looked up at each call: caching
        // it would be a reference cycle.
        // SAFETY: a `Held` (`new`), and objects that live. The call has a reference of its own, because the
        // called code may free this object.
        unsafe {
            let held = self.held();
            let mut dumps = (*held).dumps;
            if dumps.is_null() {
                dumps = PyObject_GetAttr(self.0, DUMPS_NAME.get());
                if dumps.is_null() {
                    return null_mut();
                }
                let mut class = PyObject_GetAttr(Py_TYPE(self.0).cast(), DUMPS_NAME.get());
                if class.is_null() {
                    // Only the object has the attribute.
                    PyErr_Clear();
                } else if class == dumps {
                    class = std::mem::replace(&mut (*held).dumps, class);
                }
                Py_DecRef(class);
            } else {
                dumps = new_reference(dumps);
            }
            let data =
                PyObject_CallFunctionObjArgs(dumps, object, protocol, null_mut::<PyObject>());
            Py_DecRef(dumps);
            data
        }
    }
}

pub(crate) unsafe extern "C" fn new(
    class: *mut PyTypeObject,
    _args: *mut PyObject,
    _named: *mut PyObject,
) -> *mut PyObject {
    // The memory is zero: no handle.
    // SAFETY: CPython calls this with a class that is this one or derived from it.
    unsafe { PyType_GenericAlloc(class, 0) }
}

/// Shows the garbage collector what an object refers to: its class (required since Python 3.9), and all fields but
/// the handle. A handle refers to no object that could be part of a cycle, so the collector need not see it.
pub(crate) unsafe extern "C" fn traverse(
    object: *mut PyObject,
    visit: visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and a function for objects that live.
    unsafe {
        let held = object.cast::<Held>();
        let class = Py_TYPE(object).cast();
        for it in [class, (*held).dumps, (*held).cache, (*held).lock] {
            if !it.is_null() {
                let stop = visit(it, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

/// Releases what may be part of a reference cycle. The object is garbage, but code that runs meanwhile may still
/// use it.
pub(crate) unsafe extern "C-unwind" fn clear(object: *mut PyObject) -> c_int {
    // SAFETY: CPython calls this with an object of the class. Each field is null before its object is released,
    // because that may run code. Format 0: without its lock, a value is read by Python.
    unsafe {
        let held = object.cast::<Held>();
        (*held).format = 0;
        for field in [
            addr_of_mut!((*held).dumps),
            addr_of_mut!((*held).cache),
            addr_of_mut!((*held).lock),
        ] {
            Py_DecRef(std::mem::replace(&mut *field, null_mut()));
        }
    }
    0
}

pub(crate) unsafe extern "C-unwind" fn dealloc(object: *mut PyObject) {
    // SAFETY: CPython calls this once, as the last call for an object. The collector does not see the object any
    // more when its fields are released. Each object has a reference to its class.
    unsafe {
        PyObject_GC_UnTrack(object.cast());
        let class = Py_TYPE(object);
        let held = object.cast::<Held>();
        let owned = [(*held).handle, (*held).dumps, (*held).cache, (*held).lock];
        let free = PyType_GetSlot(class, Py_tp_free);
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(free)(object.cast());
        for it in owned {
            Py_DecRef(it);
        }
        Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn get_handle(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    unsafe { or_none((*object.cast::<Held>()).handle) }
}

/// # Safety
/// `it` is null or an object, and the GIL is held.
unsafe fn or_none(it: *mut PyObject) -> *mut PyObject {
    if it.is_null() {
        return none();
    }
    // SAFETY: the caller's contract.
    unsafe { new_reference(it) }
}

unsafe extern "C-unwind" fn set_handle(
    object: *mut PyObject,
    handle: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    let held = object.cast::<Held>();
    // SAFETY: CPython calls this with an object of the class; `handle` is null or an object. The field has a
    // reference of its own. The old object is released last, because that may run code.
    unsafe {
        let (mut pointer, mut place) = (null_mut(), null_mut());
        if !handle.is_null() && handle != Py_None() {
            let class = HANDLE.load(Ordering::Relaxed);
            if class.is_null() || PyType_IsSubtype(Py_TYPE(handle), class.cast()) == 0 {
                PyErr_SetString(PyExc_TypeError, c"_fast is a handle, or None".as_ptr());
                return -1;
            }
            let value = PyObject_GetAttrString(handle, c"value".as_ptr());
            if value.is_null() {
                return -1;
            }
            if value != Py_None() {
                pointer = PyLong_AsVoidPtr(value);
            }
            Py_DECREF(value);
            if !PyErr_Occurred().is_null() {
                return -1;
            }
            place = new_reference(handle);
        }
        (*held).pointer = pointer;
        let before = std::mem::replace(&mut (*held).handle, place);
        Py_DecRef(before);
    }
    0
}

unsafe extern "C" fn get_cache(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    unsafe { or_none((*object.cast::<Held>()).cache) }
}

unsafe extern "C-unwind" fn set_cache(
    object: *mut PyObject,
    cache: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object. The old object is
    // released last, because that may run code.
    unsafe {
        if cache.is_null() || PyDict_CheckExact(cache) == 0 {
            PyErr_SetString(PyExc_TypeError, c"_cache is a dict".as_ptr());
            return -1;
        }
        let before = std::mem::replace(&mut (*object.cast::<Held>()).cache, new_reference(cache));
        Py_DecRef(before);
    }
    0
}

unsafe extern "C" fn get_pause(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    unsafe { PyLong_FromSsize_t((*object.cast::<Held>()).pause) }
}

unsafe extern "C" fn set_pause(
    object: *mut PyObject,
    pause: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe {
        let number = match pause.is_null() {
            true => 0,
            false => PyLong_AsSsize_t(pause),
        };
        if number == -1 && !PyErr_Occurred().is_null() {
            return -1;
        }
        (*object.cast::<Held>()).pause = number;
    }
    0
}

unsafe extern "C" fn get_died(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    bool(unsafe { (*object.cast::<Held>()).died })
}

unsafe extern "C" fn set_died_to(
    object: *mut PyObject,
    died: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe { (*object.cast::<Held>()).died = died == pyo3_ffi::Py_True() };
    0
}

unsafe extern "C" fn get_large(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: CPython calls this with an object of the class.
    bool(unsafe { (*object.cast::<Held>()).large })
}

unsafe extern "C" fn set_large(
    object: *mut PyObject,
    large: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this with an object of the class, and null or an object.
    unsafe { (*object.cast::<Held>()).large = large == pyo3_ffi::Py_True() };
    0
}

/// A setter that may unwind.
type Setter = unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut c_void) -> c_int;

/// Makes the class.
///
/// # Safety
/// The GIL is held.
pub(crate) unsafe fn class() -> *mut PyObject {
    const fn attribute(
        name: &'static [u8],
        get: pyo3_ffi::getter,
        set: pyo3_ffi::setter,
    ) -> PyGetSetDef {
        PyGetSetDef {
            name: name.as_ptr().cast::<c_char>(),
            get: Some(get),
            set: Some(set),
            doc: null(),
            closure: null_mut(),
        }
    }
    // SAFETY: the calling convention is C's; the types differ only in whether they may unwind.
    let [set_handle, set_cache] = [set_handle, set_cache]
        .map(|set: Setter| unsafe { std::mem::transmute::<Setter, pyo3_ffi::setter>(set) });
    // CPython refers to the attributes and, before 3.12, to the name; it copies everything else.
    let attributes = Box::leak(Box::new([
        attribute(b"_fast\0", get_handle, set_handle),
        attribute(b"_large\0", get_large, set_large),
        attribute(b"_owner_died\0", get_died, set_died_to),
        attribute(b"_cache\0", get_cache, set_cache),
        attribute(b"_pause\0", get_pause, set_pause),
        PyGetSetDef::default(),
    ]));
    let mut slots = [
        slot(Py_tp_new, new as *mut c_void),
        slot(Py_tp_dealloc, dealloc as *mut c_void),
        slot(Py_tp_traverse, traverse as *mut c_void),
        slot(Py_tp_clear, clear as *mut c_void),
        slot(Py_tp_getset, attributes.as_mut_ptr().cast()),
        slot(
            Py_tp_doc,
            c"The handle of a shared object, for compiled methods."
                .as_ptr()
                .cast_mut()
                .cast(),
        ),
        slot(0, null_mut()),
    ];
    let (name, size) = (c"shoal._fast.Held", size_of::<Held>());
    // SAFETY: the slots end with 0 and have the functions that they are named after.
    unsafe { make_class(name, size, FLAGS, null_mut(), &mut slots) }
}

/// Of `Held` and of each class that is derived from it.
pub(crate) const FLAGS: c_ulong = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
