//! Tests of what the system refuses: memory, descriptors, permissions, limits.

#[path = "../common/mod.rs"]
mod common;

mod committed;
mod files;
mod forged;
mod limits;
mod many;
mod refused;
mod stopped;
mod system;
mod unbacked;
