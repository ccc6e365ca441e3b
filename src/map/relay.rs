//! The relay of a map: the calls of the process that has the role.
//!
//! `relay::state` says what a kill leaves between the steps of attaching and removing a relay. Requests are
//! leased messages of the companion: see `queue::lease`. An answer is set before its request is done: after a
//! kill in between, the next relay gets the request and answers again. A delivery is one change of the map.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::attached::{Attached, change_of};
use super::core::LockedShard;
use super::entry::{NEVER, Pair};
use super::ops::Map;
use super::relayed::nanos;
use super::request::MapRequest;
use super::store::Lookup;
use crate::error::{Error, Result};
use crate::queue::{Queue, Taken};
use crate::relay::{RelayOptions, Relayed, Role};
use crate::segment::{Companion, Object};
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, IntoTimeout, now_ns};

/// The highest revision.
const MAX_REVISION: u64 = u64::MAX / 2;

/// The relay of a map: the process that carries the changes of others to somewhere else, and delivers into
/// the map what comes from there.
///
/// While a map is relayed, a change becomes a [`MapRequest`] instead. Only what the relay
/// [delivers](Self::deliver) or [removes](Self::remove) changes the map. Programs use the map as usual, and
/// need not know about the relay. They read the map itself, at its full speed.
///
/// ```text
/// programs ── set, swap ─▶ config.relay ─── next_request ─────▶ relay ──▶ somewhere
/// programs ◀─ get ──────── config ◀──────── deliver, remove ─── relay ◀── somewhere
/// programs ◀─ the answer ─ config.answers ◀─ done, conflict ──── relay
/// ```
///
/// **What is promised.** Requests of one process come in the order of its calls. A `set` returns once it is a
/// request, and is seen when the relay delivers it, unless the relay lets [sets
/// wait](RelayOptions::sets_wait). A change that depends on the old value waits for the relay's answer, and
/// is atomic across machines: `compare_swap`, `insert`, `remove`, `take`, `add`, `update`, `expire`. These
/// wait for [`RelayOptions::wait`] at most, and then end with [`RelayBehind`](Error::RelayBehind): the change
/// may still happen. `lock_key` fails with `Unsupported`: it could only exclude processes of this machine.
///
/// **Versions.** The version of a value in a relayed map is the revision with which it was delivered. So
/// `compare_swap_version` compares revisions, on all machines. [`Map::version`] and what waits for changes count
/// the changes of this machine's map.
///
/// **Expiry.** A delivered time to live is counted on this machine, from the delivery on. A key that has
/// expired here counts as absent; the relay's answer tells whether it exists elsewhere.
///
/// **The role** is exclusive, like that of a [`QueueRelay`](crate::QueueRelay). The map stays relayed while
/// there is no relay: what was set waits in the companion, within its bounds. [`detach`](Self::detach) makes
/// it a plain map again.
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
    attached: Arc<Attached>,
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
    /// relayed from then on, until [`detach`](Self::detach), and stays when no process has it open, whether or not
    /// it was created [persistent](crate::Options::persistent).
    ///
    /// # Errors
    /// `Timeout`: another relay lives; `Exists`: another object has a companion's name, which is in the error
    /// text; `Invalid`: the map has keys and was not relayed before, is a companion itself, or its name is too
    /// long; `Interrupted` when a signal handler ran while waiting; `Detached` once the [waits through the
    /// map](Map::end_waits) are ended; `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn attach(
        map: Arc<Map>,
        options: &RelayOptions,
        timeout: impl IntoTimeout,
    ) -> Result<Self> {
        let deadline = Deadline::after(timeout);
        let mut role = Role::take(map, "map", deadline)?;
        if role.is_unfinished()? {
            role = Attached::open(role, options)?.removed(deadline)?;
        }
        let attached = Attached::open(role, options)?;
        attached.role.set_options(options);
        let map = attached.role.object();
        if !map.is_relayed() {
            // A kill before the mark is set leaves a map that is not relayed, with its keys or without.
            map.relay_state().revision.store(0, Ordering::Relaxed);
            if options.discard {
                map.clear()?;
            }
            map.core.mark_relayed(true)?;
            if let Err(err) = map.check_empty(options.discard) {
                map.core.mark_relayed(false)?;
                attached.removed(deadline)?;
                return Err(err);
            }
        }
        Ok(Self {
            attached: Arc::new(attached),
        })
    }

    /// The map.
    pub fn map(&self) -> &Arc<Map> {
        self.attached.role.object()
    }

    /// Whether the map and its companions still have their names. Once the map's name was removed, programs that
    /// open it get another map, which this relay does not serve, and programs that have this one find no
    /// companions. Once a companion's name was removed, programs do not find it; the next relay of the map makes
    /// new companions.
    pub fn is_named(&self) -> bool {
        self.map().segment().is_named() && self.attached.is_complete()
    }

    /// Whether the relay before this one died.
    pub fn took_over(&self) -> bool {
        self.attached.role.took_over()
    }

    /// Takes the next request for a change, waiting until `timeout`. This relay has it until it is done or
    /// dropped; if the process dies, the next relay gets it.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran while waiting; `Detached` after
    /// [`end_waits`](Self::end_waits); `Exhausted`, `NoSpace` as for [`Queue::lease`]. `Corrupt`: a request
    /// was overwritten; it is dropped, and the next call continues with the next one.
    pub fn next_request(&self, timeout: impl IntoTimeout) -> Result<MapRequest> {
        self.attached.role.check()?;
        let taken = Taken::next(&self.attached, Companion::Requests, timeout.into_timeout())?;
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
        self.attached.requests.fd()
    }

    /// The companion of the requests, to wait for with [`wait_any`](crate::wait_any). Do not take messages
    /// from it directly.
    pub fn companion(&self) -> &Queue {
        &self.attached.requests
    }

    /// Sets the value of `key` in the map itself, where programs read it, with the version `revision` and for
    /// the time `life`. False, without a change, if the key has this or a higher version already.
    ///
    /// `revision`: from 1 to 2^63 - 1. A later value of a key has a higher one.
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

    /// Removes `key` from the map itself, if its version is below `revision`. False, without a change, if it
    /// has this or a higher version already.
    ///
    /// The map keeps no versions of removed keys, so a later delivery of an older value is not recognised as
    /// such. A relay delivers changes in the order of their revisions.
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
        self.attached.role.check()?;
        if !(1..=MAX_REVISION).contains(&revision) {
            let why = format!("{revision} is not between 1 and {MAX_REVISION}");
            return Err(Error::invalid("revision", why));
        }
        self.attached
            .role
            .object()
            .core
            .deliver(key, |shard, found| {
                let is_newer = found.version() < revision;
                if is_newer {
                    work(shard, found)?;
                }
                Ok(is_newer)
            })
    }

    /// The revision up to which everything was delivered, from the last [`set_revision`](Self::set_revision)
    /// of this or an earlier relay; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.map().relay_state().revision.load(Ordering::Acquire)
    }

    /// Notes that everything up to this revision was delivered, so that the next relay can start from there.
    /// If a relay is killed before this call, the next one delivers the last changes again, which has no
    /// effect.
    ///
    /// # Errors
    /// `Invalid` in a forked child.
    pub fn set_revision(&self, revision: u64) -> Result<()> {
        self.attached.role.check()?;
        let state = self.map().relay_state();
        state.revision.store(revision, Ordering::Release);
        crash_point!();
        Ok(())
    }

    /// Changes the longest value that the relay accepts, in bytes, as [`RelayOptions::max_payload`]: the limit of
    /// the other side may be known only later, and may change. Values that already wait for the relay may be
    /// longer.
    ///
    /// # Errors
    /// `Invalid` in a forked child.
    pub fn set_max_payload(&self, bytes: u64) -> Result<()> {
        self.attached.role.check()?;
        let state = self.map().relay_state();
        state.max_payload.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the waits through this relay: a thread that waits in [`next_request`](Self::next_request) returns
    /// with `Detached`, and so does each later call that would have to wait. Never waits.
    pub fn end_waits(&self) {
        self.attached.requests.end_waits();
    }

    /// Makes the map a plain map again. Requests that were not taken, or not done, are applied to the map
    /// itself, until `timeout`.
    ///
    /// The companions are removed. A map that was not created [persistent](crate::Options::persistent) is then
    /// removed with its last handle again. If this fails or the process is killed half-way, changes go into the
    /// map, and [`finish_detach`](Self::finish_detach) or the next `attach` completes the removal.
    ///
    /// # Errors
    /// `Timeout`; `Invalid` in a forked child, or while requests of this relay exist; `NoSpace`, `Poisoned`,
    /// `Corrupt`.
    pub fn detach(self, timeout: impl IntoTimeout) -> Result<()> {
        self.attached.role.check()?;
        let attached = Arc::into_inner(self.attached).ok_or_else(|| {
            let why = "requests of it exist, which are to be done or dropped first";
            Error::invalid("relay", why)
        })?;
        attached.role.object().core.mark_relayed(false)?;
        attached.removed(Deadline::after(timeout)).map(drop)
    }

    /// Completes a [`detach`](Self::detach) that failed, or whose process was killed: applies what is left in the
    /// companion to the map, until `timeout`. The map is not relayed meanwhile. The same completes an `attach`
    /// whose process was killed. False if there is nothing to complete: the map is relayed, or has no companions.
    ///
    /// # Errors
    /// `Timeout`, also while another process attaches or detaches; `NoSpace`, `Poisoned`, `Corrupt`.
    pub fn finish_detach(map: Arc<Map>, timeout: impl IntoTimeout) -> Result<bool> {
        // The relay of a relayed map has the role: this does not wait for it.
        if map.is_relayed() || map.family()? == 0 {
            return Ok(false);
        }
        let deadline = Deadline::after(timeout);
        let role = Role::take(map, "map", deadline)?;
        if !role.is_unfinished()? {
            return Ok(false);
        }
        let attached = Attached::open(role, &RelayOptions::new())?;
        attached.removed(deadline).map(|_| true)
    }
}
