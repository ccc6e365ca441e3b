//! The boundary: every call runs in [`guard`], which turns errors and panics into a status.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::error::{Error, Result, Status};
use crate::sync;
use crate::sys::cancel::Shield;
use crate::sys::exit::exit_at_once;

/// Grows by one with every release whose header older programs do not work with.
pub const SHOAL_ABI_VERSION: u32 = 0;

/// A timeout that never passes.
pub const SHOAL_FOREVER: i64 = -1;

/// A timeout that does not wait.
pub const SHOAL_NOWAIT: i64 = 0;

/// What the calling thread's last failing call had to say.
struct Last {
    error: Option<Error>,
    /// `error` as text, made when it is first asked for: most failures are `Empty`.
    text: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { error: None, text: None }) };
}

/// Runs the body of a C function. Nothing unwinds out of it.
pub(super) fn guard(call: impl FnOnce() -> Result<()>) -> Status {
    match guarded(call) {
        Ok(()) => Status::Ok,
        Err(status) => status,
    }
}

/// [`guard`] for functions that open and close, or start and end processes: their system calls are
/// cancellation points. Those of the other functions are shielded where they are made, since this
/// costs as much as a whole call of theirs.
pub(super) fn guard_shielded(call: impl FnOnce() -> Result<()>) -> Status {
    let _shield = Shield::new();
    guard(call)
}

/// [`guard`] for functions that return something else; `None` is their failure.
pub(super) fn guard_some<T>(call: impl FnOnce() -> Result<T>) -> Option<T> {
    guarded(call).ok()
}

#[inline]
fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T, Status> {
    // What a panic leaves half-done is guarded by the objects themselves, as after a kill.
    let error = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => Error::Internal {
            what: message_of(&*panic),
        },
    };
    if matches!(error, Error::Detached) {
        // SAFETY: the call is over, and `handle::free` waits for the threads that are counted.
        unsafe { sync::left() };
    }
    let status = error.status();
    // Fails only while the thread is being torn down; the status still tells.
    let _ = LAST.try_with(|last| {
        let text = None;
        *last.borrow_mut() = Last {
            error: Some(error),
            text,
        };
    });
    Err(status)
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// A sentence about the calling thread's last call that failed; "" if none has.
///
/// Calls that succeed leave it alone, so ask only after a failure.
/// Blocking, threads, fork: never blocks; each thread has its own, and a forked child starts
/// with that of the thread that forked.
/// Ownership: the string is the library's. It stays valid until the calling thread's next
/// failing call, or its end.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_last_error() -> *const c_char {
    let text = catch_unwind(|| {
        LAST.try_with(|last| {
            let mut last = last.borrow_mut();
            let Last { error, text } = &mut *last;
            let error = error.as_ref()?;
            Some(
                text.get_or_insert_with(|| c_string(error.to_string()))
                    .as_ptr(),
            )
        })
    });
    match text {
        Ok(Ok(Some(text))) => text,
        _ => c"".as_ptr(),
    }
}

/// The text as C takes it. NULs, which no message of ours has, become spaces.
pub(super) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|err| {
        let bytes = err.into_vec();
        let bytes = bytes.iter().map(|&b| if b == 0 { b' ' } else { b });
        CString::new(bytes.collect::<Vec<u8>>()).unwrap_or_default()
    })
}

const ALL: [Status; 23] = [
    Status::Ok,
    Status::ErrInvalid,
    Status::ErrNotFound,
    Status::ErrExists,
    Status::ErrPermission,
    Status::ErrNoSpace,
    Status::ErrTooLarge,
    Status::ErrBufferTooSmall,
    Status::ErrTimeout,
    Status::ErrFull,
    Status::ErrEmpty,
    Status::ErrClosed,
    Status::ErrInterrupted,
    Status::ErrWrongKind,
    Status::ErrVersionMismatch,
    Status::ErrCorrupt,
    Status::ErrPoisoned,
    Status::ErrOwnerDied,
    Status::ErrExhausted,
    Status::ErrUnsupported,
    Status::ErrOs,
    Status::ErrInternal,
    Status::ErrExpired,
];

