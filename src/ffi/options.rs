//! Structs that begin with their size, so that old programs work with new libraries.
//!
//! A struct only ever grows at its end. A caller whose struct is shorter than ours is an older
//! one: what it does not know is zero, the default. A caller whose struct is longer is a newer
//! one: what we do not know must be zero, or it asks for something we cannot do.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::slice;

use super::args::checked;
use crate::error::{Error, Result};
use crate::segment::Options;

/// Create the object if there is none of that name.
pub const SHOAL_CREATE: u64 = 1;

/// Fail with SHOAL_ERR_EXISTS if there is one. Implies SHOAL_CREATE.
pub const SHOAL_EXCLUSIVE: u64 = 2;

/// The object stays until it is unlinked, whoever has it open.
pub const SHOAL_PERSISTENT: u64 = 4;

/// How to open a queue. All zero but `size` opens what exists.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// `sizeof(shoal_queue_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    pub flags: u64,
    /// Bytes a new queue's ring starts with; 0 for 64 KiB. Rounded up to a power of two.
    pub capacity: u64,
    /// Bytes it may grow to; 0 for 16 GiB, and less where the process has little address space, its
    /// files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Rounded up to a power of
    /// two. Address space only: memory is used as messages need it, and up to 8 MiB while they stream,
    /// for speed.
    pub max_capacity: u64,
    /// The most messages it holds at a time; 0 for as many as fit.
    pub max_items: u64,
    /// How often a message is delivered before it is moved to the dead letters (see
    /// `shoal_queue_dead_letters`), at most 255; 0 for any number of times. The name of such a queue
    /// has at most 195 bytes.
    pub max_attempts: u64,
}

/// With SHOAL_CREATE, of a map: it is walked in the order in which its keys were inserted. Each
/// entry takes 8 bytes more, and a walk begins by copying all keys.
pub const SHOAL_ORDERED: u64 = 64;

/// How to open a map. All zero but `size` opens what exists.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MapOptions {
    /// `sizeof(shoal_map_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_ORDERED.
    pub flags: u64,
    /// Bytes of data a new map has room for from the start; 0 for the default.
    pub capacity: u64,
    /// Bytes of data it may grow to, from 1 MiB to 512 GiB; 0 for 64 GiB, and less where the process has
    /// little address space, its files are limited (`ulimit -v` and `-f`) or it has thousands of
    /// objects. Address space only: memory is used as entries need it.
    pub max_capacity: u64,
}

/// How to open a list. All zero but `size` opens what exists.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ListOptions {
    /// `sizeof(shoal_list_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    pub flags: u64,
    /// Bytes of data a new list has room for from the start; 0 for the default.
    pub capacity: u64,
    /// Bytes of data it may grow to; 0 for 64 GiB, and less where the process has little address space,
    /// its files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Address space only:
    /// memory is used as elements need it.
    pub max_capacity: u64,
}

/// With SHOAL_CREATE, of a lock: its owner may take it again.
pub const SHOAL_RECURSIVE: u64 = 8;

/// With SHOAL_CREATE, of a semaphore: never more permits than at first.
pub const SHOAL_BOUNDED: u64 = 16;

/// How to open a lock, semaphore, event, condition, barrier or read-write lock. All zero but
/// `size` opens what exists.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SyncOptions {
    /// `sizeof(shoal_sync_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_RECURSIVE, SHOAL_BOUNDED.
    pub flags: u64,
    /// Of a new semaphore, its permits; of a new barrier, its parties; else 0.
    pub count: u64,
}

/// How to open an array. All zero but `size` opens what exists.
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
    /// What an item is, in up to 16 bytes, such as a type code; NULL for nothing said.
    pub format: *const c_char,
}

/// With SHOAL_CREATE, of a pipe: one way only, from the second end to the first.
pub const SHOAL_SIMPLEX: u64 = 32;

/// How to open an end of a pipe. All zero but `size` opens what exists.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PipeOptions {
    /// `sizeof(shoal_pipe_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_SIMPLEX.
    pub flags: u64,
    /// As in `shoal_queue_options`, for each way; 0 for 8 KiB.
    pub capacity: u64,
    /// As in `shoal_queue_options`, for each way.
    pub max_capacity: u64,
    /// The most messages that are on each way at a time; 0 for as many as fit.
    pub max_items: u64,
}

