//! Relays: what a queue and a map have in common that are carried beyond this machine, or anywhere else,
//! by a process of the user's.
//!
//! An object can have a *relay*, as a queue has its dead letters beside it. While it has one, what others
//! put, set or remove does not change the object. It becomes a *request* in a *companion*, a queue of its
//! own beside the object. A process that has the *role* of the relay takes the requests and does with them
//! what it likes. Only what it delivers goes into the object itself. The library knows nothing of where
//! requests go and where deliveries come from.
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
//! - [`state`]: the part of an object's header that says so.
//! - [`frame`]: the format of a request.
//! - [`cached`]: the companions that a handle has opened.
//! - [`options`]: what a relay says of itself, and what requests are called.
//! - [`role`]: which process is the relay.
//!
//! Queue and map have two files each: `relayed`, what becomes of the calls of others, and `relay`, what
//! the relay does.
//!
//! # What a kill leaves
//! *The relay is killed:* the object stays relayed. Requests that it had taken are leases of a dead
//! process, and are given to the next relay under the same numbers. What others put waits in the
//! companion, up to its bounds. A companion is persistent, so it needs no process to have it open. It
//! goes with the object: the process that removes the object's name removes the companions' first.
//! *Killed while attaching:* see [`state`].
//! *A process that waits for an answer is killed:* the answer expires.

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

/// Refuses the name of an object that leaves no room for those of its companions.
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
