//! A hash map of bytes between processes: many readers, many writers, no server.
//!
//! - [`hash`]: how a key's hash is divided into shard and tag.
//! - [`table`]: the slots of one shard; one store of a slot is the whole of an operation.
//! - [`entry`]: keys and values; the places they lie in are the [heap](crate::heap)'s slabs.
//! - [`store`], [`spare`], [`repair`]: one shard's contents; its operations, its repair and check.
//! - [`seq`], [`peek`], [`readers`]: reading without the shard's lock.
//! - [`holds`]: what a process has of a shard without its lock.
//! - [`core`]: locks. [`ops`], [`atomic`], [`many`], [`expiry`], [`view`], [`lock`], [`watch`],
//!   [`iter`]: the public [`Map`], a file for each thing that it does.
//!
//! All but `readers` and the last line touch neither locks nor the kernel, but for the clock. Memory
//! comes from a [heap](crate::heap).
//!
//! # What a kill can do
//! Memory is divided into what *says* and what is *derived*. Three kinds of words say what
//! the map is: the slots of the tables, the word that says where a shard's table is, and
//! the block map's words that say what an extent is. Every operation is one store of one of
//! them, so it happened or it did not. Counts, free chains, lists and bins only make things
//! fast; the next owner of a dead process's lock rebuilds them by a walk ([`repair`],
//! `heap::walk`). Memory that was prepared and never referred to is found because every extent
//! knows its shard, and a shard's table knows all that it refers to.
//!
//! # The cost of a get
//! One line of this process's own (it reads), one of the shard (table, counts), one of the table,
//! two or three of the entry with its value. Only the last two are cold in a large map. Tags rule out other
//! keys: with 2^18 slots in a shard one probe in a thousand touches a wrong entry.
//!
//! # Limits
//! 512 GiB. A shard is repaired in time proportional to what it holds, under its lock.

mod atomic;
mod cached_slot;
mod core;
mod entry;
mod expiry;
mod hash;
mod header;
mod holds;
mod iter;
mod key_handoff;
mod lock;
mod many;
mod ops;
mod optimistic;
mod readers;
mod repair;
mod seq;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub(crate) use iter::Cursor;
pub use iter::Iter;
pub use lock::KeyGuard;
pub use ops::Map;
pub(crate) use view::Pinned;
pub use view::View;
pub use watch::Watched;
