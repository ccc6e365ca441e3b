//! What the bucket has is applied to the local map, in the order of the bucket's revisions.
//!
//! The watch of the bucket reports each entry. A change that was made here is applied when the server has stored
//! it, *ahead* of the watch. After each connection the watch reports the whole bucket, with which the local map is
//! *compared*. A key for which the local map has no room is *missing*, and is read again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use async_nats::datetime::DateTime;

use super::{BridgedMap, Compared};
use crate::missing;
use crate::queue::lock;
use crate::watch::{Change, Mirror};

/// A revision above all others.
const TOP: u64 = u64::MAX / 2;

impl BridgedMap {
    /// Applies a change that the server has stored, before the watch reports it, so that the program reads its
    /// own write.
    pub(crate) fn apply_ahead(&self, change: &Change) {
        self.apply_early(&mut lock(&self.ahead), change);
    }

    fn apply_early(&self, ahead: &mut HashMap<Vec<u8>, u64>, change: &Change) {
        let known = ahead.entry(change.key.clone()).or_default();
        if *known > change.revision {
            return;
        }
        // The watch may have passed this revision already. Then it does not report it again.
        if change.revision <= self.relay.revision() {
            ahead.remove(&change.key);
            if lock(&self.missing).wants(change) {
                self.write(change);
            }
            return;
        }
        if !self.is_comparing.load(Ordering::Relaxed) {
            *known = change.revision;
            return self.write(change);
        }
        let compared = lock(&self.compared);
        if compared.reported.get(&change.key) > Some(&change.revision) {
            ahead.remove(&change.key);
            return;
        }
        *known = change.revision;
        // The local value may be of another bucket, where it had a higher revision.
        match compared.is_other {
            true => self.force(change),
            false => self.write(change),
        }
    }

    /// What to do for the missing keys.
    pub(crate) fn next_missing(&self) -> Option<missing::Next> {
        lock(&self.missing).next()
    }

    /// Waits until a key is missing.
    pub(crate) async fn has_missing(&self) {
        self.has_missing.notified().await;
    }

    /// Has the map compared with the whole bucket.
    pub(crate) fn compare_again(&self) {
        self.must_compare.notify_one();
    }

    /// Applies what the bucket has for a missing key, which had this number before it was read. Whether the key is not
    /// missing any more.
    pub(crate) fn apply_again(&self, key: &[u8], serial: u64, latest: Option<Change>) -> bool {
        let mut ahead = lock(&self.ahead);
        // Otherwise the watch has reported another entry meanwhile, or the entries of another bucket.
        if lock(&self.missing).is_same(key, serial) {
            match latest {
                Some(change) => self.apply_early(&mut ahead, &change),
                None => self.forget_missing(key),
            }
        }
        !lock(&self.missing).contains(key)
    }

    /// Whether there is no room here for this entry of the bucket.
    pub(crate) fn has_no_room_for(&self, change: &Change) -> bool {
        let missing = lock(&self.missing);
        change.value.is_some()
            && (missing.contains(&change.key)
                || missing.is_beyond() && self.version(&change.key) == 0)
    }

    fn forget_missing(&self, key: &[u8]) {
        let mut missing = lock(&self.missing);
        missing.forget(key);
        self.counters.missing.set(missing.len() as u64);
    }

    /// The version of a key in the local map; 0 if it has none.
    pub(crate) fn version(&self, key: &[u8]) -> u64 {
        self.relay.map().version_of(key).unwrap_or(0)
    }

    /// Removes a key of which the bucket has no entry any more, unless it has a later version than this one.
    pub(crate) fn purged(&self, key: &[u8], version: u64) {
        let _ahead = lock(&self.ahead);
        // The watch has not reported a later revision, or a comparison will decide.
        if version <= self.relay.revision() {
            let _ = self.relay.remove(key, version + 1);
        }
    }

