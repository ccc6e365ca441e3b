//! `shoal_view`: values of a map that are read in place.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::args::{self, Out};
use super::map::{MapHandle, at, map, no_such};
use super::status::guard;
use crate::error::{Error, Result, Status};
use crate::layout::Owner;
use crate::map::Pinned;

/// A value in a map that is read in place.
///
/// It does not change until the view is ended or the handle is freed, even if the key is changed or removed.
/// Any thread may read and end it. A forked child must not use its parent's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    /// The value; NULL once the view is ended.
    data: *const c_void,
    /// Its bytes.
    len: usize,
    /// Its version.
    version: u64,
    /// For the library only.
    place: u64,
    /// For the library only.
    hold: u64,
    /// For the library only.
    owner: u64,
}

impl View {
    const NONE: Self = Self {
        data: std::ptr::null(),
        len: 0,
        version: 0,
        place: 0,
        hold: 0,
        owner: 0,
    };

    fn pinned(&self) -> Result<Pinned> {
        let at = NonNull::new(self.data.cast_mut().cast())
            .ok_or_else(|| Error::invalid("view", "it was ended before"))?;
        Ok(Pinned {
            shard: self.hold as u8 as usize,
            index: (self.hold >> 8) as u8 as usize,
            turn: self.hold >> 16,
            offset: self.place,
            owner: Owner::from_word(self.owner),
            at,
            len: self.len,
            version: self.version,
        })
    }
}

impl From<Pinned> for View {
    fn from(pinned: Pinned) -> Self {
        Self {
            data: pinned.at.as_ptr().cast(),
            len: pinned.len,
            version: pinned.version,
            place: pinned.offset,
            // A map has 64 shards with twelve holds each, and a turn has 48 bits.
            hold: pinned.shard as u64 | (pinned.index as u64) << 8 | pinned.turn << 16,
            owner: pinned.owner.to_word(),
        }
    }
}

/// The value of a key, read in place without a copy. Each part of the map has room for twelve views and
/// locks.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_EXHAUSTED (there is no room for the
/// view).
///
/// ```c
/// shoal_view view;
/// if (shoal_map_view(m, "weights", 7, &view) == SHOAL_OK) {
///     printf("%g\n", add_up(view.data, view.len));
///     if (shoal_map_view_end(m, &view) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_view(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    out: *mut View,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, View::NONE) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        let view = map.view(key)?.ok_or_else(|| no_such(key))?;
        out.set(view.into_pinned().into());
        Ok(())
    })
}

/// Ends a view.
///
/// Errors: SHOAL_ERR_INVALID (it was ended before, or is another handle's or process's).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_view_end(m: *mut MapHandle, view: *mut View) -> Status {
    guard(|| {
        args::checked("view", view)?;
        // SAFETY: the caller's contract; neither NULL nor misaligned.
        let view = unsafe { &mut *view };
        // SAFETY: the caller's contract.
        unsafe { map(m) }?.release(&view.pinned()?)?;
        *view = View::NONE;
        Ok(())
    })
}
