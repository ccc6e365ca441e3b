//! A relay that is attached to a queue: its role and its companions, and how they are created and removed.
//! `relay::state` says what a kill leaves between the steps.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::relay::{Frame, RelayOptions, RelayState, Relayed, Role};
use crate::segment::{self, Companion, Options, Section};
use crate::sync::Waits;
use crate::sync::crash::crash_point;
use crate::sys::clock::{Deadline, Timeout};

use super::commit::Delivery;
use super::core::Queue;
use super::header::RELAYED;
use super::locked::{ConsumersLock, ProducersLock};
use super::mark::MessageState;
use super::reservation::PutBy;
use super::taken::Companions;

impl Relayed for Queue {
    fn relay_state(&self) -> &RelayState {
        &self.ring.header.relay
    }

    fn own_waits(&self) -> &Waits {
        self.waits()
    }

    fn is_relayed(&self) -> bool {
        Queue::is_relayed(self)
    }
}

/// What a relay, its requests and its settlements have in common.
pub(super) struct Attached {
    // Dropped before the role, so that leases through them are given back before the next relay can begin.
    pub(super) requests: Queue,
    pub(super) settled: Queue,
    pub(super) role: Role<Queue>,
}

impl Companions for Attached {
    fn companion(&self, which: Companion) -> &Queue {
        match which {
            Companion::Settled => &self.settled,
            _ => &self.requests,
        }
    }
}

impl Attached {
    /// Opens or creates the companions.
    pub(super) fn open(role: Role<Queue>, options: &RelayOptions) -> Result<Self> {
        let open = |which, options: &Options| {
            role.open_companion(
                which,
                options,
                |name, family, options| Queue::open_companion(name, which, family, options),
                Queue::is_abandoned,
            )
        };
        let bounds = requests_options(options);
        let (both, is_relayed) = (
            [Companion::Requests, Companion::Settled],
            role.object().is_relayed(),
        );
        let (requests, settled) = role.open_companions(&both, is_relayed, || {
            let settled = open(Companion::Settled, &Options::open())?;
            // The last one: a program finds it, and puts into it, only if no other companion is missing.
            Ok((open(Companion::Requests, &bounds)?, settled))
        })?;
        Ok(Self {
            requests,
            settled,
            role,
        })
    }

    /// Completes the removal of the relay, after the queue has stopped being relayed: steps 6 to 9.
    pub(super) fn removed(self, deadline: Deadline) -> Result<Role<Queue>> {
        let queue = self.role.object();
        self.requests.drain_closed(deadline, |frame| {
            let (data, none) = (frame.second, Delivery::NONE);
            let fill = |to: &mut [u8]| to.copy_from_slice(data);
            queue.put_by(PutBy::Removal, data.len(), none, deadline, fill)
        })?;
        self.settled.close()?;
        queue.forget_tokens()?;
        for which in [Companion::Requests, Companion::Settled] {
            match segment::unlink(&which.name(queue.name())) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(err) => return Err(err),
            }
            crash_point!();
        }
        self.role.forget_family()?;
        Ok(self.role)
    }
}

/// The options with which the companion for the requests is created.
pub(crate) fn requests_options(options: &RelayOptions) -> Options {
    Options {
        max_items: options.max_requests,
        max_capacity: options.max_bytes,
        ..Options::default()
    }
}

impl Queue {
    /// Whether `name` is a companion queue that no process has open: its object is gone.
    pub(crate) fn is_abandoned(name: &str) -> Result<bool> {
        let found = match Queue::open(name) {
            Ok(found) => found,
            Err(Error::WrongKind { .. }) => return Ok(false),
            Err(err) => return Err(err),
        };
        Ok(found.segment.is_companion() && !found.segment.has_others(Section::ALL)?)
    }

    /// Closes this companion, and then calls `work` with each request that is left.
    ///
    /// # Errors
    /// Those of `work`, and the request stays; `Timeout` while another process has leased or reserved one.
    pub(crate) fn drain_closed(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        self.close()?;
        loop {
            let held = match self.lease_place(None, Timeout::Val(Duration::ZERO)) {
                Ok(held) => held,
                Err(Error::Closed) => return Ok(()),
                // A process is about to commit a request, or to discard it.
                Err(Error::Timeout) if !deadline.passed() => {
                    let _ = self.wait_ready(Timeout::Val(Duration::from_millis(10)));
                    continue;
                }
                Err(err) => return Err(err),
            };
            // SAFETY: leased just now, and ended only after the frame's last use.
            let done = match Frame::read(unsafe { held.bytes() }) {
                Ok(frame) => work(frame),
                // An invalid request is dropped.
                Err(_) => Ok(()),
            };
            if let Err(err) = done {
                let _ = self.nack(&held, Duration::ZERO);
                return Err(err);
            }
            self.ack(&held)?;
        }
    }

    /// Sets or clears the flag RELAYED.
    pub(super) fn mark_relayed(&self, relayed: bool) -> Result<()> {
        let guard = self.lock::<ProducersLock>(Deadline::Never)?;
        let flags = &self.ring.header.flags;
        match relayed {
            true => flags.fetch_or(RELAYED, Ordering::SeqCst),
            false => flags.fetch_and(!RELAYED, Ordering::SeqCst),
        };
        crash_point!();
        drop(guard);
        // Producers that wait for room now need it in the other queue: the companion, or this one.
        self.wake_all_waiters();
        Ok(())
    }

    /// Removes the tokens of the delivered messages, which are then not settled.
    fn forget_tokens(&self) -> Result<()> {
        let guard = self.lock::<ConsumersLock>(Deadline::Never)?;
        for found in guard.side().everything(Deadline::Never)? {
            if found.mark.state != MessageState::Writing {
                self.ring.store.head(found.block)?.set_token(0);
            }
        }
        Ok(())
    }
}
