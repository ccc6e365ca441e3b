//! The calls of the operating system, made safe.

pub(crate) mod pidfd;
pub(crate) mod spawn;
