//! Watches the bucket of a map and applies its changes to the local map.
//!
//! After each connect, the latest entry of every key is read, and other keys are removed from the local map. So no
//! removal is missed, however long the bridge was disconnected. From then on changes are applied as they come. A
//! watch ends with the connection. The client's own watch may stay silent after a restart of the server, so this
//! one is implemented here, and is restarted whenever its position and that of the bucket disagree.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::{self, DateTime};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Stream;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::future::OptionFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, interval};

use crate::counters::{Counters, MapCounters};
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::exchange::Pause;
use crate::link::{Link, Links};
use crate::names;

/// How often the position of the bucket is read.
const CHECK: Duration = Duration::from_secs(5);
/// The watch is restarted if the bucket is ahead and no change has arrived for this long.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the watch is restarted at most because the bucket may have fewer values than the map. It may also
/// have fewer markers, which expire silently.
const RECOUNT: Duration = Duration::from_secs(10 * 60);

/// The lifetime of a value in nanoseconds; the server's own header counts seconds.
pub(crate) const LIFE_HEADER: &str = "Shoal-Life";

/// The prefix of keys in the bucket that are not keys of the map. A publish under such a key finds out whether the
/// server knows an id.
pub(crate) const PROBE: &str = "=probe";

/// An entry of a key in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Vec<u8>,
    /// `None` if it was removed or has expired.
    pub(crate) value: Option<Bytes>,
    pub(crate) revision: u64,
    /// How long it has to live.
    pub(crate) life: Option<Duration>,
}

/// The clock of the server, which dates the entries of a bucket.
pub(crate) struct Clock {
    /// Its time in nanoseconds, and when that was read.
    time: i128,
    read: Instant,
}

impl Clock {
    /// Reads the clock of the server that leads the stream.
    pub(crate) async fn read(jetstream: &Context, stream: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Info {
            ts: String,
        }
        let away = |why: &dyn std::fmt::Display| Error::away(format!("the clock of {stream}"), why);
        let info = jetstream.request(format!("STREAM.INFO.{stream}"), &());
        let info = match info.await.map_err(|why| away(&why))? {
            Response::Ok::<Info>(info) => info,
            Response::Err { error } => return Err(away(&error)),
        };
        let time = datetime::parse_rfc3339(&info.ts).map_err(|why| away(&why))?;
        Ok(Self {
            time: time.unix_timestamp_nanos(),
            read: Instant::now(),
        })
    }

    /// The age of what the server stored at the time `stored`, in nanoseconds of its clock.
    pub(crate) fn age(&self, stored: i128) -> Duration {
        let age = u64::try_from(self.time - stored).unwrap_or(0);
        Duration::from_nanos(age) + self.read.elapsed()
    }
}

/// The local map, from the point of view of the watch. No call waits for long.
pub(crate) trait Mirror: Send + Sync + 'static {
    /// The entries of the whole bucket follow. It was created at `created` and is now at this revision.
    fn begin(&self, created: DateTime, revision: u64);
    /// Applies a change, unless the map has a later one.
    fn apply(&self, change: Change);
    /// Called when the whole bucket was applied, up to this revision. Removes the map's other keys.
    fn complete(&self, seen: &HashSet<Vec<u8>>, revision: u64);
    /// How many keys the map has.
    fn len(&self) -> u64;
    /// Waits until the map has to be compared with the whole bucket again.
    fn must_compare(&self) -> impl Future<Output = ()> + Send;
}

/// Watches one bucket.
pub(crate) struct Watcher<M> {
    pub(crate) links: Links,
    pub(crate) bucket: String,
    pub(crate) mirror: Arc<M>,
    pub(crate) counters: Arc<MapCounters>,
    pub(crate) bridge_counters: Arc<Counters>,
    /// When the bucket seemed to have fewer values than the map.
    pub(crate) recounted: Option<Instant>,
}

/// The entries of a bucket that the watch has reported.
#[derive(Default)]
struct Entries {
    /// The keys with a value, until the whole bucket was reported.
    values: HashSet<Vec<u8>>,
    /// The subjects whose last entry is no value of the map: a marker, a probe, or that of another program.
    others: HashSet<String>,
}

impl<M: Mirror> Watcher<M> {
    /// Watches until an error is permanent. `stream` creates or finds the bucket.
    pub(crate) async fn run<F>(mut self, stream: impl Fn(Link) -> F) -> Error
    where
        F: Future<Output = Result<Stream>>,
    {
        let mut pause = Pause::new();
        loop {
            let (mut link, epoch) = self.links.up().await;
            let began = Instant::now();
            let watched = async {
                let stream = stream(link.clone()).await?;
                self.watch(&mut link, epoch, &stream).await
            };
            if let Err(why) = watched.await {
                if !why.is_temporary() {
                    return why;
                }
                self.bridge_counters
                    .record_error(&format!("{}: {why}", self.bucket));
                if began.elapsed() > SILENCE {
                    pause.reset();
                }
                tokio::time::sleep(pause.next()).await;
            }
        }
    }

