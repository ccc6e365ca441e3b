//! A queue of messages between processes: many producers, many consumers, any sizes.
//!
//! - [`record`]: the format of one message in the ring.
//! - [`header`]: what lies where in shared memory.
//! - [`ring`], [`ends`]: where messages are and how they become visible; no locks, no system
//!   calls.
//! - [`Queue`]: the two locks, the waits, growth and repair.

mod ends;
mod header;
#[cfg(test)]
mod model;
mod ops;
mod record;
mod ring;
mod wait;

pub use ops::Queue;
