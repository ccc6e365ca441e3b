//! More of `shoal_map`: versions, numbers, many keys at once, keys that expire, locks of keys, and
//! waiting for a change.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

use super::args::{self, Out, SHOAL_FOREVER, Slice};
use super::map::{MapHandle, at, map, no_such};
use super::status::guard;
use crate::error::{Error, Status};

/// How long a key lives; `None` without limit.
fn life(life_ns: i64) -> Option<Duration> {
    u64::try_from(life_ns).ok().map(Duration::from_nanos)
}

/// The version of a key's value, as `shoal_map_get` reports it; 0 if there is no such key.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_version(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    out: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        out.set(map.version_of(key)?);
        Ok(())
    })
}

/// Gives a key a new value if its value still has a version.
///
/// `version`: 0 expects that the key is not there.
/// `desired`: NULL (with length 0) removes the key.
/// `*swapped`: whether the version was the expected one.
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
        let swapped = unsafe { Out::optional("swapped", swapped) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        let new = unsafe { args::bytes("desired", desired, desired_len) }?;
        let new = (!desired.is_null()).then_some(new);
        swapped.set(map.compare_swap_version(key, version, new)?);
        Ok(())
    })
}

/// Adds to a counter: a value of 8 bytes, an `int64_t` with its least significant byte first. A key that
/// is not there counts as 0. The sum wraps around. No addition is lost.
///
/// `*sum`: the new value.
///
/// Errors: SHOAL_ERR_INVALID (the value does not have 8 bytes); as `shoal_map_set`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_add(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    delta: i64,
    sum: *mut i64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let sum = unsafe { Out::optional("sum", sum) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        sum.set(map.add(key, delta)?);
        Ok(())
    })
}

/// Adds to a number, as `shoal_map_add`: a `double` of 8 bytes, least significant byte first.
///
/// Errors: as `shoal_map_add`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_add_f64(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    delta: f64,
    sum: *mut f64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let sum = unsafe { Out::optional("sum", sum) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        sum.set(map.add_f64(key, delta)?);
        Ok(())
    })
}

/// Gives many keys their values, with each part of the map locked once. Of equal keys the last one
/// counts. It is not atomic: after an error or a kill some are set.
///
/// `keys`, `values`: `n` of each.
///
/// Errors: as `shoal_map_set`. What is too large is refused before anything is set.
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
/// `keys`, `values`: `n` of each. `buf`, `capacity`: where the values go, in any order. `*len`: how many
/// bytes of it are used. `values[i]` is set to where in `buf` the value of `keys[i]` is, with `data` NULL if
/// there is no such key.
///
/// Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`values` are untouched).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_get_many(
    m: *mut MapHandle,
    keys: *const Slice,
    n: usize,
    buf: *mut c_void,
    capacity: usize,
    len: *mut usize,
    values: *mut Slice,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (len, map) = unsafe { (Out::preset("len", len, 0)?, map(m)?) };
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

/// Gives a key a value for a time; after that it is as if it had been removed. `shoal_map_set` makes the key
/// stay without limit again.
///
/// `life_ns`: for how long; SHOAL_FOREVER without limit. The time in which the machine is suspended does not
/// count.
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
        let (map, key) = unsafe { at(m, key, key_len) }?;
        // SAFETY: the caller's contract.
        let value = unsafe { args::bytes("value", value, value_len) }?;
        match life(life_ns) {
            Some(life) => map.set_for(key, value, life),
            None => map.set(key, value),
        }
    })
}

/// Makes a key expire some time from now.
///
/// `life_ns`: after how long; SHOAL_FOREVER for never. The time in which the machine is suspended does not
/// count.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key); as `shoal_map_set`.
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
        let (map, key) = unsafe { at(m, key, key_len) }?;
        match map.expire(key, life(life_ns))? {
            true => Ok(()),
            false => Err(no_such(key)),
        }
    })
}

/// How long it is until a key expires.
///
/// `*out`: nanoseconds; SHOAL_FOREVER if it does not expire.
///
/// Errors: SHOAL_ERR_NOT_FOUND (no such key).
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
        let out = unsafe { Out::new("out", out) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        let left = map.time_left(key)?.ok_or_else(|| no_such(key))?;
        out.set(left.map_or(SHOAL_FOREVER, |left| {
            i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)
        }));
        Ok(())
    })
}

/// Removes every key that has expired. Changes of other keys remove them gradually, too.
///
/// `*removed`: how many there were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_purge(m: *mut MapHandle, removed: *mut u64) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let removed = unsafe { Out::optional("removed", removed) }?;
        removed.set(0);
        // SAFETY: the caller's contract.
        removed.set(unsafe { map(m) }?.purge()? as u64);
        Ok(())
    })
}

/// Locks a key, which need not be there, for work in several steps. It only prevents others from locking the
/// same key. There is no order of arrival: the first thread that tries gets the lock. A waiter that was passed
/// over is served next, so none starves.
///
/// Each part of the map has room for twelve locks and views; while that is full, the call waits as for the
/// lock. Locking several keys is safe from deadlock if all processes do it in the same order and hold few at a
/// time.
///
/// `*owner_died`: see "Locks". Any thread may unlock it. A forked child does not have the lock.
///
/// Errors: SHOAL_ERR_INVALID (this thread has locked it already); SHOAL_ERR_EXHAUSTED (this thread itself has
/// all twelve locks of that part of the map); SHOAL_ERR_TOO_LARGE.
///
/// ```c
/// bool owner_died;
/// if (shoal_map_lock_key(m, "ledger", 6, SHOAL_FOREVER, &owner_died) == SHOAL_OK) {
///     if (owner_died)
///         check_the_ledger();
///     work_on_the_ledger();
///     if (shoal_map_unlock_key(m, "ledger", 6) != SHOAL_OK)
///         fprintf(stderr, "%s\n", shoal_last_error());
/// }
/// ```
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_lock_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    timeout_ns: i64,
    owner_died: *mut bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let owner_died = unsafe { Out::optional("owner_died", owner_died) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        let guard = map.lock_key(key, args::timeout(timeout_ns))?;
        owner_died.set(guard.owner_died());
        std::mem::forget(guard);
        Ok(())
    })
}

/// Unlocks a key that this process has locked through this handle.
///
/// Errors: SHOAL_ERR_INVALID (it is not locked, or by another process).
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_unlock_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        map.unlock_key(key)
    })
}

/// Waits until a map's counter `changes` (see `shoal_map_stats`) differs from `seen`.
///
/// `*now`: the counter. It does not say what was changed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_wait_change(
    m: *mut MapHandle,
    seen: u64,
    timeout_ns: i64,
    now: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let (now, map) = unsafe { (Out::new("now", now)?, map(m)?) };
        now.set(map.wait_change(seen, args::timeout(timeout_ns))?);
        Ok(())
    })
}

/// Waits until the version of a key's value differs from `seen`: until the value is set or removed, or
/// expires. Changes that follow each other quickly may be seen as one.
///
/// `seen`: 0 for a key that is not there. `*now`: the version.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shoal_map_wait_key(
    m: *mut MapHandle,
    key: *const c_void,
    key_len: usize,
    seen: u64,
    timeout_ns: i64,
    now: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let now = unsafe { Out::new("now", now) }?;
        // SAFETY: the caller's contract.
        let (map, key) = unsafe { at(m, key, key_len) }?;
        now.set(map.wait_key(key, seen, args::timeout(timeout_ns))?);
        Ok(())
    })
}
