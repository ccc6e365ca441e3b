//! The relay of a map: what the process does that has the role.
//!
//! What a kill leaves between the steps of attaching and of the removal of a relay, `relay::state` says; what
//! it leaves of requests, which are leased messages of the companion, `queue::lease` says. An answer is set
//! before its request is done: killed in between, the next relay does the request and answers once more. A
//! delivery is one change of the map.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::LockedShard;
use super::entry::{NEVER, Pair};
use super::hash::SHARDS;
use super::ops::Map;
use super::relayed::{Answer, nanos, ticket_key};
use super::store::Lookup;
use crate::error::{Error, Result};
use crate::queue::{Companions, Queue, Taken, requests_options};
use crate::relay::{Frame, FrameKind, RelayOptions, RelayState, Relayed, RequestId, Role};
use crate::segment::{self, Companion, Options, Section};
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, Timeout, now_ns};

/// How long an answer is kept for an asker that does not take it.
const ANSWER_LIFE: Duration = Duration::from_secs(60);
/// Bytes of answers: as many as several thousand askers that died, or gave up, left in that time.
const ANSWERS: u64 = 64 << 20;
/// The highest revision: versions that the map counts itself are higher.
const MAX_REVISION: u64 = u64::MAX / 2;

/// The relay of a map: the process that carries the changes of others to somewhere else, and delivers into
/// the map what comes from there.
///
/// While a map is relayed, a change becomes a [`MapRequest`] instead. Only what the relay
/// [delivers](Self::deliver) or [removes](Self::remove) changes the map. Programs use it as ever, and need
/// not know of the relay; what they read is the map itself, at its full speed.
///
/// ```text
/// programs ── set, swap ─▶ config.relay ─── next_request ─────▶ relay ──▶ somewhere
/// programs ◀─ get ──────── config ◀──────── deliver, remove ─── relay ◀── somewhere
/// programs ◀─ the answer ─ config.answers ◀─ done, conflict ──── relay
/// ```
///
/// **What is promised.** Requests of one process come in the order of its calls. A `set` returns once it is a
/// request, and is seen when the relay delivers it, unless the relay lets [sets
/// wait](RelayOptions::sets_wait). A change that depends on the old value waits for the relay's answer, and is
/// exact whatever other machines do: `compare_swap`, `insert`, `remove`, `take`, `add`, `update`, `expire`.
/// These wait for [`RelayOptions::wait`] at most, and then end with [`RelayBehind`](Error::RelayBehind): the
/// change may still happen. `lock_key` is refused with `Unsupported`: it could exclude processes of this
/// machine only.
///
/// **Versions.** The version of a value in a relayed map is the revision with which it was delivered. So
/// `compare_swap_version` compares revisions, on all machines. [`Map::version`] and what waits for changes count
/// the changes of this machine's map.
///
/// **Expiry.** A delivered time to live is counted on this machine, from the delivery on. A key that has
/// expired here counts as one that is not there; whether it is elsewhere, the relay's answer says.
///
/// **The role** is exclusive, as that of a [`QueueRelay`](crate::QueueRelay). The map stays relayed while there
/// is no relay: what was set waits in the companion, within its bounds. [`detach`](Self::detach) makes it a
/// plain map again.
///
/// A relay is [`Send`] and [`Sync`]. The role belongs to the process that attached: calls in a forked child
/// are `Invalid`.
///
/// ```
/// use std::sync::Arc;
/// use shoal::{Map, MapChange, MapRelay, RelayOptions, Timeout};
///
/// let config = Arc::new(Map::anonymous()?);
/// let relay = MapRelay::attach(Arc::clone(&config), &RelayOptions::new(), Timeout::Infinite)?;
///
/// let program = Map::open(config.name())?; // in another process, usually
/// program.set(b"limit", b"7")?;
/// assert_eq!(program.get_vec(b"limit")?, None, "it is on its way");
///
/// let request = relay.next_request(Timeout::Infinite)?;
/// assert_eq!(request.key(), b"limit");
/// assert_eq!(request.change(), MapChange::Set { value: b"7", life: None });
/// // ... pass it on, and when it comes back with its revision, on each machine:
/// relay.deliver(b"limit", b"7", 41, None)?;
/// request.done()?;
///
/// assert_eq!(program.get_versioned(b"limit")?, Some((b"7".to_vec(), 41)));
/// # relay.detach(Timeout::Infinite)?;
/// # Ok::<(), shoal::Error>(())
/// ```
///
/// # Limits
/// A name with a relay has at most 192 bytes. A map that has keys when its first relay attaches is refused
/// or [emptied](RelayOptions::discard). `set_many` is one request for each key, and `clear` one for each key
/// that this machine's map has.
pub struct MapRelay {
    shared: Arc<Shared>,
}

