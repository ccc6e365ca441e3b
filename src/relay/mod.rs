//! Relays: the common part of queues and maps whose changes a process of the program carries to another
//! machine, or to any other place.
//!
//! An object can have a *relay*. While it has one, a put, set or removal by another process does not change
//! the object. It becomes a *request* in a *companion*, a separate queue. The process that has the *role* of
//! the relay takes the requests and handles them as it likes. Only what the relay delivers goes into the
//! object itself. The library does not know where requests go and where deliveries come from.
//!
//! ```text
//! others ── put ──────▶ jobs.relay ────── next_request ──▶ relay process ──▶ somewhere
//! others ◀─ get, lease ─ jobs ◀────────── deliver ──────── relay process ◀── somewhere
//! others ── ack, nack ─▶ jobs.settled ─── next_settlement ▶ relay process ──▶ somewhere
//!
//! others ── set, swap ─▶ config.relay ─── next_request ──▶ relay process ──▶ somewhere
//! others ◀─ get ─────── config ◀───────── deliver ──────── relay process ◀── somewhere
//! others ◀─ the answer ─ config.answers ◀─ done, conflict ──── relay process
//! ```
//!
//! - [`state`]: the relay's part of an object's header.
//! - [`frame`]: the format of a request.
//! - [`cached`]: the companions that a handle has opened.
//! - [`options`]: a relay's options and state, and the ids of requests.
//! - [`role`]: which process is the relay.
//!
//! Queue and map have two main files each: `relayed` for the calls of programs, and `relay` for those of the
//! relay.
//!
//! # What a kill leaves
//! *The relay is killed:* the object stays relayed. Requests that it had taken are leases of a dead process:
//! the next relay gets them under the same numbers. What others put waits in the companion, up to its bounds.
//! Object and companions exist even if no process has them open: a companion is persistent, and an object is
//! persistent while it has companions. They are removed with the object's name: the process that removes it
//! removes the companions' names first. After detaching, the companions are removed, and the object is
//! persistent only if it was created so. *Killed while attaching:* see [`state`]. *A process that waits for an
//! answer is killed:* the answer expires.

mod cached;
mod frame;
mod options;
mod role;
mod state;

use crate::error::{Error, Result};
use crate::segment::{Companion, LONGEST};

pub(crate) use cached::Cached;
pub(crate) use frame::{Frame, FrameKind, HEAD};
pub use options::{RelayInfo, RelayOptions, RequestId};
pub(crate) use role::{Relayed, Role};
pub(crate) use state::RelayState;

/// Refuses the name of an object that leaves no room for its companions' names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let suffix = Companion::Settled.suffix();
    let longest = LONGEST - suffix.len();
    if name.len() <= longest {
        return Ok(());
    }
    let why = format!(
        "it has {} bytes; the limit with a relay is {longest}, since a companion has this name with \
         {suffix:?} behind it",
        name.len()
    );
    Err(Error::invalid("name", why))
}
