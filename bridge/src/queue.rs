//! One bridged queue: puts are published, messages of the server are pulled as far as there is demand, and their
//! settlements are sent to the server.
//!
//! # What a kill of the bridge leaves
//! A request is published before it is marked as done. The next bridge publishes it again with the same id, and
//! the server counts it once. A message of the server is in the local queue, with the subject of its ack as its
//! token. The next bridge finds it there ([`QueueRelay::outstanding`]) and continues to report progress to the
//! server. A settlement is confirmed by the server before it is marked as done; otherwise the next bridge sends
//! it again. All settlements are read before anything is pulled, so a message that was acked here while no
//! bridge ran is not processed again here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Message;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use shoal::{Options, Queue, QueueRelay, RelayOptions, RelayRequest, Timeout};
use tokio::sync::{Notify, mpsc};

use crate::bridge::Settings;
use crate::counters::{Counters, QueueCounters};
use crate::delivery::Delivery;
use crate::demand::Demand;
use crate::error::{Error, Result};
use crate::held::{Arrival, HeldTable, Phase};
use crate::large::Large;
use crate::link::{Link, Links};
use crate::names::Names;
use crate::options::Carried;
use crate::publish::{DeadLetterReason, Outgoing, Publisher, WINDOW};
use crate::pull::{Puller, Target};
use crate::settings;
use crate::settle::{DeadLetter, Settler, Word, read_settlements};
use crate::threads::Threads;
use crate::token::Token;
use crate::wire::{self, Body};

/// How many messages of the server may be here by default.
const IN_FLIGHT: usize = 1024;
/// How many bytes of what was put are copied before the server has stored some of it. The rest waits where it
/// is, in shared memory.
const MOST_COPIED: usize = 64 << 20;
/// For how long a request counts: programs that do not wait ask again and again.
const WANTED: Duration = Duration::from_millis(200);
/// How often a message that cannot be decoded is tried, here and elsewhere, before it is a dead letter.
const TRIES: u64 = 5;
/// The delay before a message that cannot be decoded here is delivered to another machine.
const TO_OTHERS: Duration = Duration::from_secs(1);
/// How many messages are looked for at a time whose bytes are elsewhere, and how many wait behind them.
const AHEAD: usize = 16;
/// When a message is tried again that found no room in the local queue.
const NO_ROOM: Duration = Duration::from_millis(20);
/// When a dead letter that cannot be decoded is tried again: somebody has to look at it.
const FOR_A_PERSON: Duration = Duration::from_secs(60);
/// The shortest time between two words that what is here is worked on.
const SHORTEST: Duration = Duration::from_millis(20);
/// How long a call of this file waits in shared memory before it looks whether the bridge ends.
pub(crate) const SLICE: Timeout = Timeout::Val(Duration::from_millis(500));

/// A queue of which this process is the relay.
pub(crate) struct BridgedQueue {
    pub(crate) carried: Carried,
    pub(crate) names: Names,
    /// The names of its queue of dead letters.
    pub(crate) dead: Names,
    pub(crate) relay: Arc<QueueRelay>,
    pub(crate) counters: Arc<QueueCounters>,
    pub(crate) all: Arc<Counters>,
    pub(crate) large: Arc<Large>,
    pub(crate) held: HeldTable,
    pub(crate) room: Arc<Notify>,
    demand: Mutex<Demand>,
    /// How many messages have arrived and are not in the local queue: their bytes are elsewhere, or there is no
    /// room, or they follow such a message.
    pending: AtomicUsize,
    arrivals: mpsc::UnboundedSender<Arrived>,
    words: mpsc::UnboundedSender<Word>,
    letters: mpsc::UnboundedSender<DeadLetter>,
    outgoing: Mutex<Option<mpsc::Sender<Outgoing<Kept>>>>,
    /// When a message was last delivered to the local queue.
    delivered_at: Mutex<Instant>,
    /// For how long the server waits for news of a message, in milliseconds: as its consumer has it, which
    /// another bridge may have made.
    ack_wait_ms: AtomicU64,
}

