//! A list of byte strings between processes: many readers, many writers, one lock.
//!
//! - [`element`]: an element, and its word in the table.
//! - [`shape`]: which words of the table are elements: a length, and a gap.
//! - [`store`], [`splice`], [`repair`]: the contents, their changes, their repair and check.
//! - [`sort`]: sorting by a caller's comparison, which may be inconsistent.
//! - [`core`], [`locked`], [`ops`], [`iter`]: the lock, the list for the lock's owner, the public
//!   [`List`], iteration.
//!
//! All but the last item use neither locks nor system calls. Memory comes from a [heap](crate::heap). `inspect`
//! reads a list's figures from its file, without opening the list.
//!
//! # The gap
//! The table is a gap buffer: an array of words, one for each element, with a gap somewhere and free
//! words at the end. Insertions fill the gap, removals enlarge it, and moving the gap does not change
//! the list. So every change except a new order has the same steps: move the gap there, write to
//! words that no process reads, and publish another [`Shape`]. Appending and removing at either end
//! move nothing.
//!
//! # What a kill leaves
//! There are two copies of the shape, and one store says which of them is valid. Every change commits by that
//! store, or by the store of one word of the table, or (a swap) by a record of two such stores, which the
//! next owner of the lock completes. The slabs are derived, and a walk finds memory that nothing refers to
//! ([`repair`]).
//!
//! # Limits
//! 512 GiB. Readers exclude each other. A repair takes time proportional to the length.
//!
//! [`Shape`]: shape::Shape

mod core;
mod element;
mod inspect;
mod iter;
mod locked;
mod ops;
mod repair;
mod shape;
mod sort;
mod splice;
mod store;

pub(crate) use inspect::INSPECTOR;
pub use iter::Iter;
pub use locked::Locked;
pub use ops::List;
