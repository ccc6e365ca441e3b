//! Memory into which the library copies a message or a value before an object is made from it.

use std::ptr::addr_of_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// Objects of this size or more are sent by Python, in parts. Larger messages are received by Python, which copies
/// them without the GIL.
pub(crate) const LARGE: usize = 64 * 1024;

/// For calls with the GIL held, with no Python code between the call and the copy.
static mut WITH_GIL: [u8; LARGE] = [0; LARGE];
/// For a call without the GIL, by the thread that has set `IS_TAKEN`.
static mut WITHOUT_GIL: [u8; LARGE] = [0; LARGE];
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The memory for a library call with the GIL held. It belongs to the caller until Python code runs.
pub(crate) fn with_gil() -> *mut u8 {
    addr_of_mut!(WITH_GIL).cast()
}

/// Memory of [`LARGE`] bytes that belongs to the caller until [`give`](Self::give). It leaks if the thread ends
/// before that, because nothing is dropped (see the head of the crate), and in a forked child if another thread
/// of the parent had it. If `WITHOUT_GIL` leaks, each later call allocates.
#[derive(Clone, Copy)]
pub(crate) struct Buffer(*mut u8);

impl Buffer {
    /// None if memory is exhausted.
    pub(crate) fn take() -> Option<Self> {
        if !IS_TAKEN.swap(true, Ordering::Acquire) {
            return Some(Self(addr_of_mut!(WITHOUT_GIL).cast()));
        }
        // SAFETY: a plain allocation.
        let place = unsafe { libc::malloc(LARGE) }.cast::<u8>();
        (!place.is_null()).then_some(Self(place))
    }

    pub(crate) fn place(self) -> *mut u8 {
        self.0
    }

    pub(crate) fn give(self) {
        if self.0 == addr_of_mut!(WITHOUT_GIL).cast() {
            IS_TAKEN.store(false, Ordering::Release);
        } else {
            // SAFETY: it comes from `malloc`, and is freed once.
            unsafe { libc::free(self.0.cast()) };
        }
    }
}
