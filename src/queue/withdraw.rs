//! Taking back what a relay delivered and no worker has.
//!
//! # What a kill leaves
//! The message is leased, then loses its token, then is acked. After a kill while it is leased, the next
//! relay gets a settlement that it was given back. After a kill without its token, it is delivered again
//! here, as a message that no relay delivered. Its origin outside this queue is not touched, so it is not
//! lost.

use super::locked::ConsumersLock;
use super::relay::QueueRelay;
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;
use crate::sys::clock::Deadline;

/// A message that was [withdrawn](QueueRelay::withdraw).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withdrawn {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The token with which it was delivered.
    pub token: Vec<u8>,
    /// How often it was delivered, by all relays and here.
    pub attempts: u32,
}

impl QueueRelay {
    /// Takes the first message back, if this or an earlier relay delivered it and no worker has it: for a relay
    /// that can deliver it elsewhere. It is not settled. `None` if there is no message, or the first one was not
    /// delivered by a relay. Never waits.
    ///
    /// # Errors
    /// `Invalid` in a forked child; as for [`Queue::lease`](crate::Queue::lease).
    pub fn withdraw(&self) -> Result<Option<Withdrawn>> {
        self.check()?;
        let queue = self.queue();
        if queue.is_empty() {
            return Ok(None);
        }
        let held = match queue.lease_first(None, true, Deadline::Now) {
            Ok(held) => held,
            Err(Error::Timeout | Error::Closed) => return Ok(None),
            Err(err) => return Err(err),
        };
        let store = &queue.ring.store;
        let [payload, token] = store.payload_and_token(held.place.block)?.map(|(at, len)| {
            // SAFETY: in the message's extent, which stays while this process leases it.
            unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }.to_vec()
        });
        let guard = queue.lock::<ConsumersLock>(Deadline::Never)?;
        store.head(held.place.block)?.set_token(0);
        crash_point!();
        drop(guard);
        queue.ack(&held)?;
        let attempts = u32::from(held.attempts).saturating_sub(1);
        Ok(Some(Withdrawn {
            payload,
            token,
            attempts,
        }))
    }
}
