//! `shoal_watched`: values that a program keeps a copy of for as long as they are true.

use std::ffi::c_void;

use super::args::{self, Out};
use super::map::{MapHandle, map, no_such};
use super::status::guard;
use crate::error::Status;

/// How to find out, without a call, whether the value of a key may have changed.
///
/// `word`: a number in shared memory; NULL if the value is not to be kept. `seen`: what it was
/// before the value was read. As long as it is the same (an atomic load, or a plain one of 8 bytes on
/// x86-64 and 64-bit Arm), so is the value.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Watched {
    word: *const u64,
    seen: u64,
}

impl Watched {
    const NONE: Self = Self {
        word: std::ptr::null(),
        seen: 0,
    };
}

/// Copies the value of a key as `shoal_map_get` does, and tells how to know for how long the copy is
/// good: for keys that are read much more often than anything near them changes.
///
/// `buf`, `capacity`, `*len`: as for `shoal_map_get`.
/// `*watched`: its word changes with every change of the key, and with those of others in the same
/// sixty-fourth of the map. NULL if any key there expires: what is over changes no word.
/// Blocking, threads, fork: as `shoal_map_set`; any thread may look at the word, and a forked
/// child, too.
/// Ownership: the value is copied to `buf`. The word is the map's, and may be looked at until the
/// handle is freed.
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
                Out::new("len", len)?,
                Out::preset("watched", watched, Watched::NONE)?,
            )
        };
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
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
