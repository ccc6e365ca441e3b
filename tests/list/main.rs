//! Tests of lists.

#[path = "../common/mod.rs"]
mod common;

mod basics;
#[cfg(feature = "crash-points")]
mod crash;
mod forks;
mod hostile;
mod iter;
mod kills;
