//! Changes of a map by programs of this machine, sent to the bucket.
//!
//! At most one change of each key is in flight, so the changes of one process are stored in their order even if
//! some have to be repeated. A swap names the revision that the key must have. The server compares the revision
//! before it checks ids, so a repeated swap may fail with "another revision" because of its own first copy.
//! Therefore, if a swap that may have been sent before fails, its id is published once more, under a key that
//! contains the id and is [not a key of the map](PROBE). The answer says whether the server had stored the id, and
//! from then on the server never stores it.
//!
//! A restarted server knows the ids of the messages that it still has. For this it keeps the last values of
//! each key ([`HISTORY`](crate::settings::HISTORY)). If a swap could have been stored and then been displaced
//! by as many later changes, its outcome is unknown, and the program gets that answer.
//!
//! A removal, and a value with a lifetime, replace all entries of their key (a *rollup*). The server drops such an
//! entry when its time is over, and an older value that it still had would be the latest entry again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::RequestErrorKind;
use async_nats::header::{
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID, NATS_MESSAGE_TTL, NATS_ROLLUP,
};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shoal::{MapChange, MapRequest, SwapTo};
use tokio::sync::mpsc;
use tokio::time::interval;

use crate::error::{Error, Result};
use crate::exchange::{Answer, Pause, Published};
use crate::line::Line;
use crate::link::{Link, Links};
use crate::map::BridgedMap;
use crate::names;
use crate::queue::unfinished;
use crate::requests::Room;
use crate::settings::MARKERS;
use crate::watch::{self, Change, Clock, LIFE_HEADER, PROBE};

/// How many keys may have a change in flight.
const WINDOW: usize = 1024;
/// How often the unfinished changes are counted.
const COUNT: Duration = Duration::from_secs(1);
/// How often a swap is retried that the server rejects although the key has the revision.
const TRIES: u32 = 10;
/// The part of the server's limit that headers and subject may take, in bytes.
pub(crate) const CHANGE_HEADERS: usize = 8192;

/// Why a swap of a [missing key](crate::missing) is refused.
const NO_ROOM: &str = "the key has a value for which there is no room on this machine; it is read again when there \
                       is (see `shoal gc` and `shoal rm`)";

/// The latest entry of a key in the bucket.
pub(crate) struct Latest {
    pub(crate) change: Change,
    id: Option<String>,
}

/// A change that waits to be sent, or for its answer.
pub(crate) struct Waiting {
    request: MapRequest,
    _room: Room,
}

impl Waiting {
    /// The change, counted in `copied`.
    pub(crate) fn new(request: MapRequest, copied: &Arc<AtomicUsize>) -> Self {
        let value = match request.change() {
            MapChange::Set { value, .. }
            | MapChange::Swap {
                new: SwapTo::Value { value, .. },
                ..
            } => value.len(),
            _ => 0,
        };
        Self {
            _room: Room::new(value + request.key().len(), copied),
            request,
        }
    }
}

/// Sends the changes of one map.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) map: Arc<BridgedMap>,
    pub(crate) links: Links,
    line: Arc<Line>,
}

/// The outcome of a change, and the present value of the key if it is known.
enum Outcome {
    Done(Option<Change>),
    /// The key has the version with which it was compared. Nothing was stored.
    Same(Option<Change>),
    Conflict(Option<Change>),
    Refused(String),
    /// It may have been stored.
    Unknown(Option<Change>),
}

impl Sender {
    pub(crate) fn new(map: Arc<BridgedMap>, links: Links) -> Self {
        Self {
            map,
            links,
            line: Arc::new(Line::new()),
        }
    }

    /// Sends the changes that `requests` yields. Those of one key are sent in order.
    pub(crate) async fn run(self, mut requests: mpsc::Receiver<Waiting>) {
        // For each key with a change in flight, the changes that follow.
        let mut behind: HashMap<Vec<u8>, VecDeque<Waiting>> = HashMap::new();
        let mut waiting = 0usize;
        let mut in_flight = FuturesUnordered::new();
        let mut tick = interval(COUNT);
        loop {
            tokio::select! {
                // This includes requests that this bridge has not taken yet.
                _ = tick.tick() => self.map.counters.waiting.set(unfinished(self.map.relay.companion())),
                Some(key) = in_flight.next() => {
                    waiting -= 1;
                    match behind.get_mut(&key).and_then(VecDeque::pop_front) {
                        Some(request) => in_flight.push(self.clone().carry(request)),
                        None => {
                            behind.remove(&key);
                        }
                    }
                }
                request = requests.recv(), if waiting < WINDOW => {
                    let Some(request) = request else { return };
                    waiting += 1;
                    match behind.get_mut(request.request.key()) {
                        Some(changes) => changes.push_back(request),
                        None => {
                            behind.insert(request.request.key().to_vec(), VecDeque::new());
                            in_flight.push(self.clone().carry(request));
                        }
                    }
                }
            }
        }
    }

