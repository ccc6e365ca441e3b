//! Carries Shoal's queues and maps between machines, over NATS JetStream.

mod arrivals;
pub mod bridge;
mod change;
pub mod context;
pub mod counters;
mod delivery;
mod demand;
pub mod error;
mod exchange;
mod held;
mod large;
mod link;
mod map;
mod metrics;
pub mod names;
pub mod options;
mod publish;
mod pull;
mod queue;
mod requests;
pub mod settings;
mod settle;
pub mod status;
mod threads;
mod token;
mod watch;
mod wire;
