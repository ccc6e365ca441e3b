//! The counters of a bridge, for `status` and for metrics.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A number that only grows, or one that is set.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares counters, and the plain numbers that are read from them.
macro_rules! counters {
    ($(#[$of:meta])* $name:ident, $report:ident { $($(#[doc = $doc:literal])+ $kind:ident $field:ident,)+ }) => {
        $(#[$of])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $field: Count,)+
        }

        $(#[$of])*
        #[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $report {
            /// The object.
            pub name: String,
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl $name {
            pub(crate) fn report(&self, name: &str) -> $report {
                $report { name: name.to_owned(), $($field: self.$field.get(),)+ }
            }
        }

        impl $report {
            /// Each number: its name, its kind (`counter` or `gauge`), its description, and its value.
            pub(crate) fn numbers(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
                vec![$((stringify!($field), stringify!($kind), concat!($($doc),+).trim_ascii(), self.$field),)+]
            }
        }
    };
}

counters! {
    /// The counters of one queue.
    QueueCounters, QueueReport {
        /// Messages that were put here and that the server has stored.
        counter published,
        /// Of those, how many were stored already when the publish was repeated.
        counter repeated,
        /// Messages that were put here and that the server has not stored yet.
        gauge waiting,
        /// Publishes that the server has not answered yet.
        gauge publishing,
        /// 1 while the server refuses publishes because the stream is full.
        gauge full,
        /// Messages of the server that were put into the local queue.
        counter delivered,
        /// Of those, how many had been delivered before, here or elsewhere.
        counter redelivered,
        /// Messages of the server that are in the local queue, leased or not.
        gauge in_flight,
        /// Messages that workers here have acked, confirmed by the server.
        counter acked,
        /// Messages that workers here returned, or whose worker died, confirmed by the server.
        counter nacked,
        /// Messages that became dead letters here.
        counter dead_letters,
        /// Messages that could not be decoded here and were left to other machines.
        counter undecodable,
        /// Messages in the server's stream that are delivered to no machine, read every five seconds.
        gauge server_pending,
        /// Messages that the server has delivered to some machine and that are not acked, read every five seconds.
        gauge server_in_flight,
        /// How often pull requests were repeated because nothing came although the server had messages.
        counter stalls,
    }
}

counters! {
    /// The counters of one map.
    MapCounters, MapReport {
        /// Changes made here that the server has stored.
        counter sent,
        /// Changes made here that the server has not answered yet.
        gauge waiting,
        /// Compare-and-swaps made here that failed because the key had changed.
        counter conflicts,
        /// Changes that were refused, such as a value beyond the server's limit.
        counter refused,
        /// Changes of the server that were applied to the local map.
        counter applied,
        /// The last revision that was applied.
        gauge revision,
        /// How many revisions the local map was behind at the last check.
        gauge lag,
        /// How often the local map was compared with the whole bucket.
        counter resyncs,
        /// How often the watch was restarted.
        counter watches,
        /// Keys of the bucket that are not keys of a map, or are too large for the local map.
        gauge undecodable,
        /// Keys that are absent here because there is no room for their values now. They are read again.
        gauge missing,
    }
}

/// Everything about a bridge, as `shoal-bridge status --json` prints it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The bridge's process.
    pub pid: u32,
    /// The name of its machine.
    pub machine: String,
    /// `active`, or `waiting` while another bridge of this machine relays the objects.
    pub role: String,
    /// The servers in its options.
    pub servers: Vec<String>,
    /// Whether it is connected to one, and the streams and buckets of its objects exist there.
    pub connected: bool,
    /// How often it connected, including the first time.
    pub connects: u64,
    /// How often it lost the connection.
    pub losses: u64,
    /// The loopback port of its metrics; 0 if they are not served.
    pub metrics: u16,
    /// The last error.
    pub last_error: String,
    /// The queues.
    pub queues: Vec<QueueReport>,
    /// The maps.
    pub maps: Vec<MapReport>,
}

/// The counters of a bridge.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) is_active: AtomicBool,
    /// Whether the streams and buckets of the objects exist on the server.
    pub(crate) is_set_up: AtomicBool,
    /// The loopback port of its metrics; 0 if they are not served.
    pub(crate) metrics: AtomicU16,
    pub(crate) link: crate::link::LinkCounters,
    pub(crate) queues: std::sync::Mutex<Vec<(String, Arc<QueueCounters>)>>,
    pub(crate) maps: std::sync::Mutex<Vec<(String, Arc<MapCounters>)>>,
    /// The objects whose streams or buckets were not found at the last attempt.
    not_found: std::sync::Mutex<HashSet<String>>,
    last_error: std::sync::Mutex<String>,
}

impl Counters {
    pub(crate) fn queue(&self, name: &str) -> Arc<QueueCounters> {
        let counters = Arc::new(QueueCounters::default());
        lock(&self.queues).push((name.to_owned(), counters.clone()));
        counters
    }

    pub(crate) fn map(&self, name: &str) -> Arc<MapCounters> {
        let counters = Arc::new(MapCounters::default());
        lock(&self.maps).push((name.to_owned(), counters.clone()));
        counters
    }

    /// Records whether the streams or the bucket of an object were found, or created.
    pub(crate) fn record_set_up(&self, name: &str, is_there: bool) {
        let mut not_found = lock(&self.not_found);
        match is_there {
            true => not_found.remove(name),
            false => not_found.insert(name.to_owned()),
        };
    }

    /// Logs an error as a warning, unless it is the same as the last one.
    pub(crate) fn record_error(&self, why: &str) {
        let mut last = lock(&self.last_error);
        if *last == why {
            tracing::debug!("{why}");
        } else {
            tracing::warn!("{why}");
            why.clone_into(&mut last);
        }
    }

    pub(crate) fn report(&self, machine: &str, servers: &[String]) -> Report {
        let link = &self.link;
        let active = self.is_active.load(Ordering::Relaxed);
        let is_set_up = self.is_set_up.load(Ordering::Relaxed) && lock(&self.not_found).is_empty();
        let mut last_error = lock(&self.last_error).clone();
        let denied = link.denied();
        if !last_error.contains(&denied) {
            last_error = format!("{last_error}; the server: {denied}");
        }
        Report {
            pid: std::process::id(),
            machine: machine.to_owned(),
            role: if active { "active" } else { "waiting" }.to_owned(),
            servers: servers.to_vec(),
            connected: is_set_up && link.is_up.load(Ordering::Relaxed),
            connects: link.connects.load(Ordering::Relaxed),
            losses: link.losses.load(Ordering::Relaxed),
            metrics: self.metrics.load(Ordering::Relaxed),
            last_error,
            queues: lock(&self.queues)
                .iter()
                .map(|(name, of)| of.report(name))
                .collect(),
            maps: lock(&self.maps)
                .iter()
                .map(|(name, of)| of.report(name))
                .collect(),
        }
    }
}

fn lock<T>(of: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
