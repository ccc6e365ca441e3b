//! The relay of a queue: what the process does that has the role.
//!
//! What a kill leaves between the steps of attaching and of the removal of a relay, `relay::state` says; what
//! it leaves of requests and settlements, which are leased messages of the companions, `lease` and `relayed`
//! say. A delivery is a reservation that is committed: killed before the commit, nothing was delivered.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::relay::{Frame, FrameKind, RelayOptions, RelayState, RequestId, check_name};
use crate::segment::{self, Companion, Options, Section};
use crate::sync::crash::crash_point;
use crate::sync::{Acquisition, WaitPolicy};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::process;

use super::commit::Delivery;
use super::core::Queue;
use super::header::RELAYED;
use super::lease::LeasedMessage;
use super::locked::{ConsumersLock, ProducersLock};
use super::reservation::PutBy;
use super::store::MessageState;

/// The longest token of a delivered message, in bytes.
const MAX_TOKEN: usize = 4096;

/// The relay of a queue: the process that carries what others put to somewhere else, and delivers into the
/// queue what comes from there.
///
/// While a queue is relayed, a message that is put becomes a [`RelayRequest`] instead. Only what the relay
/// [delivers](Self::deliver) goes into the queue. Programs use the queue as ever: they put, get, lease, ack
/// and wait, and need not know of the relay.
///
/// ```text
/// programs ── put ─────────▶ jobs.relay ── next_request ────▶ relay ──▶ somewhere
/// programs ◀─ get, lease ─── jobs ◀─────── deliver ────────── relay ◀── somewhere
/// programs ── ack, nack … ─▶ jobs.settled ─ next_settlement ─▶ relay ──▶ somewhere
/// ```
///
/// **What is promised.** A put that has returned is a request, and stays one until the relay says that it is
/// [done](RelayRequest::done), whatever is killed meanwhile. Each message that was delivered with a token is
/// settled at least once: when a worker acks it, gives it back, extends its deadline, dies, or has had it for
/// the last time. Both may be repeated after a kill. A request keeps its [id](RelayRequest::id), and a
/// settlement its token, so repetitions can be recognised.
///
/// **The role.** One process at a time is the relay. Another that [attaches](Self::attach) waits, and takes
/// over when the first drops its relay or dies, from any cause. It then gets the requests and settlements
/// that the first had taken and not finished. The queue stays relayed while there is no relay: what is put
/// waits in the companion, within its bounds, and a put that finds no room ends with
/// [`RelayBehind`](Error::RelayBehind). [`detach`](Self::detach) makes it a plain queue again.
///
/// **Giving back.** A worker's `nack` of a delivered message is told to the relay while one lives, and the
/// message leaves this queue: the relay decides where it is worked on next. While there is none, the message
/// is delivered again here. So is one whose settlement finds no room. A message that was
/// [delivered too often](Options::max_attempts) is told as
/// [`Exhausted`](SettlementKind::Exhausted) instead of going to the dead-letter queue.
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
    shared: Arc<Shared>,
}

/// What a relay, its requests and its settlements have in common.
struct Shared {
    // Before the role: what is leased through them is given back before the next relay can begin.
    requests: Queue,
    settled: Queue,
    role: Role,
}

/// The role, until it is dropped.
struct Role {
    queue: Arc<Queue>,
    owner: Owner,
    took_over: bool,
}

/// How a queue's relay is doing; see [`Queue::relay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayInfo {
    /// Whether a process has the role of the relay and lives.
    pub is_running: bool,
    /// Requests that the relay has not finished.
    pub requests: u64,
    /// Settlements that the relay has not finished; of a map 0.
    pub settlements: u64,
}

/// How much a queue has room for; see [`QueueRelay::room`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayRoom {
    /// Messages; `u64::MAX` where their number is not bounded.
    pub messages: u64,
    /// Bytes of their payloads and tokens, less what each takes for itself. An estimate.
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

impl Role {
    fn state(&self) -> &RelayState {
        &self.queue.ring.header.relay
    }

    /// Waits for the role until `deadline`.
    fn take(queue: Arc<Queue>, deadline: Deadline) -> Result<Self> {
        let policy = WaitPolicy::default();
        let peers = queue.segment.peers();
        let taken = queue
            .ring
            .header
            .relay
            .role
            .acquire(peers, &policy, deadline)?;
        let owner = queue.segment.owner();
        Ok(Self {
            queue,
            owner,
            took_over: taken == Acquisition::OwnerDied,
        })
    }

