//! An event that is set or not.
//!
//! ```text
//! offset  size  field    written by       invariant
//!      0     4  changes  set and clear    odd while it is set; only grows
//!      4    12  changed  any process      waiters sleep here
//! ```
//! A waiter reads an even number and waits until the number changes. So a wait that began before the event
//! was set ends, even if the event is cleared again at once.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::layout::{Shared, SharedRef};
use crate::segment::{Inspector, Kind, Options, Segment, debug_by_name, plain_open, shared_object};
use crate::sync::{EndWaits, EventCell, WaitPolicy, Waits, crash::crash_point, publish_fence};
use crate::sys::clock::{Deadline, IntoTimeout};

use super::object;

const LAYOUT: u64 = 0x4556_4e54_0000_0001;

#[repr(C)]
struct EventState {
    changes: AtomicU32,
    changed: EventCell,
}

const _: () = assert!(std::mem::offset_of!(EventState, changed) == 4);

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for EventState {}

/// How `observe` reads an event without opening it.
pub(crate) const INSPECTOR: Inspector = Inspector {
    layout: LAYOUT,
    inspect: |file| {
        object::inspect(file, |state: &EventState, found| {
            found.set = Some(state.changes.load(Ordering::Relaxed) % 2 == 1);
            found.sleeps("waiters", state.changed.has_sleepers());
        })
    },
};

/// A flag that is set or not, which processes and threads wait for.
///
/// Setting and clearing are one atomic step each, so a kill comes before or after it. A dead waiter delays no
/// other process.
///
/// A handle is [`Send`] and [`Sync`] and survives `fork`. The last handle of all processes
/// removes the event, unless it was created [persistent](Options::persistent).
///
/// ```
/// use shoal::{Event, Timeout};
///
/// let ready = Event::anonymous()?;
/// let same = Event::open(ready.name())?; // in another process, usually
/// same.set();
/// ready.wait(Timeout::Infinite)?;
/// assert!(ready.is_set());
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Event {
    state: SharedRef<EventState>,
    policy: WaitPolicy,
    // Last: `state` points into it.
    segment: Segment,
}

plain_open!(Event, "event");
shared_object!(Event, "event", |it| &it.segment);
debug_by_name!(Event);

impl Event {
    /// Opens or creates an event as `options` say. Options of size do not apply. A new one
    /// is not set.
    ///
    /// # Errors
    /// As for [`open`](Self::open); `Exists` with [`Options::exclusive`]; `NoSpace`.
    pub fn with_options(name: Option<&str>, options: &Options) -> Result<Self> {
        let (segment, state) = object::open(
            name,
            options,
            (Kind::Event, LAYOUT),
            |_: &EventState| Ok(()),
        )?;
        Ok(Self {
            state,
            policy: WaitPolicy::default(),
            segment,
        })
    }

    fn changes(&self) -> u32 {
        self.state.changes.load(Ordering::Acquire)
    }

    /// Makes an even number odd, or an odd one even. True if the number was as expected.
    fn toggle(&self, from_odd: bool) -> bool {
        let changes = &self.state.changes;
        let next = |changes: u32| {
            let odd = !changes.is_multiple_of(2);
            (odd == from_odd).then(|| changes.wrapping_add(1))
        };
        changes
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, next)
            .is_ok()
    }

    /// Sets the event and wakes all waiters. Does not wait.
    pub fn set(&self) {
        self.toggle(false);
        crash_point!();
        publish_fence();
        // Even if it was set already: the process that set it may have died before this.
        if self.state.changed.has_sleepers() {
            self.state.changed.notify_all();
        }
    }

    /// Clears the event.
    pub fn clear(&self) {
        self.toggle(true);
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> bool {
        !self.changes().is_multiple_of(2)
    }

    /// Waits until the event is set, or has been set since the call began.
    ///
    /// # Errors
    /// `Timeout`; `Interrupted` when a signal handler ran; `Detached` when the [waits through this
    /// handle](Self::end_waits) were ended.
    pub fn wait(&self, timeout: impl IntoTimeout) -> Result<()> {
        let began = self.changes();
        let happened = || {
            let changes = self.changes();
            changes != began || !changes.is_multiple_of(2)
        };
        if happened() {
            return Ok(());
        }
        let (deadline, mut nap) = (Deadline::after(timeout), self.policy.nap());
        if deadline != Deadline::Now && self.policy.spin(happened) {
            return Ok(());
        }
        while !happened() {
            let changed = &self.state.changed;
            let slept = self.policy.sleep(changed, nap.ns(), deadline, happened)?;
            nap.ended(slept);
        }
        Ok(())
    }
}

impl EndWaits for Event {
    fn end_waits(&self) {
        self.policy.waits.end([&self.state.changed]);
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        see(&self.policy.waits);
    }
}
