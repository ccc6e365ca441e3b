//! One bridged map: changes made here are sent to the bucket, and changes of the bucket are applied to the local
//! map.
//!
//! # What a kill of the bridge leaves
//! A request is marked as done only after the server has stored it. A request that is not marked is sent again by
//! the next bridge with the same id, and the server counts it once. The next bridge first compares the local map
//! with the whole bucket.

mod mirror;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::stream::Stream;
use shoal::{Map, MapRelay, Options, RelayOptions};
use tokio::sync::{Notify, mpsc};

use crate::bridge::Settings;
use crate::change::{CHANGE_HEADERS, Sender, Waiting};
use crate::counters::{Counters, MapCounters};
use crate::error::{Error, Result};
use crate::link::{Link, Links};
use crate::missing::Missing;
use crate::names::Names;
use crate::options::Carried;
use crate::queue::SLICE;
use crate::requests::MOST_COPIED;
use crate::settings;
use crate::threads::Threads;
use crate::watch::Watcher;

/// The longest value that is accepted, in bytes: the default limit of a server, minus the size of headers.
const MAX_VALUE: u64 = ((1 << 20) - CHANGE_HEADERS) as u64;
/// How many requests may wait to be sent.
const AHEAD: usize = 1024;

/// A map of which this process is the relay.
pub(crate) struct BridgedMap {
    pub(crate) carried: Carried,
    pub(crate) names: Names,
    pub(crate) relay: Arc<MapRelay>,
    pub(crate) counters: Arc<MapCounters>,
    pub(crate) bridge_counters: Arc<Counters>,
    /// Keys to which a change was applied before the watch reported it, and its revision. Earlier revisions
    /// that the watch reports for them are old.
    ahead: Mutex<HashMap<Vec<u8>, u64>>,
    /// Whether the watch is reporting the whole bucket.
    is_comparing: AtomicBool,
    /// The bucket that was compared last.
    compared: Mutex<Compared>,
    /// Keys without room. Locked after `ahead`.
    missing: Mutex<Missing>,
    /// Notified when a key is missing.
    has_missing: Notify,
    /// Notified when the whole bucket is to be compared because of the missing keys.
    must_compare: Notify,
}

/// What is known about a bucket.
#[derive(Default)]
struct Compared {
    created: Option<DateTime>,
    /// The highest revision that it had.
    revision: u64,
    /// Whether the local map may have values of another bucket of that name, or values that the server has lost.
    /// Otherwise an entry of a lower revision than the local one comes from a server of a cluster that is behind.
    is_other: bool,
    /// While it is compared and `is_other`: the keys that the watch has reported, and their revisions.
    reported: HashMap<Vec<u8>, u64>,
}

/// Opens or creates the local map.
///
/// # Errors
/// `Object`; `Invalid` if it has keys that are not to be discarded, and was not relayed before.
pub(crate) fn open_local(carried: &Carried) -> Result<Arc<Map>> {
    let failed = |why| Error::object(&carried.name, why);
    let map = Map::with_options(Some(&carried.name), &Options::create().persistent());
    let map = map.map_err(failed)?;
    let keys = map.len().map_err(failed)?;
    if keys > 0 && !map.is_relayed() && !carried.discard {
        let why = format!(
            "it has {keys} keys, and was not bridged before; `--map {}:discard` removes them",
            carried.name
        );
        return Err(Error::invalid(format!("map {}", carried.name), why));
    }
    Ok(Arc::new(map))
}

/// The options with which a bridge becomes the relay of a map.
pub(crate) fn relay_options(carried: &Carried) -> RelayOptions {
    let mut options = RelayOptions::new().max_payload(MAX_VALUE);
    options.sets_wait = carried.sets_wait;
    options.discard = carried.discard;
    options
}

impl BridgedMap {
    pub(crate) fn new(carried: Carried, relay: MapRelay, settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            names: Names::new(&settings.prefix, &carried.name),
            relay: Arc::new(relay),
            counters: settings.counters.map(&carried.name),
            bridge_counters: settings.counters.clone(),
            ahead: Mutex::default(),
            is_comparing: false.into(),
            compared: Mutex::default(),
            missing: Mutex::default(),
            has_missing: Notify::new(),
            must_compare: Notify::new(),
            carried,
        })
    }

    /// Creates or checks the bucket, and accepts values up to the limit of this server from now on.
    pub(crate) async fn set_up(&self, link: &Link) -> Result<Stream> {
        let limit = link.client.max_payload();
        let longest = (limit.saturating_sub(CHANGE_HEADERS) as u64).min(MAX_VALUE);
        if longest == 0 {
            let why = format!(
                "its max_payload is {limit} bytes, of which headers may take {CHANGE_HEADERS}; a map needs more"
            );
            return Err(Error::refused(format!("map {}", self.carried.name), why));
        }
        let set = self.relay.set_max_payload(longest);
        set.map_err(|why| Error::object(&self.carried.name, why))?;
        let made = settings::map_stream(&link.jetstream, &self.names, &self.carried.choices).await;
        self.bridge_counters
            .record_set_up(&self.carried.name, made.is_ok());
        made
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
        threads.task(
            format!("missing keys of {name}"),
            sender.clone().read_missing(),
        );
        threads.task(format!("changes of {name}"), sender.run(inbox));
        let watcher = Watcher {
            links: links.clone(),
            bucket: self.names.bucket.clone(),
            mirror: self.clone(),
            counters: self.counters.clone(),
            bridge_counters: self.bridge_counters.clone(),
            recounted: None,
        };
        let this = self.clone();
        threads.failing(
            format!("watch of {name}"),
            watcher.run(move |link| {
                let this = this.clone();
                async move { this.set_up(&link).await }
            }),
        );
    }

    fn read_requests(&self, to: &mpsc::Sender<Waiting>, threads: &Threads) {
        let copied = Arc::new(AtomicUsize::new(0));
        while !threads.is_ending() {
            if copied.load(Ordering::Relaxed) > MOST_COPIED {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            match self.relay.next_request(SLICE) {
                Ok(request) => {
                    if to.blocking_send(Waiting::new(request, &copied)).is_err() {
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
}
