//! One bridged map: changes made here go to the bucket, and what the bucket says comes into the local map.
//!
//! # What a kill of the bridge leaves
//! A request is done after the server has stored it: it is sent again, with the same id, and counts once. The
//! next bridge compares the local map with the whole bucket before anything else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use shoal::{Map, MapRelay, Options, RelayOptions};
use tokio::sync::mpsc;

use crate::bridge::Settings;
use crate::change::Sender;
use crate::counters::{Counters, MapCounters};
use crate::error::{Error, Result};
use crate::link::{Link, Links};
use crate::names::Names;
use crate::options::Carried;
use crate::queue::{SLICE, lock};
use crate::settings;
use crate::threads::Threads;
use crate::watch::{Change, Mirror, Watcher};

/// The longest value that is accepted, in bytes, where the server's limit is not known yet: that of a
/// server as it is delivered, less what headers may take.
const MAX_VALUE: u64 = (1 << 20) - 8192;
/// A revision above all others.
const TOP: u64 = u64::MAX / 2;
/// How many requests may wait to be sent.
const AHEAD: usize = 1024;

/// A map of which this process is the relay.
pub(crate) struct BridgedMap {
    pub(crate) carried: Carried,
    pub(crate) names: Names,
    pub(crate) relay: Arc<MapRelay>,
    pub(crate) counters: Arc<MapCounters>,
    pub(crate) all: Arc<Counters>,
    /// Keys to which a change was applied before the watch told it, and its revision. What the watch tells
    /// of them before that is old.
    ahead: Mutex<HashMap<Vec<u8>, u64>>,
    /// Whether the watch is telling the whole bucket.
    is_whole: std::sync::atomic::AtomicBool,
}

/// Opens or creates the local map, and becomes its relay, waiting while another bridge is; `None` if the
/// bridge ends meanwhile.
pub(crate) fn attach(carried: &Carried, threads: &Threads) -> Result<Option<MapRelay>> {
    let failed = |why| Error::object(&carried.name, why);
    let map = Map::with_options(Some(&carried.name), &Options::create().persistent());
    let map = Arc::new(map.map_err(failed)?);
    let options = RelayOptions::new().max_payload(MAX_VALUE);
    let options = if carried.sets_wait {
        options.sets_wait()
    } else {
        options
    };
    let options = if carried.discard {
        options.discard()
    } else {
        options
    };
    while !threads.is_ending() {
        match MapRelay::attach(map.clone(), &options, SLICE) {
            Ok(relay) => return Ok(Some(relay)),
            Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {}
            Err(why) => return Err(failed(why)),
        }
    }
    Ok(None)
}

impl BridgedMap {
    pub(crate) fn new(carried: Carried, relay: MapRelay, settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            names: Names::new(&settings.prefix, &carried.name),
            relay: Arc::new(relay),
            counters: settings.counters.map(&carried.name),
            all: settings.counters.clone(),
            ahead: Mutex::default(),
            is_whole: false.into(),
            carried,
        })
    }

    /// Makes or checks the bucket.
    pub(crate) async fn set_up(&self, link: &Link) -> Result<Stream> {
        settings::map_stream(&link.jetstream, &self.names, &self.carried.choices).await
    }

    /// Starts the threads and tasks. They run until the bridge ends.
    pub(crate) fn start(self: &Arc<Self>, links: &Links, threads: &Arc<Threads>) {
        let name = &self.carried.name;
        let (requests, inbox) = mpsc::channel(AHEAD);
        let (this, ending) = (self.clone(), threads.clone());
        threads.spawn(format!("changes of {name}"), move || {
            this.read_requests(&requests, &ending)
        });
        let sender = Sender::new(self.clone(), links.clone());
        threads.task(format!("changes of {name}"), sender.run(inbox));
        let watcher = Watcher {
            links: links.clone(),
            bucket: self.names.bucket.clone(),
            mirror: self.clone(),
            counters: self.counters.clone(),
            all: self.all.clone(),
        };
        let this = self.clone();
        threads.task(
            format!("watch of {name}"),
            watcher.run(move |link| {
                let this = this.clone();
                async move { this.set_up(&link).await }
            }),
        );
    }

    fn read_requests(&self, to: &mpsc::Sender<shoal::MapRequest>, threads: &Threads) {
        while !threads.is_ending() {
            match self.relay.next_request(SLICE) {
                Ok(request) => {
                    if to.blocking_send(request).is_err() {
                        return;
                    }
                }
                Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {}
                Err(why) => {
                    tracing::warn!(map = self.carried.name, %why, "a request cannot be read");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Applies what the server is known to have, before the watch tells it: the program that asked reads
    /// what it wrote.
    pub(crate) fn apply_ahead(&self, change: &Change) {
        let mut ahead = lock(&self.ahead);
        let known = ahead.entry(change.key.clone()).or_default();
        if *known > change.revision {
            return;
        }
        // The watch may be further than this already; then it tells nothing of the key any more.
        if change.revision <= self.relay.revision() {
            ahead.remove(&change.key);
            return;
        }
        *known = change.revision;
        self.write(change);
    }

    /// Writes a change to the local map. True if it is there now, or a later one is.
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
        if let Err(why) = done {
            // The old value would be taken for the present one.
            let _ = self.relay.remove(key, TOP);
            self.counters.undecodable.add(1);
            self.all
                .went_wrong(&format!("{}: a key does not fit: {why}", self.carried.name));
        }
    }

    /// Writes what the bucket has for the key, whatever the local map has.
    fn force(&self, change: &Change) {
        let has = self.relay.map().get_versioned(&change.key);
        let wanted = change
            .value
            .as_ref()
            .map(|value| (value.to_vec(), change.revision));
        if has.as_ref().ok() == Some(&wanted) {
            return;
        }
        // Of another history: a bucket of this name that is no more.
        if matches!(has, Ok(Some((_, version))) if version >= change.revision) {
            let _ = self.relay.remove(&change.key, TOP);
        }
        self.write(change);
    }
}

impl Mirror for BridgedMap {
    fn begin(&self) {
        self.is_whole
            .store(true, std::sync::atomic::Ordering::Relaxed);
        // Until the whole bucket was read, revisions of another history are not to be believed.
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
        if self.is_whole.load(std::sync::atomic::Ordering::Relaxed) {
            return self.force(&change);
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
        self.is_whole
            .store(false, std::sync::atomic::Ordering::Relaxed);
        let _ = self.relay.set_revision(revision);
    }

    fn len(&self) -> u64 {
        self.relay.map().len().unwrap_or(0) as u64
    }
}
