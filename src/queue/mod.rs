//! A queue of messages between processes: many producers, many consumers, any sizes.
//!
//! From the bottom up; each file imports only from those above it in this list.
//!
//! - [`record`]: the format of one message in the ring.
//! - [`mark`], [`store`]: messages that lie outside the ring.
//! - [`header`]: what lies where in shared memory.
//! - [`ring`], [`cursors`], [`commit`]: where messages are and how they become visible; no locks, no
//!   system calls.
//! - [`admission`]: the two locks, and quanta when many processes want them.
//! - [`backoff`], [`auto_grow`]: how long a consumer pauses between messages of a stream; how large
//!   the ring of a stream is.
//! - [`bounds`]: the limits of the ring's size. [`descriptor`]: what a handle has for event loops.
//! - [`core`]: the handle, how it is opened, and its properties.
//! - [`locked`]: what may be done under which lock, as types.
//! - [`storage`]: allocating and freeing in the message store.
//! - [`reservation`], [`lease`]: messages that are written and worked on in place.
//! - [`redelivery`]: delivering leased messages again whose worker did not finish.
//! - [`repair`]: what the next owner of a lock repairs after its owner died.
//! - [`relayed`]: what puts and acks do while the queue has a relay.
//! - [`resize`], [`wait`]: making room; waiting and waking, closing.
//! - [`signals`]: how a descriptor is made readable and unreadable.
//! - [`readiness`]: whether there is something to take, and the thread behind a descriptor.
//! - [`ops`], [`many`]: putting and taking. [`peek`]: looking at messages.
//! - [`inspect()`]: a queue's figures, read from its file without opening the queue.
//! - [`taken`], [`attached`], [`request`], [`relay`]: the calls of the relay.
//! - [`withdraw`]: taking back what a relay delivered.

mod admission;
mod attached;
mod auto_grow;
mod backoff;
mod bounds;
mod commit;
mod core;
mod cursors;
mod descriptor;
mod header;
mod inspect;
mod lease;
mod locked;
mod many;
mod mark;
#[cfg(test)]
mod model;
mod ops;
mod peek;
mod readiness;
mod record;
mod redelivery;
mod relay;
mod relayed;
mod repair;
mod request;
mod reservation;
mod resize;
mod ring;
mod signals;
mod storage;
mod store;
mod taken;
mod wait;
mod withdraw;

pub(crate) use attached::requests_options;
pub(crate) use bounds::capacities;
pub use core::Queue;
pub(crate) use inspect::{INSPECTOR, inspect};
pub use lease::Lease;
pub(crate) use lease::LeasedMessage;
pub use peek::{Followed, Follower};
pub use relay::{Delivered, QueueRelay, RelayRoom};
pub use request::{RelayRequest, Settlement, SettlementKind};
pub(crate) use reservation::MessagePlace;
pub use reservation::Reservation;
pub(crate) use ring::Ring;
pub(crate) use taken::{Companions, Taken};
pub use withdraw::Withdrawn;
