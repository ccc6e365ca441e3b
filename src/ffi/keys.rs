//! More of `shoal_map`: versions, numbers, many keys at once, keys that expire, locks of keys,
//! views, and waiting for a change. Shims over
//! [`Map`](crate::Map).

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use super::args::{self, Out, Slice};
use super::map::{MapHandle, map, no_such};
use super::status::{SHOAL_FOREVER, guard};
use crate::Timeout;
use crate::error::{Error, Result, Status};
use crate::layout::Owner;
use crate::map::Pinned;

/// How long a key lives; none for good.
fn life(life_ns: i64) -> Option<Duration> {
    u64::try_from(life_ns).ok().map(Duration::from_nanos)
}

/// Copies the value of a key, and tells its version.
///
/// `buf`, `capacity`: where to, and the room there. `*len`: the value's length. `*version`: no two
/// values of a key have the same, and later ones have higher; never 0.
/// Blocking, threads, fork: as `shoal_map_get`.
/// Ownership: the value is copied to `buf`.
///
/// Errors: as `shoal_map_get`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get_versioned(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    version: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, version) = unsafe { (Out::new("len", len)?, Out::new("version", version)?) };
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        let found = map.get_versioned_to(key, buf);
        len.set_len(found.and_then(|found| {
            let (found, its_version) = found.ok_or_else(|| no_such(key))?;
            version.set(its_version);
            Ok(found)
        }))
    })
}

/// The version of a key's value; 0 if there is no such key.
///
/// Blocking, threads, fork: as `shoal_map_get`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_version_of(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    out: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        // SAFETY: the caller's contract.
        out.set(map.version_of(unsafe { args::bytes("key", key, key_len) }?)?);
        Ok(())
    })
}

/// Gives a key a new value if its value still has a version.
///
/// `version`: 0 expects that the key is not there.
/// `desired`: NULL (with length 0) removes the key.
/// `*swapped`: whether it did.
/// Blocking, threads, fork: as `shoal_map_set`.
/// Ownership: all bytes are copied.
///
/// Errors: as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_compare_swap_version(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    version: u64,
    desired: *const c_void,
    desired_len: usize,
    swapped: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (swapped, map) = unsafe { (Out::new("swapped", swapped)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        // SAFETY: the caller's contract.
        let new = unsafe { args::bytes("desired", desired, desired_len) }?;
        let new = (!desired.is_null()).then_some(new);
        swapped.set(map.compare_swap_version(key, version, new)?);
        Ok(())
    })
}

/// Adds to a number: as `shoal_map_add`, of a `double` of 8 bytes, least significant byte first.
///
/// `*out`: the new value; NULL if you do not care.
/// Blocking, threads, fork: as `shoal_map_set`. No addition is ever lost.
///
/// Errors: as `shoal_map_add`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_add_f64(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    delta: f64,
    out: *mut f64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::optional("out", out)?, map(m)?) };
        // SAFETY: the caller's contract.
        out.set(map.add_f64(unsafe { args::bytes("key", key, key_len) }?, delta)?);
        Ok(())
    })
}

/// Gives many keys their values, with each part of the map locked once. Of equal keys the last
/// one counts.
///
/// `keys`, `values`: `n` of each. Each key is set or is not, as by `shoal_map_set`; all of them
/// are no unit: after an error or a kill some are set.
/// Blocking, threads, fork: as `shoal_map_set`.
/// Ownership: keys and values are copied.
///
/// Errors: as `shoal_map_set`; what is too large is said before anything is set.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_set_many(
    m: *mut MapHandle,
    keys: *const Slice,
    values: *const Slice,
    n: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, keys) = unsafe { (map(m)?, args::items("keys", keys, n)?) };
        // SAFETY: the caller's contract.
        let values = unsafe { args::items("values", values, n) }?;
        let items: Vec<(&[u8], &[u8])> = keys
            .iter()
            .map(AsRef::as_ref)
            .zip(values.iter().map(AsRef::as_ref))
            .collect();
        map.set_many(&items)
    })
}