    /// Writes a change to the local map, unless the map has a later one.
    fn write(&self, change: &Change) {
        let Change {
            key,
            value,
            revision,
            life,
        } = change;
        let done = match value {
            Some(value) => self.relay.deliver(key, value, *revision, *life),
            None => self.relay.remove(key, *revision),
        };
        let Err(why) = done else {
            return self.forget_missing(key);
        };
        // The key is removed, because readers must not take the old value for the present one.
        let _ = self.relay.remove(key, TOP);
        let map = &self.carried.name;
        if missing::may_pass(&why) {
            let mut missing = lock(&self.missing);
            missing.add(change);
            self.counters.missing.set(missing.len() as u64);
            self.has_missing.notify_one();
            self.bridge_counters.record_error(&format!(
                "{map}: a key is absent here, and is read again: {why}"
            ));
        } else {
            self.forget_missing(key);
            self.counters.undecodable.add(1);
            self.bridge_counters
                .record_error(&format!("{map}: a key does not fit: {why}"));
        }
    }

    /// Writes the bucket's entry for the key, even over a higher revision in the local map.
    fn force(&self, change: &Change) {
        let has = self.relay.map().get_versioned(&change.key);
        let wanted = change
            .value
            .as_ref()
            .map(|value| (value.to_vec(), change.revision));
        if has.as_ref().ok() == Some(&wanted) {
            return;
        }
        // The local value comes from an earlier bucket of the same name, which was deleted.
        if matches!(has, Ok(Some((_, version))) if version >= change.revision) {
            let _ = self.relay.remove(&change.key, TOP);
        }
        self.write(change);
    }
}

impl Mirror for BridgedMap {
    fn begin(&self, created: DateTime, revision: u64) {
        let mut ahead = lock(&self.ahead);
        let mut compared = lock(&self.compared);
        let known = ahead.values().copied().max().unwrap_or(0);
        let known = known.max(compared.revision).max(self.relay.revision());
        let is_other = compared.created != Some(created) || revision < known;
        if is_other {
            ahead.clear();
        }
        *compared = Compared {
            created: Some(created),
            revision,
            // This stays true until a comparison is complete.
            is_other: is_other || compared.is_other,
            reported: HashMap::new(),
        };
        self.is_comparing.store(true, Ordering::Relaxed);
        // Those that have no room are found again.
        lock(&self.missing).clear();
        self.counters.missing.set(0);
        // Until the whole bucket is read, local revisions may come from an earlier bucket.
        let _ = self.relay.set_revision(0);
    }

    fn apply(&self, change: Change) {
        let mut ahead = lock(&self.ahead);
        if let Some(&known) = ahead.get(&change.key) {
            if change.revision < known {
                return;
            }
            ahead.remove(&change.key);
        }
        if self.is_comparing.load(Ordering::Relaxed) {
            let mut compared = lock(&self.compared);
            if !compared.is_other {
                return self.write(&change);
            }
            self.force(&change);
            compared.reported.insert(change.key, change.revision);
            return;
        }
        self.write(&change);
        let _ = self.relay.set_revision(change.revision);
    }

    fn complete(&self, seen: &HashSet<Vec<u8>>, revision: u64) {
        let mut ahead = lock(&self.ahead);
        ahead.retain(|_, known| *known > revision);
        for entry in self.relay.map().iter() {
            let Ok((key, _)) = entry else { continue };
            if !seen.contains(&key) && !ahead.contains_key(&key) {
                let _ = self.relay.remove(&key, TOP);
            }
        }
        self.is_comparing.store(false, Ordering::Relaxed);
        let mut compared = lock(&self.compared);
        compared.is_other = false;
        compared.reported = HashMap::new();
        let _ = self.relay.set_revision(revision);
    }

    fn len(&self) -> u64 {
        self.relay.map().len().unwrap_or(0) as u64
    }