    /// Watches until the link is lost or an error occurs.
    async fn watch(&mut self, link: &mut Link, epoch: u64, stream: &Stream) -> Result<()> {
        self.counters.watches.add(1);
        let away = |why: &dyn std::fmt::Display| Error::away("the watch", why);
        // The consumer reports every entry that the bucket had before the consumer was created, unless the entry
        // is gone: the last change may have been purged or have expired. So the position starts at the last
        // revision of the bucket.
        let info = stream.get_info().await.map_err(|why| away(&why))?;
        let clock = Clock::read(&link.jetstream, &info.config.name).await?;
        let mut last = info.state.last_sequence;
        self.mirror.begin(info.created, last);
        let consumer = stream
            .create_consumer(push::OrderedConfig {
                deliver_subject: link.client.new_inbox(),
                description: Some("a map of shoal-bridge".to_owned()),
                replay_policy: ReplayPolicy::Instant,
                filter_subject: format!("$KV.{}.>", self.bucket),
                deliver_policy: DeliverPolicy::LastPerSubject,
                ..Default::default()
            })
            .await
            .map_err(|why| away(&why))?;
        let mut is_complete = consumer.cached_info().num_pending == 0;
        let mut entries = Entries::default();
        if is_complete {
            self.complete(&entries.values, last);
        }
        let mut changes = consumer.messages().await.map_err(|why| away(&why))?;
        let mut check = interval(CHECK);
        let mut last_heard = Instant::now();
        let mut asked = None;
        loop {
            tokio::select! {
                () = self.links.lost(link, epoch) => return Ok(()),
                () = self.mirror.must_compare() => {
                    return Err(away(&"there was no room for many keys; compared again"));
                }
                change = changes.next() => {
                    let mut change = Some(change);
                    while let Some(next) = change {
                        last_heard = Instant::now();
                        let next = next.ok_or_else(|| away(&"it ended"))?.map_err(|why| away(&why))?;
                        let pending = pending(&next.message);
                        let revision = self.changed(&next.message, (!is_complete).then_some(&clock), &mut entries);
                        last = revision.map_or(last, |revision| revision.max(last));
                        if !is_complete && pending == Some(0) {
                            is_complete = true;
                            self.complete(&entries.values, last);
                            entries.values = HashSet::new();
                        }
                        change = changes.next().now_or_never();
                    }
                    self.counters.revision.set(last);
                }
                _ = check.tick(), if asked.is_none() => {
                    let before = (last, self.mirror.len(), entries.others.len() as u64);
                    asked = Some(Box::pin(async move { (before, stream.get_info().await) }));
                }
                // Changes are applied meanwhile: on a slow connection the answer waits behind them.
                Some(((before, keys, others), info)) = OptionFuture::from(asked.as_mut()) => {
                    asked = None;
                    let info = match info {
                        Ok(info) => info,
                        Err(why) if why.kind() == RequestErrorKind::TimedOut && last_heard.elapsed() < SILENCE => {
                            self.bridge_counters.record_error(&format!("{}: {why}", self.bucket));
                            continue;
                        }
                        Err(why) => return Err(away(&why)),
                    };
                    if info.created != stream.cached_info().created {
                        return Err(away(&"the bucket was created again"));
                    }
                    let state = &info.state;
                    self.counters.lag.set(state.last_sequence.saturating_sub(last));
                    if state.last_sequence < before {
                        return Err(away(&"the bucket has lost changes; compared again"));
                    }
                    let is_behind = state.last_sequence > last && last_heard.elapsed() > SILENCE;
                    // Purged keys leave no marker.
                    let keys = keys.min(self.mirror.len());
                    let others = others.min(entries.others.len() as u64);
                    let is_short = is_complete && state.last_sequence == last
                        && (state.subjects_count < keys
                            || state.subjects_count < keys + others && self.may_recount());
                    if is_behind || is_short {
                        return Err(away(&"it disagrees with the bucket; compared again"));
                    }
                }
            }
        }
    }

    /// Whether it is long enough since this was true.
    fn may_recount(&mut self) -> bool {
        let may = self.recounted.is_none_or(|last| last.elapsed() > RECOUNT);
        if may {
            self.recounted = Some(Instant::now());
        }
        may
    }

    fn complete(&self, seen: &HashSet<Vec<u8>>, revision: u64) {
        self.mirror.complete(seen, revision);
        self.counters.resyncs.add(1);
        self.counters.revision.set(revision);
    }

