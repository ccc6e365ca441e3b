//! Calls of programs on a queue that has a relay.
//!
//! While the queue's RELAYED flag is set, a message that a process puts becomes a request in the companion
//! queue `<name>.relay`. Messages in the queue itself were delivered by the relay, with a token, or were
//! there before. A *settlement* in the companion queue `<name>.settled` tells the relay what happened to a
//! delivered message.
//!
//! There are two companions so that acks do not wait behind puts that the relay cannot forward, and so that the
//! bounds of the first companion do not apply to the second.
//!
//! # What a kill leaves
//! The flag is read under the producers' lock, under which it changes. So once a relay has attached, no put
//! bypasses it. A request is one message of a queue: it is there or it is not.
//!
//! R1: a delivered message leaves a relayed queue only after its settlement was put. All ends of a message
//! (ack, `get`, nack, a worker that died, a deadline, the last attempt) put the settlement under the
//! consumers' lock, and free the message after that. After a kill between the two, the message is still
//! there, is delivered again on this machine, and settled once more: a relay may get two settlements for one
//! token, or a worker a message that it acked. No message is lost.
//!
//! A message that is given back goes to the relay only while one lives; the relay may give it to another
//! machine. Otherwise, or if the settlement finds no room, it is delivered again here, as in any queue.
//!
//! Lock order: the consumers' lock of a queue, then the locks of its companions. A companion has no
//! companions.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::relay::{Frame, FrameKind, HEAD, Relayed};
use crate::segment::{Companion, Options};
use crate::sys::clock::{Deadline, Timeout};

use super::commit::Delivery;
use super::core::Queue;
use super::header::RELAYED;
use super::locked::TakeSide;
use super::reservation::{MessagePlace, PutBy};

/// A request of this size or more is written in place, which saves a copy.
const LARGE: usize = 64 << 10;
/// How long a settlement waits for room, with the queue locked. It waits only when `/dev/shm` is full.
const SETTLE_WAIT: Timeout = Timeout::Val(Duration::from_secs(1));

/// The outcome of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// To be delivered again after the delay.
    Returned(Duration),
    /// Still worked on, for this long.
    Extended(Duration),
}

impl Queue {
    /// Whether the queue has a [relay](crate::QueueRelay): what is put goes to the relay, which may deliver
    /// it here or elsewhere.
    pub fn is_relayed(&self) -> bool {
        self.ring.header.flags() & RELAYED != 0
    }

    /// A companion; `None` if the queue is not relayed any more.
    pub(super) fn companion_queue(&self, which: Companion) -> Result<Option<&Queue>> {
        let cached = match which {
            Companion::Settled => &self.settled,
            _ => &self.requests,
        };
        let open = |family, name: &str| Self::open_companion(name, which, family, &Options::open());
        let waits = &self.producers.policy.waits;
        self.companion(which, cached, waits, || self.is_relayed(), open)
    }

    /// The companion `name` of the object with this `id`, opened or created as `options` say.
    ///
    /// # Errors
    /// `Exists` if there is another object of this name; and as for opening a queue.
    pub(crate) fn open_companion(
        name: &str,
        which: Companion,
        id: u64,
        options: &Options,
    ) -> Result<Self> {
        let companion = Self::open_or_create(Some(name), options, Some((which, id)))?;
        match companion.segment.is_companion_of(which, id)? {
            true => Ok(companion),
            false => Err(Error::Exists {
                name: name.to_owned(),
            }),
        }
    }

    /// Puts a message as a request. False if the queue has no relay any more.
    pub(super) fn request_put(&self, data: &[u8], deadline: Deadline) -> Result<bool> {
        let state = &self.ring.header.relay;
        state.check_payload("message", data.len())?;
        let Some(requests) = self.companion_queue(Companion::Requests)? else {
            return Ok(false);
        };
        let put = requests.put_frame(&Frame::new(FrameKind::Put, &[], data), deadline);
        self.if_relayed(put.map(|()| true), requests)
    }

    /// Converts the result of a call on the companion to that of a call on this queue. The default value if
    /// the relay was removed meanwhile, which closes the companion.
    fn if_relayed<T: Default>(&self, done: Result<T>, requests: &Queue) -> Result<T> {
        match done {
            Err(Error::Closed) if !self.is_relayed() || self.is_outdated(requests) => {
                Ok(T::default())
            }
            done => done.map_err(|err| requests.as_companion(err)),
        }
    }

    /// Converts an error of a call on this companion to that of the call on the object.
    pub(crate) fn as_companion(&self, err: Error) -> Error {
        match err {
            Error::Timeout => Error::RelayBehind {
                name: self.name().to_owned(),
            },
            Error::TooLarge { what, size, limit } => Error::TooLarge {
                what,
                size: size.saturating_sub(HEAD as u64),
                limit: limit.saturating_sub(HEAD as u64),
            },
            err => err,
        }
    }

    /// Puts a request into this companion.
    pub(crate) fn put_frame(&self, frame: &Frame<'_>, deadline: Deadline) -> Result<()> {
        if frame.len() < LARGE {
            return self.put_until(&frame.to_vec(), false, deadline);
        }
        let fill = |to: &mut [u8]| frame.write_to(to);
        self.put_by(PutBy::Relay, frame.len(), Delivery::NONE, deadline, fill)
    }

