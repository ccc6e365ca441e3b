//! `shoal_array`: shims over [`Array`].

use std::ffi::{c_char, c_void};

use super::args::{self, Out};
use super::handle::{self, Named, opaque};
use super::lock::told;
use super::options::{self, ArrayOptions};
use super::status::{guard, guard_shielded, guard_some};
use crate::array::Array;
use crate::error::{Result, Status};

/// Items of one size that any number of processes read and write where they are, and a lock.
pub struct ArrayHandle {
    _opaque: [u8; 0],
}

opaque!(ArrayHandle, Named<Array>, b"shl.arry", "array handle");

/// # Safety
/// As [`handle::get`].
#[inline]
unsafe fn array<'a>(a: *mut ArrayHandle) -> Result<&'a Array> {
    // SAFETY: the same contract.
    unsafe { handle::get(a) }.map(|named| &named.object)
}

/// Opens or creates an array.
///
/// `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates one under a name of its
/// own, which `shoal_array_name` tells.
/// `options`: NULL opens what exists. Of an array that exists, what is not 0 or NULL there has to be
/// as it was made.
/// Blocking, threads, fork: does not wait; safe from several threads and processes at once,
/// of which one creates it.
/// Ownership: `*out` is yours until `shoal_array_free`; NULL after a failure.
///
/// Errors: as `shoal_map_open`; SHOAL_ERR_INVALID (items of other sizes or another format).
///
/// ```c
/// shoal_array_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
/// o.item_size = sizeof(double);
/// o.count = 100;
/// o.format = "d";
/// shoal_array *a;
/// void *data;
/// size_t bytes;
/// if (shoal_array_open("samples", &o, &a) == SHOAL_OK &&
///     shoal_array_data(a, &data, &bytes) == SHOAL_OK)
///     ((double *)data)[7] = 1.5;
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_open(
    name: *const c_char,
    options: *const ArrayOptions,
    out: *mut *mut ArrayHandle,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { args::text_or_null("name", name) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { options::array(options) }?;
        // SAFETY: the caller's contract.
        let format = unsafe { args::text_or_null("format", given.format) }?;
        let (item, count) = (given.item_size, given.count);
        let format = format.unwrap_or_default();
        let made = Array::with_options(name, item, count, format, &given.options)?;
        out.set(handle::new(Named::new(made, |made| made.name())));
        Ok(())
    })
}

/// Lets go of an array. The last handle of all processes removes it, unless it is persistent.
///
/// Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
/// thread may be using the handle, or the data.
/// Ownership: `a` is gone; NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_free(a: *mut ArrayHandle) {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { handle::free(a) });
}

/// The name to open it by in another process. NULL if `a` is invalid.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the string is the handle's and goes with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_name(a: *mut ArrayHandle) -> *const c_char {
    // SAFETY: the caller's contract.
    let name = guard_some(|| Ok(unsafe { handle::get(a) }?.name.as_ptr()));
    name.unwrap_or(std::ptr::null())
}

/// Removes the name. Who has it open goes on using it.
///
/// Blocking, threads, fork: does not wait; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
/// SHOAL_ERR_PERMISSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_unlink(name: *const c_char) -> Status {
    // SAFETY: the caller's contract.
    guard_shielded(|| unsafe { Array::unlink(args::text("name", name)?) })
}

/// Where the items are: plain memory, zeros at first, aligned to 128 bytes.
///
/// `*data`, `*bytes`: all of them.
/// Blocking, threads, fork: never blocks. What several processes write without the lock they
/// write at the same time. A forked child may use it as long as it has not freed the handle.
/// Ownership: the memory is the handle's.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_data(
    a: *mut ArrayHandle,
    data: *mut *mut c_void,
    bytes: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (data, bytes) = unsafe { (Out::new("data", data)?, Out::new("bytes", bytes)?) };
        // SAFETY: the caller's contract.
        let array = unsafe { array(a) }?;
        data.set(array.as_ptr().cast());
        bytes.set(array.len());
        Ok(())
    })
}

/// What the items are.
///
/// `*item_size`, `*count`: bytes of each, and how many there are.
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_items(
    a: *mut ArrayHandle,
    item_size: *mut u64,
    count: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let item_size = unsafe { Out::new("item_size", item_size) }?;
        // SAFETY: the caller's contract.
        let (count, array) = unsafe { (Out::new("count", count)?, array(a)?) };
        item_size.set(array.item_size());
        count.set(array.count());
        Ok(())
    })
}

/// What an item is, as whoever made the array said: up to 16 bytes of text.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the text's length, without a NUL.
/// Blocking, threads, fork: never blocks; safe everywhere.
/// Ownership: the text is copied to `buf`.
///
/// Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room needed); SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_format(
    a: *mut ArrayHandle,
    buf: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, array) = unsafe { (Out::new("len", len)?, array(a)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf.cast(), capacity) }?;
        len.set_len(args::copy_text(array.format().as_bytes(), buf))
    })
}

/// Takes an array's lock, which its thread may take again.
///
/// SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK; see `shoal_lock_lock`.
/// `timeout_ns`: how long to wait for who has it; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until it is free or its holder is dead. A forked child does
/// not have its parent's lock.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_lock(a: *mut ArrayHandle, timeout_ns: i64) -> Status {
    // SAFETY: the caller's contract.
    guard(|| told(unsafe { array(a) }?.acquire(args::timeout(timeout_ns))?))
}

/// Gives an array's lock back, by one level.
///
/// Blocking, threads, fork: never waits; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID (also: this thread does not have it).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_unlock(a: *mut ArrayHandle) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { array(a) }?.release())
}
