//! The module `_fast`: its class, and the functions by which the package gets compiled methods.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{addr_of_mut, null, null_mut};
use std::sync::atomic::Ordering;

use pyo3_ffi::{
    METH_VARARGS, Py_BuildValue, Py_DECREF, Py_INCREF, Py_None, PyArg_ParseTuple,
    PyDescr_NewGetSet, PyDescr_NewMethod, PyErr_SetString, PyExc_ImportError, PyExc_TypeError,
    PyImport_ImportModule, PyInterpreterState_Get, PyInterpreterState_GetID, PyList_Append,
    PyList_New, PyMethodDef, PyMethodDefPointer, PyModule_AddObject, PyModule_AddStringConstant,
    PyModule_Create, PyModuleDef, PyModuleDef_HEAD_INIT, PyObject, PyObject_CallFunction,
    PyObject_GetAttrString, PyType_IsSubtype, PyUnicode_InternFromString,
};

use crate::held;
use crate::methods::Methods;
use crate::names::{CLASS, GOT_ONCE, LOADS, PROTOCOL, TAKEN, make_names};
use crate::native;
use crate::python::{Py_DecRef, method, none};
use crate::{event, items, lease, list, lock, map, pipe, queue, semaphore, value, word};

/// The methods of each class of the package.
static METHODS: [&Methods; 9] = [
    &queue::METHODS,
    &lease::METHODS,
    &pipe::METHODS,
    &map::METHODS,
    &list::METHODS,
    &lock::METHODS,
    &semaphore::METHODS,
    &event::METHODS,
    &items::METHODS,
];

/// `setup(path, handle)`: finds the functions of the library at `path`, which is loaded already, and stores the
/// class of handles.
unsafe extern "C" fn setup(_: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let (mut path, mut handle) = (null::<c_char>(), null_mut::<PyObject>());
    // SAFETY: as the format says, these are places for a text and a class.
    let parsed = unsafe {
        let class = addr_of_mut!(pyo3_ffi::PyType_Type);
        PyArg_ParseTuple(args, c"sO!:setup".as_ptr(), &mut path, class, &mut handle)
    };
    if parsed == 0 {
        return null_mut();
    }
    if !is_main_interpreter() {
        return refuse(MAIN_ONLY);
    }
    let known = held::HANDLE.load(Ordering::Relaxed);
    if !known.is_null() && known != handle {
        return refuse("shoal._fast is in use by another copy of the package");
    }
    // SAFETY: the text lives as long as the arguments.
    if let Err(why) = native::load(unsafe { CStr::from_ptr(path) }) {
        return refuse(&why);
    }
    if known.is_null() {
        // SAFETY: a class, which is never released.
        unsafe { Py_INCREF(handle) };
        held::HANDLE.store(handle, Ordering::Relaxed);
    }
    none()
}

const MAIN_ONLY: &str = "shoal._fast works in the main interpreter only";

/// Whether this is the interpreter whose objects the module may keep.
fn is_main_interpreter() -> bool {
    // SAFETY: the GIL is held.
    unsafe { PyInterpreterState_GetID(PyInterpreterState_Get()) == 0 }
}

fn refuse(why: &str) -> *mut PyObject {
    let why = CString::new(why).unwrap_or_default();
    // SAFETY: the GIL is held; the text ends with NUL.
    unsafe { PyErr_SetString(PyExc_ImportError, why.as_ptr()) };
    null_mut()
}

/// `names(class)`: the names of the compiled methods and properties of a class of the package.
unsafe extern "C" fn names(_: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let mut class = null::<c_char>();
    // SAFETY: as the format says, this is a place for a text, which lives as long as the arguments. The list
    // belongs to this call; the names end with NUL.
    unsafe {
        if PyArg_ParseTuple(args, c"s:names".as_ptr(), &mut class) == 0 {
            return null_mut();
        }
        let class = CStr::from_ptr(class);
        let methods = METHODS.iter().filter(|it| it.class == class);
        let methods = methods.flat_map(|it| it.entries).map(|it| it.name.as_ptr());
        let properties = value::PROPERTIES.iter().filter(|(of, _)| *of == class);
        let properties = properties.map(|(_, name)| name.as_ptr().cast());
        let list = PyList_New(0);
        if list.is_null() {
            return list;
        }
        for name in methods.chain(properties) {
            let name = PyUnicode_InternFromString(name.cast());
            let failed = name.is_null() || PyList_Append(list, name) != 0;
            Py_DecRef(name);
            if failed {
                Py_DecRef(list);
                return null_mut();
            }
        }
        list
    }
}

