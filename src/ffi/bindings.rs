//! Shoal for language bindings: functions that a program in C does not need. Everything that `shoal.h` says
//! of its functions applies here, too.
//!
//! A binding whose language runs signal handlers between calls waits in pieces: the parts of
//! `shoal_condition_wait` and `shoal_barrier_wait` are functions of their own.
//!
//! Killed: As after the function of `shoal.h` that the comment names. A process that has arrived at a
//! barrier breaks it; one that has a place at a condition gives it up.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use super::args::{self, Out, Slice};
use super::barrier::BarrierHandle;
use super::condition::ConditionHandle;
use super::general::shoal_leave;
use super::handle::{self, object};
use super::lease::LeaseHandle;
use super::list::{ListHandle, bound};
use super::lock::{LockHandle, acquired};
use super::map::{MapHandle, at, no_such};
use super::pipe::PipeHandle;
use super::queue::QueueHandle;
use super::semaphore::SemaphoreHandle;
use super::status::{guard, guard_shielded};
use crate::copy::fill;
use crate::error::{Error, Status};
use crate::pipe::Pipe;
use crate::primitives::{Barrier, Condition, Lock, Semaphore};
use crate::sys::exit::exit_at_once;

/// `shoal_leave` and `_exit(code)` in one. It does not return.
#[unsafe(no_mangle)]
pub extern "C" fn shoal_leave_and_exit(code: c_int) {
    let _ = shoal_leave();
    exit_at_once(code)
}

/// From now on a child that this thread forks has the lease too, or, with false, it has not. Without this a
/// forked child closes its copy of the descriptor.
///
/// Errors: SHOAL_ERR_INVALID (the request still waits).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lease_pass_to_forks(lease: *mut LeaseHandle, on: bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        unsafe { handle::get(lease) }?
            .lease()?
            .set_passed_to_forks(on);
        Ok(())
    })
}

/// A descriptor that holds this end of a pipe until it and all its copies are closed, in any process:
/// for passing an end to a process that has not opened it yet. It has no other use.
///
/// Closed on exec, unless you change that; in a forked child it holds the end as well.
/// Ownership: `*fd` is yours until `shoal_pipe_drop_hold`. If the last copy is closed otherwise, the pipe's
/// file may stay until `shoal_gc`.
///
/// Errors: SHOAL_ERR_EXHAUSTED (512 handles hold this end); SHOAL_ERR_OS.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_hold(p: *mut PipeHandle, fd: *mut c_int) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let (fd, pipe) = unsafe { (Out::new("fd", fd)?, object(p)?) };
        fd.set(pipe.hold()?.into_raw_fd());
        Ok(())
    })
}

/// Closes a descriptor of `shoal_pipe_hold`, or a copy of it, and removes the pipe if no process holds either
/// end any more.
///
/// `name`: the pipe's.
/// Ownership: `fd` is closed, whatever is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_pipe_drop_hold(name: *const c_char, fd: c_int) -> Status {
    guard_shielded(|| {
        if fd < 0 {
            return Err(Error::invalid("fd", format!("{fd} is no descriptor")));
        }
        // SAFETY: the caller's descriptor, which is given up.
        let held = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the caller's contract.
        Pipe::release(unsafe { args::text("name", name) }?, held)
    })
}

/// How to find out, without a call, whether the value of a key may have changed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Watched {
    /// A number in shared memory; NULL if the value must not be kept. As long as it is `seen` (an atomic
    /// load, or a plain one of 8 bytes on x86-64 and 64-bit Arm), the value is the same.
    word: *const u64,
    /// What the number was before the value was read.
    seen: u64,
}

impl Watched {
    const NONE: Self = Self {
        word: std::ptr::null(),
        seen: 0,
    };
}

