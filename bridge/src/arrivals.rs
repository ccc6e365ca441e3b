//! Puts messages that the server has delivered into the local queue, in the order of the deliveries. The bytes of
//! some messages have to be read from the object store first, and some have to wait for room.
//!
//! A message that is not in the local queue when the bridge is killed was never in shared memory. The server still
//! has it, and delivers it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use shoal::Timeout;
use tokio::sync::mpsc;

use crate::acknowledgement::{Acknowledgement, DeadLetter};
use crate::delivery::Delivery;
use crate::error::Error;
use crate::exchange::Pause;
use crate::held::Arrival;
use crate::link::Link;
use crate::pull::Target;
use crate::queue::{BridgedQueue, lock};
use crate::token::Token;
use crate::wire::{self, Body};

/// How often a message that cannot be accepted is delivered, here and elsewhere, before it becomes a dead letter.
const MAX_DELIVERIES: u64 = 5;
/// After how long a message that cannot be accepted here is delivered again, possibly to another machine.
const RETRY_ELSEWHERE: Duration = Duration::from_secs(1);
/// After how long a dead letter that cannot be accepted is delivered again: a person has to look at it.
const RETRY_DEAD_LETTER: Duration = Duration::from_secs(60);
/// How many messages are fetched from the object store, or wait behind such messages, at the same time.
const AHEAD: usize = 16;
/// The shortest and the longest pause before a message is tried again that found no room in the local queue, if no
/// worker finishes a message before.
const ROOM_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// A message that is not in the local queue yet.
pub(crate) struct Arrived {
    token: Token,
    bytes: Source,
}

impl Arrived {
    /// A message that was in the local queue before.
    pub(crate) fn again(token: Token, bytes: Bytes) -> Self {
        Self {
            token,
            bytes: Source::Here(bytes),
        }
    }
}

/// Where the bytes of a message are.
enum Source {
    Here(Bytes),
    /// In the object that its token names, of this size.
    Stored(Box<Link>, u64),
}

/// A message for which there is no room in the local queue.
struct NoRoom {
    token: Token,
    bytes: Bytes,
    why: shoal::Error,
}

/// The result of reading the bytes of a message.
enum Found {
    Bytes(Bytes),
    Nothing(String),
    /// A temporary error. The server delivers the message again when its ack wait is over.
    NotNow(Error),
}

impl BridgedQueue {
    /// Puts a message into the local queue.
    ///
    /// # Errors
    /// There is no room for it now. The error contains the message.
    fn put_locally(&self, token: Token, bytes: Bytes) -> Result<(), Box<NoRoom>> {
        let times = token.delivery.times;
        let attempts = u32::try_from(token.before()).unwrap_or(u32::MAX);
        *lock(&self.delivered_at) = Instant::now();
        match self.relay.deliver(
            &bytes,
            attempts,
            &token.to_bytes(),
            Timeout::Val(Duration::ZERO),
        ) {
            Ok(()) => {
                self.counters.delivered.add(1);
                self.counters.redelivered.add((times > 1).into());
            }
            Err(why @ (shoal::Error::TooLarge { .. } | shoal::Error::Invalid { .. })) => {
                self.reject(token, bytes, &why.to_string());
            }
            // A program here has closed the queue. Other machines continue.
            Err(shoal::Error::Closed) => {
                self.acknowledge(Acknowledgement::nak(token, RETRY_ELSEWHERE, None))
            }
            Err(why) => return Err(Box::new(NoRoom { token, bytes, why })),
        }
        Ok(())
    }

    /// Puts arrived messages into the local queue in their order, as soon as their bytes are read and there is
    /// room.
    pub(crate) async fn deliver_arrived(
        self: Arc<Self>,
        mut arrived: mpsc::UnboundedReceiver<Arrived>,
    ) {
        let mut coming = FuturesOrdered::new();
        loop {
            tokio::select! {
                Some((token, found)) = coming.next() => {
                    self.deliver_one(token, found).await;
                    self.pending.fetch_sub(1, Ordering::Relaxed);
                    self.room.notify_one();
                }
                next = arrived.recv(), if coming.len() < AHEAD => match next {
                    Some(arrived) => coming.push_back(self.clone().find(arrived)),
                    None => return,
                }
            }
        }
    }

