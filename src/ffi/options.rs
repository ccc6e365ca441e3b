//! Structs that begin with their size, so that old programs work with new libraries.
//!
//! A struct only grows at its end. A caller whose struct is shorter than the library's is older: the options
//! that it does not know are zero, which is the default, and it gets only the statistics that it knows. A
//! caller whose struct is longer is newer: options that the library does not know must be zero, since a
//! request for them cannot be met; statistics that the library does not have are zero.

use std::mem::MaybeUninit;
use std::slice;

use super::args::checked;
use crate::error::{Error, Result};
use crate::segment::Options;

/// Implements [`Sized`] for a struct of integers and of pointers that may be NULL.
macro_rules! sized {
    ($type:ty, $what:literal, $first:literal) => {
        const _: () =
            assert!(size_of::<$type>() >= $first && std::mem::offset_of!($type, size) == 0);
        // SAFETY: integers and pointers, the first a `usize`, as this macro's users promise.
        unsafe impl $crate::ffi::options::Sized for $type {
            const WHAT: &'static str = $what;
            const FIRST: usize = $first;
        }
    };
}
pub(super) use sized;

/// In `flags`: create the object if there is none of that name.
pub const SHOAL_CREATE: u64 = 1;

/// In `flags`: create the object, and fail with SHOAL_ERR_EXISTS if there is one already.
pub const SHOAL_EXCLUSIVE: u64 = 2;

/// In `flags`: a created object stays until it is unlinked, also when no process has it open.
pub const SHOAL_PERSISTENT: u64 = 4;

/// How to open a lock, read-write lock, semaphore, event, condition or barrier.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SyncOptions {
    /// `sizeof(shoal_sync_options)`.
    pub size: usize,
    /// SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT; SHOAL_RECURSIVE of a lock, SHOAL_BOUNDED of a
    /// semaphore.
    pub flags: u64,
    /// The permits of a new semaphore, or the parties of a new barrier; 0 for all others.
    pub count: u64,
}

sized!(SyncOptions, "shoal_sync_options.size", 24);

/// A struct of integers and pointers that C fills or reads.
///
/// # Safety
/// The struct is `repr(C)`, begins with a `usize` that is its size, and is valid for zeros and for
/// whatever else a C program puts into its fields.
pub(super) unsafe trait Sized: Copy {
    /// The field that holds the size, for messages.
    const WHAT: &'static str;
    /// The size of the first version released: a smaller one is a mistake.
    const FIRST: usize;
}

/// No struct of ours will ever be larger; a larger size is a mistake.
const LARGEST: usize = 4096;

/// The size that the caller has set.
///
/// # Safety
/// `at` is NULL, misaligned, or points to a struct that begins with its size.
unsafe fn given<T: Sized>(what: &'static str, at: *const T) -> Result<usize> {
    checked(what, at)?;
    // SAFETY: not NULL and aligned; it begins with its size.
    let given = unsafe { at.cast::<usize>().read() };
    if !(T::FIRST..=LARGEST).contains(&given) {
        let ours = size_of::<T>();
        let why = format!("it is {given}; set it to the size of the struct, which is {ours}");
        return Err(Error::invalid(T::WHAT, why));
    }
    Ok(given)
}

/// Options as this library knows them; none for NULL.
///
/// # Safety
/// `options` is NULL, or points to as many bytes as its first field says.
pub(super) unsafe fn read<T: Sized>(options: *const T) -> Result<Option<T>> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's contract.
    let given = unsafe { given("options", options) }?;
    let ours = size_of::<T>();
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

/// Writes statistics, as much of them as the caller has room for, and leaves its `size` as it is.
///
/// # Safety
/// `out` is NULL, or points to as many bytes as its first field says, which no other thread uses.
pub(super) unsafe fn write<T: Sized>(out: *mut T, make: impl FnOnce() -> Result<T>) -> Result<()> {
    // SAFETY: the caller's contract.
    let given = unsafe { given("out", out) }?;
    let stats = make()?;
    let (skipped, known) = (size_of::<usize>(), given.min(size_of::<T>()));
    // SAFETY: `known` bytes are in both structs, `given` in the caller's.
    unsafe {
        let (from, to) = ((&raw const stats).cast::<u8>(), out.cast::<u8>());
        std::ptr::copy_nonoverlapping(from.add(skipped), to.add(skipped), known - skipped);
        to.add(known).write_bytes(0, given - known);
    }
    Ok(())
}

/// Refuses flags that are not among `known`.
pub(super) fn check_flags(flags: u64, known: u64) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Error::invalid(
            "flags",
            format!("{unknown:#x} is unknown to this function, which knows {known:#x}"),
        )),
    }
}

/// What all kinds of objects have in common.
pub(super) fn object(flags: u64, capacity: u64, max_capacity: u64) -> Result<Options> {
    check_flags(flags, SHOAL_CREATE | SHOAL_EXCLUSIVE | SHOAL_PERSISTENT)?;
    Ok(Options {
        create: flags & (SHOAL_CREATE | SHOAL_EXCLUSIVE) != 0,
        exclusive: flags & SHOAL_EXCLUSIVE != 0,
        persistent: flags & SHOAL_PERSISTENT != 0,
        capacity,
        max_capacity,
        ..Options::default()
    })
}

/// [`SyncOptions`] that were read.
pub(super) struct Sync {
    pub(super) options: Options,
    pub(super) count: u64,
    /// Whether the flag of the object's own is set.
    pub(super) flag: bool,
}

/// Reads the options of an object without a count.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn sync(
    options: *const SyncOptions,
    own: u64,
    name: Option<&str>,
) -> Result<Sync> {
    // SAFETY: the same contract.
    let given = unsafe { counted(options, own, name) }?;
    match given.count {
        0 => Ok(given),
        count => Err(Error::invalid(
            "shoal_sync_options.count",
            format!("it is {count}; only a semaphore and a barrier have a count"),
        )),
    }
}

/// Reads options, of which `own` is the object's own flag, if it has one. Without a name an object is
/// always created.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn counted(
    options: *const SyncOptions,
    own: u64,
    name: Option<&str>,
) -> Result<Sync> {
    // SAFETY: the same contract.
    let given = unsafe { read(options) }?;
    let (flags, count) = given.map_or((0, 0), |it| (it.flags, it.count));
    let mut options = object(flags & !own, 0, 0)?;
    options.create = options.creates(name);
    Ok(Sync {
        options,
        count,
        flag: flags & own != 0,
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

    #[test]
    fn as_much_is_written_as_the_caller_has_room_for() {
        let grown = Grown {
            size: 0,
            old: 7,
            new: 8,
        };
        for (size, expected) in [
            (16usize, [16, 7, 99, 99]),
            (24, [24, 7, 8, 99]),
            (32, [32, 7, 8, 0]),
        ] {
            let mut words = [size, 99, 99, 99];
            // SAFETY: four words, and never more than 32 bytes are claimed.
            unsafe { write(words.as_mut_ptr().cast::<Grown>(), || Ok(grown)) }.unwrap();
            assert_eq!(words, expected);
        }
        // SAFETY: as above; too small to be written to.
        assert!(unsafe { write([8usize; 4].as_mut_ptr().cast::<Grown>(), || Ok(grown)) }.is_err());
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