/// What a relay and its requests have in common.
struct Shared {
    // Before the role: what is leased through it is given back before the next relay can begin.
    requests: Queue,
    answers: Map,
    role: Role<Map>,
}

impl Companions for Shared {
    fn companion(&self, _which: Companion) -> &Queue {
        &self.requests
    }
}

impl Relayed for Map {
    fn relay_state(&self) -> &RelayState {
        self.core.relay_state()
    }
}

impl fmt::Debug for MapRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRelay")
            .field("map", &self.map().name())
            .finish()
    }
}

impl MapRelay {
    /// Makes this process the relay of the map, waiting until `timeout` while another one is. The map is
    /// relayed from then on, until [`detach`](Self::detach).
    ///
    /// # Errors
    /// `Timeout`: another relay lives; `Exists`: another object has a companion's name, which the error
    /// says; `Invalid`: the map has keys and was not relayed before, is a companion itself, or its name is too
    /// long; `Interrupted` when a signal handler ran while waiting; `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn attach(map: Arc<Map>, options: &RelayOptions, timeout: Timeout) -> Result<Self> {
        let deadline = Deadline::after(timeout);
        let mut role = Role::take(map, "map", deadline)?;
        if !role.object().is_relayed() && role.object().family()? != 0 {
            // An earlier relay was killed while it attached, or while it was removed.
            role = Shared::open(role, options)?.removed(deadline)?;
        }
        let shared = Shared::open(role, options)?;
        shared.role.set_options(options);
        let map = shared.role.object();
        if !map.is_relayed() {
            // Killed before the mark is set, it leaves a map that is not relayed, with the keys it had or
            // without.
            map.relay_state().revision.store(0, Ordering::Relaxed);
            if options.discard {
                map.clear()?;
            }
            map.core.mark_relayed(true)?;
            if let Err(err) = map.check_empty(options.discard) {
                map.core.mark_relayed(false)?;
                shared.removed(deadline)?;
                return Err(err);
            }
        }
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The map.
    pub fn map(&self) -> &Arc<Map> {
        self.shared.role.object()
    }

    /// Whether the relay before this one died.
    pub fn took_over(&self) -> bool {
        self.shared.role.took_over()
    }

    /// Takes the next change that is wanted, waiting until `timeout`. It is this relay's until it is done or
    /// dropped; if the process dies, the next relay gets it.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Detached` after
    /// [`end_waits`](Self::end_waits); `Exhausted`, `NoSpace` as for [`Queue::lease`]. `Corrupt`: a request
    /// was overwritten. It is dropped then, and the next call goes on with the next.
    pub fn next_request(&self, timeout: Timeout) -> Result<MapRequest> {
        self.shared.role.check()?;
        let taken = Taken::next(&self.shared, Companion::Requests, timeout)?;
        match taken.frame() {
            Ok(frame) if change_of(&frame).is_some() => Ok(MapRequest(taken)),
            _ => Err(taken.refuse()),
        }
    }

