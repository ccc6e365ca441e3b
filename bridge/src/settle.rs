//! Sends the settlements of messages to the server as acknowledgements, and waits until the server confirms them.
//!
//! An ack without a confirmation proves nothing: a late ack is not an error, and a lost ack is not noticed. So
//! each acknowledgement is repeated until an answer confirms it. Only then is the settlement done.
//!
//! An answer costs the server more than the ack itself. It handles the acks of one connection to one consumer in their
//! order, so the answer to an ack confirms those that were sent before it: acks that are sent together are a *group*,
//! in which only the last one requests an answer. In a cluster the leader of the consumer may change in between, so
//! each ack requests an answer there. If no answer comes, or the answer is that nobody listens, or the connection is
//! lost, each ack of the group is repeated, and requests an answer of its own.
//!
//! A missing answer can mean that the server no longer has the message. It can also mean that the server is slow, or
//! that the consumer has no leader at the moment, which the server answers with "no responders". So if there is no
//! answer for long, the message is looked up in the stream. If it is gone, no acknowledgement is needed. It is also
//! looked up before an acknowledgement is sent in another [era](crate::held) than that in which it was delivered.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use futures_util::StreamExt;
use shoal::{Settlement, SettlementKind};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, interval};

use crate::acknowledgement::{ACK, Acknowledgement, DeadLetter, Unconfirmed};
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::exchange::{Answer, Exchange, Pause, Request};
use crate::held::Phase;
use crate::link::{Link, Links};
use crate::queue::{BridgedQueue, SLICE};
use crate::threads::Threads;
use crate::token::Token;

/// How many answers may be awaited.
const WINDOW: usize = 8192;
/// How many acks one answer confirms at most.
const GROUP: usize = 64;
/// How often an acknowledgement is sent on one connection before its message is looked up in the stream.
const TIMES: u32 = 3;

/// While settlements come, how long the thread that reads them sleeps when there is none, and how often before it
/// waits. A worker has to wake a thread that waits, which costs more than its ack.
const NAP: Duration = Duration::from_micros(150);
const MISSES: u32 = 8;

/// How many messages are looked up at the same time.
const LOOKUPS: usize = 32;

/// How often the deletion of an object is tried in any case.
const DELETIONS: u32 = 8;
/// How many deletions are tried until they succeed. A settlement stays in shared memory until then, where the next
/// settlements need room.
static PATIENT: Semaphore = Semaphore::const_new(1024);