    fn check(&self) -> Result<()> {
        self.queue.check_owner(self.owner, "relay")
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if self.check().is_ok() {
            let _ = self.state().role.release(self.queue.segment.me());
        }
    }
}

impl Queue {
    /// How the queue's relay is doing; `None` if the queue is not [relayed](Self::is_relayed).
    ///
    /// # Errors
    /// Those of opening a queue: a companion was removed, say.
    pub fn relay(&self) -> Result<Option<RelayInfo>> {
        let (Some(requests), Some(settled)) = (
            self.companion(Companion::Requests)?,
            self.companion(Companion::Settled)?,
        ) else {
            return Ok(None);
        };
        let role = &self.ring.header.relay.role;
        Ok(Some(RelayInfo {
            is_running: role.owner_lives(self.segment.peers())?,
            requests: requests.unfinished()?,
            settlements: settled.unfinished()?,
        }))
    }

    /// Sets or removes the mark that says that others' messages become requests.
    fn mark_relayed(&self, relayed: bool) -> Result<()> {
        let guard = self.lock::<ProducersLock>(Deadline::Never)?;
        let flags = &self.ring.header.flags;
        match relayed {
            true => flags.fetch_or(RELAYED, Ordering::SeqCst),
            false => flags.fetch_and(!RELAYED, Ordering::SeqCst),
        };
        crash_point!();
        drop(guard);
        // Producers that wait for room in the queue wait for the wrong one.
        self.wake_everybody();
        Ok(())
    }

    /// Takes the tokens from the delivered messages: no relay is told what becomes of them.
    fn forget_tokens(&self) -> Result<()> {
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        for found in guard.side().everything()? {
            if found.mark.state != MessageState::Writing {
                self.ring.store.head(found.block)?.set_token(0);
            }
        }
        Ok(())
    }
}

