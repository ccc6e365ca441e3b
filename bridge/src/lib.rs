//! Carries Shoal's queues and maps between machines, over NATS JetStream.

pub mod context;
pub mod error;
mod counters;
mod delivery;
mod exchange;
mod large;
mod link;
mod metrics;
pub mod names;
pub mod options;
mod publish;
mod pull;
pub mod settings;
pub mod status;
mod wire;
