//! One bridged queue. Messages that are put here are published. Messages of the server are pulled as far as
//! workers here want them, and their acks and nacks are sent to the server.
//!
//! # What a kill of the bridge leaves
//! A request is published before it is marked as done. If it is not marked, the next bridge publishes it again
//! with the same id, and the server counts it once. A message of the server is in the local queue, with the
//! subject of its ack as its token. The next bridge finds it there ([`QueueRelay::outstanding`]) and continues to
//! report to the server that it is in progress. A settlement is confirmed by the server before it is marked as
//! done. If it is not marked, the next bridge sends it again. Before anything is pulled, all settlements are read,
//! so that a message that was acked here while no bridge ran is not processed here again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use shoal::{Options, Queue, QueueRelay, RelayOptions, RelayRequest, Timeout};
use tokio::sync::{Notify, mpsc, watch};

use crate::acknowledgement::{Acknowledgement, DeadLetter};
use crate::arrivals::Arrived;
use crate::bridge::Settings;
use crate::counters::{Counters, QueueCounters};
use crate::demand::Demand;
use crate::error::{Error, Result};
use crate::held::{HeldTable, Phase};
use crate::large::Large;
use crate::link::{Link, Links};
use crate::moving::{self, Moved, Moving};
use crate::names::Names;
use crate::options::Carried;
use crate::publish::{self, DeadLetterReason, Outgoing, Publisher, WINDOW};
use crate::pull::{Puller, Target};
use crate::requests::read_requests;
use crate::settings;
use crate::settle::{Settler, read_settlements};
use crate::threads::Threads;
use crate::token::Token;

/// The default for the number of messages of the server that may be here.
const IN_FLIGHT: usize = 1024;
/// For how long a call that found the queue empty counts as demand: programs that do not wait repeat the call.
const WANTED: Duration = Duration::from_millis(200);
/// The shortest time between two progress reports to the server.
const SHORTEST: Duration = Duration::from_millis(20);
/// The shortest time between two checks of the streams for a publish that found none.
const CHECK: Duration = Duration::from_secs(1);
/// How long a call waits in shared memory before it checks whether the bridge ends.
pub(crate) const SLICE: Timeout = Timeout::Val(Duration::from_millis(500));

/// A queue of which this process is the relay.
pub(crate) struct BridgedQueue {
    pub(crate) carried: Carried,
    pub(crate) names: Names,
    /// The names of its dead letters.
    pub(crate) dead: Names,
    /// The settings of the dead letters, if this bridge carries them as well.
    dead_choices: Option<settings::Choices>,
    pub(crate) relay: Arc<QueueRelay>,
    pub(crate) counters: Arc<QueueCounters>,
    pub(crate) bridge_counters: Arc<Counters>,
    pub(crate) large: Arc<Large>,
    pub(crate) held: HeldTable,
    pub(crate) room: Arc<Notify>,
    /// Notified when a worker here has finished a message.
    pub(crate) finished: Notify,
    pub(crate) demand: Mutex<Demand>,
    /// How many messages have arrived and are not in the local queue: their bytes are elsewhere, or there is no
    /// room, or they follow such a message.
    pub(crate) pending: AtomicUsize,
    pub(crate) arrivals: mpsc::UnboundedSender<Arrived>,
    acknowledgements: mpsc::UnboundedSender<Acknowledgement>,
    letters: mpsc::UnboundedSender<DeadLetter>,
    pub(crate) moving: Mutex<Moving>,
    /// Told that a stream of the queue is missing.
    missing: Arc<Notify>,
    /// When the last message was put into the local queue.
    pub(crate) delivered_at: Mutex<Instant>,
    /// How long the server waits for an ack or a progress report. It is read from the consumer, which another bridge
    /// may have created, and a person may change.
    pub(crate) ack_wait: watch::Sender<Duration>,
    /// When the stream was created, as far as it is known.
    created: Mutex<Option<DateTime>>,
    /// The present [era](crate::held).
    era: AtomicU64,
}

/// The receiving ends of the channels to the tasks of a queue.
pub(crate) struct Inboxes {
    acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
    letters: mpsc::UnboundedReceiver<DeadLetter>,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
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
        let shown = |most: Option<u8>| most.map_or("none".to_owned(), |most| most.to_string());
        return Err(Error::Differs {
            what: format!("local queue {}", carried.name),
            setting: "max_attempts",
            theirs: shown(queue.max_attempts()),
            ours: shown(carried.max_attempts),
            advice: "the program that created the queue chose it; create it with the same value",
        });
    }
    Ok(Arc::new(queue))
}

