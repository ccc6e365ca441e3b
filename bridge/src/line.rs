//! The order of the requests on one connection, and of their answers.
//!
//! On a slow connection a request waits behind the data that was sent before it, perhaps for minutes. So a missing
//! answer alone does not say that a request or its answer was lost, and a repetition would wait there too. The
//! server reads a connection in order, and answers the publishes to one stream in order. So a request is lost
//!
//! * if a later one was answered, and its own answer does not follow in time, or
//! * if the server has read it, and answers none of these requests in time. The answer to a *marker* tells what the
//!   server has read: a request for information, which is sent after the others and is cheap.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{RequestError, RequestErrorKind, Subject};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep};

use crate::link::{ANSWER, Link};

/// How often it is checked whether a request is lost.
const SLICE: Duration = Duration::from_secs(1);

/// The subject of markers: any request that the bridge may make of the stream.
pub(crate) fn marker(stream: &str) -> Subject {
    format!("$JS.API.STREAM.INFO.{stream}").into()
}

/// The order of some requests.
#[derive(Debug)]
pub(crate) struct Line(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many were sent.
    sent: u64,
    /// The last one of those that were answered.
    answered: u64,
    /// When the last answer came.
    heard: Instant,
    /// The last one that the server has read for certain, and when that was known.
    read: (u64, Instant),
    /// When the last marker was sent.
    marked: Option<Instant>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            sent: 0,
            answered: 0,
            heard: Instant::now(),
            read: (0, Instant::now()),
            marked: None,
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a request, which is sent now.
    pub(crate) fn send(&self) -> u64 {
        let mut inner = self.lock();
        inner.sent += 1;
        inner.sent
    }

    /// How many requests were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// This request was answered.
    pub(crate) fn answered(&self, number: u64) {
        let mut inner = self.lock();
        inner.answered = inner.answered.max(number);
        inner.heard = Instant::now();
    }

    /// Whether a later request than this one was answered.
    pub(crate) fn is_overtaken(&self, number: u64) -> bool {
        self.lock().answered > number
    }

    /// The server has answered the marker that was sent after this request.
    pub(crate) fn read(&self, number: u64) {
        let mut inner = self.lock();
        inner.read = (inner.read.0.max(number), Instant::now());
    }

    /// Whether the server has read this request, and has answered none for long, at the time `now`.
    pub(crate) fn is_ignored(&self, number: u64, now: Instant) -> bool {
        let inner = self.lock();
        number <= inner.read.0 && inner.heard.max(inner.read.1) + ANSWER < now
    }

    /// The last request that was sent if a marker has to follow now, because no answer has come for long and it is
    /// not known whether the server has read the request `number`. Markers are repeated: a server that has too many
    /// requests drops some, and a stream without a leader does not answer.
    pub(crate) fn mark(&self, number: u64, now: Instant) -> Option<u64> {
        let mut inner = self.lock();
        let is_recent = |at: Instant| at + ANSWER > now;
        let is_marked = inner.marked.is_some_and(is_recent);
        // What the server is known to have read is decided first.
        let is_decided = inner.read.0 == 0 || inner.read.1 + ANSWER + 2 * SLICE <= now;
        if is_marked || !is_decided || number <= inner.read.0 || is_recent(inner.heard) {
            return None;
        }
        inner.marked = Some(now);
        Some(inner.sent)
    }

    /// Waits until this request, which was sent just now, or its answer, is lost.
    pub(crate) async fn lost(&self, number: u64, link: &Link, stream: &str) {
        sleep(ANSWER).await;
        let mut overtaken: Option<Instant> = None;
        let mut markers = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            if self.is_overtaken(number) && *overtaken.get_or_insert(now) + ANSWER <= now
                || self.is_ignored(number, now)
            {
                return;
            }
            if let Some(last) = self.mark(number, now) {
                let request = async_nats::Request::new()
                    .payload(Bytes::new())
                    .timeout(None);
                let answer = link.client.send_request(marker(stream), request);
                markers.push(answer.map(move |answer| (last, answer)));
            }
            tokio::select! {
                Some((last, answer)) = markers.next() => {
                    // That nobody listens is the server's answer too.
                    let is_answer = |why: RequestError| why.kind() == RequestErrorKind::NoResponders;
                    if answer.map_or_else(is_answer, |_| true) {
                        self.read(last);
                    }
                }
                () = sleep(SLICE) => {}
            }
        }
    }
}
