//! Pulls messages from the server, up to the credit, into the local queue.
//!
//! One inbox receives all messages. A pull request names a number of messages. The server keeps the request until
//! it has sent them or the request expires, and then reports how many it did not send. So the number of
//! outstanding messages is known, and never more than the credit. Requests without a message or a heartbeat are
//! considered lost, and new ones are made on another inbox. Messages that still arrive in the previous inbox are
//! accepted: otherwise they would count as delivered until the server delivers them to another machine.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::{Message, StatusCode, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, interval};

use crate::counters::{Counters, QueueCounters};
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::exchange::Pause;
use crate::link::{Link, Links};

/// How long the server keeps a pull request.
const EXPIRES: Duration = Duration::from_secs(10);
/// How often it sends a heartbeat for a request.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// After how long without a message or heartbeat requests are considered lost.
const SILENCE: Duration = Duration::from_secs(13);
/// How often the state of the consumer is read.
const CHECK: Duration = Duration::from_secs(5);
/// The largest number of messages in one request.
const MAX_BATCH: usize = 1024;

/// The local queue, from the point of view of the puller.
pub(crate) trait Target: Send + Sync + 'static {
    /// How many more messages may be requested for it.
    fn credit(&self) -> usize;

    /// Told how long the server waits for an ack or a progress report.
    fn set_ack_wait(&self, wait: Duration);

    /// Delivers a message to it. Never waits for long.
    fn deliver(self: &Arc<Self>, link: &Link, delivery: Delivery, message: Message);
}

/// Pulls for one queue.
pub(crate) struct Puller<T> {
    pub(crate) links: Links,
    pub(crate) target: Arc<T>,
    /// Notified when the credit may have grown.
    pub(crate) room: Arc<Notify>,
    pub(crate) counters: Arc<QueueCounters>,
    pub(crate) bridge_counters: Arc<Counters>,
}

/// The requests on one inbox.
struct Requests {
    messages: Subscriber,
    /// The previous inbox, whose requests are considered lost.
    previous: Option<Subscriber>,
    inbox: String,
    /// How many messages are outstanding.
    outstanding: usize,
    /// When the last message or heartbeat arrived.
    last_heard: Instant,
}

impl Requests {
    /// No requests yet, on a new inbox.
    async fn on_new_inbox(link: &Link, previous: Option<Subscriber>) -> Result<Self> {
        let inbox = link.client.new_inbox();
        let subscribed = link.client.subscribe(format!("{inbox}.*")).await;
        let messages = subscribed.map_err(|why| Error::away("a subscription", why))?;
        Ok(Self {
            messages,
            previous,
            inbox,
            outstanding: 0,
            last_heard: Instant::now(),
        })
    }
}

impl<T: Target> Puller<T> {
    /// Pulls until an error is permanent. `consumer` creates or finds the consumer.
    pub(crate) async fn run<F>(mut self, consumer: impl Fn(Link) -> F) -> Error
    where
        F: Future<Output = Result<PullConsumer>>,
    {
        let mut pause = Pause::new();
        loop {
            let (mut link, epoch) = self.links.up().await;
            let consumer = match consumer(link.clone()).await {
                Ok(consumer) => consumer,
                Err(why) if !why.is_temporary() => return why,
                Err(why) => {
                    self.bridge_counters.record_error(&why.to_string());
                    tokio::time::sleep(pause.next()).await;
                    continue;
                }
            };
            let began = Instant::now();
            if let Err(why) = self.pull(&mut link, epoch, consumer).await {
                self.bridge_counters.record_error(&why.to_string());
                if began.elapsed() > CHECK {
                    pause.reset();
                }
                tokio::time::sleep(pause.next()).await;
            }
        }
    }

