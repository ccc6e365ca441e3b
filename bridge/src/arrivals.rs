//! What the server has delivered, on its way into the local queue: in its order, though the bytes of some
//! messages lie elsewhere, and some find no room at once.
//!
//! What is still on its way when the bridge is killed was never in shared memory. The server has it, and delivers
//! it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use shoal::Timeout;
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::error::Error;
use crate::held::Arrival;
use crate::link::Link;
use crate::pull::Target;
use crate::queue::{BridgedQueue, lock};
use crate::settle::{DeadLetter, Word};
use crate::token::Token;
use crate::wire::{self, Body};

/// How often a message that cannot be decoded is tried, here and elsewhere, before it is a dead letter.
const TRIES: u64 = 5;
/// How long another machine has to take a message that cannot be decoded here.
const TO_OTHERS: Duration = Duration::from_secs(1);
/// When a dead letter that cannot be decoded is tried again: somebody has to look at it.
const FOR_A_PERSON: Duration = Duration::from_secs(60);
/// How many messages are looked for at a time whose bytes are elsewhere, and how many wait behind them.
const AHEAD: usize = 16;
/// When a message is tried again that found no room in the local queue.
const NO_ROOM: Duration = Duration::from_millis(20);

/// A message that is not in the local queue yet.
pub(crate) struct Arrived {
    token: Token,
    bytes: Source,
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

/// What was found where the bytes of a message are.
enum Found {
    Bytes(Bytes),
    Nothing(String),
    /// It is delivered again when the server has waited for long enough.
    NotNow(Error),
}

impl BridgedQueue {
    /// Gives a message to the local queue.
    ///
    /// # Errors
    /// There is no room for it now, and the message is returned.
    fn put_here(&self, token: Token, bytes: Bytes) -> Result<(), Box<NoRoom>> {
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
                self.not_for_us(token, bytes, &why.to_string());
            }
            // A program here has closed it. Other machines go on.
            Err(shoal::Error::Closed) => self.tell(Word::give_back(token, TO_OTHERS, None)),
            Err(why) => return Err(Box::new(NoRoom { token, bytes, why })),
        }
        Ok(())
    }

    /// Gives what has arrived to the local queue in its order, as the bytes and the room for them are there.
    pub(crate) async fn take_in(self: Arc<Self>, mut arrived: mpsc::UnboundedReceiver<Arrived>) {
        let mut coming = FuturesOrdered::new();
        loop {
            tokio::select! {
                Some((token, found)) = coming.next() => {
                    self.take_in_one(token, found).await;
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

    async fn take_in_one(&self, token: Token, found: Found) {
        let mut place = match found {
            Found::Bytes(bytes) => self.put_here(token, bytes),
            Found::Nothing(why) => return self.not_for_us(token, Bytes::new(), &why),
            Found::NotNow(why) => {
                self.all.went_wrong(&why.to_string());
                return self.held.forget(&token.delivery);
            }
        };
        while let Err(no_room) = place {
            let NoRoom { token, bytes, why } = *no_room;
            self.all
                .went_wrong(&format!("{}: {why}; tried again", self.carried.name));
            tokio::time::sleep(NO_ROOM).await;
            place = self.put_here(token, bytes);
        }
    }

    /// The bytes of a message.
    async fn find(self: Arc<Self>, arrived: Arrived) -> (Token, Found) {
        let Arrived { token, bytes } = arrived;
        let found = match (bytes, &token.object) {
            (Source::Here(bytes), _) => Found::Bytes(bytes),
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

    /// A message that cannot be given to the local queue: another machine may be able to, and if none is,
    /// it is a dead letter.
    fn not_for_us(&self, token: Token, payload: Bytes, why: &str) {
        self.counters.undecodable.add(1);
        let times = token.delivery.times;
        self.all.went_wrong(&format!(
            "{} message {}: {why}",
            self.names.stream, token.delivery.sequence
        ));
        if self.is_dead_letters() {
            // There is no further queue for it.
            self.tell(Word::give_back(token, FOR_A_PERSON, None));
        } else if times >= TRIES {
            let reason = format!("no machine could take it: {why}");
            self.give_up(DeadLetter {
                token,
                payload,
                attempts: times,
                reason,
                settlement: None,
            });
        } else {
            self.tell(Word::give_back(token, TO_OTHERS, None));
        }
    }
}

impl Target for BridgedQueue {
    fn credit(&self) -> usize {
        if self.relay.queue().is_closed() {
            return 0;
        }
        let lying = self.lying();
        lock(&self.demand).credit(self.held.len(), lying)
    }

    fn deliver(self: &Arc<Self>, link: &Link, delivery: Delivery, message: Message) {
        let earlier = wire::before(message.headers.as_ref());
        let mut token = Token {
            delivery,
            object: None,
            earlier,
        };
        match self.held.arrive(&token.delivery) {
            Arrival::New => {}
            Arrival::Known => return,
            Arrival::Done => return self.tell(Word::done(token, None)),
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
            return self.give_up(letter);
        }
        let bytes = match body {
            Body::Here if self.pending.load(Ordering::Relaxed) == 0 => {
                match self.put_here(token, message.payload) {
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
            Body::Unknown { why } => return self.not_for_us(token, message.payload, &why),
        };
        // In its turn: behind what has arrived before.
        self.pending.fetch_add(1, Ordering::Relaxed);
        let _ = self.arrivals.send(Arrived { token, bytes });
    }
}