    async fn deliver_one(&self, token: Token, found: Found) {
        let mut place = match found {
            Found::Bytes(bytes) => self.put_locally(token, bytes),
            Found::Nothing(why) => return self.reject(token, Bytes::new(), &why),
            Found::NotNow(why) => {
                self.bridge_counters.record_error(&why.to_string());
                return self.held.forget(&token.delivery);
            }
        };
        let [shortest, longest] = ROOM_PAUSES;
        let mut pause = Pause::between(shortest, longest);
        while let Err(no_room) = place {
            let NoRoom { token, bytes, why } = *no_room;
            let name = &self.carried.name;
            self.bridge_counters.record_error(&match why {
                shoal::Error::Timeout => {
                    format!("{name}: the local queue is full; messages wait for its workers")
                }
                why => format!("{name}: {why}; tried again"),
            });
            // A message that is finished leaves room. One that is only taken does too, without a notice.
            let _ = tokio::time::timeout(pause.next(), self.finished.notified()).await;
            place = self.put_locally(token, bytes);
        }
    }

    /// The bytes of a message.
    async fn find(self: Arc<Self>, arrived: Arrived) -> (Token, Found) {
        let Arrived { token, bytes } = arrived;
        let most = self.relay.queue().max_message();
        let found = match (bytes, &token.object) {
            (Source::Here(bytes), _) => Found::Bytes(bytes),
            // Checked before it is read: the size is what another program has written.
            (Source::Stored(_, size), _) if size > most => Found::Nothing(format!(
                "it has {size} bytes, and a message here has at most {most}"
            )),
            (Source::Stored(link, size), Some(object)) => {
                match self.large.get(&link.jetstream, object, size).await {
                    Ok(Some(bytes)) => Found::Bytes(bytes.into()),
                    Ok(None) => {
                        Found::Nothing(format!("there is no object {object} of {size} bytes"))
                    }
                    Err(why) => Found::NotNow(why),
                }
            }
            (Source::Stored(..), None) => Found::Nothing("it names no object".to_owned()),
        };
        (token, found)
    }

    /// Handles a message that cannot be put into the local queue. It is returned for other machines, and becomes a
    /// dead letter after [`MAX_DELIVERIES`] deliveries.
    fn reject(&self, token: Token, payload: Bytes, why: &str) {
        self.counters.undecodable.add(1);
        let times = token.delivery.times;
        self.bridge_counters.record_error(&format!(
            "{} message {}: {why}",
            self.names.stream, token.delivery.sequence
        ));
        if self.is_dead_letters() {
            // A dead letter has no dead-letter queue of its own.
            self.acknowledge(Acknowledgement::nak(token, RETRY_DEAD_LETTER, None));
        } else if times >= MAX_DELIVERIES {
            let reason = format!("no machine could accept it: {why}");
            self.publish_dead_letter(DeadLetter {
                token,
                payload,
                attempts: times,
                reason,
                settlement: None,
            });
        } else {
            self.acknowledge(Acknowledgement::nak(token, RETRY_ELSEWHERE, None));
        }
    }
}

impl Target for BridgedQueue {
    fn credit(&self) -> usize {
        if self.relay.queue().is_closed() {
            return 0;
        }
        let unleased = self.unleased();
        lock(&self.demand).credit(self.held.len(), unleased)
    }

    fn set_ack_wait(&self, wait: Duration) {
        self.ack_wait
            .send_if_modified(|known| std::mem::replace(known, wait) != wait);
    }

    fn deliver(self: &Arc<Self>, link: &Link, delivery: Delivery, message: Message) {
        let earlier = wire::before(message.headers.as_ref());
        let mut token = Token {
            delivery,
            object: None,
            earlier,
        };
        match self.held.arrive(&token.delivery, self.era()) {
            Arrival::New => {}
            Arrival::Known => return,
            Arrival::Done => return self.acknowledge(Acknowledgement::ack(token, None)),
        }
        let body = wire::body(message.headers.as_ref());
        let before = token.before();
        if let Some(most) = self.relay.queue().max_attempts()
            && before >= most.into()
            && body == Body::Here
        {
            let reason = format!("it was delivered {before} times");
            let letter = DeadLetter {
                token,
                payload: message.payload,
                attempts: before,
                reason,
                settlement: None,
            };
            return self.publish_dead_letter(letter);
        }
        let bytes = match body {
            Body::Here if self.pending.load(Ordering::Relaxed) == 0 => {
                match self.put_locally(token, message.payload) {
                    Ok(()) => return,
                    Err(no_room) => {
                        token = no_room.token;
                        Source::Here(no_room.bytes)
                    }
                }
            }
            Body::Here => Source::Here(message.payload),
            Body::Stored { object, size } => {
                token.object = Some(object);
                Source::Stored(Box::new(link.clone()), size)
            }
            Body::Unknown { why } => return self.reject(token, message.payload, &why),
        };
        // It is put after the messages that arrived before it.
        self.pending.fetch_add(1, Ordering::Relaxed);
        let _ = self.arrivals.send(Arrived { token, bytes });
    }
}