    /// A descriptor for an event loop, which polls readable while there is a request to take. As
    /// [`Queue::fd`].
    ///
    /// # Errors
    /// As for [`Queue::fd`].
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.shared.requests.fd()
    }

    /// The companion of the requests, to wait for it with others by [`wait_any`](crate::wait_any). Messages
    /// are not to be taken from it directly.
    pub fn companion(&self) -> &Queue {
        &self.shared.requests
    }

    /// Gives `key` the value `value` in the map itself, where programs read it, with the version `revision`
    /// and for the time `life`. False, and nothing is done, if the key has this or a higher version already.
    ///
    /// `revision`: from 1 to 2^63 - 1. Of one key, a later value has a higher one.
    ///
    /// # Errors
    /// As for [`Map::set`]; `Invalid` for a revision that is out of range, and in a forked child.
    pub fn deliver(
        &self,
        key: &[u8],
        value: &[u8],
        revision: u64,
        life: Option<Duration>,
    ) -> Result<bool> {
        let map = self.map();
        map.check(key, value)?;
        let expires = match life {
            Some(life) => now_ns().saturating_add(nanos(life)).min(NEVER - 1),
            None => NEVER,
        };
        let pair = Pair::new(key, value).expiring_at(expires);
        self.apply(key, revision, |shard, found| {
            shard.store.write_delivered(found, &pair, revision)
        })
    }

    /// Removes `key` from the map itself, if its version is below `revision`. False, and nothing is done, if
    /// it has this or a higher version already.
    ///
    /// The map keeps no versions of removed keys: a delivery of an older value that comes after this is not
    /// recognised as such. A relay delivers what it was told in the order of the revisions.
    ///
    /// # Errors
    /// `Invalid` as for [`deliver`](Self::deliver); `Poisoned`, `Corrupt`.
    pub fn remove(&self, key: &[u8], revision: u64) -> Result<bool> {
        self.map().check(key, &[])?;
        self.apply(key, revision, |shard, found| shard.store.remove(found))
    }

    fn apply<'a>(
        &'a self,
        key: &[u8],
        revision: u64,
        mut work: impl FnMut(&LockedShard<'a>, &Lookup<'a>) -> Result<()>,
    ) -> Result<bool> {
        self.shared.role.check()?;
        if !(1..=MAX_REVISION).contains(&revision) {
            let why = format!("{revision} is not between 1 and {MAX_REVISION}");
            return Err(Error::invalid("revision", why));
        }
        self.shared.role.object().core.deliver(key, |shard, found| {
            let is_newer = found.version() < revision;
            if is_newer {
                work(shard, found)?;
            }
            Ok(is_newer)
        })
    }

    /// Up to which revision everything was delivered, as the last [`set_revision`](Self::set_revision) of this
    /// or an earlier relay says; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.map().relay_state().revision.load(Ordering::Acquire)
    }

    /// Notes that everything up to this revision was delivered, so that the next relay need not begin at the
    /// beginning. A relay that is killed before it notes it delivers the last ones again, which changes
    /// nothing.
    ///
    /// # Errors
    /// `Invalid` in a forked child.
    pub fn set_revision(&self, revision: u64) -> Result<()> {
        self.shared.role.check()?;
        let state = self.map().relay_state();
        state.revision.store(revision, Ordering::Release);
        crash_point!();
        Ok(())
    }

    /// Ends the waits through this relay: a thread that waits in [`next_request`](Self::next_request) returns
    /// with `Detached`, and so does each later call that would have to wait. Never waits.
    pub fn end_waits(&self) {
        self.shared.requests.end_waits();
    }

    /// Ends the relaying: the map is a plain map again. Requests that were not taken, or not done, are done in
    /// the map itself, until `timeout`.
    ///
    /// The companions are removed. If it fails or is killed half-way, what is set goes into the map, and the
    /// next `attach` ends the removal first.
    ///
    /// # Errors
    /// `Timeout`; `Invalid` in a forked child, or while requests of this relay exist; `NoSpace`, `Poisoned`,
    /// `Corrupt`.
    pub fn detach(self, timeout: Timeout) -> Result<()> {
        self.shared.role.check()?;
        let shared = Arc::into_inner(self.shared).ok_or_else(|| {
            let why = "requests of it exist, which are to be done or dropped first";
            Error::invalid("relay", why)
        })?;
        shared.role.object().core.mark_relayed(false)?;
        shared.removed(Deadline::after(timeout)).map(drop)
    }
}

