//! A hash map of bytes between processes: many readers, many writers, no server.
//!
//! - [`hash`]: how a key's hash is divided into shard and tag.
//! - [`table`]: the slots of one shard; one store of a slot is the whole of an operation.
//! - [`entry`], [`key`]: keys and values, which lie in the slabs and extents of a [heap](crate::heap).
//! - [`store`], [`resize`], [`cached_slot`], [`repair`]: the contents of a shard, their changes, repair and
//!   check.
//! - [`seq`], [`optimistic`], [`readers`]: reading without the shard's lock.
//! - [`holds`]: what a process holds in a shard beyond the shard's lock.
//! - [`header`], [`core`], [`key_handoff`]: the shared memory of a map, and its locks.
//! - [`relayed`], [`attached`], [`request`], [`relay`]: a map that has a relay, and the relay's own side.
//! - [`ops`], [`atomic`], [`many`], [`expiry`], [`view`], [`lock`], [`watch`], [`iter`]: the public
//!   [`Map`], a file for each group of its operations.
//!
//! `inspect` reads a map's figures from its file, without opening the map.
//!
//! All but `readers` and the last three items use neither locks nor system calls, except for the clock.
//!
//! # What a kill leaves
//! Every word is either *authoritative* or *derived*. Authoritative are the slots of the tables, the word
//! that says where a shard's table is, the expiry of an entry, the words of holds, and the words of the block
//! map that say what an extent is. Every operation commits by one store of one of them, so it happened or it
//! did not. Counts, free chains, lists and bins are derived: they only make operations fast. The next owner
//! of a dead process's lock rebuilds them by a walk ([`repair`], `heap::walk`). The walk also finds memory
//! that was prepared and never referred to: every extent names its shard, and the shard's table and holds
//! refer to all that is in use.
//!
//! # The cost of a get
//! It touches these cache lines: that of this process, which announces the read; one of the shard (table,
//! counts); one of the table; two or three of the entry with its value. In a large map, only those of the table
//! and of the entry are usually not in the cache. Tags rule out other keys: with 2^18 slots in a shard, one probe
//! in a thousand touches another key's entry.
//!
//! # Limits
//! 512 GiB. A repair takes time proportional to what the shard holds, under its lock.

mod atomic;
mod attached;
mod cached_slot;
mod core;
mod entry;
mod expiry;
mod hash;
mod header;
mod holds;
mod inspect;
mod iter;
mod key;
mod key_handoff;
mod lock;
mod many;
mod ops;
mod optimistic;
mod readers;
mod relay;
mod relayed;
mod repair;
mod request;
mod resize;
mod seq;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use attached::{MapChange, SwapTo};
pub(crate) use inspect::INSPECTOR;
pub(crate) use iter::Cursor;
pub use iter::Iter;
pub use lock::KeyGuard;
pub use ops::Map;
pub use relay::MapRelay;
pub use request::MapRequest;
pub(crate) use view::Pinned;
pub use view::View;
pub use watch::Watched;
