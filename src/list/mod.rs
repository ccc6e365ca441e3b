//! A list of byte strings between processes: many readers, many writers, one lock.
//!
//! - [`element`]: an element, and the word of the table that stands for it.
//! - [`view`]: which words of the table are the list: a length, and a gap.
//! - [`store`], [`splice`], [`repair`]: the contents, their changes, their repair and check.
//! - [`sort`]: into an order that a caller's function says, whatever it says.
//! - [`core`], [`locked`], [`ops`], [`iter`]: the lock, the list to its owner, the public
//!   [`List`], iteration.
//!
//! All but the last line touch neither locks nor the kernel. Memory comes from a
//! [heap](crate::heap).
//!
//! # The gap
//! The table is a row of words, one for each element, with a gap somewhere and free words at
//! the end. What is inserted goes into the gap, what is removed makes it wider, and to move
//! the gap changes nothing that anybody sees. So every change but those of an order is one
//! thing: move the gap there, fill it where nobody looks, and publish another [`View`].
//! Appending and removing at either end move nothing.
//!
//! # What a kill can do
//! A view is five words, of which there are two copies; one store says which of them counts.
//! Every change is that store, or the store of one word of the table, or (a swap) a note of
//! two such stores that whoever comes next carries out. The slabs are derived, and memory
//! that nothing refers to is found by a walk ([`repair`]).
//!
//! # Limits
//! 512 GiB. Readers exclude each other. A list is repaired in time proportional to its length.
//!
//! [`View`]: view::View

mod core;
mod element;
mod iter;
mod locked;
mod ops;
mod repair;
mod sort;
mod splice;
mod store;
mod view;

pub use iter::Iter;
pub use locked::Locked;
pub use ops::List;