impl Map {
    /// An error if a map that is relayed from now on has keys. They are removed if they came between the
    /// caller's removal of all and the mark.
    fn check_empty(&self, discard: bool) -> Result<()> {
        let keys = self.len()?;
        if discard {
            for index in 0..SHARDS {
                let cleared = self.core.lock(index)?.store.clear();
                self.core.notify_changed(index);
                cleared?;
            }
        } else if keys > 0 {
            let why = format!(
                "{:?} has {keys} keys; only an empty map becomes relayed, or one whose keys may be discarded",
                self.name()
            );
            return Err(Error::invalid("map", why));
        }
        Ok(())
    }

    /// Whether `name` is a companion map of an object that is gone: no process has it open.
    fn is_abandoned(name: &str) -> Result<bool> {
        let found = match Map::open(name) {
            Ok(found) => found,
            Err(Error::WrongKind { .. }) => return Ok(false),
            Err(err) => return Err(err),
        };
        let segment = found.core.segment();
        Ok(segment.is_companion() && !segment.has_others(Section::ALL)?)
    }
}

impl Shared {
    /// Opens or creates the companions.
    fn open(role: Role<Map>, options: &RelayOptions) -> Result<Self> {
        let requests = role.open_companion(
            Companion::Requests,
            &requests_options(options),
            |name, family, options| {
                Queue::open_companion(name, Companion::Requests, family, options)
            },
            Queue::is_abandoned,
        )?;
        let answers = role.open_companion(
            Companion::Answers,
            &Options::open().max_capacity(ANSWERS),
            Map::open_answers,
            Map::is_abandoned,
        )?;
        Ok(Self {
            requests,
            answers,
            role,
        })
    }

    /// Ends the removal of the relay, of a map that is not relayed any more.
    fn removed(self, deadline: Deadline) -> Result<Role<Map>> {
        let map = self.role.object();
        self.requests.drain_closed(deadline, |frame| {
            let done = match self.do_here(&frame) {
                Ok(answer) => answer,
                Err(err @ (Error::TooLarge { .. } | Error::Invalid { .. })) => {
                    Answer::Refused(err.to_string())
                }
                Err(err) => return Err(err),
            };
            self.answer(frame.ticket, &done)
        })?;
        for which in [Companion::Requests, Companion::Answers] {
            match segment::unlink(&which.name(map.name())) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err),
            }
            crash_point!();
        }
        self.role.forget_family()?;
        Ok(self.role)
    }

    /// Does a request in the map itself, which is not relayed any more.
    fn do_here(&self, frame: &Frame<'_>) -> Result<Answer> {
        let (map, key) = (self.role.object(), frame.first);
        let life = frame.number.map(Duration::from_nanos);
        let swapped = match change_of(frame) {
            Some(MapChange::Set { value, .. }) => {
                match life {
                    Some(life) => map.set_for(key, value, life)?,
                    None => map.set(key, value)?,
                }
                true
            }
            Some(MapChange::Remove) => map.remove(key).map(|_| true)?,
            Some(MapChange::Swap { version, new }) => match new {
                SwapTo::Value { value, life } => {
                    let swapped = map.compare_swap_version(key, version, Some(value))?;
                    if swapped && life.is_some() {
                        map.expire(key, life)?;
                    }
                    swapped
                }
                SwapTo::Nothing => map.compare_swap_version(key, version, None)?,
                SwapTo::Same => map.version_of(key)? == version,
            },
            None => true,
        };
        Ok(match swapped {
            true => Answer::Done,
            false => Answer::Conflict,
        })
    }

    /// Sets an answer for the asker with this ticket, if there is one.
    fn answer(&self, ticket: [u64; 2], answer: &Answer) -> Result<()> {
        if ticket == [0; 2] {
            return Ok(());
        }
        let key = ticket_key(ticket);
        self.answers.set_for(&key, &answer.encode(), ANSWER_LIFE)
    }
}