/// The origin of a publish to the queue's own stream.
pub(crate) enum Kept {
    /// A put of a program here.
    Request(RelayRequest),
    /// A delivered message that no worker here took: a copy is published for other machines.
    Withdrawn(Token),
}

/// The receivers of the tasks of a queue.
pub(crate) struct Inboxes {
    words: mpsc::UnboundedReceiver<Word>,
    letters: mpsc::UnboundedReceiver<DeadLetter>,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
}

/// A message that is not in the local queue yet.
struct Arrived {
    token: Token,
    bytes: Source,
}

/// Where the bytes of a message are.
enum Source {
    Here(Bytes),
    /// In the object that its token names, of this size.
    Stored(Link, u64),
}

/// What was found where the bytes of a message are.
enum Found {
    Bytes(Bytes),
    Nothing(String),
    /// It is delivered again when the server has waited for long enough.
    NotNow(Error),
}

/// Opens or creates the local queue.
pub(crate) fn open_local(carried: &Carried) -> Result<Arc<Queue>> {
    let options = Options::create().persistent();
    let options = match carried.max_attempts {
        Some(times) => options.max_attempts(times),
        None => options,
    };
    let queue = Queue::with_options(Some(&carried.name), &options);
    let queue = queue.map_err(|why| Error::object(&carried.name, why))?;
    if carried.max_attempts.is_some() && queue.max_attempts() != carried.max_attempts {
        return Err(Error::Differs {
            what: format!("local queue {}", carried.name),
            setting: "max_attempts",
            theirs: format!("{:?}", queue.max_attempts()),
            ours: format!("{:?}", carried.max_attempts),
            advice: "the program that created the queue chose it; give the bridge the same value",
        });
    }
    Ok(Arc::new(queue))
}

/// Becomes the relay of `queue`. Waits while another bridge is its relay. `None` if this bridge ends meanwhile.
pub(crate) fn attach(queue: &Arc<Queue>, threads: &Threads) -> Result<Option<QueueRelay>> {
    let options = RelayOptions::new();
    while !threads.is_ending() {
        match QueueRelay::attach(queue.clone(), &options, SLICE) {
            Ok(relay) => return Ok(Some(relay)),
            Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {}
            Err(why) => return Err(Error::object(queue.name(), why)),
        }
    }
    Ok(None)
}

impl BridgedQueue {
    pub(crate) fn new(
        carried: Carried,
        relay: QueueRelay,
        settings: &Settings,
    ) -> (Arc<Self>, Inboxes) {
        let (words, word_inbox) = mpsc::unbounded_channel();
        let (letters, letter_inbox) = mpsc::unbounded_channel();
        let (arrivals, arrival_inbox) = mpsc::unbounded_channel();
        let names = Names::new(&settings.prefix, &carried.name);
        let dead = Names::new(&settings.prefix, &format!("{}.dead", carried.name));
        let this = Self {
            names,
            dead,
            relay: Arc::new(relay),
            counters: settings.counters.queue(&carried.name),
            all: settings.counters.clone(),
            large: settings.large.clone(),
            held: HeldTable::default(),
            room: Arc::new(Notify::new()),
            demand: Mutex::new(Demand::new(carried.in_flight.unwrap_or(IN_FLIGHT))),
            pending: AtomicUsize::new(0),
            arrivals,
            words,
            letters,
            outgoing: Mutex::default(),
            delivered_at: Mutex::new(Instant::now()),
            ack_wait_ms: AtomicU64::new(millis(settings::ACK_WAIT)),
            carried,
        };
        (
            Arc::new(this),
            Inboxes {
                words: word_inbox,
                letters: letter_inbox,
                arrivals: arrival_inbox,
            },
        )
    }

