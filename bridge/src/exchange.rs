//! Many concurrent requests, each with an answer, over a connection that may break.
//!
//! One inbox receives all answers; the last word of its subject is the number of the request. So a request
//! costs neither a subscription nor a timer. Requests without an answer when the connection breaks, or that
//! [are lost](crate::line), are [sent again](Exchange::resend) in their original order. So requests have to be
//! idempotent: publishes with an id, acks.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::client::{PublishError as Unsent, PublishErrorKind};
use async_nats::jetstream::ErrorCode;
use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::error::{Error, Result};
use crate::line::{self, Line};
use crate::link::{ANSWER, Link};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The server's answer.
    Message(Message),
    /// Nothing listens to the subject: the stream or the consumer was deleted, or is not ready yet.
    NobodyListens,
}

/// Requests in flight, each with a value that the caller keeps for it.
pub(crate) struct Exchange<T> {
    link: Link,
    inbox: String,
    answers: Subscriber,
    sent: BTreeMap<u64, Sent<T>>,
    next: u64,
    /// The requests on this connection.
    line: Line,
    /// The subject of markers.
    marker: Subject,
    /// The markers whose answers are awaited, and for each the last request before it.
    awaited: BTreeMap<u64, u64>,
}

struct Sent<T> {
    request: Request,
    kept: T,
    /// Its place in the line, and when it was sent.
    place: u64,
    at: Instant,
    /// When it is sent again, because its answer was inconclusive or a later request was answered.
    due: Option<Instant>,
    /// How often it was sent on this connection.
    times: u32,
}

impl<T> Sent<T> {
    /// Whether it has to be sent again.
    fn is_due(&self, line: &Line, now: Instant) -> bool {
        self.due.is_some_and(|due| due < now) || line.is_ignored(self.place, now)
    }
}

impl<T> Exchange<T> {
    /// An exchange without requests on this link. They will concern this stream.
    pub(crate) async fn on(link: Link, stream: &str) -> Result<Self> {
        let inbox = link.client.new_inbox();
        let answers = subscribe(&link, &inbox).await?;
        Ok(Self {
            link,
            inbox,
            answers,
            sent: BTreeMap::new(),
            next: 0,
            line: Line::new(),
            marker: line::marker(stream),
            awaited: BTreeMap::new(),
        })
    }

    /// Moves to another link, or to the same one after a reconnect, and repeats all unanswered requests.
    pub(crate) async fn move_to(&mut self, link: Link) -> Result<()> {
        self.inbox = link.client.new_inbox();
        self.answers = subscribe(&link, &self.inbox).await?;
        self.link = link;
        self.line = Line::new();
        self.awaited.clear();
        for sent in self.sent.values_mut() {
            sent.times = 0;
            sent.due = Some(Instant::now());
        }
        self.resend(Instant::now() + ANSWER).await
    }

    /// How many requests are unanswered.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Sends a request. [`next`](Self::next) returns its answer, with `kept`.
    pub(crate) async fn send(&mut self, request: Request, kept: T) -> Result<()> {
        let number = self.next;
        self.next += 1;
        // Stored first: if the client fails, the request is repeated on the next link.
        self.sent.insert(
            number,
            Sent {
                request: request.clone(),
                kept,
                place: self.line.send(),
                at: Instant::now(),
                due: None,
                times: 1,
            },
        );
        publish(&self.link, &self.inbox, number, request).await
    }

    /// The next answer if one has arrived.
    pub(crate) fn ready(&mut self) -> Option<Result<(Answer, Request, T)>> {
        self.next().now_or_never()
    }

