//! The relay of a queue: the calls of the process that has the role.
//!
//! `relay::state` says what a kill leaves between the steps of attaching and removing a relay. Requests and
//! settlements are leased messages of the companions: see `lease` and `relayed`. A delivery is a reservation
//! that is committed: after a kill before the commit, nothing was delivered.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::relay::{FrameKind, RelayInfo, RelayOptions, Relayed, Role};
use crate::segment::{Companion, Object};
use crate::sys::clock::{Deadline, IntoTimeout, now_ns};

use super::attached::Attached;
use super::commit::Delivery;
use super::core::Queue;
use super::locked::ConsumersLock;
use super::mark::MessageState;
use super::request::{RelayRequest, Settlement, settlement_kind};
use super::reservation::PutBy;
use super::taken::Taken;

/// The longest token of a delivered message, in bytes.
const MAX_TOKEN: usize = 4096;

/// The relay of a queue: the process that carries what others put to somewhere else, and delivers into the
/// queue what comes from there.
///
/// While a queue is relayed, a message that is put becomes a [`RelayRequest`] instead. Only what the relay
/// [delivers](Self::deliver) goes into the queue. Programs use the queue as usual: they put, get, lease, ack
/// and wait, and need not know about the relay.
///
/// ```text
/// programs ── put ─────────▶ jobs.relay ── next_request ────▶ relay ──▶ somewhere
/// programs ◀─ get, lease ─── jobs ◀─────── deliver ────────── relay ◀── somewhere
/// programs ── ack, nack … ─▶ jobs.settled ─ next_settlement ─▶ relay ──▶ somewhere
/// ```
///
/// **What is promised.** A put that has returned is a request, and remains one until the relay says that it
/// is [done](RelayRequest::done), whichever process is killed meanwhile. Each message that was delivered with
/// a token is settled at least once: when a worker acks it, gives it back, extends its deadline, dies, or
/// fails at its last attempt. Both may be repeated after a kill. A request keeps its [id](RelayRequest::id),
/// and a settlement its token, so repetitions can be recognised.
///
/// **The role.** One process at a time is the relay. Another that [attaches](Self::attach) waits, and takes
/// over when the first drops its relay or dies, from any cause. It then gets the requests and settlements
/// that the first had taken and not finished. The queue stays relayed while there is no relay: what is put
/// waits in the companion, within its bounds, and a put that finds no room ends with
/// [`RelayBehind`](Error::RelayBehind). It also stays when no process has it open, whether or not it was created
/// [persistent](crate::Options::persistent), with what waits. [`detach`](Self::detach) makes it a plain queue
/// again.
///
/// **Giving back.** While a relay lives, a worker's `nack` of a delivered message becomes a settlement, and
/// the message leaves this queue: the relay decides where it is worked on next. While there is no relay, or
/// the settlement finds no room, the message is delivered again here. A message that was [delivered too
/// often](crate::Options::max_attempts) is settled as [`Exhausted`](crate::SettlementKind::Exhausted) instead
/// of going to the dead-letter queue.
///
/// A relay is [`Send`] and [`Sync`]: threads may take requests and settlements and deliver at the same time.
/// The role belongs to the process that attached: calls in a forked child are `Invalid`.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use shoal::{Queue, QueueRelay, RelayOptions, SettlementKind, Timeout};
///
/// let jobs = Arc::new(Queue::anonymous()?);
/// let relay = QueueRelay::attach(Arc::clone(&jobs), &RelayOptions::new(), Timeout::Infinite)?;
///
/// let program = Queue::open(jobs.name())?; // in another process, usually
/// program.put(b"resize 17.png", Timeout::Infinite)?;
/// assert!(program.is_empty(), "it is on its way");
///
/// let request = relay.next_request(Timeout::Infinite)?;
/// // ... forward it, and then, here or on another machine:
/// relay.deliver(&request, 0, b"message 1", Timeout::Infinite)?;
/// request.done()?;
///
/// let job = program.lease(Timeout::Infinite)?;
/// assert_eq!(&job[..], b"resize 17.png");
/// job.nack(Duration::from_secs(5))?;
///
/// let settlement = relay.next_settlement(Timeout::Infinite)?;
/// assert_eq!(settlement.token(), b"message 1");
/// assert_eq!(settlement.kind(), SettlementKind::Returned { delay: Duration::from_secs(5) });
/// settlement.done()?;
/// # relay.detach(Timeout::Infinite)?;
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Limits
/// A queue of a [pipe](crate::Pipe) has no relay, and neither has a companion. A name with a relay has at
/// most 192 bytes. Messages that are in the queue when the first relay attaches stay there, and have no
/// token; a reservation that was made before and is committed after that goes into the queue as well.
pub struct QueueRelay {
    attached: Arc<Attached>,
}

