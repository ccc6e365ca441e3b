//! Changes of a list's length and order.
//!
//! | operation                 | prepares                | publishes with | retires           |
//! |---------------------------|-------------------------|----------------|-------------------|
//! | append, insert, extend    | elements, their words   | a view         |                   |
//! | remove, pop               |                         | a view         | elements          |
//! | replace a range           | elements, their words   | a view         | the old elements  |
//! | move the gap              | words in the gap        | a view         |                   |
//! | another size of the table | the table               | a view         | the old table     |
//! | sort, reverse, pick       | a table of that order   | a view         | it, and the rest  |
//!
//! Killed before the store of the view, an operation never was, and the repair takes back
//! what was prepared; killed after it, it was done, and the repair retires the rest.

use std::sync::atomic::Ordering;

use super::store::Store;
use super::view::{PER_BLOCK, View};
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;

impl Store<'_> {
    /// Replaces the elements `from .. to` by `items`, at once.
    ///
    /// # Errors
    /// `NoSpace`; the list is as it was then.
    #[inline]
    pub(super) fn splice<T: AsRef<[u8]>>(&self, from: u64, to: u64, items: &[T]) -> Result<()> {
        let count = items.len() as u64;
        let view = self.make_room(from, to, count)?;
        let words = self.words(&view)?;
        let start = if from == view.len {
            from + view.gap
        } else {
            from
        } as usize;
        for (index, item) in items.iter().enumerate() {
            match self.prepare(item.as_ref()) {
                // Nobody looks there before the view is published.
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
            self.whole_view()?;
        }
        let old = self.range(&view, from, to)?;
        self.publish(view.spliced(from, to, count));
        for word in old {
            self.retire(word)?;
        }
        self.shrink()
    }

    /// A view of the same list in which `count` words can be written without being seen:
    /// behind the last element if `from` is the end, else at the front of a gap at `from`.
    #[inline]
    fn make_room(&self, from: u64, to: u64, count: u64) -> Result<View> {
        let view = self.view()?;
        if from == view.len && view.tail() >= count {
            return Ok(view);
        }
        let inside = from <= view.gap_at && view.gap_at <= to;
        if count == 0 && (inside || to == view.len) {
            return Ok(view);
        }
        self.rearrange_room(from, to, count)
    }

    #[cold]
    fn rearrange_room(&self, from: u64, to: u64, count: u64) -> Result<View> {
        let view = self.whole_view()?;
        if count == 0 {
            let near = if view.gap_at < from { from } else { to };
            return self.move_gap(view, near);
        }
        if from == view.len {
            // Closing the gap pays only if it lasts for as long as the move took.
            let enough = view.gap >= count && view.gap >= view.len / 4;
            let closed = enough.then(|| self.move_gap(view, view.len)).transpose()?;
            return match closed {
                Some(view) if view.tail() >= count => Ok(view),
                _ => self.resize(view, view.len, count),
            };
        }
        if view.gap >= count {
            return self.move_gap(view, from);
        }
        if view.capacity() - view.len < count {
            return self.resize(view, from, count);
        }
        // The gap and the tail together are enough: the tail becomes the gap.
        let mut view = self.move_gap(view, view.len)?;
        (view.gap_at, view.gap) = (view.len, view.tail());
        self.move_gap_raw(view, from)
    }

    /// Moves the gap to before element `to`. Nothing that anybody sees changes.
    fn move_gap(&self, view: View, to: u64) -> Result<View> {
        self.move_gap_raw(view, to).map(View::normal)
    }

    fn move_gap_raw(&self, mut view: View, to: u64) -> Result<View> {
        let words = self.words(&view)?;
        let copy = |from: u64, to: u64, count: u64| {
            for index in 0..count {
                let word = words[(from + index) as usize].load(Ordering::Relaxed);
                words[(to + index) as usize].store(word, Ordering::Relaxed);
            }
        };
        while view.gap > 0 && view.gap_at != to {
            // As many at a time as fit the gap: until it is published nobody looks there.
            if to < view.gap_at {
                let count = view.gap.min(view.gap_at - to);
                let from = view.gap_at - count;
                copy(from, from + view.gap, count);
                view.gap_at = from;
            } else {
                let count = view.gap.min(to - view.gap_at);
                copy(view.gap_at + view.gap, view.gap_at, count);
                view.gap_at += count;
            }
            crash_point!();
            self.publish(view);
        }
        view.gap_at = to;
        Ok(view)
    }

    /// Another table, with half as much again as is needed for `count` more, and room for
    /// them before element `at`.
    #[cold]
    fn resize(&self, view: View, at: u64, count: u64) -> Result<View> {
        let needed = view.len.saturating_add(count);
        let mut new = self.new_table(needed.saturating_add(needed / 2))?;
        new.len = view.len;
        if at < view.len {
            (new.gap_at, new.gap) = (at, count + (new.capacity() - needed) / 2);
        }
        self.copy_table(&view, &new)?;
        self.replace_table(&view, new)?;
        Ok(new)
    }

    fn copy_table(&self, view: &View, new: &View) -> Result<()> {
        let (from, to) = (self.words(view)?, self.words(new)?);
        for index in 0..view.len {
            let word = from[view.slot(index)].load(Ordering::Relaxed);
            to[new.slot(index)].store(word, Ordering::Relaxed);
        }
        crash_point!();
        Ok(())
    }

    /// Lets a table that has become far too large go. Not having the memory for a smaller one
    /// is no reason to fail what brought us here.
    #[inline]
    fn shrink(&self) -> Result<()> {
        let view = self.view()?;
        if view.capacity() <= PER_BLOCK || view.len > view.capacity() / 8 {
            return Ok(());
        }
        self.shrink_now()
    }

    #[cold]
    fn shrink_now(&self) -> Result<()> {
        let view = self.whole_view()?;
        match self.new_table(view.len * 2) {
            Ok(mut new) => {
                new.len = view.len;
                self.copy_table(&view, &new)?;
                self.replace_table(&view, new)
            }
            Err(Error::NoSpace { .. }) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Makes the list the elements that `order` names, in that order, at once; it names each
    /// at most once. The others are removed.
    ///
    /// # Errors
    /// `Invalid` for an order that does not fit; `NoSpace`; the list is as it was then.
    pub(super) fn rearrange(&self, order: &[u64]) -> Result<()> {
        let view = self.whole_view()?;
        let mut named = vec![false; view.len as usize];
        for &index in order {
            match named.get_mut(index as usize) {
                Some(named) if !*named => *named = true,
                _ => {
                    let why = format!("{index} is named twice or is no index of the list");
                    return Err(Error::invalid("order", why));
                }
            }
        }
        if view.len == 0 {
            return Ok(());
        }
        let len = order.len() as u64;
        let mut new = self.new_table(len + len / 8)?;
        new.len = len;
        let (from, to) = (self.words(&view)?, self.words(&new)?);
        for (slot, &index) in order.iter().enumerate() {
            let word = from[view.slot(index)].load(Ordering::Relaxed);
            to[slot].store(word, Ordering::Relaxed);
        }
        crash_point!();
        let dropped = (0..view.len).filter(|index| !named[*index as usize]);
        let dropped: Vec<u64> = dropped
            .map(|index| from[view.slot(index)].load(Ordering::Relaxed))
            .collect();
        self.replace_table(&view, new)?;
        for word in dropped {
            self.retire(word)?;
        }
        Ok(())
    }
}
