//! Many keys in one call, which locks each part of the map once.

use super::entry::{Pair, Value};
use super::hash::{Hash, SHARDS};
use super::ops::Map;
use crate::error::Result;
use crate::sys::clock::now_ns;

impl Map {
    /// The values of `keys`, in their order; `None` for each that the map does not have.
    ///
    /// Keys in the same part of the map are read atomically; keys of different parts are not.
    ///
    /// # Errors
    /// `Poisoned`, `Corrupt`.
    pub fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = vec![None; keys.len()];
        self.visit_many(keys, |index, value| {
            values[index] = value.map(Value::to_vec);
            Ok(())
        })?;
        Ok(values)
    }

    /// The same without a copy: `visit` is called with the index of each of `keys`, in no order,
    /// and its value, under the lock of its shard.
    pub(crate) fn visit_many(
        &self,
        keys: &[impl AsRef<[u8]>],
        mut visit: impl FnMut(usize, Option<Value>) -> Result<()>,
    ) -> Result<()> {
        for group in self.by_shard(keys.iter().map(AsRef::as_ref)).iter() {
            let Some((_, first)) = group.first() else {
                continue;
            };
            let shard = self.core.lock_for(*first)?;
            for (index, hash) in group {
                let found = shard.store.find(hash.tag, keys[*index].as_ref())?;
                visit(*index, found.entry().map(|entry| entry.pointed()))?;
            }
        }
        Ok(())
    }

    /// Sets the value of each key. Of equal keys, the last one counts.
    ///
    /// Each key is set atomically, as by [`set`](Self::set); the list as a whole is not atomic. After an
    /// error or a kill some keys are set, not necessarily the first ones of the list. In an ordered map, new
    /// keys are in the order of the list.
    ///
    /// # Errors
    /// As for [`set`](Self::set). `TooLarge` is returned before anything is set.
    pub fn set_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, items: &[(K, V)]) -> Result<()> {
        for (key, value) in items {
            self.check(key.as_ref(), value.as_ref())?;
        }
        let began = self.is_ordered().then(now_ns);
        for group in self
            .by_shard(items.iter().map(|(key, _)| key.as_ref()))
            .iter()
        {
            let Some((_, first)) = group.first() else {
                continue;
            };
            let set_all = || {
                let shard = self.core.lock_for(*first)?;
                if self.core.is_relayed() {
                    return Ok(false);
                }
                // One nanosecond each: setting a key takes longer, so the times do not run ahead.
                let set = |(index, hash): &(usize, Hash)| {
                    let (key, value) = &items[*index];
                    let (key, value) = (key.as_ref(), value.as_ref());
                    let found = shard.store.find(hash.tag, key)?;
                    let pair = Pair::new(key, value);
                    let pair = began.map_or(pair, |began| pair.inserted_at(began + *index as u64));
                    shard.store.write(&found, &pair)
                };
                let set = group.iter().try_for_each(set);
                drop(shard);
                self.core.notify_changed(first.shard as usize);
                set.map(|()| true)
            };
            if !self.core.retry_if_full(set_all(), set_all)? {
                for (index, _) in group {
                    let (key, value) = &items[*index];
                    self.set(key.as_ref(), value.as_ref())?;
                }
            }
        }
        Ok(())
    }

    /// Indices of keys and their hashes, grouped by shard, in the order of the keys.
    fn by_shard<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> [Vec<(usize, Hash)>; SHARDS] {
        let mut groups = [const { Vec::new() }; SHARDS];
        for (index, key) in keys.enumerate() {
            let hash = self.core.hasher.hash(key);
            groups[hash.shard as usize % SHARDS].push((index, hash));
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// Keys of one part of the map.
    fn keys_of_one_part(map: &Map) -> Vec<Vec<u8>> {
        let all = (0..10_000u32).map(|it| it.to_le_bytes().to_vec());
        let shard = |key: &[u8]| map.core.hasher.hash(key).shard;
        all.filter(|key| shard(key) == 7).take(50).collect()
    }

    #[test]
    fn keys_of_one_part_are_set_and_read_at_the_same_moment() {
        let map = Map::anonymous().unwrap();
        let keys = keys_of_one_part(&map);
        assert_eq!(keys.len(), 50);
        let set = |number: u64| {
            let items: Vec<_> = keys.iter().map(|key| (key, number.to_le_bytes())).collect();
            map.set_many(&items).unwrap();
        };
        set(0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..3000 {
                    set(number);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let values = map.get_many(&keys).unwrap();
                assert!(values.iter().all(|value| *value == values[0]));
            }
        });
    }

    #[test]
    fn after_a_panic_under_the_lock_the_next_owner_repairs() {
        let map = Map::anonymous().unwrap();
        map.set(b"k", b"v").unwrap();
        let visit = || map.visit_many(&[b"k"], |_, _| panic!("the caller's"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(visit)).is_err());
        assert_eq!(map.get_vec(b"k").unwrap().unwrap(), b"v");
        map.set(b"k", b"w").unwrap();
        map.verify().unwrap();
    }
}
