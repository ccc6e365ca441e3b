//! Tests of maps.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod change;
mod compact;
#[cfg(feature = "crash-points")]
mod crash;
#[cfg(feature = "crash-points")]
mod crash_holds;
#[cfg(feature = "crash-points")]
mod crash_model;
#[cfg(feature = "crash-points")]
mod crash_watch;
mod faults;
mod holds;
mod hostile;
mod kills;
mod ordered;
