//! Leases of devices: which process may use which device, agreed between programs that do not know each
//! other.
//!
//! ```
//! use shoal::Timeout;
//! use shoal::device::{Machine, lease::Request};
//!
//! # let place = std::env::temp_dir().join(format!("doc-lease-{}", std::process::id()));
//! let mut machine = Machine::from_environment();
//! # machine.leases = place.clone();
//! machine.fake = Some("cuda:4:24G".to_owned());      // for this example
//! let lease = Request::new(2).machine(machine).min_free(10 << 30).acquire(Timeout::Infinite)?;
//! assert_eq!(lease.devices().len(), 2);
//! // Give lease.environment(...) and the descriptor to the children: Spawn::lease does both.
//! drop(lease);                                       // or leave it to the last child that has it
//! # std::fs::remove_dir_all(&place).unwrap();
//! # Ok::<(), shoal::Error>(())
//! ```
//!
//! **A lease is a locked file.** Each request has a file of its own in the directory of leases, whose locked
//! bytes say what it holds (`claim.rs`). The kernel keeps the locks for as long as any process has the file's
//! description open: the process that asked, and each child that got the lease. So a worker whose parent has
//! died keeps the lease, and the end of the last holder frees it, whatever the cause. A release closes a
//! descriptor and never unlocks, so workers keep the lease.
//!
//! **Fair.** Requests that could get the same devices are served in the order of arrival (`queue.rs`); dead
//! ones are skipped. A request gets all of its devices at once, or waits.
//!
//! **Nested.** `SHOAL_LEASE` in the environment of a child names the lease that it runs under. The child's
//! own leases are parts of that lease, and its candidates are the devices that its mask shows.
//!
//! **Between users and containers.** The directory has mode 1777, and its place can be shared between
//! containers by mounting it. All users can read the files; only their owners can write to them. Their text
//! is for people, and nothing depends on it.
//!
//! # Limits
//!
//! A lease binds only programs that ask for one. The use of a device by others shows only in its memory and
//! its load (`min_free`, `max_utilisation`): a filter and not a guarantee. A file that is removed from the
//! directory (`rm`) takes its lease with it.

mod choose;
mod claim;
mod directory;
mod grant;
mod held;
mod holders;
mod queue;
mod request;
mod survey;

pub use grant::{Lease, Mode};
pub use holders::{Holder, HolderState, holders, holders_among};
pub use queue::Ticket;
pub use request::{Request, Share};