/// The options with which a bridge becomes the relay of a queue.
pub(crate) fn relay_options() -> RelayOptions {
    RelayOptions::new()
}

impl BridgedQueue {
    pub(crate) fn new(
        carried: Carried,
        relay: QueueRelay,
        settings: &Settings,
    ) -> (Arc<Self>, Inboxes) {
        let (acknowledgements, acknowledgement_inbox) = mpsc::unbounded_channel();
        let (letters, letter_inbox) = mpsc::unbounded_channel();
        let (arrivals, arrival_inbox) = mpsc::unbounded_channel();
        let names = Names::new(&settings.prefix, &carried.name);
        let name_of_dead = format!("{}.dead", carried.name);
        let dead = settings.queues.iter().find(|it| it.name == name_of_dead);
        let this = Self {
            names,
            dead: Names::new(&settings.prefix, &name_of_dead),
            dead_choices: dead.map(|dead| dead.choices.clone()),
            relay: Arc::new(relay),
            counters: settings.counters.queue(&carried.name),
            bridge_counters: settings.counters.clone(),
            large: settings.large.clone(),
            held: HeldTable::default(),
            room: Arc::new(Notify::new()),
            finished: Notify::new(),
            demand: Mutex::new(Demand::new(carried.in_flight.unwrap_or(IN_FLIGHT))),
            pending: AtomicUsize::new(0),
            arrivals,
            acknowledgements,
            letters,
            moving: Mutex::default(),
            missing: Arc::default(),
            delivered_at: Mutex::new(Instant::now()),
            ack_wait: watch::Sender::new(settings::ACK_WAIT),
            created: Mutex::default(),
            era: AtomicU64::new(1),
            carried,
        };
        (
            Arc::new(this),
            Inboxes {
                acknowledgements: acknowledgement_inbox,
                letters: letter_inbox,
                arrivals: arrival_inbox,
            },
        )
    }

    /// Creates or checks the streams and the consumer of the queue.
    pub(crate) async fn set_up(&self, link: &Link) -> Result<PullConsumer> {
        let done = self.make_streams(link).await;
        self.bridge_counters
            .record_set_up(&self.carried.name, done.is_ok());
        done
    }

    async fn make_streams(&self, link: &Link) -> Result<PullConsumer> {
        let choices = &self.carried.choices;
        let stream = settings::queue_stream(&link.jetstream, &self.names, choices).await?;
        let created = stream.cached_info().created;
        let before = lock(&self.created).replace(created);
        if before.is_some_and(|before| before != created) {
            let stream = &self.names.stream;
            tracing::warn!(
                stream,
                "the stream was created again; messages of the earlier one are not acked"
            );
            self.begin_era();
        }
        match &self.dead_choices {
            _ if self.is_dead_letters() => {}
            Some(chosen) => {
                settings::queue_stream(&link.jetstream, &self.dead, chosen).await?;
            }
            None => settings::dead_letter_stream(&link.jetstream, &self.dead, choices).await?,
        }
        let consumer = settings::queue_consumer(&stream, &self.names, choices).await?;
        self.set_ack_wait(consumer.cached_info().config.ack_wait);
        Ok(consumer)
    }

    /// Starts the threads and tasks. They run until the bridge ends.
    pub(crate) fn start(
        self: &Arc<Self>,
        links: &Links,
        inboxes: Inboxes,
        threads: &Arc<Threads>,
    ) -> Result<()> {
        self.restore_held()?;
        let name = &self.carried.name;
        let this = || self.clone();
        self.start_publishing(links, threads);
        let copies = self.start_moving(links, threads);
        let settler = Settler {
            queue: this(),
            links: links.clone(),
        };
        threads.task(
            format!("acking {name}"),
            settler.run(inboxes.acknowledgements),
        );
        self.start_dead_letters(links, inboxes.letters, threads);
        self.start_pulling(links, threads);
        threads.task(
            format!("arrivals of {name}"),
            this().deliver_arrived(inboxes.arrivals),
        );
        threads.task(format!("demand of {name}"), this().adjust_credit(copies));
        threads.failing(
            format!("streams of {name}"),
            this().make_missing(links.clone()),
        );
        threads.task(
            format!("progress of {name}"),
            this().keep_alive(links.clone()),
        );
        Ok(())
    }

