//! Tests of what the README, the header and the largest example say.

#[path = "../native/mod.rs"]
mod native;

mod demo;
mod doxygen;
mod guide;
mod header;
mod readme;