impl QueueRelay {
    /// Makes this process the relay of the queue, waiting until `timeout` while another one is. The queue is
    /// relayed from then on, until [`detach`](Self::detach).
    ///
    /// The options say how much may wait for the relay. The companions are created by the first relay, and
    /// are [persistent](Options::persistent); they go with the queue's name.
    ///
    /// # Errors
    /// `Timeout`: another relay lives; `Exists`: another object has a companion's name, which the error
    /// says; `Invalid`: the queue is a companion itself, or its name is too long; `Interrupted` when a signal
    /// handler ran while waiting; `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn attach(queue: Arc<Queue>, options: &RelayOptions, timeout: Timeout) -> Result<Self> {
        if queue.segment.is_companion() {
            let why = format!("{:?} is the companion of another object", queue.name());
            return Err(Error::invalid("queue", why));
        }
        check_name(queue.name())?;
        let deadline = Deadline::after(timeout);
        let role = Role::take(queue, deadline)?;
        let queue = &role.queue;
        if !queue.is_relayed() && queue.segment.family()?.load(Ordering::Relaxed) != 0 {
            // An earlier relay was killed while it attached, or while it was removed.
            let companions = Shared::open(role, options)?;
            return companions
                .removed(deadline)
                .and_then(|role| Self::begin(role, options));
        }
        Self::begin(role, options)
    }

    fn begin(role: Role, options: &RelayOptions) -> Result<Self> {
        let shared = Shared::open(role, options)?;
        let state = shared.role.state();
        let wait = u64::try_from(options.wait.as_nanos()).unwrap_or(u64::MAX);
        state.wait_ns.store(wait, Ordering::Relaxed);
        state
            .max_payload
            .store(options.max_payload, Ordering::Relaxed);
        if !shared.role.queue.is_relayed() {
            shared.role.queue.mark_relayed(true)?;
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.shared.role.queue
    }

    /// Whether the relay before this one died.
    pub fn took_over(&self) -> bool {
        self.shared.role.took_over
    }

    /// Takes the next message that was put, waiting until `timeout`. It is this relay's until it is
    /// [done](RelayRequest::done) or dropped; if the process dies, the next relay gets it.
    ///
    /// Requests come in the order in which they were put. Those that were given back come first.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Detached` after
    /// [`end_waits`](Self::end_waits); `Exhausted`, `NoSpace` as for [`Queue::lease`]. `Corrupt`: a request
    /// was overwritten. It is dropped then, and the next call goes on with the next.
    pub fn next_request(&self, timeout: Timeout) -> Result<RelayRequest> {
        self.shared.role.check()?;
        let held = self.shared.requests.lease_place(None, timeout)?;
        let taken = Taken::new(&self.shared, Companion::Requests, held);
        match taken.frame() {
            Ok(frame) if frame.kind == FrameKind::Put => Ok(RelayRequest(taken)),
            _ => Err(taken.refuse()),
        }
    }

    /// Takes the next settlement, waiting until `timeout`. It is this relay's until it is
    /// [done](Settlement::done) or dropped; if the process dies, the next relay gets it.
    ///
    /// # Errors
    /// As for [`next_request`](Self::next_request).
    pub fn next_settlement(&self, timeout: Timeout) -> Result<Settlement> {
        self.shared.role.check()?;
        let held = self.shared.settled.lease_place(None, timeout)?;
        let taken = Taken::new(&self.shared, Companion::Settled, held);
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
        Ok([self.shared.requests.fd()?, self.shared.settled.fd()?])
    }

    /// The companions, to wait for them with others by [`wait_any`](crate::wait_any): that of the requests,
    /// and that of the settlements. Messages are not to be taken from them directly.
    pub fn companions(&self) -> [&Queue; 2] {
        [&self.shared.requests, &self.shared.settled]
    }

    /// Puts a message into the queue itself, where programs find it, waiting for room until `timeout`.
    ///
    /// `attempts`: how often the message was delivered before this, anywhere. A worker's
    /// [`attempts`](crate::Lease::attempts) counts on from there, and so does
    /// [`max_attempts`](Options::max_attempts). `token`: what the relay calls the message, up to 4096 bytes,
    /// returned by its settlements. With an empty token there are none.
    ///
    /// # Errors
    /// As for [`Queue::put`]; `TooLarge` for a longer token; `Invalid` in a forked child. After an error
    /// nothing was delivered.
    pub fn deliver(
        &self,
        payload: &[u8],
        attempts: u32,
        token: &[u8],
        timeout: Timeout,
    ) -> Result<()> {
        self.shared.role.check()?;
        if token.len() > MAX_TOKEN {
            return Err(Error::TooLarge {
                what: "token",
                size: token.len() as u64,
                limit: MAX_TOKEN as u64,
            });
        }
        let queue = self.queue();
        queue.room_for(payload.len())?;
        let len = payload.len() + token.len();
        let place = queue.reserve_here(len, PutBy::Relay, Deadline::after(timeout))?;
        // Others' reservations are none while the queue is relayed; the relay's always is one.
        let place = place.ok_or(Error::Closed)?;
        // SAFETY: reserved just now, for this call alone.
        let to = unsafe { std::slice::from_raw_parts_mut(place.span.as_ptr(), len) };
        let (front, behind) = to.split_at_mut(payload.len());
        front.copy_from_slice(payload);
        behind.copy_from_slice(token);
        let delivery = Delivery {
            token: token.len() as u32,
            attempts: attempts.min(u8::MAX.into()) as u8,
        };
        queue
            .commit_here(&place, payload.len(), delivery)
            .inspect_err(|_| {
                let _ = queue.discard(&place);
            })
    }

    /// How much can be delivered now without waiting. What is delivered and not settled is bounded by
    /// nothing else: a relay that takes only as much from elsewhere as its workers can do counts what it
    /// delivered against what was settled.
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

    /// The messages that were delivered with a token, by this or an earlier relay, and are not settled: they
    /// wait in the queue, or a worker has them. For a relay that took over.
    ///
    /// A message whose settlement is under way may be among them. Takes time proportional to their number,
    /// during which no message is taken.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn outstanding(&self) -> Result<Vec<Delivered>> {
        self.shared.role.check()?;
        let queue = self.queue();
        let store = &queue.ring.store;
        let guard = queue.lock::<ConsumersLock>(Deadline::Never)?;
        let mut all = Vec::new();
        for found in guard.side().everything()? {
            let is_leased = found.mark.state == MessageState::Leased;
            let is_there = matches!(found.mark.state, MessageState::Sent | MessageState::Waiting);
            if (is_leased || is_there) && store.head(found.block)?.token() != 0 {
                let [_, (at, len)] = store.payload_and_token(found.block)?;
                // SAFETY: in the message's extent, which under the consumers' lock is not freed.
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
        self.shared.requests.end_waits();
        self.shared.settled.end_waits();
    }

    /// Ends the relaying: the queue is a plain queue again. Requests that were not taken, or not done, are
    /// put into the queue itself, waiting for room until `timeout`. Settlements that were not taken are
    /// dropped, and what is delivered has no tokens any more.
    ///
    /// The companions are removed. If it fails or is killed half-way, what is put goes into the queue, and
    /// the next `attach` ends the removal first.
    ///
    /// # Errors
    /// `Timeout`; `Invalid` in a forked child, or while requests or settlements of this relay exist; `NoSpace`,
    /// `Poisoned`, `Corrupt`.
    pub fn detach(self, timeout: Timeout) -> Result<()> {
        self.shared.role.check()?;
        let shared = Arc::into_inner(self.shared).ok_or_else(|| {
            let why = "requests or settlements of it exist, which are to be done or dropped first";
            Error::invalid("relay", why)
        })?;
        shared.role.queue.mark_relayed(false)?;
        shared.removed(Deadline::after(timeout)).map(drop)
    }
}

impl Shared {
    /// Opens or creates the companions.
    fn open(role: Role, options: &RelayOptions) -> Result<Self> {
        let queue = &role.queue;
        let family = queue.segment.family()?;
        if family.load(Ordering::Relaxed) == 0 {
            let [random] = process::random();
            family.store(random.max(1), Ordering::Release);
            crash_point!();
        }
        let id = family.load(Ordering::Relaxed);
        let bounds = Options {
            create: true,
            persistent: true,
            max_items: options.max_requests,
            max_capacity: options.max_bytes,
            ..Options::default()
        };
        let open = |which: Companion, options: &Options| {
            let name = which.name(queue.name());
            match Queue::open_companion(&name, which, id, options) {
                Err(Error::Exists { .. }) if is_abandoned(&name)? => {
                    segment::unlink(&name)?;
                    Queue::open_companion(&name, which, id, options)
                }
                opened => opened,
            }
        };
        let requests = open(Companion::Requests, &bounds)?;
        crash_point!();
        let settled = open(
            Companion::Settled,
            &Options {
                create: true,
                persistent: true,
                ..Options::default()
            },
        )?;
        crash_point!();
        Ok(Self {
            requests,
            settled,
            role,
        })
    }

    /// Ends the removal of the relay, of a queue that is not relayed any more: steps 6 to 9.
    fn removed(self, deadline: Deadline) -> Result<Role> {
        let queue = &self.role.queue;
        self.requests.close()?;
        loop {
            let held = match self
                .requests
                .lease_place(None, Timeout::Val(Duration::ZERO))
            {
                Ok(held) => held,
                Err(Error::Closed) => break,
                // A process is about to commit a request.
                Err(Error::Timeout) if !deadline.passed() => {
                    let _ = self
                        .requests
                        .wait_ready(Timeout::Val(Duration::from_millis(10)));
                    continue;
                }
                Err(err) => return Err(err),
            };
            // SAFETY: leased just now, and not ended before the frame's last use.
            if let Ok(frame) = Frame::read(unsafe { held.bytes() })
                && let Err(err) = queue.put_until(frame.second, false, deadline)
            {
                let _ = self.requests.nack(&held, Duration::ZERO);
                return Err(err);
            }
            self.requests.ack(&held)?;
        }
        self.settled.close()?;
        queue.forget_tokens()?;
        for which in [Companion::Requests, Companion::Settled] {
            match segment::unlink(&which.name(queue.name())) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err),
            }
            crash_point!();
        }
        queue.segment.family()?.store(0, Ordering::Release);
        crash_point!();
        Ok(self.role)
    }
}