/// `method(type, class, name, doc)`: a new compiled method or property for a class of the package, by its name;
/// `None` if there is none. It is for objects of `type`, which has to be derived from `Held`.
unsafe extern "C" fn make_method(_: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let [mut class, mut name, mut doc] = [null::<c_char>(); 3];
    let mut kind = null_mut::<PyObject>();
    // SAFETY: as the format says, these are places for a class and texts, which live as long as the arguments.
    unsafe {
        let any = addr_of_mut!(pyo3_ffi::PyType_Type);
        let form = c"O!sss:method".as_ptr();
        if PyArg_ParseTuple(args, form, any, &mut kind, &mut class, &mut name, &mut doc) == 0 {
            return null_mut();
        }
    }
    // SAFETY: texts that live as long as the arguments.
    let [class, name, doc] = [class, name, doc].map(|text| unsafe { CStr::from_ptr(text) });
    let methods = METHODS.iter().find(|known| known.class == class);
    let base = methods.map_or(&CLASS, |of| of.base);
    // SAFETY: two classes.
    if unsafe { PyType_IsSubtype(kind.cast(), base.get().cast()) } == 0 {
        let why = c"the class is not derived from the one that the method is for";
        // SAFETY: the GIL is held; the text ends with NUL.
        unsafe { PyErr_SetString(PyExc_TypeError, why.as_ptr()) };
        return null_mut();
    }
    let found = methods.and_then(|of| {
        of.entries
            .iter()
            .find(|it| it.name == name.to_bytes_with_nul())
    });
    // SAFETY: a class whose objects are `Held`. Descriptors refer to their definition, which is never freed.
    unsafe {
        if let Some(it) = found {
            let python = PyUnicode_InternFromString(it.python_name.as_ptr().cast());
            if !it.python.set(python) {
                return null_mut();
            }
            let name = CStr::from_ptr(it.name.as_ptr().cast());
            let definition = Box::leak(Box::new(method(name, doc.to_owned(), it.call)));
            return PyDescr_NewMethod(kind.cast(), definition);
        }
        let doc = doc.to_owned();
        match value::property(class, name, doc.as_ptr()) {
            Some(property) => {
                std::mem::forget(doc);
                PyDescr_NewGetSet(kind.cast(), Box::leak(Box::new(property)))
            }
            None => none(),
        }
    }
}

/// Makes the class, and looks up the names.
///
/// # Safety
/// `module` is a module, and the GIL is held.
unsafe fn fill(module: *mut PyObject) -> bool {
    // SAFETY: the caller's contract. The module owns the references that are added to it.
    unsafe {
        let pickle = PyImport_ImportModule(c"pickle".as_ptr());
        if pickle.is_null()
            || !LOADS.set(PyObject_GetAttrString(pickle, c"loads".as_ptr()))
            || !PROTOCOL.set(PyObject_GetAttrString(pickle, c"HIGHEST_PROTOCOL".as_ptr()))
            || !make_names()
        {
            return false;
        }
        Py_DECREF(pickle);
        if !CLASS.set(held::class()) || !TAKEN.set(lease::class(CLASS.get())) {
            return false;
        }
        let word = word::class();
        if word.is_null() {
            return false;
        }
        let nothing = PyObject_CallFunction(word, c"iO".as_ptr(), 0, Py_None());
        if nothing.is_null() || !GOT_ONCE.set(Py_BuildValue(c"NiO".as_ptr(), nothing, 1, Py_None()))
        {
            return false;
        }
        Py_INCREF(CLASS.get());
        Py_INCREF(TAKEN.get());
        Py_INCREF(GOT_ONCE.get());
        let version = concat!(env!("CARGO_PKG_VERSION"), "\0");
        PyModule_AddStringConstant(module, c"VERSION".as_ptr(), version.as_ptr().cast()) == 0
            && PyModule_AddObject(module, c"Held".as_ptr(), CLASS.get()) == 0
            && PyModule_AddObject(module, c"Taken".as_ptr(), TAKEN.get()) == 0
            && PyModule_AddObject(module, c"Word".as_ptr(), word) == 0
            && PyModule_AddObject(module, c"GOT_ONCE".as_ptr(), GOT_ONCE.get()) == 0
    }
}

/// Makes the module. It is initialised once in a process, because its class and names belong to the process.
#[allow(
    non_snake_case,
    unreachable_pub,
    reason = "CPython finds it by this name"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__fast() -> *mut PyObject {
    if !is_main_interpreter() {
        return refuse(MAIN_ONLY);
    }
    let functions = Box::leak(Box::new([
        PyMethodDef {
            ml_name: c"setup".as_ptr(),
            ml_meth: PyMethodDefPointer { PyCFunction: setup },
            ml_flags: METH_VARARGS,
            ml_doc: c"Finds the functions of the library, which is loaded already.".as_ptr(),
        },
        PyMethodDef {
            ml_name: c"method".as_ptr(),
            ml_meth: PyMethodDefPointer {
                PyCFunction: make_method,
            },
            ml_flags: METH_VARARGS,
            ml_doc: c"Makes a compiled method of a class of the package.".as_ptr(),
        },
        PyMethodDef {
            ml_name: c"names".as_ptr(),
            ml_meth: PyMethodDefPointer { PyCFunction: names },
            ml_flags: METH_VARARGS,
            ml_doc: c"The names of the compiled methods of a class of the package.".as_ptr(),
        },
        PyMethodDef {
            ml_name: c"place".as_ptr(),
            ml_meth: PyMethodDefPointer {
                PyCFunction: value::place,
            },
            ml_flags: METH_VARARGS,
            ml_doc: c"Sets the address of the number of a value.".as_ptr(),
        },
        PyMethodDef::zeroed(),
    ]));
    let definition = Box::leak(Box::new(PyModuleDef {
        m_base: PyModuleDef_HEAD_INIT,
        m_name: c"_fast".as_ptr(),
        m_doc: c"The most frequent calls of the package, compiled.".as_ptr(),
        m_size: -1,
        m_methods: functions.as_mut_ptr(),
        m_slots: null_mut(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    }));
    // SAFETY: CPython calls this with the GIL held; the definitions are never freed.
    unsafe {
        let module = PyModule_Create(definition);
        if !module.is_null() && !fill(module) {
            Py_DECREF(module);
            return null_mut();
        }
        module
    }
}
