//! A relay that is attached to a map: its role and its companions, how they are created and removed, and the
//! changes that requests ask for. `relay::state` says what a kill leaves between the steps.

use std::time::Duration;

use super::ops::Map;
use super::relayed::{Answer, ticket_key};
use crate::error::{Error, Result};
use crate::queue::{Companions, Queue, requests_options};
use crate::relay::{Frame, FrameKind, RelayOptions, RelayState, Relayed, Role};
use crate::segment::{self, Companion, Object, Options, Section};
use crate::sync::Waits;
use crate::sync::crash::crash_point;
use crate::sys::clock::Deadline;

/// How long an answer is kept if its caller does not take it.
const ANSWER_LIFE: Duration = Duration::from_secs(60);
/// Bytes of answers: enough for several thousand callers that die or give up within that time.
const ANSWERS: u64 = 64 << 20;

/// What a relay and its requests have in common.
pub(super) struct Attached {
    // Dropped before the role, so that leases through it are given back before the next relay can begin.
    pub(super) requests: Queue,
    answers: Map,
    pub(super) role: Role<Map>,
}

impl Companions for Attached {
    fn companion(&self, _which: Companion) -> &Queue {
        &self.requests
    }
}

impl Relayed for Map {
    fn relay_state(&self) -> &RelayState {
        self.core.relay_state()
    }

    fn own_waits(&self) -> &Waits {
        &self.core.waiting.waits
    }

    fn is_relayed(&self) -> bool {
        Map::is_relayed(self)
    }
}

/// The change that a [`MapRequest`](crate::MapRequest) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapChange<'a> {
    /// Set the key to this value.
    Set {
        /// The value.
        value: &'a [u8],
        /// How long the key is to live, counted from the program's call; `None` for ever.
        life: Option<Duration>,
    },
    /// Remove the key, if it is there.
    Remove,
    /// Change the key, if it has this version.
    Swap {
        /// The version; 0 for a key that is not there.
        version: u64,
        /// The change.
        new: SwapTo<'a>,
    },
}

/// How a [`MapChange::Swap`] changes a key that has the expected version.
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
    /// Remove it.
    Nothing,
    /// Leave it as it is: the program only asks whether it still has that version.
    Same,
}

pub(super) fn change_of<'a>(frame: &Frame<'a>) -> Option<MapChange<'a>> {
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

impl Map {
    /// An error if a map that has just become relayed has keys. With `discard`, removes the keys that were
    /// set between the caller's `clear` and the mark.
    pub(super) fn check_empty(&self, discard: bool) -> Result<()> {
        let keys = self.len()?;
        if discard {
            for index in 0..self.core.shard_count() {
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

    /// Whether `name` is a companion map that no process has open: its object is gone.
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

impl Attached {
    /// Opens or creates the companions.
    pub(super) fn open(role: Role<Map>, options: &RelayOptions) -> Result<Self> {
        let (both, is_relayed) = (
            [Companion::Requests, Companion::Answers],
            role.object().is_relayed(),
        );
        let (requests, answers) = role.open_companions(&both, is_relayed, || {
            let answers = role.open_companion(
                Companion::Answers,
                &Options::open().max_capacity(ANSWERS),
                Map::open_answers,
                Map::is_abandoned,
            )?;
            // The last one: a program finds it, and puts into it, only if no other companion is missing.
            let requests = role.open_companion(
                Companion::Requests,
                &requests_options(options),
                |name, family, options| {
                    Queue::open_companion(name, Companion::Requests, family, options)
                },
                Queue::is_abandoned,
            )?;
            Ok((requests, answers))
        })?;
        Ok(Self {
            requests,
            answers,
            role,
        })
    }

    /// Whether both companions still have their names.
    pub(super) fn is_complete(&self) -> bool {
        self.requests.segment().is_named() && self.answers.core.segment().is_named()
    }

    /// Completes the removal of the relay, after the map has stopped being relayed.
    pub(super) fn removed(self, deadline: Deadline) -> Result<Role<Map>> {
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

    /// Applies a request to the map itself, which is not relayed any more.
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

    /// Sets the answer for the caller whose request has this ticket; 0: no caller waits for it.
    pub(super) fn answer(&self, ticket: [u64; 2], answer: &Answer) -> Result<()> {
        if ticket == [0; 2] {
            return Ok(());
        }
        let key = ticket_key(ticket);
        self.answers.set_for(&key, &answer.encode(), ANSWER_LIFE)
    }
}
