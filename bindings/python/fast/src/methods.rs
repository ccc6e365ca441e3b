//! The compiled methods of the classes of the package, and how they fall back to Python.

use std::ffi::CStr;

use crate::names::Constant;
use crate::python::Method;

/// A compiled method of a class.
pub(crate) struct Entry {
    pub(crate) name: &'static [u8],
    pub(crate) call: Method,
    /// The name of the Python method that it replaces.
    pub(crate) python_name: &'static [u8],
    /// That name as an object, once the method is made.
    pub(crate) python: &'static Constant,
}

/// The compiled methods of a class of the package.
pub(crate) struct Methods {
    pub(crate) class: &'static CStr,
    /// The class that `class` must be derived from.
    pub(crate) base: &'static Constant,
    pub(crate) entries: &'static [Entry],
}

/// `methods!(c"Class": a, b)`: the compiled methods of a class that is derived from `Held`, by functions of
/// these names; `methods!(c"Class" of BASE: a, b)` of one that is derived from another class.
///
/// Such a function takes the object and the arguments, and returns a new reference, or null with an exception.
/// `None` means that this is not the common case: then nothing was done, no exception is set, and the Python
/// method is called with the same arguments.
macro_rules! methods {
    ($class:literal: $($name:ident),* $(,)?) => {
        $crate::methods::methods!($class of CLASS: $($name),*)
    };
    ($class:literal of $base:ident: $($name:ident),* $(,)?) => {
        $crate::methods::Methods {
            class: $class,
            base: &$crate::names::$base,
            entries: &[$({
                static PYTHON: $crate::names::Constant = $crate::names::Constant::new();

                unsafe extern "C-unwind" fn call(
                    object: *mut pyo3_ffi::PyObject,
                    items: *const *mut pyo3_ffi::PyObject,
                    count: pyo3_ffi::Py_ssize_t,
                    names: *mut pyo3_ffi::PyObject,
                ) -> *mut pyo3_ffi::PyObject {
                    // SAFETY: CPython calls this for a `Held`, with the GIL held. The object and the
                    // arguments live during the call. The name is an object, because no method is made
                    // without it.
                    unsafe {
                        let this = $crate::held::This::new(object);
                        match $name(this, $crate::python::Args::new(items, count, names)) {
                            Some(result) => result,
                            None => {
                                $crate::python::call_slow(object, PYTHON.get(), items, count, names)
                            }
                        }
                    }
                }

                $crate::methods::Entry {
                    name: concat!(stringify!($name), "\0").as_bytes(),
                    call,
                    python_name: concat!("_python_", stringify!($name), "\0").as_bytes(),
                    python: &PYTHON,
                }
            }),*],
        }
    };
}

pub(crate) use methods;
