//! Names, classes and functions of Python that are looked up once.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3_ffi::{PyObject, PyUnicode_InternFromString};

/// A Python object that is looked up once and never released.
pub(crate) struct Constant(AtomicPtr<PyObject>);

impl Constant {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The object. Not null in a method, because no method is made before all of them are set.
    #[inline]
    pub(crate) fn get(&self) -> *mut PyObject {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns false, with an exception, if `object` is null.
    pub(crate) fn set(&self, object: *mut PyObject) -> bool {
        self.0.store(object, Ordering::Relaxed);
        !object.is_null()
    }
}

macro_rules! names {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(crate) static $constant: Constant = Constant::new();)*

        /// Interns the names. Returns false with an exception if that fails.
        pub(crate) fn make_names() -> bool {
            // SAFETY: the GIL is held in all of this module, and the names end with NUL.
            $($constant.set(unsafe { PyUnicode_InternFromString($name.as_ptr()) }) &&)* true
        }
    };
}

names! {
    DUMPS_NAME = c"_dumps";
    SEND_LARGE = c"_send_large";
    SEND_SLOWLY = c"_send_slowly";
    PUT_SLOWLY = c"_put_slowly";
    PUT_REST = c"_put_rest";
    UNPICKLE = c"_unpickle";
    WAYS = c"_ways";
    FROM_DEAD_OWNER = c"_taken_from_dead_owner";
    KEEP = c"_keep";
    KEPT = c"_kept";
    SET_AGAIN = c"_set_again";
    DECODE_VALUE = c"_decode_value";
    APPEND_SLOWLY = c"_append_slowly";
    DECODE = c"_decode";
    LEASE_CLASS = c"_lease_class";
    LEASE_SLOWLY = c"_lease_slowly";
    RAISE_FOR = c"_raise_for";
    PYTHON_GET = c"_python_get";
    PYTHON_GET_BYTES = c"_python_get_bytes";
    BLOCK = c"block";
    BUF = c"buf";
    COPY = c"copy";
    DATA = c"data";
    DEFAULT = c"default";
    DELTA = c"delta";
    INDEX = c"index";
    ITEMS = c"items";
    KEY = c"key";
    MAXLENGTH = c"maxlength";
    MAX_ITEMS = c"max_items";
    OBJ = c"obj";
    OBJS = c"objs";
    TIMEOUT_NAME = c"timeout";
    VALUE = c"value";
    VISIBLE = c"visible";
    PYTHON_VALUE = c"_python_value";
}

/// The class `Held`.
pub(crate) static CLASS: Constant = Constant::new();
/// The class `Taken`.
pub(crate) static TAKEN: Constant = Constant::new();
/// `pickle.loads`.
pub(crate) static LOADS: Constant = Constant::new();
/// `pickle.HIGHEST_PROTOCOL`.
pub(crate) static PROTOCOL: Constant = Constant::new();
/// The entry in a map's cache for a key that was read once (`_cache.py`).
pub(crate) static GOT_ONCE: Constant = Constant::new();
