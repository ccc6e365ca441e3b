//! Publishes the messages that programs of this machine put, each with an id, and keeps them until the server has
//! stored them.
//!
//! Up to [`WINDOW`] publishes are in flight at the same time. If the stream is full or not ready, one message is
//! tried again at growing intervals until the stream accepts it; then the others follow. Meanwhile nothing more is
//! taken from shared memory, so puts fill the queue there up to its bounds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval};

use crate::counters::{Counters, QueueCounters};
use crate::error::{Error, Result};
use crate::exchange::{Answer, Exchange, Pause, Published, Request};
use crate::large::Large;
use crate::link::{Link, Links};
use crate::wire;

/// How many publishes may be unanswered.
pub(crate) const WINDOW: usize = 4096;

/// After how long the bytes of a message for which the object store had no room are stored again. Each attempt may fill
/// the server's store for a moment.
const FULL_PAUSE: Duration = Duration::from_secs(30);

/// A decision about a message that the stream does not accept, for [`Publisher::run`]: it is published again until
/// the stream accepts it.
pub(crate) fn is_repeated<T>(kept: T, _object: Option<String>, _why: &str) -> Option<T> {
    Some(kept)
}

/// A message to publish.
pub(crate) struct Outgoing<T> {
    /// Its id, the same for every attempt.
    pub(crate) id: String,
    pub(crate) bytes: Bytes,
    /// For a dead letter, why it is one.
    pub(crate) dead_letter_reason: Option<DeadLetterReason>,
    /// How often it was delivered to a worker before.
    pub(crate) before: u64,
    /// Passed to `finish` when the server has stored the message.
    pub(crate) kept: T,
}

/// Why a message became a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterReason {
    pub(crate) queue: String,
    pub(crate) attempts: u64,
    pub(crate) reason: String,
}

/// Publishes messages to one subject.
pub(crate) struct Publisher {
    pub(crate) links: Links,
    /// The stream, and the subject that it listens to.
    pub(crate) stream: String,
    pub(crate) subject: Subject,
    pub(crate) large: Arc<Large>,
    pub(crate) counters: Arc<QueueCounters>,
    pub(crate) bridge_counters: Arc<Counters>,
    /// Told that no stream listens to the subject.
    pub(crate) missing: Arc<Notify>,
}

