//! Changes that depend on the old value: by version, by adding, by a function of the caller.

use super::entry::{Pair, fits};
use super::ops::Map;
use super::relayed::NewValue;
use crate::copy::Room;
use crate::error::{Error, Result};
use crate::sys::clock::Timeout;

impl Map {
    /// The value of `key` and its version; `None` if the map has no such key.
    ///
    /// No two values of a key have the same version, not even if the key was removed in between; later values
    /// have higher versions. A version is never 0.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn get_versioned(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>> {
        self.read(key, |value| (value.to_vec(), value.version()))
    }

    /// [`get_versioned`](Self::get_versioned) into `buf`, which need not be initialised: the value's length, and
    /// its version. `BufferTooSmall` with the length needed.
    pub(crate) fn get_versioned_to(
        &self,
        key: &[u8],
        buf: &mut Room,
    ) -> Result<Option<(usize, u64)>> {
        let read = self.read(key, |value| (value.copy_to(buf), value.version()))?;
        read.map(|(len, version)| Ok((fits(len, buf)?, version)))
            .transpose()
    }

    /// The version of `key`'s value; 0 if the map has no such key.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn version_of(&self, key: &[u8]) -> Result<u64> {
        Ok(self.read(key, |value| value.version())?.unwrap_or(0))
    }

    /// Changes the value of `key` to `new`, or removes it, if it still has this `version`; 0 stands for no
    /// value. True if it did.
    ///
    /// ```
    /// # let map = shoal::Map::anonymous()?;
    /// map.set(b"plan", b"a")?;
    /// let (plan, version) = map.get_versioned(b"plan")?.unwrap();
    /// map.set(b"plan", b"b")?; // another process was faster
    /// assert!(!map.compare_swap_version(b"plan", version, Some(b"c"))?);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn compare_swap_version(
        &self,
        key: &[u8],
        version: u64,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let swapped = self.swap_if(key, new, |found| found.version() == version)?;
        match swapped {
            Some(swapped) => Ok(swapped),
            None => self.request_swap_version(key, version, new),
        }
    }

    /// Adds `delta` to the counter `key` and returns its new value.
    ///
    /// The value is an `i64` of 8 bytes, least significant first. A key that is not there
    /// counts as 0. The sum wraps around. The key's expiry does not change.
    ///
    /// # Errors
    /// `Invalid` if the value is not 8 bytes long; and as for [`set`](Self::set).
    pub fn add(&self, key: &[u8], delta: i64) -> Result<i64> {
        self.add_with(key, |old| {
            let sum = i64::from_le_bytes(old).wrapping_add(delta);
            (sum, sum.to_le_bytes())
        })
    }

    /// [`add`](Self::add) for an IEEE 754 double of 8 bytes, least significant first.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn add_f64(&self, key: &[u8], delta: f64) -> Result<f64> {
        self.add_with(key, |old| {
            let sum = f64::from_le_bytes(old) + delta;
            (sum, sum.to_le_bytes())
        })
    }

    fn add_with<T>(&self, key: &[u8], sum: impl Fn([u8; 8]) -> (T, [u8; 8])) -> Result<T> {
        self.check(key, &[])?;
        let added = self.core.change(key, |shard, found| {
            let old = found.entry().map(|entry| entry.value());
            let (sum, bytes) = sum(counter(old)?);
            let pair = Pair::new(key, &bytes).expiring_at(found.expires());
            shard.store.write(found, &pair)?;
            Ok(sum)
        })?;
        match added {
            Some(sum) => Ok(sum),
            None => self.request_change(key, |old| {
                let (sum, bytes) = sum(counter(old.map(|old| &old.value[..]))?);
                let life = old.and_then(|old| old.life);
                Ok((sum, NewValue::Set(bytes.to_vec(), life)))
            }),
        }
    }

    /// Replaces the value of `key` by what `function` returns for it, and returns that; `None` stands for no
    /// value.
    ///
    /// The [key is locked](Self::lock_key) meanwhile, so that updates of it exclude each other; the map is
    /// not locked. If another operation changes the key meanwhile, `function` is called again with the new
    /// value. A process that is killed in this call leaves the old value or the new one. In a map with a
    /// [relay](crate::MapRelay) the key is not locked: the relay's answer decides whether `function` is
    /// called again. A child that is forked in `function` does not have the lock: there the call changes nothing
    /// and is an error.
    ///
    /// ```
    /// # let map = shoal::Map::anonymous()?;
    /// let append = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"x"].concat());
    /// map.update(b"log", append)?;
    /// assert_eq!(map.update(b"log", append)?, Some(b"xx".to_vec()));
    /// # Ok::<(), shoal::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`lock_key`](Self::lock_key) and [`set`](Self::set); `Invalid` in a forked child.
    pub fn update(
        &self,
        key: &[u8],
        mut function: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        if self.is_relayed() {
            return self.request_change(key, |old| {
                let new = function(old.map(|old| &old.value[..]));
                let change = new
                    .clone()
                    .map_or(NewValue::Remove, |new| NewValue::Set(new, None));
                Ok((new, change))
            });
        }
        let guard = match self.lock_key(key, Timeout::Infinite) {
            // A relay has attached since the check above.
            Err(Error::Unsupported { .. }) if self.is_relayed() => {
                return self.update(key, function);
            }
            locked => locked?,
        };
        loop {
            let old = self.get_versioned(key)?;
            let (value, version) = match &old {
                Some((value, version)) => (Some(&value[..]), *version),
                None => (None, 0),
            };
            let new = function(value);
            guard.check()?;
            if self.compare_swap_version(key, version, new.as_deref())? {
                return Ok(new);
            }
        }
    }
}

/// The bytes of a number; zeros if there is no value.
fn counter(old: Option<&[u8]>) -> Result<[u8; 8]> {
    let Some(value) = old else {
        return Ok([0; 8]);
    };
    value.try_into().map_err(|_| {
        let why = format!("it has {} bytes; a number has 8", value.len());
        Error::invalid("value", why)
    })
}
