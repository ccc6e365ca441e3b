//! Changes of a list's length and order.
//!
//! | operation                 | prepares                | publishes with | retires           |
//! |---------------------------|-------------------------|----------------|-------------------|
//! | append, insert, extend    | elements, their words   | a shape        |                   |
//! | remove, pop               |                         | a shape        | elements          |
//! | replace a range           | elements, their words   | a shape        | the old elements  |
//! | move the gap              | words in the gap        | a shape        |                   |
//! | another size of the table | the table               | a shape        | the old table     |
//! | sort, reverse, rearrange  | a table in that order   | a shape        | the old table,    |
//! |                           |                         |                | dropped elements  |
//!
//! If the process is killed before the store that publishes the shape, the operation did not happen, and the
//! repair frees what was prepared; if it is killed after it, the operation happened, and the repair retires
//! what the change replaced.

use std::sync::atomic::Ordering;

use super::shape::{PER_BLOCK, Shape};
use super::store::Store;
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;

impl Store<'_> {
    /// Replaces the elements `from .. to` by `items`, at once.
    ///
    /// # Errors
    /// `NoSpace`; the list is then unchanged.
    #[inline]
    pub(super) fn splice<T: AsRef<[u8]>>(&self, from: u64, to: u64, items: &[T]) -> Result<()> {
        let count = items.len() as u64;
        let shape = self.make_room(from, to, count)?;
        let words = self.words(&shape)?;
        let start = if from == shape.len {
            from + shape.gap
        } else {
            from
        } as usize;
        for (index, item) in items.iter().enumerate() {
            match self.prepare(item.as_ref()) {
                // No process reads this word before the shape is published.
                Ok(word) => words[start + index].store(word, Ordering::Relaxed),
                Err(err) => {
                    for word in &words[start..start + index] {
                        self.retire(word.load(Ordering::Relaxed))?;
                    }
                    return Err(err);
                }
            }
            crash_point!();
        }
        if to - from > PER_BLOCK {
            self.whole_shape()?;
        }
        let old = self.range(&shape, from, to)?;
        self.publish(shape.spliced(from, to, count));
        for word in old {
            self.retire(word)?;
        }
        self.shrink()
    }

    /// A shape of the same list in which `count` words can be written that no process reads: behind
    /// the last element if `from` is the end, else at the front of a gap at `from`.
    #[inline]
    fn make_room(&self, from: u64, to: u64, count: u64) -> Result<Shape> {
        // The caller has clamped the range to a length that it read before.
        let shape = reaching(self.shape()?, to)?;
        if from == shape.len && shape.tail() >= count {
            return Ok(shape);
        }
        let inside = from <= shape.gap_at && shape.gap_at <= to;
        if count == 0 && (inside || to == shape.len) {
            return Ok(shape);
        }
        self.rearrange_room(from, to, count)
    }

    #[cold]
    fn rearrange_room(&self, from: u64, to: u64, count: u64) -> Result<Shape> {
        let shape = reaching(self.whole_shape()?, to)?;
        if count == 0 {
            let nearest = if shape.gap_at < from { from } else { to };
            return self.move_gap(shape, nearest);
        }
        if from == shape.len {
            // Closing the gap is worth the move only if that gains many free words.
            let enough = shape.gap >= count && shape.gap >= shape.len / 4;
            let closed = enough
                .then(|| self.move_gap(shape, shape.len))
                .transpose()?;
            return match closed {
                Some(shape) if shape.tail() >= count => Ok(shape),
                _ => self.resize(shape, shape.len, count),
            };
        }
        if shape.gap >= count {
            return self.move_gap(shape, from);
        }
        if shape.capacity() - shape.len < count {
            return self.resize(shape, from, count);
        }
        // The gap and the tail together are enough: the tail becomes the gap.
        let mut shape = self.move_gap(shape, shape.len)?;
        (shape.gap_at, shape.gap) = (shape.len, shape.tail());
        self.move_gap_raw(shape, from)
    }

    /// Moves the gap to before element `to`. The list does not change.
    fn move_gap(&self, shape: Shape, to: u64) -> Result<Shape> {
        self.move_gap_raw(shape, to).map(Shape::normal)
    }

    fn move_gap_raw(&self, mut shape: Shape, to: u64) -> Result<Shape> {
        let words = self.words(&shape)?;
        let copy = |from: u64, to: u64, count: u64| {
            for index in 0..count {
                let word = words[(from + index) as usize].load(Ordering::Relaxed);
                words[(to + index) as usize].store(word, Ordering::Relaxed);
            }
        };
        while shape.gap > 0 && shape.gap_at != to {
            // Copies at most as many words at a time as the gap has: no process reads the gap's words before
            // the shape is published.
            if to < shape.gap_at {
                let count = shape.gap.min(shape.gap_at - to);
                let from = shape.gap_at - count;
                copy(from, from + shape.gap, count);
                shape.gap_at = from;
            } else {
                let count = shape.gap.min(to - shape.gap_at);
                copy(shape.gap_at + shape.gap, shape.gap_at, count);
                shape.gap_at += count;
            }
            crash_point!();
            self.publish(shape);
        }
        shape.gap_at = to;
        Ok(shape)
    }

    /// A larger table, with room for `count` more elements before element `at`, and half as much
    /// again in all.
    #[cold]
    fn resize(&self, shape: Shape, at: u64, count: u64) -> Result<Shape> {
        let needed = shape.len.saturating_add(count);
        let mut new = self.new_table(needed.saturating_add(needed / 2))?;
        new.len = shape.len;
        if at < shape.len {
            (new.gap_at, new.gap) = (at, count + (new.capacity() - needed) / 2);
        }
        self.copy_table(&shape, &new)?;
        self.replace_table(&shape, new)?;
        Ok(new)
    }

    fn copy_table(&self, shape: &Shape, new: &Shape) -> Result<()> {
        let (from, to) = (self.words(shape)?, self.words(new)?);
        for index in 0..shape.len {
            let word = from[shape.slot(index)].load(Ordering::Relaxed);
            to[new.slot(index)].store(word, Ordering::Relaxed);
        }
        crash_point!();
        Ok(())
    }

    /// Replaces a table that has become far too large. If there is no memory for a smaller one, the table
    /// stays, and the caller's operation still succeeds.
    #[inline]
    fn shrink(&self) -> Result<()> {
        let shape = self.shape()?;
        if shape.capacity() <= PER_BLOCK || shape.len > shape.capacity() / 8 {
            return Ok(());
        }
        self.shrink_now()
    }

    #[cold]
    fn shrink_now(&self) -> Result<()> {
        let shape = self.whole_shape()?;
        match self.new_table(shape.len * 2) {
            Ok(mut new) => {
                new.len = shape.len;
                self.copy_table(&shape, &new)?;
                self.replace_table(&shape, new)
            }
            Err(Error::NoSpace { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Replaces the list by the elements that `order` names, in that order, at once. Each is named at
    /// most once; the others are removed.
    ///
    /// # Errors
    /// `Invalid` for an order that does not fit; `NoSpace`; the list is then unchanged.
    pub(super) fn rearrange(&self, order: &[u64]) -> Result<()> {
        let shape = self.whole_shape()?;
        let mut named = vec![false; shape.len as usize];
        for &index in order {
            match named.get_mut(index as usize) {
                Some(named) if !*named => *named = true,
                _ => {
                    let why = format!("{index} is named twice or is no index of the list");
                    return Err(Error::invalid("order", why));
                }
            }
        }
        if shape.len == 0 {
            return Ok(());
        }
        let len = order.len() as u64;
        let mut new = self.new_table(len + len / 8)?;
        new.len = len;
        let (from, to) = (self.words(&shape)?, self.words(&new)?);
        for (slot, &index) in order.iter().enumerate() {
            let word = from[shape.slot(index)].load(Ordering::Relaxed);
            to[slot].store(word, Ordering::Relaxed);
        }
        crash_point!();
        let dropped = (0..shape.len).filter(|index| !named[*index as usize]);
        let dropped: Vec<u64> = dropped
            .map(|index| from[shape.slot(index)].load(Ordering::Relaxed))
            .collect();
        self.replace_table(&shape, new)?;
        for word in dropped {
            self.retire(word)?;
        }
        Ok(())
    }
}

/// `shape`, if the list has the elements before `to`. It had them when the same call read its length: under the
/// lock, only bytes that no operation of this library wrote change that.
#[inline]
fn reaching(shape: Shape, to: u64) -> Result<Shape> {
    if to > shape.len {
        return Err(Error::corrupt("a list became shorter during a call on it"));
    }
    Ok(shape)
}