    /// The next answer, with the request and what was kept for it. Cancelling this loses nothing.
    pub(crate) async fn next(&mut self) -> Result<(Answer, Request, T)> {
        loop {
            let Some(message) = self.answers.next().await else {
                return Err(Error::away("the server's answers", "the client is closed"));
            };
            let number = message.subject.rsplit('.').next();
            let number: Option<u64> = number.and_then(|number| number.parse().ok());
            if let Some(last) = number.and_then(|number| self.awaited.remove(&number)) {
                self.line.read(last);
                continue;
            }
            // An unknown answer, or the second answer to a request that was sent twice.
            let Some(sent) = number.and_then(|number| self.sent.remove(&number)) else {
                continue;
            };
            self.line.answered(sent.place);
            let answer = match message.status {
                Some(StatusCode::NO_RESPONDERS) => Answer::NobodyListens,
                _ => Answer::Message(message),
            };
            return Ok((answer, sent.request, sent.kept));
        }
    }

    /// Repeats the requests that are lost at the time `now`, and sends a marker if that is not known. A request that
    /// the client refuses delays no other one.
    pub(crate) async fn resend(&mut self, now: Instant) -> Result<()> {
        let line = &self.line;
        let mut refused = Ok(());
        for (&number, sent) in &mut self.sent {
            if sent.is_due(line, now) {
                sent.place = line.send();
                sent.at = Instant::now();
                sent.due = None;
                sent.times += 1;
                match publish(&self.link, &self.inbox, number, sent.request.clone()).await {
                    Err(why @ Error::Refused { .. }) => {
                        sent.due = Some(now + ANSWER);
                        refused = Err(why);
                    }
                    sent => sent?,
                }
            } else if sent.due.is_none() && line.is_overtaken(sent.place) {
                sent.due = Some(now + ANSWER);
            }
        }
        self.mark(now).await.and(refused)
    }

    /// Sends a marker if a request has waited for its answer for long, and it is not known whether the server has
    /// read it.
    async fn mark(&mut self, now: Instant) -> Result<()> {
        let waits = self.sent.values().filter(|sent| sent.at + ANSWER < now);
        let newest = waits.map(|sent| sent.place).max();
        let Some(last) = newest.and_then(|newest| self.line.mark(newest, now)) else {
            return Ok(());
        };
        let number = self.next;
        self.next += 1;
        self.awaited.insert(number, last);
        let request = Request {
            subject: self.marker.clone(),
            headers: None,
            payload: Bytes::new(),
        };
        publish(&self.link, &self.inbox, number, request).await
    }

    /// Takes back a request whose answer is inconclusive: it is sent again by the next [`resend`](Self::resend),
    /// and counts as sent `times` times.
    pub(crate) fn put_back(&mut self, request: Request, kept: T, times: u32) {
        let number = self.next;
        self.next += 1;
        let now = Instant::now();
        self.sent.insert(
            number,
            Sent {
                request,
                kept,
                place: self.line.sent(),
                at: now,
                due: Some(now),
                times,
            },
        );
    }

    /// The numbers of the requests that were sent at least `times` times on this connection, and that are lost at
    /// the time `now`.
    pub(crate) fn silent(&self, times: u32, now: Instant) -> Vec<u64> {
        let is_silent = |sent: &Sent<T>| sent.times >= times && sent.is_due(&self.line, now);
        let silent = self.sent.iter().filter(|(_, sent)| is_silent(sent));
        silent.map(|(&number, _)| number).collect()
    }