/// Reads the settlements of workers here, on a separate thread. Sends `drained` once the settlements that were
/// present at the start are read.
pub(crate) fn read_settlements(
    queue: &BridgedQueue,
    drained: oneshot::Sender<()>,
    threads: &Threads,
) {
    let mut drained = Some(drained);
    // How often nothing was there since the last settlement.
    let mut misses = 0;
    while !threads.is_ending() {
        let timeout = match drained.is_some() || misses < MISSES {
            true => shoal::Timeout::Val(Duration::ZERO),
            false => SLICE,
        };
        match queue.relay.next_settlement(timeout) {
            Ok(settlement) => {
                misses = 0;
                settled(queue, settlement);
            }
            Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {
                if let Some(drained) = drained.take() {
                    let _ = drained.send(());
                }
                if misses < MISSES {
                    misses += 1;
                    std::thread::sleep(NAP);
                }
            }
            Err(why) => {
                tracing::warn!(queue = queue.carried.name, %why, "a settlement cannot be read");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn settled(queue: &BridgedQueue, settlement: Settlement) {
    let Some(token) = Token::read(settlement.token()) else {
        tracing::warn!(
            queue = queue.carried.name,
            "a settlement of a message that no bridge has delivered"
        );
        let _ = settlement.done();
        return;
    };
    let acknowledgement = match settlement.kind() {
        SettlementKind::Done => {
            queue.worker_finished();
            Acknowledgement::ack(token, Some(settlement))
        }
        SettlementKind::Returned { delay } => Acknowledgement::nak(token, delay, Some(settlement)),
        SettlementKind::Exhausted { payload } => {
            // It is no longer in the local queue, and is terminated only after its dead letter is stored.
            queue.held.settle(&token.delivery, Phase::Finishing);
            queue.worker_finished();
            let attempts = u64::from(settlement.attempts());
            return queue.publish_dead_letter(DeadLetter {
                token,
                payload: Bytes::copy_from_slice(payload),
                attempts,
                reason: format!("it was delivered {attempts} times"),
                settlement: Some(settlement),
            });
        }
        // An extended lease needs no message: progress is reported to the server anyway.
        _ => {
            let _ = settlement.done();
            return;
        }
    };
    queue.acknowledge(acknowledgement);
}

/// Sends acknowledgements to the server.
pub(crate) struct Settler {
    pub(crate) queue: Arc<BridgedQueue>,
    pub(crate) links: Links,
}

/// Acks that are sent together.
struct Group {
    acks: Vec<(Request, Unconfirmed)>,
    most: usize,
}

impl Group {
    fn new(is_cluster: bool) -> Self {
        Self {
            acks: Vec::new(),
            most: if is_cluster { 1 } else { GROUP },
        }
    }
}

/// What is kept until an answer: the acknowledgement that requested it, and the acks before it in its group.
struct Kept {
    last: Unconfirmed,
    earlier: Vec<(Request, Unconfirmed)>,
}

impl From<Unconfirmed> for Kept {
    fn from(last: Unconfirmed) -> Self {
        Self {
            last,
            earlier: Vec::new(),
        }
    }
}

/// Lets each acknowledgement of a group request an answer of its own when it is sent again. Each counts as sent
/// `times` times.
fn put_back(exchange: &mut Exchange<Kept>, request: Request, kept: Kept, times: u32) {
    for (request, unconfirmed) in kept.earlier {
        exchange.put_back(request, unconfirmed.into(), times);
    }
    exchange.put_back(request, kept.last.into(), times);
}

impl Settler {
    pub(crate) async fn run(
        mut self,
        mut acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
    ) {
        let (mut link, mut epoch) = self.links.up().await;
        let mut exchange = loop {
            match Exchange::on(link.clone(), &self.queue.names.stream).await {
                Ok(exchange) => break exchange,
                Err(why) => self.queue.bridge_counters.record_error(&why.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            (link, epoch) = self.links.up().await;
        };
        let mut tick = interval(Duration::from_secs(1));
        loop {
            let sent = tokio::select! {
                () = self.links.lost(&mut link, epoch) => {
                    // The server may be another one, or may have lost messages.
                    self.queue.begin_era();
                    let mut pause = Pause::new();
                    loop {
                        (link, epoch) = self.links.up().await;
                        match self.check(&link, &mut exchange).await {
                            Ok(()) => break,
                            Err(why) => self.queue.bridge_counters.record_error(&why.to_string()),
                        }
                        tokio::time::sleep(pause.next()).await;
                    }
                    for number in exchange.which(|kept| !kept.earlier.is_empty()) {
                        if let Some((request, kept)) = exchange.remove(number) {
                            put_back(&mut exchange, request, kept, 0);
                        }
                    }
                    exchange.move_to(link.clone()).await
                }
                answered = exchange.next() => self.answered(&mut exchange, answered),
                acknowledgement = acknowledgements.recv(), if exchange.len() < WINDOW => {
                    let Some(acknowledgement) = acknowledgement else { return };
                    let mut acknowledgement = Some(acknowledgement);
                    let (mut sent, mut group) = (Ok(()), Group::new(link.is_cluster()));
                    while let Some(next) = acknowledgement {
                        sent = self.send(&link, &mut exchange, &mut group, next).await;
                        let goes_on = sent.is_ok() && exchange.len() < WINDOW;
                        let next = || acknowledgements.try_recv().ok();
                        acknowledgement = goes_on.then(next).flatten();
                    }
                    sent.and(send_group(&mut exchange, &mut group).await)
                }
                _ = tick.tick() => self.resend(&link, &mut exchange).await,
            };
            if let Err(why) = sent {
                self.queue.bridge_counters.record_error(&why.to_string());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn answered(
        &self,
        exchange: &mut Exchange<Kept>,
        first: Result<(Answer, Request, Kept)>,
    ) -> Result<()> {
        let mut next = Some(first);
        let mut ended = Ok(());
        let mut without_responder = Vec::new();
        while let Some(answered) = next {
            let (answer, request, kept) = match answered {
                Ok(answered) => answered,
                // The client has ended. What was answered before is kept for the next one.
                Err(why) => {
                    ended = Err(why);
                    break;
                }
            };
            if matches!(answer, Answer::NobodyListens) {
                without_responder.push((request, kept));
            } else {
                for (_, unconfirmed) in kept.earlier {
                    self.confirm(unconfirmed);
                }
                self.confirm(kept.last);
            }
            next = exchange.ready();
        }
        for (request, kept) in without_responder {
            put_back(exchange, request, kept, TIMES);
        }
        ended
    }

    /// Sends an acknowledgement, or adds it to the group, unless the stream no longer has the message.
    async fn send(
        &self,
        link: &Link,
        exchange: &mut Exchange<Kept>,
        group: &mut Group,
        acknowledgement: Acknowledgement,
    ) -> Result<()> {
        let is_checked = acknowledgement.era == self.queue.era();
        let (request, unconfirmed) = acknowledgement.request();
        if !is_checked {
            if let Err(why) = self.check(link, exchange).await {
                // It is looked up again before it is sent.
                exchange.put_back(request, unconfirmed.into(), TIMES);
                return Err(why);
            }
            if self.queue.held.is_gone(&unconfirmed.token.delivery) {
                self.confirm(unconfirmed);
                return Ok(());
            }
        }
        // Another prefix may have had another stream and consumer.
        let is_ours = unconfirmed.token.delivery.stream() == self.queue.names.stream;
        if request.payload != ACK || !is_ours {
            return exchange.send(request, unconfirmed.into()).await;
        }
        group.acks.push((request, unconfirmed));
        match group.acks.len() < group.most {
            true => Ok(()),
            false => send_group(exchange, group).await,
        }
    }

    /// Looks up the messages here of which it is not known whether the stream has them in the present era, and
    /// confirms the acknowledgements of those that it does not have.
    async fn check(&self, link: &Link, exchange: &mut Exchange<Kept>) -> Result<()> {
        let held = &self.queue.held;
        let era = self.queue.era();
        let unchecked = held.unchecked(era);
        if unchecked.is_empty() {
            return Ok(());
        }
        let unchecked = futures_util::stream::iter(unchecked);
        let look_up = |delivery| async move {
            let is_gone = self.is_gone(link, &delivery).await?;
            held.checked(&delivery, era, is_gone);
            Ok(())
        };
        let mut found = unchecked.map(look_up).buffer_unordered(LOOKUPS);
        // After an error, the server would not answer for the others either.
        let failed = loop {
            match found.next().await {
                Some(Ok(())) => {}
                Some(Err(why)) => break Err(why),
                None => break Ok(()),
            }
        };
        let is_gone = |unconfirmed: &Unconfirmed| held.is_gone(&unconfirmed.token.delivery);
        let has_gone =
            |kept: &Kept| is_gone(&kept.last) || kept.earlier.iter().any(|it| is_gone(&it.1));
        for number in exchange.which(has_gone) {
            let Some((request, kept)) = exchange.remove(number) else {
                continue;
            };
            let each = kept.earlier.into_iter().chain([(request, kept.last)]);
            for (request, unconfirmed) in each {
                match is_gone(&unconfirmed) {
                    true => self.confirm(unconfirmed),
                    false => exchange.put_back(request, unconfirmed.into(), 1),
                }
            }
        }
        failed
    }

    /// Repeats the acknowledgements without an answer.
    async fn resend(&self, link: &Link, exchange: &mut Exchange<Kept>) -> Result<()> {
        self.check(link, exchange).await?;
        for number in exchange.silent(1, Instant::now()) {
            if exchange
                .kept(number)
                .is_some_and(|kept| !kept.earlier.is_empty())
                && let Some((request, kept)) = exchange.remove(number)
            {
                put_back(exchange, request, kept, 1);
            }
        }
        self.ask_for_silent(link, exchange).await?;
        exchange.resend(Instant::now()).await
    }

    /// Looks up the messages of unanswered acknowledgements in the stream, and confirms those that it no longer
    /// has.
    async fn ask_for_silent(&self, link: &Link, exchange: &mut Exchange<Kept>) -> Result<()> {
        for number in exchange.silent(TIMES, Instant::now()) {
            let Some(delivery) = exchange.kept(number).map(|kept| &kept.last.token.delivery) else {
                continue;
            };
            // After an error, the server would not answer for the others either.
            if self.is_gone(link, delivery).await?
                && let Some((_, kept)) = exchange.remove(number)
            {
                self.confirm(kept.last);
            }
        }
        Ok(())
    }

    /// Whether the stream no longer has the message, according to its leader.
    async fn is_gone(&self, link: &Link, delivery: &Delivery) -> Result<bool> {
        let what = || format!("message {} of {}", delivery.sequence, delivery.stream());
        let stream = link.jetstream.get_stream_no_info(delivery.stream()).await;
        let stream = stream.map_err(|why| Error::away(what(), why))?;
        match stream.get_raw_message(delivery.sequence).await {
            // A stream that was created again may have another message with that number.
            Ok(found) => Ok(found.time.unix_timestamp_nanos() != i128::from(delivery.stored)),
            Err(why) => match why.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(true),
                // In a cluster a server gives this answer for a stream that it does not know yet. The stream of
                // this queue is created again if it is gone, and answers then.
                RawMessageErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND
                        && delivery.stream() != self.queue.names.stream =>
                {
                    Ok(true)
                }
                _ => Err(Error::away(what(), why)),
            },
        }
    }

    fn confirm(&self, unconfirmed: Unconfirmed) {
        let queue = &self.queue;
        queue.counters.acked.add(unconfirmed.is_ack.into());
        queue
            .held
            .confirmed(&unconfirmed.token.delivery, unconfirmed.phase);
        if unconfirmed.phase == Phase::Returning {
            queue.counters.nacked.add(1);
        }
        match (unconfirmed.phase, unconfirmed.token.object) {
            (Phase::Finishing, Some(object)) => {
                let (queue, links) = (queue.clone(), self.links.clone());
                tokio::spawn(delete(queue, links, object, unconfirmed.settlement));
            }
            _ => done(queue, unconfirmed.settlement),
        }
        queue.room.notify_one();
    }
}

/// Deletes the object of a finished message. The settlement is marked as done afterwards, so that the next bridge
/// repeats the deletion if this one is killed meanwhile.
async fn delete(
    queue: Arc<BridgedQueue>,
    mut links: Links,
    object: String,
    settlement: Option<Settlement>,
) {
    let mut pause = Pause::new();
    let mut permit = None;
    let mut tries = 0;
    loop {
        let (link, _) = links.up().await;
        match queue.large.delete(&link.jetstream, &object).await {
            Ok(()) => break,
            Err(why) => queue.bridge_counters.record_error(&why.to_string()),
        }
        tries += 1;
        if (!link.is_cluster() || tries >= DELETIONS) && queue.large.is_gone(&link.jetstream).await
        {
            break;
        }
        if tries >= DELETIONS && permit.is_none() {
            permit = PATIENT.try_acquire().ok();
            if permit.is_none() {
                tracing::error!(
                    object,
                    "the server refuses the deletion of many objects; this one stays"
                );
                break;
            }
        }
        tokio::time::sleep(pause.next()).await;
    }
    done(&queue, settlement);
}

fn done(queue: &BridgedQueue, settlement: Option<Settlement>) {
    if let Some(settlement) = settlement
        && let Err(why) = settlement.done()
    {
        tracing::warn!(queue = queue.carried.name, %why, "a settlement is not done");
    }
}

/// Sends the acks of a group, and requests an answer to the last one.
async fn send_group(exchange: &mut Exchange<Kept>, group: &mut Group) -> Result<()> {
    let Some((request, last)) = group.acks.pop() else {
        return Ok(());
    };
    let earlier = std::mem::take(&mut group.acks);
    for (ack, _) in &earlier {
        if let Err(why) = exchange.send_unanswered(ack).await {
            put_back(exchange, request, Kept { last, earlier }, 1);
            return Err(why);
        }
    }
    exchange.send(request, Kept { last, earlier }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{Settings, server::Server};
    use crate::context::Context;
    use crate::counters::Counters;
    use crate::large::Large;
    use crate::options::Carried;
    use shoal::{Options, Queue, QueueRelay, RelayOptions};

    /// A bridged queue on a server, without the tasks of a bridge. Its name is removed at the end.
    struct TestQueue {
        queue: Arc<BridgedQueue>,
        link: Link,
        links: Links,
        _sender: tokio::sync::watch::Sender<Option<Link>>,
    }

    impl TestQueue {
        async fn new(server: &Server, name: &str) -> Self {
            let counters = Arc::new(Counters::default());
            let context = Context::at(server.url());
            let link = Link::connect(&context, "test", &counters).await.unwrap();
            let name = format!("{name}-{}", std::process::id());
            let queue = Queue::with_options(Some(&name), &Options::create().persistent()).unwrap();
            let relay = QueueRelay::attach(Arc::new(queue), &RelayOptions::new(), SLICE).unwrap();
            let settings = Settings {
                prefix: "t".to_owned(),
                counters,
                large: Arc::new(Large::new("large".to_owned(), 1, None)),
                queues: Vec::new(),
            };
            let (queue, _) = BridgedQueue::new(Carried::new(&name), relay, &settings);
            let (sender, links) = Links::new();
            sender.send_replace(Some(link.clone()));
            Self {
                queue,
                link,
                links,
                _sender: sender,
            }
        }
    }

    impl Drop for TestQueue {
        fn drop(&mut self) {
            let _ = Queue::unlink(&self.queue.carried.name);
        }
    }

    #[tokio::test]
    async fn acks_that_nobody_listens_to_survive_the_end_of_the_client() {
        let server = Server::start();
        let test = TestQueue::new(&server, "acks").await;
        let settler = Settler {
            queue: test.queue.clone(),
            links: test.links.clone(),
        };
        let mut exchange = Exchange::on(test.link.clone(), "jobs").await.unwrap();
        let mut group = Group::new(false);
        for number in 1..=3 {
            let reply = format!("$JS.ACK.none.shoal.1.{number}.1.1.0");
            let token = Token::read(reply.as_bytes()).unwrap();
            let (request, unconfirmed) = Acknowledgement::ack(token, None).request();
            match number {
                1 => exchange.send(request, unconfirmed.into()).await.unwrap(),
                _ => group.acks.push((request, unconfirmed)),
            }
        }
        send_group(&mut exchange, &mut group).await.unwrap();
        assert_eq!(exchange.len(), 2);
        // The server has answered them all when the client ends.
        test.link.jetstream.query_account().await.unwrap();
        test.link.client.drain().await.unwrap();
        let mut link = test.link.clone();
        let epoch = link.epoch();
        link.changed(epoch).await;
        let first = exchange.next().await;
        settler.answered(&mut exchange, first).unwrap_err();
        assert_eq!(exchange.len(), 3);
    }

    #[tokio::test]
    async fn the_object_of_a_store_that_is_gone_needs_no_deletion() {
        let server = Server::start();
        let test = TestQueue::new(&server, "gone").await;
        let (queue, links) = (test.queue.clone(), test.links.clone());
        let deletion = delete(queue, links, "a-1".to_owned(), None);
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, deletion).await.unwrap();
    }

    #[tokio::test]
    async fn an_object_is_deleted_once_the_server_permits_it() {
        let server = Server::start();
        let test = TestQueue::new(&server, "deletions").await;
        // Each attempt fails, because the note of the object is none.
        let (large, link) = (&test.queue.large, &test.link);
        large.put(link, "a-1", &[7; 3]).await.unwrap();
        let subject = large.note_subject("a-1");
        let note = link.jetstream.publish(subject.clone(), "none".into());
        note.await.unwrap().await.unwrap();
        let (queue, links) = (test.queue.clone(), test.links.clone());
        let mut deletion = tokio::spawn(delete(queue, links, "a-1".to_owned(), None));
        let early = tokio::time::timeout(Duration::from_secs(8), &mut deletion);
        assert!(early.await.is_err(), "it has given up");
        let stream = large.stream(&link.jetstream).await.unwrap();
        stream.purge().filter(subject).await.unwrap();
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, deletion)
            .await
            .unwrap()
            .unwrap();
        let found = large.get(&link.jetstream, "a-1", 3).await.unwrap();
        assert_eq!(found, None);
    }
}