    /// Notes the deliveries that an earlier bridge has made and that are still here.
    fn restore_held(&self) -> Result<()> {
        let outstanding = self.relay.outstanding();
        for delivered in outstanding.map_err(|why| Error::object(&self.carried.name, why))? {
            if let Some(token) = Token::read(&delivered.token) {
                self.held.found(&token.delivery, Phase::Working);
            }
        }
        self.counters.in_flight.set(self.held.len() as u64);
        Ok(())
    }

    /// Messages that are put here go to the stream.
    fn start_publishing(&self, links: &Links, threads: &Arc<Threads>) {
        let name = &self.carried.name;
        let (requests, request_inbox) = mpsc::channel(WINDOW);
        let (relay, ending, of) = (self.relay.clone(), threads.clone(), name.clone());
        threads.spawn(format!("puts {name}"), move || {
            read_requests(&relay, &of, &requests, &ending)
        });
        let publisher = self.publisher(links, &self.names, self.counters.clone());
        let finish = |request: RelayRequest| {
            if let Err(why) = request.done() {
                tracing::warn!(%why, "a request is not done");
            }
        };
        threads.task(
            format!("publishing {name}"),
            publisher.run(request_inbox, finish, publish::is_repeated),
        );
    }

    /// Copies of messages that are returned for other machines go to the stream. Returns where they are put.
    fn start_moving(
        self: &Arc<Self>,
        links: &Links,
        threads: &Arc<Threads>,
    ) -> mpsc::Sender<Outgoing<Moved>> {
        // Not among the messages that were put here: a stream that refuses those may be full of originals.
        let (copies, copy_inbox) = mpsc::channel(moving::COPIES);
        let publisher = self.publisher(links, &self.names, Arc::default());
        let (this, that, of) = (self.clone(), self.clone(), links.clone());
        let publishing = publisher.run(
            copy_inbox,
            move |moved| this.moved(moved),
            move |moved, object, why| {
                that.not_moved(&of, moved, object, why);
                None
            },
        );
        threads.task(format!("moving {}", self.carried.name), publishing);
        copies
    }

    /// Dead letters go to their stream.
    fn start_dead_letters(
        self: &Arc<Self>,
        links: &Links,
        mut letters: mpsc::UnboundedReceiver<DeadLetter>,
        threads: &Arc<Threads>,
    ) {
        let name = &self.carried.name;
        let (dead, dead_inbox) = mpsc::channel(16);
        // Separate counters: those of the queue count the messages that were put here.
        let publisher = self.publisher(links, &self.dead, Arc::default());
        let this = self.clone();
        let publishing = publisher.run(
            dead_inbox,
            move |letter: DeadLetter| this.dead_letter_stored(letter),
            publish::is_repeated,
        );
        threads.task(format!("dead letters of {name}"), publishing);
        let this = self.clone();
        threads.task(format!("dead letters of {name}"), async move {
            while let Some(letter) = letters.recv().await {
                let outgoing = this.dead_letter_message(letter);
                if dead.send(outgoing).await.is_err() {
                    break;
                }
            }
        });
    }

    /// Messages come from the stream, once the settlements that were made while no bridge ran are read.
    fn start_pulling(self: &Arc<Self>, links: &Links, threads: &Arc<Threads>) {
        let name = &self.carried.name;
        let (this, ending) = (self.clone(), threads.clone());
        let (drained, is_drained) = tokio::sync::oneshot::channel();
        threads.spawn(format!("acks {name}"), move || {
            read_settlements(&this, drained, &ending)
        });
        let puller = Puller {
            links: links.clone(),
            target: self.clone(),
            room: self.room.clone(),
            counters: self.counters.clone(),
            bridge_counters: self.bridge_counters.clone(),
        };
        let this = self.clone();
        threads.failing(format!("pulling {name}"), async move {
            let _ = is_drained.await;
            let set_up = |link: Link| {
                let this = this.clone();
                async move { this.set_up(&link).await }
            };
            puller.run(set_up).await
        });
    }