    /// Makes or checks what the queue needs on the server.
    pub(crate) async fn set_up(&self, link: &Link) -> Result<PullConsumer> {
        let choices = &self.carried.choices;
        let stream = settings::queue_stream(&link.jetstream, &self.names, choices).await?;
        if !self.is_dead_letters() {
            let of_dead = settings::Choices {
                max_messages: None,
                max_bytes: None,
                ..choices.clone()
            };
            settings::queue_stream(&link.jetstream, &self.dead, &of_dead).await?;
        }
        let consumer = settings::queue_consumer(&stream, &self.names, choices).await?;
        let wait = consumer.cached_info().config.ack_wait;
        self.ack_wait_ms.store(millis(wait), Ordering::Relaxed);
        Ok(consumer)
    }

    /// Starts the threads and tasks. They run until the bridge ends.
    pub(crate) fn start(
        self: &Arc<Self>,
        links: &Links,
        inboxes: Inboxes,
        threads: &Arc<Threads>,
    ) -> Result<()> {
        let name = &self.carried.name;
        for delivered in self
            .relay
            .outstanding()
            .map_err(|why| Error::object(name, why))?
        {
            if let Some(token) = Token::read(&delivered.token) {
                self.held.found(&token.delivery, Phase::Working);
            }
        }
        self.counters.in_flight.set(self.held.len() as u64);

        let (requests, request_inbox) = mpsc::channel(WINDOW);
        *lock(&self.outgoing) = Some(requests.clone());
        let (relay, ending) = (self.relay.clone(), threads.clone());
        let of = name.clone();
        threads.spawn(format!("puts {name}"), move || {
            read_requests(&relay, &of, &requests, &ending)
        });
        let (this, ending) = (self.clone(), threads.clone());
        let (drained, is_drained) = tokio::sync::oneshot::channel();
        threads.spawn(format!("acks {name}"), move || {
            read_settlements(&this, drained, &ending)
        });

        let publisher = self.publisher(links, &self.names, self.counters.clone());
        let this = self.clone();
        let finish = move |kept: Kept| match kept {
            Kept::Request(request) => {
                if let Err(why) = request.done() {
                    tracing::warn!(%why, "a request is not done");
                }
            }
            // The copy is stored, so the original can be acked.
            Kept::Withdrawn(token) => this.tell(Word::done(token, None)),
        };
        threads.task(
            format!("publishing {name}"),
            publisher.run(request_inbox, finish),
        );

        let settler = Settler {
            queue: self.clone(),
            links: links.clone(),
        };
        threads.task(format!("acking {name}"), settler.run(inboxes.words));

        let (dead, dead_inbox) = mpsc::channel(16);
        // Not those of the queue, which are of what was put here: a dead letter has its own.
        let publisher = self.publisher(links, &self.dead, Arc::default());
        let this = self.clone();
        let publishing = publisher.run(dead_inbox, move |letter: DeadLetter| {
            this.dead_letter_stored(letter)
        });
        threads.task(format!("dead letters of {name}"), publishing);
        let mut letters = inboxes.letters;
        let this = self.clone();
        threads.task(format!("dead letters of {name}"), async move {
            while let Some(letter) = letters.recv().await {
                let outgoing = this.dead_letter(letter);
                if dead.send(outgoing).await.is_err() {
                    break;
                }
            }
        });

        let puller = Puller {
            links: links.clone(),
            target: self.clone(),
            room: self.room.clone(),
            counters: self.counters.clone(),
            all: self.all.clone(),
        };
        let this = self.clone();
        threads.task(format!("pulling {name}"), async move {
            // Settlements from the time when no bridge ran are known before anything is pulled.
            let _ = is_drained.await;
            let set_up = |link: Link| {
                let this = this.clone();
                async move { this.set_up(&link).await }
            };
            puller.run(set_up).await;
        });
        threads.task(
            format!("arrivals of {name}"),
            self.clone().take_in(inboxes.arrivals),
        );
        threads.task(format!("demand of {name}"), self.clone().attend());
        threads.task(
            format!("progress of {name}"),
            self.clone().keep_alive(links.clone()),
        );
        Ok(())
    }

