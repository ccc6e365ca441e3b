//! A queue of messages between processes: many producers, many consumers, any sizes.
//!
//! - [`record`]: the format of one message in the ring.
//! - [`header`]: what lies where in shared memory.
//! - [`ring`], [`ends`]: where messages are and how they become visible; no locks, no system
//!   calls.
//! - [`shelf`]: messages that lie outside the ring.
//! - [`reserve`], [`reservation`]: messages that are written in place.
//! - [`lease`], [`loans`]: messages that are worked on, and what becomes of them if nobody
//!   finishes the work.
//! - [`entrance`]: the two locks, and turns when many want them.
//! - [`wait`], [`room`]: waiting and waking, closing and repair; growing and shrinking.
//! - [`pace`], [`stream`]: how long a consumer rests between messages of a stream; how large the
//!   ring of a stream is.
//! - [`many`]: many messages in one call.
//! - [`readiness`]: a descriptor for event loops.
//! - [`bounds`]: how large it may be.
//! - [`Queue`]: what programs call.

mod bounds;
mod ends;
mod entrance;
mod header;
mod lease;
mod loans;
mod many;
#[cfg(test)]
mod model;
mod ops;
mod pace;
mod readiness;
mod record;
mod reservation;
mod reserve;
mod ring;
mod room;
mod shelf;
mod stream;
mod wait;

pub(crate) use bounds::capacities;
pub(crate) use lease::Held;
pub use lease::Lease;
pub use ops::Queue;
pub(crate) use reservation::Place;
pub use reservation::Reservation;
pub(crate) use ring::Ring;
