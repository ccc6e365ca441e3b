//! Tests of waits: for several things, on a busy machine, and through handles whose waits are ended.

#[path = "../common/mod.rs"]
mod common;

mod any;
mod busy;
mod closed;
mod end_waits;
mod kills;
