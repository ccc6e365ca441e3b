//! The keys of a bucket for whose values the local map had no room, although it may have room later. They are absent
//! from the local map, because readers must not take an old value for the present one. Each is read again from the
//! leader of the bucket until it is in the local map, or until the watch reports another entry of it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::change::Sender;
use crate::exchange::Pause;
use crate::names;
use crate::watch::Change;

/// How many keys are remembered. Beyond it, the whole bucket is compared again.
const MOST: usize = 1024;
/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(15);

/// The missing keys of one map.
#[derive(Default)]
pub(crate) struct Missing {
    keys: HashMap<Vec<u8>, Key>,
    /// The number of the last entry of `keys`.
    serial: u64,
    /// Whether more keys are missing than are remembered.
    is_beyond: bool,
}

struct Key {
    /// The revision of its entry in the bucket.
    revision: u64,
    /// The size of its value.
    size: usize,
    serial: u64,
}

/// What is to be done for the missing keys.
pub(crate) enum Next {
    /// This key is to be read again. The number is passed to [`Missing::is_same`].
    Key(Vec<u8>, u64),
    /// The whole bucket is to be compared again.
    All,
}

/// Whether an error of the local map may pass.
pub(crate) fn may_pass(why: &shoal::Error) -> bool {
    use shoal::Error;
    matches!(
        why,
        Error::NoSpace { .. }
            | Error::NoInodes { .. }
            | Error::Busy { .. }
            | Error::Timeout
            | Error::Interrupted
    )
}

impl Missing {
    /// This entry of the bucket had no room.
    pub(crate) fn add(&mut self, change: &Change) {
        if self.keys.len() >= MOST && !self.keys.contains_key(&change.key) {
            self.is_beyond = true;
            return;
        }
        self.serial += 1;
        let key = Key {
            revision: change.revision,
            size: change.value.as_ref().map_or(0, |value| value.len()),
            serial: self.serial,
        };
        self.keys.insert(change.key.clone(), key);
    }

    /// The key is not missing any more.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        if !self.keys.is_empty() {
            self.keys.remove(key);
        }
    }

    /// No key is missing: the whole bucket is about to be reported.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.is_beyond = false;
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether more keys are missing than are remembered.
    pub(crate) fn is_beyond(&self) -> bool {
        self.is_beyond
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// Whether the key is missing, and this is its entry in the bucket or a later one.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        let key = self.keys.get(&change.key);
        key.is_some_and(|key| key.revision <= change.revision)
    }

    /// Whether the key is still missing for the entry for which [`next`](Self::next) returned this number.
    pub(crate) fn is_same(&self, key: &[u8], serial: u64) -> bool {
        self.keys.get(key).is_some_and(|key| key.serial == serial)
    }

    /// What to do next. The smallest value is tried first: if it does not fit, no other one does.
    pub(crate) fn next(&self) -> Option<Next> {
        if self.is_beyond {
            return Some(Next::All);
        }
        let smallest = self.keys.iter().min_by_key(|(_, key)| key.size);
        smallest.map(|(name, key)| Next::Key(name.clone(), key.serial))
    }
}

impl Sender {
    /// Reads the missing keys again, forever, with growing pauses while there is no room.
    pub(crate) async fn read_missing(mut self) {
        let mut pause = Pause::up_to(LONGEST);
        loop {
            let (key, serial) = match self.map.next_missing() {
                Some(Next::Key(key, serial)) => (key, serial),
                Some(Next::All) => {
                    tokio::time::sleep(pause.next()).await;
                    self.map.compare_again();
                    continue;
                }
                None => {
                    let since = Instant::now();
                    self.map.has_missing().await;
                    // A comparison that follows another one soon is no success.
                    if since.elapsed() > LONGEST {
                        pause.reset();
                    }
                    continue;
                }
            };
            if self.read_again(&key, serial).await {
                pause.reset();
            } else {
                tokio::time::sleep(pause.next()).await;
            }
        }
    }

    /// Reads a missing key again. Whether it is not missing any more.
    async fn read_again(&mut self, key: &[u8], serial: u64) -> bool {
        let (link, _) = self.links.up().await;
        // Only a key of the bucket is missing.
        let word = names::escape_key(key).unwrap_or_default();
        let subject = format!("$KV.{}.{word}", self.map.names.bucket);
        match self.read_latest(&link, &subject, key).await {
            Ok(latest) => {
                let change = latest.map(|latest| latest.change);
                self.map.apply_again(key, serial, change)
            }
            Err(why) => {
                self.map.bridge_counters.record_error(&why.to_string());
                false
            }
        }
    }
}
