//! Tests of locks, of the other primitives, and of arrays, which have a lock.

#[path = "../common/mod.rs"]
mod common;

mod array;
#[cfg(feature = "crash-points")]
mod crash_lock;
#[cfg(feature = "crash-points")]
mod crash_primitives;
mod kills;
mod lock;
mod primitives;