    /// Whether this is a queue of dead letters, which has no dead letters itself.
    fn is_dead_letters(&self) -> bool {
        self.carried.name.ends_with(".dead")
    }

    fn publisher(&self, links: &Links, names: &Names, counters: Arc<QueueCounters>) -> Publisher {
        Publisher {
            links: links.clone(),
            stream: names.stream.clone(),
            subject: names.subject.as_str().into(),
            large: self.large.clone(),
            counters,
            all: self.all.clone(),
        }
    }

    /// Updates the credit, and returns messages that no worker takes.
    async fn attend(self: Arc<Self>) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::time::sleep(pause).await;
            // What a dead worker here had is given back by the next process that looks, and nobody else may.
            let _ = self.relay.queue().leased();
            let lying = self.lying();
            let is_wanted = self.is_wanted();
            let (deserted, credit);
            (deserted, credit, pause) = {
                let mut demand = lock(&self.demand);
                (
                    demand.tick(is_wanted, lying),
                    demand.credit(self.held.len(), lying),
                    demand.pause(lying),
                )
            };
            if deserted {
                self.give_back();
            }
            if credit > 0 {
                self.room.notify_one();
            }
            self.counters.in_flight.set(self.held.len() as u64);
            let [requests, _] = self.relay.companions();
            self.counters.waiting.set(unfinished(requests));
        }
    }

    /// How many messages are here, or about to be, that no worker has.
    fn lying(&self) -> usize {
        self.relay.queue().len() + self.pending.load(Ordering::Relaxed)
    }

    /// Whether a program here wants a message that is not there now.
    fn is_wanted(&self) -> bool {
        // A request before the last delivery was for that delivery.
        let since = lock(&self.delivered_at).elapsed().min(WANTED);
        self.relay
            .last_wanted()
            .is_some_and(|ago| ago.is_zero() || ago < since)
    }

    /// Withdraws messages that no worker here takes, and publishes a copy for other machines. Returning them to the
    /// server would count as a delivery, although no worker has had them.
    fn give_back(&self) {
        let Some(outgoing) = lock(&self.outgoing).clone() else {
            return;
        };
        while let Ok(room) = outgoing.try_reserve() {
            let Ok(Some(withdrawn)) = self.relay.withdraw() else {
                return;
            };
            let Some(token) = Token::read(&withdrawn.token) else {
                continue;
            };
            tracing::info!(
                queue = self.carried.name,
                "a message is published again for other machines: no worker takes it here"
            );
            room.send(Outgoing {
                id: format!("{}-{}", token.delivery.sequence, token.delivery.stored),
                bytes: withdrawn.payload.into(),
                dead_letter_reason: None,
                before: withdrawn.attempts.into(),
                kept: Kept::Withdrawn(token),
            });
        }
    }

    /// Tells the server again and again that what is here is worked on, and at once what an earlier bridge has
    /// left here.
    async fn keep_alive(self: Arc<Self>, mut links: Links) {
        loop {
            let (link, _) = links.up().await;
            for reply in self.held.in_progress() {
                if link
                    .client
                    .publish(reply, Bytes::from_static(b"+WPI"))
                    .await
                    .is_err()
                {
                    break;
                }
            }
            let wait = Duration::from_millis(self.ack_wait_ms.load(Ordering::Relaxed));
            tokio::time::sleep((wait / 3).max(SHORTEST)).await;
        }
    }

    /// Called when a worker here has finished a message.
    pub(crate) fn worked(&self) {
        let lying = self.lying();
        lock(&self.demand).finished(lying);
        self.room.notify_one();
    }

    /// Has the settler tell the server something. From now on the message waits for the confirmation of that.
    pub(crate) fn tell(&self, word: Word) {
        self.held.settle(&word.token.delivery, word.phase);
        // The settler ends with the process.
        let _ = self.words.send(word);
    }

    /// Publishes a message as a dead letter, and then terminates it.
    pub(crate) fn give_up(&self, letter: DeadLetter) {
        let _ = self.letters.send(letter);
    }

    fn dead_letter(&self, letter: DeadLetter) -> Outgoing<DeadLetter> {
        let reason = DeadLetterReason {
            queue: self.carried.name.clone(),
            attempts: letter.attempts,
            reason: letter.reason.clone(),
        };
        let delivery = &letter.token.delivery;
        Outgoing {
            id: format!(
                "{}-{}-{}",
                self.names.stream, delivery.sequence, delivery.stored
            ),
            bytes: letter.payload.clone(),
            dead_letter_reason: Some(reason),
            before: 0,
            kept: letter,
        }
    }

    /// Called when the dead letter is stored: the original can be terminated.
    fn dead_letter_stored(&self, letter: DeadLetter) {
        self.counters.dead_letters.add(1);
        tracing::info!(
            queue = self.carried.name,
            sequence = letter.token.delivery.sequence,
            attempts = letter.attempts,
            reason = letter.reason,
            "dead letter"
        );
        self.tell(Word::terminate(letter));
    }

    /// Gives a message to the local queue.
    ///
    /// # Errors
    /// There is no room for it now, and the message is returned.
    fn put_here(&self, token: Token, bytes: Bytes) -> Result<(), (Token, Bytes, shoal::Error)> {
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
            Err(why) => return Err((token, bytes, why)),
        }
        Ok(())
    }

    /// Gives what has arrived to the local queue in its order, as the bytes and the room for them are there.
    async fn take_in(self: Arc<Self>, mut arrived: mpsc::UnboundedReceiver<Arrived>) {
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
        while let Err((token, bytes, why)) = place {
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
                    Err((back, bytes, _)) => {
                        token = back;
                        Source::Here(bytes)
                    }
                }
            }
            Body::Here => Source::Here(message.payload),
            Body::Stored { object, size } => {
                token.object = Some(object);
                Source::Stored(link.clone(), size)
            }
            Body::Unknown { why } => return self.not_for_us(token, message.payload, &why),
        };
        // In its turn: behind what has arrived before.
        self.pending.fetch_add(1, Ordering::Relaxed);
        let _ = self.arrivals.send(Arrived { token, bytes });
    }
}

