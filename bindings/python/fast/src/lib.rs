//! `shoal._fast`: the calls of the Python package that have to be fast, compiled.
//!
//! A compiled method ([`methods`]) does the common case, and for all the rest calls the method of the Python
//! class that it stands for, with the same arguments: so what is rare, and each error, is written once. A call
//! of the library is made with the interpreter's lock held if it never waits ([`held::This::now`]), and without
//! it if it may wait ([`held::This::released`]): for another process's operation, or for a message, for
//! one slice. Longer waits are Python's, which looks at its signals after each slice.
//!
//! The library is the one that ctypes has loaded. It is not linked: two copies of its code in a process
//! would have two copies of what it knows about the process.
//!
//! **Frames.** Before Python 3.14 a daemon thread that wants the interpreter's lock back, once the
//! interpreter ends, is ended by `pthread_exit`, which unwinds the stack. Any call of Python code may
//! be such a place. So every function that runs Python code is `extern "C-unwind"`, and has nothing then
//! that would have to be dropped: references are counted by hand, and lost in that one case. That
//! is why this is written with the declarations of CPython alone, and not with PyO3's types.

#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
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
mod room;
mod semaphore;
mod value;
mod waiting;
mod word;