/// A struct with a leading `size`.
///
/// # Safety
/// `repr(C)`, without padding that matters, valid for all zeros, and its first field is a
/// `usize`.
pub(super) unsafe trait Sized: Copy {
    /// The field that holds the size, for messages.
    const WHAT: &'static str;
    /// The size of the first version ever released.
    const FIRST: usize;
}

// SAFETY: integers only, the first a `usize`.
unsafe impl Sized for QueueOptions {
    const WHAT: &'static str = "shoal_queue_options.size";
    const FIRST: usize = 48;
}

// SAFETY: integers only, the first a `usize`.
unsafe impl Sized for MapOptions {
    const WHAT: &'static str = "shoal_map_options.size";
    const FIRST: usize = 32;
}

// SAFETY: integers only, the first a `usize`.
unsafe impl Sized for ListOptions {
    const WHAT: &'static str = "shoal_list_options.size";
    const FIRST: usize = 32;
}

// SAFETY: integers only, the first a `usize`.
unsafe impl Sized for SyncOptions {
    const WHAT: &'static str = "shoal_sync_options.size";
    const FIRST: usize = 24;
}

// SAFETY: integers and a pointer that may be NULL, the first a `usize`.
unsafe impl Sized for ArrayOptions {
    const WHAT: &'static str = "shoal_array_options.size";
    const FIRST: usize = 40;
}

// SAFETY: integers only, the first a `usize`.
unsafe impl Sized for PipeOptions {
    const WHAT: &'static str = "shoal_pipe_options.size";
    const FIRST: usize = 40;
}

// The sizes of the first version; a struct that has grown since is larger.
const _: () = assert!(size_of::<QueueOptions>() >= QueueOptions::FIRST);
const _: () = assert!(size_of::<MapOptions>() >= MapOptions::FIRST);
const _: () = assert!(size_of::<ListOptions>() >= ListOptions::FIRST);
const _: () = assert!(size_of::<SyncOptions>() >= SyncOptions::FIRST);
const _: () = assert!(size_of::<ArrayOptions>() >= ArrayOptions::FIRST);
const _: () = assert!(size_of::<PipeOptions>() >= PipeOptions::FIRST);

/// A size beyond this is a mistake, not a newer version.
const LARGEST: usize = 4096;

