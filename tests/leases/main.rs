//! Leases of devices, between unrelated processes.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod directory;
mod holders;
mod place;
mod races;
mod requests;
