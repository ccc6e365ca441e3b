//! `shoal._fast`: the most frequent calls of the Python package, compiled.
//!
//! A compiled method ([`methods`]) handles the common case. For everything else it calls the Python method that
//! it replaces, with the same arguments, so rare cases and errors are written once. A call of the library is
//! made with the interpreter's lock held if it never waits ([`held::This::now`]), and without it if it may wait
//! ([`held::This::released`]): for another process's operation, or for a message, for one slice. Longer waits
//! are left to Python, which runs signal handlers after each slice.
//!
//! The library is the one that ctypes has loaded. It is not linked: a second copy of its code in the process
//! would have its own copy of the state that the library keeps for the process.
//!
//! **Frames.** Before Python 3.14, a daemon thread that asks for the interpreter's lock after the end of the
//! interpreter is ended by `pthread_exit`, which unwinds the stack. Every call of Python code may do that. So
//! every function that runs Python code is `extern "C-unwind"`, and at such a call holds nothing that has to
//! be dropped: references are counted by hand, and leak in that one case. For this reason the crate uses the
//! declarations of CPython alone, and not PyO3's types.

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
