//! Array
//!
//! Items of one size in plain shared memory, and a lock for them.
//!
//! Killed: Items that the process was writing may be half written. If it had the lock, the lock is free, and
//! `*owner_died` reports this to the next process that takes it.
//!
//! ```c
//! shoal_array_options options = {.size = sizeof options, .flags = SHOAL_CREATE,
//!                                .item_size = sizeof(double), .count = 100, .format = "d"};
//! shoal_array *cells;
//! void *data;
//! size_t bytes;
//! if (shoal_array_open("cells", &options, &cells, NULL) == SHOAL_OK &&
//!     shoal_array_data(cells, &data, &bytes) == SHOAL_OK &&
//!     shoal_array_lock(cells, SHOAL_FOREVER, NULL) == SHOAL_OK) {
//!     ((double *)data)[7] += 0.5;
//!     shoal_array_unlock(cells);
//! }
//! ```

use std::ffi::{c_char, c_void};

use super::args::{self, Out};
use super::handle::{self, object, opaque};
use super::lock::acquired;
use super::options::{self, sized};
use super::status::guard;
use crate::array::Array;
use crate::error::Status;

/// An array of items.
pub struct ArrayHandle {
    _opaque: [u8; 0],
}

opaque!(ArrayHandle, named Array, b"shl.arry");

/// How to open an array. An array that exists must agree with each field that is not 0 or NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ArrayOptions {
    /// `sizeof(shoal_array_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    pub flags: u64,
    /// Bytes of an item, at least 1 of a new array.
    pub item_size: u64,
    /// How many items there are.
    pub count: u64,
    /// A description of an item in up to 16 bytes, such as a type code; NULL for none.
    pub format: *const c_char,
}

sized!(ArrayOptions, "shoal_array_options.size", 40);

/// Statistics of an array.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ArrayStats {
    /// `sizeof(shoal_array_stats)`.
    pub size: usize,
    /// Bytes of an item.
    pub item_size: u64,
    /// How many items there are.
    pub count: u64,
    /// The creator's description of an item; ends with NUL.
    pub format: [c_char; 17],
    /// How often the calling thread has taken the lock by this handle.
    pub lock_depth: u32,
}

sized!(ArrayStats, "shoal_array_stats.size", 48);

/// Opens or creates an array; see "Opening".
///
/// Errors: SHOAL_ERR_INVALID (the array exists, with other items).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_open(
    name: *const c_char,
    options: *const ArrayOptions,
    out: *mut *mut ArrayHandle,
    created: *mut bool,
) -> Status {
    let open = |name: Option<&str>| {
        // SAFETY: the caller's contract.
        let o = unsafe { options::read(options) }?;
        let (flags, item, count) = o.map_or((0, 0, 0), |o| (o.flags, o.item_size, o.count));
        let format = o.map_or(std::ptr::null(), |o| o.format);
        // SAFETY: the caller's contract.
        let format = unsafe { args::text_or_null("format", format) }?.unwrap_or_default();
        Array::with_options(name, item, count, format, &options::object(flags, 0, 0)?)
    };
    // SAFETY: the caller's contract.
    unsafe { handle::open(name, out, created, open) }
}

/// Frees the handle; see "Freeing". Its data must not be used after that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_free(a: *mut ArrayHandle) {
    // SAFETY: the caller's contract.
    unsafe { handle::free(a) }
}

/// Fills in statistics; see "Statistics".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_stat(a: *mut ArrayHandle, out: *mut ArrayStats) -> Status {
    let stats = |array: &Array| {
        let mut format = [0; 17];
        for (to, from) in format[..16].iter_mut().zip(array.format().bytes()) {
            *to = from as c_char;
        }
        Ok(ArrayStats {
            size: size_of::<ArrayStats>(),
            item_size: array.item_size(),
            count: array.count(),
            format,
            lock_depth: array.lock_depth(),
        })
    };
    // SAFETY: the caller's contract.
    unsafe { handle::stat(a, out, stats) }
}

/// Where the items are: plain memory, zeros at first, aligned to 128 bytes.
///
/// `*data`, `*bytes`: all of them. Processes that write without the lock may write at the same time. A
/// forked child may use the memory.
/// Ownership: the memory is the handle's.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_data(
    a: *mut ArrayHandle,
    data: *mut *mut c_void,
    bytes: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let data = unsafe { Out::preset("data", data, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let (bytes, array) = unsafe { (Out::preset("bytes", bytes, 0)?, object(a)?) };
        data.set(array.as_ptr().cast());
        bytes.set(array.len());
        Ok(())
    })
}

/// Takes the lock of an array. A thread that has it may take it again.
///
/// `*owner_died`: see "Locks".
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_lock(
    a: *mut ArrayHandle,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (owner_died, array) = unsafe { (Out::optional("owner_died", owner_died)?, object(a)?) };
        acquired(array.acquire(args::timeout(timeout_ns))?, &owner_died)
    })
}

/// Unlocks an array by one level.
///
/// Errors: SHOAL_ERR_INVALID (this thread does not have it).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_array_unlock(a: *mut ArrayHandle) -> Status {
    // SAFETY: the caller's contract.
    unsafe { handle::with(a, Array::release) }
}
