//! The module: its class, and how the methods get to the classes of the package.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{addr_of_mut, null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3_ffi::{
    METH_VARARGS, Py_DECREF, Py_INCREF, PyArg_ParseTuple, PyDescr_NewMethod, PyErr_SetString,
    PyExc_ImportError, PyImport_ImportModule, PyInterpreterState_Get, PyInterpreterState_GetID,
    PyMethodDef, PyMethodDefPointer, PyModule_AddObject, PyModule_AddStringConstant,
    PyModule_Create, PyModuleDef, PyModuleDef_HEAD_INIT, PyObject, PyObject_GetAttrString,
    PyUnicode_InternFromString,
};

use crate::held;
use crate::native;
use crate::python::{Method, method, none};
use crate::{event, items, lock, map, queue, semaphore};

/// A name, a class or a function of Python's that is looked up once, and stays.
pub(crate) struct Constant(AtomicPtr<PyObject>);

impl Constant {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The object. Not null, in a method: `setup` has set all of them, or there are no methods.
    #[inline]
    pub(crate) fn get(&self) -> *mut PyObject {
        self.0.load(Ordering::Relaxed)
    }

    /// False, with an exception, if `object` is null.
    fn set(&self, object: *mut PyObject) -> bool {
        self.0.store(object, Ordering::Relaxed);
        !object.is_null()
    }
}

macro_rules! names {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(crate) static $constant: Constant = Constant::new();)*

        fn make_names() -> bool {
            // SAFETY: the interpreter's lock is held in all of this module, and the names end with NUL.
            $($constant.set(unsafe { PyUnicode_InternFromString($name.as_ptr()) }) &&)* true
        }
    };
}

names! {
    DUMPS_NAME = c"_dumps";
    SEND_LARGE = c"_send_large";
    PUT_PICKLED = c"_put_slowly";
    UNPICKLE = c"_unpickle";
    FROM_THE_DEAD = c"_taken_from_the_dead";
    PUT = c"_python_put";
    GET = c"_python_get";
    PUT_BYTES = c"_python_put_bytes";
    GET_BYTES = c"_python_get_bytes";
    ACQUIRE = c"_python_acquire";
    RELEASE = c"_python_release";
    ENTER = c"_python___enter__";
    EXIT = c"_python___exit__";
    IS_SET = c"_python_is_set";
    SET = c"_python_set";
    CLEAR = c"_python_clear";
    SET_ITEM = c"_python___setitem__";
}

/// The class `Held`.
static CLASS: Constant = Constant::new();
/// `pickle.loads`.
pub(crate) static LOADS: Constant = Constant::new();
/// `pickle.dumps`.
pub(crate) static DUMPS: Constant = Constant::new();
/// `pickle.HIGHEST_PROTOCOL`.
pub(crate) static PROTOCOL: Constant = Constant::new();

/// The methods of each class of the package.
const METHODS: &[(&CStr, &[(&CStr, Method)])] = &[
    (
        c"Queue",
        &[
            (c"put", queue::put),
            (c"get", queue::get),
            (c"put_bytes", queue::put_bytes),
            (c"get_bytes", queue::get_bytes),
        ],
    ),
    (
        c"Lock",
        &[
            (c"acquire", lock::acquire),
            (c"release", lock::release),
            (c"__enter__", lock::enter),
            (c"__exit__", lock::exit),
        ],
    ),
    (
        c"Event",
        &[
            (c"is_set", event::is_set),
            (c"set", event::set),
            (c"clear", event::clear),
        ],
    ),
    (
        c"Semaphore",
        &[
            (c"acquire", semaphore::acquire),
            (c"release", semaphore::release),
        ],
    ),
    (
        c"ItemsLock",
        &[(c"__enter__", items::enter), (c"__exit__", items::exit)],
    ),
    (c"Map", &[(c"__setitem__", map::set_item)]),
];