/// Copies the values of many keys, with each part of the map locked once.
///
/// `keys`, `values`: `n` of each. `values[i]` is set to where in `buf` the value of `keys[i]` is,
/// with `data` NULL if there is no such key.
/// `buf`, `capacity`: where to, in no order, and the room there. `*len`: how much of it is used.
/// Blocking, threads, fork: as `shoal_map_get`.
/// Ownership: the values are copied to `buf`.
///
/// Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room needed now, `values` are untouched);
/// SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get_many(
    m: *mut MapHandle,
    keys: *const Slice,
    n: usize,
    buf: *mut c_void,
    capacity: usize,
    values: *mut Slice,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, map) = unsafe { (Out::new("len", len)?, map(m)?) };
        // SAFETY: the caller's contract.
        let keys = unsafe { args::items("keys", keys, n) }?;
        // SAFETY: the caller's contract.
        let buf = unsafe { args::buffer("buf", buf, capacity) }?;
        // SAFETY: the caller's contract.
        let values = unsafe { args::array_mut("values", values, n) }?;
        let (mut needed, mut found) = (0, vec![None; n]);
        map.visit_many(keys, |index, value| {
            let Some(value) = value else { return Ok(()) };
            let from = needed;
            needed += value.len;
            if let Some(to) = buf.get_mut(from..needed) {
                value.copy_to(to);
                found[index] = Some((NonNull::from(to).cast(), value.len));
            }
            Ok(())
        })?;
        if needed > capacity {
            return len.set_len(Err(Error::BufferTooSmall { needed, capacity }));
        }
        for (value, found) in values.iter_mut().zip(found) {
            value.write(match found {
                Some((data, len)) => Slice {
                    data: data.as_ptr(),
                    len,
                },
                None => Slice {
                    data: std::ptr::null(),
                    len: 0,
                },
            });
        }
        len.set(needed);
        Ok(())
    })
}

/// Gives a key a value for a time; then it is as if it had been removed. `shoal_map_set` makes it
/// stay for good again.
///
/// `life_ns`: for how long; SHOAL_FOREVER for good.
/// Blocking, threads, fork: as `shoal_map_set`.
/// Ownership: key and value are copied.
///
/// Errors: as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_set_for(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    life_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        // SAFETY: the caller's contract.
        let value = unsafe { args::bytes("value", value, value_len) }?;
        match life(life_ns) {
            Some(life) => map.set_for(key, value, life),
            None => map.set(key, value),
        }
    })
}

/// Lets a key live for a time from now on.
///
/// `life_ns`: for how long; SHOAL_FOREVER for good.
/// Blocking, threads, fork: as `shoal_map_set`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); and as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_expire(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    life_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        match map.expire(key, life(life_ns))? {
            true => Ok(()),
            false => Err(no_such(key)),
        }
    })
}

/// For how long a key will still be there.
///
/// `*out`: nanoseconds; SHOAL_FOREVER for good.
/// Blocking, threads, fork: as `shoal_map_get`.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_time_left(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    out: *mut i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        let left = map.time_left(key)?.ok_or_else(|| no_such(key))?;
        out.set(left.map_or(SHOAL_FOREVER, |left| {
            i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)
        }));
        Ok(())
    })
}

/// Removes every key whose time is over. Changes nearby do that in time as well.
///
/// `*out`: how many there were; NULL if you do not care.
/// Blocking, threads, fork: as `shoal_map_set`.
///
/// Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_purge(m: *mut MapHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::optional("out", out)?, map(m)?) };
        out.set(map.purge()? as u64);
        Ok(())
    })
}

/// Locks a key, which need not be there, for work in several steps.
///
/// It keeps others from locking the same key, and from nothing else: the map does not ask for
/// it. Locking several keys is safe from deadlock if all do it in the same order.
/// `timeout_ns`: how long to wait for who has it; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits until the key is unlocked or its holder is dead. Any thread
/// may unlock it. A forked child does not have it.
///
/// SHOAL_ERR_OWNER_DIED means that *you have the lock*, and that the process that had it before
/// died with it: what it was doing may be half done.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID (also: this thread has
/// locked it already); SHOAL_ERR_TOO_LARGE; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
///
/// ```c
/// shoal_status status = shoal_map_lock_key(m, "ledger", 6, SHOAL_FOREVER);
/// if (status == SHOAL_ERR_OWNER_DIED)
///     check_the_ledger();
/// if (status == SHOAL_OK || status == SHOAL_ERR_OWNER_DIED) {
///     work_on_the_ledger();
///     status = shoal_map_unlock_key(m, "ledger", 6);
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_lock_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { (map(m)?, args::bytes("key", key, key_len)?) };
        let guard = map.lock_key(key, args::timeout(timeout_ns))?;
        let owner_died = guard.owner_died();
        std::mem::forget(guard);
        match owner_died {
            false => Ok(()),
            true => Err(Error::OwnerDied),
        }
    })
}

