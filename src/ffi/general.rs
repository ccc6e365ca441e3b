//! General
//!
//! Errors, versions, names, and cleaning up after processes.
//!
//! Killed: Every object is as before the call or as after it. A later call removes what `shoal_gc` had not
//! removed yet.

use std::ffi::{CStr, c_char, c_void};

use super::args::{self, Out};
use super::handle::{self, RawKind};
use super::status::{guard, guard_shielded, guard_text, last_error};
use crate::error::{Error, Status};
use crate::segment::{self, Kind};

/// Grows by one with every release that programs compiled against an older header do not work with.
pub const SHOAL_ABI_VERSION: u32 = 0;

/// The kinds of shared objects.
#[allow(dead_code, reason = "only C programs use it")]
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// Any kind.
    Any = 0,
    /// A `shoal_queue`.
    Queue = 1,
    /// A `shoal_map`.
    Map = 2,
    /// A `shoal_list`.
    List = 3,
    /// A `shoal_pipe`.
    Pipe = 4,
    /// A `shoal_array`.
    Array = 5,
    /// A `shoal_lock`.
    Lock = 8,
    /// A `shoal_semaphore`.
    Semaphore = 9,
    /// A `shoal_event`.
    Event = 10,
    /// A `shoal_condition`.
    Condition = 11,
    /// A `shoal_barrier`.
    Barrier = 12,
    /// A `shoal_rwlock`.
    Rwlock = 13,
}

const _: () = {
    assert!(ObjectKind::Queue as u32 == Kind::Queue as u32);
    assert!(ObjectKind::Map as u32 == Kind::Map as u32);
    assert!(ObjectKind::List as u32 == Kind::List as u32);
    assert!(ObjectKind::Pipe as u32 == Kind::Pipe as u32);
    assert!(ObjectKind::Array as u32 == Kind::Array as u32);
    assert!(ObjectKind::Lock as u32 == Kind::Lock as u32);
    assert!(ObjectKind::Semaphore as u32 == Kind::Semaphore as u32);
    assert!(ObjectKind::Event as u32 == Kind::Event as u32);
    assert!(ObjectKind::Condition as u32 == Kind::Condition as u32);
    assert!(ObjectKind::Barrier as u32 == Kind::Barrier as u32);
    assert!(ObjectKind::Rwlock as u32 == Kind::RwLock as u32);
};

/// A sentence about the last call of this thread that failed; "" if none has. A call that succeeds
/// does not change it: ask only after a failure.
///
/// Ownership: a buffer of the calling thread, valid as long as the thread lives. The next call of the
/// thread that fails overwrites it. A sentence has at most 1023 bytes; a longer one is cut off.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_last_error() -> *const c_char {
    last_error()
}

const ALL: [Status; 21] = [
    Status::Ok,
    Status::ErrInvalid,
    Status::ErrNotFound,
    Status::ErrExists,
    Status::ErrPermission,
    Status::ErrNoSpace,
    Status::ErrTooLarge,
    Status::ErrBufferTooSmall,
    Status::ErrTimeout,
    Status::ErrEnd,
    Status::ErrClosed,
    Status::ErrInterrupted,
    Status::ErrWrongKind,
    Status::ErrVersionMismatch,
    Status::ErrCorrupt,
    Status::ErrPoisoned,
    Status::ErrExpired,
    Status::ErrExhausted,
    Status::ErrUnsupported,
    Status::ErrOs,
    Status::ErrInternal,
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
        Status::ErrEnd => c"SHOAL_ERR_END",
        Status::ErrClosed => c"SHOAL_ERR_CLOSED",
        Status::ErrInterrupted => c"SHOAL_ERR_INTERRUPTED",
        Status::ErrWrongKind => c"SHOAL_ERR_WRONG_KIND",
        Status::ErrVersionMismatch => c"SHOAL_ERR_VERSION_MISMATCH",
        Status::ErrCorrupt => c"SHOAL_ERR_CORRUPT",
        Status::ErrPoisoned => c"SHOAL_ERR_POISONED",
        Status::ErrExpired => c"SHOAL_ERR_EXPIRED",
        Status::ErrExhausted => c"SHOAL_ERR_EXHAUSTED",
        Status::ErrUnsupported => c"SHOAL_ERR_UNSUPPORTED",
        Status::ErrOs => c"SHOAL_ERR_OS",
        Status::ErrInternal => c"SHOAL_ERR_INTERNAL",
    }
}