/// Takes what programs put, and passes it on to the publisher, as far as there is memory for it.
fn read_requests(
    relay: &QueueRelay,
    name: &str,
    to: &mpsc::Sender<Outgoing<Kept>>,
    threads: &Threads,
) {
    let copied = Arc::new(AtomicUsize::new(0));
    while !threads.is_ending() {
        if copied.load(Ordering::Relaxed) > MOST_COPIED {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        match relay.next_request(SLICE) {
            Ok(request) => {
                let outgoing = Outgoing {
                    id: request.id().to_string(),
                    bytes: Bytes::from_owner(Copied::new(&request, &copied)),
                    dead_letter_reason: None,
                    before: 0,
                    kept: Kept::Request(request),
                };
                if to.blocking_send(outgoing).is_err() {
                    return;
                }
            }
            Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {}
            Err(why) => {
                tracing::warn!(queue = name, %why, "a request cannot be read");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Bytes of a request, counted as long as they are kept.
struct Copied {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Copied {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(bytes.len(), Ordering::Relaxed);
        Self {
            bytes: bytes.to_vec(),
            count: count.clone(),
        }
    }
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// How many requests of a companion are not done. An estimate: nothing is locked.
pub(crate) fn unfinished(requests: &Queue) -> u64 {
    (requests.len() + requests.leased()) as u64
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