/// Reads the struct; `None` if the pointer is NULL.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its first field says.
pub(super) unsafe fn read<T: Sized>(options: *const T) -> Result<Option<T>> {
    if options.is_null() {
        return Ok(None);
    }
    checked("options", options)?;
    // SAFETY: not NULL and aligned; it begins with its size.
    let given = unsafe { options.cast::<usize>().read() };
    let ours = size_of::<T>();
    if !(T::FIRST..=LARGEST).contains(&given) {
        let why = format!("it is {given}; set it to the size of the struct, which is {ours}");
        return Err(Error::invalid(T::WHAT, why));
    }
    // SAFETY: the caller answers for `given` bytes.
    let bytes = unsafe { slice::from_raw_parts(options.cast::<u8>(), given) };
    let (known, unknown) = bytes.split_at(given.min(ours));
    if let Some(at) = unknown.iter().position(|&byte| byte != 0) {
        let why = format!(
            "it is {given} and byte {} is not zero; this library knows {ours} bytes: the \
             program asks for what only a newer library can do",
            ours + at
        );
        return Err(Error::invalid(T::WHAT, why));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` is at most `ours` bytes long; any zeroed rest is valid.
    unsafe {
        let to = copy.as_mut_ptr().cast::<u8>();
        std::ptr::copy_nonoverlapping(known.as_ptr(), to, known.len());
        Ok(Some(copy.assume_init()))
    }
}

/// Refuses bits that no flag has.
pub(super) fn check_flags(flags: u64, known: u64) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::invalid(
            "flags",
            format!("{unknown:#x} is not known here"),
        )),
    }
}

fn object(flags: u64, capacity: u64, max_capacity: u64) -> Result<Options> {
    check_flags(flags, SHOAL_CREATE | SHOAL_EXCLUSIVE | SHOAL_PERSISTENT)?;
    Ok(Options {
        create: flags & (SHOAL_CREATE | SHOAL_EXCLUSIVE) != 0,
        exclusive: flags & SHOAL_EXCLUSIVE != 0,
        persistent: flags & SHOAL_PERSISTENT != 0,
        capacity,
        max_capacity,
        max_items: 0,
        max_attempts: 0,
        ordered: false,
    })
}

/// # Safety
/// As [`read`].
pub(super) unsafe fn queue(options: *const QueueOptions) -> Result<Options> {
    // SAFETY: the same contract.
    match unsafe { read(options) }? {
        Some(o) => {
            let attempts = u8::try_from(o.max_attempts).map_err(|_| Error::TooMany {
                what: "max_attempts",
                count: o.max_attempts,
                limit: u8::MAX.into(),
            })?;
            let options = object(o.flags, o.capacity, o.max_capacity)?;
            Ok(options.max_items(o.max_items).max_attempts(attempts))
        }
        None => Ok(Options::open()),
    }
}

/// # Safety
/// As [`read`].
pub(super) unsafe fn map(options: *const MapOptions) -> Result<Options> {
    // SAFETY: the same contract.
    match unsafe { read(options) }? {
        Some(o) => Ok(Options {
            ordered: o.flags & SHOAL_ORDERED != 0,
            ..object(o.flags & !SHOAL_ORDERED, o.capacity, o.max_capacity)?
        }),
        None => Ok(Options::open()),
    }
}

/// # Safety
/// As [`read`].
pub(super) unsafe fn list(options: *const ListOptions) -> Result<Options> {
    // SAFETY: the same contract.
    match unsafe { read(options) }? {
        Some(o) => object(o.flags, o.capacity, o.max_capacity),
        None => Ok(Options::open()),
    }
}

/// The options, and whether there are two ways.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn pipe(options: *const PipeOptions) -> Result<(Options, bool)> {
    // SAFETY: the same contract.
    match unsafe { read(options) }? {
        Some(o) => {
            let how = object(o.flags & !SHOAL_SIMPLEX, o.capacity, o.max_capacity)?;
            Ok((how.max_items(o.max_items), o.flags & SHOAL_SIMPLEX == 0))
        }
        None => Ok((Options::open(), true)),
    }
}

/// What an [`ArrayOptions`] says.
pub(super) struct OfArray {
    pub(super) options: Options,
    pub(super) item_size: u64,
    pub(super) count: u64,
    pub(super) format: *const c_char,
}

/// # Safety
/// As [`read`].
pub(super) unsafe fn array(options: *const ArrayOptions) -> Result<OfArray> {
    // SAFETY: the same contract.
    let o = unsafe { read(options) }?;
    Ok(OfArray {
        options: object(o.map_or(0, |o| o.flags), 0, 0)?,
        item_size: o.map_or(0, |o| o.item_size),
        count: o.map_or(0, |o| o.count),
        format: o.map_or(std::ptr::null(), |o| o.format),
    })
}

/// What a [`SyncOptions`] says.
pub(super) struct Sync {
    pub(super) options: Options,
    pub(super) count: u64,
    flags: u64,
}

impl Sync {
    pub(super) fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Without a name an object is always created.
    pub(super) fn for_name(mut self, name: Option<&str>) -> Self {
        self.options.create |= name.is_none();
        self
    }
}

/// Refuses flags but the common ones and `own`.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn sync(options: *const SyncOptions, own: u64) -> Result<Sync> {
    // SAFETY: the same contract.
    let given = unsafe { read(options) }?;
    let (flags, count) = given.map_or((0, 0), |it| (it.flags, it.count));
    let options = object(flags & !own, 0, 0)?;
    Ok(Sync {
        options,
        count,
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Grown {
        size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: integers only, the first a `usize`.
    unsafe impl Sized for Grown {
        const WHAT: &'static str = "grown.size";
        const FIRST: usize = 16;
    }

    fn read_words(words: &[usize]) -> Result<Option<Grown>> {
        // SAFETY: each test gives as many words as the first says bytes.
        unsafe { read(words.as_ptr().cast::<Grown>()) }
    }

    #[test]
    fn an_older_caller_gets_the_defaults_of_what_it_does_not_know() {
        let read = read_words(&[16, 7]).unwrap().unwrap();
        assert_eq!((read.size, read.old, read.new), (16, 7, 0));
    }

    #[test]
    fn a_newer_caller_may_not_use_what_we_do_not_know() {
        assert_eq!(read_words(&[32, 7, 8, 0]).unwrap().unwrap().new, 8);
        let err = read_words(&[32, 7, 8, 1 << 8]).err().unwrap().to_string();
        assert!(
            err.contains("grown.size") && err.contains("byte 25"),
            "{err}"
        );
    }

    #[test]
    fn a_size_that_no_version_ever_had_is_refused() {
        for size in [0, 8, 15, 4097, usize::MAX] {
            assert!(read_words(&[size, 0, 0]).is_err(), "{size}");
        }
    }
}
