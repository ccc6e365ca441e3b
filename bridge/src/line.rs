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

use async_nats::Subject;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::link::{ANSWER, Link};

/// After how long without its answer a marker is repeated: the server drops such requests if it has too many.
pub(crate) const MARKER: Duration = Duration::from_secs(30);
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
}

impl Line {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            sent: 0,
            answered: 0,
            heard: Instant::now(),
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

    /// When the last answer came.
    pub(crate) fn heard(&self) -> Instant {
        self.lock().heard
    }

    /// Waits until this request, which was sent just now, or its answer, is lost.
    pub(crate) async fn lost(&self, number: u64, link: &Link, stream: &str) {
        sleep(ANSWER).await;
        let mut overtaken: Option<Instant> = None;
        let mut read: Option<Instant> = None;
        loop {
            if self.is_overtaken(number) {
                let since = *overtaken.get_or_insert_with(Instant::now);
                if since.elapsed() >= ANSWER {
                    return;
                }
            }
            let is_silent = self.heard().elapsed() >= ANSWER;
            match read {
                Some(since) if is_silent && since.elapsed() >= ANSWER => return,
                None if is_silent => {
                    let request = async_nats::Request::new()
                        .payload(Bytes::new())
                        .timeout(Some(MARKER));
                    tokio::select! {
                        answer = link.client.send_request(marker(stream), request) => {
                            use async_nats::RequestErrorKind::TimedOut;
                            // That nobody listens is the server's answer too.
                            if !answer.is_err_and(|why| why.kind() == TimedOut) {
                                read = Some(Instant::now());
                            }
                        }
                        () = self.heard_again() => {}
                    }
                    continue;
                }
                _ => sleep(SLICE).await,
            }
        }
    }

    /// Waits until an answer has come.
    async fn heard_again(&self) {
        while self.heard().elapsed() >= ANSWER {
            sleep(SLICE).await;
        }
    }
}