    /// A reservation for a payload of `len` bytes, in the companion. `None` if the queue has no relay any
    /// more.
    pub(super) fn reserve_request(
        &self,
        len: usize,
        deadline: Deadline,
    ) -> Result<Option<MessagePlace>> {
        let state = &self.ring.header.relay;
        state.check_payload("message", len)?;
        let Some(requests) = self.companion_queue(Companion::Requests)? else {
            return Ok(None);
        };
        let bytes = len.saturating_add(HEAD);
        let fits = requests.room_for(bytes);
        let place = fits.and_then(|_| requests.reserve_here(bytes, PutBy::Others, deadline));
        let Some(place) = self.if_relayed(place, requests)? else {
            return Ok(None);
        };
        // SAFETY: reserved just now, for this call alone.
        let to = unsafe { std::slice::from_raw_parts_mut(place.span.as_ptr(), place.len) };
        Frame::new(FrameKind::Put, &[], &[]).write_to(to);
        Ok(place.payload_after(HEAD))
    }

    /// Makes a reservation in the companion a request, also while the relay is being removed: the removal waits
    /// for what is reserved, and puts it into this queue.
    pub(super) fn commit_request(&self, place: &MessagePlace, used: usize) -> Result<()> {
        let (place, used) = (place.with_head(HEAD), used.saturating_add(HEAD));
        self.end_request(|requests| requests.commit_here(&place, used, Delivery::NONE))
    }

    /// Discards a reservation in the companion, also while the relay is being removed.
    pub(super) fn discard_request(&self, place: &MessagePlace) -> Result<()> {
        let place = place.with_head(HEAD);
        self.end_request(|requests| requests.discard(&place))
    }

    /// Ends a reservation by `end`, in the companion where it was made. This handle has opened that companion,
    /// whether or not the queue still has a relay. Mostly it is the newest one.
    fn end_request(&self, end: impl Fn(&Queue) -> Result<()>) -> Result<()> {
        let mut ended = Err(Error::invalid(
            "reservation",
            "it was made through another handle",
        ));
        for requests in self.requests.all() {
            ended = end(requests).map_err(|err| requests.as_companion(err));
            if !matches!(ended, Err(Error::Invalid { .. })) {
                break;
            }
        }
        ended
    }

    /// The companions that this handle has opened.
    pub(super) fn companions(&self) -> impl Iterator<Item = &Queue> {
        self.requests.all().chain(self.settled.all())
    }
}

impl TakeSide<'_> {
    /// Whether the message at `block` was delivered by the queue's relay.
    pub(super) fn is_delivered(self, block: u32) -> Result<bool> {
        Ok(self.ring.store.head(block)?.token() != 0 && self.is_relayed())
    }

    /// Tells the relay that the message at `block` is done. Does nothing if no relay delivered it.
    ///
    /// # Errors
    /// `RelayBehind`, `NoSpace`: there is no room for the settlement, and the message must stay.
    pub(super) fn settle(self, block: u32, attempts: u8) -> Result<()> {
        match self.is_delivered(block)? {
            true => self.tell(block, attempts, Fate::Done).map(drop),
            false => Ok(()),
        }
    }

    /// Gives the message at `block` back to the relay, to be delivered again after `delay`. False if it is
    /// to be delivered again here.
    pub(super) fn return_to_relay(self, block: u32, attempts: u8, delay: Duration) -> Result<bool> {
        if !self.is_delivered(block)? {
            return Ok(false);
        }
        // A message that was delivered too often goes to the relay even if none is running.
        if !self.is_given_up(attempts) && !self.has_running_relay()? {
            return Ok(false);
        }
        match self.tell(block, attempts, Fate::Returned(delay)) {
            Err(err @ Error::Corrupt { .. }) => Err(err),
            told => Ok(told.unwrap_or(false)),
        }
    }

    /// Tells the relay that the message at `block` is still worked on. A hint: its failure is ignored, and it is
    /// not kept for a relay that does not run, because a worker may extend its lease for hours.
    pub(super) fn tell_extended(self, block: u32, attempts: u8, visible: Duration) {
        let is_told = self.is_delivered(block) == Ok(true) && self.has_running_relay() == Ok(true);
        if is_told {
            let _ = self.tell(block, attempts, Fate::Extended(visible));
        }
    }

    /// Puts a settlement. False if the relay was removed meanwhile.
    #[cold]
    fn tell(self, block: u32, attempts: u8, fate: Fate) -> Result<bool> {
        let Some(settled) = self.companion_queue(Companion::Settled)? else {
            return Ok(false);
        };
        let [payload, token] = self.ring.store.payload_and_token(block)?;
        // SAFETY: both lie in the message's extent; under the consumers' lock the message is neither freed
        // nor written to.
        let [payload, token] = unsafe {
            [payload, token].map(|(at, len)| std::slice::from_raw_parts(at.as_ptr(), len))
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (kind, number, payload) = match fate {
            Fate::Done => (FrameKind::Ack, 0, &[][..]),
            Fate::Extended(visible) => (FrameKind::Extend, nanos(visible), &[][..]),
            Fate::Returned(_) if self.is_given_up(attempts) => (FrameKind::Exhausted, 0, payload),
            Fate::Returned(delay) => (FrameKind::Nack, nanos(delay), &[][..]),
        };
        let frame = Frame {
            attempts,
            number: Some(number),
            ..Frame::new(kind, token, payload)
        };
        let put = settled.put_frame(&frame, Deadline::after(SETTLE_WAIT));
        self.if_relayed(put.map(|()| true), settled)
    }
}
