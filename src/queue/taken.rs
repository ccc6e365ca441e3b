//! Messages of a companion queue that a relay has taken: leases that keep the relay alive.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::relay::{Frame, FrameKind, RequestId};
use crate::segment::Companion;
use crate::sys::clock::Timeout;

use super::core::Queue;
use super::lease::LeasedMessage;

/// A relay that has companion queues.
pub(crate) trait Companions {
    fn companion(&self, which: Companion) -> &Queue;
}

/// A message of a companion that the relay has taken.
pub(crate) struct Taken<S: Companions> {
    shared: Arc<S>,
    which: Companion,
    held: LeasedMessage,
}

// SAFETY: the message is only read, and any thread may end the lease.
unsafe impl<S: Companions + Send + Sync> Send for Taken<S> {}
// SAFETY: as for `Send`.
unsafe impl<S: Companions + Send + Sync> Sync for Taken<S> {}

impl<S: Companions> Taken<S> {
    /// Takes the next message of the companion, waiting until `timeout`.
    pub(crate) fn next(shared: &Arc<S>, which: Companion, timeout: Timeout) -> Result<Self> {
        let held = shared.companion(which).lease_place(None, timeout)?;
        let shared = Arc::clone(shared);
        Ok(Self {
            shared,
            which,
            held,
        })
    }

    /// The relay that has taken it.
    pub(crate) fn relay(&self) -> &S {
        &self.shared
    }

    fn queue(&self) -> &Queue {
        self.shared.companion(self.which)
    }

    /// How often it was taken.
    pub(crate) fn attempts(&self) -> u32 {
        self.held.attempts.into()
    }

    pub(crate) fn frame(&self) -> Result<Frame<'_>> {
        // SAFETY: leased by this process, until this value is gone; the queue is open.
        Frame::read(unsafe { self.held.bytes() })
    }

    /// The frame, which was valid when it was taken; an empty one if it was overwritten since.
    pub(crate) fn checked(&self) -> Frame<'_> {
        let empty = Frame::new(FrameKind::Ack, &[], &[]);
        self.frame().unwrap_or(empty)
    }

    pub(crate) fn id(&self) -> RequestId {
        RequestId {
            companion: self.queue().ring.header.relay.serial(),
            number: self.held.place.number,
        }
    }

    pub(crate) fn done(self) -> Result<()> {
        let taken = ManuallyDrop::new(self);
        let done = taken.queue().ack(&taken.held);
        // SAFETY: `taken` is not used any more and never dropped, so `shared` is dropped once.
        drop(unsafe { std::ptr::read(&taken.shared) });
        done
    }

    pub(crate) fn retry(self, delay: Duration) -> Result<()> {
        let taken = ManuallyDrop::new(self);
        let done = taken.queue().nack(&taken.held, delay);
        // SAFETY: as in `done`.
        drop(unsafe { std::ptr::read(&taken.shared) });
        done
    }

    /// Drops a message that is not a valid request, and returns the error.
    #[cold]
    pub(crate) fn refuse(self) -> Error {
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

impl<S: Companions> Drop for Taken<S> {
    fn drop(&mut self) {
        // Fails in a forked child: the lease is the parent's.
        let _ = self.queue().nack(&self.held, Duration::ZERO);
    }
}