/// Whether `name` is a companion of an object that is gone: no process has it open.
fn is_abandoned(name: &str) -> Result<bool> {
    let found = match Queue::open(name) {
        Ok(found) => found,
        Err(Error::WrongKind { .. }) => return Ok(false),
        Err(err) => return Err(err),
    };
    Ok(found.segment.is_companion() && !found.segment.has_others(Section::ALL)?)
}

/// A message of a companion that the relay has taken.
struct Taken {
    shared: Arc<Shared>,
    which: Companion,
    held: LeasedMessage,
}

// SAFETY: the message is only read, and may be ended by any thread.
unsafe impl Send for Taken {}
// SAFETY: as for `Send`.
unsafe impl Sync for Taken {}

impl Taken {
    fn new(shared: &Arc<Shared>, which: Companion, held: LeasedMessage) -> Self {
        let shared = Arc::clone(shared);
        Self {
            shared,
            which,
            held,
        }
    }

    fn queue(&self) -> &Queue {
        match self.which {
            Companion::Settled => &self.shared.settled,
            _ => &self.shared.requests,
        }
    }

    fn frame(&self) -> Result<Frame<'_>> {
        // SAFETY: leased by this process, until this value is gone; the queue is open.
        Frame::read(unsafe { self.held.bytes() })
    }

    /// One whose frame was read before; if it was overwritten since, an empty one.
    fn checked(&self) -> Frame<'_> {
        let empty = Frame::new(FrameKind::Ack, &[], &[]);
        self.frame().unwrap_or(empty)
    }

    fn id(&self) -> RequestId {
        RequestId {
            companion: self.queue().ring.header.relay.serial(),
            number: self.held.place.number,
        }
    }

    fn done(self) -> Result<()> {
        let taken = ManuallyDrop::new(self);
        let done = taken.queue().ack(&taken.held);
        // SAFETY: it is not used any more, and not dropped.
        drop(unsafe { std::ptr::read(&taken.shared) });
        done
    }

    fn retry(self, delay: Duration) -> Result<()> {
        let taken = ManuallyDrop::new(self);
        let done = taken.queue().nack(&taken.held, delay);
        // SAFETY: as in `done`.
        drop(unsafe { std::ptr::read(&taken.shared) });
        done
    }

    /// Drops a message that is no request.
    #[cold]
    fn refuse(self) -> Error {
        let why = format!(
            "message {} of {:?} is no request; it was dropped",
            self.held.place.number,
            self.queue().name()
        );
        match self.done() {
            Ok(()) => Error::corrupt(why),
            Err(err) => err,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // It fails in a forked child, where it is the parent's.
        let _ = self.queue().nack(&self.held, Duration::ZERO);
    }
}