    /// Carries one change to its end, and returns its key.
    async fn carry(mut self, waiting: Waiting) -> Vec<u8> {
        let Waiting { request, _room } = waiting;
        let key = request.key().to_vec();
        let outcome = self.settle(&request, &key).await;
        let counters = &self.map.counters;
        if let Outcome::Done(Some(change))
        | Outcome::Same(Some(change))
        | Outcome::Conflict(Some(change))
        | Outcome::Unknown(Some(change)) = &outcome
        {
            self.map.apply_ahead(change);
        }
        let ended = match outcome {
            // The program would read the key again, find it absent, and try for ever.
            Outcome::Conflict(Some(change)) if self.map.has_no_room_for(&change) => {
                counters.refused.add(1);
                request.refuse(NO_ROOM)
            }
            Outcome::Done(_) => {
                counters.sent.add(1);
                request.done()
            }
            Outcome::Same(_) => request.done(),
            Outcome::Conflict(_) => {
                counters.conflicts.add(1);
                request.conflict()
            }
            Outcome::Unknown(_) => {
                self.map.bridge_counters.record_error(&format!(
                    "{}: the server no longer knows whether it has stored a swap",
                    self.map.carried.name
                ));
                request.unknown()
            }
            Outcome::Refused(why) => {
                counters.refused.add(1);
                self.map
                    .bridge_counters
                    .record_error(&format!("{}: {why}", self.map.carried.name));
                request.refuse(&why)
            }
        };
        if let Err(why) = ended {
            tracing::warn!(map = self.map.carried.name, %why, "a change is not done");
        }
        key
    }

