//! Where the library copies a message or a value to, before an object is made of it.

use std::ptr::addr_of_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Larger objects are sent in parts, and larger messages copied without the interpreter's lock: by Python.
pub(crate) const LARGE: usize = 64 * 1024;

/// For calls with the interpreter's lock held, with no Python code between the call and the copy.
static mut BRIEF: [u8; LARGE] = [0; LARGE];
/// For a call without the interpreter's lock, by the thread that has `IS_TAKEN`.
static mut LASTING: [u8; LARGE] = [0; LARGE];
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The place for a call of the library with the interpreter's lock held. It is the caller's until Python code
/// runs.
pub(crate) fn brief() -> *mut u8 {
    addr_of_mut!(BRIEF).cast()
}

/// A place of [`LARGE`] bytes that is the caller's until [`give`](Self::give). One of a thread that ends
/// in between is lost: nothing here is ever dropped (see the head of the crate). So is one that another thread
/// has when the process forks, in the child. Without it each call allocates.
#[derive(Clone, Copy)]
pub(crate) struct Room(*mut u8);

impl Room {
    /// None without memory.
    pub(crate) fn take() -> Option<Self> {
        if !IS_TAKEN.swap(true, Ordering::Acquire) {
            return Some(Self(addr_of_mut!(LASTING).cast()));
        }
        // SAFETY: a plain allocation.
        let place = unsafe { libc::malloc(LARGE) }.cast::<u8>();
        (!place.is_null()).then_some(Self(place))
    }

    pub(crate) fn place(self) -> *mut u8 {
        self.0
    }

    pub(crate) fn give(self) {
        if self.0 == addr_of_mut!(LASTING).cast() {
            IS_TAKEN.store(false, Ordering::Release);
        } else {
            // SAFETY: it comes from `malloc`, and is given back once.
            unsafe { libc::free(self.0.cast()) };
        }
    }
}
