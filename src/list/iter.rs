//! Iteration while others write.

use std::collections::VecDeque;

use super::ops::List;
use crate::error::Result;

/// Elements and bytes copied under one lock; a larger element is copied by itself.
const STEP: usize = 256;
const STEP_BYTES: usize = 64 * 1024;

/// Iterator over the elements of a [`List`]; see [`List::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    list: &'a List,
    next: usize,
    ready: VecDeque<Vec<u8>>,
    over: bool,
}

impl Iter<'_> {
    /// Copies the next few elements of the list.
    fn fill(&mut self) -> Result<()> {
        let (ready, mut bytes) = (&mut self.ready, 0);
        self.list.with(|locked| {
            locked.visit(self.next, |element| {
                bytes += element.len();
                if ready.is_empty() || bytes <= STEP_BYTES {
                    ready.push_back(element.to_vec());
                }
                Ok(ready.len() < STEP && bytes < STEP_BYTES)
            })
        })?;
        self.next += self.ready.len();
        Ok(())
    }
}

impl List {
    /// The elements, in order, while others may write.
    ///
    /// Up to 256 elements, of 64 KiB together or one larger one, are copied atomically. Then the iterator
    /// continues from the next index without a lock: if other processes insert or remove elements before that
    /// index meanwhile, elements are returned twice or skipped, as in a loop over indices.
    /// [`range_vec`](Self::range_vec) copies all of them atomically. After an error the iteration ends.
    ///
    /// ```
    /// # let list = shoal::List::anonymous()?;
    /// list.extend(&[b"a", b"b"])?;
    /// let all: Vec<Vec<u8>> = list.iter().collect::<Result<_, _>>()?;
    /// assert_eq!(all, [b"a", b"b"]);
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            list: self,
            next: 0,
            ready: VecDeque::new(),
            over: false,
        }
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = Result<Vec<u8>>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && !self.over {
            if let Err(err) = self.fill() {
                self.over = true;
                return Some(Err(err));
            }
            self.over = self.ready.is_empty();
        }
        self.ready.pop_front().map(Ok)
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