    /// The present [era](crate::held).
    pub(crate) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// From now on the messages that are here may be gone from the stream.
    pub(crate) fn begin_era(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether this is a queue of dead letters, which has no dead letters itself.
    pub(crate) fn is_dead_letters(&self) -> bool {
        self.carried.name.ends_with(".dead")
    }

    fn publisher(&self, links: &Links, names: &Names, counters: Arc<QueueCounters>) -> Publisher {
        Publisher {
            links: links.clone(),
            stream: names.stream.clone(),
            subject: names.subject.as_str().into(),
            large: self.large.clone(),
            counters,
            bridge_counters: self.bridge_counters.clone(),
            missing: self.missing.clone(),
        }
    }

    /// Creates the streams again that a publish has not found: a person has deleted one. Ends with an error that is
    /// permanent.
    async fn make_missing(self: Arc<Self>, mut links: Links) -> Error {
        loop {
            self.missing.notified().await;
            let (link, _) = links.up().await;
            match self.set_up(&link).await {
                Ok(_) => tracing::info!(queue = self.carried.name, "its streams were checked"),
                Err(why) if !why.is_temporary() => return why,
                Err(why) => self.bridge_counters.record_error(&why.to_string()),
            }
            tokio::time::sleep(CHECK).await;
        }
    }

    /// Adjusts the credit to the demand, forever.
    async fn adjust_credit(self: Arc<Self>, copies: mpsc::Sender<Outgoing<Moved>>) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::time::sleep(pause).await;
            // Leases of dead workers are returned by the next process that calls the queue, and no other process
            // may do so.
            let _ = self.relay.queue().leased();
            let unleased = self.unleased();
            let is_wanted = self.is_wanted();
            let (must_return, is_quiet, credit);
            (must_return, is_quiet, credit, pause) = {
                let mut demand = lock(&self.demand);
                (
                    demand.tick(is_wanted, unleased),
                    demand.is_quiet(),
                    demand.credit(self.held.len(), unleased),
                    demand.pause(),
                )
            };
            if must_return {
                self.move_unleased(&copies);
            } else if !is_quiet {
                lock(&self.moving).is_over();
            }
            if credit > 0 {
                self.room.notify_one();
            }
            self.counters.in_flight.set(self.held.len() as u64);
            let [requests, _] = self.relay.companions();
            self.counters.waiting.set(unfinished(requests));
        }
    }

    /// How many messages are in the local queue, or about to be, and are not leased.
    pub(crate) fn unleased(&self) -> usize {
        self.relay.queue().len() + self.pending.load(Ordering::Relaxed)
    }

    /// Whether a program here wants a message and finds the queue empty.
    fn is_wanted(&self) -> bool {
        // A call before the last delivery counts as served by it.
        let since = lock(&self.delivered_at).elapsed().min(WANTED);
        self.relay
            .last_wanted()
            .is_some_and(|ago| ago.is_zero() || ago < since)
    }

    /// Reports to the server, again and again, that the messages here are in progress. The first report includes
    /// the messages that an earlier bridge has left here.
    async fn keep_alive(self: Arc<Self>, mut links: Links) {
        let mut ack_wait = self.ack_wait.subscribe();
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
            let wait = *ack_wait.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep((wait / 3).max(SHORTEST)) => {}
                // Its sender lives as long as the queue.
                _ = ack_wait.changed() => {}
            }
        }
    }

    /// Called when a worker here has finished a message.
    pub(crate) fn worker_finished(&self) {
        let unleased = self.unleased();
        lock(&self.demand).finished(unleased);
        self.room.notify_one();
        self.finished.notify_one();
    }

    /// Passes an acknowledgement to the settler. From now on the message waits for its confirmation.
    pub(crate) fn acknowledge(&self, mut acknowledgement: Acknowledgement) {
        let Acknowledgement { token, phase, .. } = &acknowledgement;
        acknowledgement.era = self.held.settle(&token.delivery, *phase);
        // The settler ends with the process.
        let _ = self.acknowledgements.send(acknowledgement);
    }

    /// Publishes a message as a dead letter, and then terminates the original.
    pub(crate) fn publish_dead_letter(&self, letter: DeadLetter) {
        let _ = self.letters.send(letter);
    }

    fn dead_letter_message(&self, letter: DeadLetter) -> Outgoing<DeadLetter> {
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

    /// The dead letter is stored, so the original can be terminated.
    fn dead_letter_stored(&self, letter: DeadLetter) {
        self.counters.dead_letters.add(1);
        tracing::info!(
            queue = self.carried.name,
            sequence = letter.token.delivery.sequence,
            attempts = letter.attempts,
            reason = letter.reason,
            "dead letter"
        );
        self.acknowledge(Acknowledgement::term(letter));
    }
}

/// How many requests of a companion are not done. It is an estimate, because nothing is locked.
pub(crate) fn unfinished(requests: &Queue) -> u64 {
    (requests.len() + requests.leased()) as u64
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
