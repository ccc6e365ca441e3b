//! The boundary of the C interface: every call runs in [`guard`], which converts errors and panics to a status.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result, Status};
use crate::sync;
use crate::sys::cancel::Shield;

/// Bytes of a thread's last error as text, with its NUL.
const TEXT: usize = 1024;

thread_local! {
    /// The failure of the calling thread's last call that failed.
    static LAST: RefCell<Last> = const { RefCell::new(Last(None)) };
    /// Whether `SHOWN` is the text of the last failure. The text is made on the first request, since most
    /// failures are timeouts of 0.
    static IS_SHOWN: Cell<bool> = const { Cell::new(true) };
    /// Whether `LAST` is destroyed: then the text is made at once.
    static IS_GONE: Cell<bool> = const { Cell::new(false) };
    /// The text of the last error. It has no destructor, so that it stays valid until the thread has ended.
    static SHOWN: UnsafeCell<[u8; TEXT]> = const { UnsafeCell::new([0; TEXT]) };
}

/// A failure whose text is made at the latest when the thread's variables are destroyed: destructors that run
/// later may ask for it.
struct Last(Option<Failure>);

impl Drop for Last {
    fn drop(&mut self) {
        IS_GONE.set(true);
        if !IS_SHOWN.get() {
            show(self.0.as_ref());
        }
    }
}

/// Why the body of a C function failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Error(#[from] Error),
    /// An iterator has no more elements. In Rust that is no error.
    #[error("the end: there are no more")]
    End,
}

impl Failure {
    fn status(&self) -> Status {
        match self {
            Failure::Error(error) => error.status(),
            Failure::End => Status::ErrEnd,
        }
    }
}

/// Runs the body of a C function. Nothing unwinds out of it.
pub(super) fn guard(call: impl FnOnce() -> Result<()>) -> Status {
    match guarded(call) {
        Ok(()) => Status::Ok,
        Err(status) => status,
    }
}

/// [`guard`] for functions that open and close, or start and end processes: their system calls are
/// cancellation points. Each of the other functions shields its own system calls, since a shield costs as
/// much as the rest of the call.
pub(super) fn guard_shielded(call: impl FnOnce() -> Result<()>) -> Status {
    let _shield = Shield::new();
    guard(call)
}

/// [`guard`] for the step of an iterator.
pub(super) fn guard_step(call: impl FnOnce() -> Result<(), Failure>) -> Status {
    guarded(call).err().unwrap_or(Status::Ok)
}

/// [`guard`] for functions that return a string; NULL is their failure.
pub(super) fn guard_text(call: impl FnOnce() -> Result<*const c_char>) -> *const c_char {
    guarded(call).unwrap_or(std::ptr::null())
}

#[inline]
fn guarded<T, E: Into<Failure>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, Status> {
    // What a panic leaves half-done is repaired by the objects themselves, as after a kill.
    let result = catch_unwind(AssertUnwindSafe(call));
    // SAFETY: the call is over, and `handle::free` waits for the threads that are counted.
    unsafe { sync::left() };
    let failure = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.into(),
        Err(panic) => Failure::Error(Error::Internal {
            what: message_of(&*panic),
        }),
    };
    let status = failure.status();
    keep(failure);
    Err(status)
}

/// Keeps the failure for `last_error`.
#[inline(never)]
fn keep(failure: Failure) {
    if IS_GONE.get() {
        return show(Some(&failure));
    }
    // Does not fail: it is not gone.
    let _ = LAST.try_with(|last| {
        last.borrow_mut().0 = Some(failure);
        IS_SHOWN.set(false);
    });
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// The calling thread's last error as text, "" if there was none.
pub(super) fn last_error() -> *const c_char {
    if !IS_SHOWN.get() {
        // Not destroyed: it would be shown.
        let _ = LAST.try_with(|last| show(last.borrow().0.as_ref()));
    }
    SHOWN.with(UnsafeCell::get).cast()
}

/// Makes the text of a failure, cut if it is too long.
#[cold]
fn show(failure: Option<&Failure>) {
    let text = catch_unwind(AssertUnwindSafe(|| failure.map(ToString::to_string)));
    let text = c_string(text.ok().flatten().unwrap_or_default());
    // The text comes from a `String`, and has no NULs.
    let text = cut(text.to_str().unwrap_or_default(), TEXT - 1);
    // SAFETY: only this thread has a pointer to it, and Rust holds no other reference to it.
    let shown = unsafe { &mut *SHOWN.with(UnsafeCell::get) };
    shown[..text.len()].copy_from_slice(text.as_bytes());
    shown[text.len()] = 0;
    IS_SHOWN.set(true);
}

/// As many whole characters of a text as `room` bytes can have.
pub(super) fn cut(text: &str, room: usize) -> &str {
    let mut len = text.len().min(room);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// The text as a C string. A NUL, which no message of this library has, becomes a space.
pub(super) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|err| {
        let bytes = err.into_vec();
        let bytes = bytes.iter().map(|&b| if b == 0 { b' ' } else { b });
        CString::new(bytes.collect::<Vec<u8>>()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last() -> &'static str {
        // SAFETY: a buffer of this thread that ends with NUL; the tests copy what they compare.
        unsafe { CStr::from_ptr(last_error()) }.to_str().unwrap()
    }

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_message() {
        let status = guard(|| panic!("seven {}", 7));
        assert_eq!(status, Status::ErrInternal);
        assert_eq!(last(), "internal error: seven 7");
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let what = "ä".repeat(TEXT);
        assert_eq!(
            guard(|| Err(Error::Internal { what: what.clone() })),
            Status::ErrInternal
        );
        let text = last();
        assert!(text.len() >= TEXT - 3 && text.len() < TEXT && text.ends_with('ä'));
        let before = last_error();
        let _ = guard(|| Err(Error::Closed));
        assert_eq!((last(), last_error()), ("closed", before));
    }
}