    /// The numbers of the requests for which such a value is kept.
    pub(crate) fn which(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<u64> {
        let wanted = self.sent.iter().filter(|(_, sent)| is_wanted(&sent.kept));
        wanted.map(|(&number, _)| number).collect()
    }

    /// The value that is kept for a request.
    pub(crate) fn kept(&self, number: u64) -> Option<&T> {
        self.sent.get(&number).map(|sent| &sent.kept)
    }

    /// Removes a request without an answer, and returns it with its value.
    pub(crate) fn remove(&mut self, number: u64) -> Option<(Request, T)> {
        let sent = self.sent.remove(&number)?;
        Some((sent.request, sent.kept))
    }

    /// Removes the requests with a payload of more than `limit` bytes, and returns them with their values.
    pub(crate) fn take_longer(&mut self, limit: usize) -> Vec<(Request, T)> {
        let longer = self.sent.iter();
        let longer = longer.filter(|(_, sent)| sent.request.payload.len() > limit);
        let longer: Vec<u64> = longer.map(|(&number, _)| number).collect();
        let removed = longer.into_iter().map(|number| self.remove(number));
        removed.flatten().collect()
    }

    /// Sends a request without headers that requests no answer.
    pub(crate) async fn send_unanswered(&self, request: &Request) -> Result<()> {
        let Request {
            subject, payload, ..
        } = request;
        let sent = self.link.client.publish(subject.clone(), payload.clone());
        accepted(tokio::time::timeout(ANSWER, sent).await)
    }
}

async fn subscribe(link: &Link, inbox: &str) -> Result<Subscriber> {
    let subscribed = link.client.subscribe(format!("{inbox}.*")).await;
    subscribed.map_err(|why| Error::away("a subscription", why))
}

async fn publish(link: &Link, inbox: &str, number: u64, request: Request) -> Result<()> {
    let Request {
        subject,
        headers,
        payload,
    } = request;
    let reply = format!("{inbox}.{number}");
    let sent = match headers {
        Some(headers) => {
            let client = &link.client;
            let sent = client.publish_with_reply_and_headers(subject, reply, headers, payload);
            tokio::time::timeout(ANSWER, sent).await
        }
        None => {
            let sent = link.client.publish_with_reply(subject, reply, payload);
            tokio::time::timeout(ANSWER, sent).await
        }
    };
    accepted(sent)
}

/// Whether the client has accepted a message.
fn accepted(sent: Result<Result<(), Unsent>, Elapsed>) -> Result<()> {
    match sent {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) if why.kind() == PublishErrorKind::MaxPayloadExceeded => {
            Err(Error::refused("a request", why))
        }
        Ok(Err(why)) => Err(Error::away("a request", why)),
        Err(_) => Err(Error::away("a request", "the client accepts no message")),
    }
}

/// The server's answer to a publish.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// It is in the stream under this number; `again` if it was stored before.
    Stored { sequence: u64, again: bool },
    /// The stream has reached one of its limits.
    Full(String),
    /// The key does not have the expected revision.
    Conflict,
    /// The server or the stream is not ready.
    NotReady(String),
    /// It is refused permanently.
    Refused(String),
}

impl Published {
    /// Reads an answer.
    pub(crate) fn from(answer: &Answer) -> Self {
        let Answer::Message(message) = answer else {
            return Published::NotReady("no stream listens to the subject".to_owned());
        };
        let read: Result<PublishReply, _> = serde_json::from_slice(&message.payload);
        match read {
            Ok(PublishReply {
                error: Some(error), ..
            }) => Self::of_error(error),
            Ok(PublishReply {
                seq,
                duplicate,
                error: None,
            }) if seq > 0 => Published::Stored {
                sequence: seq,
                again: duplicate,
            },
            _ => Published::NotReady("the answer is not one of JetStream".to_owned()),
        }
    }

    fn of_error(error: PublishError) -> Self {
        let PublishError {
            code,
            err_code,
            description,
        } = error;
        match err_code {
            // How the server says that a limit of the stream is reached; resources of server and account.
            ErrorCode::STREAM_STORE_FAILED
            | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Published::Full(description),
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Published::Conflict,
            // The same id is being replicated in the cluster; messages wait for replication.
            ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
            | ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY
            | ErrorCode::STREAM_TOO_MANY_REQUESTS => Published::NotReady(description),
            _ if code == 503 => Published::NotReady(description),
            _ => Published::Refused(description),
        }
    }
}

#[derive(serde::Deserialize)]
struct PublishReply {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    error: Option<PublishError>,
}

#[derive(serde::Deserialize)]
struct PublishError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: ErrorCode,
    #[serde(default)]
    description: String,
}