/// `setup(path, handle)`: finds the functions of the library at `path`, which is loaded already, and learns
/// what class handles have.
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
    // SAFETY: the interpreter's lock is held.
    if unsafe { PyInterpreterState_GetID(PyInterpreterState_Get()) } != 0 {
        return refuse("shoal._fast works in the main interpreter only");
    }
    let known = held::HANDLE.load(Ordering::Relaxed);
    if !known.is_null() && known != handle {
        return refuse("shoal._fast is in use by another copy of the package");
    }
    // SAFETY: the text is there for as long as the arguments are.
    if let Err(why) = native::load(unsafe { CStr::from_ptr(path) }) {
        return refuse(&why);
    }
    if known.is_null() {
        // SAFETY: a class, which is kept for good.
        unsafe { Py_INCREF(handle) };
        held::HANDLE.store(handle, Ordering::Relaxed);
    }
    none()
}

fn refuse(why: &str) -> *mut PyObject {
    let why = CString::new(why).unwrap_or_default();
    // SAFETY: the interpreter's lock is held; the text ends with NUL.
    unsafe { PyErr_SetString(PyExc_ImportError, why.as_ptr()) };
    null_mut()
}

/// `method(class, name, doc)`: a new compiled method for a class of the package, by its name; `None` if there
/// is none.
unsafe extern "C" fn make_method(_: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    let [mut class, mut name, mut doc] = [null::<c_char>(); 3];
    // SAFETY: as the format says, these are places for texts.
    let parsed = unsafe {
        PyArg_ParseTuple(
            args,
            c"sss:method".as_ptr(),
            &mut class,
            &mut name,
            &mut doc,
        )
    };
    if parsed == 0 {
        return null_mut();
    }
    // SAFETY: texts that are there for as long as the arguments are.
    let [class, name, doc] = [class, name, doc].map(|text| unsafe { CStr::from_ptr(text) });
    let methods = METHODS.iter().find(|(known, _)| *known == class);
    let found = methods.and_then(|(_, them)| them.iter().find(|(known, _)| *known == name));
    let Some(&(name, call)) = found else {
        return none();
    };
    // Descriptors refer to their definition for good.
    let definition = Box::leak(Box::new(method(name, doc.to_owned(), call)));
    // SAFETY: the module has been made, with its class.
    unsafe { PyDescr_NewMethod(CLASS.get().cast(), definition) }
}

/// Makes the class, and looks up the names.
///
/// # Safety
/// `module` is a module, and the interpreter's lock is held.
unsafe fn fill(module: *mut PyObject) -> bool {
    // SAFETY: the caller's contract. What is added to the module is the module's.
    unsafe {
        let pickle = PyImport_ImportModule(c"pickle".as_ptr());
        if pickle.is_null()
            || !LOADS.set(PyObject_GetAttrString(pickle, c"loads".as_ptr()))
            || !DUMPS.set(PyObject_GetAttrString(pickle, c"dumps".as_ptr()))
            || !PROTOCOL.set(PyObject_GetAttrString(pickle, c"HIGHEST_PROTOCOL".as_ptr()))
            || !make_names()
        {
            return false;
        }
        Py_DECREF(pickle);
        if !CLASS.set(held::class()) {
            return false;
        }
        Py_INCREF(CLASS.get());
        let version = concat!(env!("CARGO_PKG_VERSION"), "\0");
        PyModule_AddStringConstant(module, c"VERSION".as_ptr(), version.as_ptr().cast()) == 0
            && PyModule_AddObject(module, c"Held".as_ptr(), CLASS.get()) == 0
    }
}

/// Makes the module. It is initialised once in a process: its class and names are the process's.
#[allow(
    non_snake_case,
    unreachable_pub,
    reason = "CPython finds it by this name"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__fast() -> *mut PyObject {
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
    // SAFETY: CPython calls this with the interpreter's lock held; the definitions are there for good.
    unsafe {
        let module = PyModule_Create(definition);
        if !module.is_null() && !fill(module) {
            Py_DECREF(module);
            return null_mut();
        }
        module
    }
}
