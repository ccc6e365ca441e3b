//! Device masks: which devices a process sees, and which of them its children will see.
//!
//! Every vendor's runtime reads an environment variable such as `CUDA_VISIBLE_DEVICES` when
//! it starts. The variable holds *physical* devices and is not relative: a child that sets
//! `0` under a parent restricted to `2,3` gets device 0, which its parent was never given.
//! Here a mask is always asked for in *logical* terms, counted in what the asking process
//! itself sees, and composed with that:
//!
//! ```
//! // A process that sees devices 2 and 3 gives its first one to a child.
//! assert_eq!(shoal::device::resolve("cuda", Some("2,3"), "0")?, "2");
//! // It cannot give away a third one: it has none.
//! assert!(shoal::device::resolve("cuda", Some("2,3"), "2").is_err());
//! # Ok::<(), shoal::Error>(())
//! ```
//!
//! Which devices there are, [`discover()`] tells. Which of them are free, programs agree on by
//! [leases](lease).
//!
//! What is asked for is read strictly, and anything wrong with it is an error before any
//! process is started. What is inherited is read as the runtime reads it, to the letter. The
//! child's environment is edited, never the caller's, so there is nothing to restore.
//!
//! # Limits
//!
//! - A mask is not compared with the machine's devices: if the variable is unset, an index up to
//!   [`MAX_INDEX`] is not checked, and neither is a unique id. [`discover()`] and [`seen`] tell which there
//!   are.
//! - A mask is a convention between the environment and a vendor's runtime. It confines
//!   programs that respect it; it is not a security boundary.
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
