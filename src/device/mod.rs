//! Device masks: which devices a process sees, and which of them its children will see.
//!
//! Every vendor's runtime reads an environment variable such as `CUDA_VISIBLE_DEVICES` when it starts. The
//! variable holds *physical* devices and is not relative: a child that sets `0` under a parent restricted to
//! `2,3` gets device 0, which its parent was never given. Here a requested mask is always in *logical* terms,
//! counted within what the requesting process itself sees, and composed with that:
//!
//! ```
//! // A process that sees devices 2 and 3 gives its first one to a child.
//! assert_eq!(shoal::device::resolve("cuda", Some("2,3"), "0")?, "2");
//! // It cannot give away a third one: it has none.
//! assert!(shoal::device::resolve("cuda", Some("2,3"), "2").is_err());
//! # Ok::<(), shoal::Error>(())
//! ```
//!
//! [`discover()`] finds the devices. Programs agree by [leases](lease) on which of them are free.
//!
//! A request is parsed strictly, and any mistake is an error before a process is started. An inherited mask
//! is read exactly as the runtime reads it. The child's environment is edited, never the caller's, so there
//! is nothing to restore.
//!
//! # Limits
//!
//! - A mask is not compared with the machine's devices: if the variable is unset, an index up to
//!   [`MAX_INDEX`] is not checked, and neither is a unique id. [`discover()`] and [`seen`] return the
//!   existing ones.
//! - A mask is a convention between the environment and a vendor's runtime. It confines only programs that
//!   respect it, and is not a security boundary.
//! - `NVIDIA_VISIBLE_DEVICES` acts when a container is created and not inside one, so it is
//!   neither read nor written.

mod discover;
mod environment;
mod family;
pub mod lease;
mod mask;
mod reading;

pub use discover::{Discovery, Found, Machine, Seen, discover, parse_bytes, seen};
pub use environment::{EnvEdit, environment, families, family, resolve, set_visible, visible};
pub(crate) use environment::{apply, process_variable};
pub use family::Family;
pub use mask::{Device, DeviceKind, MAX_INDEX, Mask};
pub use reading::Reading;