/// A message that a program put into a relayed queue: a `[u8]` in shared memory, for the relay to forward.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork` it remains the parent's.
pub struct RelayRequest(Taken);

impl RelayRequest {
    /// What it is called, the same whenever it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// How often it was taken, this time included; 255 for more.
    pub fn attempts(&self) -> u32 {
        self.0.held.attempts.into()
    }

    /// It was forwarded: the request is gone.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.0.done()
    }

    /// Gives it back, to be taken again after `delay`.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl Deref for RelayRequest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.checked().second
    }
}

impl fmt::Debug for RelayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayRequest")
            .field("id", &self.id())
            .field("len", &self.len())
            .finish()
    }
}

/// What became of a message that the relay delivered.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork` it remains the parent's.
pub struct Settlement(Taken);

/// What a [`Settlement`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettlementKind<'a> {
    /// A worker finished it, or took it by a `get`. It is not in the queue any more.
    Done,
    /// It is to be delivered again after the delay: a worker gave it back, died, or was too slow. It is not
    /// in the queue any more.
    Returned {
        /// When.
        delay: Duration,
    },
    /// It was delivered as often as the queue's [`max_attempts`](Options::max_attempts) allows. It is not in
    /// the queue any more.
    Exhausted {
        /// The message.
        payload: &'a [u8],
    },
    /// A worker is still on it, and wants so much time from now on. It stays in the queue, and another
    /// settlement follows.
    Extended {
        /// The time.
        visible: Duration,
    },
}

fn settlement_kind<'a>(frame: &Frame<'a>) -> Option<SettlementKind<'a>> {
    let time = Duration::from_nanos(frame.number.unwrap_or(0));
    match frame.kind {
        FrameKind::Ack => Some(SettlementKind::Done),
        FrameKind::Nack => Some(SettlementKind::Returned { delay: time }),
        FrameKind::Exhausted => Some(SettlementKind::Exhausted {
            payload: frame.second,
        }),
        FrameKind::Extend => Some(SettlementKind::Extended { visible: time }),
        _ => None,
    }
}

impl Settlement {
    /// What it is called, the same whenever it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// The token with which the message was delivered.
    pub fn token(&self) -> &[u8] {
        self.0.checked().first
    }

    /// How often the message was delivered, by all relays and here; 255 for more.
    pub fn attempts(&self) -> u32 {
        self.0.checked().attempts.into()
    }

    /// What became of it.
    pub fn kind(&self) -> SettlementKind<'_> {
        // One that was overwritten since it was taken is an `Ack` without a token.
        settlement_kind(&self.0.checked()).unwrap_or(SettlementKind::Done)
    }

    /// It was passed on: the settlement is gone.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.0.done()
    }

    /// Gives it back, to be taken again after `delay`.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settlement")
            .field("token", &self.token())
            .field("kind", &self.kind())
            .finish()
    }
}
