//! Leases of devices, between processes that know nothing of each other.

mod basics;
mod place;
