//! Tests of queues.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod basics;
mod bound;
#[cfg(feature = "crash-points")]
mod crash;
#[cfg(feature = "crash-points")]
mod crash_lease;
#[cfg(feature = "crash-points")]
mod crash_readiness;
#[cfg(feature = "crash-points")]
mod crash_waits;
mod fifo;
mod follow;
mod kills;
mod lease;
mod lease_kills;
mod peek;
mod processes;
mod readiness;
mod readiness_put;
mod readiness_shared;
mod reserve;
mod waits;