/// A change of a relayed map that a program wants.
///
/// Dropping it gives it back, and it is taken again at once: to wait a little, use [`retry`](Self::retry).
/// After a `fork` it remains the parent's.
pub struct MapRequest(Taken<Shared>);

/// What a [`MapRequest`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapChange<'a> {
    /// The key is to have this value, whatever it has now.
    Set {
        /// The value.
        value: &'a [u8],
        /// How long the key is to live, from when it was asked for; `None` for ever.
        life: Option<Duration>,
    },
    /// The key is to be removed, if it is there.
    Remove,
    /// If the key has this version, it is to have something new.
    Swap {
        /// The version; 0: the key is not there.
        version: u64,
        /// What it is to have.
        new: SwapTo<'a>,
    },
}

/// What a key is to have if it has the version that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwapTo<'a> {
    /// A value.
    Value {
        /// The value.
        value: &'a [u8],
        /// How long the key is to live; `None` for ever.
        life: Option<Duration>,
    },
    /// Nothing: it is to be removed.
    Nothing,
    /// What it has: the asker only wants to know whether it still has that version.
    Same,
}

fn change_of<'a>(frame: &Frame<'a>) -> Option<MapChange<'a>> {
    let (value, version) = (frame.second, frame.version);
    let life = frame.number.map(Duration::from_nanos);
    let swap = |new| Some(MapChange::Swap { version, new });
    match frame.kind {
        FrameKind::Set => Some(MapChange::Set { value, life }),
        FrameKind::Remove => Some(MapChange::Remove),
        FrameKind::SwapSet => swap(SwapTo::Value { value, life }),
        FrameKind::SwapRemove => swap(SwapTo::Nothing),
        FrameKind::SwapKeep => swap(SwapTo::Same),
        _ => None,
    }
}

impl MapRequest {
    /// What it is called, the same whenever it is taken. See [`RequestId`].
    pub fn id(&self) -> RequestId {
        self.0.id()
    }

    /// How often it was taken, this time included; 255 for more. Above 1 it may have been done before,
    /// although it was not reported as done.
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0.checked().first
    }

    /// What it is to have.
    pub fn change(&self) -> MapChange<'_> {
        // One that was overwritten since it was taken has an empty key, and no effect.
        change_of(&self.0.checked()).unwrap_or(MapChange::Remove)
    }

    /// Whether the program waits for an answer.
    pub fn is_asking(&self) -> bool {
        self.0.checked().ticket != [0; 2]
    }

    /// The change is made, and of a swap: the key had the version. What the key has now is to be
    /// [delivered](MapRelay::deliver) before this, so that the program reads what it wrote.
    ///
    /// # Errors
    /// `NoSpace` if there is no room for the answer: the request is given back. `Invalid` in a forked child;
    /// `Poisoned`, `Corrupt`.
    pub fn done(self) -> Result<()> {
        self.end(&Answer::Done)
    }

    /// Of a swap: the key has another version. What it has is to be [delivered](MapRelay::deliver) or
    /// [removed](MapRelay::remove) before this: the program looks at it and tries again.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn conflict(self) -> Result<()> {
        self.end(&Answer::Conflict)
    }

    /// The change cannot be made, and why, for the program's error, which is `Unsupported`. A program that does
    /// not wait for an answer is not told.
    ///
    /// # Errors
    /// As for [`done`](Self::done).
    pub fn refuse(self, why: &str) -> Result<()> {
        self.end(&Answer::Refused(why.to_owned()))
    }

    fn end(self, answer: &Answer) -> Result<()> {
        self.0.relay().role.check()?;
        self.0.relay().answer(self.0.checked().ticket, answer)?;
        self.0.done()
    }

    /// Gives it back, to be taken again after `delay`: after requests that were made later, of the same key
    /// too.
    ///
    /// # Errors
    /// `Invalid` in a forked child; `Poisoned`, `Corrupt`.
    pub fn retry(self, delay: Duration) -> Result<()> {
        self.0.retry(delay)
    }
}

impl fmt::Debug for MapRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRequest")
            .field("id", &self.id())
            .field("key", &self.key())
            .finish()
    }
}