/// How much can be delivered into a queue now; see [`QueueRelay::room`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayRoom {
    /// Messages; `u64::MAX` where their number is not bounded.
    pub messages: u64,
    /// Bytes of their payloads and tokens, with a small overhead for each. An estimate.
    pub bytes: u64,
}

/// A delivered message that is not settled; see [`QueueRelay::outstanding`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Its token.
    pub token: Vec<u8>,
    /// How often it was delivered, by all relays and here.
    pub attempts: u32,
    /// Whether a worker has it.
    pub is_leased: bool,
}

impl fmt::Debug for QueueRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueRelay")
            .field("queue", &self.queue().name())
            .finish()
    }
}

impl Queue {
    /// The state of the queue's relay; `None` if the queue is not [relayed](Self::is_relayed).
    ///
    /// # Errors
    /// As for opening a queue: a companion may have been removed.
    pub fn relay(&self) -> Result<Option<RelayInfo>> {
        let (Some(requests), Some(settled)) = (
            self.companion_queue(Companion::Requests)?,
            self.companion_queue(Companion::Settled)?,
        ) else {
            return Ok(None);
        };
        RelayInfo::of(self, requests.unfinished()?, settled.unfinished()?).map(Some)
    }
}

impl QueueRelay {
    /// Makes this process the relay of the queue, waiting until `timeout` while another one is. The queue is
    /// relayed from then on, until [`detach`](Self::detach).
    ///
    /// The options bound how much may wait for the relay. The first relay creates the companions. From then on
    /// the queue and they are [persistent](crate::Options::persistent). The companions are removed with the
    /// queue's name.
    ///
    /// # Errors
    /// `Timeout`: another relay lives; `Exists`: another object has a companion's name, which is in the error
    /// text; `Invalid`: the queue is a companion itself, or its name is too long; `Interrupted` when a signal
    /// handler ran while waiting; `Detached` once the [waits through the queue](Queue::end_waits) are ended;
    /// `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn attach(
        queue: Arc<Queue>,
        options: &RelayOptions,
        timeout: impl IntoTimeout,
    ) -> Result<Self> {
        let deadline = Deadline::after(timeout);
        let mut role = Role::take(queue, "queue", deadline)?;
        if role.is_unfinished()? {
            role = Attached::open(role, options)?.removed(deadline)?;
        }
        let attached = Attached::open(role, options)?;
        attached.role.set_options(options);
        if !attached.role.object().is_relayed() {
            attached.role.object().mark_relayed(true)?;
        }
        Ok(Self {
            attached: Arc::new(attached),
        })
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        self.attached.role.object()
    }

    /// Whether the queue and its companions still have their names. Once the queue's name was removed, programs
    /// that open it get another queue, which this relay does not serve, and programs that have this one find no
    /// companions. Once a companion's name was removed, programs do not find it; the next relay of the queue
    /// makes new companions.
    pub fn is_named(&self) -> bool {
        let companions = self.companions().map(|of| of.segment().is_named());
        self.queue().segment().is_named() && companions == [true, true]
    }

    /// Whether the relay before this one died.
    pub fn took_over(&self) -> bool {
        self.attached.role.took_over()
    }

    /// Takes the next message that was put, waiting until `timeout`. This relay has it until it is
    /// [done](RelayRequest::done) or dropped; if the process dies, the next relay gets it.
    ///
    /// Requests come in the order in which they were put. Those that were given back come first.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Detached` after
    /// [`end_waits`](Self::end_waits); `Exhausted`, `NoSpace` as for [`Queue::lease`]. `Corrupt`: a request
    /// was overwritten; it is dropped, and the next call continues with the next one.
    pub fn next_request(&self, timeout: impl IntoTimeout) -> Result<RelayRequest> {
        self.attached.role.check()?;
        let taken = Taken::next(&self.attached, Companion::Requests, timeout.into_timeout())?;
        match taken.frame() {
            Ok(frame) if frame.kind == FrameKind::Put => Ok(RelayRequest(taken)),
            _ => Err(taken.refuse()),
        }
    }

    /// Takes the next settlement, waiting until `timeout`. This relay has it until it is
    /// [done](Settlement::done) or dropped; if the process dies, the next relay gets it.
    ///
    /// # Errors
    /// As for [`next_request`](Self::next_request).
    pub fn next_settlement(&self, timeout: impl IntoTimeout) -> Result<Settlement> {
        self.attached.role.check()?;
        let taken = Taken::next(&self.attached, Companion::Settled, timeout.into_timeout())?;
        match taken.frame() {
            Ok(frame) if settlement_kind(&frame).is_some() => Ok(Settlement(taken)),
            _ => Err(taken.refuse()),
        }
    }

    /// Descriptors for an event loop: the first polls readable while there is a request to take, the second
    /// while there is a settlement. As [`Queue::fd`].
    ///
    /// # Errors
    /// As for [`Queue::fd`].
    pub fn fds(&self) -> Result<[BorrowedFd<'_>; 2]> {
        Ok([self.attached.requests.fd()?, self.attached.settled.fd()?])
    }

    /// The companions of the requests and of the settlements, to wait for with [`wait_any`](crate::wait_any).
    /// Do not take messages from them directly.
    pub fn companions(&self) -> [&Queue; 2] {
        [&self.attached.requests, &self.attached.settled]
    }

    /// Puts a message into the queue itself, where programs find it, waiting for room until `timeout`.
    ///
    /// `attempts`: how often the message was delivered before, anywhere. A worker's
    /// [`attempts`](crate::Lease::attempts) continues from there, and so does
    /// [`max_attempts`](crate::Options::max_attempts). `token`: the relay's name for the message, up to 4096
    /// bytes, returned with its settlements. A message with an empty token is not settled.
    ///
    /// # Errors
    /// As for [`Queue::put`]; `TooLarge` for a longer token; `Invalid` in a forked child. After an error
    /// nothing was delivered.
    pub fn deliver(
        &self,
        payload: &[u8],
        attempts: u32,
        token: &[u8],
        timeout: impl IntoTimeout,
    ) -> Result<()> {
        self.attached.role.check()?;
        if token.len() > MAX_TOKEN {
            return Err(Error::TooLarge {
                what: "token",
                size: token.len() as u64,
                limit: MAX_TOKEN as u64,
            });
        }
        let delivery = Delivery {
            token: token.len() as u32,
            attempts: attempts.min(u8::MAX.into()) as u8,
        };
        let fill = |to: &mut [u8]| {
            let (front, behind) = to.split_at_mut(payload.len());
            front.copy_from_slice(payload);
            behind.copy_from_slice(token);
        };
        let deadline = Deadline::after(timeout);
        self.queue()
            .put_by(PutBy::Relay, payload.len(), delivery, deadline, fill)
    }

    /// How much can be delivered now without waiting. Nothing else bounds the messages that are delivered and
    /// not settled: a relay that is to fetch only as many as its workers can handle counts what it delivered
    /// and what was settled.
    pub fn room(&self) -> RelayRoom {
        let queue = self.queue();
        let messages = match queue.max_items() {
            Some(most) => most.saturating_sub(queue.ring.header.counts().0),
            None => u64::MAX,
        };
        RelayRoom {
            messages,
            bytes: queue.ring.store.free_bytes(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.attached.role.check()
    }

    /// How long ago a consumer found the queue empty: zero while one sleeps, and `None` if that never
    /// happened while the queue was relayed. A relay that competes with others for messages fetches them
    /// while they are wanted here.
    ///
    /// A hint, which costs two loads: a consumer that was killed while it slept counts until the next delivery.
    pub fn last_wanted(&self) -> Option<Duration> {
        let header = self.queue().ring.header;
        if header.has_waiting_consumer() {
            return Some(Duration::ZERO);
        }
        match header.relay.revision.load(Ordering::Relaxed) {
            0 => None,
            wanted => Some(Duration::from_nanos(now_ns().saturating_sub(wanted))),
        }
    }

    /// The messages that were delivered with a token, by this or an earlier relay, and are not settled: they
    /// wait in the queue, or a worker has them. For a relay that took over.
    ///
    /// A message whose settlement is under way may be among them. Takes time proportional to their number,
    /// during which no message can be taken.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn outstanding(&self) -> Result<Vec<Delivered>> {
        self.attached.role.check()?;
        let queue = self.queue();
        let store = &queue.ring.store;
        let guard = queue.lock::<ConsumersLock>(Deadline::Never)?;
        let (put, _) = queue.ring.header.put();
        let mut all = Vec::new();
        for found in guard.side().everything(Deadline::Never)? {
            let is_leased = found.mark.state == MessageState::Leased;
            let is_there = match found.mark.state {
                // A larger number belongs to a delivery that is under way or was cut short.
                MessageState::Sent => found.number <= put,
                MessageState::Waiting => true,
                _ => false,
            };
            if (is_leased || is_there) && store.head(found.block)?.token() != 0 {
                let [_, (at, len)] = store.payload_and_token(found.block)?;
                // SAFETY: in the message's extent, which is not freed while the consumers' lock is held.
                let token = unsafe { std::slice::from_raw_parts(at.as_ptr(), len) };
                all.push(Delivered {
                    token: token.to_vec(),
                    attempts: found.mark.attempts.into(),
                    is_leased,
                });
            }
        }
        Ok(all)
    }

    /// Ends the waits through this relay: a thread that waits in [`next_request`](Self::next_request) or
    /// [`next_settlement`](Self::next_settlement) returns with `Detached`, and so does each later call that
    /// would have to wait. Never waits.
    pub fn end_waits(&self) {
        self.attached.requests.end_waits();
        self.attached.settled.end_waits();
    }

    /// Makes the queue a plain queue again. Requests that were not taken, or not done, are put into the queue
    /// itself, waiting for room until `timeout`. Settlements that were not taken are dropped, and delivered
    /// messages lose their tokens.
    ///
    /// The companions are removed. A queue that was not created [persistent](crate::Options::persistent) is then
    /// removed with its last handle again. If this fails or the process is killed half-way, what is put goes
    /// into the queue, and [`finish_detach`](Self::finish_detach) or the next `attach` completes the removal.
    ///
    /// # Errors
    /// `Timeout`; `Invalid` in a forked child, or while requests or settlements of this relay exist; `NoSpace`,
    /// `Poisoned`, `Corrupt`.
    pub fn detach(self, timeout: impl IntoTimeout) -> Result<()> {
        self.attached.role.check()?;
        let attached = Arc::into_inner(self.attached).ok_or_else(|| {
            let why = "requests or settlements of it exist, which are to be done or dropped first";
            Error::invalid("relay", why)
        })?;
        attached.role.object().mark_relayed(false)?;
        attached.removed(Deadline::after(timeout)).map(drop)
    }

    /// Completes a [`detach`](Self::detach) that failed, or whose process was killed. What is left in the
    /// companion is put into the queue, waiting for room until `timeout`. The queue is not relayed meanwhile.
    /// The same completes an `attach` whose process was killed. False if there is nothing to complete: the queue
    /// is relayed, or has no companions.
    ///
    /// # Errors
    /// `Timeout`, also while another process attaches or detaches; `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn finish_detach(queue: Arc<Queue>, timeout: impl IntoTimeout) -> Result<bool> {
        // The relay of a relayed queue has the role: this does not wait for it.
        if queue.is_relayed() || queue.family()? == 0 {
            return Ok(false);
        }
        let deadline = Deadline::after(timeout);
        let role = Role::take(queue, "queue", deadline)?;
        if !role.is_unfinished()? {
            return Ok(false);
        }
        let attached = Attached::open(role, &RelayOptions::new())?;
        attached.removed(deadline).map(|_| true)
    }
}
