//! A hash map of bytes.
mod arena;
mod class;
mod entry;
mod hash;
mod heap;
mod repair;
mod slab;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod walk;
