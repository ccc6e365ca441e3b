//! Memory to which the library copies a message or a value, before an object is made of it.

use std::ptr::addr_of_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Python sends larger objects in parts, and copies larger messages without the interpreter's lock.
pub(crate) const LARGE: usize = 64 * 1024;

/// For calls with the interpreter's lock held, with no Python code between the call and the copy.
static mut BRIEF: [u8; LARGE] = [0; LARGE];
/// For a call without the interpreter's lock, by the thread that has set `IS_TAKEN`.
static mut LASTING: [u8; LARGE] = [0; LARGE];
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The memory for a call of the library with the interpreter's lock held. It belongs to the caller until Python
/// code runs.
pub(crate) fn brief() -> *mut u8 {
    addr_of_mut!(BRIEF).cast()
}

/// Memory of [`LARGE`] bytes that belongs to the caller until [`give`](Self::give). If the thread ends before
/// that, it leaks, because nothing is ever dropped here (see the head of the crate). In a forked child it leaks
/// if another thread had it. Then each call allocates.
#[derive(Clone, Copy)]
pub(crate) struct Buffer(*mut u8);

impl Buffer {
    /// None if memory is exhausted.
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
            // SAFETY: it comes from `malloc`, and is freed once.
            unsafe { libc::free(self.0.cast()) };
        }
    }
}