/// Copies the value of a key as `shoal_map_get` does, and says how to find out whether the copy is still
/// valid: for keys that are read much more often than keys in the same part of the map change.
///
/// `*watched`: its word changes with every change of the key, and of other keys in the same part of
/// the map. NULL if a key there expires. The word is the map's, and may be read by any thread, and by a
/// forked child, until the handle is freed.
///
/// Errors: as `shoal_map_get`.
///
/// ```c
/// static shoal_watched watched;
/// static int64_t limit;
/// if (watched.word == NULL || *(volatile const uint64_t *)watched.word != watched.seen)
///     if (shoal_map_get_watched(m, "limit", 5, &limit, sizeof limit, &len, &watched) != SHOAL_OK)
///         limit = 0;
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get_watched(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    watched: *mut Watched,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, watched) = unsafe {
            (
                Out::preset("len", len, 0)?,
                Out::preset("watched", watched, Watched::NONE)?,
            )
        };
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        let found = map.get_watched_into(key, unsafe { args::buffer("buf", buf, capacity) }?);
        let found = found.and_then(|found| found.ok_or_else(|| no_such(key)));
        if let Ok((_, Some(it))) = &found {
            let (word, seen) = (it.word.as_ptr().cast_const(), it.seen);
            watched.set(Watched { word, seen });
        }
        len.set_len(found.map(|(len, _)| len))
    })
}

/// Copies the key that was inserted last into a SHOAL_ORDERED map.
///
/// Errors: SHOAL_ERR_NOT_FOUND (the map has no key); SHOAL_ERR_INVALID (it is not ordered);
/// SHOAL_ERR_BUFFER_TOO_SMALL.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_last_key(
    m: *mut MapHandle,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, map) = unsafe { (Out::preset("len", len, 0)?, object(m)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let key = map.last_key()?.ok_or_else(|| no_such(b""))?;
        let needed = key.len();
        if needed > capacity {
            return len.set_len(Err(Error::BufferTooSmall { needed, capacity }));
        }
        fill(buf, &key);
        len.set_len(Ok(needed))
    })
}

/// Replaces elements as `shoal_list_splice` does, if the list has not changed since `shoal_list_get_many`
/// returned its version.
///
/// `*done`: whether the elements were replaced.
///
/// Errors: as `shoal_list_append`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_splice_if(
    l: *mut ListHandle,
    version: u64,
    start: i64,
    stop: i64,
    items: *const Slice,
    n: usize,
    done: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::optional("done", done) }?;
        // SAFETY: the caller's contract.
        let (list, items) = unsafe { (object(l)?, args::items("items", items, n)?) };
        done.set(list.with(|locked| {
            let same = locked.version() == version;
            if same {
                let range = bound(start, locked)?..bound(stop, locked)?;
                locked.splice(range, items)?;
            }
            Ok(same)
        })?);
        Ok(())
    })
}

/// Brings the elements into another order and removes those that the order omits, all at once, if the
/// list has not changed since `shoal_list_get_many` returned its version. No element is copied.
///
/// `order`, `n`: indices, none of them twice and none below 0. `*done`: whether it was done.
///
/// Errors: SHOAL_ERR_INVALID (`order` names an element twice, or one that is not there); SHOAL_ERR_NO_SPACE
/// (the list is as it was).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_rearrange_if(
    l: *mut ListHandle,
    version: u64,
    order: *const u64,
    n: usize,
    done: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::optional("done", done) }?;
        // SAFETY: the caller's contract.
        let (list, order) = unsafe { (object(l)?, args::array("order", order, n)?) };
        done.set(list.with(|locked| {
            let same = locked.version() == version;
            if same {
                locked.rearrange(order)?;
            }
            Ok(same)
        })?);
        Ok(())
    })
}

/// Does the same to the first `n` elements, if they still are `items`: so it does not fail because of what was
/// added behind them, which stays behind them.
///
/// `order`, `count`: indices below `n`, none of them twice. `*done`: whether it was done.
///
/// Errors: as `shoal_list_rearrange_if`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_list_rearrange_same(
    l: *mut ListHandle,
    items: *const Slice,
    n: usize,
    order: *const u64,
    count: usize,
    done: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let done = unsafe { Out::optional("done", done) }?;
        // SAFETY: the caller's contract.
        let (list, order) = unsafe { (object(l)?, args::array("order", order, count)?) };
        // SAFETY: the caller's contract.
        let items = unsafe { args::items("items", items, n) }?;
        done.set(list.with(|locked| {
            let same = locked.starts_with(items)?;
            if same {
                let behind = n as u64..locked.len()? as u64;
                let order: Vec<u64> = order.iter().copied().chain(behind).collect();
                locked.rearrange(&order)?;
            }
            Ok(same)
        })?);
        Ok(())
    })
}

