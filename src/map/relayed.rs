//! Changes by programs of a map that has a relay.
//!
//! While the map's `relayed` word is 1, a change becomes a request in the companion queue `<name>.relay`.
//! Reads use the map itself, to which the relay delivers. All changes that depend on the old value use one
//! request, *swap*: "if the key still has this version, set it to this value, or remove it, or leave it". The
//! relay answers whether the key had the version. If not, the caller waits until the relay has delivered the
//! current value, and decides again. So each change is atomic at its last swap, whatever other machines do,
//! and a relay has to know only three requests.
//!
//! ```text
//! call                              requests
//! set, set_for, set_many            set
//! clear                             remove, for each key
//! compare_swap_version              swap by that version
//! compare_swap, insert, remove,     swaps by the version of what was read, until one succeeds; a swap
//! take, add, update, expire         that leaves the key where the call changes nothing
//! lock_key                          none: refused, since it could only exclude this machine's processes
//! ```
//! **Answers** come through the companion map `<name>.answers`, under a random ticket that the request names.
//! The caller removes its answer. An answer that is not removed, because the caller has given up or is dead,
//! expires.
//!
//! # What a kill leaves
//! The word is read under a shard's lock, and the relay that has set it takes each shard's lock once. So once
//! a relay has attached, no change bypasses it. A request is one message of a queue: it is there or it is
//! not. A caller that is killed before its answer leaves a request that is done nevertheless, as if it had
//! been killed just after a change.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::entry::{NEVER, Pair};
use super::ops::Map;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::relay::{Frame, FrameKind, RelayInfo, Relayed};
use crate::segment::{Companion, Options};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::process;

/// The current value of a key, for a change that depends on it.
pub(super) struct Current {
    pub(super) value: Vec<u8>,
    pub(super) life: Option<Duration>,
    version: u64,
}

/// The new value of a key.
pub(super) enum NewValue {
    /// The value, with this time to live.
    Set(Vec<u8>, Option<Duration>),
    Remove,
    /// The current value: the swap only checks the version.
    Keep,
}

/// The relay's answer to a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// The key has another version.
    Conflict,
    /// The relay refuses the change.
    Refused(String),
    /// It is not known whether it was done.
    Unknown,
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => vec![b'd'],
            Self::Conflict => vec![b'c'],
            Self::Unknown => vec![b'u'],
            Self::Refused(why) => [b"r", why.as_bytes()].concat(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((b'd', [])) => Ok(Self::Done),
            Some((b'c', [])) => Ok(Self::Conflict),
            Some((b'u', [])) => Ok(Self::Unknown),
            Some((b'r', why)) => Ok(Self::Refused(String::from_utf8_lossy(why).into_owned())),
            _ => Err(Error::corrupt("the answer of a relay makes no sense")),
        }
    }
}

