//! Tests of pipes.

#[path = "../common/mod.rs"]
mod common;

mod basics;
#[cfg(feature = "crash-points")]
mod crash;
mod kills;
