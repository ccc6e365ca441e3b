//! Carries Shoal's queues and maps between machines, over NATS JetStream.

pub mod context;
pub mod error;
mod exchange;
mod large;
mod link;
pub mod names;
pub mod settings;
mod wire;