/// Takes a lock if it is free within a microsecond, or recursive and the calling thread's, without a system
/// call. The lock of a dead owner counts as taken: `shoal_lock_lock` detects that, with SHOAL_NOWAIT too.
///
/// `*owner_died`: see "Locks".
///
/// Errors: SHOAL_ERR_TIMEOUT (it is taken); SHOAL_ERR_TOO_LARGE.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_try(l: *mut LockHandle, owner_died: *mut bool) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (owner_died, lock) = unsafe { (Out::optional("owner_died", owner_died)?, object(l)?) };
        acquired(lock.spin_acquire()?.ok_or(Error::Timeout)?, &owner_died)
    })
}

/// Unlocks it as `shoal_lock_unlock` does, but also a plain lock that another handle or process took: for
/// languages whose locks any process may release.
///
/// Errors: SHOAL_ERR_INVALID (it is not taken; it is recursive and not the calling thread's).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_unlock_any(l: *mut LockHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(l, Lock::release_any) }
}

/// How many levels of the lock the calling thread has, as in `shoal_lock_stats`. Never waits.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_lock_depth(l: *mut LockHandle, out: *mut u32) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, lock) = unsafe { (Out::preset("out", out, 0)?, object(l)?) };
        out.set(lock.depth()?);
        Ok(())
    })
}

/// Acquires a permit if there is one and no other process works on the semaphore: it neither waits nor sleeps,
/// and so may be called with a lock of the language held. Permits of dead processes count as held:
/// `shoal_semaphore_acquire` detects them, with SHOAL_NOWAIT too.
///
/// Errors: SHOAL_ERR_TIMEOUT (acquire it by `shoal_semaphore_acquire`).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_try_acquire(s: *mut SemaphoreHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe {
        handle::with(s, |semaphore: &Semaphore| {
            semaphore.try_acquire()?.then_some(()).ok_or(Error::Timeout)
        })
    }
}

/// Releases permits as `shoal_semaphore_release` does, unless another process works on the semaphore: it neither
/// waits nor sleeps, and so may be called with a lock of the language held.
///
/// Errors: SHOAL_ERR_TIMEOUT (none was released; release them by `shoal_semaphore_release`); as
/// `shoal_semaphore_release`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_try_release(
    s: *mut SemaphoreHandle,
    count: u32,
) -> Status {
    // SAFETY: the caller's contract.
    unsafe {
        handle::with(s, |semaphore: &Semaphore| {
            semaphore
                .try_release(count)?
                .then_some(())
                .ok_or(Error::Timeout)
        })
    }
}

/// How many permits are available, as in `shoal_semaphore_stats`, unless another process works on the semaphore:
/// it neither waits nor sleeps, and so may be called with a lock of the language held.
///
/// Errors: SHOAL_ERR_TIMEOUT (ask `shoal_semaphore_stat`).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_try_value(
    s: *mut SemaphoreHandle,
    out: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, semaphore) = unsafe { (Out::preset("out", out, 0)?, object(s)?) };
        out.set(semaphore.try_available()?.ok_or(Error::Timeout)?);
        Ok(())
    })
}

/// Keeps the permits of this process acquired after its end, or after the handle is freed: from now on they
/// belong to no process, until one releases them. Permits that it acquires later return as usual. It is for
/// the normal end of a process, where permits count items.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_semaphore_keep(s: *mut SemaphoreHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(s, Semaphore::keep) }
}

/// The first part of a wait: takes a place, with the lock held. Then unlock, `shoal_condition_sleep`, lock,
/// and `shoal_condition_leave`.
///
/// Errors: SHOAL_ERR_EXHAUSTED (1024 wait already).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_enlist(
    c: *mut ConditionHandle,
    place: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (place, condition) = unsafe { (Out::new("place", place)?, object(c)?) };
        place.set(condition.enlist()?);
        Ok(())
    })
}