    async fn must_compare(&self) {
        loop {
            self.must_compare.notified().await;
            // Otherwise a comparison has begun meanwhile.
            if lock(&self.missing).is_beyond() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures_util::FutureExt;

    use std::sync::Arc;

    use super::*;
    use crate::bridge::Settings;
    use crate::large::Large;
    use crate::options::Carried;
    use crate::queue::SLICE;
    use shoal::{Map, MapRelay, Options, RelayOptions};

    /// A bridged map, without a server. Its name is removed at the end.
    struct TestMap(Arc<BridgedMap>);

    impl TestMap {
        fn new() -> Self {
            Self::with(&Options::create().persistent())
        }

        fn with(options: &Options) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("compared-{}-{number}", std::process::id());
            let map = Map::with_options(Some(&name), options).unwrap();
            let relay = MapRelay::attach(Arc::new(map), &RelayOptions::new(), SLICE).unwrap();
            let settings = Settings {
                prefix: "tests".to_owned(),
                counters: Arc::default(),
                large: Arc::new(Large::new("large".to_owned(), 1, None)),
                queues: Vec::new(),
            };
            Self(BridgedMap::new(Carried::new(&name), relay, &settings))
        }

        fn apply(&self, revision: u64) {
            self.0.apply(Self::change(revision));
        }

        /// Key `k` has its revision as its value.
        fn change(revision: u64) -> Change {
            Change {
                key: b"k".to_vec(),
                value: Some(revision.to_string().into()),
                revision,
                life: None,
            }
        }

        /// Compares with a bucket, in which the key has this revision, and returns the value afterwards.
        fn compare(&self, created: DateTime, last: u64, revision: u64) -> u64 {
            self.0.begin(created, last);
            self.apply(revision);
            self.0.complete(&HashSet::from([b"k".to_vec()]), last);
            self.value()
        }

        fn value(&self) -> u64 {
            let value = self.0.relay.map().get_vec(b"k").unwrap().unwrap();
            String::from_utf8(value).unwrap().parse().unwrap()
        }
    }

    impl Drop for TestMap {
        fn drop(&mut self) {
            let _ = Map::unlink(&self.0.carried.name);
        }
    }

    fn created(second: i64) -> DateTime {
        DateTime::from_unix_timestamp(second).unwrap()
    }

    #[test]
    fn a_server_that_is_behind_never_shows_an_older_value() {
        let map = TestMap::new();
        assert_eq!(map.compare(created(0), 5, 5), 5);
        map.apply(9);
        assert_eq!(map.compare(created(0), 9, 7), 9);
        // The same holds after a comparison that was interrupted, and after a change that only this machine knows.
        map.0.begin(created(0), 9);
        assert_eq!(map.compare(created(0), 10, 8), 9);
        map.0.apply_ahead(&TestMap::change(12));
        assert_eq!(map.compare(created(0), 12, 9), 12);
        map.apply(13);
        assert_eq!(map.value(), 13);
    }

    #[test]
    fn values_of_an_earlier_bucket_and_lost_ones_are_replaced() {
        let map = TestMap::new();
        assert_eq!(map.compare(created(0), 5, 5), 5);
        // The server lost what was not on its disk.
        assert_eq!(map.compare(created(0), 3, 2), 2);
        map.0.apply_ahead(&TestMap::change(8));
        assert_eq!(map.compare(created(0), 7, 4), 4);
        assert_eq!(map.compare(created(1), 9, 1), 1);
        // An interrupted comparison with the other bucket is repeated.
        map.apply(20);
        map.0.begin(created(0), 21);
        assert_eq!(map.compare(created(0), 21, 6), 6);
    }

    #[test]
    fn a_change_made_during_the_comparison_with_another_bucket_replaces_its_value() {
        let map = TestMap::new();
        assert_eq!(map.compare(created(0), 20, 20), 20);
        map.0.begin(created(1), 3);
        map.0.apply_ahead(&TestMap::change(8));
        assert_eq!(map.value(), 8);
        // The watch reports what the bucket had when the comparison began, and then the change.
        map.apply(3);
        map.0.complete(&HashSet::from([b"k".to_vec()]), 3);
        assert_eq!(map.value(), 8);
        map.apply(8);
        map.apply(9);
        assert_eq!(map.value(), 9);
    }

    #[test]
    fn a_change_that_the_comparison_has_passed_does_not_replace_a_later_one() {
        let map = TestMap::new();
        assert_eq!(map.compare(created(0), 20, 20), 20);
        map.0.begin(created(1), 9);
        map.apply(9);
        map.0.apply_ahead(&TestMap::change(8));
        assert_eq!(map.value(), 9);
        map.0.complete(&HashSet::from([b"k".to_vec()]), 9);
        assert_eq!(map.value(), 9);
    }

    /// A map in which the value of this key, of this many bytes, has no room.
    fn without_room(key: &[u8], bytes: usize) -> TestMap {
        let map = TestMap::with(&Options::create().persistent().max_capacity(1 << 20));
        map.0.begin(created(0), 0);
        map.0.complete(&HashSet::new(), 0);
        map.0.apply(value(b"fill", 1, 200_000));
        map.0.apply(value(b"large", 2, 500_000));
        map.0.apply(value(key, 3, bytes));
        assert_eq!(map.0.version(key), 0);
        assert_eq!(map.0.counters.missing.get(), 1);
        map
    }

    fn value(key: &[u8], revision: u64, bytes: usize) -> Change {
        Change {
            key: key.to_vec(),
            value: Some(vec![7; bytes].into()),
            revision,
            life: None,
        }
    }

    fn removal(key: &[u8], revision: u64) -> Change {
        Change {
            value: None,
            ..value(key, revision, 0)
        }
    }

    fn serial(map: &TestMap) -> u64 {
        match map.0.next_missing() {
            Some(missing::Next::Key(_, serial)) => serial,
            _ => panic!("no key is missing"),
        }
    }

    #[test]
    fn a_key_without_room_is_there_when_it_is_read_again_and_there_is_room() {
        let map = without_room(b"k", 500_000);
        let read = value(b"k", 3, 500_000);
        assert!(map.0.has_no_room_for(&read));
        assert!(!map.0.apply_again(b"k", serial(&map), Some(read.clone())));
        map.0.apply(removal(b"large", 4));
        let before = serial(&map);
        assert!(map.0.apply_again(b"k", before, Some(read.clone())));
        assert_eq!((map.0.version(b"k"), map.0.counters.missing.get()), (3, 0));
        assert!(map.0.next_missing().is_none() && !map.0.has_no_room_for(&read));
    }

    #[test]
    fn an_entry_that_was_read_before_a_later_one_came_does_not_replace_it() {
        let map = without_room(b"k", 500_000);
        let before = serial(&map);
        map.0.apply(removal(b"k", 4));
        map.0.apply(removal(b"large", 5));
        assert!(map.0.apply_again(b"k", before, Some(value(b"k", 3, 9))));
        assert_eq!(map.0.version(b"k"), 0);
        // The same with a later value that has no room either.
        map.0.apply(value(b"large", 6, 500_000));
        map.0.apply(value(b"k", 7, 500_000));
        let before = serial(&map);
        map.0.apply(value(b"k", 8, 500_001));
        assert!(!map.0.apply_again(b"k", before, Some(value(b"k", 7, 9))));
        map.0.apply_ahead(&value(b"k", 7, 9));
        assert_eq!(map.0.version(b"k"), 0);
        // A key that the bucket has no more.
        assert!(map.0.apply_again(b"k", serial(&map), None));
    }

    #[test]
    fn more_keys_without_room_than_are_remembered_are_compared_with_the_whole_bucket() {
        let map = without_room(b"k", 500_000);
        for number in 0..1024u64 {
            let key = number.to_string();
            map.0.apply(value(key.as_bytes(), 4 + number, 500_000));
        }
        assert!(matches!(map.0.next_missing(), Some(missing::Next::All)));
        map.0.compare_again();
        map.0.must_compare().now_or_never().unwrap();
        map.0.begin(created(0), 2000);
        assert!(map.0.next_missing().is_none());
        map.0.compare_again();
        assert!(map.0.must_compare().now_or_never().is_none());
    }
}
