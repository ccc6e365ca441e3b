//! Tests of what all objects have in common: names, files, participants, and which processes live.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod collect;
#[cfg(feature = "crash-points")]
mod crash;
#[cfg(feature = "crash-points")]
mod crash_stopped;
mod directory;
mod forks;
mod liveness;
mod no_slot;
mod observe;
