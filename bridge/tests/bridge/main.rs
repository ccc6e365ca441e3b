//! The bridge against real servers, with real processes that are killed.
//!
//! `NATS_SERVER` names the server's program; `cargo xtask test` installs one.
#![allow(unreachable_pub)]

mod agent;
mod attach;
mod credentials;
mod direct;
mod doubt;
mod expiry;
mod faults;
mod foreign;
mod kept;
mod machine;
mod maps;
mod moving;
mod permissions;
mod proxy;
mod queues;
mod server;
mod settings;
mod slow;
mod soak;
mod usage;