/// Sleeps until the place is notified. May be called again after a timeout.
///
/// Errors: SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and SHOAL_ERR_CLOSED (the place is still to be left);
/// SHOAL_ERR_INVALID (not this process's place).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_sleep(
    c: *mut ConditionHandle,
    place: u32,
    timeout_ns: i64,
) -> Status {
    let sleep = |condition: &Condition| condition.sleep(place, args::timeout(timeout_ns));
    // SAFETY: the caller's contract.
    unsafe { handle::with(c, sleep) }
}

/// Leaves the place, with the lock held again. `*notified`: whether it was notified.
///
/// Errors: SHOAL_ERR_INVALID (not this process's place).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_condition_leave(
    c: *mut ConditionHandle,
    place: u32,
    notified: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (notified, condition) = unsafe { (Out::optional("notified", notified)?, object(c)?) };
        notified.set(condition.leave(place)?);
        Ok(())
    })
}

/// The first part of a wait, also for an action before all continue. Waits only while a full round has not
/// ended.
///
/// `*last`: all have arrived, and the caller must call `shoal_barrier_pass`; otherwise `shoal_barrier_sleep`.
/// `*place` is for these. `*index`: how many arrived before the caller.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_arrive(
    b: *mut BarrierHandle,
    timeout_ns: i64,
    place: *mut u32,
    index: *mut u32,
    last: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (place, index) = unsafe { (Out::new("place", place)?, Out::optional("index", index)?) };
        // SAFETY: the caller's contract.
        let (last, barrier) = unsafe { (Out::optional("last", last)?, object(b)?) };
        let arrived = barrier.arrive(args::timeout(timeout_ns))?;
        place.set(arrived.place);
        index.set(arrived.index);
        last.set(arrived.last);
        Ok(())
    })
}

/// For the last to arrive: all others continue.
///
/// Errors: SHOAL_ERR_POISONED (the barrier was broken meanwhile).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_pass(b: *mut BarrierHandle, place: u32) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, |barrier: &Barrier| barrier.release(place)) }
}

/// Sleeps until the barrier opens or breaks; the place is freed then. May be called again after a
/// timeout.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and
/// SHOAL_ERR_CLOSED (the caller still has its place).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_sleep(
    b: *mut BarrierHandle,
    place: u32,
    timeout_ns: i64,
) -> Status {
    let sleep = |barrier: &Barrier| barrier.sleep(place, args::timeout(timeout_ns));
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, sleep) }
}

/// Stops waiting as if the caller had not arrived. If all have arrived, its arrival counts, and all others
/// continue when the last of them calls `shoal_barrier_pass`. Not for the last to arrive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_leave(b: *mut BarrierHandle, place: u32) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, |barrier: &Barrier| barrier.leave(place)) }
}

/// Stops waiting, which breaks the barrier, unless all have arrived meanwhile.
///
/// Errors: SHOAL_ERR_POISONED (the barrier is broken).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_barrier_give_up(b: *mut BarrierHandle, place: u32) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(b, |barrier: &Barrier| barrier.give_up(place)) }
}

/// Puts one message as `shoal_queue_put` does, if the queue's lock is free and there is room: it neither
/// waits nor sleeps, and so may be called with a lock of the language held.
///
/// Errors: SHOAL_ERR_TIMEOUT (put it by `shoal_queue_put`); as `shoal_queue_put`. Nothing was put then.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_try_put(
    q: *mut QueueHandle,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let put = unsafe { object(q)?.try_put(args::bytes("data", data, len)?) };
        put?.then_some(()).ok_or(Error::Timeout)
    })
}

/// Takes the first message as `shoal_queue_get` does, if the queue's lock is free and there is a message:
/// it neither waits nor sleeps, and so may be called with a lock of the language held.
///
/// Errors: SHOAL_ERR_TIMEOUT (get it by `shoal_queue_get`); as `shoal_queue_get`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_queue_try_get(
    q: *mut QueueHandle,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, queue) = unsafe { (Out::preset("len", len, 0)?, object(q)?) };
        // SAFETY: the caller's contract.
        let found = queue.try_get_into(unsafe { args::buffer("buf", buf, capacity) }?);
        len.set_len(found.and_then(|found| found.ok_or(Error::Timeout)))
    })
}