    /// Pulls until the link is lost or an error occurs.
    async fn pull(
        &mut self,
        link: &mut Link,
        epoch: u64,
        mut consumer: PullConsumer,
    ) -> Result<()> {
        let mut requests = Requests::on_new_inbox(link, None).await?;
        let mut number = 0u64;
        let mut check = interval(CHECK);
        let handle = link.clone();
        let created = consumer.cached_info().created;
        loop {
            let credit = self.target.credit();
            // If many messages are in progress, not every finished one causes a request.
            if credit > requests.outstanding
                && (requests.outstanding == 0
                    || credit - requests.outstanding >= credit.div_ceil(4))
            {
                let batch = (credit - requests.outstanding).min(MAX_BATCH);
                number += 1;
                self.request(&consumer, &mut requests, batch, number)
                    .await?;
            }
            tokio::select! {
                () = self.links.lost(link, epoch) => return Ok(()),
                message = requests.messages.next() => {
                    let mut message = Some(message);
                    while let Some(some) = message {
                        let some = some.ok_or_else(|| Error::away("what is pulled", "the client is closed"))?;
                        self.arrived(&handle, some, &mut requests)?;
                        message = requests.messages.next().now_or_never();
                    }
                }
                Some(message) = next_of(&mut requests.previous) => self.deliver(&handle, message),
                () = self.room.notified() => {}
                _ = check.tick() => {
                    let delivered = self.counters.delivered.get();
                    let starves = match consumer.info().await {
                        // Somebody has deleted it, perhaps with its stream.
                        Ok(info) if info.created != created => {
                            return Err(Error::away("the consumer", "it was created again"));
                        }
                        Ok(info) => {
                            self.counters.server_pending.set(info.num_pending);
                            self.counters.server_in_flight.set(info.num_ack_pending as u64);
                            self.target.set_ack_wait(info.config.ack_wait);
                            info.num_pending > 0 && info.num_waiting == 0
                        }
                        // On a slow connection the requested messages still arrive.
                        Err(why) if why.kind() == ConsumerInfoErrorKind::TimedOut => {
                            self.bridge_counters.record_error(&format!("the consumer: {why}"));
                            false
                        }
                        Err(why) => return Err(Error::away("the consumer", why)),
                    };
                    let is_quiet = delivered == self.counters.delivered.get();
                    if requests.outstanding > 0 && (requests.last_heard.elapsed() > SILENCE
                        || starves && is_quiet && requests.last_heard.elapsed() > CHECK)
                    {
                        self.counters.stalls.add(1);
                        self.bridge_counters.record_error("pulling: the server sends nothing; requested again");
                        requests = Requests::on_new_inbox(&handle, Some(requests.messages)).await?;
                    }
                }
            }
        }
    }

    async fn request(
        &self,
        consumer: &PullConsumer,
        requests: &mut Requests,
        batch: usize,
        number: u64,
    ) -> Result<()> {
        let config = BatchConfig {
            batch,
            expires: Some(EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        let inbox = format!("{}.{number}", requests.inbox).into();
        let sent = consumer.request_batch(config, inbox).await;
        sent.map_err(|why| Error::away("a pull request", why))?;
        if requests.outstanding == 0 {
            requests.last_heard = Instant::now();
        }
        requests.outstanding += batch;
        Ok(())
    }

    fn arrived(&self, link: &Link, message: Message, requests: &mut Requests) -> Result<()> {
        requests.last_heard = Instant::now();
        if let Some(status) = message.status {
            return ended(status, &message, requests);
        }
        requests.outstanding = requests.outstanding.saturating_sub(1);
        self.deliver(link, message);
        Ok(())
    }

    fn deliver(&self, link: &Link, message: Message) {
        // A message that is not a delivery cannot be acked, so it is ignored.
        if let Some(delivery) = message.reply.as_deref().and_then(Delivery::read) {
            self.target.deliver(link, delivery, message);
        }
    }
}

/// The next message of an inbox, if there is one.
async fn next_of(inbox: &mut Option<Subscriber>) -> Option<Message> {
    match inbox {
        Some(inbox) => inbox.next().await,
        None => std::future::pending().await,
    }
}

/// Handles a status of the server about a request.
fn ended(status: StatusCode, message: &Message, requests: &mut Requests) -> Result<()> {
    let text = message.description.as_deref().unwrap_or_default();
    match status.as_u16() {
        100 => Ok(()),
        // The request expired, there is no message, or a limit of the consumer ended it.
        404 | 408 => {
            requests.outstanding = requests
                .outstanding
                .saturating_sub(unsent(message, requests.outstanding));
            Ok(())
        }
        409 if text.starts_with("Message Size") || text.starts_with("Batch Completed") => {
            requests.outstanding = requests
                .outstanding
                .saturating_sub(unsent(message, requests.outstanding));
            Ok(())
        }
        _ => Err(Error::away("pulling", format!("{status} {text}"))),
    }
}

/// How many messages of the request the server did not send. All outstanding ones if it names no number.
fn unsent(message: &Message, outstanding: usize) -> usize {
    let headers = message.headers.as_ref();
    let number = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
    number
        .and_then(|number| number.as_str().parse().ok())
        .unwrap_or(outstanding)
}
