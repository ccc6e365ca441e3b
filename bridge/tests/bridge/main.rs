//! The bridge against real servers, with real processes that are killed.
//!
//! `NATS_SERVER` names the server's program; `cargo xtask test` installs one.
#![allow(unreachable_pub)]

mod agent;
mod direct;
mod faults;
mod machine;
mod maps;
mod queues;
mod server;
mod soak;