/// The key of an answer.
pub(super) fn ticket_key(ticket: [u64; 2]) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&ticket[0].to_le_bytes());
    key[8..].copy_from_slice(&ticket[1].to_le_bytes());
    key
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Map {
    /// Whether the map has a [relay](crate::MapRelay): changes go to the relay, and are visible when the
    /// relay delivers them.
    pub fn is_relayed(&self) -> bool {
        self.core.is_relayed()
    }

    /// The state of the map's relay; `None` if the map is not [relayed](Self::is_relayed).
    ///
    /// # Errors
    /// As for opening a queue: a companion may have been removed.
    pub fn relay(&self) -> Result<Option<RelayInfo>> {
        let Some(requests) = self.requests()? else {
            return Ok(None);
        };
        RelayInfo::of(self, requests.unfinished()?, 0).map(Some)
    }

    /// An error if the map has a relay: a lock of a key would exclude only the processes of this machine.
    pub(super) fn check_locks(&self) -> Result<()> {
        match self.is_relayed() {
            false => Ok(()),
            true => Err(Error::unsupported(format!(
                "a lock of a key of {:?}: the map has a relay, and the lock would exclude the processes of \
                 this machine only; use compare_swap_version or update",
                self.name()
            ))),
        }
    }

    /// The queue of requests; `None` if the map has no relay any more.
    fn requests(&self) -> Result<Option<&Queue>> {
        let which = Companion::Requests;
        let open =
            |family, name: &str| Queue::open_companion(name, which, family, &Options::open());
        let waits = &self.core.waiting.waits;
        self.companion(which, &self.requests, waits, || self.is_relayed(), open)
    }

    /// The map of answers; `None` if the map has no relay any more.
    fn answers(&self) -> Result<Option<&Map>> {
        let open = |family, name: &str| Map::open_answers(name, family, &Options::open());
        let (which, waits) = (Companion::Answers, &self.core.waiting.waits);
        self.companion(which, &self.answers, waits, || self.is_relayed(), open)
    }

    /// The companion map `name`, opened or created as `options` say.
    pub(super) fn open_answers(name: &str, family: u64, options: &Options) -> Result<Self> {
        let which = Companion::Answers;
        let found = Self::open_or_create(Some(name), options, Some((which, family)))?;
        match found.core.segment().is_companion_of(which, family)? {
            true => Ok(found),
            false => Err(Error::Exists {
                name: name.to_owned(),
            }),
        }
    }

    /// The deadline of a call that has no timeout.
    fn call_deadline(&self) -> Deadline {
        let ns = self.relay_state().wait_ns.load(Ordering::Relaxed);
        Deadline::after(Timeout::Val(Duration::from_nanos(ns)))
    }

    /// Puts a request. False if the map has no relay any more.
    fn request(&self, frame: &Frame<'_>, deadline: Deadline) -> Result<bool> {
        self.relay_state()
            .check_payload("value", frame.second.len())?;
        let Some(requests) = self.requests()? else {
            return Ok(false);
        };
        match requests.put_frame(frame, deadline) {
            Ok(()) => Ok(true),
            Err(Error::Closed) if !self.is_relayed() || self.is_outdated(requests) => Ok(false),
            Err(err) => Err(requests.as_companion(err)),
        }
    }

    /// Asks the relay for a swap and waits for its answer. `None` if the map has no relay any more.
    fn ask(&self, mut frame: Frame<'_>, deadline: Deadline) -> Result<Option<Answer>> {
        let Some(answers) = self.answers()? else {
            return Ok(None);
        };
        frame.ticket = process::random();
        if !self.request(&frame, deadline)? {
            return Ok(None);
        }
        let key = ticket_key(frame.ticket);
        loop {
            if let Some(answer) = answers.take(&key)? {
                return Answer::decode(&answer).map(Some);
            }
            let left = match deadline {
                Deadline::Never => Timeout::Infinite,
                Deadline::Now => Timeout::Val(Duration::ZERO),
                Deadline::At(at) => Timeout::Val(Duration::from_nanos(at.saturating_sub(now_ns()))),
            };
            match answers.wait_key(&key, 0, left) {
                Err(Error::Timeout) => return Err(self.unknown()),
                // The request was put: a caller that began again would put a second one.
                Err(Error::Interrupted) => {}
                waited => drop(waited?),
            }
        }
    }

    /// The error if it is not known whether a request was done.
    fn unknown(&self) -> Error {
        Error::RelayBehind {
            name: Companion::Answers.name(self.name()),
        }
    }

    /// Sets the value of a key by a request, or directly if the map has no relay any more.
    #[cold]
    pub(super) fn request_put(&self, pair: &Pair<'_>) -> Result<()> {
        let deadline = self.call_deadline();
        let life = match pair.expires() {
            NEVER => None,
            at => Some(at.saturating_sub(now_ns())),
        };
        let frame = Frame {
            number: life,
            ..Frame::new(FrameKind::Set, pair.key, pair.value)
        };
        let sets_wait = &self.relay_state().sets_wait;
        let done = if sets_wait.load(Ordering::Relaxed) == 0 {
            self.request(&frame, deadline)?
        } else {
            match self.ask(frame, deadline)? {
                Some(Answer::Refused(why)) => return Err(refused(why)),
                Some(Answer::Unknown) => return Err(self.unknown()),
                answer => answer.is_some(),
            }
        };
        match done {
            true => Ok(()),
            false => self.put(pair),
        }
    }

    /// Removes all keys, by requests.
    #[cold]
    pub(super) fn request_clear(&self) -> Result<()> {
        let deadline = self.call_deadline();
        for entry in self.iter() {
            let (key, _) = entry?;
            let frame = Frame::new(FrameKind::Remove, &key, &[]);
            if !self.request(&frame, deadline)? {
                return self.clear();
            }
        }
        Ok(())
    }

    #[cold]
    pub(super) fn request_swap_version(
        &self,
        key: &[u8],
        version: u64,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let kind = match new {
            Some(_) => FrameKind::SwapSet,
            None => FrameKind::SwapRemove,
        };
        let frame = Frame {
            version,
            ..Frame::new(kind, key, new.unwrap_or_default())
        };
        match self.ask(frame, self.call_deadline())? {
            Some(Answer::Done) => Ok(true),
            Some(Answer::Conflict) => Ok(false),
            Some(Answer::Refused(why)) => Err(refused(why)),
            Some(Answer::Unknown) => Err(self.unknown()),
            None => self.compare_swap_version(key, version, new),
        }
    }

    #[cold]
    pub(super) fn request_swap(
        &self,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        self.request_change(key, |old| {
            let new = match new {
                _ if old.map(|old| &old.value[..]) != expected => {
                    return Ok((false, NewValue::Keep));
                }
                Some(new) => NewValue::Set(new.to_vec(), None),
                None => NewValue::Remove,
            };
            Ok((true, new))
        })
    }

    #[cold]
    pub(super) fn request_remove(&self, key: &[u8]) -> Result<bool> {
        self.request_change(key, |old| Ok((old.is_some(), remove_if(old.is_some()))))
    }

    /// Takes a value of at most `most` bytes.
    #[cold]
    pub(super) fn request_take(&self, key: &[u8], most: usize) -> Result<Option<Vec<u8>>> {
        self.request_change(key, |old| {
            let value = old.map(|old| old.value.clone());
            match &value {
                Some(value) if value.len() > most => Err(Error::BufferTooSmall {
                    needed: value.len(),
                    capacity: most,
                }),
                _ => Ok((value, remove_if(old.is_some()))),
            }
        })
    }

    #[cold]
    pub(super) fn request_expire(&self, key: &[u8], life: Option<Duration>) -> Result<bool> {
        self.request_change(key, |old| {
            let new = old.map(|old| NewValue::Set(old.value.clone(), life));
            Ok((old.is_some(), new.unwrap_or(NewValue::Keep)))
        })
    }

    /// Sets a key to the new value that `decide` returns for the current one, and returns `decide`'s result.
    /// Calls `decide` again if the key has changed by the time of the swap.
    #[cold]
    pub(super) fn request_change<T>(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<&Current>) -> Result<(T, NewValue)>,
    ) -> Result<T> {
        self.check(key, &[])?;
        let deadline = self.call_deadline();
        loop {
            let current = self.current(key)?;
            let version = current.as_ref().map_or(0, |current| current.version);
            let (value, new) = decide(current.as_ref())?;
            match self.swap_current(key, version, &new, deadline)? {
                Answer::Done => return Ok(value),
                Answer::Refused(why) => return Err(refused(why)),
                Answer::Unknown => return Err(self.unknown()),
                Answer::Conflict => self.wait_for_another(key, version, deadline)?,
            }
        }
    }

    /// What a key has.
    fn current(&self, key: &[u8]) -> Result<Option<Current>> {
        self.core.look_up(key, |_, found| {
            Ok(found.entry().map(|entry| Current {
                value: entry.value().to_vec(),
                life: match entry.expires() {
                    NEVER => None,
                    at => Some(Duration::from_nanos(at.saturating_sub(now_ns()))),
                },
                version: entry.version(),
            }))
        })
    }

    /// Swaps by a request, or in the map itself if it has no relay any more.
    fn swap_current(
        &self,
        key: &[u8],
        version: u64,
        new: &NewValue,
        deadline: Deadline,
    ) -> Result<Answer> {
        let (kind, value, life) = match new {
            NewValue::Set(value, life) => (FrameKind::SwapSet, &value[..], *life),
            NewValue::Remove => (FrameKind::SwapRemove, &[][..], None),
            NewValue::Keep => (FrameKind::SwapKeep, &[][..], None),
        };
        self.check(key, value)?;
        let frame = Frame {
            version,
            number: life.map(nanos),
            ..Frame::new(kind, key, value)
        };
        if let Some(answer) = self.ask(frame, deadline)? {
            return Ok(answer);
        }
        let expires = life.map_or(NEVER, |life| now_ns().saturating_add(nanos(life)));
        let swapped = self.core.change(key, |shard, found| {
            let same = found.version() == version;
            match new {
                _ if !same => {}
                NewValue::Set(value, _) => {
                    let pair = Pair::new(key, value).expiring_at(expires);
                    shard.store.write(found, &pair)?;
                }
                NewValue::Remove => shard.store.remove(found)?,
                NewValue::Keep => {}
            }
            Ok(same)
        })?;
        // Relayed again: the next attempt asks that relay.
        Ok(match swapped {
            Some(true) => Answer::Done,
            _ => Answer::Conflict,
        })
    }

    /// After a conflict: waits until the relay has delivered another version of the key than `version`.
    fn wait_for_another(&self, key: &[u8], version: u64, deadline: Deadline) -> Result<()> {
        // Then the relay is asked again: it may deliver after it answers, or may have been removed.
        const SLICE_NS: u64 = 20_000_000;
        if deadline.passed() {
            return Err(Error::RelayBehind {
                name: Companion::Requests.name(self.name()),
            });
        }
        let left = deadline.slice(SLICE_NS).saturating_sub(now_ns());
        match self.wait_key(key, version, Timeout::Val(Duration::from_nanos(left))) {
            Err(Error::Timeout) => Ok(()),
            waited => waited.map(drop),
        }
    }
}

fn remove_if(is_there: bool) -> NewValue {
    match is_there {
        true => NewValue::Remove,
        false => NewValue::Keep,
    }
}

#[cold]
fn refused(why: String) -> Error {
    Error::unsupported(format!("the map's relay refused the change: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decodes_to_what_was_encoded() {
        let refused = Answer::Refused("too large".to_owned());
        for answer in [Answer::Done, Answer::Conflict, Answer::Unknown, refused] {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        for bad in [&b""[..], b"x", b"dd", b"c\0"] {
            assert!(Answer::decode(bad).is_err());
        }
    }
}