    /// Applies one change, and returns its revision. While the whole bucket is reported, `clock` tells the age of
    /// its entries. Later changes are new, and their age would depend on the server's clock not being changed.
    fn changed(
        &self,
        message: &Message,
        clock: Option<&Clock>,
        entries: &mut Entries,
    ) -> Option<u64> {
        let delivery = Delivery::read(message.reply.as_deref()?)?;
        let revision = delivery.sequence;
        let age = clock.map_or(Duration::ZERO, |clock| clock.age(delivery.stored.into()));
        // `$KV.<bucket>.<key>`
        let word = message.subject.splitn(3, '.').nth(2)?;
        let key = match word.starts_with(PROBE) {
            true => None,
            false => {
                let key = names::unescape_key(word);
                self.counters.undecodable.add(key.is_none().into());
                key
            }
        };
        let Some(key) = key else {
            entries.others.insert(word.to_owned());
            return Some(revision);
        };
        let headers = message.headers.as_ref();
        let change = change(key, headers, &message.payload, revision, age);
        if change.value.is_some() {
            entries.others.remove(word);
            if clock.is_some() {
                entries.values.insert(change.key.clone());
            }
        } else if is_expiry(headers) {
            // It is gone soon, without a report.
            entries.others.remove(word);
        } else {
            entries.others.insert(word.to_owned());
        }
        self.mirror.apply(change);
        self.counters.applied.add(1);
        Some(revision)
    }
}

/// The entry of a key in a message of the bucket. The server keeps a value for longer than its lifetime, which it
/// counts in whole seconds and raises to the lifetime of markers. So a value of that `age` counts as removed here.
pub(crate) fn change(
    key: Vec<u8>,
    headers: Option<&HeaderMap>,
    payload: &Bytes,
    revision: u64,
    age: Duration,
) -> Change {
    let life = life(headers);
    let is_over = life.is_some_and(|life| life <= age);
    let value = (!is_removal(headers) && !is_over).then(|| payload.clone());
    Change {
        key,
        value,
        revision,
        life: life.map(|life| life.saturating_sub(age)),
    }
}

/// How many changes follow this one: the last number in the subject of its ack.
fn pending(message: &Message) -> Option<u64> {
    let reply = message.reply.as_deref()?;
    let words: Vec<&str> = reply.split('.').collect();
    let at = if words.len() == 9 { 8 } else { 10 };
    words.get(at)?.parse().ok()
}

fn is_removal(headers: Option<&HeaderMap>) -> bool {
    let operation = headers.and_then(|headers| headers.get("KV-Operation"));
    let operation = operation.map(|value| value.as_str());
    matches!(operation, Some("DEL" | "PURGE")) || is_expiry(headers)
}

/// Whether it is the server's marker of a key that has expired.
fn is_expiry(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get("Nats-Marker-Reason").is_some())
}

pub(crate) fn life(headers: Option<&HeaderMap>) -> Option<Duration> {
    let headers = headers?;
    if let Some(exact) = headers
        .get(LIFE_HEADER)
        .and_then(|life| life.as_str().parse().ok())
    {
        return Some(Duration::from_nanos(exact));
    }
    let text = headers.get("Nats-TTL")?.as_str();
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn removals_are_distinguished_from_values() {
        assert!(!is_removal(None));
        assert!(!is_removal(Some(&with(&[("Nats-TTL", "5s")]))));
        assert!(is_removal(Some(&with(&[("KV-Operation", "DEL")]))));
        assert!(is_removal(Some(&with(&[("KV-Operation", "PURGE")]))));
        assert!(is_removal(Some(&with(&[("Nats-Marker-Reason", "MaxAge")]))));
    }

    #[test]
    fn a_value_whose_lifetime_is_over_counts_as_removed() {
        let headers = with(&[("Nats-TTL", "86400s"), (LIFE_HEADER, "2000000000")]);
        let (key, value) = (b"k".to_vec(), Bytes::from_static(b"v"));
        let at = |age| {
            change(
                key.clone(),
                Some(&headers),
                &value,
                7,
                Duration::from_millis(age),
            )
        };
        let young = at(1500);
        assert_eq!(young.value.as_ref(), Some(&value));
        assert_eq!(young.life, Some(Duration::from_millis(500)));
        assert_eq!(at(2000).value, None);
        let forever = change(key.clone(), None, &value, 7, Duration::MAX);
        assert_eq!((forever.value, forever.life), (Some(value.clone()), None));
    }

    #[test]
    fn lifetimes_are_read_in_both_forms() {
        assert_eq!(
            life(Some(&with(&[("Nats-TTL", "5s")]))),
            Some(Duration::from_secs(5))
        );
        assert_eq!(
            life(Some(&with(&[("Nats-TTL", "7")]))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(life(Some(&with(&[("Nats-TTL", "never")]))), None);
        assert_eq!(life(None), None);
    }
}