fn name_of(status: Status) -> &'static CStr {
    match status {
        Status::Ok => c"SHOAL_OK",
        Status::ErrInvalid => c"SHOAL_ERR_INVALID",
        Status::ErrNotFound => c"SHOAL_ERR_NOT_FOUND",
        Status::ErrExists => c"SHOAL_ERR_EXISTS",
        Status::ErrPermission => c"SHOAL_ERR_PERMISSION",
        Status::ErrNoSpace => c"SHOAL_ERR_NO_SPACE",
        Status::ErrTooLarge => c"SHOAL_ERR_TOO_LARGE",
        Status::ErrBufferTooSmall => c"SHOAL_ERR_BUFFER_TOO_SMALL",
        Status::ErrTimeout => c"SHOAL_ERR_TIMEOUT",
        Status::ErrFull => c"SHOAL_ERR_FULL",
        Status::ErrEmpty => c"SHOAL_ERR_EMPTY",
        Status::ErrClosed => c"SHOAL_ERR_CLOSED",
        Status::ErrInterrupted => c"SHOAL_ERR_INTERRUPTED",
        Status::ErrWrongKind => c"SHOAL_ERR_WRONG_KIND",
        Status::ErrVersionMismatch => c"SHOAL_ERR_VERSION_MISMATCH",
        Status::ErrCorrupt => c"SHOAL_ERR_CORRUPT",
        Status::ErrPoisoned => c"SHOAL_ERR_POISONED",
        Status::ErrOwnerDied => c"SHOAL_ERR_OWNER_DIED",
        Status::ErrExhausted => c"SHOAL_ERR_EXHAUSTED",
        Status::ErrUnsupported => c"SHOAL_ERR_UNSUPPORTED",
        Status::ErrOs => c"SHOAL_ERR_OS",
        Status::ErrInternal => c"SHOAL_ERR_INTERNAL",
        Status::ErrExpired => c"SHOAL_ERR_EXPIRED",
    }
}

/// The name of a status: 8 gives "SHOAL_ERR_TIMEOUT". "unknown status" for any other number.
///
/// Blocking, threads, fork: never blocks, safe everywhere.
/// Ownership: the string is constant.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_status_name(status: u32) -> *const c_char {
    let known = ALL.into_iter().find(|known| *known as u32 == status);
    known.map_or(c"unknown status", name_of).as_ptr()
}

/// The version of the library at run time, as in "0.1.0".
///
/// Blocking, threads, fork: never blocks, safe everywhere.
/// Ownership: the string is constant.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The SHOAL_ABI_VERSION of the library at run time. A program that loads the library by
/// itself (dlopen, ctypes) compares it with that of the header it was written for.
///
/// Blocking, threads, fork: never blocks, safe everywhere.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_abi_version() -> u32 {
    SHOAL_ABI_VERSION
}

/// Removes what killed processes left: objects that are not persistent and that nobody has
/// open, and unfinished files.
///
/// Never touches an object in use, a persistent one, or another user's. The first creation of an
/// object in a process does the same for up to 5 ms, or 50 ms if there is much to remove, and so
/// does what finds no memory.
///
/// `removed`: how many were removed; NULL if you do not care.
/// Blocking, threads, fork: does not wait; safe to call from several processes at once.
///
/// Errors: SHOAL_ERR_INVALID (misaligned `removed`); SHOAL_ERR_UNSUPPORTED (there is no `/dev/shm`, or
/// what SHOAL_DIR names); SHOAL_ERR_PERMISSION (it cannot be read).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_gc(removed: *mut usize) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let removed = unsafe { super::args::Out::optional("removed", removed) }?;
        let names = crate::gc(false)?;
        removed.set(names.len());
        Ok(())
    })
}

/// Gives up all objects of this process at once, as its normal exit does: for a program that is
/// about to end by `_exit`, which runs no exit handlers. Objects that are not persistent and that
/// nobody else has are removed, as with their last handle; without this they stay until they are
/// collected, see `shoal_gc`.
///
/// What this process holds is treated as a dead process's from then on. So nothing may be called
/// through its handles any more, but for freeing them; threads that sleep in a call go on sleeping,
/// until the process ends.
///
/// Blocking, threads, fork: waits for other processes that are opening or leaving the same objects
/// at the moment. The parent of a forked child, and the child of a parent, keep theirs.
///
/// Errors: none but SHOAL_ERR_INTERNAL.
///
/// ```c
/// if (fork() == 0) {
///     int code = work();
///     shoal_leave();
///     _exit(code);
/// }
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn shoal_leave() -> Status {
    guard_shielded(|| {
        crate::segment::leave_all();
        Ok(())
    })
}

/// `shoal_leave` and `_exit(code)` in one, for a process with threads that may be in a call: from
/// one to the other there is no time for them to go on with what they no longer have. It waits a
/// millisecond first, so that calls that need not sleep are over. It does not return.
///
/// Blocking, threads, fork: as `shoal_leave`.
///
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_leave_and_exit(code: c_int) {
    std::thread::sleep(Duration::from_millis(1));
    let _ = shoal_leave();
    exit_at_once(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_message() {
        let status = guard(|| panic!("seven {}", 7));
        assert_eq!(status, Status::ErrInternal);
        // SAFETY: a string of the library, valid until the next failing call.
        let text = unsafe { CStr::from_ptr(shoal_last_error()) };
        assert_eq!(text.to_str(), Ok("internal error: seven 7"));
    }

    #[test]
    fn every_code_has_a_place_of_its_own() {
        for (code, status) in ALL.into_iter().enumerate() {
            assert_eq!(status as usize, code);
        }
    }
}