impl Publisher {
    /// Publishes the messages that `source` yields and calls `finish` for each that is stored, until the source
    /// ends and all messages are stored.
    ///
    /// `refuse` decides about a message that the stream does not accept, because it is full, or refuses it. It gets
    /// what was kept, the object with the message's bytes if they may be in the object store, and the reason. It
    /// returns what was kept if the message is to be published again.
    pub(crate) async fn run<T: Send>(
        mut self,
        mut source: mpsc::Receiver<Outgoing<T>>,
        finish: impl Fn(T),
        refuse: impl Fn(T, Option<String>, &str) -> Option<T>,
    ) {
        let (mut link, mut epoch) = self.links.up().await;
        let mut exchange = self.begin(&mut link, &mut epoch).await;
        let mut refused = Refused::default();
        let mut tick = interval(Duration::from_secs(1));
        let mut is_open = true;
        while is_open || exchange.len() > 0 || !refused.waiting.is_empty() {
            let has_room = exchange.len() < WINDOW && refused.waiting.is_empty();
            let sent = tokio::select! {
                () = self.links.lost(&mut link, epoch) => {
                    (link, epoch) = self.links.up().await;
                    take_long(&link, &mut exchange, &mut refused);
                    exchange.move_to(link.clone()).await
                }
                answered = exchange.next() => {
                    let mut answered = Some(answered);
                    let mut sent = Ok(());
                    while let Some(answer) = answered {
                        match answer {
                            Ok(answer) => self.answered(answer, &mut refused, &finish, &refuse),
                            Err(why) => {
                                sent = Err(why);
                                break;
                            }
                        }
                        answered = exchange.ready();
                    }
                    sent
                }
                first = source.recv(), if is_open && has_room => match first {
                    Some(first) => self.send_some(&link, &mut exchange, first, &mut source, &refuse).await,
                    None => {
                        is_open = false;
                        Ok(())
                    }
                },
                () = tokio::time::sleep_until(refused.not_before), if !refused.waiting.is_empty() => {
                    match refused.waiting.pop_front() {
                        // The next one follows only after the answer to this one.
                        Some((request, kept)) => {
                            refused.pause();
                            match self.fit(&link, request, kept, &refuse).await {
                                Some((request, kept)) => exchange.send(request, kept).await,
                                None => Ok(()),
                            }
                        }
                        None => Ok(()),
                    }
                }
                _ = tick.tick() => {
                    take_long(&link, &mut exchange, &mut refused);
                    self.report_silence(&exchange);
                    exchange.resend(Instant::now()).await
                }
            };
            self.counters
                .publishing
                .set((exchange.len() + refused.waiting.len()) as u64);
            if let Err(why) = sent {
                self.bridge_counters.record_error(&why.to_string());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Reports publishes that the server has read twice on this connection, and does not answer.
    fn report_silence<T>(&self, exchange: &Exchange<T>) {
        let silent = exchange.silent(2, Instant::now()).len();
        if silent > 0 {
            self.bridge_counters.record_error(&format!(
                "{}: the server does not answer {silent} publishes; its log says why (a full disk?)",
                self.subject
            ));
        }
    }

    async fn begin<T>(&mut self, link: &mut Link, epoch: &mut u64) -> Exchange<T> {
        loop {
            match Exchange::on(link.clone(), &self.stream).await {
                Ok(exchange) => return exchange,
                Err(why) => self.bridge_counters.record_error(&why.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            (*link, *epoch) = self.links.up().await;
        }
    }

    /// Sends the first message, and those that follow without a wait.
    async fn send_some<T: Send>(
        &self,
        link: &Link,
        exchange: &mut Exchange<T>,
        first: Outgoing<T>,
        source: &mut mpsc::Receiver<Outgoing<T>>,
        refuse: &impl Fn(T, Option<String>, &str) -> Option<T>,
    ) -> Result<()> {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            let (request, kept) = self.request(outgoing);
            if let Some((request, kept)) = self.fit(link, request, kept, refuse).await {
                exchange.send(request, kept).await?;
            }
            next = if exchange.len() < WINDOW {
                source.try_recv().ok()
            } else {
                None
            };
        }
        Ok(())
    }

    /// The request that publishes a message.
    fn request<T>(&self, outgoing: Outgoing<T>) -> (Request, T) {
        let mut headers = wire::headers(&outgoing.id);
        if let Some(DeadLetterReason {
            queue,
            attempts,
            reason,
        }) = &outgoing.dead_letter_reason
        {
            wire::add_reason(&mut headers, queue, *attempts, reason);
        }
        if outgoing.before > 0 {
            wire::add_before(&mut headers, outgoing.before);
        }
        let request = Request {
            subject: self.subject.clone(),
            headers: Some(headers),
            payload: outgoing.bytes,
        };
        (request, outgoing.kept)
    }

    /// The request as this server accepts it: its payload is in the object store then if it is too long. `None` if it
    /// could not be stored and is not to be tried again.
    async fn fit<T>(
        &self,
        link: &Link,
        mut request: Request,
        mut kept: T,
        refuse: &impl Fn(T, Option<String>, &str) -> Option<T>,
    ) -> Option<(Request, T)> {
        if request.payload.len() <= Large::limit(&link.client) {
            return Some((request, kept));
        }
        let payload = std::mem::take(&mut request.payload);
        let headers = request.headers.get_or_insert_default();
        let object = wire::id(headers).to_owned();
        wire::add_object(headers, &object, payload.len());
        // Each attempt uses the present link, because this one may be replaced meanwhile. `run` notices that by
        // itself.
        let (mut links, mut link) = (self.links.clone(), link.clone());
        let mut pause = Pause::new();
        while let Err(why) = self.large.put(&link, &object, &payload).await {
            self.bridge_counters.record_error(&why.to_string());
            kept = refuse(kept, Some(object.clone()), &why.to_string())?;
            let is_full = matches!(why, Error::Full { .. });
            self.counters.full.set(is_full.into());
            let pause = if is_full { FULL_PAUSE } else { pause.next() };
            tokio::time::sleep(pause).await;
            (link, _) = links.up().await;
        }
        Some((request, kept))
    }

    /// Deletes an object that was stored for a message that was in the stream before, unless the message needs it.
    fn delete_if_unused(&self, object: String, sequence: u64) {
        let (large, stream) = (self.large.clone(), self.stream.clone());
        let mut links = self.links.clone();
        tokio::spawn(async move {
            let (link, _) = links.up().await;
            let deleted = large.delete_if_unused(&link.jetstream, &object, &stream, sequence);
            if let Err(why) = deleted.await {
                tracing::warn!(object, %why, "an object may not have been deleted");
            }
        });
    }

    fn answered<T>(
        &self,
        (answer, request, kept): (Answer, Request, T),
        refused: &mut Refused<T>,
        finish: &impl Fn(T),
        refuse: &impl Fn(T, Option<String>, &str) -> Option<T>,
    ) {
        let object = || wire::object(request.headers.as_ref());
        if matches!(answer, Answer::NobodyListens) {
            self.missing.notify_one();
        }
        match Published::from(&answer) {
            Published::Stored { again, sequence } => {
                if again && let Some(object) = object() {
                    self.delete_if_unused(object, sequence);
                }
                self.counters.published.add(1);
                self.counters.repeated.add(again.into());
                self.counters.full.set(0);
                refused.reset_pause();
                finish(kept);
            }
            Published::Full(why) => {
                let Some(kept) = refuse(kept, object(), &why) else {
                    return;
                };
                self.counters.full.set(1);
                self.bridge_counters.record_error(&format!(
                    "{}: {why}; messages wait in shared memory",
                    self.subject
                ));
                refused.add(request, kept);
            }
            // A refused message is kept as well: the cause may be removed on the server, and no message is lost.
            Published::Refused(why) => {
                if let Some(kept) = refuse(kept, object(), &why) {
                    self.is_not_ready(&why);
                    refused.add(request, kept);
                }
            }
            Published::NotReady(why) => {
                self.is_not_ready(&why);
                refused.add(request, kept);
            }
            Published::Conflict => refused.add(request, kept),
        }
    }

    fn is_not_ready(&self, why: &str) {
        self.bridge_counters
            .record_error(&format!("{}: {why}", self.subject));
    }
}

/// Takes back the requests that are too long for the present server, whose limit may be lower than that of the server
/// before it. They are sent again after their bytes are in the object store.
fn take_long<T>(link: &Link, exchange: &mut Exchange<T>, refused: &mut Refused<T>) {
    for (request, kept) in exchange.take_longer(Large::limit(&link.client)) {
        refused.add(request, kept);
    }
}

/// Messages that the stream did not accept, and that are published again.
struct Refused<T> {
    waiting: VecDeque<(Request, T)>,
    not_before: Instant,
    pause: Pause,
}

impl<T> Default for Refused<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            not_before: Instant::now(),
            pause: Pause::new(),
        }
    }
}

impl<T> Refused<T> {
    fn add(&mut self, request: Request, kept: T) {
        if self.waiting.is_empty() {
            self.pause();
        }
        self.waiting.push_back((request, kept));
    }

    fn pause(&mut self) {
        self.not_before = Instant::now() + self.pause.next();
    }

    fn reset_pause(&mut self) {
        self.pause.reset();
        self.not_before = Instant::now();
    }
}