    async fn settle(&mut self, request: &MapRequest, key: &[u8]) -> Outcome {
        let Some(word) = names::escape_key(key) else {
            return Outcome::Refused(format!(
                "the key of {} bytes is longer than {} as a subject",
                key.len(),
                names::MAX_KEY
            ));
        };
        let subject = format!("$KV.{}.{word}", self.map.names.bucket);
        let id = request.id().to_string();
        let (value, life, version) = match request.change() {
            MapChange::Set { value, life } => (Some(Bytes::copy_from_slice(value)), life, None),
            MapChange::Remove => (None, None, None),
            MapChange::Swap { version, new } => match new {
                SwapTo::Value { value, life } => {
                    (Some(Bytes::copy_from_slice(value)), life, Some(version))
                }
                SwapTo::Nothing => (None, None, Some(version)),
                _ => return self.compare(&subject, key, version).await,
            },
            _ => return Outcome::Refused("this version does not know this change".to_owned()),
        };
        let headers = headers(&id, value.is_some(), life);
        let mut expected = version;
        let mut was_sent = request.attempts() > 1;
        let mut tries = 0;
        let mut pause = Pause::new();
        loop {
            let (link, epoch) = self.links.up().await;
            let limit = link.client.max_payload().saturating_sub(CHANGE_HEADERS);
            let size = value.as_ref().map_or(0, Bytes::len);
            if size > limit {
                return Outcome::Refused(format!(
                    "the value of {size} bytes is larger than the server's limit of {limit} bytes"
                ));
            }
            let mut headers = headers.clone();
            if let Some(expected) = expected {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
            }
            let payload = value.clone().unwrap_or_default();
            let published = self
                .publish(link.clone(), epoch, &subject, headers, payload)
                .await;
            match published {
                None => was_sent = true,
                Some(Published::Stored { sequence, .. }) => {
                    let change = Change {
                        key: key.to_vec(),
                        value,
                        revision: sequence,
                        life,
                    };
                    return Outcome::Done(Some(change));
                }
                Some(Published::Full(why) | Published::NotReady(why)) => {
                    self.map
                        .bridge_counters
                        .record_error(&format!("{}: {why}", self.map.names.bucket));
                }
                Some(Published::Refused(why)) => return Outcome::Refused(why),
                Some(Published::Conflict) => {
                    let latest = match self.read_key(&link, &subject, key).await {
                        Ok(latest) => latest,
                        Err(why) => {
                            self.map.bridge_counters.record_error(&why.to_string());
                            tokio::time::sleep(pause.next()).await;
                            continue;
                        }
                    };
                    let is_ours = latest
                        .as_ref()
                        .is_some_and(|latest| latest.id.as_ref() == Some(&id));
                    let change = latest.map(|latest| latest.change);
                    if is_ours {
                        return Outcome::Done(change);
                    }
                    let revision = change.as_ref().map_or(0, |change| change.revision);
                    let is_there = change.as_ref().is_some_and(|change| change.value.is_some());
                    let as_expected = version == Some(if is_there { revision } else { 0 });
                    if was_sent {
                        match self.probe(&link, epoch, &id).await {
                            Some(true) => return Outcome::Done(change),
                            // The probe has stored the id, so the server never stores the swap from now on.
                            Some(false) => {}
                            None => {
                                tokio::time::sleep(pause.next()).await;
                                continue;
                            }
                        }
                        match self
                            .is_forgotten(&link, &subject, expected.unwrap_or(0))
                            .await
                        {
                            Ok(true) => return Outcome::Unknown(change),
                            // The key is as the swap expects it, but the probe has used up the id of the swap.
                            Ok(false) if as_expected => return Outcome::Unknown(change),
                            Ok(false) => return Outcome::Conflict(change),
                            Err(why) => {
                                self.map.bridge_counters.record_error(&why.to_string());
                                tokio::time::sleep(pause.next()).await;
                                continue;
                            }
                        }
                    }
                    if !as_expected || tries == TRIES {
                        return Outcome::Conflict(change);
                    }
                    // Either the key was removed and has the revision of its removal, or the server has
                    // rejected the swap without a reason, which happens.
                    tries += 1;
                    if expected != Some(revision) {
                        expected = Some(revision);
                        continue;
                    }
                }
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// Compares the version of the key with `version`, without a change.
    async fn compare(&mut self, subject: &str, key: &[u8], version: u64) -> Outcome {
        let mut pause = Pause::new();
        loop {
            let (link, _) = self.links.up().await;
            match self.read_key(&link, subject, key).await {
                Ok(latest) => {
                    let change = latest.map(|latest| latest.change);
                    let there = change.as_ref().filter(|change| change.value.is_some());
                    let has = there.map_or(0, |change| change.revision);
                    return if has == version {
                        Outcome::Same(change)
                    } else {
                        Outcome::Conflict(change)
                    };
                }
                Err(why) => self.map.bridge_counters.record_error(&why.to_string()),
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// Publishes. `None` if the answer is not known.
    async fn publish(
        &mut self,
        mut link: Link,
        epoch: u64,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Option<Published> {
        let client = link.client.clone();
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(payload)
            .timeout(None);
        let (place, bucket, present) = (self.line.send(), self.bucket(), link.clone());
        let answered = tokio::select! {
            answered = client.send_request(subject.to_owned(), request) => answered,
            () = self.links.lost(&mut link, epoch) => return None,
            () = self.line.lost(place, &present, &bucket) => {
                let why = format!("{bucket}: no answer to a change; it is sent again");
                self.map.bridge_counters.record_error(&why);
                return None;
            }
        };
        self.line.answered(place);
        match answered {
            Ok(message) => Some(Published::from(&Answer::Message(message))),
            Err(why) if why.kind() == RequestErrorKind::NoResponders => {
                Some(Published::from(&Answer::NobodyListens))
            }
            Err(why) => {
                self.map.bridge_counters.record_error(&why.to_string());
                None
            }
        }
    }

    /// Whether the server has stored the id; `None` if that could not be determined.
    ///
    /// A probe whose answer was lost, or that an earlier bridge made, is found by its key. In that case the id was
    /// not stored before the probe, and the server never stores it afterwards.
    async fn probe(&mut self, link: &Link, epoch: u64, id: &str) -> Option<bool> {
        let subject = format!("$KV.{}.{PROBE}.{id}", self.map.names.bucket);
        match self.read_latest(link, &subject, &[]).await {
            Ok(None) => {}
            Ok(Some(_)) => return Some(false),
            Err(why) => {
                self.map.bridge_counters.record_error(&why.to_string());
                return None;
            }
        }
        let headers = headers(id, false, None);
        match self
            .publish(link.clone(), epoch, &subject, headers, Bytes::new())
            .await
        {
            Some(Published::Stored { again, .. }) => Some(again),
            _ => None,
        }
    }

    /// Whether the bucket may have dropped the change of the key that followed the revision `expected`. The
    /// oldest entries are dropped first, so it still has that change if it has an entry before it.
    async fn is_forgotten(&self, link: &Link, subject: &str, expected: u64) -> Result<bool> {
        let stream = link.jetstream.get_stream(self.bucket()).await;
        let stream = stream.map_err(|why| self.away(&why))?;
        // Another program may have created the bucket. A number that is not positive means that all entries are
        // kept.
        let keeps = stream.cached_info().config.max_messages_per_subject;
        let (mut next, mut kept) = (1, 0);
        while keeps <= 0 || kept < keeps {
            match stream.get_first_raw_message_by_subject(subject, next).await {
                Ok(oldest) if expected > 0 => return Ok(oldest.sequence > expected),
                // It has replaced the entries before it.
                Ok(entry) if entry.headers.get(NATS_ROLLUP).is_some() => return Ok(true),
                // The key was new: nothing was dropped if it has fewer entries than are kept.
                Ok(message) => (next, kept) = (message.sequence + 1, kept + 1),
                Err(why) if why.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    return Ok(expected > 0);
                }
                Err(why) => return Err(self.away(&why)),
            }
        }
        Ok(true)
    }

    /// The latest entry of a key of the map. If it has none, the key is removed here too: a purge of its subject
    /// leaves no marker, so the watch does not report it.
    async fn read_key(&self, link: &Link, subject: &str, key: &[u8]) -> Result<Option<Latest>> {
        let before = self.map.version(key);
        let latest = self.read_latest(link, subject, key).await?;
        if latest.is_none() {
            self.map.purged(key, before);
        }
        Ok(latest)
    }

    /// The latest entry of the subject, read from the leader of the bucket.
    pub(crate) async fn read_latest(
        &self,
        link: &Link,
        subject: &str,
        key: &[u8],
    ) -> Result<Option<Latest>> {
        let stream = self.stream(link).await?;
        let message = match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => message,
            Err(why) if why.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(why) => return Err(self.away(&why)),
        };
        let id = message
            .headers
            .get(NATS_MESSAGE_ID)
            .map(|id| id.as_str().to_owned());
        let headers = Some(&message.headers);
        let age = match watch::life(headers) {
            Some(_) => {
                let clock = Clock::read(&link.jetstream, &self.bucket()).await?;
                clock.age(message.time.unix_timestamp_nanos())
            }
            None => Duration::ZERO,
        };
        let payload = &message.payload;
        let change = watch::change(key.to_vec(), headers, payload, message.sequence, age);
        Ok(Some(Latest { change, id }))
    }

    async fn stream(&self, link: &Link) -> Result<Stream<()>> {
        let stream = link.jetstream.get_stream_no_info(self.bucket()).await;
        stream.map_err(|why| self.away(&why))
    }

    fn bucket(&self) -> String {
        format!("KV_{}", self.map.names.bucket)
    }

    fn away(&self, why: &dyn std::fmt::Display) -> Error {
        Error::away(format!("bucket {}", self.bucket()), why)
    }
}

fn headers(id: &str, is_value: bool, life: Option<Duration>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    if !is_value {
        headers.insert("KV-Operation", "PURGE");
        headers.insert(NATS_ROLLUP, "sub");
        headers.insert(NATS_MESSAGE_TTL, format!("{}s", MARKERS.as_secs()));
    } else if let Some(life) = life {
        // The server counts whole seconds. The other machines read the exact time from the header.
        let seconds = life.as_millis().div_ceil(1000).max(1);
        // The server refuses what is not a number of nanoseconds for it: 292 years. It keeps such a value.
        if seconds <= i64::MAX as u128 / 1_000_000_000 {
            headers.insert(NATS_MESSAGE_TTL, format!("{seconds}s"));
            headers.insert(NATS_ROLLUP, "sub");
        }
        headers.insert(LIFE_HEADER, life.as_nanos().to_string());
    }
    headers
}