/// The name of a status: 8 gives "SHOAL_ERR_TIMEOUT"; "unknown status" for a number that is none. The
/// string is constant.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_status_name(status: u32) -> *const c_char {
    let known = ALL.into_iter().find(|known| *known as u32 == status);
    known.map_or(c"unknown status", name_of).as_ptr()
}

/// The version of the library at run time, such as "0.1.0"; SHOAL_VERSION is that of the header. The
/// string is constant.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The SHOAL_ABI_VERSION of the library at run time. A program that loads the library itself (dlopen,
/// ctypes) compares it with that of its header.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_abi_version() -> u32 {
    SHOAL_ABI_VERSION
}

/// Removes what killed processes left: objects that are not persistent and that no process has open,
/// and unfinished files. It never touches an object in use, a persistent one or another user's. The
/// library does the same when a process creates its first object, for up to 5 ms, or 50 ms if there is
/// much to remove; and, without such a limit, when it finds no memory.
///
/// `*removed`: how many objects were removed.
///
/// Errors: SHOAL_ERR_UNSUPPORTED (there is no directory for objects); SHOAL_ERR_PERMISSION (it cannot
/// be read).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_gc(removed: *mut usize) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let removed = unsafe { Out::optional("removed", removed) }?;
        removed.set(0);
        removed.set(segment::gc(false)?.len());
        Ok(())
    })
}

/// Leaves all objects of this process at once, as its normal exit does: for a program that is about to end by
/// `_exit`, which runs no exit handlers. Names of objects that no other process has are removed. After that
/// the calling thread may only free handles. Other threads may be in calls: what they hold stays held until
/// the process has ended, and is then treated as that of a dead process.
///
/// It waits for processes that are opening or leaving the same objects, a second at most. A forked child and its
/// parent leave separately.
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
        segment::leave_all();
        Ok(())
    })
}

/// The name of the object behind a handle of any kind, to open it by in another process. NULL if the
/// handle is invalid, or that of a `shoal_process`, `shoal_supervisor`, `shoal_lease` or
/// `shoal_map_iter`, which have no name.
///
/// Ownership: the string is the handle's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_name(handle: *const c_void) -> *const c_char {
    // SAFETY: the caller's contract.
    guard_text(|| unsafe { handle::name(handle) })
}

/// Removes the name of an object. Processes that have the object open go on using it; its name is free
/// for another one.
///
/// `kind`: the kind that it must be of; SHOAL_KIND_ANY for any.
///
/// Errors: SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION; SHOAL_ERR_TIMEOUT if another process
/// has been opening or leaving the object for five seconds, which means that it is stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_unlink(name: *const c_char, kind: RawKind) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let name = unsafe { args::text("name", name) }?;
        if kind == ObjectKind::Any as u32 {
            return segment::unlink(name);
        }
        let kind = Kind::from_code(kind).ok_or_else(|| {
            Error::invalid(
                "kind",
                format!("{kind} is no kind of object; see `shoal_kind`"),
            )
        })?;
        segment::unlink_kind(name, kind)
    })
}

/// Ends the waits through a handle of any kind: threads of this process that wait in a call through it
/// return SHOAL_ERR_CLOSED, and from now on so does each call through it that would have to wait. Calls
/// that need not wait go on working. Other handles on the object, in this process too, are not
/// affected.
///
/// A thread that waits at a barrier breaks it, as on a timeout; one that waits for a condition has the lock
/// again when it returns, unless the waits through the lock were ended. The descriptor of a queue or a pipe
/// becomes readable. A thread that waits for a process, a supervisor or a lease, or for a condition with this
/// lock, returns within a tenth of a second, others at once. Waits in a forked child or in the parent do not
/// end.
///
/// ```c
/// static void *consumer(void *q)
/// {
///     while (shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len) == SHOAL_OK)
///         work_on(buf, len);
///     return NULL;
/// }
/// ...
/// shoal_end_waits(q);
/// pthread_join(thread, NULL);
/// shoal_queue_free(q);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_end_waits(handle: *mut c_void) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { handle::end_waits(handle) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_place_of_its_own() {
        for (code, status) in ALL.into_iter().enumerate() {
            assert_eq!(status as usize, code);
        }
    }
}
