//! A queue of messages between processes: many producers, many consumers, any sizes.
//!
//! - [`record`]: the format of one message in the ring.
//! - [`header`]: what lies where in shared memory.
//! - [`ring`], [`ends`]: where messages are and how they become visible; no locks, no system
//!   calls.
//! - [`reserve`], [`reservation`]: messages that are written in place.
//! - [`entrance`]: the two locks, and turns when many want them.
//! - [`wait`], [`room`], [`pace`]: waiting and waking, closing and repair; growing and shrinking;
//!   how long a consumer rests between messages of a stream.
//! - [`Queue`]: what programs call.

mod ends;
mod entrance;
mod header;
#[cfg(test)]
mod model;
mod ops;
mod pace;
mod record;
mod reservation;
mod reserve;
mod ring;
mod room;
mod wait;

pub use ops::Queue;
pub use reservation::Reservation;