/// The pause before a retry, which doubles each time.
#[derive(Debug, Clone)]
pub(crate) struct Pause {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self::up_to(Self::LONGEST)
    }

    /// One that grows to `longest`.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self::between(Self::FIRST, longest)
    }

    /// One that grows from `first` to `longest`.
    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            next: first,
            longest,
        }
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }

    /// Called after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Published {
        let message = Message {
            subject: "inbox.1".into(),
            reply: None,
            payload: Bytes::from_static(text.as_bytes()),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        Published::from(&Answer::Message(message))
    }

    #[test]
    fn the_server_s_answers_to_a_publish_are_distinguished() {
        let stored = answer(r#"{"stream":"q","seq":7,"duplicate":true}"#);
        assert_eq!(
            stored,
            Published::Stored {
                sequence: 7,
                again: true
            }
        );
        let full = answer(
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"seq":0}"#,
        );
        assert_eq!(
            full,
            Published::Full("maximum messages exceeded".to_owned())
        );
        let conflict = answer(
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 4"}}"#,
        );
        assert_eq!(conflict, Published::Conflict);
        let refused = answer(
            r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#,
        );
        assert!(matches!(refused, Published::Refused(_)));
        let not_ready =
            answer(r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#);
        assert!(matches!(not_ready, Published::NotReady(_)));
    }

    #[test]
    fn an_answer_that_is_not_from_jetstream_is_not_a_success() {
        for text in ["", "+OK", "{}", r#"{"seq":0}"#, r#"{"stream":"q"}"#] {
            assert!(matches!(answer(text), Published::NotReady(_)), "{text}");
        }
        assert!(matches!(
            Published::from(&Answer::NobodyListens),
            Published::NotReady(_)
        ));
    }

    #[tokio::test]
    async fn a_request_that_is_lost_is_sent_again_on_the_same_connection() {
        let server = crate::bridge::server::Server::start();
        let context = crate::context::Context::at(server.url());
        let counters = Default::default();
        let link = Link::connect(&context, "test", &counters).await.unwrap();
        let mut exchange = Exchange::on(link.clone(), "none").await.unwrap();
        let mut requests = link.client.subscribe("work").await.unwrap();
        let request = || Request {
            subject: "work".into(),
            headers: None,
            payload: Bytes::new(),
        };
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        // The first one of these requests is lost, with and without later ones that are answered.
        for others in [0, 2] {
            for number in 0..=others {
                exchange.send(request(), number).await.unwrap();
            }
            let (mut taken, mut answered) = (0, Vec::new());
            while exchange.len() > 0 {
                tokio::select! {
                    Some(message) = requests.next() => {
                        taken += 1;
                        if taken > 1 {
                            let reply = message.reply.unwrap();
                            link.client.publish(reply, Bytes::new()).await.unwrap();
                        }
                    }
                    answer = exchange.next() => answered.push(answer.unwrap().2),
                    _ = tick.tick() => exchange.resend(Instant::now()).await.unwrap(),
                }
            }
            assert_eq!((taken, answered.last()), (others + 2, Some(&0)));
        }
    }

    #[tokio::test]
    async fn a_request_that_the_client_refuses_delays_no_other() {
        let server = crate::bridge::server::Server::start();
        let context = crate::context::Context::at(server.url());
        let counters = Default::default();
        let link = Link::connect(&context, "test", &counters).await.unwrap();
        let mut exchange = Exchange::on(link.clone(), "none").await.unwrap();
        let mut requests = link.client.subscribe("work").await.unwrap();
        let request = |len| Request {
            subject: "work".into(),
            headers: None,
            payload: vec![0; len].into(),
        };
        for (len, number) in [(2 << 20, 1), (1, 2)] {
            exchange.put_back(request(len), number, 1);
        }
        let resent = exchange.resend(Instant::now() + ANSWER).await;
        assert!(matches!(resent, Err(Error::Refused { .. })), "{resent:?}");
        assert_eq!(requests.next().await.unwrap().payload.len(), 1);
        let longer = exchange.take_longer(1 << 20);
        assert_eq!((longer.len(), longer[0].1, exchange.len()), (1, 1, 1));
    }
}