/// Unlocks a key that this process locked, through this handle.
///
/// Blocking, threads, fork: does not wait.
///
/// Errors: SHOAL_ERR_INVALID (also: it is not locked, or by another process);
/// SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_unlock_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
) -> Status {
    // SAFETY: the caller's contract.
    guard(|| unsafe { map(m)?.unlock_key(args::bytes("key", key, key_len)?) })
}

/// A number that grows with every change of the map, to wait for the next one.
///
/// Blocking, threads, fork: never blocks; safe everywhere.
///
/// Errors: SHOAL_ERR_INVALID.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_version(m: *mut MapHandle, out: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (out, map) = unsafe { (Out::new("out", out)?, map(m)?) };
        out.set(map.version());
        Ok(())
    })
}

/// Waits until a map's version is not `seen`.
///
/// `*now`: what it is. What was changed, it does not tell.
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Blocking, threads, fork: waits for a change by whatever process, or until the time is over.
///
/// Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_wait_change(
    m: *mut MapHandle,
    seen: u64,
    now: *mut u64,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (now, map) = unsafe { (Out::new("now", now)?, map(m)?) };
        now.set(map.wait_change(seen, args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// Waits until the version of a key's value is not `seen`: until it is set, removed, or its time
/// is over.
///
/// `seen`: 0 for a key that is not there. `*now`: what it is.
/// `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
/// Changes that follow each other quickly may be seen as one.
/// Blocking, threads, fork: as `shoal_map_wait_change`.
///
/// Errors: as `shoal_map_wait_change`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_wait_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    seen: u64,
    now: *mut u64,
    timeout_ns: i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (now, map) = unsafe { (Out::new("now", now)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        let timeout: Timeout = args::timeout(timeout_ns);
        now.set(map.wait_key(key, seen, timeout)?);
        Ok(())
    })
}

/// A value in a map that you read where it lies.
///
/// `data`, `len`: the value. NULL and 0 once it was released. `version`: its version.
/// `place`, `hold`, `owner`: the library's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    data: *const c_void,
    len: usize,
    version: u64,
    place: u64,
    hold: u64,
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
            .ok_or_else(|| Error::invalid("view", "it was released before"))?;
        Ok(Pinned {
            shard: self.hold as u32 as usize,
            index: (self.hold >> 32) as usize,
            offset: self.place,
            owner: Owner {
                slot: self.owner as u16,
                generation: (self.owner >> 32) as u32,
            },
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
            hold: pinned.shard as u64 | (pinned.index as u64) << 32,
            owner: u64::from(pinned.owner.slot) | u64::from(pinned.owner.generation) << 32,
        }
    }
}

/// The value of a key where it lies, without a copy.
///
/// It stays as it is until it is released, whatever others do with the key. There is room for
/// a dozen views and locks in each sixty-fourth of the map.
/// Blocking, threads, fork: as `shoal_map_get`; any thread may read and release it. In a forked
/// child the parent's views must not be used.
/// Ownership: `*out` is yours until `shoal_map_release`, and until the handle is freed. If this
/// process dies, the memory is the map's again.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_EXHAUSTED (too many views);
/// SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
///
/// ```c
/// shoal_view view;
/// if (shoal_map_view(m, "weights", 7, &view) == SHOAL_OK) {
///     double sum = add_up(view.data, view.len);
///     if (shoal_map_release(m, &view) != SHOAL_OK)
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
        let (out, map) = unsafe { (Out::preset("out", out, View::NONE)?, map(m)?) };
        // SAFETY: the caller's contract.
        let key = unsafe { args::bytes("key", key, key_len) }?;
        let view = map.view(key)?.ok_or_else(|| no_such(key))?;
        out.set(view.into_pinned().into());
        Ok(())
    })
}

/// Lets go of a view.
///
/// Blocking, threads, fork: as `shoal_map_set`. Not in a forked child of the process that has it.
/// Ownership: the view is spent, unless this fails.
///
/// Errors: SHOAL_ERR_INVALID (spent, another process's, NULL); SHOAL_ERR_POISONED;
/// SHOAL_ERR_CORRUPT.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_release(m: *mut MapHandle, view: *mut View) -> Status {
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
