//! Leases of devices, between processes that know nothing of each other.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod directory;
mod holders;
mod place;
mod races;
mod requests;
