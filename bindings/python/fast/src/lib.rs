//! `shoal._fast`: the most frequent calls of the Python package, compiled.
//!
//! A compiled method ([`methods`]) handles the common case. For everything else it calls the Python method that
//! it replaces, with the same arguments, so rare cases and errors are written once. A library call that never
//! waits is made with the GIL held ([`held::This::now`]). A call that may wait for another process's operation,
//! or up to one slice for a message, is made without the GIL ([`held::This::released`]). Longer waits are left
//! to Python, which runs signal handlers after each slice.
//!
//! The library is the one that ctypes has loaded. It is not linked: a second copy of its code in the process
//! would have a second copy of the library's process-wide state.
//!
//! **Unwinding.** Before Python 3.14, a daemon thread that requests the GIL after the interpreter has ended is
//! terminated by `pthread_exit`, which unwinds its stack. Any call of Python code may do that. So every function
//! that runs Python code is `extern "C-unwind"`, and holds nothing that has to be dropped during such a call:
//! references are counted by hand, and leak in that one case. For this reason the crate uses only CPython's
//! declarations (`pyo3_ffi`), not PyO3's types.

#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
mod buffer;
mod class;
mod codec;
mod event;
mod held;
mod items;
mod lease;
mod list;
mod lock;
mod map;
mod methods;
mod module;
mod names;
mod native;
mod pipe;
mod python;
mod queue;
mod semaphore;
mod value;
mod waiting;
mod word;
